//! The names of process variables: ranges in them, and lists of them.

use crate::error::{Error, Result};
use serde_json::Value;

/// Names that one text may stand for.
const MOST: usize = 2000;

/// The names that a text with ranges such as `{01..08}` stands for; a text without any is a name.
///
/// # Errors
/// When a range is none, or there are too many names.
pub(super) fn expanded(text: &str) -> Result<Vec<String>> {
    let wrong = |what: &str| {
        Error::bad_input(format!("`{text}` {what}")).next("write a range as `{01..08}`: two numbers, the smaller one first")
    };
    let mut names = vec![String::new()];
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        let (range, after) = from.split_once('}').ok_or_else(|| wrong("has a `{` without its `}`"))?;
        let (first, last) = range.split_once("..").ok_or_else(|| wrong("has braces without a range"))?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong("has a range that is not of numbers"));
        let (from, to) = (number(first)?, number(last)?);
        if from > to {
            return Err(wrong("has a range that ends before it begins"));
        }
        if names.len().saturating_mul(to - from + 1) > MOST {
            return Err(wrong(&format!("stands for more than {MOST} names")));
        }
        let width = first.len();
        names = names.iter().flat_map(|name| (from..=to).map(move |n| format!("{name}{before}{n:0width$}"))).collect();
        rest = after;
    }
    Ok(names.into_iter().map(|name| name + rest).collect())
}

/// The names in a list: the strings of a JSON array, the `name` of its objects, or words.
pub(super) fn in_list(list: &str) -> Vec<String> {
    let name = |value: &Value| value.as_str().or_else(|| value.get("name")?.as_str()).map(str::to_owned);
    match serde_json::from_str::<Value>(list) {
        Ok(Value::Array(items)) => items.iter().filter_map(name).collect(),
        _ => list.split_whitespace().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_stands_for_each_of_its_numbers() {
        assert_eq!(expanded("IN:X:A").unwrap(), ["IN:X:A"]);
        assert_eq!(expanded("M{01..02}{9..10}.RBV").unwrap(), ["M019.RBV", "M0110.RBV", "M029.RBV", "M0210.RBV"]);
        for wrong in ["{1..", "{1}", "{a..b}", "{2..1}", "{1..99}{1..99}"] {
            let error = expanded(wrong).unwrap_err();
            assert!(error.to_string().contains(wrong) && error.details().next.is_some(), "{error}");
        }
    }

    #[test]
    fn lists_are_json_or_words() {
        assert_eq!(in_list(r#"["A", "B"]"#), ["A", "B"]);
        assert_eq!(in_list(r#"[{"name": "A", "blocks": []}, 3]"#), ["A"]);
        assert_eq!(in_list("A B\n"), ["A", "B"]);
    }
}
