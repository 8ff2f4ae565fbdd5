//! The report at the end, and stored runs.

use super::*;
use crate::events::{BackedUp, Summary};
use std::num::NonZeroU64;

/// One instrument of each end, with everything that a report can hold.
pub(super) fn every_end(rehearsal: bool) -> Story {
    let all =
        ["NDXLARMOR", "NDXZOOM", "NDXOK", "NDXSKIP", "NDXLOQ", "NDXEMU", "NDXMUSR", "NDXFAIL", "NDXGONE", "NDXIRIS", "NDXLOST"];
    let mut story = Story::begin(&all, rehearsal);
    story.changed("NDXLARMOR", 61_000).changed("NDXZOOM", 4_400);
    story.at("NDXOK", EventKind::HandChanges { component: "EPICS".into(), files: None, archive: None });
    story.end("NDXOK", Outcome::Ok, 0, None).end("NDXSKIP", Outcome::Skipped, 0, None);

    let start = step("apply.05.command", "start IBEX");
    let no = Error::step_failed("start_ibex_server.bat ended with exit code 3")
        .because("the port 4051 is held by another process")
        .with_output(vec!["starte GALIL_01\t…".into(), "\u{1b}[31mFEHLER\u{1b}[0m: Gerät antwortet nicht (完)".into()])
        .next("look at C:\\Instrument\\Var\\logs\\ioc, then `ibexdeploy release NDXLOQ`");
    story.applying("NDXLOQ");
    fail(&mut story, "NDXLOQ", start.clone(), &no);
    story.at("NDXLOQ", EventKind::RollbackStarted { because: "start IBEX failed".into() });
    let undone = step("apply.01.command", "stop IBEX");
    story.at("NDXLOQ", EventKind::StepUndone { step: undone, outcome: Outcome::Ok, summary: "started IBEX".into(), ms: 9_000 });
    story.at("NDXLOQ", EventKind::RollbackFinished { ok: true, left: vec![] });
    story.end("NDXLOQ", Outcome::RolledBack, 130_000, Some(no.clone().on_host("NDXLOQ").in_step("apply.05.command")));

    story.applying("NDXEMU");
    story.passing("NDXEMU", EventKind::StepOutput { step: start.clone(), line: "Zugriff verweigert".into() });
    fail(&mut story, "NDXEMU", start, &Error::new(ErrorKind::TimedOut, "gave up waiting for PV IN:EMU:CS:SB after 120 s"));
    story.at("NDXEMU", EventKind::RollbackStarted { because: "start IBEX failed".into() });
    let left = vec![r"C:\Instrument\Apps\EPICS\scribble.txt".into(), r"C:\Instrument\Var\x".into()];
    story.at("NDXEMU", EventKind::RollbackFinished { ok: false, left });
    story.end("NDXEMU", Outcome::RollbackFailed, 300_000, Some(Error::new(ErrorKind::Integrity, "2 files are not as before")));

    let archive = Some(r"C:\ProgramData\ibexdeploy\hand-changes\20261123-EPICS.zip".into());
    story.at("NDXMUSR", EventKind::HandChanges { component: "EPICS".into(), files: Some(3), archive });
    story.end("NDXMUSR", Outcome::Cancelled, 0, None);
    let space = Error::new(ErrorKind::OutOfSpace, "C: has 1.2 GB free and 3.0 GB are needed").next("make room on C:");
    story.staged("NDXFAIL").end("NDXFAIL", Outcome::Failed, 0, Some(space));
    let gone = Error::new(ErrorKind::Unreachable, "no answer within 15 s").on_host("NDXGONE");
    story.passing("NDXGONE", EventKind::Connecting { attempt: 3 }).end("NDXGONE", Outcome::Unreachable, 0, Some(gone));
    story.at("NDXIRIS", EventKind::Reminder { text: "check the motor setpoints with the instrument scientist".into() });
    story.end("NDXIRIS", Outcome::Changed, 0, None);
    story.applying("NDXLOST").passing("NDXLOST", EventKind::LinkLost { why: "connection reset".into(), retry_ms: 4_000 });
    story.run(EventKind::Reminder { text: "tell the users that IBEX is back".into() });
    story.finish(5, Some("the failure limit of 2 was reached"));
    story
}

#[test]
fn the_report_says_where_backups_are() {
    let mut story = Story::begin(&["NDXLARMOR", "NDXZOOM", "NDXLOQ"], false);
    let backup = |folder: &str, unreadable| {
        let folder = format!(r"C:\data\old\{folder}");
        EventKind::BackedUp(BackedUp { folder, zips: 7, files: 113, bytes: 4_200_000, unreadable })
    };
    for name in ["NDXLARMOR", "NDXZOOM"] {
        story.at(name, backup("ibex_backup_2026_11_28", 0)).end(name, Outcome::Ok, 0, None);
    }
    // A step that was interrupted at its very end tells it twice.
    story.at("NDXLOQ", backup("ibex_backup_2026_11_28_2", 1)).at("NDXLOQ", backup("ibex_backup_2026_11_28_2", 1));
    story.end("NDXLOQ", Outcome::Ok, 0, None).finish(0, None);
    let state = RunState::of(&story.events);
    let text = Report::new(&state, &place()).text(Screen::PLAIN);
    let backups: Vec<&str> = text.lines().skip_while(|l| !l.starts_with("Backups")).take_while(|l| !l.is_empty()).collect();
    assert_snapshot!(backups.join("\n"), @r"
    Backups, on the instruments:
      - NDXLARMOR and NDXZOOM: C:\data\old\ibex_backup_2026_11_28
      - NDXLOQ: C:\data\old\ibex_backup_2026_11_28_2: 7 zips with 113 files, 4.2 MB, without 1 file that could not be read
    ");
    let markdown = Report::new(&state, &place()).markdown();
    assert!(markdown.contains("## Backups\n\n- NDXLARMOR, NDXZOOM: C:"), "{markdown}");
}

#[test]
fn the_report_names_every_end() {
    let story = every_end(false);
    let state = RunState::of(&story.events);
    assert_snapshot!(Report::new(&state, &place()).text(Screen::PLAIN), @r"
    INSTRUMENT  OUTCOME          VERSION             OUTAGE  LONGEST STEPS OF IT                SENT    TIME
    NDXLARMOR   changed          14.0.2 -> 15.0.0    1m 01s  stop IBEX 21 s, start IBEX 18 s  9.0 MB  1m 35s
    NDXZOOM     changed          14.0.2 -> 15.0.0     4.4 s  stop IBEX 21 s, start IBEX 18 s  9.0 MB    38 s
    NDXOK       ok               14.0.2 (as before)                                                     34 s
    NDXSKIP     skipped          14.0.2 (as before)                                                     34 s
    NDXLOQ      rolled_back      14.0.2 (as before)  2m 10s  stop IBEX 21 s, start IBEX 18 s  9.0 MB  2m 44s
    NDXEMU      rollback_failed  14.0.2 (as before)  5m 00s  stop IBEX 21 s, start IBEX 18 s  9.0 MB  5m 34s
    NDXMUSR     cancelled        14.0.2 (as before)                                                     34 s
    NDXFAIL     failed           14.0.2 (as before)                                           9.0 MB    34 s
    NDXGONE     unreachable                                                                             34 s
    NDXIRIS     changed          14.0.2 -> 15.0.0                                                       34 s
    NDXLOST     not finished                                                                  9.0 MB

    What went wrong:
      NDXLOQ: rolled_back
        start IBEX (apply.05.command): start_ibex_server.bat ended with exit code 3
        because: the port 4051 is held by another process
        the last lines it wrote:
          | starte GALIL_01    …
          | FEHLER: Gerät antwortet nicht (完)
        next: look at C:\Instrument\Var\logs\ioc, then `ibexdeploy release NDXLOQ`
        rolled back: all is as it was before, 1 step undone
      NDXEMU: rollback_failed
        start IBEX (apply.05.command): gave up waiting for PV IN:EMU:CS:SB after 120 s
        the last lines it wrote:
          | Zugriff verweigert
        2 files are not as before
        the rollback could NOT put back everything: C:\Instrument\Apps\EPICS\scribble.txt; C:\Instrument\Var\x
      NDXFAIL: failed
        C: has 1.2 GB free and 3.0 GB are needed
        next: make room on C:
      NDXGONE: unreachable
        no answer within 15 s
      NDXLOST: not finished
        last seen: link lost (connection reset), it goes on by itself: apply

    Left for you:
      - tell the users that IBEX is back
      - NDXLARMOR, NDXZOOM and NDXIRIS: check the motor setpoints with the instrument scientist
      - NDXOK: whether EPICS was changed by hand is unknown: there is no baseline before the first release
      - NDXEMU: not put back, look at it: C:\Instrument\Apps\EPICS\scribble.txt
      - NDXEMU: not put back, look at it: C:\Instrument\Var\x
      - NDXMUSR: 3 files of EPICS changed by hand, saved in C:\ProgramData\ibexdeploy\hand-changes\20261123-EPICS.zip
      - NDXLOST: not finished: `ibexdeploy runs resume 20261123-220000-abcdef` goes on with it

    11 instruments: 1 ok, 3 changed, 1 skipped, 1 failed, 1 rolled_back, 1 rollback_failed, 1 unreachable, 1 cancelled, 1 not finished.
    Outage: 5m 00s at most (NDXEMU), 2m 10s in the middle.
    Took 12m 04s, 54.0 MB sent.
    STOPPED: the failure limit of 2 was reached.
    Run 20261123-220000-abcdef, logs in /state/runs/20261123-220000-abcdef
    ");
}

#[test]
fn the_report_keeps_to_a_narrow_terminal() {
    let story = every_end(true);
    let state = RunState::of(&story.events);
    assert_snapshot!(Report::new(&state, &place()).text(columns(60)), @r"
    This was a REHEARSAL on sandboxes: no instrument was
    touched.

    INSTRUMENT  OUTCOME          VERSION          OUTAGE    TIME
    NDXLARMOR   changed          14.0.2 -> 15.0…  1m 01s  1m 35s
    NDXZOOM     changed          14.0.2 -> 15.0…   4.4 s    38 s
    NDXOK       ok               14.0.2 (as bef…            34 s
    NDXSKIP     skipped          14.0.2 (as bef…            34 s
    NDXLOQ      rolled_back      14.0.2 (as bef…  2m 10s  2m 44s
    NDXEMU      rollback_failed  14.0.2 (as bef…  5m 00s  5m 34s
    NDXMUSR     cancelled        14.0.2 (as bef…            34 s
    NDXFAIL     failed           14.0.2 (as bef…            34 s
    NDXGONE     unreachable                                 34 s
    NDXIRIS     changed          14.0.2 -> 15.0…            34 s
    NDXLOST     not finished

    What went wrong:
      NDXLOQ: rolled_back
        start IBEX (apply.05.command): start_ibex_server.bat
          ended with exit code 3
        because: the port 4051 is held by another process
        the last lines it wrote:
          | starte GALIL_01    …
          | FEHLER: Gerät antwortet nicht (完)
        next: look at C:\Instrument\Var\logs\ioc, then
              `ibexdeploy release NDXLOQ`
        rolled back: all is as it was before, 1 step undone
      NDXEMU: rollback_failed
        start IBEX (apply.05.command): gave up waiting for PV
          IN:EMU:CS:SB after 120 s
        the last lines it wrote:
          | Zugriff verweigert
        2 files are not as before
        the rollback could NOT put back everything:
          C:\Instrument\Apps\EPICS\scribble.txt;
          C:\Instrument\Var\x
      NDXFAIL: failed
        C: has 1.2 GB free and 3.0 GB are needed
        next: make room on C:
      NDXGONE: unreachable
        no answer within 15 s
      NDXLOST: not finished
        last seen: link lost (connection reset), it goes on by
          itself: apply

    Left for you:
      - tell the users that IBEX is back
      - NDXLARMOR, NDXZOOM and NDXIRIS: check the motor
        setpoints with the instrument scientist
      - NDXOK: whether EPICS was changed by hand is unknown:
        there is no baseline before the first release
      - NDXEMU: not put back, look at it:
        C:\Instrument\Apps\EPICS\scribble.txt
      - NDXEMU: not put back, look at it: C:\Instrument\Var\x
      - NDXMUSR: 3 files of EPICS changed by hand, saved in
        C:\ProgramData\ibexdeploy\hand-changes\20261123-EPICS.zip
      - NDXLOST: not finished: `ibexdeploy runs resume
        20261123-220000-abcdef` goes on with it

    11 instruments: 1 ok, 3 changed, 1 skipped, 1 failed, 1
      rolled_back, 1 rollback_failed, 1 unreachable, 1
      cancelled, 1 not finished.
    Outage: 5m 00s at most (NDXEMU), 2m 10s in the middle.
    Took 12m 04s, 54.0 MB sent.
    STOPPED: the failure limit of 2 was reached.
    Run 20261123-220000-abcdef, logs in
      /state/runs/20261123-220000-abcdef
    This was a REHEARSAL on sandboxes: no instrument was
      touched.
    ");
}

#[test]
fn the_report_in_markdown() {
    let mut story = Story::begin(&["NDXLARMOR", "NDXZOOM", "NDXA|B", "NDXEMU"], false);
    for name in ["NDXLARMOR", "NDXZOOM", "NDXA|B", "NDXEMU"] {
        story.changed(name, 61_000);
    }
    story.finish(0, None);
    let state = RunState::of(&story.events);
    assert_snapshot!(Report::new(&state, &place()).markdown(), @r"
    # Run of release 15.0.0

    | INSTRUMENT | OUTCOME | VERSION | OUTAGE | LONGEST STEPS OF IT | SENT | TIME |
    | --- | --- | --- | ---: | --- | ---: | ---: |
    | NDXLARMOR | changed | 14.0.2 -> 15.0.0 | 1m 01s | stop IBEX 21 s, start IBEX 18 s | 9.0 MB | 1m 35s |
    | NDXZOOM | changed | 14.0.2 -> 15.0.0 | 1m 01s | stop IBEX 21 s, start IBEX 18 s | 9.0 MB | 1m 35s |
    | NDXA\|B | changed | 14.0.2 -> 15.0.0 | 1m 01s | stop IBEX 21 s, start IBEX 18 s | 9.0 MB | 1m 35s |
    | NDXEMU | changed | 14.0.2 -> 15.0.0 | 1m 01s | stop IBEX 21 s, start IBEX 18 s | 9.0 MB | 1m 35s |

    ## Left for you

    - NDXLARMOR, NDXZOOM, NDXA\|B, NDXEMU: check the motor setpoints with the instrument scientist

    ## Totals

    - 4 instruments: 4 changed.
    - Outage: 1m 01s at most (NDXZOOM), 1m 01s in the middle.
    - Took 12m 04s, 36.0 MB sent.
    - Run 20261123-220000-abcdef, logs in /state/runs/20261123-220000-abcdef
    ");
}

#[test]
fn the_report_of_thirty_six_groups_what_is_the_same() {
    let mut story = Story::begin(&[], true);
    for at in 1..=36 {
        story.changed(&format!("NDXINST{at:02}"), 61_000);
    }
    story.finish(0, None);
    let state = RunState::of(&story.events);
    let report = Report::new(&state, &place()).text(columns(100));
    let end: Vec<&str> = report.lines().skip(38).collect();
    assert_snapshot!(end.join("\n"), @r"
    NDXINST36   changed  14.0.2 -> 15.0.0  1m 01s  stop IBEX 21 s, start IBEX 18 s  9.0 MB  1m 35s

    Left for you:
      - NDXINST01, NDXINST02 and 34 more: check the motor setpoints with the instrument scientist

    36 instruments: 36 changed.
    Outage: 1m 01s at most (NDXINST36), 1m 01s in the middle.
    Took 12m 04s, 324.0 MB sent.
    Run 20261123-220000-abcdef, logs in /state/runs/20261123-220000-abcdef
    This was a REHEARSAL on sandboxes: no instrument was touched.
    ");
}

#[test]
fn failures_that_are_the_same_are_told_once() {
    let mut story = Story::begin(&[], false);
    for at in 1..=30 {
        let name = format!("NDXINST{at:02}");
        let gone = Error::new(ErrorKind::Unreachable, "no answer within 15 s").on_host(&name).next("is it switched on?");
        story.end(&name, Outcome::Unreachable, 0, Some(gone));
    }
    story.finish(1, None);
    let state = RunState::of(&story.events);
    let report = Report::new(&state, &place()).text(columns(100));
    let end: Vec<&str> = report.lines().skip(31).collect();
    assert_snapshot!(end.join("\n"), @r"

    What went wrong:
      NDXINST01, NDXINST02 and 28 more: unreachable
        no answer within 15 s
        next: is it switched on?

    30 instruments: 30 unreachable.
    Took 12m 04s.
    Run 20261123-220000-abcdef, logs in /state/runs/20261123-220000-abcdef
    ");
}

#[test]
fn a_report_of_nothing() {
    let state = RunState::default();
    assert_snapshot!(Report::new(&state, &Where::default()).text(Screen::PLAIN), @r"
    The run is not finished, as far as this controller knows: `ibexdeploy runs resume unknown` goes on with it.
    Run unknown
    ");
}

#[test]
fn the_list_of_runs() {
    let story = every_end(false);
    let full = RunState::of(&story.events).summary(&RunId("x".into()));
    let started = full.started;
    let other = Summary {
        run: RunId("20261120-080000-bbbbbb".into()),
        started,
        playbook: "release".into(),
        kit: None,
        operator: "me@laptop".into(),
        rehearsal: true,
        instruments: 30,
        outcomes: BTreeMap::from([(Outcome::Changed, 30)]),
        open: 0,
        exit_code: Some(0),
        ms: Some(61_000),
    };
    let lost = Summary { exit_code: None, ms: None, started: None, ..other.clone() };
    let runs = [full, other, lost];
    assert_snapshot!(run_list(&runs, Screen::PLAIN), @r"
    RUN                     WHEN (UTC)        PLAYBOOK             KIT     OPERATOR        INSTRUMENTS  OUTCOMES                                                                                                               TOOK
    20261123-220000-abcdef  2026-11-23 22:00  release              15.0.0  kvlb23@control           11  1 ok, 3 changed, 1 skipped, 1 failed, 1 rolled_back, 1 rollback_failed, 1 unreachable, 1 cancelled, 1 not finished  12m 04s
    20261120-080000-bbbbbb  2026-11-23 22:00  release (rehearsal)          me@laptop                30  30 changed                                                                                                           1m 01s
    20261120-080000-bbbbbb                    release (rehearsal)          me@laptop                30  30 changed, not finished
    ");
    assert_snapshot!(run_list(&runs, columns(70)), @r"
    RUN                     PLAYBOOK       INSTRUMENTS  OUTCOMES
    20261123-220000-abcdef  release                 11  1 ok, 3 changed, …
    20261120-080000-bbbbbb  release (reh…           30  30 changed
    20261120-080000-bbbbbb  release (reh…           30  30 changed, not f…
    ");
    assert_snapshot!(run_list(&[], columns(70)), @r"There are no runs yet.");
}

#[test]
fn a_run_that_lost_its_controller() {
    let mut story = Story::begin(&["NDXLARMOR", "NDXLOQ", "NDXZOOM"], false);
    story.changed("NDXLARMOR", 61_000).applying("NDXLOQ");
    let mut bytes = story.events.iter().map(|e| serde_json::to_string(e).unwrap()).collect::<Vec<_>>().join("\n").into_bytes();
    bytes.truncate(bytes.len() - 9);
    let log = crate::events::EventLog::parse(&bytes);
    let state = RunState::of(&log.events);
    assert_snapshot!(run_show(&state, &log.damage, &place(), columns(90)), @r"
    run        20261123-220000-abcdef
    playbook   release
    kit        15.0.0
    operator   kvlb23@control
    started    2026-11-23 22:00:00 UTC
    plan       5f0c1e2d3b4a59687786
    The events of this run are damaged:
      line 31 (the last) was cut off: what happened after 2026-11-23T22:00:29Z is lost here
      Each instrument has its own journal: `ibexdeploy runs resume` reads them again.

    INSTRUMENT  PHASE  WHERE IT STANDS
    NDXLOQ      apply  apply: stop IBEX
    NDXZOOM            not begun

    INSTRUMENT  OUTCOME       VERSION           OUTAGE  LONGEST STEPS OF IT       SENT    TIME
    NDXLARMOR   changed       14.0.2 -> 15.0.0  1m 01s  stop IBEX 21 s, start…  9.0 MB  1m 35s
    NDXLOQ      not finished                                                    9.0 MB
    NDXZOOM     not finished

    What went wrong:
      NDXLOQ: not finished
        last seen: apply: stop IBEX

    Left for you:
      - NDXLARMOR: check the motor setpoints with the instrument scientist

    3 instruments: 1 changed, 2 not finished.
    Outage: 1m 01s (NDXLARMOR).
    18.0 MB sent.
    The run is not finished, as far as this controller knows: `ibexdeploy runs resume
      20261123-220000-abcdef` goes on with it.
    Run 20261123-220000-abcdef, logs in /state/runs/20261123-220000-abcdef
    ");
}

#[test]
fn what_was_pruned() {
    assert_snapshot!(run_pruned(&["a".into()], &["b".into()]), @r"
    Removed 1 run.
    Kept b: it is not finished (`ibexdeploy runs resume b`, or --unfinished removes it).
    ");
}

#[test]
fn an_estimate_says_what_it_takes_for_granted() {
    let mut story = Story::begin(&["NDXLARMOR", "NDXZOOM"], false);
    story.changed("NDXLARMOR", 61_000).changed("NDXZOOM", 59_000).finish(0, None);
    let real = PastRun::of(&RunState::of(&story.events)).unwrap();
    let played =
        PastRun { run: RunId("20261123-230000-rehear".into()), rehearsal: true, outage_ms: 900, work_ms: 1_500, ..real.clone() };
    let mut from = EstimateFrom {
        playbook: "release".into(),
        instruments: 36,
        at_once: 30,
        bytes: 90_000_000_000,
        bandwidth: NonZeroU64::new(100_000_000),
        past: vec![played.clone(), real],
    };
    assert_snapshot!(estimate(&from).text(columns(80)), @r"
    The real thing, estimated:
      staging  15m 00s (IBEX runs)
      outage   1m 01s for each instrument
      all      17m 02s
      taken for granted:
      - 90.0 GB go to 36 instruments at 100.0 MB a second over all links together,
        read and written as fast as that
      - the steps take as long as in 1 past run (the newest is
        20261123-220000-abcdef)
      - 30 instruments work at once, so in 2 rounds
    ");
    // IBEX did not run there, so that nothing was stopped.
    from.past = vec![PastRun { outage_ms: 0, ..played.clone() }];
    assert_eq!(estimate(&from).outage_ms, Some(1_500));
    from.past = vec![played];
    assert_snapshot!(estimate(&from).text(columns(80)), @r"
    The real thing, estimated:
      staging  15m 00s (IBEX runs)
      outage   0.9 s for each instrument
      all      15m 03s
      taken for granted:
      - 90.0 GB go to 36 instruments at 100.0 MB a second over all links together,
        read and written as fast as that
      - the steps take as long as in 1 rehearsal (the newest is
        20261123-230000-rehear): the site's own scripts, services and reboots are
        only played there, the real ones take longer
      - 30 instruments work at once, so in 2 rounds
    ");
    from.past.clear();
    from.bandwidth = None;
    from.instruments = 1;
    assert_snapshot!(estimate(&from).text(Screen::PLAIN), @r"
    The real thing, estimated:
      staging  unknown (IBEX runs)
      outage   unknown for each instrument
      all      unknown
      taken for granted:
      - 90.0 GB go to 1 instrument in a time that is left out: say how fast with --bandwidth
      - nothing is known of the time that the steps themselves take: no past run tells
    ");
}

#[test]
fn no_past_run_without_a_good_end() {
    let mut story = Story::begin(&["NDXLOQ"], false);
    story.end("NDXLOQ", Outcome::Failed, 0, None);
    assert_eq!(PastRun::of(&RunState::of(&story.events)), None);
}

#[test]
fn colours_only_where_they_are_understood() {
    let state = RunState::of(&every_end(true).events);
    let coloured = Report::new(&state, &place()).text(Screen { width: Some(100), colour: true });
    assert!(coloured.contains("\u{1b}[32mchanged\u{1b}[0m"));
    assert_eq!(console::strip_ansi_codes(&coloured), Report::new(&state, &place()).text(columns(100)));
}

#[test]
fn a_rollback_that_was_asked_for_is_nothing_that_went_wrong() {
    let mut story = Story::begin(&["NDXLOQ"], false);
    for event in &mut story.events {
        if let EventKind::RunStarted { playbook, .. } = &mut event.kind {
            "rollback".clone_into(playbook);
        }
    }
    story.at("NDXLOQ", EventKind::RollbackStarted { because: "it was asked for".into() });
    story.at("NDXLOQ", EventKind::RollbackFinished { ok: true, left: vec![] });
    story.end("NDXLOQ", Outcome::RolledBack, 0, None).finish(0, None);
    let mut state = RunState::default();
    for event in &story.events {
        state.apply(event);
    }
    let report = Report::new(&state, &place()).text(Screen::PLAIN);
    assert!(report.contains("rolled_back") && !report.contains("What went wrong"), "{report}");
}
