//! What was there before an upgrade, and the way back to it: the old programs and data by renames, the old service as
//! it was registered. Nothing of it needs a password.

use super::client::Client;
use super::server;
use super::version::{Route, ServerVersion};
use crate::actions::moves::{Moves, make_folder, rename, shown};
use crate::actions::volumes::{self, Areas, MADE_SINCE};
use crate::actions::{StepContext, Undone, service};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::files::remove_folder;
use crate::platform::{ServiceControl, ServiceDefinition, ServiceStatus};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the service of the old server may take to stop when it is only started anew.
const RESTART: Duration = Duration::from_secs(600);

/// The folder of a stage area that becomes the data folder.
pub(super) const DATA: &str = "data";

/// An upgrade as it was decided once, a file of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) route: Route,
    pub(super) old: Option<OldServer>,
    pub(super) new: ServiceDefinition,
    pub(super) version: ServerVersion,
    pub(super) port: u16,
    /// The name of the secret that is root's password.
    pub(super) secret: String,
    /// The folder of the new programs, and the one that its data come to; resolved.
    pub(super) programs: PathBuf,
    pub(super) data: PathBuf,
    pub(super) programs_stage: PathBuf,
    pub(super) data_stage: PathBuf,
    /// Where data go that a finished upgrade has made since, when it is taken back.
    pub(super) aside: PathBuf,
    /// The file that everything is dumped to; nothing where there is no old server.
    pub(super) dump: Option<PathBuf>,
}

/// A server that is going to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OldServer {
    pub(super) service: ServiceDefinition,
    pub(super) version: ServerVersion,
    pub(super) bin: PathBuf,
    /// Its data folder, resolved.
    pub(super) data: PathBuf,
}

/// What has been done of an upgrade, each a file beside [`Before`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The old server was told to take no changes, which a restart ends.
    Quiet,
    /// The dump is complete, and what it holds was counted.
    Dumped,
    /// From here on services and folders change.
    Replacing,
    /// The new server holds what the old one held.
    Verified,
    /// The new server takes changes, or is about to. What is written to it is nowhere else.
    Finished,
    /// A failed attempt was taken back.
    Back,
}

impl Mark {
    fn ending(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Dumped => "dumped",
            Self::Replacing => "replacing",
            Self::Verified => "verified",
            Self::Finished => "finished",
            Self::Back => "back",
        }
    }
}

/// The files of one attempt.
#[derive(Debug, Clone)]
pub(super) struct Files(PathBuf);

impl Files {
    /// Those of the first attempt that was not taken back.
    pub(super) fn of(cx: &StepContext<'_>, data: &Path) -> Self {
        let key = volumes::target_key(data);
        let mut attempt = 1;
        loop {
            let files = Self(cx.data_file(&format!("{key}-{attempt}.mysql")));
            if !files.has(Mark::Back) {
                return files;
            }
            attempt += 1;
        }
    }

    pub(super) fn has(&self, mark: Mark) -> bool {
        self.0.with_extension(mark.ending()).exists()
    }

    /// Remembers, on disk when this returns.
    pub(super) fn set(&self, mark: Mark) -> Result<()> {
        files::write(&self.0.with_extension(mark.ending()), b"")
    }

    fn forget(&self, mark: Mark) -> Result<()> {
        files::remove(&self.0.with_extension(mark.ending()))
    }

    /// What the server reads at its first start; it may hold the password.
    pub(super) fn init(&self) -> PathBuf {
        self.0.with_extension("init")
    }

    /// The accounts of the old server, and what each may do.
    pub(super) fn users(&self) -> PathBuf {
        self.0.with_extension("users.sql")
    }

    pub(super) fn grants(&self) -> PathBuf {
        self.0.with_extension("grants.sql")
    }

    /// The old server's `my.ini`.
    pub(super) fn old_settings(&self) -> PathBuf {
        self.0.with_extension("my.ini")
    }

    pub(super) fn rows(&self) -> PathBuf {
        self.0.with_extension("rows.json")
    }

    pub(super) fn programs_moves(&self) -> PathBuf {
        self.0.with_extension("programs.json")
    }

    pub(super) fn data_moves(&self) -> PathBuf {
        self.0.with_extension("data.json")
    }

    /// Removes what may hold a password, or what stands for one.
    pub(super) fn remove_secret(&self) -> Result<()> {
        [self.init(), self.users(), self.grants()].iter().try_for_each(|file| files::remove(file))
    }
}

impl Before {
    /// Reads an upgrade that was begun.
    ///
    /// # Errors
    /// When its file is damaged.
    pub(super) fn read(files: &Files) -> Result<Option<(Self, MysqlUndo)>> {
        let bytes = match std::fs::read(&files.0) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("read {}", files.0.display()), &e)),
        };
        let before: Self = serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(ErrorKind::Integrity, format!("{} is damaged", files.0.display())).because(e))?;
        let undo = MysqlUndo { file: files.0.clone(), hash: ContentHash::of(&bytes) };
        Ok(Some((before, undo)))
    }

    /// Writes down what is going to happen, on disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written: then nothing must happen.
    pub(super) fn keep(self, files: &Files) -> Result<(Self, MysqlUndo)> {
        let bytes = serde_json::to_vec(&self).map_err(|e| Error::internal("cannot write an upgrade").because(e))?;
        files::write(&files.0, &bytes)?;
        let undo = MysqlUndo { file: files.0.clone(), hash: ContentHash::of(&bytes) };
        Ok((self, undo))
    }

    /// Where data are put aside that were made after a finished upgrade.
    pub(super) fn aside_in(areas: &Areas) -> PathBuf {
        areas.undo.join(format!("{DATA}.{MADE_SINCE}"))
    }

    /// The name of the old server's service.
    fn old_name(&self) -> Option<&str> {
        self.old.as_ref().map(|old| old.service.name.as_str())
    }

    /// Stops the new server and takes its service away, unless the old one has the same name.
    fn retire_new(&self, cx: &StepContext<'_>) -> Result<()> {
        let registered = cx.platform.service_definition(&self.new.name)?;
        let same_name = self.old_name().is_some_and(|name| name.eq_ignore_ascii_case(&self.new.name));
        if registered.is_none() || (!same_name && registered.as_ref() != Some(&self.new)) {
            return Ok(());
        }
        server::stop(cx, &self.new.name)?;
        if same_name { Ok(()) } else { cx.platform.remove_service(&self.new.name) }
    }

    /// Puts programs and data back. Data of a finished upgrade are kept beside the old ones.
    fn take_moves_back(&self, cx: &StepContext<'_>, files: &Files, left: &mut Vec<String>) -> Result<()> {
        for file in [files.programs_moves(), files.data_moves()] {
            if let Some((moves, _)) = Moves::begun(&file)? {
                left.extend(moves.take_back(cx)?);
            }
        }
        let came = self.data_stage.join(DATA);
        if files.has(Mark::Finished) && came.exists() && !self.aside.exists() {
            if let Some(folder) = self.aside.parent() {
                make_folder(cx, folder)?;
            }
            rename(cx, &came, &self.aside)?;
            cx.progress.remind(&format!(
                "rows that were written after the upgrade are in the data folder {}; it is kept, and not used",
                self.aside.display()
            ));
        }
        remove_folder(&came)
    }

    /// Registers the old service as it was, and starts it.
    fn bring_old_back(&self, cx: &StepContext<'_>, files: &Files, left: &mut Vec<String>) -> Result<()> {
        let Some(old) = &self.old else { return Ok(()) };
        let name = &old.service.name;
        if cx.platform.service_definition(name)?.as_ref() != Some(&old.service) {
            cx.platform.register_service(&old.service)?;
        }
        let told = cx.platform.service(name)? == Some(ServiceStatus::Running) && files.has(Mark::Quiet);
        if told && !self.lets_write_again(cx, &old.bin) {
            // Only a new start needs no password.
            cx.platform.control_service(name, ServiceControl::Stop)?;
            service::wait_until(cx, name, ServiceStatus::Stopped, &cx.deadline.within(RESTART))?;
        }
        match server::start(cx, name, &old.bin, self.port, &old.data) {
            Ok(()) => files.forget(Mark::Quiet),
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::StepFailed | ErrorKind::Io) => {
                left.push(format!("the old server of {name} does not run: {e}"));
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Tells the old server that it may take changes, where the password is at hand: a failure is seen at once, while an
    /// undo after a restart, or of a finished run, has none.
    fn lets_write_again(&self, cx: &StepContext<'_>, bin: &Path) -> bool {
        if cx.secrets.get(&self.secret).is_err() {
            return false;
        }
        let client = Client { bin: bin.to_path_buf(), port: self.port, secret: &self.secret };
        client.tell(cx, "open", "SET GLOBAL read_only = OFF;\n").is_ok()
    }

    /// A dump of an upgrade that did not come about is of no use: the old data are there.
    fn remove_dump(&self, cx: &StepContext<'_>, files: &Files) -> Result<()> {
        match &self.dump {
            Some(dump) if !files.has(Mark::Finished) => {
                std::fs::remove_file(dump).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
            }
            _ => Ok(()),
        }
        .cannot(|| format!("remove {}", self.dump.as_deref().map_or_else(String::new, |dump| shown(cx, dump))))
    }
}

/// How to take an upgrade back: the file that says what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MysqlUndo {
    file: PathBuf,
    hash: ContentHash,
}

impl MysqlUndo {
    /// Brings the old server back with its data, and waits until it answers.
    ///
    /// # Errors
    /// When a rename is refused, a service does not stop, or the file is damaged; calling it again goes on.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let files = Files(self.file.clone());
        let Some((before, found)) = Before::read(&files)? else {
            return Err(Error::new(ErrorKind::Integrity, format!("{} is gone", self.file.display())));
        };
        if found.hash != self.hash {
            return Err(Error::new(ErrorKind::Integrity, format!("{} has changed", self.file.display())));
        }
        files.remove_secret()?;
        // First of all: the disk may be full of it.
        before.remove_dump(cx, &files)?;
        let mut left = Vec::new();
        if files.has(Mark::Replacing) {
            before.retire_new(cx)?;
            before.take_moves_back(cx, &files, &mut left)?;
        }
        before.bring_old_back(cx, &files, &mut left)?;
        if left.is_empty() {
            files.forget(Mark::Replacing)?;
        }
        let summary = match &before.old {
            Some(old) => format!("MySQL {} runs again with its data", old.version),
            None => format!("MySQL {} is removed", before.version),
        };
        Ok(Undone { summary, left })
    }

    /// The data folder of an upgrade that is finished: rows that were written since are in no other place.
    ///
    /// # Errors
    /// When the file that says what was there cannot be read.
    pub fn finished_data(&self) -> Result<Option<PathBuf>> {
        let files = Files(self.file.clone());
        if !files.has(Mark::Finished) {
            return Ok(None);
        }
        Ok(Before::read(&files)?.map(|(before, _)| before.data))
    }

    /// Takes a failed attempt back at once, so that the next one finds the instrument as this one did.
    ///
    /// # Errors
    /// As [`MysqlUndo::undo`].
    pub(super) fn take_back_at_once(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let undone = self.undo(cx)?;
        if undone.left.is_empty() {
            Files(self.file.clone()).set(Mark::Back)?;
        }
        Ok(undone)
    }
}
