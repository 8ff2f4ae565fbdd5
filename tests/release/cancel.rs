//! The first Ctrl-C: what only waits is not waited for.

use crate::kill::machine::{is_free, journal, outcome, staged, wait_for};
use crate::support::{Fleet, Watched};
use crate::terminal::Terminal;
use ibexdeploy::rehearsal::{KitShape, TreeShape};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

const NAME: &str = "NDXLARMOR";

fn interrupt(controller: &Watched) {
    send("-INT", &controller.child);
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

/// One Ctrl-C has ended the run before anything was changed, and nothing is left of it.
fn ends_unchanged(fleet: &Fleet, mut controller: Watched) {
    let root = fleet.root(NAME);
    let before = fleet.apps(NAME);
    interrupt(&controller);
    let ended = controller.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(ended["outcome"], "cancelled", "{ended}");
    assert_eq!(controller.child.wait().expect("it ends").code(), Some(130));
    assert_eq!(outcome(&journal(&root)).as_deref(), Some("cancelled"));
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(staged(&root), [""; 0], "staged content is left");
    wait_for("the instrument is free", || is_free(&root).then_some(()));
}

#[test]
fn once_ends_the_wait_for_content_that_is_on_its_way() {
    let much = TreeShape { files: 200, bytes: 8_000_000, binaries: 20 };
    let fleet = Fleet::new(&KitShape { server: much, changed_per_mille: 900, ..KitShape::small().without_git() });
    fleet.make(&[NAME]);
    // So slow that it takes longer than any test may.
    let mut controller = fleet.start(&["release", NAME, "--yes", "--limit-rate", "20KB"]);
    controller.until(|e| e["event"] == "step_progress" && e["step"]["action"] == "sync" && e["done"] != 0).expect("files come");
    assert_ne!(staged(&fleet.root(NAME)), [""; 0], "something was staged");
    ends_unchanged(&fleet, controller);
}

#[test]
fn once_ends_the_wait_for_content_that_nobody_has() {
    let fleet = crate::resume::left_while_staging();
    let kit = fleet.kits().join(KitShape::small().newer());
    std::fs::rename(&kit, fleet.dir().join("aside")).expect("the release can be moved");
    let mut controller = fleet.start(&["runs", "resume", "--of", NAME]);
    controller
        .until(|e| e["event"] == "step_waiting" && e["what"].as_str().is_some_and(|w| w.contains("a controller to send")))
        .expect("it waits");
    ends_unchanged(&fleet, controller);
}

#[test]
fn what_is_not_staged_when_the_deadline_comes_is_not_stopped_either() {
    let fleet = Fleet::running(&[NAME]);
    let ibex = fleet.ibex(NAME).expect("IBEX runs");
    let before = fleet.apps(NAME);
    // So slow that nothing has come by then.
    let ended = fleet.run(&["release", NAME, "--yes", "--limit-rate", "20B", "--deadline", "1s"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (3, "cancelled"), "{}", ended.story());
    assert_eq!(fleet.ibex(NAME), Some(ibex), "the same server still runs");
    assert_eq!(fleet.apps(NAME), before);
}

#[test]
fn an_interrupt_that_comes_before_a_run_has_begun_ends_the_command_with_its_exit_code() {
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&[NAME]);
    for signal in ["-INT", "-TERM"] {
        let (mut child, mut terminal) = Terminal::start(&mut fleet.command(&["release", NAME]));
        terminal.until("Go on?");
        send(signal, &child);
        terminal.until("interrupted: no run was begun");
        let status = child.wait().expect("its end");
        assert_eq!((status.code(), status.signal()), (Some(130), None), "{}", terminal.shown);
    }
}

/// A playbook that changes something, and closes when a file is there.
const CLOSES: &str = "playbook: t
apply:
  - name: change
    command: {at: server, run: 'echo new > changed.txt'}
    undo: {command: {at: server, run: 'rm -f changed.txt'}}
close:
  - name: tell
    command: {at: server, run: 'touch $IBEX_ROOT/closing; until [ -e $IBEX_ROOT/go ]; do sleep 0.05; done'}
";

#[test]
fn an_interrupt_while_a_run_is_closed_says_that_all_is_changed() {
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&[NAME]);
    let books = fleet.dir().join("books");
    std::fs::create_dir(&books).and_then(|()| std::fs::write(books.join("t.yaml"), CLOSES)).expect("a playbook");
    let books = books.display().to_string();
    let mut command = fleet.command(&["run", "t", NAME, "--yes", "--playbooks", &books, "--output", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let root = fleet.root(NAME);
    wait_for("it closes", || root.join("closing").exists().then_some(()));
    // The controller has to have heard of the phase.
    let mut lines = BufReader::new(child.stdout.take().expect("its events")).lines();
    lines
        .find(|line| line.as_ref().is_ok_and(|l| l.contains("step_started") && l.contains("close.01")))
        .expect("an event")
        .expect("text");
    send("-INT", &child);
    let mut words = BufReader::new(child.stderr.take().expect("its words")).lines();
    let said = words.find(|line| line.as_ref().is_ok_and(|l| l.contains("changed"))).expect("words").expect("text");
    assert!(said.starts_with("Everything is changed and proven"), "{said}");
    std::fs::write(root.join("go"), "").expect("a file");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = child.wait().expect("its end");
    assert_eq!(status.code(), Some(0), "{rest:#?}");
    let end: serde_json::Value = serde_json::from_str(rest.last().expect("the last event")).expect("JSON");
    assert_eq!(
        (&end["event"], &end["exit_code"], &end["stopped"]),
        (&"run_finished".into(), &0.into(), &serde_json::Value::Null)
    );
    assert!(fleet.server(NAME).join("changed.txt").exists());
}
