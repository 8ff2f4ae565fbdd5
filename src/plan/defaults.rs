//! What a step has unless the playbook says otherwise.

use crate::actions::Action;
use crate::playbook::RunAs;
use crate::units::Span;
use std::time::Duration;

/// How long one attempt of an action may take, in minutes, unless the step says `timeout:`.
pub const TIMEOUTS: [(&str, u64); 26] = [
    ("ask", 60),
    ("backup", 60),
    ("check", 2),
    ("clone", 30),
    ("command", 10),
    ("copy", 30),
    ("file", 2),
    ("git", 10),
    ("hotfix", 15),
    ("link", 2),
    ("migrate", 10),
    ("mysql", 240),
    ("notify", 2),
    ("os_patch", 480),
    ("package", 30),
    ("process", 5),
    ("reboot", 30),
    ("remind", 1),
    ("remove", 10),
    ("restore", 60),
    ("retention", 120),
    ("service", 5),
    ("snapshot", 5),
    ("sync", 30),
    ("task", 2),
    ("vhd", 10),
];

/// The time one attempt of an action may take; longer than the table says when the action waits longer by itself.
pub fn default_timeout(action: &Action) -> Span {
    let minutes = TIMEOUTS.iter().find(|(name, _)| *name == action.name()).map_or(10, |(_, minutes)| *minutes);
    let waits = match action {
        Action::Check(check) => check.within,
        Action::Process(process) => process.wait,
        Action::Service(service) => service.wait,
        Action::Reboot(reboot) => reboot.warn,
        _ => None,
    };
    let table = Duration::from_secs(minutes * 60);
    // What comes after the wait (looking once more, ending programs, starting again) takes its own time.
    let waiting = waits.map_or(Duration::ZERO, |Span(wait)| wait.saturating_add(Duration::from_secs(60)));
    Span(table.max(waiting))
}

/// Who runs a step: external programs and git trees belong to the instrument's session, all else to the agent.
pub fn default_run_as(action: &Action) -> RunAs {
    match action {
        Action::Clone(_) | Action::Command(_) | Action::Git(_) | Action::Migrate(_) => RunAs::Instrument,
        _ => RunAs::Admin,
    }
}
