//! `ibexdeploy hotfix pack`.

use crate::cli::{GlobalOptions, document, exit};
use crate::error::{Error, Result};
use crate::kit::hotfix::{GitRange, Head, Restart, pack_folder, pack_git};
use crate::report::{self, Screen};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Make the archive of a hotfix: of a folder, or of what changed between two commits
#[derive(Debug, Args)]
#[command(override_usage = "ibexdeploy hotfix pack [OPTIONS] <FOLDER | --git RANGE> -o <PATCH.zip>")]
pub(super) struct Pack {
    /// A folder that holds folders of components (EPICS, Client, genie_python_3), and may hold a hotfix.yaml
    #[arg(value_name = "FOLDER", required_unless_present = "git", conflicts_with = "git")]
    folder: Option<PathBuf>,
    /// What changed in a git tree: `A..B`, or one commit
    #[arg(long, value_name = "RANGE")]
    git: Option<String>,
    /// With --git: a folder in the git tree [default: where you are]
    #[arg(long, value_name = "DIR", requires = "git")]
    repo: Option<PathBuf>,
    /// With --git: the component that the tree is
    #[arg(long, value_name = "NAME", requires = "git", default_value = "EPICS")]
    component: String,
    /// The archive to make
    #[arg(short = 'o', long = "to", value_name = "PATCH.zip", required = true)]
    to: PathBuf,
    /// The hotfix's name on the instruments [default: that in hotfix.yaml, else the archive's]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// What it mends [default: that in hotfix.yaml, else the subject of the newest commit]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A version that must be installed, for example EPICS=26.8.0
    #[arg(long, value_name = "COMPONENT=VERSION")]
    requires: Vec<String>,
    /// What has to be restarted: `none`, `server`, or names of IOCs joined by commas
    #[arg(long, value_name = "WHAT", value_parser = restart)]
    restart: Option<Restart>,
}

fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "none" => Ok(Restart::None),
        "server" => Ok(Restart::Server),
        names => {
            let names: Vec<String> =
                names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
            if names.is_empty() { Err("write `none`, `server`, or names of IOCs".to_owned()) } else { Ok(Restart::Iocs(names)) }
        }
    }
}

impl Pack {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let said = self.said()?;
        let packed = match (&self.folder, self.git) {
            (Some(folder), _) => pack_folder(folder, &said, &self.to)?,
            (None, Some(range)) => {
                let repository = self.repo.unwrap_or_else(|| PathBuf::from("."));
                pack_git(&GitRange { repository, range, component: self.component }, &said, &self.to)?
            }
            (None, None) => return Err(Error::usage("what shall be packed?").next("name a folder, or a range with --git A..B")),
        };
        let to = self.to.display();
        document(global, &packed.patch, || format!("{to}\n{}", report::hotfix(&packed.patch, Screen::of_stdout())))?;
        Ok(exit::OK)
    }

    /// What the options say, which wins over what is in the folder.
    fn said(&self) -> Result<Head> {
        let mut requires = BTreeMap::new();
        for text in &self.requires {
            let (component, version) = text.split_once('=').filter(|(c, v)| !c.is_empty() && !v.is_empty()).ok_or_else(|| {
                Error::usage(format!("`--requires {text}` has no component or no version")).next("write --requires EPICS=26.8.0")
            })?;
            requires.insert(component.to_owned(), version.to_owned());
        }
        Ok(Head {
            id: self.id.clone(),
            description: self.description.clone().unwrap_or_default(),
            requires,
            restart: self.restart.clone().unwrap_or_default(),
            ..Head::default()
        })
    }
}
