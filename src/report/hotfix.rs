//! Hotfixes, for people: what an archive holds, and what instruments have.

use super::text::{clean, count, size, wrap};
use super::{Column, Screen, Table, Verbosity};
use crate::actions::hotfix::HotfixState;
use crate::error::Error;
use crate::kit::hotfix::{Patch, PatchPath, Restart};
use serde::Serialize;
use std::fmt::Write;

/// Files that are named before an operator confirms; of more only their number is told.
const NAMED: usize = 40;

/// What an archive holds, some lines, each indented.
pub fn hotfix(patch: &Patch, screen: Screen) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = writeln!(text, "  hotfix {}", screen.bold(&clean(&patch.id)));
    if !patch.description.is_empty() {
        let _ = writeln!(text, "{}", wrap(&clean(&patch.description), screen.width, "    ", "    "));
    }
    for (component, version) in &patch.requires {
        let _ = writeln!(text, "    requires {} {}", clean(component), clean(version));
    }
    let restarts = match &patch.restart {
        Restart::None => "nothing".to_owned(),
        Restart::Server => "the IBEX server".to_owned(),
        Restart::Iocs(names) => names.join(", "),
    };
    let _ = writeln!(text, "    restarts {restarts}");
    let mut lines: Vec<String> = Vec::new();
    for file in &patch.files {
        let path = PatchPath { component: file.component.clone(), path: file.path.clone() };
        lines.push(format!("    {} ({})", clean(&path.to_string()), size(file.size)));
    }
    lines.extend(patch.deletes.iter().map(|path| format!("    {} is deleted", clean(&path.to_string()))));
    let more = lines.len().saturating_sub(NAMED);
    for line in lines.iter().take(NAMED) {
        let _ = writeln!(text, "{line}");
    }
    if more > 0 {
        let _ = writeln!(text, "    and {more} more");
    }
    if !patch.checks.is_empty() {
        let _ = writeln!(text, "    {} afterwards", count(patch.checks.len(), "check"));
    }
    text
}

/// One instrument's answer to `hotfix --list`.
#[derive(Debug, Serialize)]
pub struct HotfixRow {
    pub instrument: String,
    /// The oldest first.
    pub hotfixes: Vec<HotfixState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// The hotfixes of instruments as a table; with `verbose` each file of them.
pub fn hotfixes(rows: &[HotfixRow], verbose: Verbosity, screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("INSTRUMENT"),
        Column::new("HOTFIX"),
        Column::new("SINCE"),
        Column::new("BY"),
        Column::new("FILES").right(),
        Column::new("CHANGED").right(),
        Column::new("DESCRIPTION").cut(),
    ]);
    let (mut found, mut below) = (0, String::new());
    for row in rows {
        for state in &row.hotfixes {
            found += 1;
            let hotfix = &state.hotfix;
            let changed = if state.changed.is_empty() { String::new() } else { state.changed.len().to_string() };
            table.row([
                row.instrument.clone(),
                clean(&hotfix.id).into_owned(),
                hotfix.at.strftime("%Y-%m-%d %H:%M").to_string(),
                clean(&hotfix.operator).into_owned(),
                hotfix.files.len().to_string(),
                changed,
                clean(&hotfix.description).into_owned(),
            ]);
            below.push_str(&files_of(&row.instrument, state, verbose));
        }
        if let Some(error) = &row.error {
            below.push_str(&super::error(&error.clone().on_host(&row.instrument), screen));
        }
    }
    let mut text = if found == 0 { String::new() } else { table.render(screen) };
    text.push_str(&below);
    let answered = rows.iter().filter(|row| row.error.is_none()).count();
    let number = if found == 1 { "1 hotfix".to_owned() } else { format!("{found} hotfixes") };
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{number} on {}", count(answered, "instrument"));
    text
}

fn files_of(instrument: &str, state: &HotfixState, verbose: Verbosity) -> String {
    let mut text = String::new();
    let id = &state.hotfix.id;
    if verbose > 0 {
        for file in &state.hotfix.files {
            let what = match (file.before, file.after) {
                (None, None) => "was not there",
                (None, _) => "added",
                (_, None) => "deleted",
                _ => "replaced",
            };
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{instrument}: {id}: {} {what}", clean(&file.named().to_string()));
        }
    }
    for path in &state.changed {
        let _ = writeln!(text, "{instrument}: {id}: {} was changed since", clean(path));
    }
    text
}

/// Lines of `status` about the hotfixes of an instrument.
pub(super) fn status_lines(instrument: &str, hotfixes: &[HotfixState]) -> String {
    let mut text = String::new();
    for state in hotfixes {
        let hotfix = &state.hotfix;
        let what = if hotfix.description.is_empty() { String::new() } else { format!(": {}", clean(&hotfix.description)) };
        let changed = match state.changed.len() {
            0 => String::new(),
            n => format!("; {} changed since", count(n, "file")),
        };
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{instrument}: hotfix {}{what} ({} since {}{changed})",
            clean(&hotfix.id),
            count(hotfix.files.len(), "file"),
            hotfix.at.strftime("%Y-%m-%d")
        );
    }
    text
}
