//! Files changed by hand: listed, and saved before a release replaces them.

use crate::support::Fleet;

const NAME: &str = "NDXLARMOR";

#[test]
fn changes_by_hand_are_listed_and_saved_before_they_are_replaced() {
    let fleet = Fleet::running(&[NAME]);
    let aside = fleet.dir().join("26.9.0");
    std::fs::rename(fleet.kits().join("26.9.0"), &aside).expect("a release can be moved");
    let first = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(first.code, 0, "{}", first.story());
    let adopted = first.last(NAME, "hand_changes");
    assert!(adopted.is_none_or(|e| e["files"].is_null()), "without a baseline nothing is claimed: {adopted:?}");
    std::fs::rename(&aside, fleet.kits().join("26.9.0")).expect("a release can be moved back");

    let changes = [("VERSION.txt", "changed by hand"), ("added.txt", "added by hand")];
    for (path, text) in changes {
        std::fs::write(fleet.server(NAME).join(path), text).expect("a file");
    }
    let status = fleet.run(&["status", NAME]);
    assert!(changes.iter().all(|(path, _)| status.stdout.contains(path)), "{}", status.story());

    let second = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(second.code, 0, "{}", second.story());
    let saved = second.events.iter().find(|e| e["event"] == "hand_changes" && e["component"] == "EPICS");
    assert_eq!(saved.expect("they are reported")["files"], 2, "{}", second.story());
    let folder = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/hand-changes")).expect("an archive was made");
    let archives: Vec<_> = folder.filter_map(Result::ok).map(|e| e.path()).collect();
    assert_eq!(archives.len(), 1, "{archives:?}");
    for (path, text) in changes {
        let unzip = std::process::Command::new("unzip").arg("-p").arg(&archives[0]).arg(format!("EPICS/{path}")).output();
        assert_eq!(String::from_utf8_lossy(&unzip.expect("unzip").stdout), text, "{path}");
    }
    assert_eq!(fleet.unlike(NAME, "26.9.0", &[]), [""; 0]);
}

/// A release that fails when its files are in place and somebody has changed some of them. Gives the files of before.
fn fails_after_a_change_by_hand(fleet: &Fleet) -> std::collections::BTreeMap<String, String> {
    let brought = fleet.kits().join("26.9.0/EPICS/brought/by/release.txt");
    std::fs::create_dir_all(brought.parent().expect("a folder")).expect("folders");
    std::fs::write(brought, "as it came").expect("a file");
    let changes = [
        "printf 'by hand' > \"$here/VERSION.txt\"",
        "printf 'by hand, too' > \"$here/brought/by/release.txt\"",
        "printf 'beside it' > \"$here/brought/by/somebody.txt\"",
        "exit 7",
    ];
    fleet.add_to_script("26.9.0", "create_icp_binaries.bat", &changes.join("\n"));
    fleet.apps(NAME)
}

/// What is said under "left for you" that has these words.
fn left_for_you(ended: &crate::support::Ended, words: &str) -> String {
    let texts = ended.events.iter().filter(|e| e["event"] == "reminder").filter_map(|e| e["text"].as_str());
    texts.filter(|text| text.contains(words)).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_was_changed_by_hand_during_a_run_is_saved_when_the_run_rolls_back() {
    let fleet = Fleet::running(&[NAME]);
    let before = fails_after_a_change_by_hand(&fleet);
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    let told = left_for_you(&ended, "changed before it was taken back");
    assert!(told.starts_with("3 files") && told.contains("EPICS\\VERSION.txt"), "{told}\n{}", ended.story());
    let folder = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/hand-changes")).expect("an archive was made");
    let archives: Vec<_> = folder.filter_map(Result::ok).map(|e| e.path()).collect();
    assert_eq!(archives.len(), 1, "{archives:?}");
    assert!(told.contains(&archives[0].display().to_string()), "{told}");
    let kept = [("VERSION.txt", "by hand"), ("brought/by/release.txt", "by hand, too"), ("brought/by/somebody.txt", "beside it")];
    for (path, text) in kept {
        let unzip = std::process::Command::new("unzip").arg("-p").arg(&archives[0]).arg(format!("EPICS/{path}")).output();
        assert_eq!(String::from_utf8_lossy(&unzip.expect("unzip").stdout), text, "{path}");
    }
}

#[test]
fn what_was_changed_by_hand_and_cannot_be_saved_is_moved_aside() {
    let fleet = Fleet::running(&[NAME]);
    let before = fails_after_a_change_by_hand(&fleet);
    let home = fleet.root(NAME).join(".ibexdeploy");
    std::fs::write(home.join("hand-changes"), "in the way of the folder").expect("a file");
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    assert!(left_for_you(&ended, "moved aside into").contains("VERSION.txt"), "{}", ended.story());
    let mut grep = std::process::Command::new("grep");
    let found = grep.args(["-rlE", "^(by hand|by hand, too|beside it)$"]).arg(home.join("volumes")).output().expect("grep");
    let found = String::from_utf8_lossy(&found.stdout).lines().count();
    assert_eq!(found, 3, "{}", ended.story());
}

#[test]
fn what_was_changed_by_hand_after_a_program_is_saved_when_its_folder_is_put_back() {
    let fleet = Fleet::running(&[NAME]);
    let folder = fleet.root(NAME).join("c/data/made");
    std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join("old.txt"), "old")).expect("a file");
    let books = fleet.dir().join("books");
    let text = "playbook: t
apply:
  - command: {at: 'C:\\data\\made', run: 'printf new > old.txt; printf made > made.txt; printf too > own.txt'}
    writes: ['C:\\data\\made']
  - command: {at: 'C:\\data\\made', run: 'printf edited > made.txt; printf mine > mine.txt; exit 3', read_only: true}
";
    std::fs::create_dir(&books).and_then(|()| std::fs::write(books.join("t.yaml"), text)).expect("a playbook");
    let ended = fleet.run(&["run", "t", NAME, "--yes", "--playbooks", &books.display().to_string()]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    let names: Vec<_> = std::fs::read_dir(&folder).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert!(names == ["old.txt"] && std::fs::read_to_string(folder.join("old.txt")).expect("text") == "old", "{names:?}");
    let told = left_for_you(&ended, "changed before it was taken back");
    assert!(told.starts_with("2 files") && told.contains("made.txt") && told.contains("mine.txt"), "{told}");
    let archive = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/hand-changes")).expect("an archive").flatten().next();
    let archive = archive.expect("one").path();
    for (path, text) in [("made.txt", "edited"), ("mine.txt", "mine")] {
        let unzip = std::process::Command::new("unzip").arg("-p").arg(&archive).arg(format!("made/{path}")).output();
        assert_eq!(String::from_utf8_lossy(&unzip.expect("unzip").stdout), text, "{path}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_has_no_content_is_named_and_never_in_the_way_of_a_file() {
    let fleet = Fleet::running(&[NAME]);
    let pipe =
        |path: &std::path::Path| assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    pipe(&fleet.server(NAME).join("ioc/pipe"));
    let good = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!((good.code, good.outcome(NAME).as_str()), (0, "changed"), "{}", good.story());
    assert!(left_for_you(&good, "EPICS\\ioc\\pipe is a pipe").contains("neither compared nor saved"), "{}", good.story());
    assert!(fleet.server(NAME).join("ioc/pipe").exists());

    let wanted = fleet.kits().join("26.10.0/EPICS/comes.txt");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(fleet.kits().join("26.9.0")).arg(fleet.kits().join("26.10.0")).status();
    assert!(copied.expect("cp").success());
    std::fs::write(wanted, "a file").expect("a file");
    pipe(&fleet.server(NAME).join("comes.txt"));
    let server = fleet.ibex(NAME);
    let refused = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert!(refused.stdout.contains("comes.txt is a pipe, where the release has a file"), "{}", refused.story());
    assert_eq!(fleet.ibex(NAME), server, "IBEX was left alone");
}
