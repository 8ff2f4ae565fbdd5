//! What `check` found: a row for each instrument, then what is wrong.

use super::text::{clean, count, size};
use super::{Column, Screen, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Target, TransportSpec};
use crate::protocol::{AgentHello, DryRunStep, StatusReport};
use serde::Serialize;
use std::fmt::Write;

/// What an instrument answered.
#[derive(Debug)]
pub struct Found {
    pub agent: AgentHello,
    pub status: StatusReport,
    /// The steps of the playbook, as they were found.
    pub steps: Vec<DryRunStep>,
}

/// One instrument.
#[derive(Debug, Serialize)]
pub struct CheckRow {
    pub instrument: String,
    pub host: String,
    /// `local`, `ssh`, ...
    pub by: String,
    /// Something answers there; nothing where it was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    /// The host key is the known one; nothing where there is none, or it was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key: Option<bool>,
    /// The account is let in; nothing where it did not come to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logon: Option<bool>,
    /// The agent's build, when it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusReport>,
    /// The steps of the playbook `check`.
    pub steps: Vec<DryRunStep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

impl CheckRow {
    pub fn new(target: &Target, answer: Result<Found>) -> Self {
        let by = target.transport.name().to_owned();
        // Over WinRM a certificate says who it is, where there is one.
        let has_keys = match &target.transport {
            TransportSpec::Local { .. } | TransportSpec::ThisMachine => false,
            TransportSpec::Ssh(_) => true,
            TransportSpec::Winrm(spec) => spec.https,
        };
        let logs_on = !matches!(target.transport, TransportSpec::Local { .. } | TransportSpec::ThisMachine);
        let kind = answer.as_ref().err().map(Error::kind);
        // How far it came shows in the kind of the error.
        let (reached, host_key, logon) = match kind {
            Some(ErrorKind::HostKey | ErrorKind::WrongHostKey) => (Some(true), Some(false), None),
            Some(ErrorKind::Logon) => (Some(true), Some(true), Some(false)),
            Some(ErrorKind::Unreachable) => (Some(false), None, None),
            // Something is missing on this side.
            Some(ErrorKind::BadInput | ErrorKind::Usage) => (None, None, None),
            _ => (Some(true), Some(true), Some(true)),
        };
        let mut row = Self {
            instrument: target.plan.instrument.clone(),
            host: target.plan.host.clone(),
            by,
            reached,
            host_key: host_key.filter(|_| has_keys),
            logon: logon.filter(|_| logs_on),
            agent: None,
            status: None,
            steps: Vec::new(),
            error: None,
        };
        match answer {
            Ok(found) => {
                row.agent = Some(found.agent.build);
                row.status = Some(found.status);
                row.steps = found.steps;
            }
            Err(error) => row.error = Some(error),
        }
        row
    }

    /// True when nothing stands in the way of a release.
    pub fn is_well(&self) -> bool {
        self.error.is_none() && self.failing().next().is_none()
    }

    fn failing(&self) -> impl Iterator<Item = &DryRunStep> {
        self.steps.iter().filter(|step| step.error.is_some())
    }
}

/// The rows as a table, then what is wrong.
pub fn check(rows: &[CheckRow], screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("INSTRUMENT"),
        Column::new("REACHED"),
        Column::new("HOST KEY"),
        Column::new("LOGON"),
        Column::new("AGENT"),
        Column::new("LOGGED ON").cut().spare(2),
        Column::new("FREE").cut().spare(1),
        Column::new("MEMORY").right().spare(3),
        Column::new("VERSIONS").cut(),
        Column::new("LOCK").cut(),
        Column::new("REBOOT").cut(),
        Column::new("CHECKS"),
    ]);
    for row in rows {
        table.row(cells(row));
    }
    let mut text = table.render(screen);
    let wrong = super::error::each_once(wrong(rows), screen);
    if !wrong.is_empty() {
        text.push('\n');
        text.push_str(&wrong);
    }
    let well = rows.iter().filter(|row| row.is_well()).count();
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{} looked at, {well} well. Nothing was changed.", count(rows.len(), "instrument"));
    text
}

/// What is wrong, and on which instrument.
fn wrong(rows: &[CheckRow]) -> impl Iterator<Item = (&str, &Error)> {
    rows.iter().flat_map(|row| {
        let errors = row.error.iter().chain(row.failing().filter_map(|step| step.error.as_ref()));
        errors.map(|error| (row.instrument.as_str(), error))
    })
}

fn cells(row: &CheckRow) -> [String; 12] {
    let word = |state: Option<bool>, good: &str, bad: &str| match state {
        Some(true) => good.to_owned(),
        Some(false) => bad.to_owned(),
        None => String::new(),
    };
    let agent = match (&row.agent, &row.error) {
        (Some(build), _) => build.clone(),
        (None, Some(_)) if row.reached == Some(true) && row.host_key != Some(false) && row.logon != Some(false) => {
            "NO".to_owned()
        }
        _ => String::new(),
    };
    let wrong = row.error.as_ref().is_some_and(|e| e.kind() == ErrorKind::WrongHostKey);
    let mut cells = [
        row.instrument.clone(),
        word(row.reached, "yes", "NO"),
        word(row.host_key, "known", if wrong { "WRONG" } else { "NOT KNOWN" }),
        word(row.logon, "ok", "REFUSED"),
        agent,
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
    ];
    let Some(status) = &row.status else { return cells };
    let free = status.free.iter().map(|(drive, bytes)| format!("{drive} {}", size(*bytes)));
    let versions = status.versions.iter().map(|(place, version)| format!("{place} {version}"));
    let failing = row.failing().count();
    cells[5] = status.logged_on.join(", ");
    cells[6] = free.collect::<Vec<_>>().join(", ");
    cells[7] = size(status.memory);
    cells[8] = versions.collect::<Vec<_>>().join(", ");
    cells[9] = status.lock.as_ref().map(|lock| format!("{} {}", lock.owner, lock.run)).unwrap_or_default();
    cells[10] = status.pending_reboot.as_deref().map(|why| clean(why).into_owned()).unwrap_or_default();
    cells[11] = if failing == 0 { "ok".to_owned() } else { format!("{failing} FAILED") };
    cells
}
