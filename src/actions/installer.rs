//! What Windows installers say with their exit codes, and how each kind of package is installed without questions.

use super::external::{self, External};
use super::reboot::pause;
use super::{JobEnd, StepContext};
use crate::error::{Error, ErrorKind, Result};
use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// What an exit code means for what is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Installed,
    /// Installed, and complete after a restart.
    NeedsRestart,
    /// The same, and the installer has begun the restart itself.
    Restarts,
    /// It was there already, or a newer one is.
    AlreadyThere,
    /// It is not for this machine.
    NotForThis,
    /// Another installation is going on.
    Busy,
    Failed,
}

impl Verdict {
    /// Nothing went wrong.
    pub(super) fn is_good(self) -> bool {
        !matches!(self, Self::Busy | Self::Failed)
    }

    /// Something is there that was not there before.
    pub(super) fn has_changed(self) -> bool {
        matches!(self, Self::Installed | Self::NeedsRestart | Self::Restarts)
    }
}

/// An exit code, what it means, and what to do when that is not well.
struct Known {
    code: i32,
    verdict: Verdict,
    words: &'static str,
    next: &'static str,
}

const fn known(code: i32, verdict: Verdict, words: &'static str, next: &'static str) -> Known {
    Known { code, verdict, words, next }
}

/// A code of the form 0x8..., as programs return it.
const fn failure(code: u32) -> i32 {
    code.cast_signed()
}

const READ_LOG: &str = "read the installer's log, and put right what it names";
const COPY_AGAIN: &str = "see that the file is whole and that the account may read it; copy it again";
const ASK_AGAIN: &str = "restart the machine, and try again";

/// From winerror.h and wuerror.h, which the documentation of the Windows Installer, of `wusa` and of the Windows Update
/// Agent list.
const KNOWN: [Known; 34] = [
    known(0, Verdict::Installed, "installed", ""),
    known(3010, Verdict::NeedsRestart, "installed, and complete after a restart", ""),
    known(1641, Verdict::Restarts, "installed, and the installer restarts the machine", ""),
    known(0x0024_0005, Verdict::NeedsRestart, "installed, and complete after a restart", ""),
    known(0x0024_0006, Verdict::AlreadyThere, "it was installed already", ""),
    known(1638, Verdict::AlreadyThere, "this or a newer version was installed already", ""),
    known(failure(0x8007_0666), Verdict::AlreadyThere, "this or a newer version was installed already", ""),
    known(failure(0x8024_0017), Verdict::NotForThis, "it is not for this machine", ""),
    known(failure(0x800F_081E), Verdict::NotForThis, "it is not for this machine", ""),
    known(1633, Verdict::NotForThis, "it is not for this kind of processor", ""),
    known(1642, Verdict::NotForThis, "what it would patch is not installed", ""),
    known(1618, Verdict::Busy, "another installation is going on", "wait until it has ended, and try again"),
    known(failure(0x8007_0652), Verdict::Busy, "another installation is going on", "wait until it has ended, and try again"),
    known(failure(0x8024_0016), Verdict::Busy, "another installation or a restart stands in the way", ASK_AGAIN),
    known(
        5,
        Verdict::Failed,
        "access was denied",
        "see that antivirus or AppLocker do not block it, and run the step `as: admin`",
    ),
    known(112, Verdict::Failed, "the disk is full", "make room on the system's drive"),
    known(failure(0x8007_0070), Verdict::Failed, "the disk is full", "make room on the system's drive"),
    known(1223, Verdict::Failed, "somebody at the machine said no", "run the step `as: admin`, where nobody is asked"),
    known(1260, Verdict::Failed, "a policy blocks it", "ask for an exception for this file in AppLocker"),
    known(1601, Verdict::Failed, "the Windows Installer service does not answer", ASK_AGAIN),
    known(1602, Verdict::Failed, "somebody at the machine cancelled it", "try again when nobody works there"),
    known(1603, Verdict::Failed, "a fatal error during the installation", READ_LOG),
    known(failure(0x8007_0643), Verdict::Failed, "a fatal error during the installation", READ_LOG),
    known(1605, Verdict::Failed, "no such product is installed", "see what is installed there"),
    known(1619, Verdict::Failed, "the package could not be opened", COPY_AGAIN),
    known(1620, Verdict::Failed, "it is no valid package", COPY_AGAIN),
    known(1625, Verdict::Failed, "a policy forbids it", "ask for an exception in the group policy"),
    known(1636, Verdict::Failed, "the package could not be opened", COPY_AGAIN),
    known(14098, Verdict::Failed, "the component store is damaged", "run `dism /online /cleanup-image /restorehealth` there"),
    known(
        failure(0x8007_3712),
        Verdict::Failed,
        "the component store is damaged",
        "run `dism /online /cleanup-image /restorehealth` there",
    ),
    known(failure(0x800F_0922), Verdict::Failed, "it could not be completed, and was taken back", READ_LOG),
    known(failure(0x8024_402C), Verdict::Failed, "the update server cannot be found", "look at the machine's network and proxy"),
    known(
        failure(0x8024_0438),
        Verdict::Failed,
        "the update server cannot be reached",
        "look at the machine's network and proxy",
    ),
    known(failure(0x8024_001E), Verdict::Failed, "the update service was stopped", "start the service `wuauserv`, and try again"),
];

/// What an installer's exit code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) code: i32,
    pub(super) verdict: Verdict,
    pub(super) words: &'static str,
    pub(super) next: &'static str,
}

impl Judged {
    pub(super) fn of(code: i32) -> Self {
        let found = KNOWN.iter().find(|k| k.code == code);
        let (verdict, words, next) = found.map_or((Verdict::Failed, "it failed", READ_LOG), |k| (k.verdict, k.words, k.next));
        Self { code, verdict, words, next }
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Codes of the system's services are known by their hexadecimal form.
        match self.code {
            0..=0xFFFF => write!(f, "{} ({})", self.words, self.code),
            code => write!(f, "{} (0x{code:08X})", self.words),
        }
    }
}

/// A package as it is installed without a question and without a restart; by its ending.
pub(super) fn installation(file: &Path, args: &[String], log: Option<&Path>) -> External {
    let path = file.display().to_string();
    let ending = file.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let (program, mut all) = match ending.as_str() {
        "msi" => ("msiexec.exe".to_owned(), words(&["/i", &path, "/quiet", "/norestart"])),
        "msp" => ("msiexec.exe".to_owned(), words(&["/update", &path, "/quiet", "/norestart"])),
        "msu" => ("wusa.exe".to_owned(), words(&[&path, "/quiet", "/norestart"])),
        "cab" => {
            ("dism.exe".to_owned(), words(&["/online", "/add-package", &format!("/packagepath:{path}"), "/quiet", "/norestart"]))
        }
        _ => (path, Vec::new()),
    };
    if let Some(log) = log.filter(|_| matches!(ending.as_str(), "msi" | "msp")) {
        all.extend(["/l*v".to_owned(), log.display().to_string()]);
    }
    all.extend_from_slice(args);
    External { program, args: all, folder: file.parent().map(Path::to_path_buf), ..External::default() }
}

/// The pauses before an installation that was kept waiting is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs an installation as a job under `id`, again and again while others are in its way, for as long as `busy` says.
/// The exit code is read from how the job ended by `code`.
///
/// # Errors
/// When it cannot be run, or was lost; that it failed is in what is returned.
pub(super) fn run_when_free(
    cx: &StepContext<'_>,
    id: &str,
    busy: Span,
    external: impl Fn() -> Result<External>,
    code: impl Fn(&JobEnd) -> Result<i32>,
) -> Result<(Judged, JobEnd)> {
    let begun = Instant::now();
    let mut wait = FIRST_PAUSE;
    for attempt in 1_u32.. {
        let job = if attempt == 1 { id.to_owned() } else { format!("{id}.busy{attempt}") };
        let end = external::run(cx, job, external()?)?;
        let judged = Judged::of(code(&end)?);
        if judged.verdict != Verdict::Busy || begun.elapsed() >= busy.0 {
            return Ok((judged, end));
        }
        let left = busy.0.saturating_sub(begun.elapsed());
        pause(cx, Span(wait.min(left)), "another installation to end")?;
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
    Err(Error::new(ErrorKind::Internal, "an installation was never tried"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_understood() {
        for (code, verdict, text) in [
            (0, Verdict::Installed, "installed (0)"),
            (3010, Verdict::NeedsRestart, "installed, and complete after a restart (3010)"),
            (1641, Verdict::Restarts, "installed, and the installer restarts the machine (1641)"),
            (1618, Verdict::Busy, "another installation is going on (1618)"),
            (2_359_302, Verdict::AlreadyThere, "it was installed already (0x00240006)"),
            (2_359_301, Verdict::NeedsRestart, "installed, and complete after a restart (0x00240005)"),
            (-2_145_124_329, Verdict::NotForThis, "it is not for this machine (0x80240017)"),
            (1603, Verdict::Failed, "a fatal error during the installation (1603)"),
            (42, Verdict::Failed, "it failed (42)"),
        ] {
            let judged = Judged::of(code);
            assert_eq!((judged.verdict, judged.to_string().as_str()), (verdict, text));
            assert_eq!(judged.next.is_empty(), verdict.is_good(), "{code}");
        }
    }

    #[test]
    fn each_code_is_listed_once() {
        let codes: std::collections::BTreeSet<i32> = KNOWN.iter().map(|k| k.code).collect();
        assert_eq!(codes.len(), KNOWN.len());
    }

    #[test]
    fn each_kind_of_package_has_its_program() {
        let line = |file: &str, log: Option<&str>| {
            let external = installation(Path::new(file), &["X=1".to_owned()], log.map(Path::new));
            format!("{} {}", external.program, external.args.join(" "))
        };
        for (file, wanted) in [
            ("/k/jdk.MSI", "msiexec.exe /i /k/jdk.MSI /quiet /norestart /l*v /l.txt X=1"),
            ("/k/kb.msu", "wusa.exe /k/kb.msu /quiet /norestart X=1"),
            ("/k/kb.cab", "dism.exe /online /add-package /packagepath:/k/kb.cab /quiet /norestart X=1"),
            ("/k/git.exe", "/k/git.exe X=1"),
        ] {
            assert_eq!(line(file, Some("/l.txt")), wanted);
        }
        assert_eq!(line("/k/fix.msp", None), "msiexec.exe /update /k/fix.msp /quiet /norestart X=1");
    }
}
