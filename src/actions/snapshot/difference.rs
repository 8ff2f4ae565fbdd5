//! What differs between two snapshots, and how people are told.

use super::{UNREADABLE, Values};
use crate::error::Error;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Parts of one value that are told before it is said how many more differ.
const PARTS: usize = 8;
/// Characters of a value that are shown.
const SHOWN: usize = 80;

/// What differs, by name: the value before and after. What only one of the two looked at is left out.
pub(super) fn differences(before: &Values, after: &Values, tolerance: f64) -> BTreeMap<String, (String, String)> {
    let both = after.iter().filter_map(|(name, now)| Some((name, before.get(name)?, now)));
    both.filter(|(_, then, now)| !alike(then, now, tolerance))
        .map(|(name, then, now)| (name.clone(), (then.clone(), now.clone())))
        .collect()
}

fn alike(then: &str, now: &str, tolerance: f64) -> bool {
    if then == now || (then.starts_with(UNREADABLE) && now.starts_with(UNREADABLE)) {
        return true;
    }
    match (then.trim().parse::<f64>(), now.trim().parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()),
        // JSON that is written in another way is the same.
        _ => matches!((structured(then), structured(now)), (Some(a), Some(b)) if a == b),
    }
}

/// A value that is a JSON array or object.
fn structured(text: &str) -> Option<Value> {
    serde_json::from_str::<Value>(text).ok().filter(|value| value.is_array() || value.is_object())
}

/// The error of a snapshot that should be the same, with the lines that are not; at most so many of each value.
pub(super) fn not_the_same(name: &str, found: &BTreeMap<String, (String, String)>, most: usize) -> Error {
    let lines = found.iter().flat_map(|(name, (then, now))| {
        let (then, now): (BTreeSet<&str>, BTreeSet<&str>) = (then.lines().collect(), now.lines().collect());
        let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>, sign: &str| -> Vec<String> {
            a.difference(b).take(most).map(|line| format!("{sign} {name}: {line}")).collect()
        };
        [only(&then, &now, "-"), only(&now, &then, "+")].concat()
    });
    let lines = lines.collect();
    let what: Vec<&str> = found.keys().map(String::as_str).collect();
    Error::step_failed(format!("`{name}` is not the same as before: {}", what.join(", ")))
        .with_output(lines)
        .next("see which program changed it; what is compared is written in the step")
}

/// A difference in one line: of JSON what is new, gone or changed in it; of longer texts the lines that only one has.
pub(super) fn told(name: &str, before: &str, after: &str) -> String {
    if let (Some(then), Some(now)) = (structured(before), structured(after)) {
        let mut parts = Vec::new();
        compare("", &then, &now, &mut parts);
        let more = parts.len().saturating_sub(PARTS);
        parts.truncate(PARTS);
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        return format!("{name}: {}", parts.join("; "));
    }
    if before.lines().count() <= 1 && after.lines().count() <= 1 {
        return format!("{name}: {} before, {} now", shown(before), shown(after));
    }
    let only = |a: &str, b: &str| {
        let there: BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|l| !there.contains(l)).count()
    };
    format!("{name}: {} lines gone, {} lines new", only(before, after), only(after, before))
}

fn shown(text: &str) -> String {
    let text = text.trim_end();
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// Collects what differs between two JSON values, each with where it stands.
fn compare(at: &str, then: &Value, now: &Value, parts: &mut Vec<String>) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (then, now) {
        (then, now) if then == now => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                match (a.get(key), b.get(key)) {
                    (Some(then), Some(now)) => compare(&below(key), then, now, parts),
                    (Some(then), None) => parts.push(format!("{} is gone (it was {})", below(key), word(then))),
                    (None, Some(now)) => parts.push(format!("{} is new: {}", below(key), word(now))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => compare_lists(at, a, b, parts),
        (then, now) => parts.push(format!("{}{} before, {} now", place(at), word(then), word(now))),
    }
}

/// Items are known by their `name`, or by what they are.
fn compare_lists(at: &str, then: &[Value], now: &[Value], parts: &mut Vec<String>) {
    let key = |value: &Value| value.get("name").map_or_else(|| word(value), word);
    let (a, b): (Vec<String>, Vec<String>) = (then.iter().map(key).collect(), now.iter().map(key).collect());
    let only =
        |these: &[String], those: &[String]| these.iter().filter(|k| !those.contains(k)).cloned().collect::<Vec<_>>().join(", ");
    let begun = parts.len();
    for (what, names) in [("gone", only(&a, &b)), ("new", only(&b, &a))] {
        if !names.is_empty() {
            parts.push(format!("{}{what}: {names}", place(at)));
        }
    }
    for (name, then) in a.iter().zip(then) {
        if let Some(now) = b.iter().position(|k| k == name).and_then(|n| now.get(n)) {
            compare(&if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, then, now, parts);
        }
    }
    if parts.len() == begun {
        parts.push(format!("{}the same in another order or number", place(at)));
    }
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!("{at}: ") }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_what_is_new_gone_and_changed() {
        for (then, now, wanted) in [
            (r#"["A","B"]"#, r#"["B","C"]"#, "X: gone: A; new: C"),
            (r#"["A","B"]"#, r#"["B","A"]"#, "X: the same in another order or number"),
            (
                r#"[{"name":"G","blocks":["T1"]},{"name":"H","blocks":[]}]"#,
                r#"[{"name":"G","blocks":["T1","T2"]}]"#,
                "X: gone: H; G.blocks: new: T2",
            ),
            (
                r#"{"status":"OK","n":1}"#,
                r#"{"status":"BAD","m":2}"#,
                "X: m is new: 2; n is gone (it was 1); status: OK before, BAD now",
            ),
        ] {
            assert_eq!(told("X", then, now), wanted);
        }
    }

    #[test]
    fn values_are_compared_as_what_they_are() {
        assert!(alike("1.0001", "1.0002", 0.001));
        assert!(!alike("1.0001", "1.0002", 0.0));
        assert!(!alike("1", "-1", 0.001));
        assert!(alike(r#"{"a": 1}"#, r#"{"a":1}"#, 0.0));
        assert!(alike("(cannot be read: a)", "(cannot be read: b)", 0.0));
        assert!(!alike("1", "(not there)", 0.0));
        let long = "x".repeat(200);
        assert!(told("N", &long, "y").len() < 120);
    }
}
