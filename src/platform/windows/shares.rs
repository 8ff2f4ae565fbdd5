//! Shares that are read as somebody else than the agent: a service has no account on other machines but the machine's own.

use super::system::wide;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::WinPath;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_ACCOUNT_LOCKED_OUT, ERROR_INVALID_PASSWORD, ERROR_LOGON_FAILURE,
    ERROR_SESSION_CREDENTIAL_CONFLICT, NO_ERROR,
};
use windows_sys::Win32::NetworkManagement::WNet::{
    CONNECT_TEMPORARY, NETRESOURCEW, RESOURCETYPE_DISK, WNetAddConnection2W, WNetCancelConnection2W,
};

/// A connection to a share; it ends with this.
#[derive(Debug)]
pub(super) struct Connection {
    share: Vec<u16>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the name ends with a zero. One that is used still stays, and goes with the session.
        unsafe { WNetCancelConnection2W(self.share.as_ptr(), 0, 0) };
    }
}

/// Connects to the share of a path.
///
/// # Errors
/// When the path is on no share, the share is not there, or it does not let the account in.
pub(super) fn connect(path: &WinPath, user: &str, password: &str) -> Result<Connection> {
    let Some((server, share)) = path.share() else {
        return Err(Error::bad_input(format!("{path} is on no share, and needs no account"))
            .next("leave `user` and `password` out beside `from`"));
    };
    let name = format!("\\\\{server}\\{share}");
    let mut remote = wide(&name);
    let (user_text, mut password) = (wide(user), wide(password));
    // SAFETY: a plain structure of numbers and pointers, for which all zeros are a value.
    let mut resource: NETRESOURCEW = unsafe { std::mem::zeroed() };
    resource.dwType = RESOURCETYPE_DISK;
    resource.lpRemoteName = remote.as_mut_ptr();
    // SAFETY: all texts end with a zero and live through the call.
    let code = unsafe { WNetAddConnection2W(&raw const resource, password.as_ptr(), user_text.as_ptr(), CONNECT_TEMPORARY) };
    password.fill(0);
    match code {
        NO_ERROR => Ok(Connection { share: remote }),
        ERROR_SESSION_CREDENTIAL_CONFLICT => Err(super::system::error_of(code, format!("connect to {name} as {user}"))
            .because("the agent is connected to that server as somebody else")),
        ERROR_ACCESS_DENIED | ERROR_ACCOUNT_LOCKED_OUT | ERROR_INVALID_PASSWORD | ERROR_LOGON_FAILURE => {
            Err(Error::new(ErrorKind::Refused, format!("the share {name} does not let {user} in"))
                .because(std::io::Error::from_raw_os_error(code.cast_signed())))
        }
        _ => Err(super::system::error_of(code, format!("connect to {name} as {user}"))),
    }
}
