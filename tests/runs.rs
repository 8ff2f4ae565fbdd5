//! `ibexdeploy runs ...` over stored runs, and errors as the command prints them.

use snapbox::cmd::{Command, cargo_bin};
use snapbox::str;
use std::error::Error;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A run of two instruments, as `events.jsonl` keeps it; the second did not come to its end.
const HALF: &str = r#"{"v":1,"run":"RUN","n":0,"at":"2026-11-23T22:00:00Z","event":"run_started","playbook":"release","kit":"15.0.0","operator":"kvlb23@control","instruments":["NDXLARMOR","NDXLOQ"],"rehearsal":false,"plan":"5f0c"}
{"v":1,"run":"RUN","instrument":"NDXLARMOR","n":1,"at":"2026-11-23T22:00:01Z","event":"accepted","playbook":"release","operator":"kvlb23@control","plan":"5f0c","steps":6}
{"v":1,"run":"RUN","instrument":"NDXLARMOR","n":2,"at":"2026-11-23T22:02:00Z","event":"instrument_finished","outcome":"changed","versions":{"EPICS":{"from":"14.0.2","to":"15.0.0"}},"outage_ms":61000,"longest":[{"name":"stop IBEX","ms":21000}],"ms":95000}
{"v":1,"run":"RUN","instrument":"NDXLOQ","n":1,"at":"2026-11-23T22:00:01Z","event":"phase_started","phase":"apply"}
"#;

/// The end of the second instrument and of the run.
const REST: &str = r#"{"v":1,"run":"RUN","instrument":"NDXLOQ","n":2,"at":"2026-11-23T22:03:00Z","event":"instrument_finished","outcome":"rolled_back","outage_ms":70000,"ms":99000,"error":{"kind":"step_failed","message":"start_ibex_server.bat ended with exit code 3","next":"look at the log of the IOCs"}}
{"v":1,"run":"RUN","n":0,"at":"2026-11-23T22:03:01Z","event":"run_finished","exit_code":1,"ms":181000}
"#;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn ibexdeploy(state: &Path, arguments: &[&str]) -> Command {
    Command::new(cargo_bin!("ibexdeploy"))
        .args(arguments)
        .env("IBEXDEPLOY_STATE", state)
        .env_remove("IBEXDEPLOY_OUTPUT")
        .env_remove("CLICOLOR_FORCE")
}

fn keep(state: &Path, run: &str, events: &str) -> Outcome {
    let folder = state.join("runs").join(run);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("events.jsonl"), events.replace("RUN", run))?;
    Ok(())
}

/// Three runs: two that ended and the newest that did not.
fn three_runs() -> Outcome<TempDir> {
    let state = TempDir::new()?;
    keep(state.path(), "20261121-220000-aaaaaa", &format!("{HALF}{REST}"))?;
    keep(state.path(), "20261122-220000-bbbbbb", &format!("{HALF}{REST}"))?;
    keep(state.path(), "20261123-220000-cccccc", HALF)?;
    Ok(state)
}

fn json(state: &Path, arguments: &[&str]) -> Outcome<serde_json::Value> {
    let output = ibexdeploy(state, arguments).args(["--output", "json"]).output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn list_shows_the_newest_first() -> Outcome {
    let state = three_runs()?;
    ibexdeploy(state.path(), &["runs", "list"]).assert().success().stderr_eq("").stdout_eq(str![[r#"
RUN                     WHEN (UTC)        PLAYBOOK  KIT     OPERATOR        INSTRUMENTS  OUTCOMES                     TOOK
20261123-220000-cccccc  2026-11-23 22:00  release   15.0.0  kvlb23@control            2  1 changed, 1 not finished
20261122-220000-bbbbbb  2026-11-23 22:00  release   15.0.0  kvlb23@control            2  1 changed, 1 rolled_back   3m 01s
20261121-220000-aaaaaa  2026-11-23 22:00  release   15.0.0  kvlb23@control            2  1 changed, 1 rolled_back   3m 01s

"#]]);
    let runs = json(state.path(), &["runs", "list"])?;
    assert_eq!(runs[0]["run"], "20261123-220000-cccccc");
    assert_eq!((&runs[0]["open"], &runs[1]["outcomes"]["rolled_back"]), (&1.into(), &1.into()));
    Ok(())
}

#[test]
fn list_of_no_runs() -> Outcome {
    let state = TempDir::new()?;
    ibexdeploy(state.path(), &["runs", "list"]).assert().success().stdout_eq(str![[r#"
There are no runs yet.

"#]]);
    assert_eq!(json(state.path(), &["runs", "list"])?, serde_json::json!([]));
    Ok(())
}

#[test]
fn show_takes_the_newest_or_the_beginning_of_a_name() -> Outcome {
    let state = three_runs()?;
    ibexdeploy(state.path(), &["runs", "show"]).assert().success().stdout_eq(str![[r#"
run        20261123-220000-cccccc
playbook   release
kit        15.0.0
operator   kvlb23@control
started    2026-11-23 22:00:00 UTC
plan       5f0c

INSTRUMENT  PHASE  WHERE IT STANDS
NDXLOQ      apply  apply

INSTRUMENT  OUTCOME       VERSION           OUTAGE  LONGEST STEPS OF IT    TIME
NDXLARMOR   changed       14.0.2 -> 15.0.0  1m 01s  stop IBEX 21 s       1m 35s
NDXLOQ      not finished

What went wrong:
  NDXLOQ: not finished
    last seen: apply

2 instruments: 1 changed, 1 not finished.
Outage: 1m 01s (NDXLARMOR).
The run is not finished, as far as this controller knows: `ibexdeploy runs resume 20261123-220000-cccccc` goes on with it.
Run 20261123-220000-cccccc, logs in [..]/runs/20261123-220000-cccccc

"#]]);
    let shown = json(state.path(), &["runs", "show", "20261122"])?;
    assert_eq!((&shown["run"], &shown["instruments"][1]["outcome"]), (&"20261122-220000-bbbbbb".into(), &"rolled_back".into()));
    ibexdeploy(state.path(), &["runs", "show", "20261122", "-v"]).assert().success().stdout_eq(str![[r#"
2026-11-23T22:00:00Z - run: run of release, kit 15.0.0 on 2 instruments by kvlb23@control, run 20261122-220000-bbbbbb, plan 5f0c
2026-11-23T22:00:01Z NDXLARMOR accepted: release, 6 steps
2026-11-23T22:02:00Z NDXLARMOR changed: 14.0.2 -> 15.0.0, outage 1m 01s, took 1m 35s
2026-11-23T22:00:01Z NDXLOQ phase: apply begins
2026-11-23T22:03:00Z NDXLOQ rolled_back: outage 1m 10s, took 1m 39s, start_ibex_server.bat ended with exit code 3
2026-11-23T22:03:01Z - run-end: finished after 3m 01s, exit code 1

run        20261122-220000-bbbbbb
playbook   release
kit        15.0.0
operator   kvlb23@control
started    2026-11-23 22:00:00 UTC
plan       5f0c
exit code  1

INSTRUMENT  OUTCOME      VERSION           OUTAGE  LONGEST STEPS OF IT    TIME
NDXLARMOR   changed      14.0.2 -> 15.0.0  1m 01s  stop IBEX 21 s       1m 35s
NDXLOQ      rolled_back                    1m 10s                       1m 39s

What went wrong:
  NDXLOQ: rolled_back
    start_ibex_server.bat ended with exit code 3
    next: look at the log of the IOCs

2 instruments: 1 changed, 1 rolled_back.
Outage: 1m 10s at most (NDXLOQ), 1m 10s in the middle.
Took 3m 01s.
Run 20261122-220000-bbbbbb, logs in [..]/runs/20261122-220000-bbbbbb

"#]]);
    Ok(())
}

#[test]
fn a_wrong_name_is_told_the_nearest() -> Outcome {
    let state = three_runs()?;
    let wrong = ["runs", "show", "20261122-220000-bbbbxb"];
    ibexdeploy(state.path(), &wrong).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error: there is no run `20261122-220000-bbbbxb`
  next: did you mean 20261122-220000-bbbbbb? `ibexdeploy runs list` shows all

"#]]);
    ibexdeploy(state.path(), &wrong).args(["--output", "json"]).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
{"error":{"kind":"usage","message":"there is no run `20261122-220000-bbbbxb`","next":"did you mean 20261122-220000-bbbbbb? `ibexdeploy runs list` shows all","temporary":false}}

"#]]);
    Ok(())
}

#[test]
fn arguments_that_are_wrong_are_json_too_when_wanted() -> Outcome {
    let state = TempDir::new()?;
    let wrong = ["runs", "prune", "--keeep", "3", "--output", "json"];
    ibexdeploy(state.path(), &wrong).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
{"error":{"kind":"usage","message":"unexpected argument '--keeep' found","next":"a similar argument exists: '--keep'","temporary":false}}

"#]]);
    ibexdeploy(state.path(), &["--help"]).assert().code(0).stderr_eq("");
    Ok(())
}

#[test]
fn report_writes_markdown_for_the_shutdown_log() -> Outcome {
    let state = three_runs()?;
    ibexdeploy(state.path(), &["runs", "report", "20261121", "--markdown"]).assert().success().stdout_eq(str![[r#"
# Run of release 15.0.0

| INSTRUMENT | OUTCOME | VERSION | OUTAGE | LONGEST STEPS OF IT | TIME |
| --- | --- | --- | ---: | --- | ---: |
| NDXLARMOR | changed | 14.0.2 -> 15.0.0 | 1m 01s | stop IBEX 21 s | 1m 35s |
| NDXLOQ | rolled_back |  | 1m 10s |  | 1m 39s |

## What went wrong

```text
  NDXLOQ: rolled_back
    start_ibex_server.bat ended with exit code 3
    next: look at the log of the IOCs
```

## Totals

- 2 instruments: 1 changed, 1 rolled_back.
- Outage: 1m 10s at most (NDXLOQ), 1m 10s in the middle.
- Took 3m 01s.
- Run 20261121-220000-aaaaaa, logs in [..]/runs/20261121-220000-aaaaaa

"#]]);
    Ok(())
}

#[test]
fn damaged_events_are_told_and_the_rest_is_shown() -> Outcome {
    let state = TempDir::new()?;
    let mut lines: Vec<&str> = HALF.lines().collect();
    lines.insert(2, "\0\0\0");
    keep(state.path(), "20261123-220000-cccccc", &format!("{}\n{}", lines.join("\n"), &REST[..60]))?;
    let output = ibexdeploy(state.path(), &["runs", "report"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success());
    assert!(text.contains("line 3 cannot be read") && text.contains("line 6 (the last) was cut off"), "{text}");
    assert!(text.contains("NDXLARMOR   changed"), "{text}");
    assert_eq!(json(state.path(), &["runs", "show"])?["damage"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
fn prune_keeps_the_newest_and_what_is_not_finished() -> Outcome {
    let state = three_runs()?;
    keep(state.path(), "20261120-220000-zzzzzz", HALF)?;
    ibexdeploy(state.path(), &["runs", "prune", "--keep", "2"]).assert().success().stdout_eq(str![[r#"
Removed 1 run.
Kept 20261120-220000-zzzzzz: it is not finished (`ibexdeploy runs resume 20261120-220000-zzzzzz`, or --unfinished removes it).

"#]]);
    let pruned = json(state.path(), &["runs", "prune", "--keep", "2", "--unfinished"])?;
    assert_eq!(pruned["removed"], serde_json::json!(["20261120-220000-zzzzzz"]));
    let left = json(state.path(), &["runs", "list"])?;
    assert_eq!(left.as_array().map(Vec::len), Some(2));
    Ok(())
}
