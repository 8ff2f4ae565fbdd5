//! `check: session`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::actions::external::nobody_logged_on;
use crate::error::{Error, Result};
use crate::platform::is_logged_on;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An account of the inventory must be logged on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCheck {
    /// The account's name in the inventory, for example `instrument`.
    pub account: String,
}

impl Look for SessionCheck {
    fn wish(&self) -> String {
        format!("the account {} to be logged on", self.account)
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let Some(account) = cx.plan.accounts.get(&self.account) else {
            let near = crate::nearest::nearest(&self.account, cx.plan.accounts.keys().map(String::as_str));
            let hint = near.map_or_else(|| "add it under `accounts:`".to_owned(), |n| format!("did you mean `{n}`?"));
            return Err(Error::bad_input(format!("the inventory has no account `{}`", self.account)).next(hint));
        };
        let sessions = cx.platform.logged_on()?;
        if is_logged_on(&sessions, &account.user) {
            return Ok(Finding::holds(format!("{} is logged on", account.user)));
        }
        let others = if sessions.is_empty() { "nobody".to_owned() } else { sessions.join(", ") };
        Ok(Finding::Fails(nobody_logged_on(&account.user).because(format!("logged on: {others}"))))
    }
}
