//! Virtual disks through the real binary: the disk of a new release in the place of the old one's, and back.

use crate::support::{Ended, Fleet};
use std::path::PathBuf;

const NAME: &str = "NDXZOOM";

const PLAYBOOK: &str = r"
playbook: disks
apply:
  - name: the disk of the new release
    vhd:
      file: 'C:\Disks\26.9.0.vhdx'
      at: 'C:\Instrument\Disk'
      instead_of: 'C:\Disks\26.8.0.vhdx'
prove:
  - name: what the disk must hold
    check: {file: {path: 'C:\Instrument\Disk\VERSION.txt', contains: PROOF}}
";

/// An instrument with two disks, the older of which is attached.
fn with_disks() -> Fleet {
    let fleet = Fleet::running(&[NAME]);
    for version in ["26.8.0", "26.9.0"] {
        let disk = fleet.root(NAME).join(format!("c/Disks/{version}.vhdx"));
        let content = disk.with_extension("vhdx.content");
        std::fs::create_dir_all(&content).expect("a folder");
        std::fs::write(&disk, "a disk").and_then(|()| std::fs::write(content.join("VERSION.txt"), version)).expect("files");
    }
    let first = "playbook: first\napply:\n  - vhd: {file: 'C:\\Disks\\26.8.0.vhdx', at: 'C:\\Instrument\\Disk'}\n";
    let ended = run(&fleet, "first", first, &[]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    fleet
}

fn run(fleet: &Fleet, name: &str, text: &str, more: &[&str]) -> Ended {
    let path = fleet.dir().join(format!("{name}.yaml"));
    std::fs::write(&path, text).expect("a playbook");
    let path = path.display().to_string();
    let how = if more.is_empty() { &["--yes"] } else { more };
    fleet.run(&[&["run", &path, NAME], how].concat())
}

fn place(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join("c/Instrument/Disk")
}

fn version(fleet: &Fleet) -> String {
    std::fs::read_to_string(place(fleet).join("VERSION.txt")).expect("the disk is shown")
}

#[test]
fn the_disk_of_a_release_takes_the_place_of_the_old_one_and_gives_it_back() {
    let fleet = with_disks();
    let dry = run(&fleet, "disks", PLAYBOOK, &["--dry-run"]);
    assert!(dry.stdout.contains("to be attached"), "{}", dry.story());
    assert_eq!(version(&fleet), "26.8.0");

    let failed = run(&fleet, "disks", &PLAYBOOK.replace("PROOF", "27.0.0"), &[]);
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert_eq!(version(&fleet), "26.8.0");

    let good = PLAYBOOK.replace("PROOF", "26.9.0");
    let ended = run(&fleet, "disks", &good, &[]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(version(&fleet), "26.9.0");
    assert!(ended.stdout.contains("is attached until the machine restarts"), "{}", ended.story());
    let again = run(&fleet, "disks", &good, &[]);
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "{}", again.story());

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(version(&fleet), "26.8.0");
}

#[test]
fn a_folder_with_something_in_it_is_not_hidden() {
    let fleet = with_disks();
    std::fs::create_dir_all(fleet.root(NAME).join("c/full/settings")).expect("a folder");
    let text = PLAYBOOK.replace("Instrument\\Disk", "full");
    let refused = run(&fleet, "disks", &text, &[]);
    assert_ne!(refused.code, 0, "{}", refused.story());
    assert!(refused.stdout.contains("C:\\\\full is not empty"), "{}", refused.story());
    assert_eq!(version(&fleet), "26.8.0");
}
