//! `remind`: a line under "left for you" in the report.

use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts a line under "left for you" in the report: something only a person can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remind {
    /// The line.
    pub text: String,
}

impl Perform for Remind {
    fn describe(&self) -> String {
        "remind".to_owned()
    }

    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Ok(Probe { difference: Difference::None, summary: format!("would remind: {}", self.text), ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        cx.progress.remind(&self.text);
        Ok(Applied::ok(format!("left for you: {}", self.text)))
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use crate::events::Outcome;
    use crate::platform::testing::Bench;
    use serde_json::json;

    #[test]
    fn the_text_is_left_for_the_operator() {
        let bench = Bench::of(json!({"remind": {"text": "check the COM ports"}}));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok);
        assert_eq!(*bench.told.reminders.lock().unwrap(), ["check the COM ports"]);
    }
}
