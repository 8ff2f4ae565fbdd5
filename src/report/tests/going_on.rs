//! Reporters while a run goes on.

use super::super::pretty::{Pretty, Rows, frame};
use super::*;
use crate::events::Unit;
use crate::playbook::Phase;
use indicatif::TermLike;

fn thirty_six(rehearsal: bool) -> Story {
    let names: Vec<String> = (1..=36).map(|n| format!("NDXINST{n:02}")).collect();
    let mut story = Story::begin(&names.iter().map(String::as_str).collect::<Vec<_>>(), rehearsal);
    for (at, name) in names.iter().enumerate() {
        match at {
            0..12 => story.changed(name, 50_000 + at as u64 * 1000),
            12..34 => story.applying(name),
            _ => story.passing(name, EventKind::Queued { why: "30 are at work".into() }),
        };
    }
    let wait = |story: &mut Story, name: &str, seconds: u64| {
        let (step, what) = (step("apply.03.service", "start MySQL"), "service MYSQL84".to_owned());
        story.passing(name, EventKind::StepWaiting { step, what, elapsed_ms: seconds * 1000, limit_ms: 120_000 });
    };
    wait(&mut story, "NDXINST20", 40);
    wait(&mut story, "NDXINST21", 70);
    story.at("NDXINST22", EventKind::RollbackStarted { because: "start IBEX failed".into() });
    story.passing("NDXINST23", EventKind::LinkLost { why: "connection reset".into(), retry_ms: 500 });
    story.at("NDXINST24", EventKind::Question { id: "1".into(), text: "Is the beam off?".into() });
    let unit = Unit::Files;
    story.passing("NDXINST25", EventKind::StepProgress { step: step("apply.04.backup", "backup"), done: 40, total: 913, unit });
    let slow = step("apply.04.command", "ein sehr langer Name eines Schrittes, der über jede Zeile hinausgeht 完成完成完成");
    story.at("NDXINST26", EventKind::StepStarted { step: slow, attempt: 2 });
    story
}

#[test]
fn plain_lines_are_few_and_greppable() {
    let mut story = Story::begin(&["NDXLOQ"], true);
    story.applying("NDXLOQ");
    for seconds in [5, 61, 62, 119, 121] {
        let (step, what) = (step("apply.03.service", "start MySQL"), "service MYSQL84".to_owned());
        story.passing("NDXLOQ", EventKind::StepWaiting { step, what, elapsed_ms: seconds * 1000, limit_ms: 300_000 });
    }
    fail(&mut story, "NDXLOQ", step("apply.03.service", "start MySQL"), &Error::step_failed("it stopped\nagain"));
    story.at("NDXLOQ", EventKind::RollbackStarted { because: "start MySQL failed".into() });
    story.at("NDXLOQ", EventKind::RollbackFinished { ok: true, left: vec![] });
    story.end("NDXLOQ", Outcome::RolledBack, 130_000, Some(Error::step_failed("it stopped again"))).finish(1, None);
    let text = shown(Form::Plain, 0, &story);
    assert_snapshot!(text.split("\n\n").next().unwrap(), @r"
    2026-11-23T22:00:00Z - run: REHEARSAL of release, kit 15.0.0 on 1 instrument by kvlb23@control, run 20261123-220000-abcdef, plan 5f0c1e2d3b4a
    2026-11-23T22:00:04Z NDXLOQ phase: stage begins
    2026-11-23T22:00:08Z NDXLOQ staged: 113 files, 30.0 MB fetched, 10.0 MB were there, in 20 s
    2026-11-23T22:00:10Z NDXLOQ phase: apply begins
    2026-11-23T22:00:15Z NDXLOQ waiting: apply.03.service: waiting for service MYSQL84, 61 s of 300 s
    2026-11-23T22:00:18Z NDXLOQ waiting: apply.03.service: waiting for service MYSQL84, 121 s of 300 s
    2026-11-23T22:00:19Z NDXLOQ step-end: apply.03.service: failed, 1m 01s: it stopped again
    2026-11-23T22:00:20Z NDXLOQ rollback: start MySQL failed
    2026-11-23T22:00:21Z NDXLOQ rollback-end: all is as it was before
    2026-11-23T22:00:22Z NDXLOQ rolled_back: 14.0.2 (as before), outage 2m 10s, took 2m 44s, it stopped again
    2026-11-23T22:00:23Z - run-end: finished after 12m 04s, exit code 1
    ");
    let report = text.split_once("\n\n").unwrap().1;
    let state = RunState::of(&story.events);
    assert_eq!(report, Report::new(&state, &place()).text(Screen::PLAIN));
}

#[test]
fn plain_lines_with_all_steps() {
    let mut story = Story::begin(&["NDXLOQ"], false);
    let unit = Unit::Items;
    let one = || step("apply.01.command", "stop IBEX");
    story.changed("NDXLOQ", 60_000);
    story.passing("NDXLOQ", EventKind::StepOutput { step: one(), line: "\u{1b}[1mété\u{1b}[0m".into() });
    story.passing("NDXLOQ", EventKind::StepProgress { step: one(), done: 3, total: 9, unit });
    story.at("NDXLOQ", EventKind::Facts { facts: BTreeMap::from([("dae".into(), "DAE3".into())]) });
    story.at("NDXLOQ", EventKind::Held { why: "the DAE is RUNNING".into() }).at("NDXLOQ", EventKind::Released);
    story.at("NDXLOQ", EventKind::Recovered { how: "after the machine restarted".into() });
    story.at("NDXLOQ", EventKind::Note { text: "a note".into() });
    story.at("NDXLOQ", EventKind::Question { id: "1".into(), text: "Is the beam off?".into() });
    story.passing("NDXLOQ", EventKind::LinkLost { why: "connection reset".into(), retry_ms: 4_000 });
    story.at("NDXLOQ", EventKind::HandChanges { component: "EPICS".into(), files: Some(1), archive: None });
    story.finish(3, Some("the deadline"));
    assert_snapshot!(shown(Form::Plain, 2, &story).split("\n\n").next().unwrap(), @r#"
    2026-11-23T22:00:00Z - run: run of release, kit 15.0.0 on 1 instrument by kvlb23@control, run 20261123-220000-abcdef, plan 5f0c1e2d3b4a
    2026-11-23T22:00:01Z NDXLOQ connect: connecting
    2026-11-23T22:00:02Z NDXLOQ connect: connected to ndxloq (sandbox), agent 0.1.0
    2026-11-23T22:00:03Z NDXLOQ accepted: release, 6 steps
    2026-11-23T22:00:04Z NDXLOQ phase: stage begins
    2026-11-23T22:00:05Z NDXLOQ staging: needs 113 files, 40.0 MB
    2026-11-23T22:00:06Z NDXLOQ progress: apply.02.sync: 12.0 MB of 40.0 MB
    2026-11-23T22:00:07Z NDXLOQ sent: 9.0 MB
    2026-11-23T22:00:08Z NDXLOQ staged: 113 files, 30.0 MB fetched, 10.0 MB were there, in 20 s
    2026-11-23T22:00:09Z NDXLOQ phase: stage took 30 s
    2026-11-23T22:00:10Z NDXLOQ phase: apply begins
    2026-11-23T22:00:11Z NDXLOQ outage: begins
    2026-11-23T22:00:12Z NDXLOQ step: apply.01.command: stop IBEX
    2026-11-23T22:00:13Z NDXLOQ step-end: apply.01.command: changed, exit code 0, 21 s
    2026-11-23T22:00:14Z NDXLOQ phase: apply took 1m 00s
    2026-11-23T22:00:15Z NDXLOQ outage-end: after 1m 00s
    2026-11-23T22:00:16Z NDXLOQ reminder: check the motor setpoints with the instrument scientist
    2026-11-23T22:00:17Z NDXLOQ changed: 14.0.2 -> 15.0.0, outage 1m 00s, took 1m 34s
    2026-11-23T22:00:18Z NDXLOQ output: apply.01.command: été
    2026-11-23T22:00:19Z NDXLOQ progress: apply.01.command: 3 of 9
    2026-11-23T22:00:20Z NDXLOQ facts: dae="DAE3"
    2026-11-23T22:00:21Z NDXLOQ held: the DAE is RUNNING
    2026-11-23T22:00:22Z NDXLOQ released: may apply
    2026-11-23T22:00:23Z NDXLOQ recovered: after the machine restarted
    2026-11-23T22:00:24Z NDXLOQ note: a note
    2026-11-23T22:00:25Z NDXLOQ question: Is the beam off?
    2026-11-23T22:00:26Z NDXLOQ link-lost: connection reset; trying again in 4.0 s
    2026-11-23T22:00:27Z NDXLOQ hand-changes: 1 file of EPICS changed by hand
    2026-11-23T22:00:28Z - run-end: finished after 12m 04s, exit code 3, stopped: the deadline
    "#);
}

#[test]
fn json_lines_are_the_events() {
    let story = end::every_end(true);
    let text = shown(Form::Json, 0, &story);
    let read: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, story.events);
}

fn foot(state: &RunState, columns: usize, screen: Screen) -> String {
    let mut rows = Rows::default();
    rows.choose(state);
    frame(state, &rows, columns, screen)
}

#[test]
fn rows_stay_until_another_matters_more() {
    let names: Vec<String> = (1..=12).map(|n| format!("NDXINST{n:02}")).collect();
    let mut story = Story::begin(&names.iter().map(String::as_str).collect::<Vec<_>>(), false);
    for name in &names {
        story.at(name, EventKind::PhaseStarted { phase: Phase::Stage });
    }
    let mut rows = Rows::default();
    let mut shown = |story: &Story| {
        let state = RunState::of(&story.events);
        rows.choose(&state);
        let foot = frame(&state, &rows, 80, Screen::PLAIN);
        foot.lines().filter_map(|l| l.trim().strip_prefix("NDXINST")?.get(..2)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&story), "01 02 03 04 05 06 07");
    let wait = |story: &mut Story, name: &str, elapsed_ms: u64| {
        let (step, what) = (step("stage.01.backup", "backup"), "a file".to_owned());
        story.passing(name, EventKind::StepWaiting { step, what, elapsed_ms, limit_ms: 60_000 });
    };
    wait(&mut story, "NDXINST09", 4_000);
    assert_eq!(shown(&story), "01 02 03 04 05 06 07", "a little longer is not enough");
    wait(&mut story, "NDXINST09", 9_000);
    assert_eq!(shown(&story), "01 02 03 04 05 06 09");
    story.at("NDXINST11", EventKind::RollbackStarted { because: "no".into() });
    assert_eq!(shown(&story), "11 01 02 03 04 05 09", "trouble comes first");
    story.end("NDXINST02", Outcome::Changed, 0, None);
    assert_eq!(shown(&story), "11 01 03 04 05 09 06");
}

#[test]
fn the_foot_of_the_terminal() {
    let state = RunState::of(&thirty_six(true).events);
    assert_snapshot!(foot(&state, 100, Screen::PLAIN), @r"
    [===========>                  ] 12/36 done, 1.4 GB of 1.4 GB staged (rehearsal)
      NDXINST24 asks: Is the beam off?
      NDXINST22 rolling back, 0 undone: start IBEX failed
      NDXINST23 link lost (connection reset), it goes on by itself: apply
      NDXINST21 waiting for service MYSQL84, 70 s of 120 s (apply: start MySQL)
      NDXINST20 waiting for service MYSQL84, 40 s of 120 s (apply: start MySQL)
      NDXINST25 apply: backup, 40 of 913 files
      NDXINST26 apply: ein sehr langer Name eines Schrittes, der über jede Zeile hinausgeht 完成完成完…
      and 15 more at work
    ");
    assert_snapshot!(foot(&state, 40, Screen::PLAIN), @r"
    [=====>         ] 12/36 done (rehearsal)
      NDXINST24 asks: Is the beam off?
      NDXINST22 rolling back, 0 undone: sta…
      NDXINST23 link lost (connection reset…
      NDXINST21 waiting for service MYSQL84…
      NDXINST20 waiting for service MYSQL84…
      NDXINST25 apply: backup, 40 of 913 fi…
      NDXINST26 apply: ein sehr langer Name…
      and 15 more at work
    ");
}

#[test]
fn the_foot_when_it_begins_and_when_it_is_over() {
    let mut story = Story::begin(&["NDXLOQ"], false);
    assert_snapshot!(foot(&RunState::of(&story.events), 60, Screen::PLAIN), @r"[                              ] 0/1 done");
    story.passing("NDXLOQ", EventKind::Connecting { attempt: 1 });
    assert_snapshot!(foot(&RunState::of(&story.events), 60, Screen::PLAIN), @r"
    [                              ] 0/1 done
      NDXLOQ connecting
    ");
    story.at("NDXLOQ", EventKind::PhaseStarted { phase: Phase::Stage });
    story.at("NDXLOQ", EventKind::Held { why: "the DAE is RUNNING".into() });
    assert_snapshot!(foot(&RunState::of(&story.events), 60, Screen::PLAIN), @r"
    [                              ] 0/1 done
      NDXLOQ staged, held: the DAE is RUNNING
    ");
    story.changed("NDXLOQ", 1).finish(0, None);
    assert_snapshot!(foot(&RunState::of(&story.events), 60, Screen::PLAIN), @r"[======================] 1/1 done, 40.0 MB of 40.0 MB staged");
}

proptest::proptest! {
    #[test]
    fn no_line_at_the_foot_is_too_wide_and_there_are_few(width in 1usize..150, upto in 0usize..500, colour in proptest::bool::ANY) {
        let story = thirty_six(false);
        let state = RunState::of(story.events.iter().take(upto));
        let foot = foot(&state, width, Screen { width: Some(width), colour });
        proptest::prop_assert!(foot.lines().count() <= 9);
        for line in foot.lines() {
            proptest::prop_assert!(text::width(line) <= width, "{line:?}");
        }
    }
}

/// A terminal that counts.
#[derive(Debug, Clone, Default)]
struct FakeTerminal {
    written: Written,
}

impl TermLike for FakeTerminal {
    fn width(&self) -> u16 {
        40
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, s: &str) -> io::Result<()> {
        self.write_str(&format!("{s}\n"))
    }
    fn write_str(&self, s: &str) -> io::Result<()> {
        self.written.clone().write_all(s.as_bytes())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\n")
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_pretty_form_in_a_narrow_terminal() {
    let (written, terminal) = (Written::default(), FakeTerminal::default());
    let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
    let mut pretty = Pretty::new(Box::new(written.clone()), 0, columns(40), Box::new(|| Some(40)), target, place());
    let mut story = Story::begin(&["NDXLARMOR", "NDXLOQ"], true);
    story.changed("NDXLARMOR", 61_000).applying("NDXLOQ");
    fail(&mut story, "NDXLOQ", step("apply.05.command", "start IBEX"), &Error::step_failed("exit code 3"));
    story.end("NDXLOQ", Outcome::RolledBack, 61_000, Some(Error::step_failed("exit code 3"))).finish(1, None);
    play(&mut pretty, &story);

    assert_snapshot!(written.text(), @r"
    REHEARSAL of release, kit 15.0.0 on 2 i…
    changed         NDXLARMOR: 14.0.2 -> 15…
    NDXLOQ: apply.05.command: failed, 1m 01…
    rolled_back     NDXLOQ: 14.0.2 (as befo…

    This was a REHEARSAL on sandboxes: no
    instrument was touched.

    INSTRUMENT  OUTCOME      VERSION
    NDXLARMOR   changed      14.0.2 -> 15.0…
    NDXLOQ      rolled_back  14.0.2 (as bef…

    What went wrong:
      NDXLOQ: rolled_back
        start IBEX (apply.05.command): exit
          code 3

    Left for you:
      - NDXLARMOR: check the motor setpoints
        with the instrument scientist

    2 instruments: 1 changed, 1 rolled_back.
    Outage: 1m 01s at most (NDXLOQ), 1m 01s
      in the middle.
    Took 12m 04s, 18.0 MB sent.
    Run 20261123-220000-abcdef, logs in
      /state/runs/20261123-220000-abcdef
    This was a REHEARSAL on sandboxes: no
      instrument was touched.
    ");
    let drawn = terminal.written.text();
    assert!(drawn.contains("1/2 done (rehearsal)"), "{drawn}");
}

#[test]
fn a_question_is_asked_while_the_reporter_keeps_still() {
    let mut reporter = open(Form::Plain, 0, Screen::PLAIN, place(), Box::new(io::sink()));
    let mut asked = 0;
    reporter.paused(&mut || asked += 1);
    assert_eq!(asked, 1);
}

/// Nobody reads any more.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_recorder_keeps_before_it_shows_and_knows_no_secrets() {
    let folder = tempfile::TempDir::new().unwrap();
    let run = crate::events::RunFolder::create(folder.path(), &RunId("r".into())).unwrap();
    let mut secrets = crate::secrets::Secrets::default();
    secrets.insert("mysql_root", "hunter2".to_owned().into());
    let mut story = Story::begin(&["NDXLOQ"], false);
    story.at("NDXLOQ", EventKind::Note { text: "mysql -phunter2".into() });
    for form in [Form::Plain, Form::Json, Form::Pretty] {
        let reporter = open(form, 2, Screen::PLAIN, place(), Box::new(Gone));
        let mut recorder = Recorder::new(run.writer().unwrap(), secrets.clone(), RunState::default(), reporter);
        for event in story.events.iter().chain(&story.events[1..]) {
            recorder.record(event.clone()).unwrap();
        }
        assert_eq!(recorder.finish().instruments[0].notes, ["mysql -p***"]);
    }
    let log = run.read().unwrap();
    assert_eq!(log.events.len(), 6, "an event that comes again is kept once");
    assert!(!serde_json::to_string(&log.events).unwrap().contains("hunter2"));
}
