//! `ibexdeploy install`.

use super::GlobalOptions;
use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use crate::error::{Error, Result};
use crate::inventory::{Instrument, Inventory, Selection};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;

/// Install IBEX on machines that do not have it
#[derive(Debug, Args)]
pub(super) struct Install {
    #[command(flatten)]
    options: PlaybookOptions,
    /// What the machine is
    #[arg(long, value_enum)]
    profile: Profile,
    /// The release, by name or as a folder [default: the newest]
    #[arg(long, value_name = "VERSION|DIR")]
    kit: Option<String>,
}

/// What a machine is before IBEX is installed on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// A new instrument, with no control system yet
    New,
    /// It has SECI, which stays as it is and able to run
    BesideSeci,
}

impl Profile {
    fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::BesideSeci => "beside-seci",
        }
    }

    /// Refuses machines that the inventory says are something else.
    fn fits(self, chosen: &[&Instrument]) -> Result<()> {
        let wants_seci = self == Self::BesideSeci;
        let Some(other) = chosen.iter().find(|i| i.seci.is_some() != wants_seci) else { return Ok(()) };
        let (has, next) = match self {
            Self::New => ("has SECI", "install it with `--profile beside-seci`, or take `seci:` out of the inventory"),
            Self::BesideSeci => ("has no SECI", "install it with `--profile new`, or give it `seci: {}` in the inventory"),
        };
        Err(Error::usage(format!("{} {has} by the inventory", other.name)).at(other.position.clone()).next(next))
    }
}

impl Install {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        // Before anything is made or contacted.
        let selection = Selection::from_options(&self.options.targets);
        self.profile.fits(&Inventory::load(&global.inventory)?.select(&selection)?)?;
        let (fleet, remote) = Fleet::choose_bare(global, &self.options.targets)?;
        let mut set = BTreeMap::from([("profile".to_owned(), self.profile.word().into())]);
        if let Some(remote) = remote {
            set.insert("settings_remote".to_owned(), remote.display().to_string().into());
        }
        let wanted = Wanted { playbook: "install", kit: self.kit.as_deref(), set, ..Wanted::default() };
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}
