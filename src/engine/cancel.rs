//! The operator's wish to stop, which grows: once is gentle, twice is at once.

use crate::link::Stop;
use tokio::sync::watch;

/// The side that wishes.
#[derive(Debug)]
pub struct Canceller(watch::Sender<Stop>);

/// The side that obeys.
#[derive(Debug, Clone)]
pub struct CancelToken(watch::Receiver<Stop>);

/// A wish and its listener.
pub fn cancellation() -> (Canceller, CancelToken) {
    let (wish, ear) = watch::channel(Stop::No);
    (Canceller(wish), CancelToken(ear))
}

impl Canceller {
    /// The first call finishes open steps and starts nothing new; the second cancels and rolls back.
    pub fn more(&self) {
        self.0.send_modify(|stop| *stop = if *stop == Stop::No { Stop::AfterStep } else { Stop::Now });
    }
}

impl CancelToken {
    /// What is wished so far.
    pub fn wish(&self) -> Stop {
        *self.0.borrow()
    }

    /// Waits until more is wished; for ever when that cannot happen any more.
    pub(super) async fn changed(&mut self) -> Stop {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }
}
