//! What logging on to instruments needs.

use crate::error::{ErrorKind, Result};
use crate::secrets::Secrets;
use std::collections::BTreeMap;

/// The secrets for logging on, by instrument; or why they cannot be had, which concerns no other instrument.
#[derive(Clone, Debug, Default)]
pub struct Logons(BTreeMap<String, Result<Secrets>>);

impl Logons {
    pub fn insert(&mut self, instrument: &str, secrets: Result<Secrets>) {
        self.0.insert(instrument.to_owned(), secrets);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Result<Secrets>)> {
        self.0.iter().map(|(instrument, secrets)| (instrument.as_str(), secrets))
    }

    /// Those of one instrument; none where none are needed.
    ///
    /// # Errors
    /// When one has no source, or its source gave nothing. The kind says that nothing was tried on the instrument.
    pub(super) fn of(&self, instrument: &str) -> Result<Secrets> {
        let secrets = self.0.get(instrument).cloned().unwrap_or_else(|| Ok(Secrets::default()));
        secrets.map_err(|e| e.of_kind(ErrorKind::BadInput).lasting())
    }
}
