//! `ibexdeploy migrate`.

use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use super::{GlobalOptions, document, exit, interrupt};
use crate::error::{Error, Result};
use crate::migrate::work::{Order, Prepared};
use crate::migrate::{Chain, local, unified, work};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The folder of migrations, beside the playbooks.
const MIGRATIONS: &str = "migrations";

/// Take settings to the newest version of the chain of migrations: those of instruments, or a folder at hand
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    options: PlaybookOptions,
    /// Settings in a folder on this machine (the one that holds `configurations`): commits there, and never pushes
    #[arg(long, value_name = "DIR", conflicts_with_all = ["patterns", "all", "except", "only", "from"])]
    dir: Option<PathBuf>,
    /// End at this version instead of the newest
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// With --dir: the machine the settings belong to [default: their git branch, or the folder's name]
    #[arg(long, value_name = "NAME", requires = "dir")]
    machine: Option<String>,
    /// With --dir: a folder with the server, which some migrations look into
    #[arg(long, value_name = "DIR", requires = "dir")]
    server: Option<PathBuf>,
}

impl Migrate {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        if let Some(dir) = &self.dir {
            return self.here(global, dir);
        }
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let set: BTreeMap<String, Value> = self.to.iter().map(|to| ("to".to_owned(), json!(to))).collect();
        let wanted = Wanted { playbook: "migrate", set, ..Wanted::default() };
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }

    fn here(&self, global: &GlobalOptions, dir: &Path) -> Result<u8> {
        if !dir.is_dir() {
            let next = "name the folder of the settings: the one that holds `configurations`";
            return Err(Error::usage(format!("{} is not a folder", dir.display())).next(next));
        }
        let chain = Chain::load(&global.playbooks.join(MIGRATIONS))?.chain;
        let dry_run = self.options.run.dry_run;
        let order = Order {
            folder: dir.canonicalize().map_err(|e| Error::io(format!("follow {}", dir.display()), &e))?,
            shown: dir.display().to_string(),
            chain,
            machine: self.machine.clone(),
            server: self.server.clone(),
            to: self.to.clone(),
            commit: !dry_run,
            clean: false,
            remotes: false,
        };
        let mut notes = Vec::new();
        if !dry_run {
            // From here on an interrupt waits: what is begun takes a moment, and is all or nothing.
            let _interrupts = interrupt::lead();
            notes.extend(local::put_back_unfinished(&order.folder)?.map(str::to_owned));
        }
        let prepared = work::prepare(&order)?;
        if !dry_run && !prepared.is_done() {
            let kept = local::put_in_place(&order.folder, &prepared)?;
            notes.extend(kept.map(|kept| format!("no git has the folders that were deleted: they are in {}", kept.display())));
        }
        document(global, &as_data(&prepared, dry_run, &notes), || told(&prepared, dry_run, &notes))?;
        Ok(exit::OK)
    }
}

fn as_data(prepared: &Prepared, dry_run: bool, notes: &[String]) -> Value {
    let files: BTreeMap<String, String> =
        prepared.files.iter().map(|(path, change)| (path.to_string(), unified(path, change))).collect();
    let skipped: Vec<String> = prepared.left.iter().map(ToString::to_string).collect();
    json!({
        "machine": prepared.machine, "from": prepared.from, "to": prepared.to, "dry_run": dry_run,
        "passed": prepared.passed, "files": files, "deleted": prepared.deleted, "skipped": skipped, "notes": notes,
        "branch": prepared.refs.as_ref().map(|refs| &refs.branch), "commit": prepared.refs.as_ref().map(|refs| &refs.new),
        "tags": prepared.refs.as_ref().map(|refs| refs.tags.iter().map(|tag| &tag.name).collect::<Vec<_>>()),
    })
}

fn told(prepared: &Prepared, dry_run: bool, notes: &[String]) -> String {
    let Prepared { from, to, machine, .. } = prepared;
    let mut text: String = notes.iter().map(|note| format!("{machine}: {note}\n")).collect();
    if prepared.is_done() {
        let _ = writeln!(text, "{machine}: the settings have the version {to} already");
        return text;
    }
    if dry_run {
        prepared.files.iter().for_each(|(path, change)| text.push_str(&unified(path, change)));
        text.push('\n');
    }
    // The version file changes with each of them.
    for passed in prepared.passed.iter().filter(|p| p.files.len() > 1) {
        let _ = writeln!(text, "{} to {}: {}", passed.from, passed.to, passed.description.as_deref().unwrap_or_default());
    }
    let would = if dry_run { "would be migrated" } else { "migrated" };
    let _ = writeln!(text, "{machine}: {would} from {from} to {to}, {} files", prepared.files.len());
    if let Some(refs) = &prepared.refs {
        let _ = writeln!(
            text,
            "{} commits on {}, the newest {}, with a tag each; push them when you are content",
            refs.tags.len(),
            refs.branch,
            short(&refs.new)
        );
    }
    if !prepared.left.is_empty() {
        text.push_str("\nskipped, as it is not part of these files:\n");
        prepared.left.iter().for_each(|left| text.push_str(&format!("  {left}\n")));
    }
    text
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
