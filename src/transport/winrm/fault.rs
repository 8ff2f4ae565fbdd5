//! What a WinRM service refuses, in words that say what to do.

use crate::error::{Error, ErrorKind};

/// A fault as the service words it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Windows' number for it.
    pub(super) code: Option<u32>,
    /// `w:TimedOut` and the like.
    pub(super) subcode: String,
    pub(super) reason: String,
    /// What the nearest to the cause says.
    pub(super) message: String,
}

/// Nothing came within the operation's time: asked again, it goes on.
const TIMED_OUT: u32 = 2_150_858_793;
const NO_SUCH_SHELL: u32 = 2_150_858_843;
/// The quotas; each has a setting of its own.
const SHELLS: u32 = 2_150_859_173;
const OPERATIONS: u32 = 2_150_859_174;
const PROCESSES: u32 = 2_150_859_175;
const MEMORY: u32 = 2_150_859_176;
/// A message is larger than either end takes.
const ENVELOPE: [u32; 2] = [2_150_858_768, 2_150_858_848];
const ACCESS_DENIED: u32 = 5;
/// The program is not there: as Windows' own error, and as a result of COM.
const NOT_FOUND: [u32; 4] = [2, 3, 2_147_942_402, 2_147_942_403];
/// The program may not run: an execution policy.
const BLOCKED: [u32; 2] = [1260, 2_147_943_660];
/// The pipe is closed, or the operation was broken off: the program or the shell has ended.
const ENDED: [u32; 3] = [109, 995, 2_147_942_509];

impl Fault {
    /// That of HTTP's own refusal.
    pub(super) fn too_large() -> Self {
        Self {
            subcode: "w:EncodingLimit".into(),
            message: "the message is larger than the service takes".into(),
            ..Self::default()
        }
    }

    /// Nothing has happened yet; the same is to be asked again.
    pub(super) fn is_only_time(&self) -> bool {
        self.code == Some(TIMED_OUT) || (self.code.is_none() && self.subcode.ends_with(":TimedOut"))
    }

    /// The shell or the command is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.code == Some(NO_SUCH_SHELL) || self.code.is_some_and(|code| ENDED.contains(&code))
    }

    /// The program that was to be started is not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.code.is_some_and(|code| NOT_FOUND.contains(&code))
    }

    /// The message was too large and nothing of it was done.
    pub(super) fn is_too_large(&self) -> bool {
        self.subcode.ends_with(":EncodingLimit") || self.code.is_some_and(|code| ENVELOPE.contains(&code))
    }

    /// The error that an operator reads. `what` continues "cannot".
    pub(super) fn into_error(self, what: &str) -> Error {
        let said = [&self.message, &self.reason].into_iter().find(|text| !text.is_empty());
        let said = said.map_or_else(|| "it gives no reason".to_owned(), |text| one_line(text));
        let number = self.code.map_or_else(String::new, |code| format!(" (fault {code})"));
        let (kind, next) = self.advice();
        let error = Error::new(kind, format!("cannot {what}: the WinRM service refuses it{number}")).because(said).next(next);
        if self.is_quota() { error.temporary() } else { error }
    }

    /// Others give back what they use sooner or later.
    fn is_quota(&self) -> bool {
        matches!(self.code, Some(SHELLS | OPERATIONS | PROCESSES | MEMORY))
    }

    fn advice(&self) -> (ErrorKind, String) {
        let quota = |setting: &str, what: &str| {
            let next = format!(
                "close {what} that are not needed, or raise the limit there: winrm set winrm/config/{}; `winrm get winrm/config` \
                 shows what holds",
                setting
            );
            (ErrorKind::Unreachable, next)
        };
        match self.code {
            Some(SHELLS) => {
                quota("winrs @{MaxShellsPerUser=\"100\"}", "shells of this account (`winrm enumerate shell` lists them)")
            }
            Some(PROCESSES) => quota("winrs @{MaxProcessesPerShell=\"100\"}", "programs of this shell"),
            Some(MEMORY) => quota("winrs @{MaxMemoryPerShellMB=\"2048\"}", "programs of this shell"),
            Some(OPERATIONS) => quota("service @{MaxConcurrentOperationsPerUser=\"5000\"}", "connections of this account"),
            Some(ACCESS_DENIED) => (
                ErrorKind::Logon,
                "the account may log on and not use WinRM's shells: make it an administrator there, or a member of \
                 `Remote Management Users`"
                    .into(),
            ),
            Some(code) if BLOCKED.contains(&code) => {
                (ErrorKind::NoAgent, "antivirus or AppLocker keeps programs from running there: allow ibexdeploy.exe".into())
            }
            _ if self.is_too_large() => {
                (ErrorKind::Protocol, "raise the limit there: winrm set winrm/config @{MaxEnvelopeSizekb=\"500\"}".into())
            }
            _ if self.is_gone() => (
                ErrorKind::Unreachable,
                "the machine has restarted, or somebody has ended the shell: the link is made anew".into(),
            ),
            _ => (ErrorKind::Unreachable, "`winrm get winrm/config` on that machine shows its settings".into()),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: u32) -> Fault {
        Fault { code: Some(code), message: "Said\r\n  there. ".into(), ..Fault::default() }
    }

    #[test]
    fn a_quota_names_its_setting_and_may_pass() {
        for (code, setting) in [
            (SHELLS, "MaxShellsPerUser"),
            (OPERATIONS, "MaxConcurrentOperationsPerUser"),
            (PROCESSES, "MaxProcessesPerShell"),
            (MEMORY, "MaxMemoryPerShellMB"),
        ] {
            let error = fault(code).into_error("open a shell");
            assert!(error.details().next.as_ref().unwrap().contains(setting), "{error:?}");
            assert!(error.is_temporary());
        }
    }

    #[test]
    fn what_the_service_says_comes_in_one_line() {
        let error = fault(42).into_error("open a shell");
        assert_eq!(error.to_string(), "cannot open a shell: the WinRM service refuses it (fault 42): Said there.");
    }

    #[test]
    fn time_that_is_over_is_no_failure() {
        assert!(fault(TIMED_OUT).is_only_time());
        assert!(!fault(NO_SUCH_SHELL).is_only_time() && fault(NO_SUCH_SHELL).is_gone());
    }
}
