//! Owners and access lists of files.

use super::access_list::{self, Sid};
use super::system::{enable_privilege, last_error, raw, text_of, token_of, wide, wide_path};
use crate::error::{Error, Result};
use std::os::windows::io::{AsRawHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::sync::OnceLock;
use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, GetLastError};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GROUP_SECURITY_INFORMATION, GetFileSecurityW, GetKernelObjectSecurity, GetTokenInformation,
    LookupAccountNameW, LookupAccountSidW, OWNER_SECURITY_INFORMATION, SetFileSecurityW, TOKEN_INFORMATION_CLASS, TOKEN_QUERY,
    TokenOwner, TokenUser,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Owner and access list; the group means nothing on Windows, but a descriptor without one is refused by some.
const ASKED: u32 = OWNER_SECURITY_INFORMATION | GROUP_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;

/// The longest identifier there can be (`SECURITY_MAX_SID_SIZE`), and room for a name.
const SID_SIZE: usize = 68;
const NAME_SIZE: usize = 512;

/// The security descriptor of a file or folder, in its self-relative form.
pub(crate) fn of(path: &Path) -> Result<Vec<u8>> {
    let what = || format!("read the rights of {}", path.display());
    let name = wide_path(path);
    let mut buffer = vec![0_u8; 512];
    loop {
        let mut needed = 0;
        let (place, size) = (buffer.as_mut_ptr().cast(), buffer.len() as u32);
        // SAFETY: the name ends with a zero, and the buffer is as long as it is said to be.
        if unsafe { GetFileSecurityW(name.as_ptr(), ASKED, place, size, &raw mut needed) } != 0 {
            return Ok(buffer);
        }
        // SAFETY: reads a number of this thread.
        if unsafe { GetLastError() } != ERROR_INSUFFICIENT_BUFFER || needed as usize <= buffer.len() {
            return Err(last_error(what()));
        }
        buffer.resize(needed as usize, 0);
    }
}

/// Who owns what an open handle leads to.
pub(crate) fn owner_of_handle(handle: BorrowedHandle<'_>) -> std::io::Result<Sid> {
    let mut buffer = vec![0_u8; 512];
    let mut needed = 0;
    let (place, size) = (buffer.as_mut_ptr().cast(), buffer.len() as u32);
    // SAFETY: the handle is open, and the buffer is as long as it is said to be: an owner alone takes less than 100 bytes.
    let told =
        unsafe { GetKernelObjectSecurity(handle.as_raw_handle(), OWNER_SECURITY_INFORMATION, place, size, &raw mut needed) };
    if told == 0 {
        return Err(std::io::Error::last_os_error());
    }
    access_list::owner(&buffer).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// Gives a file or folder the rights of a descriptor: `parts` says which (`DACL_SECURITY_INFORMATION` and so on).
pub(crate) fn set(path: &Path, parts: u32, descriptor: &[u8]) -> Result<()> {
    let name = wide_path(path);
    // SAFETY: the name ends with a zero, and the descriptor was checked when it was made or came from the system; the call
    // does not write to it.
    let done = unsafe { SetFileSecurityW(name.as_ptr(), parts, descriptor.as_ptr().cast_mut().cast()) };
    if done == 0 { Err(last_error(format!("set the rights of {}", path.display()))) } else { Ok(()) }
}

/// Gives `path` the owner and access list of `like`: the same where both are files or both are folders, else what a file
/// that is made in the folder `like` inherits.
pub(super) fn copy(like: &Path, path: &Path) -> Result<()> {
    privileges();
    let (wanted, present) = (of(like)?, of(path)?);
    let damaged = |path: &Path| Error::internal(format!("the rights of {} are not understood", path.display()));
    let wanted = match like.is_dir() && !path.is_dir() {
        true => access_list::inherited_by_file(&wanted).ok_or_else(|| damaged(like))?,
        false => access_list::kept_as_it_is(&wanted).ok_or_else(|| damaged(like))?,
    };
    let owner = access_list::owner(&wanted).ok_or_else(|| damaged(like))?;
    // Only what differs is asked for: not everybody may set the owner that is there.
    if access_list::owner(&present).as_ref() != Some(&owner) {
        set(path, OWNER_SECURITY_INFORMATION, &wanted)?;
    }
    if access_list::list(&present) != access_list::list(&wanted) {
        set(path, DACL_SECURITY_INFORMATION, &wanted)?;
    }
    Ok(())
}

/// What an administrator has and must switch on: to give files to others, and to do so where the access list forbids it.
fn privileges() {
    static ENABLED: OnceLock<()> = OnceLock::new();
    ENABLED.get_or_init(|| {
        for name in ["SeRestorePrivilege", "SeBackupPrivilege", "SeTakeOwnershipPrivilege"] {
            if !enable_privilege(name) {
                tracing::debug!(name, "this account does not have the privilege");
            }
        }
    });
}

/// The account that this process runs as.
pub(crate) fn own_account() -> Result<Sid> {
    // SAFETY: a pseudo handle, always valid.
    let token = token_of(unsafe { GetCurrentProcess() }, TOKEN_QUERY).map_err(|e| Error::io("open the own token", &e))?;
    user_of_token(&token)
}

/// The owner that what this process makes gets, unless it is told otherwise: its account, or the administrators.
pub(crate) fn own_default_owner() -> Result<Sid> {
    // SAFETY: a pseudo handle, always valid.
    let token = token_of(unsafe { GetCurrentProcess() }, TOKEN_QUERY).map_err(|e| Error::io("open the own token", &e))?;
    sid_of_token(&token, TokenOwner)
}

/// The account that a token stands for.
pub(crate) fn user_of_token(token: &OwnedHandle) -> Result<Sid> {
    sid_of_token(token, TokenUser)
}

/// The identifier that the answer begins with a pointer to; it stands in the answer itself.
fn sid_of_token(token: &OwnedHandle, class: TOKEN_INFORMATION_CLASS) -> Result<Sid> {
    let mut buffer = [0_usize; 32];
    let (mut needed, size) = (0, size_of_val(&buffer) as u32);
    // SAFETY: the token is open for questions, and the buffer is as long as it is said to be and aligned for a pointer.
    let told = unsafe { GetTokenInformation(raw(token), class, buffer.as_mut_ptr().cast(), size, &raw mut needed) };
    if told == 0 {
        return Err(last_error("ask whose token it is"));
    }
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let at = buffer[0].checked_sub(buffer.as_ptr().addr()).and_then(|at| bytes.get(at..));
    at.and_then(Sid::read).ok_or_else(|| Error::internal("the account of a token is not understood"))
}

/// The identifier of an account by its name (`DOMAIN\\name` or `name`).
///
/// # Errors
/// When there is no such account, or nobody answers who knows.
pub(crate) fn sid_of_account(name: &str) -> Result<Sid> {
    let text = wide(name);
    let (mut sid, mut domain) = ([0_u8; SID_SIZE], [0_u16; NAME_SIZE]);
    let (mut sid_size, mut domain_size, mut kind) = (SID_SIZE as u32, NAME_SIZE as u32, 0);
    // SAFETY: the name ends with a zero, and the buffers are as long as they are said to be.
    let told = unsafe {
        LookupAccountNameW(
            std::ptr::null(),
            text.as_ptr(),
            sid.as_mut_ptr().cast(),
            &raw mut sid_size,
            domain.as_mut_ptr(),
            &raw mut domain_size,
            &raw mut kind,
        )
    };
    if told == 0 {
        return Err(last_error(format!("find the account {name}")).next("see `accounts` in the inventory for its name"));
    }
    Sid::read(&sid).ok_or_else(|| Error::internal(format!("the account {name} is not understood")))
}

/// The name of an account by its identifier (`S-1-5-...`), without a domain; nothing when nobody knows it.
pub(crate) fn account_name(sid: &str) -> Option<String> {
    let sid = Sid::parse(sid)?;
    let (mut name, mut domain) = ([0_u16; NAME_SIZE], [0_u16; NAME_SIZE]);
    let (mut name_size, mut domain_size, mut kind) = (NAME_SIZE as u32, NAME_SIZE as u32, 0);
    // SAFETY: the identifier is whole, and the buffers are as long as they are said to be.
    let told = unsafe {
        LookupAccountSidW(
            std::ptr::null(),
            sid.as_bytes().as_ptr().cast_mut().cast(),
            name.as_mut_ptr(),
            &raw mut name_size,
            domain.as_mut_ptr(),
            &raw mut domain_size,
            &raw mut kind,
        )
    };
    (told != 0).then(|| text_of(&name).to_string_lossy().into_owned())
}

/// Gives a folder to administrators: they and the system may do everything in it and below, and nobody else anything.
///
/// # Errors
/// When the system refuses.
pub(crate) fn close_to_others(folder: &Path) -> Result<()> {
    set(folder, DACL_SECURITY_INFORMATION, &access_list::for_administrators(&own_account()?))
}

/// Lets everybody who is known to the machine read and execute what is in a folder that is closed to them otherwise.
///
/// # Errors
/// When the system refuses.
pub(crate) fn open_for_reading(folder: &Path) -> Result<()> {
    set(folder, DACL_SECURITY_INFORMATION, &access_list::readable_by_users(&own_account()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_copied_and_the_owner_stays_known() {
        let folder = tempfile::tempdir().unwrap();
        let [like, path] = ["like", "path"].map(|name| folder.path().join(name));
        for file in [&like, &path] {
            std::fs::write(file, "x").unwrap();
        }
        copy(&like, &path).unwrap();
        assert_eq!(access_list::list(&of(&like).unwrap()), access_list::list(&of(&path).unwrap()));
        copy(folder.path(), &path).unwrap();
        assert!(access_list::owner(&of(&path).unwrap()).is_some());
        std::fs::write(&path, "still mine").unwrap();
        assert!(own_account().unwrap().to_string().starts_with("S-1-5-"));
        assert!(own_default_owner().unwrap().to_string().starts_with("S-1-5-"));
    }
}
