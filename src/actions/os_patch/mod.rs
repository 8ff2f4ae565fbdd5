//! `os_patch`: updates of the operating system, until nothing is left or a limit is reached.

mod course;
mod rounds;

use super::{Applied, Difference, FetchStats, Perform, Probe, StepContext};
use crate::error::Result;
use crate::paths::Place;
use crate::platform::updates::Update;
use crate::units::{Count, Size, Span};
use rounds::Rounds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use wildmatch::WildMatch;

/// Installs updates of the operating system: searches, installs what is offered, restarts the machine where that is needed,
/// and searches again, until nothing is left or a limit is reached. An update that fails is tried once more, and does not
/// keep the others from being installed; the step fails at its end, and names it. Updates are not taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OsPatch {
    /// A folder with packages (`.msu`, `.cab`, `.msi`, `.msp`, `.exe`), which are installed in the order of their names. What
    /// Windows Update offers, while it is empty or left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,
    /// Only updates with one of these in their title or number; `*` and `?` stand for parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Updates that are left out, as in `only`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// How many updates are installed at most; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Count>,
    /// How often it is searched and installed at most; 6 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<Count>,
    /// Restarts the machine where updates need it; true unless said. Without it, updates that come after a restart are left.
    #[serde(default = "yes")]
    pub restart: bool,
    /// How long the people at the screen are warned before a restart; none unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<Span>,
    /// How long one update may take; 90 min unless said. One that takes longer is ended, and counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Span>,
    /// How long another installation is waited for; 15 min unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Span>,
}

fn yes() -> bool {
    true
}

const LIMIT: u32 = 100;
const ROUNDS: u32 = 6;
const EACH: Span = Span(Duration::from_secs(90 * 60));
const BUSY: Span = Span(Duration::from_secs(15 * 60));

impl OsPatch {
    fn limit(&self) -> Result<u32> {
        self.limit.as_ref().map_or(Ok(LIMIT), Count::number)
    }

    fn rounds(&self) -> Result<u32> {
        self.rounds.as_ref().map_or(Ok(ROUNDS), Count::number)
    }

    fn each(&self) -> Span {
        self.each.unwrap_or(EACH)
    }

    fn busy(&self) -> Span {
        self.busy.unwrap_or(BUSY)
    }

    /// The folder of packages, when they come from one.
    fn folder(&self) -> Option<&Place> {
        self.from.as_ref().filter(|place| !place.as_str().is_empty())
    }

    fn wants(&self, update: &Update) -> bool {
        let matches = |pattern: &String| {
            let pattern = WildMatch::new_case_insensitive(&format!("*{pattern}*"));
            pattern.matches(&update.title) || pattern.matches(&update.id)
        };
        (self.only.is_empty() || self.only.iter().any(matches)) && !self.except.iter().any(matches)
    }
}

impl Perform for OsPatch {
    fn describe(&self) -> String {
        match self.folder() {
            Some(folder) => format!("updates from {folder}"),
            None => "updates of the operating system".to_owned(),
        }
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        self.limit()?;
        self.rounds()?;
        let offered = Rounds::look(self, cx)?;
        let bytes: u64 = offered.iter().map(|u| u.bytes).sum();
        let size = if bytes == 0 { String::new() } else { format!(", {}", Size(bytes)) };
        let (difference, summary) = match offered.len() {
            0 => (Difference::None, "no updates are offered".to_owned()),
            n => (Difference::Some, format!("{n} updates are offered now{size}; more may come after them")),
        };
        let items = offered.iter().map(|u| format!("{} {}", u.id, u.title)).collect();
        Ok(Probe { difference, summary, items, ..Probe::default() })
    }

    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        // Better found now than while IBEX is stopped. What Windows Update offers is searched for later.
        if let Some(folder) = self.folder() {
            rounds::packages(&cx.native(folder)?, cx.path(folder)?.as_str())?;
        }
        Ok(FetchStats::default())
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        Rounds::open(self, cx)?.go()
    }

    fn cannot_undo(&self) -> bool {
        true
    }
}
