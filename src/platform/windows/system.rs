//! Small pieces that the calls into Windows share: texts, handles, errors, privileges.

use crate::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::fs::MetadataExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use windows_sys::Win32::Foundation::{ERROR_NOT_ALL_ASSIGNED, GetLastError, HANDLE, LUID};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_PRIVILEGE_ENABLED, TOKEN_ADJUST_PRIVILEGES,
    TOKEN_PRIVILEGES,
};
use windows_sys::Win32::Storage::FileSystem::{FILE_ATTRIBUTE_READONLY, SetFileAttributesW};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcess, OpenProcessToken};

/// A text as Windows takes it, with its final zero.
pub(crate) fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// A path as Windows takes it, also one that is longer than 260 characters.
pub(crate) fn wide_path(path: &Path) -> Vec<u16> {
    wide(verbatim(path))
}

/// Takes the mark of a read-only file or folder away, which keeps Windows from removing it. False when it has none.
///
/// # Errors
/// When it may not be changed.
pub(crate) fn make_writable(path: &Path) -> std::io::Result<bool> {
    let attributes = std::fs::symlink_metadata(path)?.file_attributes();
    if attributes & FILE_ATTRIBUTE_READONLY == 0 {
        return Ok(false);
    }
    // SAFETY: the name ends with a zero.
    let done = unsafe { SetFileAttributesW(wide_path(path).as_ptr(), attributes & !FILE_ATTRIBUTE_READONLY) };
    if done == 0 { Err(std::io::Error::last_os_error()) } else { Ok(true) }
}

/// What a call left in a buffer, up to the final zero.
pub(crate) fn text_of(buffer: &[u16]) -> OsString {
    let length = buffer.iter().position(|unit| *unit == 0).unwrap_or(buffer.len());
    OsString::from_wide(&buffer[..length])
}

/// The form of an absolute path that no length limits (`\\?\C:\X`); any other path as it is.
pub(crate) fn verbatim(path: &Path) -> PathBuf {
    let Some(text) = path.to_str() else { return path.to_path_buf() };
    let text = text.replace('/', "\\");
    let bytes = text.as_bytes();
    if text.starts_with("\\\\?\\") || text.starts_with("\\\\.\\") {
        path.to_path_buf()
    } else if let Some(share) = text.strip_prefix("\\\\") {
        PathBuf::from(format!("\\\\?\\UNC\\{share}"))
    } else if bytes.len() > 2 && bytes[1] == b':' && bytes[2] == b'\\' {
        PathBuf::from(format!("\\\\?\\{text}"))
    } else {
        path.to_path_buf()
    }
}

/// An error with the reason of the call that has just failed.
pub(crate) fn last_error(what: impl Display) -> Error {
    Error::io(what, &std::io::Error::last_os_error())
}

/// An error with one of Windows' numbers.
pub(crate) fn error_of(code: u32, what: impl Display) -> Error {
    Error::io(what, &std::io::Error::from_raw_os_error(code.cast_signed()))
}

/// Opens a process.
///
/// # Errors
/// When it is gone or may not be opened so.
pub(crate) fn open_process(pid: u32, access: u32) -> std::io::Result<OwnedHandle> {
    // SAFETY: takes three numbers; the handle is ours when it is not null.
    let handle = unsafe { OpenProcess(access, 0, pid) };
    if handle.is_null() {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a fresh handle that nobody else closes.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// The handle as calls take it; valid as long as the owner lives.
pub(crate) fn raw(handle: &impl AsRawHandle) -> HANDLE {
    handle.as_raw_handle()
}

/// Opens a process's token.
///
/// # Errors
/// When it may not be opened so.
pub(crate) fn token_of(process: HANDLE, access: u32) -> std::io::Result<OwnedHandle> {
    let mut token: HANDLE = std::ptr::null_mut();
    // SAFETY: the process is valid for the time of the call, and the token is written to a place of ours.
    if unsafe { OpenProcessToken(process, access, &raw mut token) } == 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a fresh handle that nobody else closes.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// Switches on a privilege that the account has. True when it is on.
pub(crate) fn enable_privilege(name: &str) -> bool {
    // SAFETY: a pseudo handle, always valid.
    let Ok(token) = token_of(unsafe { GetCurrentProcess() }, TOKEN_ADJUST_PRIVILEGES) else { return false };
    let mut id = LUID { LowPart: 0, HighPart: 0 };
    let name = wide(name);
    // SAFETY: the name ends with a zero, and the identifier is written to a place of ours.
    if unsafe { LookupPrivilegeValueW(std::ptr::null(), name.as_ptr(), &raw mut id) } == 0 {
        return false;
    }
    let wanted =
        TOKEN_PRIVILEGES { PrivilegeCount: 1, Privileges: [LUID_AND_ATTRIBUTES { Luid: id, Attributes: SE_PRIVILEGE_ENABLED }] };
    // SAFETY: the token is open, the structure lives through the call, and no earlier state is asked for.
    let done = unsafe { AdjustTokenPrivileges(raw(&token), 0, &raw const wanted, 0, std::ptr::null_mut(), std::ptr::null_mut()) };
    // SAFETY: reads a number of this thread. The call succeeds also when the account does not have the privilege.
    done != 0 && unsafe { GetLastError() } != ERROR_NOT_ALL_ASSIGNED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_get_the_form_without_a_limit() {
        for (path, long) in [
            ("C:\\a/b", "\\\\?\\C:\\a\\b"),
            ("\\\\srv\\inst$\\x", "\\\\?\\UNC\\srv\\inst$\\x"),
            ("\\\\?\\C:\\a", "\\\\?\\C:\\a"),
            ("a\\b", "a\\b"),
        ] {
            assert_eq!(verbatim(Path::new(path)), PathBuf::from(long));
        }
    }
}
