//! `file`: a file with a wanted content, whole or in part.

use super::moves::{Moves, MovesRecord, shown};
use super::remove::{moves_file, split};
use super::since::Watch;
use super::sync::staging::give_file_rights;
use super::{Applied, Difference, Perform, Probe, StepContext, UndoRecord, Undone, volumes};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::paths::Place;
use crate::text::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Writes a file, or makes sure of lines or ini keys in one; atomic, keeping its owner, rights, encoding and line ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The file.
    pub path: Place,
    /// The whole content, a template. One of `content`, `template`, or any of `lines`, `absent_lines`, `ini`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file with the whole content, relative to the playbook; a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Lines that must be there; a missing one is added at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Lines that must not be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent_lines: Vec<String>,
    /// Ini keys: section, key, value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ini: BTreeMap<String, BTreeMap<String, String>>,
    /// Makes the file when it is missing; true unless said.
    #[serde(default = "yes")]
    pub create: bool,
}

fn yes() -> bool {
    true
}

impl File {
    /// The bytes the file has and should have; the first is nothing when there is no file.
    fn contents(&self, cx: &StepContext<'_>, native: &Path) -> Result<(Option<Vec<u8>>, Vec<u8>)> {
        let old = match std::fs::read(native) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io(format!("read {}", shown(cx, native)), &e)),
        };
        if old.is_none() && !self.create {
            return Err(Error::new(ErrorKind::StepFailed, format!("{} does not exist", shown(cx, native)))
                .next("leave `create: false` out when the file may be made"));
        }
        let edit = || -> Result<Vec<u8>> {
            let mut text = Text::read(old.as_deref().unwrap_or_default())?;
            if let Some(content) = &self.content {
                text.replace(content)?;
            }
            self.absent_lines.iter().for_each(|line| text.remove_line(line));
            self.lines.iter().try_for_each(|l| text.ensure_line(l))?;
            text.set_ini(&self.ini)?;
            Ok(text.bytes())
        };
        let new = edit().map_err(|e| e.context(format!("cannot edit {}", shown(cx, native))))?;
        Ok((old, new))
    }

    /// The path with its last link followed: a file behind a link is edited where it lies.
    fn native(&self, cx: &StepContext<'_>) -> Result<PathBuf> {
        if self.template.is_some() {
            return Err(Error::internal("a template was not read when the plan was made"));
        }
        volumes::resolved(&cx.native(&self.path)?)
    }
}

impl Perform for File {
    fn describe(&self) -> String {
        format!("file {}", self.path)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let (old, new) = self.contents(cx, &self.native(cx)?)?;
        let (difference, summary) = match &old {
            Some(old) if *old == new => (Difference::None, "already as wanted"),
            Some(_) => (Difference::Some, "to be changed"),
            None => (Difference::Some, "to be made"),
        };
        Ok(Probe { difference, summary: summary.to_owned(), ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let native = self.native(cx)?;
        let file = moves_file(cx, &native);
        let (moves, record) = match Moves::begun(&file)? {
            Some(begun) => begun,
            None => {
                let (old, new) = self.contents(cx, &native)?;
                if old.as_ref() == Some(&new) {
                    return Ok(Applied::ok("already as wanted"));
                }
                let (folder, name) = split(&native)?;
                let areas = volumes::areas_beside(cx, &native)?;
                let staged = areas.stage.join("file");
                files::write(&staged, &new)?;
                give_file_rights(cx, old.is_some().then_some(native.as_path()), &native, &staged, false)?;
                let mut moves = Moves::below(&folder, &areas);
                moves.over = true;
                moves.watch = Some(Watch::default());
                moves.take(name.clone())?;
                moves.bring(name, "file")?;
                let record = moves.write(&file)?;
                (moves, record)
            }
        };
        cx.undo_log.intend(UndoRecord::File(FileUndo { moves: record }))?;
        moves.run(cx)?;
        Ok(Applied::changed(if moves.outs.is_empty() { "made" } else { "changed" }))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileUndo {
    pub moves: MovesRecord,
}

impl FileUndo {
    /// Puts the old file back, or removes the new one.
    ///
    /// # Errors
    /// When the rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}
