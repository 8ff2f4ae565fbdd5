//! Secret values in memory: never printed, never written, wiped when dropped.

use crate::error::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;

/// The secrets of a run by name. `Debug` shows the names only.
#[derive(Default, Clone)]
pub struct Secrets(BTreeMap<String, SecretString>);

impl Secrets {
    pub fn insert(&mut self, name: impl Into<String>, value: SecretString) {
        self.0.insert(name.into(), value);
    }

    /// A secret's value.
    ///
    /// # Errors
    /// When it was not handed over.
    pub fn get(&self, name: &str) -> Result<&SecretString> {
        self.0.get(name).ok_or_else(|| {
            Error::new(ErrorKind::Refused, format!("the secret `{name}` is not at hand"))
                .next("name it under `secrets:` in the inventory; after a restart it comes again with the controller")
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The text with every secret in it replaced by `***`; stands in front of every sink.
    pub fn redact(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for value in self.0.values() {
            let plain = value.expose_secret();
            if plain.len() >= 4 && clean.contains(plain) {
                clean = clean.replace(plain, "***");
            }
        }
        clean
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
