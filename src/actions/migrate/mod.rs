//! `migrate`: the settings taken to the version that a release wants.

mod kit;
mod task;

use super::git::remind_to_push;
use super::moves::{Moves, MovesRecord, shown};
use super::mysql::{file_of_server, remind_of_files, run_files};
use super::remove::moves_file;
use super::sync::counted;
use super::sync::staging::give_file_rights;
use super::{Applied, Difference, FetchStats, Perform, Probe, StepContext, UndoRecord, Undone, volumes};
use crate::error::{Error, Result};
use crate::events::Outcome;
use crate::files;
use crate::migrate::chain::Chain;
use crate::migrate::git::Repo;
use crate::migrate::local::expect_unchanged;
use crate::migrate::work::{Answer, Order, Prepared, Shown, Task};
use crate::migrate::{LeftWhat, unified};
use crate::paths::{Place, RelPath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Takes the settings of an instrument to a version of the chain of migrations: all of it or nothing. In a git work tree
/// each version becomes a commit and a tag; nothing is pushed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// The folder of the settings: the one that holds `configurations`.
    pub at: Place,
    /// Whose migrations; `ours` unless said.
    #[serde(default)]
    pub chain: WhichChain,
    /// The folder with `chain.yaml`, relative to the playbook; `migrations` unless said.
    #[serde(default = "migrations")]
    pub migrations: String,
    /// The version to end at; the newest of the chain when it is empty or left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The folder of the server, which some migrations look into; the place `server` unless said.
    #[serde(default = "server")]
    pub server: Place,
    /// Skipped where the folder is no git work tree.
    #[serde(default)]
    pub only_in_git: bool,
    /// The name of the secret that is MySQL's root password. With it, SQL files of migrations are run on the databases after
    /// these were dumped to the place `backups`, which no undo takes back; without it they are named for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_password: Option<String>,
    /// The chain, put in when the plan is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub links: Option<Chain>,
}

/// Where the migrations come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhichChain {
    /// The files of `migrations`.
    #[default]
    Ours,
    /// The script `upgrade.bat` of the installed server, which commits by itself, and may push.
    Kit,
}

fn migrations() -> String {
    "migrations".to_owned()
}

fn server() -> Place {
    Place("server".to_owned())
}

/// How far a migration is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// What would change.
    Look,
    /// Could it be done as things stand?
    Trial,
    /// With its commits.
    Real,
}

/// Lines of a dry run that show what changes in a file.
const DIFF_LINES: usize = 400;

impl Migrate {
    fn chain(&self) -> Result<&Chain> {
        self.links.as_ref().ok_or_else(|| Error::internal("the chain of migrations was not read when the plan was made"))
    }

    /// The settings' folder with its links followed.
    fn folder(&self, cx: &StepContext<'_>) -> Result<PathBuf> {
        volumes::resolved(&cx.native(&self.at)?)
    }

    /// Why there is nothing to do here.
    fn not_needed(&self, folder: &Path) -> Option<String> {
        (self.only_in_git && Repo::at(folder).is_none()).then(|| format!("{} is no git work tree", self.at))
    }

    fn prepare(&self, cx: &StepContext<'_>, folder: &Path, how: How) -> Result<Prepared> {
        let order = Order {
            folder: folder.to_path_buf(),
            shown: shown(cx, folder),
            chain: self.chain()?.clone(),
            machine: Some(cx.plan.instrument.clone()),
            server: Some(cx.native(&self.server)?).filter(|server| server.is_dir()),
            to: self.to.clone().filter(|to| !to.is_empty()),
            commit: how == How::Real,
            // Steps before this one may commit what is uncommitted.
            clean: how == How::Real,
            remotes: true,
        };
        match task::run(cx, &Task::Prepare(order))? {
            Answer::Prepared(prepared) => Ok(*prepared),
            _ => Err(Error::internal("a migration was answered with something else")),
        }
    }

    /// Stages what changes, and writes down the renames.
    fn staged(&self, cx: &StepContext<'_>, folder: &Path, prepared: &Prepared, file: &Path) -> Result<(Moves, MovesRecord)> {
        let areas = volumes::step_areas(cx, folder)?;
        let mut moves = Moves::below(folder, &areas);
        let inside = |path: &RelPath| prepared.deleted.iter().any(|deleted| path.is_within(deleted));
        for (number, (path, change)) in prepared.files.iter().enumerate() {
            let at = path.under(folder);
            expect_unchanged(&at, change.before.as_deref())?;
            if change.before.is_some() && !inside(path) {
                moves.take(path.clone())?;
            }
            if let Some(bytes) = &change.after {
                let name = number.to_string();
                let staged = areas.stage.join(&name);
                files::write(&staged, bytes)?;
                give_file_rights(cx, change.before.is_some().then_some(at.as_path()), &at, &staged, false)?;
                moves.bring(path.clone(), &name)?;
            }
        }
        prepared.deleted.iter().try_for_each(|deleted| moves.take(deleted.clone()))?;
        moves.over = true;
        let done = Done {
            shown: Shown { refs: prepared.refs.clone(), remotes: prepared.remotes.clone() },
            from: prepared.from.clone(),
            to: prepared.to.clone(),
            sql: prepared.left.iter().filter_map(sql_file).collect(),
            left: prepared.left.iter().filter(|left| sql_file(left).is_none()).map(ToString::to_string).collect(),
        };
        moves.result = serde_json::to_value(done).map_err(|e| Error::internal("cannot write a migration").because(e))?;
        let record = moves.write(file)?;
        Ok((moves, record))
    }
}

/// What is kept beside the renames of a migration.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    shown: Shown,
    from: String,
    to: String,
    left: Vec<String>,
    /// Files of the server: the version that they lead from, and their names.
    #[serde(default)]
    sql: Vec<(String, String)>,
}

fn sql_file(left: &crate::migrate::Left) -> Option<(String, String)> {
    match &left.what {
        LeftWhat::Sql { file } => Some((left.version.clone(), file.clone())),
        _ => None,
    }
}

/// Runs the SQL files of the migrations, or names them for a person.
fn run_sql(migrate: &Migrate, cx: &StepContext<'_>, sql: &[(String, String)]) -> Result<()> {
    let server = cx.native(&migrate.server)?;
    let files: Option<Vec<PathBuf>> = sql.iter().map(|(_, file)| file_of_server(&server, file)).collect();
    if let (Some(secret), Some(files)) = (&migrate.sql_password, files.filter(|files| !files.is_empty()))
        && let Some(dump) = run_files(cx, secret, &files)?
    {
        let names: Vec<&str> = sql.iter().map(|(_, file)| file.as_str()).collect();
        cx.progress.note(&format!(
            "run on the databases, which were dumped to {} before: {}",
            shown(cx, &dump),
            names.join(", ")
        ));
        return Ok(());
    }
    for (version, file) in sql {
        let text = format!("the settings came from {version}: run the SQL file {file} of the server on the databases, once");
        cx.progress.remind(&text);
    }
    Ok(())
}

impl Perform for Migrate {
    fn describe(&self) -> String {
        format!("migrate {}", self.at)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        if let Some(summary) = self.not_needed(&self.folder(cx)?) {
            return Ok(Probe { difference: Difference::None, summary, ..Probe::default() });
        }
        if self.chain == WhichChain::Kit {
            let summary = format!("`{}` of the server would run", kit::SCRIPT);
            return Ok(Probe { difference: Difference::Unknown, summary, ..Probe::default() });
        }
        let prepared = self.prepare(cx, &self.folder(cx)?, How::Look)?;
        if prepared.is_done() {
            return Ok(Probe { difference: Difference::None, summary: at_version(&prepared.to), ..Probe::default() });
        }
        let diffs = prepared.files.iter().map(|(path, change)| unified(path, change)).collect::<String>();
        let total = diffs.lines().count();
        let mut items: Vec<String> = prepared.left.iter().map(|left| format!("left for you: {left}")).collect();
        items.extend(diffs.lines().take(DIFF_LINES).map(str::to_owned));
        if total > DIFF_LINES {
            items.push(format!("and {} more lines", total - DIFF_LINES));
        }
        let summary = format!("from {} to {}, {}", prepared.from, prepared.to, counted(prepared.files.len(), "file"));
        Ok(Probe { difference: Difference::Some, summary, items, fetch_bytes: 0 })
    }

    /// Migrates on trial, so that a file which is not well-formed is found while IBEX runs, and looks whether the kit's
    /// own chain goes further.
    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        let folder = self.folder(cx)?;
        if self.chain == WhichChain::Ours && self.not_needed(&folder).is_none() {
            kit::expect_not_newer(cx, self.chain()?)?;
            if folder.is_dir() {
                self.prepare(cx, &folder, How::Trial)?;
            }
        }
        Ok(FetchStats::default())
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let folder = self.folder(cx)?;
        if let Some(summary) = self.not_needed(&folder) {
            return Ok(Applied { outcome: Outcome::Skipped, summary, result: serde_json::Value::Null });
        }
        if self.chain == WhichChain::Kit {
            return kit::apply(self, cx);
        }
        let file = moves_file(cx, &folder);
        let (moves, record) = match Moves::begun(&file)? {
            Some(begun) => begun,
            None => {
                let prepared = self.prepare(cx, &folder, How::Real)?;
                if prepared.is_done() {
                    return Ok(Applied::ok(at_version(&prepared.to)));
                }
                self.staged(cx, &folder, &prepared, &file)?
            }
        };
        let done: Done = serde_json::from_value(moves.result.clone())
            .map_err(|e| Error::internal("cannot read a migration that was begun").because(e))?;
        cx.undo_log.intend(UndoRecord::Migrate(MigrateUndo { moves: record, shown: done.shown.clone() }))?;
        moves.run(cx)?;
        task::run(cx, &Task::Show(done.shown))?;
        run_sql(self, cx, &done.sql)?;
        done.left.iter().for_each(|text| cx.progress.remind(text));
        let summary = format!("from {} to {}, {}", done.from, done.to, counted(moves.ins.len().max(moves.outs.len()), "path"));
        Ok(Applied::changed(summary).with_result(serde_json::json!({ "from": done.from, "to": done.to })))
    }
}

fn at_version(version: &str) -> String {
    format!("the settings have the version {version}")
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrateUndo {
    pub moves: MovesRecord,
    pub shown: Shown,
}

impl MigrateUndo {
    /// Puts the files back, then branch, tags, index and remotes.
    ///
    /// # Errors
    /// When a rename is refused, or git cannot be run.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let mut undone = self.moves.undo(cx)?;
        remind_of_files(cx)?;
        if let Answer::TakenBack(taken_back) = task::run(cx, &Task::TakeBack(self.shown.clone()))? {
            undone.left.extend(taken_back.left);
            taken_back.to_push.iter().for_each(|tree| remind_to_push(cx, tree));
        }
        Ok(undone)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
