//! Wrappers of jobs that were made and never began. Windows makes every process suspended, and whoever made it lets it go on then: of
//! a worker that is killed between the two a process is left that does nothing, for ever, and holds its executable.

use super::detach::Leader;
use super::home::Home;
use super::jobs::leader_in;
use crate::platform::windows::processes;
use std::path::Path;

/// Ends them. For the worker that holds the home's lock: only the worker starts jobs, and it writes down which process it started
/// before it hands the order over. One that is not written down never gets its order.
pub(super) fn end(home: &Home) {
    let all = match processes::snapshot() {
        Ok(all) => all,
        Err(error) => return tracing::warn!(%error, "whether an earlier worker left processes is not known"),
    };
    for entry in all.into_iter().filter(|entry| entry.name.to_ascii_lowercase().starts_with("ibexdeploy")) {
        let words = processes::words(entry.pid);
        let [_, agent, job, dir] = words.as_slice() else { continue };
        let dir = Path::new(dir);
        let ours = agent == "agent" && job == "job" && dir.starts_with(home.folder());
        if !ours || leader_in(dir) == Some(Leader::now(entry.pid)) {
            continue;
        }
        tracing::info!(pid = entry.pid, job = %dir.display(), "an earlier worker was killed while it started this");
        if let Err(error) = processes::end(entry.pid) {
            tracing::warn!(%error, "it goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::windows::process::CommandExt;
    use std::process::{Child, Command};
    use windows_sys::Win32::System::Threading::CREATE_SUSPENDED;

    /// The wrapper of a job, as it is before it has begun.
    fn made(dir: &Path) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["agent", "job"]).arg(dir).creation_flags(CREATE_SUSPENDED).spawn().unwrap()
    }

    #[test]
    fn only_wrappers_of_this_home_that_nobody_has_written_down_are_ended() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let home = Home::open(Some(folder.path())).unwrap();
        let job = |name: &str| {
            let dir = home.folder().join("runs/r/jobs").join(name);
            std::fs::create_dir_all(&dir).unwrap();
            dir
        };
        let (mut lost, mut begun) = (made(&job("lost")), made(&job("begun")));
        let mut elsewhere = made(&other.path().join("lost"));
        std::fs::write(job("begun").join("pid"), Leader::of(&begun).to_string()).unwrap();
        // One that had the same folder before, and whose number is another.
        let mut again = made(&job("begun"));
        end(&home);
        assert!(!lost.wait().unwrap().success());
        assert!(!again.wait().unwrap().success());
        for alive in [&mut begun, &mut elsewhere] {
            assert!(alive.try_wait().unwrap().is_none());
            alive.kill().unwrap();
            alive.wait().unwrap();
        }
    }
}
