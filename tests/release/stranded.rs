//! A run that is not over and whose plan is lost: said everywhere, never built upon, and gone on with when its plan
//! comes again.

use crate::kill::machine::{journal, kill, outcome, workers};
use crate::support::Fleet;
use ibexdeploy::rehearsal::KitShape;
use serde_json::Value;

const NAME: &str = "NDXLARMOR";

/// A release whose worker died during the outage, after its plan was damaged on disk. Its controller found out by
/// itself that it cannot go on.
fn left_in_the_middle() -> (Fleet, String) {
    let fleet = Fleet::new(&KitShape::small().without_git());
    let go = fleet.dir().join("go");
    // So that the outage is still open when the worker dies.
    fleet.add_to_script(
        KitShape::small().newer(),
        "create_icp_binaries.bat",
        &format!("while [ ! -e '{}' ]; do sleep 0.05; done", go.display()),
    );
    fleet.make(&[NAME]);
    let mut controller = fleet.start(&["release", NAME, "--yes"]);
    let started = |e: &Value| e["event"] == "step_started" && e["step"]["name"].as_str().is_some_and(|n| n.contains("ICP"));
    let event = controller.until(started).expect("it runs the script");
    let run = event["run"].as_str().expect("a name").to_owned();
    let root = fleet.root(NAME);
    std::fs::write(root.join(".ibexdeploy/runs").join(&run).join("plan.json"), "{\"format\":").expect("the plan");
    workers(&root).into_iter().for_each(kill);
    std::fs::write(go, "").expect("a file");
    let ended = controller.until(|e| e["event"] == "instrument_finished").expect("the controller finds out");
    assert_eq!(ended["outcome"], "unreachable", "{ended}");
    assert!(ended["error"].to_string().contains("plan.json is damaged"), "{ended}");
    controller.child.wait().expect("it ends");
    assert_eq!(outcome(&journal(&root)), None, "it is not over");
    (fleet, run)
}

#[test]
fn it_is_said_and_nothing_is_begun_on_top_of_it_until_the_plan_comes_again() {
    let (fleet, run) = left_in_the_middle();
    let half = fleet.apps(NAME);
    let status = fleet.command(&["status", NAME, "--output", "plain"]).output().expect("the binary runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let again = format!("`ibexdeploy runs resume {run}` by whoever began it brings the plan again");
    for wanted in [run.as_str(), "was not finished", "plan.json is damaged", "half on the old release", &again, "unlock --force"]
    {
        assert!(status.contains(wanted), "{wanted} in {status}");
    }
    let listed = fleet.run(&["runs", "list"]);
    assert!(listed.stdout.contains(&run) && listed.stdout.contains("unreachable"), "{}", listed.story());
    for arguments in [["release", NAME, "--yes"], ["rollback", NAME, "--yes"], ["unlock", NAME, "--yes"]] {
        let refused = fleet.run_with_state(&arguments, "other");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(refused.code != 0 && said.contains("cannot go on") && said.contains(&run), "{}", refused.story());
    }
    assert_eq!(fleet.apps(NAME), half);
    assert_eq!(std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/runs")).expect("runs").count(), 1, "no run was begun");
    assert_eq!(fleet.run(&["backup", NAME, "--yes"]).code, 0, "what changes nothing may be done");
    let status = fleet.run(&["status", NAME]);
    assert!(status.stdout.contains("plan.json is damaged"), "{}", status.story());

    let resumed = fleet.run(&["runs", "resume", &run, "--yes"]);
    assert_eq!((resumed.code, resumed.outcome(NAME).as_str()), (0, "changed"), "{}", resumed.story());
    assert_eq!(fleet.unlike(NAME, KitShape::small().newer(), &[]), [""; 0]);
    let status = fleet.run(&["status", NAME]);
    assert!(!status.stdout.contains("damaged"), "{}", status.story());
}

#[test]
fn it_can_be_given_up_and_the_next_release_makes_every_file_right() {
    let (fleet, run) = left_in_the_middle();
    let given_up = fleet.run(&["unlock", NAME, "--force", "--yes"]);
    assert!(given_up.code == 0 && given_up.stdout.contains("given up"), "{}", given_up.story());
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((release.code, release.outcome(NAME).as_str()), (0, "changed"), "{}", release.story());
    assert_eq!(fleet.unlike(NAME, KitShape::small().newer(), &[]), [""; 0]);
    assert!(fleet.ibex(NAME).is_some(), "IBEX was set up and started, although every file was there already");
    let status = fleet.run(&["status", NAME]);
    assert!(!status.stdout.contains(&run), "{}", status.story());
}
