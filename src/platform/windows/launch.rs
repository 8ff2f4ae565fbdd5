//! Starting programs by hand. The standard library's way hands every inheritable handle on, cannot start a program as
//! somebody else, and cannot put it into a job before it runs.

use self::create::Creation;
use super::quoting;
use super::rights::{own_account, sid_of_account, user_of_token};
use super::system::{last_error, raw};
use super::volumes::{plain, plain_argument};
use super::{machine, system};
use crate::busy::{PATIENCE, patiently};
use crate::error::{Error, ErrorKind, IoContext, Result};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, ERROR_PRIVILEGE_NOT_HELD, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Environment::{CreateEnvironmentBlock, DestroyEnvironmentBlock};
use windows_sys::Win32::System::JobObjects::{
    CreateJobObjectW, IsProcessInJob, JOB_OBJECT_LIMIT_BREAKAWAY_OK, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::RemoteDesktop::WTSQueryUserToken;
use windows_sys::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, DETACHED_PROCESS, GetCurrentProcess,
    GetExitCodeProcess, INFINITE, WaitForSingleObject,
};

mod create;

/// Extensions of programs that are found without one, in this order.
const EXTENSIONS: [&str; 4] = ["exe", "com", "bat", "cmd"];

/// A program that is not started yet.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// A path, or a name that `PATH` finds.
    pub(crate) program: &'a str,
    pub(crate) args: &'a [String],
    pub(crate) folder: Option<&'a Path>,
    /// Added to the environment.
    pub(crate) env: &'a [(String, String)],
    /// Standard input, output and error.
    pub(crate) streams: [BorrowedHandle<'a>; 3],
    /// In whose session it runs; the agent's own without.
    pub(crate) token: Option<&'a OwnedHandle>,
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    process: OwnedHandle,
    /// What it starts goes with it when this is closed, unless it was let go.
    job: Option<OwnedHandle>,
}

impl Launch<'_> {
    /// Starts it with its three streams and no other handle, in a job that ends with this process.
    ///
    /// # Errors
    /// When there is no such program, or the system refuses.
    pub(crate) fn start(&self) -> Result<Launched> {
        let environment = Environment::of(self.token, self.env)?;
        let program = find(self.program, environment.get("PATH").as_deref(), self.folder).ok_or_else(|| {
            Error::new(ErrorKind::StepFailed, format!("there is no program `{}`", self.program))
                .because("neither its folder nor PATH has it")
                .next("correct the name, or write the whole path")
        })?;
        let text = program.to_string_lossy().into_owned();
        let args: Vec<String> = self.args.iter().map(|arg| plain_argument(arg)).collect();
        let line = quoting::line_of(&text, &args)?;
        let application = quoting::is_batch(&text).then(|| system_folder().join("cmd.exe"));
        let folder = self.folder.map(plain);
        let block = environment.block();
        let [input, output, errors] = self.streams;
        let streams = [inheritable(input)?, inheritable(output)?, inheritable(errors)?];
        let outside = |error: &dyn std::fmt::Display| tracing::warn!(%error, "the program runs outside of a job");
        let mut job =
            new_job(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_BREAKAWAY_OK).inspect_err(|error| outside(error)).ok();
        let create = |job: Option<&OwnedHandle>| {
            let (application, folder, block) = (application.as_deref(), folder.as_deref(), Some(block.as_slice()));
            let (flags, token, streams) = (CREATE_NO_WINDOW, self.token, Some(&streams));
            Creation { application, line: &line, folder, block, flags, token, streams, job }.create()
        };
        // A virus scanner may have the program open, which is new; and what was not made has run nothing.
        let mut created = patiently(PATIENCE, || create(job.as_ref()));
        if job.is_some() && created.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            // A job of the site's that this process is in may let no other be put into it.
            created = create(None).inspect(|_| outside(&"it may not be put into one"));
            job = None;
        }
        let created = created.cannot(|| format!("start `{text}`"))?;
        Ok(Launched { process: created.process, job })
    }
}

impl Launched {
    /// Waits for the end and gives the exit code, all 32 bits of it.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn wait(&self) -> Result<i32> {
        let mut code = 0;
        // SAFETY: the process is open, and the code is written to a place of ours.
        let told = unsafe {
            WaitForSingleObject(raw(&self.process), INFINITE) == WAIT_OBJECT_0
                && GetExitCodeProcess(raw(&self.process), &raw mut code) != 0
        };
        if told { Ok(code.cast_signed()) } else { Err(last_error("wait for a program")) }
    }

    /// Lets what the program has started live on when this process ends.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn let_go(&self) -> Result<()> {
        self.job.as_ref().map_or(Ok(()), |job| limit(job, JOB_OBJECT_LIMIT_BREAKAWAY_OK))
    }
}

/// Starts a program of ours that outlives this one: without any of its handles, its console or, where the system allows
/// it, its job.
///
/// # Errors
/// When the system refuses.
pub(crate) fn detached(program: &Path, args: &[String]) -> Result<u32> {
    let line = quoting::line_of(&program.to_string_lossy(), args)?;
    let flags = DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP;
    let outside = match in_job() {
        true => create_alone(&line, flags | CREATE_BREAKAWAY_FROM_JOB),
        false => create_alone(&line, flags),
    };
    outside
        .or_else(|error| if in_job() { create_alone(&line, flags) } else { Err(error) })
        .cannot(|| format!("start {}", program.display()))
}

/// True when whoever started this process may end it with others of a job.
fn in_job() -> bool {
    let mut inside = 0;
    // SAFETY: a pseudo handle; no job means any; the answer is written to a place of ours.
    unsafe { IsProcessInJob(GetCurrentProcess(), std::ptr::null_mut(), &raw mut inside) != 0 && inside != 0 }
}

fn create_alone(line: &str, flags: u32) -> std::io::Result<u32> {
    // Not in a folder that somebody may want to remove.
    let folder = Some(system_folder());
    let folder = folder.as_deref();
    let nothing = Creation { application: None, line, folder, block: None, flags, token: None, streams: None, job: None };
    nothing.create().map(|created| created.pid)
}

/// `C:\Windows\System32`.
pub(crate) fn system_folder() -> PathBuf {
    Path::new(&std::env::var_os("SystemRoot").unwrap_or_else(|| "C:\\Windows".into())).join("System32")
}

/// A job with a limit on what becomes of its processes.
///
/// # Errors
/// When the system refuses.
pub(crate) fn new_job(flags: u32) -> Result<OwnedHandle> {
    // SAFETY: neither rights nor a name.
    let job = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
    if job.is_null() {
        return Err(last_error("make a job"));
    }
    // SAFETY: a fresh handle that nobody else closes.
    let job = unsafe { OwnedHandle::from_raw_handle(job) };
    limit(&job, flags)?;
    Ok(job)
}

fn limit(job: &OwnedHandle, flags: u32) -> Result<()> {
    // SAFETY: a plain structure of numbers, for which all zeros are a value.
    let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { std::mem::zeroed() };
    limits.BasicLimitInformation.LimitFlags = flags;
    let size = size_of_val(&limits) as u32;
    // SAFETY: the job is open, and the structure is as long as it is said to be.
    let set = unsafe { SetInformationJobObject(raw(job), JobObjectExtendedLimitInformation, (&raw const limits).cast(), size) };
    if set == 0 { Err(last_error("limit a job")) } else { Ok(()) }
}

/// A handle that a program can be given.
fn inheritable(handle: BorrowedHandle<'_>) -> Result<OwnedHandle> {
    let mut made: HANDLE = std::ptr::null_mut();
    // SAFETY: a pseudo handle and an open one; the new one is written to a place of ours.
    let done = unsafe {
        let this = GetCurrentProcess();
        DuplicateHandle(this, handle.as_raw_handle(), this, &raw mut made, 0, 1, DUPLICATE_SAME_ACCESS)
    };
    if done == 0 {
        return Err(last_error("hand a stream over to a program"));
    }
    // SAFETY: a fresh handle that nobody else closes.
    Ok(unsafe { OwnedHandle::from_raw_handle(made) })
}

/// The variables of a program. Their names have no case.
struct Environment(BTreeMap<String, (OsString, OsString)>);

impl Environment {
    /// Those of this process, or those that a user gets when he logs on, with others added.
    fn of(token: Option<&OwnedHandle>, added: &[(String, String)]) -> Result<Self> {
        let mut made = Self(BTreeMap::new());
        match token {
            Some(token) => user_environment(token)?.into_iter().for_each(|(name, value)| made.set(name, value)),
            None => std::env::vars_os().for_each(|(name, value)| made.set(name, value)),
        }
        added.iter().for_each(|(name, value)| made.set(name.into(), value.into()));
        Ok(made)
    }

    fn set(&mut self, name: OsString, value: OsString) {
        self.0.insert(name.to_string_lossy().to_uppercase(), (name, value));
    }

    fn get(&self, name: &str) -> Option<OsString> {
        self.0.get(name).map(|(_, value)| value.clone())
    }

    /// As CreateProcess takes them: sorted, each ended by a zero, all of them by another one.
    fn block(&self) -> Vec<u16> {
        let mut block = Vec::new();
        for (name, value) in self.0.values() {
            block.extend(name.encode_wide().chain([u16::from(b'=')]).chain(value.encode_wide()).chain([0]));
        }
        block.extend([0, 0]);
        block
    }
}

fn user_environment(token: &OwnedHandle) -> Result<Vec<(OsString, OsString)>> {
    let mut block: *mut core::ffi::c_void = std::ptr::null_mut();
    // SAFETY: the token is open, and the address of the block is written to a place of ours.
    if unsafe { CreateEnvironmentBlock(&raw mut block, raw(token), 0) } == 0 {
        return Err(last_error("read the environment of the user"));
    }
    let mut found = Vec::new();
    let mut at = block.cast::<u16>().cast_const();
    loop {
        let mut length = 0;
        // SAFETY: the system gave texts that each end with a zero, the last one of which is empty.
        let text = unsafe {
            while *at.add(length) != 0 {
                length += 1;
            }
            std::slice::from_raw_parts(at, length)
        };
        if text.is_empty() {
            break;
        }
        // A name may begin with `=`: the folders of drives.
        if let Some(sign) = text.iter().skip(1).position(|unit| *unit == u16::from(b'=')) {
            found.push((OsString::from_wide(&text[..=sign]), OsString::from_wide(&text[sign + 2..])));
        }
        // SAFETY: as above: one more text follows.
        at = unsafe { at.add(length + 1) };
    }
    // SAFETY: what the system gave, destroyed once.
    unsafe { DestroyEnvironmentBlock(block) };
    Ok(found)
}

/// Where a program lies: a path as it is (with one of the usual extensions where it has none), a name in the working
/// folder, in the system's folder or in `PATH`.
fn find(program: &str, path: Option<&OsStr>, folder: Option<&Path>) -> Option<PathBuf> {
    let with_extension = |base: PathBuf| {
        if base.is_file() {
            return Some(base);
        }
        EXTENSIONS.iter().find_map(|extension| {
            let mut name = base.clone().into_os_string();
            name.push(".");
            name.push(extension);
            Some(PathBuf::from(name)).filter(|path| path.is_file())
        })
    };
    let name = Path::new(program);
    if name.is_absolute() {
        return with_extension(plain(name));
    }
    let below = folder.map(|folder| plain(folder).join(name)).and_then(with_extension);
    if program.contains(['\\', '/']) {
        return below;
    }
    // The interpreter is the system's own, whatever lies in the working folder.
    let system = || with_extension(system_folder().join(name));
    let is_interpreter = ["cmd", "cmd.exe"].iter().any(|cmd| program.eq_ignore_ascii_case(cmd));
    let first = if is_interpreter { system() } else { below.or_else(system) };
    first.or_else(|| {
        std::env::split_paths(path?).filter(|folder| folder.is_absolute()).find_map(|folder| with_extension(folder.join(name)))
    })
}

/// What a program needs to run in the session of a user who is logged on, with the rights he has there; nothing where the
/// agent itself is that user.
///
/// # Errors
/// When the user is not known or not logged on, or the agent is not the system's.
pub(crate) fn token_for(user: &str) -> Result<Option<OwnedHandle>> {
    let wanted = sid_of_account(user)?;
    if own_account()? == wanted {
        return Ok(None);
    }
    let mut sessions = machine::sessions()?;
    // One that somebody looks at before one that was left.
    sessions.sort_by_key(|session| !session.active);
    system::enable_privilege("SeTcbPrivilege");
    for session in sessions {
        let mut token: HANDLE = std::ptr::null_mut();
        // SAFETY: the token is written to a place of ours.
        if unsafe { WTSQueryUserToken(session.id, &raw mut token) } == 0 {
            let error = std::io::Error::last_os_error();
            if error.raw_os_error() == Some(ERROR_PRIVILEGE_NOT_HELD.cast_signed()) {
                return Err(Error::io(format!("run a program as {user}"), &error)
                    .next("only the agent's service can: see that the account that connects is an administrator"));
            }
            continue;
        }
        // SAFETY: a fresh handle that nobody else closes.
        let token = unsafe { OwnedHandle::from_raw_handle(token) };
        if user_of_token(&token)? == wanted {
            return Ok(Some(token));
        }
    }
    Err(Error::new(ErrorKind::Refused, format!("nobody is logged on as {user}"))
        .next(format!("log on as {user} at the instrument's console and try again")))
}

/// A stream to nowhere.
///
/// # Errors
/// When the system has none.
pub(crate) fn nowhere() -> Result<std::fs::File> {
    std::fs::OpenOptions::new().read(true).write(true).open("NUL").cannot(|| "open NUL")
}

#[cfg(test)]
mod tests;
