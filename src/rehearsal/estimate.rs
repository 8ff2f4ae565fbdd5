//! What a rehearsal says about the real thing.

use serde::{Deserialize, Serialize};

/// A finished run, as its events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    /// Bytes sent to all instruments.
    pub bytes_sent: u64,
    /// Start to end.
    pub ms: u64,
    /// The longest outage of an instrument.
    pub outage_ms: u64,
}

/// How long the real thing may take. All times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// For the bytes over the network, while IBEX runs.
    pub transfer_ms: u64,
    /// The outage of one instrument; nothing when no run is known.
    pub outage_ms: Option<u64>,
    /// All of it; nothing when no run is known.
    pub total_ms: Option<u64>,
    /// How many past runs it is drawn from.
    pub runs: usize,
}

/// Estimates a run that sends `bytes` in all over a network of `bandwidth` bytes a second, from past runs: their
/// middle outage, and the middle of what they took, with the time to send their own bytes replaced by that for these.
pub fn estimate(bytes: u64, bandwidth: u64, past: &[PastRun]) -> Estimate {
    let transfer = |bytes: u64| u64::try_from(u128::from(bytes) * 1000 / u128::from(bandwidth.max(1))).unwrap_or(u64::MAX);
    let transfer_ms = transfer(bytes);
    let work = middle(past.iter().map(|r| r.ms.saturating_sub(transfer(r.bytes_sent))).collect());
    Estimate {
        transfer_ms,
        outage_ms: middle(past.iter().map(|r| r.outage_ms).collect()),
        total_ms: work.map(|work| work.saturating_add(transfer_ms)),
        runs: past.len(),
    }
}

/// The median; of an even number the higher of the two, to promise less.
fn middle(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_counts_and_past_runs_add_their_work() {
        let none = estimate(30_000_000_000, 100_000_000, &[]);
        assert_eq!(none, Estimate { transfer_ms: 300_000, outage_ms: None, total_ms: None, runs: 0 });
        let run = |bytes_sent, ms, outage_ms| PastRun { bytes_sent, ms, outage_ms };
        let past = [run(0, 60_000, 9_000), run(1_000_000_000, 100_000, 20_000), run(0, 500_000, 10_000)];
        let some = estimate(2_000_000_000, 100_000_000, &past);
        assert_eq!(some, Estimate { transfer_ms: 20_000, outage_ms: Some(10_000), total_ms: Some(110_000), runs: 3 });
        assert_eq!(estimate(5, 0, &[]).transfer_ms, 5_000);
    }
}
