//! A limit on bytes per second, shared by all links of a run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Hands out sending time: each caller gets the next free stretch of it, so links share the rate in turn.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: u64,
    free_from: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// A limit; a rate of zero counts as one byte per second.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_from: Mutex::new(None) }
    }

    /// Waits until this many bytes may be sent.
    pub async fn take(&self, bytes: u64) {
        let at = self.reserve(bytes, Instant::now());
        tokio::time::sleep_until(at).await;
    }

    fn reserve(&self, bytes: u64, now: Instant) -> Instant {
        let mut free_from = self.free_from.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_from.map_or(now, |at| at.max(now));
        *free_from = Some(start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64));
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn callers_share_the_rate() {
        let limit = Arc::new(RateLimit::new(1_000));
        let begun = Instant::now();
        let callers: Vec<_> = (0..10)
            .map(|_| {
                let limit = Arc::clone(&limit);
                tokio::spawn(async move { limit.take(500).await })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        // The last of ten may begin when the nine before it had their half second each (timers tick in milliseconds).
        let took = begun.elapsed();
        assert!((4_500..4_510).contains(&took.as_millis()), "{took:?}");
    }
}
