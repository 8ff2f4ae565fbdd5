//! The programs that run on the machine, and ending them.

use super::quoting;
use super::system::{open_process, raw, text_of, wide};
use crate::error::{Error, IoContext, Result};
use crate::platform::ProcessInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessBasicInformation, ProcessWow64Information};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, FILETIME, HANDLE, INVALID_HANDLE_VALUE, STILL_ACTIVE,
};
use windows_sys::Win32::Storage::FileSystem::GetDriveTypeW;
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessTimes, PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE,
    PROCESS_VM_READ, QueryFullProcessImageNameW, TerminateProcess,
};

/// The exit code of a program that was ended from here.
const ENDED: u32 = 1;

/// GetDriveTypeW's number for a drive of another machine (`DRIVE_REMOTE`).
const REMOTE: u32 = 4;

/// Text that another process holds is read up to this length, in bytes: the longest a command line can be.
const LONGEST_TEXT: usize = 65_536;

/// One line of the system's list of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// The file name of the executable.
    pub(crate) name: String,
}

/// All processes there are now.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn snapshot() -> Result<Vec<Entry>> {
    // SAFETY: takes two numbers.
    let handle = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if handle == INVALID_HANDLE_VALUE {
        return Err(super::system::last_error("list the processes"));
    }
    // SAFETY: a fresh handle that nobody else closes.
    let list = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: a plain structure of numbers, for which all zeros are a value.
    let mut entry: PROCESSENTRY32W = unsafe { std::mem::zeroed() };
    entry.dwSize = size_of::<PROCESSENTRY32W>() as u32;
    let mut found = Vec::new();
    // SAFETY: the list is open, and the entry says its size.
    let mut more = unsafe { Process32FirstW(raw(&list), &raw mut entry) } != 0;
    while more {
        let name = text_of(&entry.szExeFile).to_string_lossy().into_owned();
        found.push(Entry { pid: entry.th32ProcessID, parent: entry.th32ParentProcessID, name });
        // SAFETY: as above.
        more = unsafe { Process32NextW(raw(&list), &raw mut entry) } != 0;
    }
    Ok(found)
}

/// The executable of a process; nothing when the system does not tell (a protected process, one that has just ended).
pub(crate) fn image(pid: u32) -> Option<PathBuf> {
    let process = open_process(pid, PROCESS_QUERY_LIMITED_INFORMATION).ok()?;
    let mut buffer = vec![0_u16; 32_768];
    let mut length = buffer.len() as u32;
    // SAFETY: the process is open, and the buffer is as long as it is said to be.
    let told = unsafe { QueryFullProcessImageNameW(raw(&process), 0, buffer.as_mut_ptr(), &raw mut length) };
    (told != 0).then(|| PathBuf::from(text_of(&buffer)))
}

/// When a process began, in units of 100 ns since 1601. A number that was given away anew has another beginning.
pub(crate) fn begun(pid: u32) -> Option<u64> {
    let process = open_process(pid, PROCESS_QUERY_LIMITED_INFORMATION).ok()?;
    let mut times = [FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 }; 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the process is open, and four times are written to places of ours.
    let told = unsafe { GetProcessTimes(raw(&process), created, ended, kernel, user) };
    (told != 0).then(|| u64::from(times[0].dwHighDateTime) << 32 | u64::from(times[0].dwLowDateTime))
}

/// True when there is a process of this number that has not ended. One that may not be looked at is there.
pub(crate) fn is_running(pid: u32) -> bool {
    match open_process(pid, PROCESS_QUERY_LIMITED_INFORMATION) {
        Ok(process) => {
            let mut code = 0;
            // SAFETY: the process is open, and the code is written to a place of ours.
            let told = unsafe { GetExitCodeProcess(raw(&process), &raw mut code) };
            told == 0 || code == STILL_ACTIVE.cast_unsigned()
        }
        Err(e) => e.raw_os_error() == Some(ERROR_ACCESS_DENIED.cast_signed()),
    }
}

/// Ends a process at once. One that is gone already is no error.
///
/// # Errors
/// When it is not allowed.
pub(crate) fn end(pid: u32) -> Result<()> {
    let what = || format!("end the process {pid}");
    let process = match open_process(pid, PROCESS_TERMINATE | PROCESS_QUERY_LIMITED_INFORMATION) {
        Ok(process) => process,
        // There is no such number any more.
        Err(e) if e.raw_os_error() == Some(ERROR_INVALID_PARAMETER.cast_signed()) => return Ok(()),
        Err(e) => return Err(e).cannot(what),
    };
    // SAFETY: the process is open for this.
    if unsafe { TerminateProcess(raw(&process), ENDED) } == 0 {
        let error = std::io::Error::last_os_error();
        // One that is ending refuses to be ended.
        return if is_running(pid) { Err(error).cannot(what) } else { Ok(()) };
    }
    Ok(())
}

/// The process and everything that started it.
///
/// # Errors
/// When the system does not list its processes.
pub(crate) fn ancestors(pid: u32) -> Result<BTreeSet<u32>> {
    let parents: BTreeMap<u32, u32> = snapshot()?.into_iter().map(|entry| (entry.pid, entry.parent)).collect();
    let mut found = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|p| *p > 0 && !found.contains(p)) {
        found.insert(pid);
        next = parents.get(&pid).copied().filter(|parent| begun(*parent) <= begun(pid));
    }
    Ok(found)
}

/// What a process started, and what that started, the nearest first; without the process.
///
/// # Errors
/// When the system does not list its processes.
pub(crate) fn descendants(pid: u32) -> Result<Vec<u32>> {
    let all = snapshot()?;
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        at += 1;
        let since = begun(parent);
        // A parent's number may have been given to another process since: its child would be older.
        let children = all.iter().filter(|entry| entry.parent == parent && entry.pid != parent && begun(entry.pid) >= since);
        let fresh: Vec<u32> = children.map(|entry| entry.pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(fresh);
    }
    found.remove(0);
    Ok(found)
}

/// The programs that can be seen, without the agent's own: those of this executable, or of one in `builds`.
///
/// # Errors
/// When the system does not list its processes.
pub(crate) fn programs(builds: &Path) -> Result<Vec<ProcessInfo>> {
    let own = Own::new(builds);
    let seen = snapshot()?.into_iter().filter(|entry| entry.pid > 4).filter_map(|entry| {
        let executable = image(entry.pid).map(|path| resolved(&path));
        let agent = entry.pid == std::process::id() || own.covers(&entry, executable.as_deref());
        (!agent).then(|| info(entry, executable))
    });
    Ok(seen.collect())
}

fn info(entry: Entry, executable: Option<PathBuf>) -> ProcessInfo {
    let parameters = Parameters::of(entry.pid).unwrap_or_default();
    let folder = parameters.folder.map(|folder| resolved(&folder));
    let run = interpreted(&entry.name, &parameters.command_line);
    let mut name = entry.name;
    if matches!(run, Interpreted::Inline) {
        // Told apart from a prompt, which runs nothing.
        name.push_str(" /c");
    }
    let scripts = match run {
        Interpreted::Script(script) => vec![resolved(&folder.clone().unwrap_or_default().join(script))],
        _ => Vec::new(),
    };
    ProcessInfo { pid: entry.pid, parent: entry.parent, name, executable, scripts, folder }
}

/// How the agent's own programs are told from the instrument's.
struct Own {
    executable: Option<PathBuf>,
    builds: PathBuf,
}

impl Own {
    fn new(builds: &Path) -> Self {
        let executable = std::env::current_exe().ok().map(|path| resolved(&path));
        Self { executable, builds: resolved(builds) }
    }

    fn covers(&self, entry: &Entry, executable: Option<&Path>) -> bool {
        let Some(executable) = executable else { return false };
        let same = Some(executable) == self.executable.as_deref() || executable.starts_with(&self.builds);
        if !same && !entry.name.to_ascii_lowercase().starts_with("ibexdeploy") {
            return false;
        }
        let words = words(entry.pid);
        stand_in(&words).is_none() && (same || words.get(1).is_some_and(|word| word == "agent"))
    }
}

/// The command line of a process, word by word; empty when the system does not tell.
pub(crate) fn words(pid: u32) -> Vec<String> {
    Parameters::of(pid).map(|parameters| quoting::split(&parameters.command_line)).unwrap_or_default()
}

/// The program of a rehearsal that this executable plays, by its command line.
fn stand_in(words: &[String]) -> Option<&str> {
    match words {
        [_, agent, part, script, ..] if agent == "agent" && part == "stand-in" => Some(script),
        _ => None,
    }
}

/// A path as [`std::fs::canonicalize`] gives it, so that the two can be compared. Links are followed, but not on another
/// machine, which may not answer for minutes.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let long = super::system::verbatim(path);
    let text = path.to_string_lossy();
    let drive =
        text.strip_prefix("\\\\?\\").unwrap_or(&text).get(..2).filter(|d| d.ends_with(':')).map(|d| wide(format!("{d}\\")));
    // SAFETY: the text ends with a zero.
    let local = drive.is_some_and(|drive| unsafe { GetDriveTypeW(drive.as_ptr()) } != REMOTE);
    if local { path.canonicalize().unwrap_or(long) } else { long }
}

/// What an interpreter runs.
#[derive(Debug, PartialEq, Eq)]
enum Interpreted {
    Script(String),
    /// Text on the command line, or a module.
    Inline,
    /// It waits for input, or is no interpreter.
    Nothing,
}

/// What `cmd.exe`, Python, Perl or PowerShell run, by their command line.
fn interpreted(name: &str, command_line: &str) -> Interpreted {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".exe").unwrap_or(&name);
    let words = quoting::split(command_line);
    let script = |words: &[String], ends: &[&str]| {
        let is_one = |word: &&String| ends.iter().any(|end| word.to_ascii_lowercase().ends_with(end));
        words.iter().find(is_one).map_or(Interpreted::Inline, |word| Interpreted::Script(word.clone()))
    };
    if let Some(script) = stand_in(&words) {
        return Interpreted::Script(script.to_owned());
    }
    let rest = words.get(1..).unwrap_or_default();
    match name {
        "cmd" => match rest.iter().position(|word| ["/c", "/k"].iter().any(|o| word.to_ascii_lowercase().starts_with(o))) {
            Some(at) => {
                // `cmd /c ""C:\a b\x.bat" y"`: the outer quotes make pieces that no path has.
                let line = rest[at..].join(" ");
                let bare = line.get(2..).unwrap_or_default().replace('"', "");
                script(&[batch_in(&bare).unwrap_or_default()], &[".bat", ".cmd"])
            }
            None => Interpreted::Nothing,
        },
        "powershell" | "pwsh" => match rest.iter().any(|word| !word.starts_with(['-', '/'])) {
            true => script(rest, &[".ps1"]),
            false => Interpreted::Nothing,
        },
        _ if name.starts_with("python") || name.starts_with("perl") => {
            match rest.iter().find(|word| !word.starts_with('-') || matches!(word.as_str(), "-c" | "-m" | "-e")) {
                None => Interpreted::Nothing,
                Some(option) if option.starts_with('-') => Interpreted::Inline,
                Some(file) => Interpreted::Script(file.clone()),
            }
        }
        _ => Interpreted::Nothing,
    }
}

/// The batch file at the beginning of a line without quotes.
fn batch_in(line: &str) -> Option<String> {
    let lower = line.to_ascii_lowercase();
    let end = [".bat", ".cmd"].iter().filter_map(|end| Some(lower.find(end)? + end.len())).min()?;
    Some(line.get(..end)?.trim().to_owned())
}

/// What a process was started with.
#[derive(Debug, Default)]
struct Parameters {
    folder: Option<PathBuf>,
    command_line: String,
}

/// Where the parameters stand in a process's memory. No documented call tells another process's working folder; these
/// places have been the same in every Windows since XP (64 bits), and Wine has them as well.
struct Layout {
    pointer: usize,
    /// In the process's block: the address of the parameters.
    parameters: usize,
    /// In the parameters: length and address of the working folder and of the command line.
    folder: usize,
    command_line: usize,
}

const NATIVE: Layout = Layout { pointer: 8, parameters: 0x20, folder: 0x38, command_line: 0x70 };
/// Those of a program of 32 bits.
const WOW64: Layout = Layout { pointer: 4, parameters: 0x10, folder: 0x24, command_line: 0x40 };

/// PROCESS_BASIC_INFORMATION.
#[repr(C)]
struct BasicInformation {
    exit_status: isize,
    block: usize,
    affinity: usize,
    priority: isize,
    pid: usize,
    parent: usize,
}

impl Parameters {
    fn of(pid: u32) -> Option<Self> {
        if size_of::<usize>() != 8 {
            return None;
        }
        let process = open_process(pid, PROCESS_QUERY_INFORMATION | PROCESS_VM_READ).ok()?;
        let process = raw(&process);
        // A program of 32 bits changes its folder in a block of its own.
        let (block, layout) = match query::<usize>(process, ProcessWow64Information).filter(|block| *block != 0) {
            Some(block) => (block, WOW64),
            None => (query::<BasicInformation>(process, ProcessBasicInformation)?.block, NATIVE),
        };
        let parameters = read_number(process, block.checked_add(layout.parameters)?, layout.pointer)?;
        let text = |at: usize| read_text(process, parameters.checked_add(at)?, layout.pointer);
        let folder = text(layout.folder).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let command_line = text(layout.command_line).unwrap_or_default().to_string_lossy().into_owned();
        Some(Self { folder, command_line })
    }
}

fn query<T>(process: HANDLE, class: i32) -> Option<T> {
    let mut answer = std::mem::MaybeUninit::<T>::zeroed();
    let size = size_of::<T>() as u32;
    // SAFETY: the process is open, and the answer is as long as it is said to be.
    let status = unsafe { NtQueryInformationProcess(process, class, answer.as_mut_ptr().cast(), size, std::ptr::null_mut()) };
    // SAFETY: only used for structures of numbers, for which all zeros and whatever the system writes are values.
    (status >= 0).then(|| unsafe { answer.assume_init() })
}

fn read(process: HANDLE, at: usize, bytes: &mut [u8]) -> Option<()> {
    let mut done = 0;
    let from = std::ptr::without_provenance::<core::ffi::c_void>(at);
    // SAFETY: the process is open; an address that is none in it makes the call fail; the buffer is as long as it is said to be.
    let told = unsafe { ReadProcessMemory(process, from, bytes.as_mut_ptr().cast(), bytes.len(), &raw mut done) };
    (told != 0 && done == bytes.len()).then_some(())
}

fn read_number(process: HANDLE, at: usize, width: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    read(process, at, bytes.get_mut(..width)?)?;
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

/// A UNICODE_STRING: a length in bytes, and after it, at the place of a pointer, the address.
fn read_text(process: HANDLE, at: usize, pointer: usize) -> Option<OsString> {
    let length = read_number(process, at, 2)?;
    let address = read_number(process, at.checked_add(pointer)?, pointer)?;
    let mut bytes = vec![0; length.min(LONGEST_TEXT)];
    read(process, address, &mut bytes)?;
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Some(OsString::from_wide(&units))
}

/// The error for a process that must not be ended.
pub(crate) fn is_the_systems(pid: u32) -> Option<Error> {
    (pid <= 4).then(|| Error::internal(format!("the process {pid} is the system itself")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A program that waits for its input.
    fn waiting(folder: &Path) -> Child {
        let mut command = Command::new("cmd.exe");
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_program_is_seen_with_its_executable_and_folder_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = waiting(folder.path());
        let pid = child.id();
        assert!(is_running(pid));
        let seen = programs(Path::new("C:\\nowhere")).unwrap().into_iter().find(|p| p.pid == pid).unwrap();
        assert!(seen.name.eq_ignore_ascii_case("cmd.exe"), "{seen:?}");
        assert_eq!(seen.parent, std::process::id());
        assert!(seen.stands_below(&folder.path().canonicalize().unwrap()), "{seen:?}");
        assert!(seen.is_shell_standing());
        assert!(seen.executable.as_ref().is_some_and(|e| e.canonicalize().unwrap() == *e), "{seen:?}");
        assert!(descendants(std::process::id()).unwrap().contains(&pid));
        assert!(ancestors(pid).unwrap().contains(&std::process::id()));
        end(pid).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert!(!is_running(pid));
        end(pid).unwrap();
    }

    #[test]
    fn this_program_is_not_among_those_of_the_instrument() {
        let all = programs(Path::new("C:\\nowhere")).unwrap();
        assert!(all.iter().all(|p| p.pid != std::process::id()));
    }

    #[test]
    fn what_an_interpreter_runs_is_read_from_its_command_line() {
        let script = |text: &str| Interpreted::Script(text.to_owned());
        for (name, line, run) in [
            ("cmd.exe", "C:\\windows\\system32\\cmd.exe", Interpreted::Nothing),
            ("cmd.exe", "cmd.exe /d /s /c \"\"C:\\a b\\start.bat\" x\"", script("C:\\a b\\start.bat")),
            ("CMD.EXE", "cmd /k run.cmd", script("run.cmd")),
            ("cmd.exe", "cmd.exe /c ping localhost", Interpreted::Inline),
            ("python.exe", "python.exe -u C:\\x\\server.py --y", script("C:\\x\\server.py")),
            ("python3.exe", "\"python3.exe\" -m http.server", Interpreted::Inline),
            ("python.exe", "python.exe", Interpreted::Nothing),
            ("powershell.exe", "powershell -File C:\\x\\y.ps1", script("C:\\x\\y.ps1")),
            ("powershell.exe", "powershell -NoExit", Interpreted::Nothing),
            ("ioc.exe", "ioc.exe st.cmd", Interpreted::Nothing),
            ("ibexdeploy.exe", "ibexdeploy.exe agent stand-in \"C:\\a b\\x.bat\" -- y", script("C:\\a b\\x.bat")),
        ] {
            assert_eq!(interpreted(name, line), run, "{line}");
        }
    }
}
