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
