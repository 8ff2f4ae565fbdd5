//! `ibexdeploy playbook list|show|check`.

use super::{GlobalOptions, exit, table, write_out};
use crate::error::{Error, Result};
use crate::playbook::{self, LoadedPlaybook, LoadedStep, Phase};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Show and check playbooks
#[derive(Debug, Args)]
pub(super) struct Playbook {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The playbooks, and what each is for
    List,
    /// The steps of a playbook, with those that it includes
    Show {
        /// Its name, or a file
        name: String,
    },
    /// Check playbooks, and tell every mistake; all of them when none is named
    Check {
        /// Names, or files
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

impl Playbook {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let (text, code) = match self.command {
            Command::List => (list(global)?, exit::OK),
            Command::Show { name } => {
                let loaded = playbook::load(&global.playbooks, &name)?;
                (if global.wants_json() { document(&as_data(&loaded))? } else { show(&loaded) }, exit::OK)
            }
            Command::Check { names } => check(global, names)?,
        };
        write_out(&text)?;
        Ok(code)
    }
}

fn document(value: &Value) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::internal("cannot write JSON").because(e))?;
    Ok(text + "\n")
}

fn list(global: &GlobalOptions) -> Result<String> {
    let listed = playbook::list(&global.playbooks)?;
    if global.wants_json() {
        let data = listed.iter().map(|l| {
            let (description, error) = (l.description.as_ref().ok(), l.description.as_ref().err());
            json!({"name": l.name, "file": l.file, "description": description, "error": error})
        });
        return document(&Value::Array(data.collect()));
    }
    let rows = listed.iter().map(|l| {
        let said = l.description.as_ref().map_or_else(|e| format!("has mistakes: {e}"), Clone::clone);
        [l.name.clone(), said]
    });
    Ok(table::draw(["PLAYBOOK", "WHAT IT IS FOR"], rows))
}

fn show(loaded: &LoadedPlaybook) -> String {
    let mut text = format!("{}: {}\n", loaded.name, loaded.description);
    for (name, value) in &loaded.vars {
        let _ = writeln!(text, "  variable {name}, {value} unless said");
    }
    for phase in Phase::ALL {
        let steps: Vec<&LoadedStep> = loaded.steps.iter().filter(|s| s.phase == phase).collect();
        if steps.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{phase}\n");
        let rows = steps.iter().enumerate().map(|(n, step)| {
            let position = loaded.position(step, "");
            [
                format!("  {:02}", n + 1),
                step.action.name().to_owned(),
                title(step),
                step.step.when.clone().unwrap_or_default(),
                format!("{}:{}", position.file, position.line),
            ]
        });
        text.push_str(&table::draw(["  NO", "ACTION", "STEP", "WHEN", "WRITTEN AT"], rows));
    }
    text
}

fn title(step: &LoadedStep) -> String {
    step.step.name.clone().unwrap_or_else(|| step.action.performer().describe())
}

fn as_data(loaded: &LoadedPlaybook) -> Value {
    let steps = loaded.steps.iter().map(|step| {
        let position = loaded.position(step, "");
        json!({
            "phase": step.phase, "action": step.action.name(), "name": title(step), "when": step.step.when,
            "tags": step.step.tags, "file": position.file, "line": position.line,
        })
    });
    json!({
        "name": loaded.name, "description": loaded.description, "vars": loaded.vars,
        "files": loaded.files.iter().map(|f| &f.path).collect::<Vec<_>>(), "steps": steps.collect::<Vec<_>>(),
    })
}

fn check(global: &GlobalOptions, names: Vec<String>) -> Result<(String, u8)> {
    let names = match names.is_empty() {
        true => playbook::list(&global.playbooks)?.into_iter().map(|l| l.name).collect(),
        false => names,
    };
    let found: Vec<(&String, Vec<Error>)> =
        names.iter().map(|name| (name, playbook::problems(Path::new(&global.playbooks), name))).collect();
    let well = found.iter().all(|(_, problems)| problems.is_empty());
    let code = if well { exit::OK } else { exit::BAD_INPUT };
    if global.wants_json() {
        let data = found.iter().map(|(name, problems)| json!({"playbook": name, "problems": problems}));
        return Ok((document(&Value::Array(data.collect()))?, code));
    }
    let mut text = String::new();
    for (name, problems) in &found {
        problems.iter().for_each(|problem| text.push_str(&crate::report::error(problem, global.screen())));
        let _ = match problems.len() {
            0 => writeln!(text, "{name}: no mistakes"),
            1 => writeln!(text, "{name}: 1 mistake"),
            n => writeln!(text, "{name}: {n} mistakes"),
        };
    }
    Ok((text, code))
}
