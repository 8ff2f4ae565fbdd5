//! What the arguments of each action must fulfil beyond their types.

use super::check::{Spot, advice};
use crate::actions::Action;
use crate::actions::backup::Backup;
use crate::actions::check::Check;
use crate::actions::command::Command;
use crate::actions::file::File;
use crate::actions::git::Git;
use crate::actions::git::clone::Clone;
use crate::actions::hotfix::Hotfix;
use crate::actions::notify::Notify;
use crate::actions::os_patch::OsPatch;
use crate::actions::package::Package;
use crate::actions::sync::Sync;
use crate::actions::task::{self, Task};
use crate::actions::vhd::{Vhd, VhdState};
use crate::error::Error;
use crate::paths::{PathPatterns, Place, RelPath};
use crate::template::is_template;
use crate::units::Count;

/// Checks the arguments of an action that stands at `below` in the step.
pub(super) fn check_action(action: &Action, below: &str, spot: &Spot<'_>, errors: &mut Vec<Error>) {
    let at = format!("{below}/{}", action.name());
    let mut args = Arguments { at, spot, errors };
    match action {
        Action::Backup(backup) => args.backup(backup),
        Action::Check(check) => args.check(check),
        Action::Clone(clone) => args.clone(clone),
        Action::Command(command) => args.command(command),
        Action::File(file) => args.file(file),
        Action::Git(git) => args.git(git),
        Action::Hotfix(hotfix) => args.hotfix(hotfix),
        Action::Notify(notify) => args.notify(notify),
        Action::OsPatch(os_patch) => args.os_patch(os_patch),
        Action::Package(package) => args.package(package),
        Action::Process(process) if process.under.is_empty() && process.named.is_empty() => {
            args.wrong("", "`process` names no programs", "say `under: [place]`, or `named: [program.exe]`");
        }
        Action::Remove(remove) if remove.paths.is_empty() => {
            args.wrong("/paths", "`remove` has nothing to remove", "name files or folders under `paths`");
        }
        Action::Retention(retention) if retention.keep == 0 => {
            args.wrong("/keep", "`keep: 0` would leave no backup", "write 1 or more: the last good one always stays");
        }
        Action::Snapshot(s) if s.pvs.is_empty() && s.listed.is_none() && s.files.is_empty() && s.services.is_empty() => {
            args.wrong("", "`snapshot` keeps nothing", "name `pvs`, `listed`, `files` or `services`");
        }
        Action::Snapshot(s) => args.patterns("except", &s.except),
        Action::Sync(sync) => args.sync(sync),
        Action::Task(task) => args.task(task),
        Action::Vhd(vhd) => args.vhd(vhd),
        _ => {}
    }
}

struct Arguments<'a, 'b> {
    /// The action's pointer below the step.
    at: String,
    spot: &'a Spot<'a>,
    errors: &'b mut Vec<Error>,
}

impl Arguments<'_, '_> {
    fn wrong(&mut self, below: &str, message: impl Into<String>, next: impl Into<String>) {
        self.errors.push(self.spot.error(&format!("{}{below}", self.at), message, next));
    }

    /// One key, and only one, of those that exclude each other. The keys given are those that are set.
    fn exactly_one(&mut self, what: &str, set: &[(&str, bool)]) {
        let given: Vec<String> = set.iter().filter(|(_, is)| *is).map(|(key, _)| format!("`{key}`")).collect();
        let all: Vec<&str> = set.iter().map(|(key, _)| *key).collect();
        let next = format!("it takes exactly one of: {}", all.join(", "));
        match given.len() {
            1 => {}
            0 => self.wrong("", format!("{what} does not say what"), next),
            _ => {
                let second = set.iter().filter(|(_, is)| *is).nth(1).map_or("", |(key, _)| key);
                self.wrong(&format!("/{second}"), format!("{what} has {}", given.join(" and ")), next);
            }
        }
    }

    fn patterns(&mut self, key: &str, patterns: &[String]) {
        for (n, pattern) in patterns.iter().enumerate().filter(|(_, p)| !is_template(p)) {
            if let Err(error) = PathPatterns::new(&[pattern]) {
                let at = self.spot.file.position(&format!("{}{}/{key}/{n}", self.spot.pointer, self.at));
                let next = "`*` and `?` stand for parts of a name, `**` for folders, `[ab]` for one letter of several";
                self.errors.push(error.at(at).next(next));
            }
        }
    }

    fn backup(&mut self, backup: &Backup) {
        let of: Vec<String> = backup.of.iter().map(|p| p.as_str().to_owned()).collect();
        if of.is_empty() {
            self.wrong("/of", "`backup` has nothing to back up", "name places under `of`");
        }
        self.patterns("exclude", &backup.exclude);
        for (key, map) in [("exclude_in", &backup.exclude_in), ("must_hold", &backup.must_hold)] {
            for (place, list) in map {
                let below = format!("{key}/{}", crate::yaml::pointer_part(place));
                if !of.contains(place) {
                    let message = format!("`{key}` names `{place}`, which this step does not back up");
                    self.wrong(&format!("/{below}"), message, advice(place, &of));
                }
                self.patterns(&below, list);
            }
        }
    }

    fn check(&mut self, check: &Check) {
        self.exactly_one(
            "`check`",
            &[
                ("disk", check.disk.is_some()),
                ("memory", check.memory.is_some()),
                ("version", check.version.is_some()),
                ("service", check.service.is_some()),
                ("process", check.process.is_some()),
                ("session", check.session.is_some()),
                ("system", check.system.is_some()),
                ("port", check.port.is_some()),
                ("file", check.file.is_some()),
                ("output", check.output.is_some()),
                ("pv", check.pv.is_some()),
                ("git", check.git.is_some()),
                ("idle", check.idle.is_some()),
            ],
        );
        if check.process.as_ref().is_some_and(|p| p.under.is_empty() && p.named.is_empty()) {
            self.wrong("/process", "the check names no programs", "say `under: [place]`, or `named: [program.exe]`");
        }
        if check.system.as_ref().is_some_and(|s| s.is.is_empty()) {
            self.wrong("/system/is", "the check names no control system", "it can be any of: ibex, mini, seci, none");
        }
        if check.file.as_ref().is_some_and(|f| f.absent && f.contains.is_some()) {
            self.wrong(
                "/file/contains",
                "a file that must be absent cannot contain anything",
                "leave `absent` or `contains` out",
            );
        }
        if check.pv.as_ref().is_some_and(|p| p.is.is_some() && p.contains.is_some()) {
            self.wrong("/pv/contains", "the check has both `is` and `contains`", "leave one of the two out");
        }
    }

    fn clone(&mut self, clone: &Clone) {
        let names = [("from", Some(&clone.from)), ("branch", clone.branch.as_ref()), ("start", clone.start.as_ref())];
        for (key, value) in names.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            // Git would take such a name for an option.
            if value.is_empty() || value.starts_with('-') {
                self.wrong(&format!("/{key}"), format!("`{key}` is no such name"), "write a name, or leave the key out");
            }
        }
    }

    fn command(&mut self, command: &Command) {
        self.exactly_one("`command`", &[("run", command.run.is_some()), ("program", command.program.is_some())]);
        if command.program.is_none() && !command.args.is_empty() {
            let next = "write the arguments into the line of `run`, or name a `program`";
            self.wrong("/args", "`args` belong to `program`", next);
        }
        let Some(gate) = &command.gate else { return };
        if self.at.starts_with("/undo") {
            let next = "leave it out: what is taken back must not wait for anything";
            self.wrong("/gate", "an undo has no `gate`", next);
        }
        let gate_at = format!("{}/gate", self.at);
        let at = std::mem::replace(&mut self.at, gate_at);
        self.check(gate);
        self.at = at;
    }

    fn file(&mut self, file: &File) {
        let parts = !file.lines.is_empty() || !file.absent_lines.is_empty() || !file.ini.is_empty();
        let whole = [("content", file.content.is_some()), ("template", file.template.is_some())];
        self.exactly_one("`file`", &[whole[0], whole[1], (first_part(file), parts)]);
    }

    fn git(&mut self, git: &Git) {
        let names = [&git.commit, &git.merge, &git.tag, &git.new_branch, &git.url];
        if names.iter().all(|name| name.is_none()) && !git.pull && !git.push {
            let next =
                "give it any of: commit, pull, merge, tag, new_branch, url, push; to look at a work tree use `check: {git: ...}`";
            self.wrong("", "`git` has nothing to do", next);
        }
        for (key, value) in [("commit", &git.commit), ("merge", &git.merge), ("tag", &git.tag), ("new_branch", &git.new_branch)] {
            // Git would take such a name for an option.
            if value.as_ref().is_some_and(|v| v.is_empty() || (key != "commit" && v.starts_with('-'))) {
                self.wrong(&format!("/{key}"), format!("`{key}` is no such name"), "write a name, or leave the key out");
            }
        }
    }

    fn hotfix(&mut self, hotfix: &Hotfix) {
        let (patch, revert, prove) = (hotfix.patch.is_some(), hotfix.revert.is_some(), hotfix.prove.is_some());
        self.exactly_one("`hotfix`", &[("patch", patch), ("revert", revert), ("prove", prove)]);
        if hotfix.discard_newer && !revert {
            let next = "leave it out: what a hotfix replaces is always kept for the way back";
            self.wrong("/discard_newer", "`discard_newer` belongs to `revert`", next);
        }
    }

    fn notify(&mut self, notify: &Notify) {
        self.exactly_one("`notify`", &[("mail", notify.mail.is_some()), ("webhook", notify.webhook.is_some())]);
        if let Some(mail) = &notify.mail {
            if mail.text.is_some() == mail.template.is_some() {
                self.wrong("/mail", "a mail has either `text` or `template`", "give it exactly one of: text, template");
            }
            if mail.to.is_empty() {
                self.wrong("/mail/to", "the mail goes to nobody", "name at least one address under `to`");
            }
        }
    }

    fn os_patch(&mut self, os_patch: &OsPatch) {
        for (key, number) in [("limit", &os_patch.limit), ("rounds", &os_patch.rounds)] {
            if let Some(Err(error)) = number.as_ref().filter(|n| !is_template(n.as_str())).map(Count::number) {
                let next = error.details().next.clone().unwrap_or_default();
                self.wrong(&format!("/{key}"), error.details().message.clone(), next);
            }
        }
    }

    fn package(&mut self, package: &Package) {
        if package.version.is_some() && package.product.is_none() {
            self.wrong("/version", "`version` is that of a `product`", "name the `product` as the system lists it");
        }
        if package.success.is_some() && package.log.is_none() {
            self.wrong("/success", "`success` is looked for in a log", "name the `log` that the installer writes");
        }
    }

    fn task(&mut self, task: &Task) {
        self.exactly_one("`task`", &[("playbook", task.playbook.is_some()), ("run", task.run.is_some())]);
        if task.playbook.is_none() && (task.report.is_some() || !task.set.is_empty()) {
            self.wrong("", "`set` and `report` belong to `playbook`", "name a `playbook`, or leave them out");
        }
        if let Some(problem) = task::name_problem(&task.name).filter(|_| !is_template(&task.name)) {
            self.wrong("/name", format!("`{}` cannot be a task's name: {problem}", task.name), "for example `switch to SECI`");
        }
        if let Some(time) = task.daily.as_ref().filter(|t| !is_template(t) && !task::is_time_of_day(t)) {
            self.wrong(
                "/daily",
                format!("`{time}` is no time of the day"),
                "write hours and minutes in quotes, for example '03:30'",
            );
        }
    }

    fn vhd(&mut self, vhd: &Vhd) {
        for (key, file) in [("file", Some(&vhd.file)), ("instead_of", vhd.instead_of.as_ref())] {
            let Some(file) = file.map(Place::as_str).filter(|file| !is_template(file)) else { continue };
            let ending = file.rsplit('.').next().unwrap_or_default();
            if !["vhd", "vhdx"].iter().any(|known| ending.eq_ignore_ascii_case(known)) {
                let next = "name the disk's own file, which ends in .vhdx or .vhd";
                self.wrong(&format!("/{key}"), format!("`{file}` is no virtual disk"), next);
            }
        }
        if vhd.host.is_none() && vhd.machine.is_some() {
            self.wrong("/machine", "`machine` belongs to `host`", "name the Hyper-V `host`, or leave it out");
        }
        if vhd.host.is_some() && vhd.at.is_some() {
            let next = "leave it out: Windows shows a volume that it knows where it showed it before";
            self.wrong("/at", "`at` is for a disk that this machine attaches itself", next);
        }
        if vhd.state == VhdState::Detached {
            for (key, _) in [("at", &vhd.at), ("instead_of", &vhd.instead_of)].iter().filter(|(_, place)| place.is_some()) {
                self.wrong(&format!("/{key}"), format!("`{key}` is for a disk that is attached"), "leave it out");
            }
        }
    }

    fn sync(&mut self, sync: &Sync) {
        for (key, list) in
            [("keep", &sync.keep), ("exclude", &sync.exclude), ("as_unit", &sync.as_unit), ("generated", &sync.generated)]
        {
            self.patterns(key, list);
        }
        let from = sync.from.as_deref().filter(|f| !is_template(f));
        if let Some(Err(error)) = from.map(RelPath::parse) {
            let next = error.details().next.clone().unwrap_or_default();
            self.wrong("/from", error.details().message.clone(), next);
        }
    }
}

/// The key under which the parts of a file are written.
fn first_part(file: &File) -> &'static str {
    if !file.ini.is_empty() {
        "ini"
    } else if !file.absent_lines.is_empty() {
        "absent_lines"
    } else {
        "lines"
    }
}
