//! `ibexdeploy trust`.

use super::operate::{Fleet, confirmed, runtime};
use super::{GlobalOptions, TargetOptions, exit, output};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::TransportSpec;
use crate::report::{self, Screen, TrustRow};
use crate::transport::{HostKey, KeyState, Ssh};
use clap::Args;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Show the SSH host keys of instruments, and record those that you confirm
#[derive(Debug, Args)]
pub(super) struct Trust {
    #[command(flatten)]
    targets: TargetOptions,
    /// Record keys also where another one is recorded: that one is taken out
    #[arg(long)]
    replace: bool,
    /// Do not ask: the fingerprints were compared already
    #[arg(short, long)]
    yes: bool,
}

impl Trust {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.targets)?;
        let runtime = runtime()?;
        loop {
            let answers = runtime.block_on(ask_all(&fleet))?;
            let keys = || answers.iter().filter_map(|(_, key)| key.as_ref().ok()?.as_ref());
            let wanted: Vec<&HostKey> = keys().filter(|key| self.is_wanted(key)).collect();
            if !wanted.is_empty() {
                self.confirm(global, &rows(&answers, |_| false), &wanted)?;
                for key in &wanted {
                    key.record(self.replace)?;
                }
            }
            // What stands behind a host that was not known shows once it is.
            if wanted.iter().any(|key| key.on_the_way) {
                continue;
            }
            let rows = rows(&answers, |key| self.is_wanted(key));
            output::document(global, &rows, || report::trust(&rows, Screen::of_stdout()))?;
            return Ok(if rows.iter().all(TrustRow::is_well) { exit::OK } else { exit::SOME_FAILED });
        }
    }

    fn is_wanted(&self, key: &HostKey) -> bool {
        match key.state {
            KeyState::New => true,
            KeyState::Other { .. } => self.replace,
            KeyState::Known(_) | KeyState::Revoked(_) => false,
        }
    }

    /// Shows what is to be recorded and asks; the fingerprints are to be compared by a person.
    fn confirm(&self, global: &GlobalOptions, rows: &[TrustRow], wanted: &[&HostKey]) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        let refused = |why: &str| Error::new(ErrorKind::Refused, format!("no key was recorded: {why}"));
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            output::document(global, &rows, || report::trust(rows, Screen::of_stdout()))?;
            return Err(refused("there is no terminal to ask on")
                .next("compare the fingerprints with those that the machines show, then add --yes"));
        }
        // Where the terminal takes nothing, the question that follows fails.
        let _ = std::io::stderr().write_all(report::text::safe(&report::trust(rows, Screen::of_stderr())).as_bytes());
        let files: BTreeSet<&Path> = wanted.iter().map(|key| key.file.as_path()).collect();
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        // Instruments may have a server in common.
        let keys: BTreeSet<_> = wanted.iter().map(|key| (&key.server, &key.fingerprint)).collect();
        let question = format!("Record {} in {}?", report::text::count(keys.len(), "key"), files.join(" and "));
        if confirmed(&question)? { Ok(()) } else { Err(refused("not confirmed")) }
    }
}

/// The host keys of all, in parallel; nothing for instruments that are not reached over SSH.
async fn ask_all(fleet: &Fleet) -> Result<Vec<Answer>> {
    let ssh = Arc::new(Ssh::new(fleet.logons().clone(), None));
    let mut tasks = JoinSet::new();
    for (at, instrument) in fleet.instruments().into_iter().enumerate() {
        let (ssh, name, transport) = (Arc::clone(&ssh), instrument.name.clone(), instrument.transport.clone());
        tasks.spawn(async move {
            let key = match &transport {
                TransportSpec::Ssh(spec) => ssh.host_key(&name, spec).await.map(Some),
                _ => Ok(None),
            };
            (at, (name.clone(), key.map_err(|e| e.on_host(name))))
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// An instrument, and its host key where its transport has any.
type Answer = (String, Result<Option<HostKey>>);

fn rows(answers: &[Answer], recorded: impl Fn(&HostKey) -> bool) -> Vec<TrustRow> {
    answers.iter().map(|(name, key)| row(name, key, &recorded)).collect()
}

fn row(name: &str, key: &Result<Option<HostKey>>, recorded: impl Fn(&HostKey) -> bool) -> TrustRow {
    let mut row = TrustRow { instrument: name.to_owned(), ..TrustRow::default() };
    match key {
        Err(error) => row.error = Some(error.clone()),
        Ok(None) => row.state = "no host keys",
        Ok(Some(key)) => {
            row.server = key.server.clone();
            row.kind = key.kind.clone();
            row.fingerprint = key.fingerprint.clone();
            row.file = key.file.display().to_string();
            (row.state, row.known) = match &key.state {
                _ if recorded(key) => ("recorded now", None),
                KeyState::Known(place) => ("known", Some(place.clone())),
                KeyState::New => ("new", None),
                KeyState::Other { known, place } => ("CHANGED", Some(format!("{known} ({place})"))),
                KeyState::Revoked(place) => ("REVOKED", Some(place.clone())),
            };
        }
    }
    row
}
