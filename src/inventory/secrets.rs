//! Fetches the values of secrets from where the inventory says they are.

use super::SecretSource;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::nearest::nearest;
use crate::secrets::Secrets;
use crate::units::Span;
use secrecy::SecretString;
use secrecy::zeroize::Zeroize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a program may take to give a secret.
const LIMIT: Duration = Duration::from_secs(60);
/// More than this is not a secret, but the wrong file.
const LONGEST: u64 = 64 * 1024;
/// How many of the last lines of a failed program's messages are shown.
const LINES: usize = 5;

/// Fetches secrets; `prompt` asks the operator, and hides what is typed.
///
/// One newline at the end is taken off each value. Values that come from the same source are fetched once.
///
/// # Errors
/// When a name has no source, or its source does not give a value. The value is never part of an error.
pub fn resolve<S: AsRef<str>>(
    names: impl IntoIterator<Item = S>,
    sources: &BTreeMap<String, SecretSource>,
    prompt: &dyn Fn(&str) -> Result<SecretString>,
) -> Result<Secrets> {
    let mut secrets = Secrets::default();
    let mut fetched: BTreeMap<&SecretSource, SecretString> = BTreeMap::new();
    for name in names {
        let name = name.as_ref();
        let Some(source) = sources.get(name) else {
            let next = match nearest(name, sources.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "say where it comes from under `secrets:` in the inventory".to_owned(),
            };
            return Err(Error::bad_input(format!("there is no secret `{name}` in the inventory")).next(next));
        };
        let value = match fetched.get(source) {
            Some(value) => value.clone(),
            None => fetch(name, source, prompt, LIMIT)?,
        };
        fetched.insert(source, value.clone());
        secrets.insert(name, value);
    }
    Ok(secrets)
}

fn fetch(
    name: &str,
    source: &SecretSource,
    prompt: &dyn Fn(&str) -> Result<SecretString>,
    limit: Duration,
) -> Result<SecretString> {
    let value = match source {
        SecretSource::Prompt(text) => return prompt(text),
        SecretSource::Env(variable) => from_env(name, variable)?,
        SecretSource::File(path) => from_file(name, path)?,
        SecretSource::Command(words) => from_command(name, words, limit)?,
    };
    to_secret(name, source, value)
}

fn from_env(name: &str, variable: &str) -> Result<Vec<u8>> {
    match std::env::var(variable) {
        Ok(value) => Ok(value.into_bytes()),
        Err(std::env::VarError::NotPresent) => {
            Err(Error::bad_input(format!("the secret `{name}` comes from the environment variable {variable}, which is not set"))
                .next(format!("set {variable} and run the command again")))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(not_text(name, &format!("the environment variable {variable}"))),
    }
}

fn from_file(name: &str, path: &str) -> Result<Vec<u8>> {
    let path = at_home(path)?;
    let refused = |e: Error| {
        e.context(format!("the secret `{name}` comes from a file that cannot be read"))
            .next(format!("put it into {} and let only yourself read it", path.display()))
    };
    let file = std::fs::File::open(&path).cannot(|| format!("open {}", path.display())).map_err(refused)?;
    let mut value = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut value).cannot(|| format!("read {}", path.display())).map_err(refused)?;
    Ok(value)
}

/// The path with `~` replaced by the operator's home folder.
///
/// # Errors
/// When the home folder is not known.
pub fn at_home(path: &str) -> Result<PathBuf> {
    let Some(below) = path.strip_prefix('~') else { return Ok(PathBuf::from(path)) };
    let home = std::env::home_dir().ok_or_else(|| {
        Error::bad_input(format!("`{path}` begins with `~`, and your home folder is not known")).next("write the whole path")
    })?;
    Ok(home.join(below.trim_start_matches(['/', '\\'])))
}

/// Runs a vault's program and takes what it writes to standard output.
fn from_command(name: &str, words: &[String], limit: Duration) -> Result<Vec<u8>> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Error::bad_input(format!("the secret `{name}` has an empty `command`")).next("write [PROGRAM, ARGUMENT]"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            Error::io(format!("run {program}"), &e)
                .context(format!("the secret `{name}` comes from a program that cannot be started"))
                .next(format!("install {program}, or name it with its whole path under `secrets:` in the inventory"))
        })?;
    let deadline = Instant::now() + limit;
    let (output, messages) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let output = output.recv_timeout(limit);
    let status = output.is_ok().then(|| wait(&mut child, deadline)).flatten();
    let (Ok(output), Some(status)) = (output, status) else {
        // It may have ended in between; there is nobody left to tell.
        let _ = child.kill().and_then(|()| child.wait());
        return Err(Error::new(ErrorKind::TimedOut, format!("the secret `{name}`: {program} gave no answer in {}", Span(limit)))
            .next(format!("run {program} by hand: it may be waiting for a log-on or a question to be answered")));
    };
    if status.success() {
        return Ok(output);
    }
    let messages = messages.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_default();
    let text = String::from_utf8_lossy(&messages);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    Err(Error::new(ErrorKind::StepFailed, format!("the secret `{name}`: {program} failed with {status}"))
        .with_output(lines[lines.len().saturating_sub(LINES)..].to_vec())
        .next(format!("run {program} by hand and see what it says")))
}

/// Reads a stream to its end, beside the caller.
fn reader(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut content = Vec::new();
        if let Some(stream) = stream
            && stream.take(LONGEST + 1).read_to_end(&mut content).is_ok()
        {
            // The receiver is gone after the deadline.
            let _ = sender.send(content);
        }
    });
    receiver
}

/// The exit status, or nothing at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> Option<std::process::ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            _ => return None,
        }
    }
}

fn not_text(name: &str, what: &str) -> Error {
    Error::bad_input(format!("the secret `{name}`: {what} is not UTF-8 text")).next("store it as plain text")
}

/// Takes one newline off, and refuses what cannot be a secret.
fn to_secret(name: &str, source: &SecretSource, value: Vec<u8>) -> Result<SecretString> {
    let what = match source {
        SecretSource::Env(variable) => format!("the environment variable {variable}"),
        SecretSource::File(path) => format!("the file {}", Path::new(path).display()),
        SecretSource::Prompt(_) => "the answer".to_owned(),
        SecretSource::Command(words) => format!("the output of {}", words.first().map_or("the command", String::as_str)),
    };
    if value.len() as u64 > LONGEST {
        return Err(Error::bad_input(format!("the secret `{name}`: {what} is longer than 64 KiB"))
            .next("name what holds only the secret"));
    }
    let mut text = String::from_utf8(value).map_err(|_| not_text(name, &what))?;
    let kept = text.strip_suffix('\n').map_or(text.len(), |t| t.strip_suffix('\r').unwrap_or(t).len());
    let secret = SecretString::from(&text[..kept]);
    text.zeroize();
    if kept == 0 {
        return Err(Error::bad_input(format!("the secret `{name}`: {what} is empty")).next("put the value there"));
    }
    Ok(secret)
}

/// The error for a name that is not among the secrets of an instrument.
pub(crate) fn unknown<'k>(name: &str, known: impl Iterator<Item = &'k String>) -> Error {
    let next = nearest(name, known.map(String::as_str)).map_or_else(
        || "say under `secrets:` in the inventory where it comes from".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    Error::bad_input(format!("there is no secret `{name}`")).next(next)
}

#[cfg(test)]
mod tests;
