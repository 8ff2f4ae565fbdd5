//! Host keys, for people who compare them.

use super::{Column, Screen, Table};
use crate::error::Error;
use serde::Serialize;
use std::fmt::Write;

/// The host key of one instrument.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TrustRow {
    pub instrument: String,
    /// As files of known hosts name it.
    pub server: String,
    /// For example `ssh-ed25519`.
    pub kind: String,
    pub fingerprint: String,
    /// `known`, `new`, `recorded now`, `CHANGED` or `REVOKED`; `no host keys` where it is not reached over SSH.
    pub state: &'static str,
    /// What is recorded instead, or where this key is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Where keys are recorded.
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

impl TrustRow {
    /// True when no host key keeps us from logging on now.
    pub fn is_well(&self) -> bool {
        matches!(self.state, "known" | "recorded now") || self.has_no_keys()
    }

    fn has_no_keys(&self) -> bool {
        self.state == "no host keys"
    }
}

/// The keys as a table, then what is wrong.
pub fn trust(rows: &[TrustRow], screen: Screen) -> String {
    let columns = ["INSTRUMENT", "SERVER", "KIND", "FINGERPRINT", "STATE"].map(Column::new);
    let mut table = Table::new(columns.into());
    for row in rows.iter().filter(|row| row.error.is_none() && !row.has_no_keys()) {
        table.row([row.instrument.clone(), row.server.clone(), row.kind.clone(), row.fingerprint.clone(), row.state.to_owned()]);
    }
    let mut text = if table.is_empty() { String::new() } else { table.render(screen) };
    let passed: Vec<&str> = rows.iter().filter(|row| row.has_no_keys()).map(|row| row.instrument.as_str()).collect();
    if !passed.is_empty() {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "passed over, as only SSH has host keys: {}", passed.join(", "));
    }
    let wrong = rows.iter().filter_map(|row| Some((row.instrument.as_str(), row.error.as_ref()?)));
    text.push_str(&super::error::each_once(wrong, screen));
    for row in rows {
        // Writing into a string cannot fail.
        let _ = match (row.state, &row.known) {
            ("CHANGED", Some(known)) => writeln!(
                text,
                "{}: {} recorded is {known}. Somebody may be between this machine and it, or it was set up anew: compare the \
                 fingerprint on its own screen, then give --replace",
                row.instrument,
                screen.red("the host key has changed:")
            ),
            ("REVOKED", Some(place)) => {
                writeln!(text, "{}: {} {place}", row.instrument, screen.red("the host key is revoked:"))
            }
            _ => Ok(()),
        };
    }
    text
}
