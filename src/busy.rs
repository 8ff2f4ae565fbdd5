//! Files that somebody has open for a moment. Windows refuses to move, replace or remove those, and virus scanners and
//! indexers open whatever is new.

use std::io;
use std::time::{Duration, Instant};

/// How long something that is open may hold up a rename.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long "access is denied" is taken for something that passes: so Windows calls a file that is being removed, and
/// also one that an account may not touch.
const DENIED: Duration = Duration::from_secs(2);

/// The pause between two attempts, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(200)];

/// ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION.
const ACCESS_DENIED: i32 = 5;
const OPEN_ELSEWHERE: [i32; 2] = [32, 33];

/// ERROR_INTERNAL_ERROR, ERROR_NO_SYSTEM_RESOURCES: a process that could not be made just now. Nothing of it has run.
const OUT_OF_SORTS: [i32; 2] = [1359, 1450];

/// True for what Windows says about a file that somebody has open, and when it cannot do something just now.
pub(crate) fn is_busy(error: &io::Error) -> bool {
    let passes = |code| code == ACCESS_DENIED || OPEN_ELSEWHERE.contains(&code) || OUT_OF_SORTS.contains(&code);
    cfg!(windows) && error.raw_os_error().is_some_and(passes)
}

/// Does what may be refused because somebody has a file open, again and again until it is done, the limit has come, or
/// something else is wrong. On other systems it is done once.
///
/// # Errors
/// The last refusal.
pub(crate) fn patiently<T>(limit: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    let mut pause = PAUSES[0];
    loop {
        match attempt() {
            Err(error) if is_busy(&error) => {
                let limit = if error.raw_os_error() == Some(ACCESS_DENIED) { limit.min(DENIED) } else { limit };
                if begun.elapsed() + pause > limit {
                    return Err(error);
                }
            }
            done => return done,
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_waited_for_and_all_else_is_not() {
        let mut refusals = 3;
        let done = patiently(PATIENCE, || {
            refusals -= 1;
            if refusals > 0 { Err(io::Error::from_raw_os_error(32)) } else { Ok(refusals) }
        });
        assert_eq!(done.is_ok(), cfg!(windows));
        let mut attempts = 0;
        let gone = patiently(PATIENCE, || {
            attempts += 1;
            Err::<(), _>(io::Error::from(io::ErrorKind::NotFound))
        });
        assert_eq!((gone.unwrap_err().kind(), attempts), (io::ErrorKind::NotFound, 1));
        assert!(patiently(Duration::ZERO, || Err::<(), _>(io::Error::from_raw_os_error(32))).is_err());
    }
}
