//! `hotfix pack`: archives of folders and of git ranges, and that they do what they should.

use super::{FROZEN, NAME, START, at, hotfix, look, put, read};
use crate::support::{Ended, Fleet, sandbox};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn pack(fleet: &Fleet, arguments: &[&str]) -> Ended {
    fleet.run(&[&["hotfix", "pack"][..], arguments].concat())
}

fn write(folder: &Path, below: &str, text: &str) {
    let path = folder.join(below);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    std::fs::write(path, text).expect("a file");
}

#[test]
fn a_folder_becomes_an_archive_that_can_be_put_in_place() {
    let fleet = Fleet::running(&[NAME]);
    let (folder, zip) = (fleet.dir().join("mine"), fleet.dir().join("mine/out.zip"));
    write(&folder, START, "packed\n");
    write(&folder, "EPICS/run.bat", "#!/bin/sh\n");
    std::fs::set_permissions(folder.join("EPICS/run.bat"), PermissionsExt::from_mode(0o755)).expect("a program");
    write(&folder, "hotfix.yaml", &format!("id: packed\ndeletes: [{FROZEN}]\n"));
    let (from, to) = (folder.display().to_string(), zip.display().to_string());
    let made = pack(&fleet, &[&from, "-o", &to, "--description", "from a folder", "--requires", "EPICS=26.8.0"]);
    assert_eq!(made.code, 0, "{}", made.story());
    let first = std::fs::read(&zip).expect("an archive");
    let again = pack(&fleet, &[&from, "-o", &to, "--description", "from a folder", "--requires", "EPICS=26.8.0"]);
    assert_eq!((again.code, std::fs::read(&zip).expect("an archive") == first), (0, true), "{}", again.story());

    let before = look(&fleet);
    put(&fleet, &zip);
    assert_eq!(read(&fleet, START), "packed\n");
    let mode = at(&fleet, "EPICS/run.bat").metadata().expect("the file").permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "it may be run");
    assert!(!at(&fleet, FROZEN).exists());
    let back = hotfix(&fleet, &["--revert", "packed"]);
    assert_eq!(back.code, 0, "{}", back.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);

    std::os::unix::fs::symlink("/etc", folder.join("EPICS/link")).expect("a link");
    write(&folder, "loose.txt", "x");
    let refused = pack(&fleet, &[&from, "-o", &to]);
    assert_eq!(refused.code, 2, "{}", refused.story());
    assert!(refused.stderr.contains("is a link") && refused.stderr.contains("lies beside the components"), "{}", refused.story());
}

#[test]
fn a_git_tree_is_no_folder_of_components_and_a_mistyped_name_makes_no_folders() {
    let fleet = Fleet::empty();
    let (tree, nowhere) = (fleet.dir().join("tree"), fleet.dir().join("nowhere"));
    write(&tree, "EPICS/a.txt", "a\n");
    let from = tree.display().to_string();
    let refused = pack(&fleet, &[&from, "-o", &nowhere.join("x.zip").display().to_string()]);
    assert_eq!((refused.code, nowhere.exists()), (2, false), "{}", refused.story());
    assert!(refused.stderr.contains("there is no folder"), "{}", refused.story());
    std::fs::create_dir(tree.join(".git")).expect("a folder");
    let refused = pack(&fleet, &[&from, "-o", &fleet.dir().join("x.zip").display().to_string()]);
    assert_eq!(refused.code, 2, "{}", refused.story());
    assert!(refused.stderr.contains("hotfix pack --git A..B"), "{}", refused.story());
}

#[test]
fn a_git_range_becomes_an_archive_of_what_changed_in_it() {
    let fleet = Fleet::running(&[NAME]);
    let server = fleet.server(NAME);
    // A clone of the server in which somebody worked.
    let before = look(&fleet);
    let clone = fleet.dir().join("clone");
    let copied = Command::new("cp").arg("-a").arg(&server).arg(&clone).status().expect("cp");
    assert!(copied.success());
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]).args(arguments);
        let output = command.current_dir(&clone).output().expect("git; scripts/test installs it");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "as installed"]);
    write(&clone, "ioc/master/GALIL/st.cmd", "from git\n");
    write(&clone, "ioc/master/GALIL/more/new.db", "new\n");
    std::fs::remove_file(clone.join(FROZEN.strip_prefix("EPICS/").expect("of the server"))).expect("a file less");
    git(&["add", "-A"]);
    git(&["commit", "-qm", "a longer timeout"]);
    let (repo, zip) = (clone.join("ioc").display().to_string(), fleet.dir().join("git.zip"));
    let made = pack(&fleet, &["--git", "HEAD~1..HEAD", "--repo", &repo, "-o", &zip.display().to_string(), "--id", "from-git"]);
    assert_eq!(made.code, 0, "{}", made.story());
    let patch: serde_json::Value = serde_json::from_str(&made.stdout).expect("one document");
    assert_eq!(patch["description"], "a longer timeout");
    assert_eq!(patch["files"].as_array().map(Vec::len), Some(2));

    put(&fleet, &zip);
    for below in ["ioc/master/GALIL/st.cmd", "ioc/master/GALIL/more/new.db"] {
        assert_eq!(read(&fleet, &format!("EPICS/{below}")), std::fs::read_to_string(clone.join(below)).expect("a text"));
    }
    assert!(!at(&fleet, FROZEN).exists());
    let back = hotfix(&fleet, &["--revert", "from-git"]);
    assert_eq!(back.code, 0, "{}", back.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);

    let one = pack(&fleet, &["--git", "HEAD", "--repo", &repo, "-o", &zip.display().to_string()]);
    assert_eq!(one.code, 0, "{}", one.story());
    let wrong = pack(&fleet, &["--git", "nowhere..HEAD", "--repo", &repo, "-o", &zip.display().to_string()]);
    assert_eq!(wrong.code, 2, "{}", wrong.story());
    assert!(wrong.stderr.contains("nowhere"), "{}", wrong.story());
}
