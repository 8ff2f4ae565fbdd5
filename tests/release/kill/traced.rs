//! Workers that die by a system call of their own: in the very middle of a thing, however long that takes.

use super::machine::{agents, is_free, kill, outcome, signal, staged, wait_for, workers};
use crate::support::{Ended, Fleet, Watched};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The calls that rename.
pub(crate) const RENAMES: &str = "rename,renameat,renameat2";

/// A worker that is killed by its so many-th call of these; with a path, of those that name it first or use a file that was
/// opened by that name.
pub(crate) fn traced_worker(root: PathBuf, calls: &str, path: Option<&Path>, count: u64) -> Child {
    worker_with_signal("KILL", root, calls, path, count)
}

fn worker_with_signal(signal: &str, root: PathBuf, calls: &str, path: Option<&Path>, count: u64) -> Child {
    let mut strace = Command::new("strace");
    if let Some(path) = path {
        strace.arg("-P").arg(path);
    }
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={calls}"))
        .arg("-e")
        .arg(format!("inject={calls}:signal={signal}:when={count}"))
        .arg(env!("CARGO_BIN_EXE_ibexdeploy"))
        .args(["agent", "worker", "--root"])
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace starts; scripts/test installs it")
}

/// The journals of all runs.
pub(crate) fn runs(root: &Path) -> BTreeSet<PathBuf> {
    let all = std::fs::read_dir(root.join(".ibexdeploy/runs")).into_iter().flatten().flatten();
    all.map(|run| run.path().join("journal.jsonl")).filter(|journal| journal.exists()).collect()
}

/// What the run has written that was not there before; runs of one second have names in any order.
pub(crate) fn new_journal(root: &Path, before: &BTreeSet<PathBuf>) -> Vec<Value> {
    let text = runs(root).difference(before).next().and_then(|new| std::fs::read_to_string(new).ok()).unwrap_or_default();
    text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|v| v["e"].clone()).collect()
}

/// No worker is left that would not be the traced one.
pub(crate) fn clear(root: &Path) {
    workers(root).into_iter().for_each(kill);
    wait_for("the worker ends", || workers(root).is_empty().then_some(()));
    let _ = std::fs::remove_file(root.join(".ibexdeploy/worker.sock"));
}

/// Where a worker dies.
#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) calls: &'static str,
    /// What the call is about.
    pub(crate) path: PathBuf,
    pub(crate) count: u64,
    /// The controller dies when the run comes to this phase: nobody starts another worker before all was looked at.
    pub(crate) phase: &'static str,
}

/// Ends with the round, also when that failed: nothing goes on in folders that are removed.
struct Tracer<'a> {
    root: &'a Path,
    strace: Child,
}

impl Drop for Tracer<'_> {
    fn drop(&mut self) {
        kill(self.strace.id());
        let _ = self.strace.wait();
        workers(self.root).into_iter().for_each(kill);
    }
}

/// Runs a command whose worker stands still at its so many-th call of these on a path, until `act` is done; `reached` tells
/// what is there when it is about to. Gives how the command ended.
pub(crate) fn paused_at(
    fleet: &Fleet,
    name: &str,
    arguments: &[&str],
    (calls, path, count): (&str, &Path, u64),
    reached: impl FnMut() -> Option<()>,
    act: impl FnOnce(),
) -> Ended {
    let root = fleet.root(name);
    clear(&root);
    let strace = worker_with_signal("STOP", root.clone(), calls, Some(path), count);
    let _tracer = Tracer { root: &root, strace };
    wait_for("the worker listens", || (workers(&root).len() == 1 && root.join(".ibexdeploy/worker.sock").exists()).then_some(()));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| fleet.run(arguments));
        wait_for("the worker comes to the call", reached);
        act();
        // It may stop a moment later than this.
        wait_for("the command ends", || {
            signal(&root, "-CONT");
            run.is_finished().then_some(())
        });
        run.join().expect("the command ends")
    })
}

impl Death {
    /// Runs a command whose worker dies there, and whose controller has died before; shows what that left, and lets `runs
    /// resume` bring it to its end. Gives what the resumed run said, and how the journal says that it ended.
    ///
    /// # Panics
    /// When the worker comes to the end of the run.
    pub(crate) fn of(&self, fleet: &Fleet, name: &str, arguments: &[&str], look: impl FnOnce()) -> (Ended, String) {
        let root = fleet.root(name);
        clear(&root);
        let before = runs(&root);
        let strace = traced_worker(root.clone(), self.calls, Some(&self.path), self.count);
        let tracer = Tracer { root: &root, strace };
        wait_for("the worker listens", || {
            (workers(&root).len() == 1 && root.join(".ibexdeploy/worker.sock").exists()).then_some(())
        });
        let traced = workers(&root);
        let mut controller: Watched = fleet.start(arguments);
        let come = controller.until(|e| e["event"] == "phase_started" && e["phase"] == self.phase);
        assert!(come.is_some(), "{self:?}: the run did not come to the phase");
        kill(controller.child.id());
        controller.child.wait().expect("it is gone");
        wait_for("the worker dies, or the run ends", || {
            let dead = traced.iter().all(|pid| !workers(&root).contains(pid));
            (dead || outcome(&new_journal(&root, &before)).is_some()).then_some(())
        });
        assert_eq!(outcome(&new_journal(&root, &before)), None, "{self:?}: the worker came to the end");
        look();
        let resumed = fleet.run(&["runs", "resume", "--yes"]);
        // The worker says that the run has ended before it takes away who has the instrument; killed in between, it would leave that.
        wait_for("the instrument is nobody's", || (!root.join(".ibexdeploy/lock.json").exists()).then_some(()));
        drop(tracer);
        wait_for("workers, relays and jobs end", || {
            // It would end by itself a little later.
            workers(&root).into_iter().for_each(kill);
            agents(&root).is_empty().then_some(())
        });
        assert_eq!(staged(&root), [""; 0], "{self:?}: {}", resumed.story());
        wait_for("the instrument is free", || is_free(&root).then_some(()));
        let Some(ended) = outcome(&new_journal(&root, &before)) else { panic!("{self:?}: it did not end: {}", resumed.story()) };
        (resumed, ended)
    }
}
