//! No secret in an event that is kept or shown.

use super::Event;
use crate::error::{Error, Result};
use crate::secrets::Secrets;
use serde_json::Value;

impl Event {
    /// The event with every secret in its texts replaced.
    ///
    /// # Errors
    /// Never in practice; the writer of the format has an error type.
    pub fn redacted(self, secrets: &Secrets) -> Result<Self> {
        if secrets.names().next().is_none() {
            return Ok(self);
        }
        let bad = |e| Error::internal("cannot redact an event").because(e);
        let mut value = serde_json::to_value(&self).map_err(bad)?;
        redact_value(&mut value, secrets, FIXED);
        serde_json::from_value(value).map_err(bad)
    }
}

/// `fixed` are the names in this object whose values are words of the format itself: they stay, whatever a secret is.
fn redact_value(value: &mut Value, secrets: &Secrets, fixed: &[&str]) {
    match value {
        Value::String(text) => *text = secrets.redact(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact_value(item, secrets, &[])),
        Value::Object(members) => {
            for (key, member) in members {
                if !fixed.contains(&key.as_str()) {
                    redact_value(member, secrets, fixed_in(key, fixed));
                }
            }
        }
        _ => {}
    }
}

/// The words of the format at the top of an event.
const FIXED: &[&str] = &["event", "at", "run", "instrument", "phase", "outcome", "unit"];

/// Those in the object that stands under `key`, which is only of the format when `around` is.
fn fixed_in(key: &str, around: &[&str]) -> &'static [&'static str] {
    match key {
        _ if around.is_empty() => &[],
        "step" => &["phase"],
        "error" => &["kind"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::events::{EVENT_VERSION, EventKind, RunId};
    use std::collections::BTreeMap;

    #[test]
    fn no_secret_stays_in_any_text() -> Result<()> {
        let mut secrets = Secrets::default();
        secrets.insert("mysql_root", r#"pa"ss\w"#.to_owned().into());
        secrets.insert("unlucky", "step_failed".to_owned().into());
        let event = Event {
            v: EVENT_VERSION,
            run: RunId("r".into()),
            instrument: Some("NDXLOQ".into()),
            n: 3,
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: EventKind::InstrumentFinished {
                outcome: crate::events::Outcome::Failed,
                versions: BTreeMap::new(),
                outage_ms: 0,
                longest: Vec::new(),
                ms: 1,
                error: Some(
                    Error::new(ErrorKind::StepFailed, r#"mysql -ppa"ss\w said no"#).with_output(vec![r#"-> pa"ss\w"#.into()]),
                ),
            },
        };
        let text = serde_json::to_string(&event.redacted(&secrets)?).unwrap();
        assert!(text.contains("mysql -p*** said no") && text.contains("-> ***"), "{text}");
        Ok(())
    }
}
