//! `ask`: the operator's word before going on.

use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::error::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks the operator a yes-or-no question; `--yes` answers it with yes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The question.
    pub question: String,
}

impl Perform for Ask {
    fn describe(&self) -> String {
        format!("ask: {}", self.question)
    }

    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Ok(Probe { difference: Difference::Unknown, summary: format!("would ask: {}", self.question), ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        if cx.operator.ask(&self.question, cx.deadline)? {
            return Ok(Applied::ok("the operator said yes"));
        }
        Err(Error::new(ErrorKind::Refused, format!("the operator said no to: {}", self.question))
            .next("do what the question is about, and run it again"))
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::events::Outcome;
    use crate::platform::testing::Bench;
    use serde_json::json;

    #[test]
    fn only_a_yes_goes_on() {
        let mut bench = Bench::of(json!({"ask": {"question": "Is the beam off?"}}));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok);
        bench.answer = false;
        let error = bench.apply().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("Is the beam off?"), "{error}");
    }
}
