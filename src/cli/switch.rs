//! `ibexdeploy switch`.

use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use super::{GlobalOptions, output};
use crate::error::{Error, Result};
use crate::inventory::{Instrument, Inventory, Selection};
use crate::nearest::nearest;
use clap::Args;
use std::collections::BTreeMap;

/// Change hybrids from IBEX to SECI or back; what ran before runs again when anything fails
///
/// The last word says which is wanted: `ibexdeploy switch NDXLARMOR seci`, `ibexdeploy switch NDXLARMOR ibex`.
#[derive(Debug, Args)]
#[command(override_usage = "ibexdeploy switch [OPTIONS] [PATTERN]... <ibex|seci>")]
pub(super) struct Switch {
    #[command(flatten)]
    options: PlaybookOptions,
}

/// The systems that can be switched to.
const SYSTEMS: [&str; 2] = ["ibex", "seci"];

impl Switch {
    pub(super) fn run(mut self, global: &GlobalOptions) -> Result<u8> {
        let to = taken(&mut self.options.targets.patterns)?;
        // Before anything is made or contacted.
        only_hybrids(&Inventory::load(&global.inventory)?.select(&Selection::from_options(&self.options.targets))?)?;
        let fleet = Fleet::choose(global, &self.options.targets)?;
        if to == "seci" {
            warn_of_retired(&fleet.instruments());
        }
        let set = BTreeMap::from([("to".to_owned(), to.into())]);
        let prepared = prepare(global, fleet, &self.options.run, &Wanted { playbook: "switch", set, ..Wanted::default() })?;
        go(global, prepared, &self.options.run)
    }
}

/// Takes the wanted system, which is the last of the words.
fn taken(words: &mut Vec<String>) -> Result<&'static str> {
    let last = words.pop().unwrap_or_default();
    if let Some(system) = SYSTEMS.into_iter().find(|s| s.eq_ignore_ascii_case(&last)) {
        return Ok(system);
    }
    let usage = "write it last, as in `ibexdeploy switch NDXLARMOR seci`";
    let next = nearest(&last, SYSTEMS).map_or_else(|| usage.to_owned(), |near| format!("did you mean `{near}`?"));
    Err(Error::usage("which system to switch to is not said: it is `ibex` or `seci`").next(next))
}

/// Refuses machines that do not have both systems.
fn only_hybrids(chosen: &[&Instrument]) -> Result<()> {
    let others: Vec<&Instrument> = chosen.iter().copied().filter(|i| i.seci.is_none()).collect();
    let Some(first) = others.first() else { return Ok(()) };
    let names: Vec<&str> = others.iter().map(|i| i.name.as_str()).collect();
    let what = if names.len() == 1 { "has" } else { "have" };
    Err(Error::usage(format!("{} {what} IBEX only: there is no SECI to switch to or from", names.join(", ")))
        .at(first.position.clone())
        .next("choose hybrids alone, for example with `--only hybrid`; a hybrid has `seci:` in the inventory"))
}

fn warn_of_retired(chosen: &[&Instrument]) {
    let today = jiff::Zoned::now().date();
    for instrument in chosen {
        if let Some(date) = instrument.seci.as_ref().and_then(|s| s.retired_by(today)) {
            output::warn(&format!("{}: SECI was to retire on {date}; it may no longer be fit to be used", instrument.name));
        }
    }
}
