//! The shells that this controller has opened and that are not known to be closed. A service keeps a shell without use for
//! a while, and each account has so many; so none is left behind where that can be helped.

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::soap::{CommandId, Request, SessionId, ShellId};
use crate::error::{ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long closing a shell may take.
pub(super) const CLOSING: Duration = Duration::from_secs(5);

/// A shell, and how it is reached.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    instrument: String,
    endpoint: Arc<Endpoint>,
    pub(super) session: SessionId,
    pub(super) shell: ShellId,
    /// Nobody uses it any more.
    abandoned: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Shells(Mutex<Vec<Kept>>);

/// Says that a shell is in use; dropped, it is abandoned.
#[derive(Debug)]
pub(super) struct InUse {
    all: Arc<Shells>,
    pub(super) session: SessionId,
    pub(super) shell: ShellId,
}

impl Shells {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a shell before it is asked for: whether the answer comes is not known.
    pub(super) fn note(self: &Arc<Self>, instrument: &str, endpoint: &Arc<Endpoint>, session: SessionId) -> InUse {
        let shell = ShellId::fresh();
        self.kept().push(Kept {
            instrument: instrument.to_owned(),
            endpoint: Arc::clone(endpoint),
            session,
            shell: shell.clone(),
            abandoned: false,
        });
        InUse { all: Arc::clone(self), session, shell }
    }

    /// True when all that were opened are closed.
    pub(super) fn is_empty(&self) -> bool {
        self.kept().is_empty()
    }

    fn is_closed(&self, shell: &ShellId) {
        self.kept().retain(|kept| kept.shell != *shell);
    }

    fn abandoned(&self, instrument: &str) -> Vec<Kept> {
        self.kept().iter().filter(|kept| kept.abandoned && kept.instrument == instrument).cloned().collect()
    }

    /// Closes what earlier links to an instrument have left, over a connection to it. What cannot be closed stays noted.
    pub(super) async fn close_abandoned(&self, instrument: &str, connection: &mut Connection) {
        for kept in self.abandoned(instrument) {
            if !connection.is_sound() {
                return;
            }
            if let Err(e) = self.close(&kept, connection).await {
                tracing::debug!(error = %e, "a shell that was left stays for now; the service ends it by itself");
            }
        }
    }

    /// Closes everything, over new connections, each within [`CLOSING`]. Whoever still serves one cannot be told: its runtime
    /// may have been stopped in the middle.
    pub(super) async fn close_all(&self) {
        let left = self.kept().clone();
        let all = left.into_iter().map(|kept| self.close_afresh(kept));
        futures_util::future::join_all(all).await;
    }

    /// Tries it once more where the answer was lost; not where we were not let in, since accounts are locked after a few
    /// wrong passwords.
    async fn close_afresh(&self, kept: Kept) {
        for _ in 0..2 {
            let close = async {
                let mut connection = Connection::open(&kept.endpoint).await?;
                self.close(&kept, &mut connection).await
            };
            match tokio::time::timeout(CLOSING, close).await {
                Ok(Ok(())) => return,
                Ok(Err(e)) => {
                    tracing::debug!(error = %e, "a shell was not closed");
                    if e.kind() == ErrorKind::Logon {
                        break;
                    }
                }
                Err(_) => tracing::debug!("a shell was not closed in time"),
            }
        }
        tracing::debug!("a shell is left; the service ends it by itself");
    }

    async fn close(&self, kept: &Kept, connection: &mut Connection) -> Result<()> {
        // Gone already is as good.
        let outcome = connection.call(kept.session, &Request::Delete { shell: &kept.shell }, CLOSING).await?;
        match outcome {
            Err(fault) if !fault.is_gone() => Err(fault.into_error("close a shell")),
            _ => {
                self.is_closed(&kept.shell);
                Ok(())
            }
        }
    }
}

impl InUse {
    /// The name that the service has given it: old ones give one of their own.
    pub(super) fn is_named(&mut self, shell: ShellId) {
        for kept in self.all.kept().iter_mut().filter(|kept| kept.shell == self.shell) {
            kept.shell = shell.clone();
        }
        self.shell = shell;
    }

    /// Forgets a shell that the service did not open.
    pub(super) fn was_not_opened(&self) {
        self.all.is_closed(&self.shell);
    }

    /// Ends the program in the shell, where it goes on, and closes the shell, over the first of the connections that can
    /// still be used.
    pub(super) async fn close<'c>(self, program: Option<&CommandId>, connections: impl IntoIterator<Item = &'c mut Connection>) {
        let Some(connection) = connections.into_iter().find(|connection| connection.is_sound()) else { return };
        if let Some(command) = program {
            let request = Request::Terminate { shell: &self.shell, command };
            let ended = tokio::time::timeout(CLOSING, connection.call(self.session, &request, CLOSING)).await;
            tracing::debug!(well = matches!(ended, Ok(Ok(Ok(_)))), "the program in the shell was told to end");
        }
        let request = Request::Delete { shell: &self.shell };
        let delete = connection.call(self.session, &request, CLOSING);
        // Dropped, it is abandoned where it is not closed.
        match tokio::time::timeout(CLOSING, delete).await {
            Ok(Ok(Ok(_))) => self.all.is_closed(&self.shell),
            Ok(Ok(Err(fault))) if fault.is_gone() => self.all.is_closed(&self.shell),
            Ok(Ok(Err(fault))) => tracing::debug!(error = %fault.into_error("close a shell"), "the shell is not closed yet"),
            Ok(Err(e)) => tracing::debug!(error = %e, "the shell is not closed yet"),
            Err(_) => tracing::debug!(limit = ?CLOSING, "the shell is not closed yet: no answer came"),
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        for kept in self.all.kept().iter_mut().filter(|kept| kept.shell == self.shell) {
            kept.abandoned = true;
        }
    }
}
