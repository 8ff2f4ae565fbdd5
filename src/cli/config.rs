//! `--config`: what an operator would otherwise write on every command line.

use super::{GlobalOptions, OutputForm};
use crate::error::Result;
use crate::inventory::secrets::at_home;
use crate::yaml;
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The file; every key is an option of the same name. Relative paths are relative to the file's folder, and `~` is the
/// operator's home.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    inventory: Option<String>,
    playbooks: Option<String>,
    kits: Option<String>,
    state: Option<String>,
    output: Option<Form>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Pretty,
    Plain,
    Json,
}

/// Fills in what neither the command line nor the environment says.
///
/// # Errors
/// When the file cannot be read or is not right.
pub(super) fn apply(global: &mut GlobalOptions, matches: &ArgMatches) -> Result<()> {
    let Some(file) = global.config.clone().or_else(usual_file) else { return Ok(()) };
    let (config, _) = yaml::load::<Config>(&file)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let beside = |path: String| at_home(&path).map(|path| folder.join(path));
    let unsaid = |name: &str| !matches!(matches.value_source(name), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
    if let Some(inventory) = config.inventory.filter(|_| unsaid("inventory")) {
        global.inventory = beside(inventory)?;
    }
    if let Some(playbooks) = config.playbooks.filter(|_| unsaid("playbooks")) {
        global.playbooks = beside(playbooks)?;
    }
    if let Some(kits) = config.kits.filter(|_| unsaid("kits")) {
        global.kits = Some(beside(kits)?);
    }
    if let Some(state) = config.state.filter(|_| unsaid("state")) {
        global.state = Some(beside(state)?);
    }
    if let Some(output) = config.output.filter(|_| unsaid("output")) {
        global.output = Some(match output {
            Form::Pretty => OutputForm::Pretty,
            Form::Plain => OutputForm::Plain,
            Form::Json => OutputForm::Json,
        });
    }
    Ok(())
}

/// `ibexdeploy/config.yaml` in the user's folder for settings, when it is there.
fn usual_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = match cfg!(windows) {
        true => set("APPDATA"),
        false => set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config"))),
    }?;
    Some(folder.join("ibexdeploy").join("config.yaml")).filter(|file| file.is_file())
}
