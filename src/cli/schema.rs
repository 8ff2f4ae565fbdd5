//! `ibexdeploy schema inventory|playbook`.

use super::{exit, write_out};
use crate::error::{Error, Result};
use crate::{inventory, playbook};
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
}

impl Schema {
    pub(super) fn run(self) -> Result<u8> {
        let schema = match self.kind {
            Kind::Inventory => inventory::schema(),
            Kind::Playbook => schemars::schema_for!(playbook::Playbook),
        };
        let text = serde_json::to_string_pretty(&schema).map_err(|e| Error::internal("cannot write JSON").because(e))?;
        write_out(&format!("{text}\n"))?;
        Ok(exit::OK)
    }
}
