//! Disks that are too small, or fill up while IBEX is stopped.

use crate::kill::machine::{signal, wait_for};
use crate::support::{Ended, Fleet, SmallDisk};
use std::io::{Read, Write};

const NAME: &str = "NDXLARMOR";

#[test]
fn too_little_room_is_found_out_before_anything_is_stopped() {
    let fleet = Fleet::new(&ibexdeploy::rehearsal::KitShape::small().without_git());
    fleet.make(&[NAME]);
    let Some(_disk) = SmallDisk::under(&fleet, NAME, 16_384) else { return };
    fleet.start_ibex(NAME);
    let (before, server) = (fleet.apps(NAME), fleet.ibex(NAME).expect("IBEX runs"));
    // Without a backup, which is a step of its own and needs room as well.
    let ended = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{}", ended.story());
    let error = ended.last(NAME, "instrument_finished").expect("it finished")["error"].clone();
    assert_eq!(error["kind"], "out_of_space", "{error}");
    assert!(ended.last(NAME, "outage_started").is_none(), "{}", ended.story());
    assert_eq!(fleet.ibex(NAME), Some(server), "the same server still runs");
    assert_eq!(fleet.apps(NAME), before);
}

#[test]
fn a_program_that_fills_the_disk_is_taken_back() {
    let fleet = Fleet::new(&ibexdeploy::rehearsal::KitShape::small().without_git());
    fleet.add_to_script(
        "26.9.0",
        "create_icp_binaries.bat",
        "dd if=/dev/zero of=\"$here/ICP_Binaries/filler\" bs=4096 || exit 1",
    );
    fleet.make(&[NAME]);
    let Some(_disk) = SmallDisk::under(&fleet, NAME, 8_000_000) else { return };
    fleet.start_ibex(NAME);
    let before = fleet.apps(NAME);
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert!(ended.stdout.contains("No space left"), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    assert!(fleet.ibex(NAME).is_some(), "IBEX runs again");
}

/// Once IBEX is stopped something fills the disk for good.
pub(crate) fn fill_when_stopped(fleet: &Fleet, name: &str) {
    let stop = fleet.server(name).join("stop_ibex_server.bat");
    let mut script = std::fs::OpenOptions::new().append(true).open(stop).expect("the script");
    writeln!(script, "dd if=/dev/zero of=\"$var/filler\" bs=4096 2>/dev/null\nexit 0").expect("a longer script");
}

#[test]
fn a_disk_that_fills_up_during_the_outage_ends_in_the_old_release() {
    let fleet = Fleet::new(&ibexdeploy::rehearsal::KitShape::small().without_git());
    fleet.make(&[NAME]);
    let Some(_disk) = SmallDisk::under(&fleet, NAME, 8_000_000) else { return };
    // Once IBEX is stopped something fills the disk for good, so that the new release cannot start.
    fill_when_stopped(&fleet, NAME);
    fleet.start_ibex(NAME);
    let before = fleet.apps(NAME);
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    assert!(fleet.ibex(NAME).is_some(), "what the run had kept made the room to start IBEX again");
}

/// A disk that fills up while a value is waited for that never comes.
const FILLS: &str = "playbook: t
apply:
  - file: {path: 'server\\mark.txt', content: here}
prove:
  - check: {output: {run: '(sleep 0.3; dd if=/dev/zero of=$IBEX_ROOT/c/filler bs=65536; dd if=/dev/zero of=$IBEX_ROOT/c/filler.2 bs=512) >/dev/null 2>&1 &'}}
  - check: {pv: {name: 'IN:LARMOR:DAE:RUNSTATE_STR', is: NEVER}, within: 10m}
";

#[test]
fn a_disk_that_is_full_when_the_release_is_proven_is_named_and_not_waited_for() {
    let fleet = Fleet::new(&ibexdeploy::rehearsal::KitShape::small().without_git());
    fleet.make(&[NAME]);
    let Some(_disk) = SmallDisk::under_all(&fleet, NAME, 8_000_000) else { return };
    fleet.start_ibex(NAME);
    let before = fleet.apps(NAME);
    let books = fleet.dir().join("books");
    std::fs::create_dir(&books).and_then(|()| std::fs::write(books.join("t.yaml"), FILLS)).expect("a playbook");
    let ended = fleet.run(&["run", "t", NAME, "--yes", "--playbooks", &books.display().to_string()]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    let failed = ended.events.iter().find(|e| e["event"] == "step_finished" && e["outcome"] == "failed").expect("a step failed");
    assert_eq!((&failed["step"]["id"], &failed["error"]["kind"]), (&"prove.02.check".into(), &"out_of_space".into()), "{failed}");
    assert_eq!(fleet.apps(NAME), before);
}

/// The names in the folder of backups, with what is being made.
fn backups(fleet: &Fleet) -> Vec<String> {
    let all = std::fs::read_dir(fleet.root(NAME).join("c/data/old")).expect("the folder of backups");
    let mut names: Vec<String> = all.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What the list of backups says.
fn listed(fleet: &Fleet) -> String {
    let asked = fleet.command(&["backup", NAME, "--list", "-v", "--output", "plain"]).output().expect("the binary starts");
    assert!(asked.status.success());
    String::from_utf8_lossy(&asked.stdout).into_owned()
}

/// Runs a command, and takes all room away while its backup is being written.
fn filled_while_writing(fleet: &Fleet, disk: &SmallDisk, arguments: &[&str]) -> Ended {
    let root = fleet.root(NAME);
    let begun = || {
        let part = backups(fleet).into_iter().find(|name| name.starts_with('.'))?;
        let zips = std::fs::read_dir(root.join("c/data/old").join(part)).ok()?;
        zips.flatten().any(|zip| zip.metadata().is_ok_and(|m| m.len() > 0)).then_some(())
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| fleet.run(arguments));
        wait_for("a zip is being written", begun);
        signal(&root, "-STOP");
        disk.fill();
        signal(&root, "-CONT");
        run.join().expect("the command ends")
    })
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_backup_leaves_no_half_of_one() {
    let fleet = Fleet::running(&[NAME]);
    let first = fleet.run(&["backup", NAME, "--yes"]);
    assert_eq!(first.outcome(NAME), "ok", "{}", first.story());
    // Large enough for a backup to take a while, and nothing that could be compressed.
    let large = std::fs::File::open("/dev/urandom").expect("random bytes").take(100_000_000);
    let mut file = std::fs::File::create(fleet.server(NAME).join("ioc/large.bin")).expect("a file");
    std::io::copy(&mut { large }, &mut file).expect("a large file");
    let Some(disk) = SmallDisk::folder(&fleet, NAME, "c/data/old", 300_000_000) else { return };
    let (apps, server, before, list) = (fleet.apps(NAME), fleet.ibex(NAME), backups(&fleet), listed(&fleet));
    assert_eq!(before.len(), 1, "{before:?}");
    for arguments in [&["backup", NAME, "--yes"], &["release", NAME, "--yes"]] {
        disk.give_room(300_000_000);
        let ended = filled_while_writing(&fleet, &disk, arguments);
        let story = ended.story();
        assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{story}");
        let error = ended.last(NAME, "instrument_finished").expect("it finished")["error"].clone();
        assert_eq!(error["kind"], "out_of_space", "{error}");
        let causes = error["causes"].to_string();
        assert!(causes.contains("the backup may take ") && causes.contains(r"C:\\data\\old has "), "{error}");
        assert_eq!(backups(&fleet), before, "nothing half is left: {story}");
        assert_eq!(listed(&fleet), list, "{story}");
        assert!(ended.last(NAME, "outage_started").is_none(), "{story}");
        assert!(server.is_some() && fleet.ibex(NAME) == server, "the same server still runs");
        assert!(fleet.apps(NAME) == apps, "the instrument is as it was");
    }

    // Too little from the beginning: nothing is begun.
    disk.give_room(50_000_000);
    let ended = fleet.run(&["backup", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{}", ended.story());
    let error = ended.last(NAME, "instrument_finished").expect("it finished")["error"].to_string();
    assert!(error.contains("out_of_space") && error.contains("free"), "{error}");
    assert_eq!(backups(&fleet), before);
    disk.give_room(300_000_000);
    let ended = fleet.run(&["backup", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "ok"), "{}", ended.story());
    assert_eq!(backups(&fleet).len(), 2);
}
