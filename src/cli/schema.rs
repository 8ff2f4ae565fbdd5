//! `ibexdeploy schema inventory|playbook|hotfix|migrations|migration-chain`.

use super::{exit, write_out};
use crate::error::{Error, Result};
use crate::kit::hotfix::Head;
use crate::{inventory, migrate, playbook};
use clap::{Args, ValueEnum};

/// Print the JSON Schema of a file, for editors that complete and check
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// The kind of file
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Inventory,
    Playbook,
    /// `hotfix.yaml` in the archive of a hotfix
    Hotfix,
    /// A file of the folder of migrations: what leads from one version of the settings to the next
    Migrations,
    /// The list of the versions, `chain.yaml`
    MigrationChain,
}

impl Schema {
    pub(super) fn run(self) -> Result<u8> {
        let schema = match self.kind {
            Kind::Inventory => inventory::schema(),
            Kind::Playbook => schemars::schema_for!(playbook::Playbook),
            Kind::Hotfix => schemars::schema_for!(Head),
            Kind::Migrations => schemars::schema_for!(migrate::Migration),
            Kind::MigrationChain => schemars::schema_for!(migrate::model::ChainFile),
        };
        let text = serde_json::to_string_pretty(&schema).map_err(|e| Error::internal("cannot write JSON").because(e))?;
        write_out(format!("{text}\n"))?;
        Ok(exit::OK)
    }
}
