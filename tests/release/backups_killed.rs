//! `kill -9` of the worker while it makes a backup, puts one back, or moves an old one to the share: what comes next goes on,
//! and no backup that was good is lost.

use crate::backups::{expect_whole, listed, make_large, names_in, old, only_backup, well_or_nothing};
use crate::kill::machine::{installed, is_free, journal, kill, outcome, signal, wait_for, workers};
use crate::kill::traced::{Death, RENAMES};
use crate::support::Fleet;
use crate::support::sandbox::differences;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

#[test]
fn a_backup_whose_worker_is_killed_in_the_middle_is_made_again() {
    let fleet = Fleet::running(&[NAME]);
    make_large(&fleet, 50_000_000);
    let root = fleet.root(NAME);
    let mut watched = fleet.start(&["backup", NAME]);
    let writes_a_zip = || {
        let part = names_in(&old(&fleet)).into_iter().find(|name| name.starts_with('.'))?;
        let zips = std::fs::read_dir(old(&fleet).join(part)).ok()?;
        zips.flatten().any(|zip| zip.metadata().is_ok_and(|m| m.len() > 0)).then_some(())
    };
    wait_for("a zip is being written", writes_a_zip);
    // It stands still while this is looked at: the kill does not come too late.
    signal(&root, "-STOP");
    let there = names_in(&old(&fleet));
    assert!(there.len() == 1 && there[0].starts_with('.'), "half a backup: {there:?}");
    workers(&root).into_iter().for_each(kill);
    watched.until(|e| e["event"] == "run_finished").expect("the controller goes on with a new worker");
    wait_for("the instrument is free", || is_free(&root).then_some(()));
    assert_eq!(outcome(&journal(&root)).as_deref(), Some("ok"));
    let folder = only_backup(&fleet);
    let all = listed(&fleet);
    assert_eq!(all[0]["state"], "good", "{all:?}");
    assert!(folder.join("catalogue.json").is_file());
}

type Files = BTreeMap<String, String>;

/// An instrument with a backup, and with files that were changed since.
struct Restore {
    fleet: Fleet,
    saved: Files,
    changed: Files,
}

/// When this file is there, the server does not start once.
const FAILS: &str = "fails";

impl Restore {
    fn new() -> Self {
        let fleet = Fleet::running(&[NAME]);
        let script = fleet.server(NAME).join("start_ibex_server.bat");
        let text = std::fs::read_to_string(&script).expect("a script");
        let line = format!("if [ -e \"$IBEX_ROOT/{FAILS}\" ]; then rm \"$IBEX_ROOT/{FAILS}\"; echo it fails >&2; exit 3; fi");
        std::fs::write(&script, text.replacen("#!/bin/sh\n", &format!("#!/bin/sh\n{line}\n"), 1)).expect("a script");
        well_or_nothing(&fleet.run(&["backup", NAME]));
        let saved = installed(&fleet, NAME);
        for place in ["EPICS", "Client_E4", "Python3"] {
            let folder = fleet.root(NAME).join("c/Instrument/Apps").join(place);
            std::fs::write(folder.join("VERSION.txt"), "9.9.9\n").expect("a file");
            std::fs::write(folder.join("made_since.txt"), "x").expect("a file");
        }
        std::fs::remove_file(fleet.server(NAME).join("ioc/master/GALIL/st.cmd")).expect("a file less");
        let changed = installed(&fleet, NAME);
        assert_ne!(changed, saved);
        Self { fleet, saved, changed }
    }

    fn app(&self, path: &str) -> PathBuf {
        self.fleet.root(NAME).join("c/Instrument/Apps").join(path)
    }

    /// Some of it is back, and some is not.
    fn expect_mixed(&self, at: &str) {
        let now = installed(&self.fleet, NAME);
        assert!(now != self.changed && now != self.saved, "killed at {at}: files of both are there");
    }

    fn expect(&self, wanted: &Files, at: &str, told: &str) {
        assert_eq!(differences(wanted, &installed(&self.fleet, NAME)), [""; 0], "killed at {at}: {told}");
        assert!(self.fleet.ibex(NAME).is_some(), "killed at {at}: IBEX runs");
        expect_whole(&only_backup(&self.fleet));
        assert_eq!(listed(&self.fleet)[0]["state"], "good", "killed at {at}");
    }
}

/// Dies when this is moved aside for the so many-th time.
fn at_rename(path: PathBuf, count: u64) -> Death {
    Death { calls: RENAMES, path, count, phase: "apply" }
}

#[test]
fn a_restore_whose_worker_is_killed_between_two_renames_is_whole_in_the_end() {
    let restore = Restore::new();
    for at in ["EPICS/ioc", "Client_E4/VERSION.txt", "Python3/made_since.txt"] {
        let (ended, outcome) = at_rename(restore.app(at), 1).of(&restore.fleet, NAME, &["restore", NAME, "--yes"], || {
            restore.expect_mixed(at);
            assert_eq!(restore.fleet.ibex(NAME), None, "IBEX is stopped while files of both are there");
        });
        assert_eq!(outcome, "changed", "killed at {at}: {}", ended.story());
        restore.expect(&restore.saved, at, &ended.story());
        let back = restore.fleet.run(&["rollback", NAME, "--yes"]);
        assert_eq!(back.outcome(NAME), "rolled_back", "killed at {at}: {}", back.story());
        restore.expect(&restore.changed, at, &back.story());
    }
}

#[test]
fn a_restore_of_one_folder_whose_worker_is_killed_touches_no_other() {
    let restore = Restore::new();
    let at = "Client_E4/plugins";
    let arguments = ["restore", NAME, "--yes", "--of", "client"];
    let (ended, outcome) = at_rename(restore.app(at), 1).of(&restore.fleet, NAME, &arguments, || restore.expect_mixed(at));
    assert_eq!(outcome, "changed", "{}", ended.story());
    let mut wanted = restore.changed.clone();
    wanted.retain(|path, _| !path.starts_with("Client_E4/"));
    wanted.extend(restore.saved.iter().filter(|(p, _)| p.starts_with("Client_E4/")).map(|(p, f)| (p.clone(), f.clone())));
    restore.expect(&wanted, at, &ended.story());
}

#[test]
fn a_restore_that_is_taken_back_by_two_workers_leaves_what_was_there() {
    let restore = Restore::new();
    for at in ["Python3/Lib", "EPICS/VERSION.txt"] {
        std::fs::write(restore.fleet.root(NAME).join(FAILS), "").expect("a file");
        // The first time it is moved aside, the second time it goes again.
        let (ended, outcome) = at_rename(restore.app(at), 2).of(&restore.fleet, NAME, &["restore", NAME, "--yes"], || {
            restore.expect_mixed(at);
        });
        assert_eq!(outcome, "rolled_back", "killed at {at}: {}", ended.story());
        restore.expect(&restore.changed, at, &ended.story());
    }
}

/// How many folders are unpacked.
fn unpacked(root: &Path) -> usize {
    let find = Command::new("find").arg(root).args(["-path", "*/.ibexdeploy/*/stage/*", "-name", "tree.done"]).output();
    String::from_utf8_lossy(&find.expect("find runs").stdout).lines().count()
}

#[test]
fn a_restore_whose_worker_is_killed_while_it_unpacks_has_stopped_nothing() {
    let restore = Restore::new();
    let folder = only_backup(&restore.fleet);
    let server = restore.fleet.ibex(NAME);
    // The second folder's zip is opened when the first folder is unpacked.
    let death = Death { calls: "read,pread64", path: folder.join("Client_E4.zip"), count: 1, phase: "stage" };
    let (ended, outcome) = death.of(&restore.fleet, NAME, &["restore", NAME, "--yes"], || {
        assert_eq!(unpacked(&restore.fleet.root(NAME)), 1);
        assert_eq!(differences(&restore.changed, &installed(&restore.fleet, NAME)), [""; 0]);
        assert!(server.is_some() && restore.fleet.ibex(NAME) == server, "the same server runs");
    });
    assert_eq!(outcome, "changed", "{}", ended.story());
    restore.expect(&restore.saved, "unpacking", &ended.story());
}

/// An instrument with as many backups as stay, of which the next one moves the oldest to the share.
struct Retention {
    fleet: Fleet,
}

/// The backup that is to go, and what is in it.
struct Oldest {
    name: String,
    content: Files,
}

impl Retention {
    fn new() -> Self {
        let fleet = Fleet::running(&[NAME]);
        let large = make_large(&fleet, 5_000_000);
        for _ in 0..3 {
            well_or_nothing(&fleet.run(&["backup", NAME]));
            let _ = std::fs::remove_file(&large);
        }
        Self { fleet }
    }

    fn oldest(&self) -> Oldest {
        let name = names_in(&old(&self.fleet)).swap_remove(0);
        Oldest { content: Fleet::tree(&old(&self.fleet).join(&name)), name }
    }

    fn share(&self) -> PathBuf {
        self.fleet.root(NAME).join("unc/isis.cclrc.ac.uk/inst$/backups$/stage-deleted").join(NAME)
    }

    /// Where a whole copy of a backup is: at the instrument, on the share.
    fn whole(&self, backup: &Oldest) -> (bool, bool) {
        let is = |folder: PathBuf| folder.is_dir() && Fleet::tree(&folder) == backup.content;
        (is(old(&self.fleet).join(&backup.name)), is(self.share().join(&backup.name)))
    }
}

#[test]
fn an_old_backup_whose_move_is_killed_is_never_without_a_whole_copy_and_has_one_in_the_end() {
    let (here, there, both) = ((true, false), (false, true), (true, true));
    let retention = Retention::new();
    let fleet = &retention.fleet;
    let mut gone = Vec::new();
    for (moment, calls, count, left) in [
        // Of a large one, in pieces.
        ("the copy is being written", "write", 3, here),
        ("the copy is read back", "read", 1, here),
        ("the copy gets its name", RENAMES, 1, here),
        ("the original is about to go", RENAMES, 1, both),
        ("the original goes", "unlink,unlinkat", 2, there),
    ] {
        let oldest = retention.oldest();
        let part = format!(".{}.part", oldest.name);
        let path = match moment {
            "the copy gets its name" => retention.share().join(part),
            "the original is about to go" => old(fleet).join(&oldest.name),
            "the original goes" => old(fleet).join(part),
            _ => retention.share().join(part).join("EPICS.zip"),
        };
        let death = Death { calls, path, count, phase: "stage" };
        let (ended, outcome) = death.of(fleet, NAME, &["backup", NAME], || {
            let seen = (names_in(&old(fleet)), names_in(&retention.share()));
            assert_eq!(retention.whole(&oldest), left, "{moment}: {seen:?}");
        });
        assert_eq!(outcome, "ok", "{moment}: a backup changes nothing that is installed: {}", ended.story());
        assert_eq!(retention.whole(&oldest), there, "{moment}: {}", ended.story());
        gone.push(oldest.name);
        assert_eq!(names_in(&retention.share()), gone, "{moment}: each once, and nothing half");
        let stay = names_in(&old(fleet));
        assert!(stay.len() == 3 && stay.iter().all(|name| !name.starts_with('.')), "{moment}: {stay:?}");
        stay.iter().for_each(|name| expect_whole(&old(fleet).join(name)));
        assert!(listed(fleet).iter().all(|b| b["state"] == "good"), "{moment}");
    }
}
