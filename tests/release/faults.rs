//! Steps that fail and programs that scribble: what is undone, what is named, and how the command ends.

use crate::support::Fleet;
use ibexdeploy::rehearsal::KitShape;

const OLDER: &str = "26.8.0";
const NEWER: &str = "26.9.0";

/// Lines that fail on some instruments.
fn fails_on(names: &[&str]) -> String {
    let patterns: Vec<String> = names.iter().map(|n| format!("*/{n}")).collect();
    format!("case $IBEX_ROOT in {}) echo 'no DAE here' >&2; exit 7 ;; esac", patterns.join(" | "))
}

#[test]
fn three_of_thirty_fail_and_are_rolled_back_the_others_finish() {
    let fleet = Fleet::new(&KitShape::small().without_git());
    let bad = ["NDXLARMOR", "NDXZOOM", "NDXLET"];
    fleet.make(&["all"]);
    bad.iter().for_each(|name| fleet.start_ibex(name));
    fleet.add_to_script(NEWER, "create_icp_binaries.bat", &fails_on(&bad));
    let before: Vec<_> = bad.iter().map(|name| fleet.apps(name)).collect();

    let ended = fleet.run(&["release", "--all", "--yes"]);
    assert_eq!(ended.code, 1, "{}", ended.story());
    let finished: Vec<&str> = ended
        .events
        .iter()
        .filter(|e| e["event"] == "instrument_finished")
        .map(|e| e["instrument"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(finished.len(), 30, "{}", ended.story());
    for name in finished.iter().filter(|n| !bad.contains(n)) {
        assert_eq!(ended.outcome(name), "changed", "{name}");
        assert_eq!(fleet.unlike(name, NEWER, &[]), [""; 0], "{name}");
    }
    for (name, before) in bad.iter().zip(before) {
        assert_eq!(ended.outcome(name), "rolled_back", "{name}");
        assert!(fleet.apps(name) == before, "{name} has its old files");
        assert!(fleet.ibex(name).is_some(), "IBEX runs again on {name}");
    }
}

#[test]
fn after_two_failures_the_rest_is_not_started() {
    let names = ["NDXLARMOR", "NDXLET", "NDXOFFSPEC", "NDXPOLREF", "NDXZOOM"];
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&names);
    fleet.add_to_script(NEWER, "create_icp_binaries.bat", &fails_on(&names));
    let before = fleet.apps("NDXZOOM");
    let output = fleet
        .command(&["release", &names.join(","), "--yes", "--jobs", "1", "--max-fail", "2", "--output", "plain"])
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    let rows: Vec<&str> = text
        .lines()
        .skip_while(|l| !l.starts_with("INSTRUMENT"))
        .skip(1)
        .take(names.len())
        .filter_map(|l| l.get(..30).or(Some(l)))
        .collect();
    let with = |outcome: &str| rows.iter().filter(|row| row.contains(outcome)).count();
    assert_eq!((with("rolled_back"), with("cancelled")), (2, 3), "{text}");
    assert!(fleet.apps("NDXZOOM") == before, "the last one is untouched");
}

#[test]
fn a_program_that_writes_elsewhere_is_found_out_after_the_rollback() {
    let fleet = Fleet::running(&["NDXLARMOR"]);
    let scribble = "echo scribbled >>\"$here/../Client_E4/VERSION.txt\"\necho new >\"$here/ioc/left_behind.txt\"\nexit 1";
    fleet.add_to_script(NEWER, "create_icp_binaries.bat", scribble);
    let ended = fleet.run(&["release", "NDXLARMOR", "--yes", "--tags", "server"]);
    assert_eq!(ended.outcome("NDXLARMOR"), "rollback_failed", "{}", ended.story());
    assert_eq!(ended.code, 5, "{}", ended.story());
    let finished = ended.last("NDXLARMOR", "rollback_finished").expect("it rolled back");
    let left = finished["left"].to_string();
    assert!(left.contains("left_behind.txt"), "{left}");
    assert!(fleet.ibex("NDXLARMOR").is_some(), "IBEX runs again all the same");
}

#[test]
fn a_program_that_writes_to_another_synced_tree_is_found_out() {
    let fleet = Fleet::running(&["NDXLARMOR"]);
    fleet.add_to_script(NEWER, "create_icp_binaries.bat", "echo scribbled >>\"$here/../Client_E4/left.txt\"\nexit 1");
    let ended = fleet.run(&["release", "NDXLARMOR", "--yes"]);
    assert_eq!((ended.code, ended.outcome("NDXLARMOR").as_str()), (5, "rollback_failed"), "{}", ended.story());
    let left = ended.last("NDXLARMOR", "rollback_finished").expect("it rolled back")["left"].to_string();
    assert!(left.contains("Client_E4\\\\left.txt"), "{left}");
}

#[test]
fn what_a_program_did_where_it_says_it_writes_is_put_back() {
    let fleet = Fleet::running(&["NDXLARMOR"]);
    let icp = fleet.server("NDXLARMOR").join("ICP_Binaries");
    std::fs::create_dir_all(icp.join("isisdae")).expect("a folder");
    std::fs::write(icp.join("isisdae/settings.txt"), "kept by hand").expect("a file");
    let before = fleet.apps("NDXLARMOR");
    let lines = "echo other >\"$here/ICP_Binaries/isisdae/settings.txt\"\nrm \"$here/ICP_Binaries/isisicp.exe\"\nexit 1";
    fleet.add_to_script(NEWER, "create_icp_binaries.bat", lines);
    let ended = fleet.run(&["release", "NDXLARMOR", "--yes"]);
    assert_eq!((ended.code, ended.outcome("NDXLARMOR").as_str()), (1, "rolled_back"), "{}", ended.story());
    assert_eq!(fleet.apps("NDXLARMOR"), before);
    assert_eq!(fleet.unlike("NDXLARMOR", OLDER, &["ICP_Binaries"]), [""; 0]);
}
