//! Secret values in memory: never printed, never written, wiped when dropped.

mod forms;

use crate::error::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// The secrets of a run by name. `Debug` shows the names only.
#[derive(Default, Clone)]
pub struct Secrets(BTreeMap<String, Secret>);

#[derive(Clone)]
struct Secret {
    value: SecretString,
    /// The texts that would give it away: itself, and as programs write it (base64, in an address, in JSON).
    forms: Vec<SecretString>,
}

impl Secrets {
    pub fn insert(&mut self, name: impl Into<String>, value: SecretString) {
        let forms = forms::of(value.expose_secret()).into_iter().map(SecretString::from).collect();
        self.0.insert(name.into(), Secret { value, forms });
    }

    /// A secret's value.
    ///
    /// # Errors
    /// When it was not handed over.
    pub fn get(&self, name: &str) -> Result<&SecretString> {
        self.0.get(name).map(|s| &s.value).ok_or_else(|| {
            Error::new(ErrorKind::Refused, format!("the secret `{name}` is not at hand"))
                .next("name it under `secrets:` in the inventory; after a restart it comes again with the controller")
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), &secret.value))
    }

    /// The text with every secret in it replaced by `***`; stands in front of every sink.
    ///
    /// Secrets that overlap or touch in the text are hidden together. One of fewer than four bytes is not looked for:
    /// it would blank out ordinary text, and protects nothing.
    pub fn redact(&self, text: &str) -> String {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for form in self.0.values().flat_map(|s| &s.forms) {
            let form = form.expose_secret();
            let mut from = 0;
            // One byte further each time, so that occurrences that overlap are all found.
            while let Some(at) = text.get(from..).and_then(|rest| rest.find(form)).map(|at| from + at) {
                found.push((at, at + form.len()));
                from = at + text[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        if found.is_empty() {
            return text.to_owned();
        }
        found.sort_unstable();
        let mut clean = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in found {
            if start > done || clean.is_empty() {
                clean.push_str(&text[done..start]);
                clean.push_str(HIDDEN);
            }
            done = done.max(end);
        }
        clean.push_str(&text[done..]);
        clean
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(values: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        for (n, value) in values.iter().enumerate() {
            secrets.insert(format!("s{n}"), SecretString::from(*value));
        }
        secrets
    }

    #[test]
    fn plain_and_written_by_programs() {
        let secrets = secrets(&["pa\"ss/wörd"]);
        for (text, clean) in [
            ("the pa\"ss/wörd is", "the *** is"),
            ("cGEic3Mvd8O2cmQ=", "***="),
            ("https://h/?p=pa%22ss%2Fw%C3%B6rd&x", "https://h/?p=***&x"),
            ("https://h/?p=pa%22ss%2fw%c3%b6rd&x", "https://h/?p=***&x"),
            (r#"{"p":"pa\"ss/wörd"}"#, r#"{"p":"***"}"#),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(secrets.redact(text), clean);
        }
    }

    #[test]
    fn inside_a_longer_base64_text() {
        let secrets = secrets(&["hunter2-hunter2"]);
        // `root:hunter2-hunter2`, as HTTP sends name and password.
        let clean = secrets.redact("Authorization: Basic cm9vdDpodW50ZXIyLWh1bnRlcjI=");
        assert!(!clean.contains("50ZXIyLWh1bnRlcj") && clean.contains("***"), "{clean}");
    }

    #[test]
    fn overlapping_secrets_leave_nothing() {
        let secrets = secrets(&["abcdef", "defghi", "aaaa"]);
        assert_eq!(secrets.redact("x abcdefghi y"), "x *** y");
        assert_eq!(secrets.redact("aaaaaa"), "***");
        assert_eq!(secrets.redact("abcdef abcdef"), "*** ***");
    }

    #[test]
    fn lines_of_a_long_secret_are_hidden_one_by_one() {
        let secrets = secrets(&["-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n"]);
        assert_eq!(secrets.redact("read MIIEvQIBADANBg"), "read ***");
    }

    #[test]
    fn debug_shows_names_only() {
        assert_eq!(format!("{:?}", secrets(&["hidden-value"])), r#"["s0"]"#);
    }

    /// The positions in `text` that no occurrence of a secret covers, in order.
    fn uncovered(text: &str, values: &[String]) -> String {
        let mut covered = vec![false; text.len()];
        for value in values {
            for at in (0..text.len()).filter(|at| text.is_char_boundary(*at) && text[*at..].starts_with(value.as_str())) {
                covered[at..at + value.len()].fill(true);
            }
        }
        let bytes = text.bytes().zip(covered).filter(|(_, c)| !c).map(|(b, _)| b).collect();
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        /// What is left is exactly the text around the secrets, however they overlap: no byte of one survives.
        #[test]
        fn no_byte_of_a_secret_survives(values in prop::collection::vec("[a-cö]{4,7}", 1..4), text in "[a-cö ]{0,60}") {
            let borrowed: Vec<&str> = values.iter().map(String::as_str).collect();
            let clean = secrets(&borrowed).redact(&text);
            prop_assert_eq!(clean.replace(HIDDEN, ""), uncovered(&text, &values));
        }

        #[test]
        fn no_form_of_a_secret_survives(value in "\\PC{4,30}", before in "[ -)+-~]{0,9}", after in "[ -)+-~]{0,9}") {
            let secrets = secrets(&[&value]);
            for form in forms::of(&value) {
                let clean = secrets.redact(&format!("{before}{form}{after}"));
                prop_assert!(!clean.contains(&form) || HIDDEN.contains(&form), "{form:?} in {clean:?}");
            }
        }

        #[test]
        fn text_without_secrets_is_left_alone(value in "[A-Z]{4,9}", text in "[a-z0-9 ]{0,60}") {
            prop_assert_eq!(secrets(&[&value]).redact(&text), text);
        }
    }
}
