//! How long the real thing takes, from a rehearsal's sizes, a bandwidth and past runs.

use super::style::Screen;
use super::text::{count, duration, size, wrap};
use crate::events::{RunId, RunState};
use crate::playbook::Phase;
use std::fmt::Write;
use std::num::NonZeroU64;

/// What an estimate is made from.
#[derive(Debug, Clone, Default)]
pub struct EstimateFrom {
    pub playbook: String,
    pub instruments: usize,
    /// How many work at once.
    pub at_once: usize,
    /// Bytes that would go to all instruments together.
    pub bytes: u64,
    /// Bytes per second over all links together; nothing when it is unknown.
    pub bandwidth: Option<NonZeroU64>,
    /// Runs of the same playbook, the newest first; rehearsals count only when nothing else is there.
    pub past: Vec<PastRun>,
}

/// What a past run tells about the next one. Times are milliseconds, of the instrument in the middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    pub run: RunId,
    pub playbook: String,
    pub rehearsal: bool,
    /// Without IBEX.
    pub outage_ms: u64,
    /// Everything but `stage`.
    pub work_ms: u64,
}

impl PastRun {
    /// What a run tells; nothing when no instrument of it ended well.
    pub fn of(state: &RunState) -> Option<Self> {
        let well = || state.instruments.iter().filter(|i| i.outcome.is_some_and(|o| o.is_good()));
        let work = |i: &crate::events::InstrumentState| {
            i.phases.iter().filter(|(phase, _)| **phase != Phase::Stage).fold(0u64, |sum, (_, ms)| sum.saturating_add(*ms))
        };
        Some(Self {
            run: state.run.clone()?,
            playbook: state.playbook.clone(),
            rehearsal: state.rehearsal,
            outage_ms: middle(well().map(|i| i.outage.ms))?,
            work_ms: middle(well().map(work))?,
        })
    }
}

/// How long a run takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Bringing the files, while IBEX runs; nothing when the bandwidth is unknown.
    pub staging_ms: Option<u64>,
    /// One instrument without IBEX; nothing when no run tells.
    pub outage_ms: Option<u64>,
    /// From the start to the end of all; nothing when the bandwidth is unknown, and only the least when no run tells.
    pub total_ms: Option<u64>,
    /// What it takes for granted, a sentence each.
    pub assumptions: Vec<String>,
}

/// Estimates how long a run on the instruments takes.
pub fn estimate(from: &EstimateFrom) -> Estimate {
    let mut assumptions = Vec::new();
    let bytes = format!("{} go to {}", size(from.bytes), count(from.instruments, "instrument"));
    let staging_ms =
        from.bandwidth.map(|b| u64::try_from(u128::from(from.bytes) * 1000 / u128::from(b.get())).unwrap_or(u64::MAX));
    assumptions.push(match from.bandwidth {
        Some(b) => format!("{bytes} at {} a second over all links together, read and written as fast as that", size(b.get())),
        None => format!("{bytes} in a time that is left out: say how fast with --bandwidth"),
    });
    let same = || from.past.iter().filter(|p| p.playbook == from.playbook);
    let real: Vec<&PastRun> = same().filter(|p| !p.rehearsal).collect();
    let used = if real.is_empty() { same().collect() } else { real.clone() };
    // Where IBEX did not run, as on new sandboxes, nothing was stopped: then all that comes after staging counts.
    let outage_ms = middle(used.iter().map(|p| if p.outage_ms == 0 { p.work_ms } else { p.outage_ms }));
    let work_ms = middle(used.iter().map(|p| p.work_ms)).unwrap_or(0);
    assumptions.push(match used.as_slice() {
        [] => "nothing is known of the time that the steps themselves take: no past run tells".to_owned(),
        [first, ..] if real.is_empty() => format!(
            "the steps take as long as in {} (the newest is {}): the site's own scripts, services and reboots are only played there, the real ones take longer",
            count(used.len(), "rehearsal"), first.run
        ),
        [first, ..] => format!("the steps take as long as in {} (the newest is {})", count(used.len(), "past run"), first.run),
    });
    let at_once = from.at_once.max(1);
    let rounds = from.instruments.div_ceil(at_once) as u64;
    if rounds > 1 {
        assumptions.push(format!("{at_once} instruments work at once, so in {rounds} rounds"));
    }
    let total_ms = staging_ms.map(|staging| staging.saturating_add(work_ms.saturating_mul(rounds)));
    Estimate { staging_ms, outage_ms, total_ms, assumptions }
}

impl Estimate {
    /// The estimate as lines, each ended.
    pub fn text(&self, screen: Screen) -> String {
        let mut text = format!("{}\n", screen.bold("The real thing, estimated:"));
        let known = |ms: Option<u64>| ms.map_or_else(|| "unknown".to_owned(), duration);
        let _ = writeln!(text, "  staging  {} (IBEX runs)", known(self.staging_ms));
        let _ = writeln!(text, "  outage   {} for each instrument", known(self.outage_ms));
        let least = if self.outage_ms.is_none() && self.total_ms.is_some() { "at least " } else { "" };
        let _ = writeln!(text, "  all      {least}{}", known(self.total_ms));
        text.push_str("  taken for granted:\n");
        for assumption in &self.assumptions {
            let _ = writeln!(text, "{}", wrap(assumption, screen.width, "  - ", "    "));
        }
        text
    }
}

/// The value in the middle.
fn middle(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut all: Vec<u64> = values.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}
