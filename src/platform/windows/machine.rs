//! The machine itself: its name, its memory, its restarts, and who is logged on.

use super::system::{enable_privilege, last_error, text_of, wide};
use crate::error::{IoContext, Result};
use std::path::PathBuf;
use windows_sys::Wdk::System::Threading::ProcessIoPriority;
use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, GetLastError, HANDLE, NTSTATUS};
use windows_sys::Win32::System::RemoteDesktop::{
    WTS_CURRENT_SERVER_HANDLE, WTS_INFO_CLASS, WTS_SESSION_INFOW, WTSActive, WTSDisconnected, WTSDomainName,
    WTSEnumerateSessionsW, WTSFreeMemory, WTSGetActiveConsoleSessionId, WTSQuerySessionInformationW, WTSUserName,
};
use windows_sys::Win32::System::Shutdown::{
    InitiateSystemShutdownExW, SHTDN_REASON_FLAG_PLANNED, SHTDN_REASON_MAJOR_APPLICATION, SHTDN_REASON_MINOR_MAINTENANCE,
};
use windows_sys::Win32::System::SystemInformation::{
    COMPUTER_NAME_FORMAT, ComputerNamePhysicalDnsFullyQualified, ComputerNamePhysicalDnsHostname, GetComputerNameExW,
    GlobalMemoryStatusEx, MEMORYSTATUSEX,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, IDLE_PRIORITY_CLASS, NORMAL_PRIORITY_CLASS, SetPriorityClass};
use winreg::RegKey;
use winreg::enums::{HKEY_LOCAL_MACHINE, KEY_READ, KEY_WRITE, REG_OPTION_VOLATILE};

/// A key that the system forgets when it goes down. Nothing is ever written into it, so that the time of its last change
/// is the time at which somebody first asked after the start.
const BOOT_KEY: &str = "SOFTWARE\\ibexdeploy since boot";

/// How long the logged-on user sees the reason before the machine goes down, in seconds.
const SHUTDOWN_NOTICE: u32 = 5;

/// IO_PRIORITY_HINT: `IoPriorityLow` and `IoPriorityNormal`.
const IO_LOW: u32 = 1;
const IO_USUAL: u32 = 2;

#[link(name = "ntdll")]
unsafe extern "system" {
    /// Sets a property of a process; `windows-sys` does not have it.
    fn NtSetInformationProcess(process: HANDLE, class: i32, value: *const core::ffi::c_void, size: u32) -> NTSTATUS;
}

/// Where the registry says which folder holds what programs keep for the whole machine.
const FOLDERS: &str = "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Explorer\\Shell Folders";

/// `C:\ProgramData`, where the agent's home lies. Asked of the registry, which administrators write: an environment may be
/// anybody's, and that of a service is another one than that of a session.
pub(crate) fn program_data() -> PathBuf {
    let folders = RegKey::predef(HKEY_LOCAL_MACHINE).open_subkey_with_flags(FOLDERS, KEY_READ);
    let named = folders.and_then(|key| key.get_value::<String, _>("Common AppData")).ok();
    named.map(PathBuf::from).filter(|path| path.is_absolute()).unwrap_or_else(|| PathBuf::from("C:\\ProgramData"))
}

/// The machine's name with its domain, as far as it has one.
pub(super) fn host_name() -> String {
    computer_name(ComputerNamePhysicalDnsFullyQualified)
        .or_else(|| computer_name(ComputerNamePhysicalDnsHostname))
        .unwrap_or_else(|| std::env::var("COMPUTERNAME").unwrap_or_default())
}

fn computer_name(format: COMPUTER_NAME_FORMAT) -> Option<String> {
    let mut length = 0;
    // SAFETY: without a buffer, only the needed length is written, to a place of ours.
    let told = unsafe { GetComputerNameExW(format, std::ptr::null_mut(), &raw mut length) };
    // SAFETY: reads a number of this thread.
    if told != 0 || unsafe { GetLastError() } != ERROR_MORE_DATA {
        return None;
    }
    let mut buffer = vec![0_u16; length as usize];
    // SAFETY: the buffer is as long as it is said to be.
    let told = unsafe { GetComputerNameExW(format, buffer.as_mut_ptr(), &raw mut length) };
    (told != 0).then(|| text_of(&buffer).to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

/// Changes with every start of the machine. The time of the start cannot be used: it moves when the clock is set.
pub(super) fn boot_id() -> Result<String> {
    let what = || "note in the registry that the machine has started";
    let machine = RegKey::predef(HKEY_LOCAL_MACHINE);
    let key = match machine.open_subkey_with_flags(BOOT_KEY, KEY_READ) {
        Ok(key) => key,
        Err(_) => machine.create_subkey_with_options_flags(BOOT_KEY, REG_OPTION_VOLATILE, KEY_READ | KEY_WRITE).cannot(what)?.0,
    };
    let changed = key.query_info().cannot(what)?.last_write_time;
    Ok(format!("{:08x}{:08x}", changed.dwHighDateTime, changed.dwLowDateTime))
}

/// Installed memory in bytes, as far as the system uses it.
pub(super) fn memory() -> Result<u64> {
    // SAFETY: a plain structure of numbers, for which all zeros are a value.
    let mut status: MEMORYSTATUSEX = unsafe { std::mem::zeroed() };
    status.dwLength = size_of::<MEMORYSTATUSEX>() as u32;
    // SAFETY: the structure says its size.
    if unsafe { GlobalMemoryStatusEx(&raw mut status) } == 0 {
        return Err(last_error("ask for the size of the memory"));
    }
    Ok(status.ullTotalPhys)
}

/// Asks for a restart.
pub(super) fn reboot(reason: &str) -> Result<()> {
    if !enable_privilege("SeShutdownPrivilege") {
        tracing::debug!("this account may not restart the machine, or need not ask");
    }
    let message = wide(reason);
    let why = SHTDN_REASON_MAJOR_APPLICATION | SHTDN_REASON_MINOR_MAINTENANCE | SHTDN_REASON_FLAG_PLANNED;
    // SAFETY: the message ends with a zero; no name means this machine.
    let asked = unsafe { InitiateSystemShutdownExW(std::ptr::null(), message.as_ptr(), SHUTDOWN_NOTICE, 1, 1, why) };
    if asked == 0 { Err(last_error("restart the machine")) } else { Ok(()) }
}

/// Lets other programs go first, or no longer. Not `PROCESS_MODE_BACKGROUND_BEGIN`: that leaves a process 32 MB of memory
/// to work in.
pub(super) fn background_priority(on: bool) {
    let (class, io) = if on { (IDLE_PRIORITY_CLASS, IO_LOW) } else { (NORMAL_PRIORITY_CLASS, IO_USUAL) };
    // SAFETY: a pseudo handle and a number.
    if unsafe { SetPriorityClass(GetCurrentProcess(), class) } == 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the priority stays as it is");
    }
    // SAFETY: a pseudo handle, and a number that is as long as it is said to be.
    let status = unsafe {
        NtSetInformationProcess(GetCurrentProcess(), ProcessIoPriority, (&raw const io).cast(), size_of_val(&io) as u32)
    };
    if status < 0 {
        tracing::debug!(status, "the disk priority stays as it is");
    }
}

/// A session of somebody at the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: u32,
    /// `DOMAIN\name`.
    pub(crate) user: String,
    /// At the console or connected from afar; else it goes on without anybody looking.
    pub(crate) active: bool,
}

/// The sessions that somebody is logged on in.
pub(crate) fn sessions() -> Result<Vec<Session>> {
    let mut list: *mut WTS_SESSION_INFOW = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: address and number of the entries are written to places of ours.
    let told = unsafe { WTSEnumerateSessionsW(WTS_CURRENT_SERVER_HANDLE, 0, 1, &raw mut list, &raw mut count) };
    if told == 0 {
        return Err(last_error("list the sessions of the machine"));
    }
    let mut found = Vec::new();
    if !list.is_null() {
        // SAFETY: the system has just given so many entries.
        for entry in unsafe { std::slice::from_raw_parts(list, count as usize) } {
            let active = entry.State == WTSActive;
            if active || entry.State == WTSDisconnected {
                found.extend(session(entry.SessionId, active));
            }
        }
        // SAFETY: what the system gave, freed once.
        unsafe { WTSFreeMemory(list.cast()) };
    }
    if count == 0 {
        // Windows lists at least the session of services; Wine lists none, and knows who is at the console.
        // SAFETY: takes nothing and gives a number.
        found.extend(session(unsafe { WTSGetActiveConsoleSessionId() }, true));
    }
    Ok(found)
}

/// A session, when somebody is logged on in it.
fn session(id: u32, active: bool) -> Option<Session> {
    let name = told_of_session(id, WTSUserName).filter(|name| !name.is_empty())?;
    let domain = told_of_session(id, WTSDomainName).unwrap_or_default();
    let user = if domain.is_empty() { name } else { format!("{domain}\\{name}") };
    Some(Session { id, user, active })
}

fn told_of_session(session: u32, what: WTS_INFO_CLASS) -> Option<String> {
    let mut text: windows_sys::core::PWSTR = std::ptr::null_mut();
    let mut bytes = 0;
    // SAFETY: address and length of the text are written to places of ours.
    let told = unsafe { WTSQuerySessionInformationW(WTS_CURRENT_SERVER_HANDLE, session, what, &raw mut text, &raw mut bytes) };
    if told == 0 || text.is_null() {
        return None;
    }
    // SAFETY: the system has just given so many bytes.
    let value = text_of(unsafe { std::slice::from_raw_parts(text, bytes as usize / 2) }).to_string_lossy().into_owned();
    // SAFETY: what the system gave, freed once.
    unsafe { WTSFreeMemory(text.cast()) };
    Some(value)
}
