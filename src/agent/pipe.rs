//! The worker's named pipe: who may connect, and whose it is.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::platform::windows::{access_list::Sid, rights};
use interprocess::local_socket::ListenerOptions;
use interprocess::local_socket::tokio::Stream;
use interprocess::os::windows::local_socket::ListenerOptionsExt;
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use std::os::windows::io::AsHandle;
use widestring::U16CString;

/// Lets nobody connect but the system, administrators and the account that this process runs as. Anybody may make a pipe
/// of any name and rights, so that the other side looks as well: [`check_owner`].
pub(super) fn for_us_alone(options: ListenerOptions<'_>) -> Result<ListenerOptions<'_>> {
    let own = rights::own_account()?;
    let text = U16CString::from_str_truncate(format!("D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;{own})"));
    let rights = SecurityDescriptor::deserialize(&text).cannot(|| "say who may connect to the worker")?;
    Ok(options.security_descriptor(rights))
}

/// Whether a pipe is a worker's and not one that somebody put up to be given a plan and its secrets: none but the system,
/// administrators and this account may own it. To be asked before anything is written.
///
/// # Errors
/// When it is somebody else's.
pub(super) fn check_owner(stream: &Stream) -> Result<()> {
    let Stream::NamedPipe(pipe) = stream;
    let owner = rights::owner_of_handle(pipe.inner().as_handle()).cannot(|| "ask whose the worker's pipe is")?;
    let ours = [Sid::system(), Sid::administrators(), rights::own_account()?, rights::own_default_owner()?];
    if ours.contains(&owner) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("the worker's pipe belongs to {owner}, who is no administrator"))
        .next("find the program of that account that made it and end it; then look what it wants"))
}
