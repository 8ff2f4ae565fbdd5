//! The values of a run's secrets, fetched once however many instruments use them.

use super::Fleet;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::inventory::{Instrument, SecretSource, secrets};
use crate::plan::Plan;
use crate::rehearsal::stand_in;
use crate::secrets::Secrets;
use console::Term;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What each instrument gets, and all values together for redaction.
#[derive(Debug, Default)]
pub(in crate::cli) struct RunSecrets {
    by_instrument: BTreeMap<String, Secrets>,
    pub(in crate::cli) all: Secrets,
}

impl RunSecrets {
    /// None for the instruments; only what logs on to them, which must not be shown.
    ///
    /// # Errors
    /// When one of those cannot be had.
    pub(in crate::cli) fn of_logons(fleet: &Fleet) -> Result<Self> {
        Ok(Self { by_instrument: BTreeMap::new(), all: fleet.logon_secrets()? })
    }

    /// Names and values for one instrument.
    pub(in crate::cli) fn of(&self, instrument: &str) -> Vec<(String, String)> {
        let secrets = self.by_instrument.get(instrument);
        let pairs = secrets.into_iter().flat_map(Secrets::iter);
        pairs.map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect()
    }
}

/// Fetches what the plan's steps name. A rehearsal gets stand-ins: sandboxes have nothing that a real one would open.
///
/// # Errors
/// When a secret has no source, or its source gives nothing.
pub(in crate::cli) fn resolve(fleet: &Fleet, plan: &Plan) -> Result<RunSecrets> {
    let mut fetched = Fetched::default();
    let mut run = RunSecrets::default();
    for target in &plan.targets {
        let name = &target.plan.instrument;
        let secrets = if plan.rehearsal {
            stand_ins(&target.plan.secrets)
        } else {
            fetched.of(fleet.inventory.instrument(name)?, &target.plan.secrets)?
        };
        for (secret, value) in secrets.iter() {
            run.all.insert(format!("{secret} of {name}"), value.clone());
        }
        run.by_instrument.insert(name.clone(), secrets);
    }
    // What logs on must not be shown either.
    for (name, value) in fleet.logon_secrets()?.iter() {
        run.all.insert(name, value.clone());
    }
    Ok(run)
}

/// Secrets that were fetched: instruments with the same sources share them, so that nothing is asked twice.
#[derive(Default)]
pub(super) struct Fetched(BTreeMap<Wanted, Result<Secrets>>);

/// The names of secrets, and where they come from.
type Wanted = (Vec<String>, BTreeMap<String, SecretSource>);

impl Fetched {
    /// The named secrets of an instrument.
    ///
    /// # Errors
    /// When one has no source, or its source gives nothing.
    pub(super) fn of(&mut self, instrument: &Instrument, names: &[String]) -> Result<Secrets> {
        // What failed is not asked again either: a vault that does not answer takes its time.
        let fetched = match self.0.entry((names.to_vec(), instrument.secrets.clone())) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let fetched = secrets::resolve(&new.key().0, &new.key().1, &prompt);
                new.insert(fetched).clone()
            }
        };
        fetched.map_err(|e| e.on_host(&instrument.name))
    }
}

fn stand_ins(names: &[String]) -> Secrets {
    let mut secrets = Secrets::default();
    for name in names {
        secrets.insert(name.clone(), SecretString::from(stand_in(name)));
    }
    secrets
}

/// Asks the operator and hides what is typed.
fn prompt(question: &str) -> Result<SecretString> {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(Error::new(ErrorKind::Refused, format!("`{question}` cannot be asked without a terminal"))
            .next("let the secret come from `env`, `file` or `command` in the inventory"));
    }
    terminal.write_str(&format!("{question}: ")).cannot(|| "ask for a secret")?;
    terminal.read_secure_line().map(SecretString::from).cannot(|| "read a secret")
}
