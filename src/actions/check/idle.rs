//! `check: idle`

use super::pv::shortened;
use super::{Finding, Look, Reader};
use crate::actions::StepContext;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::ProcessInfo;
use crate::platform::facts::Systems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Nothing is being measured, so that IBEX may be stopped. It fails when the DAE's state is another one, or cannot be
/// read while the server or SECI runs, and when another control system runs than the run began with. Under SECI it
/// holds: there, nothing is stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdleCheck {
    /// The process variable with the DAE's state.
    pub pv: String,
    /// The state in which nothing is lost by stopping; `SETUP` unless said.
    #[serde(default = "setup")]
    pub is: String,
}

fn setup() -> String {
    "SETUP".to_owned()
}

/// What an operator can do about a measurement that goes on.
const WAIT: &str = "wait until the run is over, as `--when-idle` of release and os-patch does; `--even-if-measuring` of release, \
    rollback, restore and os-patch stops IBEX all the same, and what is being measured is lost";
/// What to do when the machine is no longer as the run found it.
const AGAIN: &str = "run it again, so that it begins with what runs there now";

impl Look for IdleCheck {
    fn wish(&self) -> String {
        format!("{} to be {}", self.pv, self.is)
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let systems = Systems::now(cx.platform, cx.drives, &cx.plan.places)?;
        // What later steps do (stop IBEX, leave SECI alone) was decided by this fact.
        let found_first = cx.facts.get("active_system").and_then(Value::as_str);
        Ok(match (&systems.server, &systems.seci) {
            (None, None) => Finding::holds("IBEX is not running"),
            (None, Some(seci)) if found_first.is_none_or(|system| system == "seci") => {
                Finding::holds(format!("SECI is running ({}), and is left alone", named(seci)))
            }
            (None, Some(seci)) => refuse(format!("SECI ({}) has been started since this run looked first", named(seci)), AGAIN),
            (Some(server), _) if matches!(found_first, Some("seci" | "none")) => {
                refuse(format!("IBEX ({}) has been started since this run looked first", named(server)), AGAIN)
            }
            // In mini mode the site's script leaves SECI alone.
            (Some(_), Some(seci)) if !systems.mini => refuse(
                format!("SECI ({}) runs beside IBEX, and would be ended with it", named(seci)),
                "ask the instrument's scientists which of the two is in use, and close the other one",
            ),
            (Some(server), _) => self.read(cx, server)?,
        })
    }
}

impl IdleCheck {
    /// Judges the DAE's state while the server runs.
    fn read(&self, cx: &StepContext<'_>, server: &ProcessInfo) -> Result<Finding> {
        let mut read = Reader::new(cx)?.read(std::slice::from_ref(&self.pv))?;
        let unknown = |why: &str| {
            let message = format!("what the DAE is doing is unknown: {} cannot be read: {}", self.pv, cx.secrets.redact(why));
            let because = format!("the server runs: {}", named(server));
            Finding::Fails(
                Error::new(ErrorKind::Refused, message).because(because).next(format!("look at the instrument; {WAIT}")),
            )
        };
        Ok(match read.remove(&self.pv) {
            Some(Ok(state)) if state.trim() == self.is => {
                Finding::Holds(format!("{} is {}", self.pv, self.is), Value::from(state.trim()))
            }
            Some(Ok(state)) => {
                let state = shortened(state.trim());
                refuse(format!("the instrument is measuring: {} is {state}, and {} is wanted", self.pv, self.is), WAIT)
            }
            Some(Err(why)) => unknown(&why),
            None => unknown("caget did not name it"),
        })
    }
}

fn named(program: &ProcessInfo) -> String {
    format!("{}, pid {}", program.name, program.pid)
}

fn refuse(message: String, next: &str) -> Finding {
    Finding::Fails(Error::new(ErrorKind::Refused, message).next(next))
}
