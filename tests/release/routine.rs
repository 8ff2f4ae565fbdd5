//! What a site adds to a release by variables: log rotation, its own proof, a checker of configurations, Kafka topics.

use crate::support::{Ended, Fleet};
use crate::switch::tasks;

const NAME: &str = "NDXLARMOR";

/// The variables, all of which leave a trace in the instrument's folder.
const ROUTINE: [&str; 8] = [
    "--set",
    "log_rotation=date >>\"$IBEX_ROOT/rotated\"",
    "--set",
    "site_proof=test -e \"$IBEX_ROOT/blocks_are_logged\"",
    "--set",
    "config_checker=echo a block has no PV; exit 3",
    "--set",
    "kafka_topics=echo LARMOR_events >\"$IBEX_ROOT/topics\"",
];

fn release(fleet: &Fleet) -> Ended {
    fleet.run(&[&["release", NAME, "--yes"][..], &ROUTINE].concat())
}

#[test]
fn the_sites_own_proof_decides_and_its_checker_only_speaks() {
    let fleet = Fleet::running(&[NAME]);
    let before = fleet.apps(NAME);
    let root = fleet.root(NAME);

    let ended = release(&fleet);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert!(ended.stdout.contains("the site's own proof"), "{}", ended.story());
    assert!(fleet.apps(NAME) == before, "all is as before");
    assert_eq!((tasks(&fleet).len(), root.join("topics").exists()), (0, false), "{}", ended.story());

    std::fs::write(root.join("blocks_are_logged"), "").expect("a file");
    let ended = release(&fleet);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert!(ended.stdout.contains("a block has no PV"), "the report shows what the checker says: {}", ended.story());
    assert_eq!(std::fs::read_to_string(root.join("topics")).expect("topics"), "LARMOR_events\n");
    assert_eq!(tasks(&fleet)["ibexdeploy\\log rotation"]["daily"], "03:30");

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, tasks(&fleet).len()), (0, 0), "{}", back.story());
}

#[test]
fn script_definitions_are_left_to_a_person_until_the_scientists_agree() {
    let fleet = Fleet::running(&[NAME]);
    let reminded = |ended: &Ended| {
        let mut told = ended.events.iter().filter(|e| e["event"] == "reminder").filter_map(|e| e["text"].as_str());
        told.any(|text| text.contains("script definitions"))
    };
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, reminded(&ended)), (0, false), "there are none: {}", ended.story());
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(back.code, 0, "{}", back.story());

    let definitions = fleet.root(NAME).join("c/ScriptDefinitions/.git");
    std::fs::create_dir_all(&definitions).expect("folders");
    std::fs::write(definitions.join("HEAD"), "ref: refs/heads/master\n").expect("a file");
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, reminded(&ended)), (0, true), "{}", ended.story());
}
