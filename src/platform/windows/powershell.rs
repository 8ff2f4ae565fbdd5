//! The few things that only PowerShell can ask Windows for. Each script is a constant; what varies comes through the
//! environment, so that nothing is ever quoted into one.

use super::helper;
use crate::error::{Error, ErrorKind, Result};
use base64::Engine;
use std::process::Command;
use std::time::Duration;

/// Put before every script: the first error ends it, and what it writes is UTF-8.
const PROLOGUE: &str = "$ErrorActionPreference = 'Stop'\r\n$ProgressPreference = 'SilentlyContinue'\r\n[Console]::OutputEncoding = [Text.UTF8Encoding]::new($false)\r\n";

/// Runs a script and gives what it wrote. What may take hours runs as a job, which has a deadline, and needs no limit.
///
/// # Errors
/// When PowerShell cannot be started, the script fails, or it has not ended at the limit.
pub(super) fn run(what: &str, script: &str, environment: &[(&str, &str)], limit: Option<Duration>) -> Result<String> {
    let mut command = Command::new("powershell.exe");
    command.args(["-NoLogo", "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-EncodedCommand"]);
    command.arg(encoded(script)).envs(environment.iter().copied());
    let said = helper::run(command, limit).map_err(|e| e.context(format!("cannot {what}")))?;
    if said.success {
        return Ok(said.output);
    }
    Err(Error::step_failed(format!("cannot {what}"))
        .because(format!("powershell.exe ended with exit code {}", said.code))
        .with_output(said.errors.lines().map(str::to_owned).collect()))
}

/// The script as `-EncodedCommand` takes it: UTF-16 in base64.
fn encoded(script: &str) -> String {
    let text = format!("{PROLOGUE}{script}");
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The error for an answer that is none.
pub(super) fn not_understood(line: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the answer of PowerShell is not understood: `{line}`"))
        .next("see that powershell.exe is Windows PowerShell 5.1 and that no policy of the site restricts it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_fit_into_a_command_line() {
        use super::super::{disks, updates};
        let of_disks = [disks::LOOK, disks::ATTACH, disks::DETACH, disks::HOST_LOOK, disks::HOST_ATTACH, disks::HOST_DETACH];
        for script in [updates::LIST, updates::INSTALL].into_iter().chain(of_disks) {
            let words = encoded(script);
            // CreateProcess takes 32767 characters.
            assert!(words.len() < 16_000, "{}", words.len());
            let bytes = base64::engine::general_purpose::STANDARD.decode(words).unwrap();
            assert!(bytes.starts_with(&[b'$', 0, b'E', 0]));
        }
    }
}
