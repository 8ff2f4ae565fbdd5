//! `ibexdeploy hotfix`.

mod list;
mod pack;

use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use super::{GlobalOptions, TargetOptions};
use crate::error::{Error, Result};
use crate::kit::hotfix::PatchStore;
use crate::report::{self, Screen};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The playbook that puts a hotfix in place and takes it back.
const PLAYBOOK: &str = "hotfix";

/// Put a hotfix on instruments, list those they have, or take one back
#[derive(Debug, Args)]
#[command(
    override_usage = "ibexdeploy hotfix [OPTIONS] <PATTERN>... <PATCH.zip>\n       \
        ibexdeploy hotfix [OPTIONS] <PATTERN>... --list\n       \
        ibexdeploy hotfix [OPTIONS] <PATTERN>... --revert <ID>\n       \
        ibexdeploy hotfix pack <FOLDER | --git RANGE> -o <PATCH.zip>",
    args_conflicts_with_subcommands = true
)]
pub(super) struct Hotfix {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: PlaybookOptions,
    /// List the hotfixes that the instruments have
    #[arg(long, conflicts_with = "revert")]
    list: bool,
    /// Take this hotfix back: its files become what they were before it
    #[arg(long, value_name = "ID")]
    revert: Option<String>,
    /// With --revert: take it back although its files were changed since; those are saved first
    #[arg(long, requires = "revert")]
    discard_newer: bool,
    /// Stage now, and apply on each instrument when it is not measuring
    #[arg(long)]
    when_idle: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pack(pack::Pack),
}

impl Hotfix {
    pub(super) fn run(mut self, global: &GlobalOptions) -> Result<u8> {
        if let Some(Command::Pack(pack)) = self.command {
            return pack.run(global);
        }
        if self.list {
            return list::run(global, &self.options);
        }
        let (set, preface) = match &self.revert {
            Some(id) => {
                let set = [("revert", json!(id)), ("discard_newer", json!(self.discard_newer))];
                (named(set), format!("  takes the hotfix {id} back\n"))
            }
            None => {
                let archive = take_archive(&mut self.options.targets)?;
                let read = PatchStore::open(&global.state_folder()?).read(Path::new(&archive))?;
                (named([("patch", json!(archive))]), report::hotfix(&read.patch, Screen::of_stderr()))
            }
        };
        let wanted = Wanted { playbook: PLAYBOOK, when_idle: self.when_idle, set, preface, ..Wanted::default() };
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}

fn named<const N: usize>(values: [(&str, Value); N]) -> BTreeMap<String, Value> {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The last of the words is the archive, those before it say which instruments.
fn take_archive(targets: &mut TargetOptions) -> Result<String> {
    let is_archive = |word: &String| word.to_lowercase().ends_with(".zip") || word.contains(['/', '\\']);
    if let Some(word) = targets.patterns.iter().rev().skip(1).find(|word| is_archive(word)) {
        return Err(Error::usage(format!("`{word}` looks like an archive, and the archive stands last"))
            .next("one hotfix at a time: ibexdeploy hotfix NDXZOOM patch.zip"));
    }
    let chosen_otherwise = targets.all || !targets.only.is_empty() || !targets.from.is_empty();
    match targets.patterns.pop() {
        Some(archive) if is_archive(&archive) || Path::new(&archive).is_file() => {
            if targets.patterns.is_empty() && !chosen_otherwise {
                return Err(Error::usage(format!("which instruments shall get {archive}?"))
                    .next("name them before the archive: ibexdeploy hotfix NDXZOOM patch.zip"));
            }
            Ok(archive)
        }
        _ => Err(Error::usage("which hotfix?")
            .next("name its archive last: ibexdeploy hotfix NDXZOOM patch.zip; or write --list, or --revert ID")),
    }
}
