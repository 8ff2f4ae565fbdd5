//! A playbook and instruments to a plan.

use super::instrument::{check_set, check_tags, plan_instrument};
use super::model::{Hold, KitSummary, PLAN_FORMAT, Plan, Target};
use super::saved::sources;
use crate::actions::hotfix::HotfixPolicy;
use crate::content::ContentHash;
use crate::error::Result;
use crate::events::RunId;
use crate::inventory::{Instrument, Inventory};
use crate::kit::Kit;
use crate::kit::hotfix::PatchStore;
use crate::playbook::LoadedPlaybook;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything a plan is made from.
#[derive(Debug)]
pub struct PlanRequest<'a> {
    pub playbook: &'a LoadedPlaybook,
    /// In the order in which they are to stand in the plan.
    pub instruments: Vec<&'a Instrument>,
    pub inventory: &'a Inventory,
    pub kit: Option<&'a Kit>,
    pub run: RunId,
    pub created: Timestamp,
    /// user@host of who makes it.
    pub operator: String,
    pub rehearsal: bool,
    pub hold: Hold,
    /// Only steps with one of these tags; all when empty.
    pub tags: Vec<String>,
    /// No steps with one of these tags.
    pub skip_tags: Vec<String>,
    /// What a release does with installed hotfixes.
    pub hotfixes: HotfixPolicy,
    /// Reads the archives of hotfixes.
    pub patches: &'a PatchStore,
    /// Values that win over those of playbook and inventory.
    pub set: BTreeMap<String, Value>,
}

/// Makes the plan. Contacts no instrument; reads only the files that the playbook names. The same request gives a plan
/// with the same digest.
///
/// # Errors
/// The first mistake that only shows with an instrument and a kit at hand: an undefined name, an unknown place,
/// component or secret, targets that lie inside each other; with its place and the instrument's name.
pub fn make(request: &PlanRequest<'_>) -> Result<Plan> {
    check_set(request)?;
    check_tags(request)?;
    let mut read = BTreeMap::new();
    let mut targets = Vec::with_capacity(request.instruments.len());
    for instrument in &request.instruments {
        let plan = plan_instrument(request, instrument, &mut read).map_err(|e| e.on_host(&instrument.name))?;
        targets.push(Target { transport: instrument.transport.clone(), plan });
    }
    Ok(Plan {
        format: PLAN_FORMAT,
        run: request.run.clone(),
        created: request.created,
        operator: request.operator.clone(),
        playbook: request.playbook.name.clone(),
        sources: sources(request, &read),
        kit: request.kit.map(summary),
        rehearsal: request.rehearsal,
        targets,
    })
}

fn summary(kit: &Kit) -> KitSummary {
    let borrowed = kit.components.iter().filter(|(_, c)| c.borrowed).map(|(name, c)| (name.clone(), c.release.clone()));
    KitSummary { version: kit.version.clone(), folder: kit.folder.clone(), borrowed: borrowed.collect() }
}

/// The texts that steps name (`template:`), by path as shown, with what they hold: each is read once. An archive is among
/// them without its text.
pub(super) type ReadFiles = BTreeMap<String, (ContentHash, String)>;
