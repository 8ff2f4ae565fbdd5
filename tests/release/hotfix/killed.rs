//! `kill -9` of either side while a hotfix is put in place or taken back: it is there as a whole afterwards, or not at all.

use super::{NAME, START, archive, at, ids, look, put};
use crate::kill::machine::{agents, is_free, journal, kill, outcome, staged, wait_for, workers};
use crate::kill::traced::{RENAMES, clear, new_journal, runs, traced_worker};
use crate::support::dice::Dice;
use crate::support::{Fleet, sandbox};
use ibexdeploy::rehearsal::KitShape;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// Ends with the round, also when that failed: nothing goes on in folders that are removed.
struct Round {
    fleet: Fleet,
}

impl Drop for Round {
    fn drop(&mut self) {
        let root = self.fleet.root(NAME);
        workers(&root).into_iter().for_each(kill);
        let _ = std::fs::remove_file(root.join("c/Instrument/Var/ibex_server.pid"));
    }
}

impl Round {
    fn new() -> Self {
        let fleet = Fleet::new(&KitShape::small().without_git());
        fleet.make(&[NAME]);
        Self { fleet }
    }

    /// Runs a command whose worker dies at its so many-th rename, with the controller or without it, and brings it to an
    /// end. Gives how that was, and whether the worker died in the middle of the run.
    fn killed_at(&self, arguments: &[&str], count: u64, both: bool) -> (String, bool) {
        let root = self.fleet.root(NAME);
        clear(&root);
        let before = runs(&root);
        let mut strace = traced_worker(root.clone(), RENAMES, None, count);
        wait_for("the worker listens", || {
            (workers(&root).len() == 1 && root.join(".ibexdeploy/worker.sock").exists()).then_some(())
        });
        let traced = workers(&root);
        let mut controller = self.fleet.start(&[&["hotfix", NAME][..], arguments, &["--yes"]].concat());
        wait_for("the worker dies, or the run ends", || {
            let dead = traced.iter().all(|pid| !workers(&root).contains(pid));
            let begun = !new_journal(&root, &before).is_empty();
            (begun && (dead || outcome(&new_journal(&root, &before)).is_some())).then_some(())
        });
        let died = outcome(&new_journal(&root, &before)).is_none();
        if both {
            kill(controller.child.id());
            let _ = controller.child.wait();
            if outcome(&new_journal(&root, &before)).is_none() {
                let resumed = self.fleet.run(&["runs", "resume", "--yes"]);
                assert!(outcome(&new_journal(&root, &before)).is_some(), "rename {count}: {}", resumed.story());
            }
        } else {
            while controller.until(|_| true).is_some() {}
            let _ = controller.child.wait();
        }
        let _ = strace.kill();
        let _ = strace.wait();
        wait_for("workers, relays and jobs end", || {
            // It would end by itself a little later.
            workers(&root).into_iter().for_each(kill);
            agents(&root).is_empty().then_some(())
        });
        assert_eq!(staged(&root), [""; 0], "rename {count}");
        wait_for("the instrument is free", || is_free(&root).then_some(()));
        (outcome(&new_journal(&root, &before)).expect("it ended"), died)
    }
}

#[test]
fn a_hotfix_and_its_taking_back_survive_the_death_of_either_side() {
    let round = Round::new();
    let fleet = &round.fleet;
    let zip = archive(
        fleet,
        "patch.zip",
        &[
            (START, "new\n"),
            ("EPICS/a.txt", "a"),
            ("EPICS/made/b.txt", "b"),
            ("Client/c.txt", "c"),
            ("Client/ibex-client.exe", "d"),
        ],
    );
    let name = zip.display().to_string();
    let before = look(fleet);
    put(fleet, &zip);
    let with = look(fleet);
    let back = super::hotfix(fleet, &["--revert", "patch"]);
    assert_eq!(back.code, 0, "{}", back.story());

    let (mut is_there, mut deaths) = (false, 0);
    for (number, count) in (3..).step_by(3).take(12).enumerate() {
        let arguments: &[&str] = if is_there { &["--revert", "patch"] } else { &[&name] };
        let (ended, died) = round.killed_at(arguments, count, number % 2 == 0);
        deaths += u32::from(died);
        match ended.as_str() {
            "changed" => is_there = !is_there,
            "rolled_back" | "failed" | "cancelled" => {}
            other => panic!("rename {count}: it ended as {other}"),
        }
        let wanted = if is_there { &with } else { &before };
        assert_eq!(sandbox::differences(wanted, &look(fleet)), [""; 0], "rename {count}: {ended}");
        assert_eq!(ids(fleet).len(), usize::from(is_there), "rename {count}: {ended}");
        assert_eq!(at(fleet, "EPICS/made").exists(), is_there, "rename {count}: {ended}");
    }
    assert!(deaths >= 4, "{deaths} of the rounds killed a worker in the middle");
}

/// Text that stays long when it is packed.
fn long_text() -> String {
    let mut dice = Dice::new(7);
    (0..60_000).map(|_| format!("{:016x}\n", dice.below(u64::MAX))).collect()
}

/// A hotfix whose controller and worker died while its files were on their way; those are larger than what comes at once.
fn left_while_staging(fleet: &Fleet, archive: &Path) {
    let root = fleet.root(NAME);
    let archive = archive.display().to_string();
    let mut controller = fleet.start(&["hotfix", NAME, &archive, "--yes", "--limit-rate", "20B"]);
    controller.until(|e| e["event"] == "step_progress").expect("it waits for its files");
    kill(controller.child.id());
    controller.child.wait().expect("it is gone");
    workers(&root).into_iter().for_each(kill);
    wait_for("the worker is gone", || workers(&root).is_empty().then_some(()));
    assert_eq!(outcome(&journal(&root)), None, "it is not finished");
}

/// What a command says on standard error until it has said `last`; then it is killed.
fn said_until(command: &mut Command, last: &str) -> String {
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut said = String::new();
    let errors = std::io::BufReader::new(running.stderr.take().expect("its errors"));
    for byte in errors.bytes() {
        said.push(char::from(byte.expect("they can be read")));
        if said.contains(last) {
            break;
        }
    }
    kill(running.id());
    running.wait().expect("it is gone");
    assert!(said.contains(last), "it said only: {said}");
    said
}

#[test]
fn another_operator_goes_on_with_the_archive_given_once_more() {
    let round = Round::new();
    let fleet = &round.fleet;
    let text = long_text();
    let zip = archive(fleet, "patch.zip", &[(START, &text), ("EPICS/a.txt", "a")]);
    let before = look(fleet);
    left_while_staging(fleet, &zip);
    assert_eq!(sandbox::differences(&before, &look(fleet)), [""; 0]);

    // Another operator has none of the files. The command says what brings them.
    let resume = ["runs", "resume", "--of", NAME, "--output", "json"];
    let said = said_until(&mut fleet.command_of(&resume, "other"), "bring the hotfix anew");
    assert!(said.contains("the hotfix patch.zip cannot be sent to NDXLARMOR"), "{said}");
    assert!(said.contains("EPICS/a.txt and 1 more is not at this controller"), "{said}");
    assert!(said.contains("ibexdeploy runs resume --of NDXLARMOR --patch patch.zip"), "{said}");

    // An archive that holds something else brings nothing.
    let other = archive(fleet, "other.zip", &[(START, "something else\n")]).display().to_string();
    let with_other = [&resume[..], &["--patch", &other]].concat();
    let said = said_until(&mut fleet.command_of(&with_other, "other"), "bring the hotfix anew");
    assert!(said.contains("cannot be sent to NDXLARMOR"), "{said}");
    assert_eq!(sandbox::differences(&before, &look(fleet)), [""; 0]);

    let same = zip.display().to_string();
    let resumed = fleet.run_with_state(&["runs", "resume", "--of", NAME, "--patch", &same], "other");
    assert_eq!((resumed.code, resumed.outcome(NAME).as_str()), (0, "changed"), "{}", resumed.story());
    assert!(!resumed.stderr.contains("cannot be sent"), "{}", resumed.story());
    assert_eq!(super::read(fleet, START), text);
    assert_eq!(ids(fleet), ["patch"]);
}

#[test]
fn the_controller_that_began_needs_the_archive_no_more() {
    let round = Round::new();
    let fleet = &round.fleet;
    let zip = archive(fleet, "patch.zip", &[(START, &long_text())]);
    left_while_staging(fleet, &zip);
    std::fs::remove_file(&zip).expect("an archive");
    let resumed = fleet.run(&["runs", "resume"]);
    assert_eq!((resumed.code, resumed.outcome(NAME).as_str()), (0, "changed"), "{}", resumed.story());
    assert_eq!(ids(fleet), ["patch"]);
}
