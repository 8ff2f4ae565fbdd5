//! `notify`: a mail or a webhook.

use super::{Applied, Perform, Probe, StepContext};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Tells people or programs; exactly one of the two is set. It cannot be taken back, so it belongs in `close`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// A mail through an SMTP relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The relay, `host` or `host:port`.
    pub relay: String,
    /// The sender's address.
    pub from: String,
    /// The addresses it goes to.
    pub to: Vec<String>,
    /// The subject line.
    pub subject: String,
    /// The text, a template. Use `template` for a longer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A file with the text, relative to the playbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// An HTTP POST with a JSON body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where it is sent.
    pub url: String,
    /// The body, any YAML; strings in it are templates.
    pub body: serde_json::Value,
}

impl Perform for Notify {
    fn describe(&self) -> String {
        "notify".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}
