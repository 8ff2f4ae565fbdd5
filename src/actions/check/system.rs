//! `check: system`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::facts::Systems;
use crate::platform::systems::ActiveSystem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The control system that must be active at this moment. All of IBEX and SECI running both is never right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemCheck {
    /// Any of these will do: `ibex`, `mini` (IBEX with the IOCs of `startup.txt` alone), `seci`, `none`.
    pub is: Vec<ActiveSystem>,
}

impl SystemCheck {
    fn words(&self) -> String {
        self.is.iter().map(|s| s.name()).collect::<Vec<_>>().join(" or ")
    }
}

impl Look for SystemCheck {
    fn wish(&self) -> String {
        format!("{} to be active", self.words())
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let found = Systems::now(cx.platform, cx.drives, &cx.plan.places)?;
        let refused = |what: String| Error::new(ErrorKind::Refused, what);
        if found.both() {
            let error = refused("IBEX and SECI run both, and would talk to the same devices".to_owned());
            return Ok(Finding::Fails(error.next("end the one that is not wanted, by hand, and try again")));
        }
        let active = found.active();
        if self.is.contains(&active) {
            let result = serde_json::json!(active.word());
            return Ok(Finding::Holds(format!("{} is active", active.name()), result));
        }
        let error = refused(format!("{} is active, and {} is wanted", active.name(), self.words()));
        Ok(Finding::Fails(error.next("see what `ibexdeploy status` shows; `ibexdeploy switch` changes between IBEX and SECI")))
    }
}
