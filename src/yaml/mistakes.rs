//! All mistakes of a file at once: what the typed reader stumbles over is taken out, and the rest is read again.

use super::{Tree, excerpt, parse};
use crate::error::{Error, SourcePosition};
use serde::de::DeserializeOwned;

/// More mistakes than these are not worth reading.
const MOST: usize = 50;

/// Reads a value as [`parse`] does, and does not stop at the first mistake.
///
/// # Errors
/// The mistakes that have nothing to do with each other: of every step of a playbook, and of every group and
/// instrument of an inventory, the first. Only one when the text is not YAML.
pub fn parse_all<T: DeserializeOwned>(file_name: &str, text: &str) -> Result<T, Vec<Error>> {
    let mut errors = Vec::new();
    let mut rest: Option<String> = None;
    loop {
        let now = rest.as_deref().unwrap_or(text);
        let error = match parse::<T>(file_name, now) {
            Ok(value) if errors.is_empty() => return Ok(value),
            Ok(_) => return Err(errors),
            Err(error) => error,
        };
        // What is left need not be YAML any more: it may name an anchor that is gone.
        let Ok(tree) = Tree::parse(file_name, now) else {
            if errors.is_empty() {
                errors.push(error);
            }
            return Err(errors);
        };
        let part = part_at(&tree, &error);
        // A part without its middle is wrong only because of that.
        let untouched = part.as_ref().is_none_or(|part| part.is_whole(text, now));
        if untouched && (part.is_some() || errors.is_empty()) {
            errors.push(drawn_from(text, error));
        }
        match part {
            Some(part) if errors.len() < MOST => rest = Some(part.taken_out_of(now)),
            _ => return Err(errors),
        }
    }
}

/// Lines that can be taken out of a file, which is then still YAML: first and behind the last, from 0.
struct Part {
    from: usize,
    to: usize,
}

impl Part {
    fn is_whole(&self, text: &str, now: &str) -> bool {
        let lines = |text: &str| -> Vec<String> {
            let part = text.lines().skip(self.from).take(self.to - self.from);
            part.map(|l| l.trim_start_matches('\u{feff}').to_owned()).collect()
        };
        lines(text) == lines(now)
    }

    fn taken_out_of(&self, text: &str) -> String {
        let kept = |(n, line): (usize, &str)| match (self.from..self.to).contains(&n) {
            true => "\n".to_owned(),
            false => line.to_owned(),
        };
        text.split_inclusive('\n').enumerate().map(kept).collect()
    }
}

/// The smallest part with the error in it: an entry of a map or a list at the top of the file, or of one below it.
fn part_at(tree: &Tree, error: &Error) -> Option<Part> {
    let line = usize::try_from(error.details().position.as_ref()?.line).ok()?.checked_sub(1)?;
    let begins = tree.lines_to_depth(2);
    let is_missing = error.details().message.starts_with("the key `") && error.details().message.contains("is missing");
    // What a whole file lacks is lacked by what is left of it, too.
    let depths = if is_missing { &[2][..] } else { &[2, 1][..] };
    depths.iter().find_map(|depth| {
        let (from, _) = *begins.iter().rev().find(|(begin, d)| *begin <= line && d <= depth)?;
        let (_, own) = *begins.iter().rev().find(|(begin, d)| *begin == from && d <= depth)?;
        let alone = begins.iter().filter(|(begin, d)| *begin == from && d <= depth).count() == 1;
        let to = begins.iter().find(|(begin, d)| *begin > from && *d <= own).map_or(usize::MAX, |(begin, _)| *begin);
        (own == *depth && alone).then_some(Part { from, to })
    })
}

/// The error with its excerpt as the file has it.
fn drawn_from(text: &str, error: Error) -> Error {
    let Some(SourcePosition { file, line, column, .. }) = error.details().position.clone() else { return error };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let number = |n: u64| usize::try_from(n).unwrap_or_default();
    let drawn = excerpt(text, number(line), number(column));
    error.at(SourcePosition { file, line, column, excerpt: drawn })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbook::Playbook;
    use proptest::prelude::*;

    fn found(text: &str) -> Vec<String> {
        let errors = parse_all::<Playbook>("t.yaml", text).map_or_else(|errors| errors, |_| Vec::new());
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistakes_of_different_steps_are_all_found() {
        let text = "playbook: t
stge: []
vars: {a: 1}
stage:
  - chek: {}
  - remind:
      txt: x
  - remind: {text: x}
  - command: {run: 5}
    timeout: soon
apply:
  - timeout: 5
close: 7
";
        assert_eq!(
            found(text),
            [
                "t.yaml:2:1: unknown key `stge`",
                "t.yaml:5:5: unknown key `chek`",
                "t.yaml:7:7: unknown key `txt`",
                "t.yaml:10:14: `soon` is not a duration",
                "t.yaml:12:14: `5` is not a duration",
                "t.yaml:13:8: `close` must be a list (`[a, b]`), not `7`",
            ]
        );
        let errors = parse_all::<Playbook>("t.yaml", text).unwrap_err();
        let excerpt = errors[2].details().position.as_ref().and_then(|p| p.excerpt.clone()).unwrap();
        assert!(excerpt.contains("5 |   - chek: {}"), "{excerpt}");
    }

    #[test]
    fn what_follows_from_a_mistake_is_none() {
        assert_eq!(found("playbook: t\nstage:\n  - chek: {}\n"), ["t.yaml:3:5: unknown key `chek`"]);
        assert_eq!(found("stage:\n  - chek: &a {}\napply:\n  - remind: *a\n").len(), 1);
        assert_eq!(found("{playbook: t, stge: [], aply: []}"), ["t.yaml:1:15: unknown key `stge`"]);
        assert_eq!(found("stage:\n  - remind: {text: x}\n"), ["t.yaml:1:1: the key `playbook` is missing"]);
    }

    proptest! {
        #[test]
        fn it_always_ends(lines in prop::collection::vec("( {0,4}-? ?(playbook|stage|aply|remind|text|chek|x): ?(t|\\[\\]|\\{a: 1\\}|'|\\*a|&a b)?)|\\PC{0,8}", 0..14)) {
            let text = lines.join("\n");
            let single = parse::<Playbook>("t.yaml", &text);
            match parse_all::<Playbook>("t.yaml", &text) {
                Ok(_) => prop_assert!(single.is_ok()),
                Err(errors) => prop_assert_eq!(Some(&single.unwrap_err()), errors.first()),
            }
        }
    }
}
