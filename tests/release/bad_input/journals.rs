//! Journals that are damaged, cut, emptied, or of another build.

use super::copy;
use crate::support::Fleet;
use ibexdeploy::rehearsal::KitShape;
use std::path::{Path, PathBuf};

const NAME: &str = "NDXLARMOR";

/// A sandbox with a finished release, and a copy of it to begin from again.
struct Finished {
    fleet: Fleet,
    run: String,
}

impl Finished {
    fn new() -> Self {
        let fleet = Fleet::new(&KitShape::small().without_git());
        fleet.make(&[NAME]);
        let first = fleet.run(&["release", NAME, "--yes"]);
        assert_eq!(first.code, 0, "{}", first.story());
        let run = first.events[0]["run"].as_str().unwrap().to_owned();
        Self { fleet, run }
    }

    /// The sandbox as the release left it, under another name, with its journal changed.
    fn with(&self, change: impl FnOnce(&Path)) -> Fleet {
        let fleet = Fleet::empty();
        copy(&self.fleet.root(NAME), &fleet.root(NAME));
        copy(&self.fleet.kits(), &fleet.kits().join("..").join("copied"));
        std::fs::remove_dir(fleet.kits()).unwrap();
        std::fs::rename(fleet.dir().join("copied"), fleet.kits()).unwrap();
        // A socket and a process of the other sandbox.
        let _ = std::fs::remove_file(fleet.root(NAME).join(".ibexdeploy/worker.sock"));
        change(&self.journal(&fleet));
        fleet
    }

    fn journal(&self, fleet: &Fleet) -> PathBuf {
        fleet.root(NAME).join(".ibexdeploy/runs").join(&self.run).join("journal.jsonl")
    }

    /// What `status` and `rollback` say; nothing is begun again, and nothing is undone.
    fn told(&self, fleet: &Fleet) -> String {
        let apps = fleet.apps(NAME);
        let said = |arguments: &[&str]| {
            let output = fleet.command(arguments).args(["--output", "plain"]).output().unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!text.contains("panicked"), "{text}");
            let text = text.replace(&fleet.dir().display().to_string(), "DIR").replace(&self.run, "RUN");
            (output.status.code().unwrap(), text)
        };
        let (code, status) = said(&["status", NAME]);
        assert_eq!(code, 0, "{status}");
        let lost = status.lines().skip(2).collect::<Vec<_>>().join("\n");
        let (code, rollback) = said(&["rollback", NAME, "--yes"]);
        let why: Vec<&str> = rollback.lines().skip_while(|l| !l.starts_with("What went wrong")).skip(2).take(2).collect();
        assert_eq!(fleet.apps(NAME), apps, "{rollback}");
        let runs = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/runs")).unwrap().count();
        assert_eq!(runs, 1, "no run was begun");
        format!("{lost}\nrollback: exit {code}\n{}", why.join("\n"))
    }
}

#[test]
fn journals_of_a_finished_run() {
    let finished = Finished::new();
    let bytes = std::fs::read(finished.journal(&finished.fleet)).unwrap();
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    // How many entries a release writes is not what this is about.
    let last = format!("to {} of the journal", lines(&bytes));
    let told = |change: &dyn Fn(&Path)| finished.told(&finished.with(change)).replace(&last, "to LAST of the journal");

    let intend = bytes.windows(8).position(|w| w == b"\"intend\"").unwrap();
    let mut flipped = bytes.clone();
    flipped[intend + 3] ^= 1;
    let number = (lines(&bytes[..intend]) + 1).to_string();
    let hidden = told(&|path| std::fs::write(path, &flipped).unwrap()).replace(&format!("line {number} "), "line N ");
    insta::assert_snapshot!(hidden.replace(&format!("entries {number} to {number} "), "entries N to N "), @"
    NDXLARMOR: the run RUN cannot be undone, and does not go on: line N of the journal is lost: its checksum does not match; entries N to N of the journal are lost
    rollback: exit 4
        the journal of RUN is damaged: line N of the journal is lost: its checksum does not match; entries N to N of the journal are lost
        next: release again, which makes every file right, or restore a backup
    ");
    let third = &bytes[..bytes.len() / 3];
    let first = format!("entries {} to", lines(third) + 1);
    insta::assert_snapshot!(told(&|path| std::fs::write(path, third).unwrap()).replace(&first, "entries FIRST to"), @"
    NDXLARMOR: the run RUN cannot be undone, and does not go on: entries FIRST to LAST of the journal are lost
    rollback: exit 4
        the journal of RUN is damaged: entries FIRST to LAST of the journal are lost
        next: release again, which makes every file right, or restore a backup
    ");
    insta::assert_snapshot!(told(&|path| std::fs::write(path, "").unwrap()), @"
    NDXLARMOR: the run RUN cannot be undone, and does not go on: entries 1 to LAST of the journal are lost
    rollback: exit 4
        the journal of RUN is damaged: entries 1 to LAST of the journal are lost
        next: release again, which makes every file right, or restore a backup
    ");
    insta::assert_snapshot!(told(&|path| std::fs::write(path, b"\xff\0garbage\n\x80\n").unwrap()), @"
    NDXLARMOR: the run RUN cannot be undone, and does not go on: line 1 of the journal is lost: it is not text; line 2 of the journal is lost: it is not text; entries 1 to LAST of the journal are lost
    rollback: exit 4
        the journal of RUN is damaged: line 1 of the journal is lost: it is not text; line 2 of the journal is lost: it is not text; entries 1 to LAST of the journal are lost
        next: release again, which makes every file right, or restore a backup
    ");
    insta::assert_snapshot!(told(&|path| std::fs::remove_file(path).unwrap()), @"
    NDXLARMOR: the run RUN cannot be undone, and does not go on: cannot read the journal DIR/NDXLARMOR/.ibexdeploy/runs/RUN/journal.jsonl: No such file or directory (os error 2)
    rollback: exit 1
        cannot read the journal DIR/NDXLARMOR/.ibexdeploy/runs/RUN/journal.jsonl
        because: No such file or directory (os error 2)
    ");
    // As a later build might write it: each line whole, and of a form that nobody knows yet.
    let newer: String = String::from_utf8(bytes.clone())
        .unwrap()
        .lines()
        .map(|line| {
            let entry = line[line.find("\"e\":").unwrap() + 4..line.len() - 1].replacen("\"event\"", "\"happening\"", 1);
            format!("{{\"c\":\"{:08x}\",\"e\":{entry}}}\n", crc32fast::hash(entry.as_bytes()))
        })
        .collect();
    let said = told(&|path| std::fs::write(path, &newer).unwrap());
    assert!(said.contains("line 1 of the journal is lost: it holds nothing that this build knows"), "{said}");
    assert!(said.contains("rollback: exit 4"), "{said}");
}

#[test]
fn a_release_goes_over_a_damaged_journal() {
    let finished = Finished::new();
    let fleet = finished.with(|path| std::fs::write(path, b"\xff\0garbage\n").unwrap());
    let again = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(again.code, 0, "{}", again.story());
    assert_eq!(fleet.unlike(NAME, KitShape::small().newer(), &[]), [""; 0]);
    let status = fleet.run(&["status", NAME]);
    assert!(!status.stdout.contains("cannot be undone"), "{}", status.story());
}

#[test]
fn the_record_of_the_controller() {
    let finished = Finished::new();
    let fleet = &finished.fleet;
    let folder = fleet.dir().join("state/runs").join(&finished.run);
    let events = std::fs::read(folder.join("events.jsonl")).unwrap();
    let said = |arguments: &[&str]| {
        let output = fleet.command(arguments).args(["--output", "plain"]).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
        (output.status.code().unwrap(), text)
    };
    for bytes in [&b""[..], b"\xff\xfe\0\n\n{}\n[]\n", &events[..events.len() / 2], &[&events[..], b"{\"v\":99}\n"].concat()] {
        std::fs::write(folder.join("events.jsonl"), bytes).unwrap();
        for arguments in [&["runs", "list"][..], &["runs", "show", &finished.run], &["runs", "report", &finished.run]] {
            let (code, text) = said(arguments);
            assert_eq!(code, 0, "{arguments:?}: {text}");
            assert!(text.contains(&finished.run), "{arguments:?}: {text}");
        }
    }
    std::fs::write(folder.join("events.jsonl"), b"\xff\xfe\0\n\n{}\n").unwrap();
    std::fs::write(folder.join("summary.json"), b"{").unwrap();
    std::fs::write(folder.join("plan.json"), b"\xff{").unwrap();
    let (code, text) = said(&["runs", "show", &finished.run]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("lost") || text.contains("cannot be read"), "{text}");
    let (code, text) = said(&["runs", "resume", &finished.run, "--yes"]);
    assert_eq!(code, 1, "{text}");
    insta::assert_snapshot!(text.replace(&fleet.dir().display().to_string(), "DIR").replace(&finished.run, "RUN"), @"
    error: the plan in DIR/state/runs/RUN/plan.json is damaged
      because: expected value at line 1 column 1
      next: each instrument has its own part: `ibexdeploy runs resume --of PATTERN` goes on from there
    ");
}
