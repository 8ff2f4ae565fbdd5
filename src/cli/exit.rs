//! The exit codes, as `docs/operating.md` documents them.

use crate::error::{Error, ErrorKind};

/// All well.
pub(super) const OK: u8 = 0;
/// Some instruments failed or were rolled back.
pub(super) const SOME_FAILED: u8 = 1;
/// Wrong usage or bad input; nothing was touched.
pub(super) const BAD_INPUT: u8 = 2;
/// Stopped by the failure limit or the deadline.
pub(super) const STOPPED: u8 = 3;
/// Refused: locked, not idle, not confirmed.
pub(super) const REFUSED: u8 = 4;
/// Cancelled by the operator.
pub(super) const CANCELLED: u8 = 130;

/// The exit code of an error that ends a command before or outside a run.
pub(super) fn code_of(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::BadInput => BAD_INPUT,
        ErrorKind::Refused => REFUSED,
        ErrorKind::Cancelled => CANCELLED,
        ErrorKind::TimedOut => STOPPED,
        _ => SOME_FAILED,
    }
}

/// The exit code of a command that asked instruments and got these errors: the one for a refusal where they all are one.
pub(super) fn of_answers<'a>(errors: impl IntoIterator<Item = &'a Error>) -> u8 {
    let refused: Vec<bool> = errors.into_iter().map(|error| error.kind() == ErrorKind::Refused).collect();
    match refused.as_slice() {
        [] => OK,
        all if all.iter().all(|refused| *refused) => REFUSED,
        _ => SOME_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_are_a_refusal() {
        let (no, gone) = (Error::new(ErrorKind::Refused, "no"), Error::new(ErrorKind::Unreachable, "gone"));
        assert_eq!([of_answers([]), of_answers([&no, &no]), of_answers([&no, &gone])], [OK, REFUSED, SOME_FAILED]);
    }
}
