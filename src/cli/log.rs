//! The log of a run: `tracing`, as JSON lines in the run's folder, without secrets.

use crate::error::{Error, IoContext, Result};
use crate::events::RunFolder;
use crate::report::Verbosity;
use crate::secrets::Secrets;
use secrecy::ExposeSecret;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Mutex;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// From now on everything that is traced goes to the run's `ibexdeploy.log`. `IBEXDEPLOY_LOG` chooses what, in the
/// form of `tracing` (`ibexdeploy::link=trace`).
///
/// # Errors
/// When the file cannot be written, or a log was started before.
pub fn start_log(folder: &RunFolder, verbose: Verbosity, secrets: &Secrets) -> Result<()> {
    let path = folder.log_file();
    let file = OpenOptions::new().append(true).create(true).open(&path).cannot(|| format!("write the log {}", path.display()))?;
    let level = match verbose {
        0 | 1 => "info,ibexdeploy=debug",
        _ => "debug,ibexdeploy=trace",
    };
    let filter = match std::env::var("IBEXDEPLOY_LOG") {
        Ok(wanted) => EnvFilter::try_new(&wanted).map_err(|e| {
            Error::usage(format!("IBEXDEPLOY_LOG=`{wanted}` is not a filter for logs"))
                .because(e)
                .next("for example `ibexdeploy=trace`")
        })?,
        Err(_) => EnvFilter::new(level),
    };
    let redacted = RedactedFile { file: Mutex::new(file), secrets: with_json_forms(secrets) };
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(redacted)
        .try_init()
        .map_err(|e| Error::internal("the log was started before").because(e))
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

/// A file that no secret gets into.
struct RedactedFile {
    file: Mutex<File>,
    secrets: Secrets,
}

/// One line on its way: the subscriber writes each event with one call.
struct RedactedLine<'a>(&'a RedactedFile);

impl Write for RedactedLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = self.0.secrets.redact(&String::from_utf8_lossy(bytes));
        let mut file = self.0.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RedactedFile {
    type Writer = RedactedLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactedLine(self)
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
        let writer = RedactedFile { file: Mutex::new(File::create(&path).unwrap()), secrets: with_json_forms(&secrets) };
        let subscriber = tracing_subscriber::fmt().json().with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(command = r#"mysql -ppa"ss\w"#, "asks pa\"ss\\w of the database");
        });
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.contains("mysql -p***") && log.contains("asks *** of the database"), "{log}");
        assert!(!log.contains("ss\\"), "{log}");
        serde_json::from_str::<serde_json::Value>(&log).unwrap();
    }
}
