//! Filling in the templates of a step with what is known when the plan is made.

use crate::error::{Error, Result, SourcePosition};
use crate::template::{self, Context, Fault};
use serde_json::Value;
use std::collections::BTreeSet;

/// Finds the place of a byte of a text value: pointer, text, offset.
pub(super) type Locate<'a> = dyn Fn(&str, &str, usize) -> SourcePosition + 'a;

/// Fills in templates of one step.
pub(super) struct Renderer<'a> {
    pub(super) context: &'a Context,
    /// Names that only the instrument will have.
    pub(super) late: &'a BTreeSet<String>,
    pub(super) locate: &'a Locate<'a>,
}

impl Renderer<'_> {
    /// The value with its strings filled in; the pointers of those that stay templates go to `kept`.
    pub(super) fn value(&self, value: &Value, pointer: &str, kept: &mut Vec<String>) -> Result<Value> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(text, pointer, kept)?),
            Value::Array(items) => {
                let items = items.iter().enumerate().map(|(n, item)| self.value(item, &format!("{pointer}/{n}"), kept));
                Value::Array(items.collect::<Result<_>>()?)
            }
            Value::Object(map) => {
                let entries = map.iter().map(|(key, inner)| {
                    let inner = self.value(inner, &format!("{pointer}/{}", crate::yaml::pointer_part(key)), kept)?;
                    Ok((key.clone(), inner))
                });
                Value::Object(entries.collect::<Result<_>>()?)
            }
            plain => plain.clone(),
        })
    }

    /// A text filled in, or as it is when it needs a name that only the instrument has.
    pub(super) fn text(&self, text: &str, pointer: &str, kept: &mut Vec<String>) -> Result<String> {
        let fault = |fault| self.error(pointer, text, fault);
        let names = template::try_names(text, false).map_err(fault)?;
        self.expect_kit(&names, pointer, text)?;
        if names.is_disjoint(self.late) {
            return template::try_render(text, self.context).map_err(fault);
        }
        self.expect_known(&template::try_names(text, true).map_err(fault)?, pointer, text)?;
        kept.push(pointer.to_owned());
        Ok(text.to_owned())
    }

    /// What an expression comes to, or nothing when it needs a name that only the instrument has.
    pub(super) fn decide(&self, expression: &str, pointer: &str) -> Result<Option<bool>> {
        let fault = |fault| self.error(pointer, expression, fault);
        let names = template::try_expression_names(expression, false).map_err(fault)?;
        self.expect_kit(&names, pointer, expression)?;
        if names.is_disjoint(self.late) {
            return template::try_evaluate(expression, self.context).map(Some).map_err(fault);
        }
        self.expect_known(&template::try_expression_names(expression, true).map_err(fault)?, pointer, expression)?;
        Ok(self.is_false_already(expression).then_some(false))
    }

    /// True when one of the parts that `and` joins is false whatever the instrument says.
    fn is_false_already(&self, expression: &str) -> bool {
        // Where parts cannot be told apart by looking for the word, nothing is decided.
        if expression.contains(['(', '"']) || expression.contains(" or ") || expression.contains(" if ") {
            return false;
        }
        let known = |part: &&str| template::expression_names(part).is_ok_and(|names| names.is_disjoint(self.late));
        let is_false = |part: &str| template::evaluate(part, self.context).is_ok_and(|holds| !holds);
        expression.split(" and ").filter(known).any(is_false)
    }

    /// The other names of a text that is filled in at the instrument must be defined all the same.
    fn expect_known(&self, names: &BTreeSet<String>, pointer: &str, text: &str) -> Result<()> {
        match template::first_missing(names, self.context, self.late) {
            None => Ok(()),
            Some((name, known)) => {
                let offset = text.find(name).unwrap_or(0);
                Err(self.error(pointer, text, Fault::not_defined(name, offset, &known)))
            }
        }
    }

    fn expect_kit(&self, names: &BTreeSet<String>, pointer: &str, text: &str) -> Result<()> {
        if !names.contains("kit") || self.context.contains_key("kit") {
            return Ok(());
        }
        let message = "this uses the kit's version or components, and the run has no kit";
        Err(Error::bad_input(message)
            .at((self.locate)(pointer, text, text.find("kit").unwrap_or(0)))
            .next("name the folder of releases with --kits DIR, and a release with --kit VERSION if it is not the newest"))
    }

    fn error(&self, pointer: &str, text: &str, fault: Fault) -> Error {
        Error::bad_input(fault.message).at((self.locate)(pointer, text, fault.offset)).next(fault.next)
    }
}
