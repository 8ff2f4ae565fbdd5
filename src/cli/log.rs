//! What is traced: to the log in the run's folder as JSON lines, and with `-vv` to standard error as it happens; without
//! secrets either way.

use super::GlobalOptions;
use crate::error::{Error, IoContext, Result};
use crate::events::RunFolder;
use crate::report::text::safe;
use crate::secrets::Secrets;
use secrecy::ExposeSecret;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// From this verbosity on, what is traced is shown.
pub(super) const SHOWN_FROM: u8 = 2;

/// Where traced lines go, and what they must not hold. A process has one.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Sinks>>);

#[derive(Default)]
struct Sinks {
    /// The run's log; nothing while no run is led.
    file: Option<File>,
    secrets: Secrets,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// Begins to trace. `IBEXDEPLOY_LOG` chooses what, in the form of `tracing` (`ibexdeploy::link=trace`).
    ///
    /// # Errors
    /// When `IBEXDEPLOY_LOG` is not such a form, or tracing was begun before.
    pub fn start(global: &GlobalOptions) -> Result<Self> {
        let log = Self(Arc::default());
        let to_file =
            fmt::layer().json().with_writer(To { log: log.clone(), sink: Sink::File }).with_filter(filter(global.verbose)?);
        let to_screen = match global.verbose >= SHOWN_FROM {
            true => {
                let lines = fmt::layer().without_time().with_target(false).with_ansi(false);
                Some(lines.with_writer(To { log: log.clone(), sink: Sink::Screen }).with_filter(filter(global.verbose)?))
            }
            false => None,
        };
        tracing_subscriber::registry()
            .with(to_file)
            .with(to_screen)
            .try_init()
            .map_err(|e| Error::internal("the log was started before").because(e))?;
        Ok(log)
    }

    /// From now on these values are kept out of everything that is traced.
    pub fn hide(&self, secrets: &Secrets) {
        let mut sinks = self.sinks();
        for (name, value) in with_json_forms(secrets).iter() {
            sinks.secrets.insert(name, value.clone());
        }
    }

    /// From now on everything that is traced goes to the run's `ibexdeploy.log` as well.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_in(&self, folder: &RunFolder) -> Result<()> {
        let path = folder.log_file();
        let file =
            OpenOptions::new().append(true).create(true).open(&path).cannot(|| format!("write the log {}", path.display()))?;
        self.sinks().file = Some(file);
        Ok(())
    }

    fn sinks(&self) -> MutexGuard<'_, Sinks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the library for NTLM and Kerberos logs is not for files: session keys are among it, and no redactor knows those.
const NO_KEYS: &str = "sspi=off";

fn filter(verbose: u8) -> Result<EnvFilter> {
    match std::env::var("IBEXDEPLOY_LOG") {
        Ok(wanted) => EnvFilter::try_new(format!("{wanted},{NO_KEYS}")).map_err(|e| {
            Error::usage(format!("IBEXDEPLOY_LOG=`{wanted}` is not a filter for logs"))
                .because(e)
                .next("for example `ibexdeploy=trace`")
        }),
        Err(_) if verbose > SHOWN_FROM => Ok(EnvFilter::new(format!("debug,ibexdeploy=trace,{NO_KEYS}"))),
        Err(_) => Ok(EnvFilter::new(format!("info,ibexdeploy=debug,{NO_KEYS}"))),
    }
}

/// The secrets, and how they look inside a JSON string.
fn with_json_forms(secrets: &Secrets) -> Secrets {
    let mut all = secrets.clone();
    for (name, value) in secrets.iter() {
        if let Ok(quoted) = serde_json::to_string(value.expose_secret()) {
            let inner = quoted.trim_start_matches('"').strip_suffix('"').unwrap_or(&quoted).to_owned();
            all.insert(format!("{name} in JSON"), inner.into());
        }
    }
    all
}

#[derive(Clone, Copy)]
enum Sink {
    File,
    Screen,
}

/// One of the places that traced lines go to.
struct To {
    log: Log,
    sink: Sink,
}

/// One line on its way: the subscriber writes each event with one call.
struct Line<'a>(&'a To);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let To { log, sink } = self.0;
        let mut sinks = log.sinks();
        let Sinks { file, secrets } = &mut *sinks;
        let clean = || secrets.redact(&String::from_utf8_lossy(bytes));
        match (sink, file) {
            (Sink::File, Some(file)) => file.write_all(clean().as_bytes())?,
            (Sink::File, None) => {}
            (Sink::Screen, _) => io::stderr().write_all(safe(&clean()).as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for To {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn no_secret_gets_into_the_log() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log");
        let mut secrets = Secrets::default();
        secrets.insert("mysql_root", r#"pa"ss\w"#.to_owned().into());
        let log = Log(Arc::default());
        log.hide(&secrets);
        log.sinks().file = Some(File::create(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(fmt::layer().json().with_writer(To { log, sink: Sink::File }));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(command = r#"mysql -ppa"ss\w"#, "asks pa\"ss\\w of the database");
        });
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.contains("mysql -p***") && log.contains("asks *** of the database"), "{log}");
        assert!(!log.contains("ss\\"), "{log}");
        serde_json::from_str::<serde_json::Value>(&log).unwrap();
    }
}
