//! The names that templates in a playbook can use, and the strings that may hold templates.

use serde_json::Value;

/// Names that every instrument has when the plan is made.
pub const GIVEN_NAMES: [&str; 8] = ["groups", "host", "inst", "kit", "name", "places", "rehearsal", "run"];

/// Names that have a value only at the instrument: what it found out about itself, what the hotfix of the run asks for, and
/// the present item of `each`.
pub const LATE_NAMES: [&str; 3] = ["facts", "hotfix", "item"];

/// How the instrument ended (`ended.outcome`, `ended.error`): only for a `notify` with `if_failed`.
pub(crate) const ENDED_NAME: &str = "ended";

/// The name of the run: known when the plan is made, but filled in at the instrument, so that two plans of the same
/// sources are the same.
pub(crate) const RUN_NAME: &str = "run";

/// Visits every string of a value with its JSON pointer, in a fixed order.
pub(crate) fn each_string<'a>(value: &'a Value, pointer: &str, visit: &mut dyn FnMut(&str, &'a str)) {
    match value {
        Value::String(text) => visit(pointer, text),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                each_string(item, &format!("{pointer}/{n}"), visit);
            }
        }
        Value::Object(map) => {
            for (key, inner) in map {
                each_string(inner, &format!("{pointer}/{}", crate::yaml::pointer_part(key)), visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
