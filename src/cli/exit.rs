//! The exit codes, as `docs/operating.md` documents them.

use crate::error::{Error, ErrorKind};

/// All well.
pub const OK: u8 = 0;
/// Some instruments failed or were rolled back.
pub const SOME_FAILED: u8 = 1;
/// Wrong usage or bad input; nothing was touched.
pub const BAD_INPUT: u8 = 2;
/// Stopped by the failure limit or the deadline.
pub const STOPPED: u8 = 3;
/// Refused: locked, not idle, not confirmed.
pub const REFUSED: u8 = 4;
/// An instrument needs a person: its rollback failed.
pub const NEEDS_PERSON: u8 = 5;
/// Cancelled by the operator.
pub const CANCELLED: u8 = 130;

/// The exit code of an error that ends a command before or outside a run.
pub fn code_of(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::BadInput => BAD_INPUT,
        ErrorKind::Refused => REFUSED,
        ErrorKind::Cancelled => CANCELLED,
        ErrorKind::TimedOut => STOPPED,
        _ => SOME_FAILED,
    }
}
