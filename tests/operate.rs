//! Commands that run playbooks, through the binary.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const INVENTORY: &str = "defaults:
  host: '{{ name }}'
  places: {server: 'C:\\Instrument\\Apps\\EPICS'}
instruments:
  NDXLARMOR: {transport: {local: {root: sandbox}}}
";

const PLAYBOOK: &str = "playbook: note
description: Leaves a note
close:
  - remind: {text: look at it}
";

fn ibexdeploy(folder: &Path, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    std::fs::write(folder.join("ndx.yaml"), INVENTORY)?;
    std::fs::write(folder.join("note.yaml"), PLAYBOOK)?;
    let output = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"))
        .current_dir(folder)
        .args(["--inventory", "ndx.yaml", "--playbooks", ".", "--state", "state"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    Ok(output)
}

#[test]
fn without_a_terminal_nothing_is_changed_unless_it_is_confirmed() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let output = ibexdeploy(folder.path(), &["run", "note", "LARMOR"])?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("not confirmed") && text.contains("--yes"), "{text}");
    let runs = folder.path().join("state/runs");
    assert!(!runs.exists() || runs.read_dir()?.next().is_none(), "no run was begun");
    Ok(())
}

#[test]
fn a_pattern_that_matches_nothing_is_an_error_that_says_what_is_near() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let output = ibexdeploy(folder.path(), &["run", "note", "LAMOR", "--yes"])?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("LARMOR"), "{text}");
    Ok(())
}

#[test]
fn a_canary_is_one_of_the_instruments() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let output = ibexdeploy(folder.path(), &["run", "note", "LARMOR", "--yes", "--canary", "ZOOM"])?;
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_plan_is_shown_without_contact() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let output = ibexdeploy(folder.path(), &["plan", "note", "LARMOR"])?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!(text, @r"
    note on 1 instrument
      NDXLARMOR
      stage  0 steps
      apply  0 steps
      prove  0 steps
      close  1 step

    NDXLARMOR
    STEP             NAME    AS     UNDO  NOTE
    close.01.remind  remind  admin  -

    1 instrument planned. No instrument was contacted.
    ");
    assert!(!folder.path().join("sandbox").exists(), "no agent was started");
    let output = ibexdeploy(folder.path(), &["plan", "note", "LARMOR", "--output", "json"])?;
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(plan["instruments"][0]["steps"][0]["id"], "close.01.remind", "{plan}");
    Ok(())
}

#[test]
fn a_configuration_file_says_what_the_command_line_does_not() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, "output: json\n")?;
    let output = ibexdeploy(folder.path(), &["plan", "note", "LARMOR", "--config", "config.yaml"])?;
    serde_json::from_slice::<serde_json::Value>(&output.stdout)?;
    let output = ibexdeploy(folder.path(), &["plan", "note", "LARMOR", "--config", "config.yaml", "--output", "plain"])?;
    assert!(output.stdout.starts_with(b"note on 1 instrument"), "{}", String::from_utf8_lossy(&output.stdout));
    // `~` is the operator's home, as everywhere.
    std::fs::write(&config, "kits: ~/nowhere\n")?;
    let output = ibexdeploy(folder.path(), &["kit", "list", "--config", "config.yaml"])?;
    let home = std::env::home_dir().ok_or("no home")?.join("nowhere");
    let text = String::from_utf8(output.stderr)?;
    assert!(text.contains(&home.display().to_string()), "{text}");
    std::fs::write(&config, "outptu: json\n")?;
    let output = ibexdeploy(folder.path(), &["plan", "note", "LARMOR", "--config", "config.yaml"])?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("outptu") && text.contains("config.yaml:1:1"), "{text}");
    Ok(())
}

#[test]
fn what_is_named_and_is_not_of_that_kind_is_bad_input() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("file"), "mine")?;
    for (arguments, words) in [
        (&["run", "nothing", "LARMOR", "--yes", "--playbooks", "nowhere"][..], "--playbooks"),
        (&["playbook", "list", "--playbooks", "nowhere"], "--playbooks"),
        (&["runs", "list", "--state", "file"], "--state"),
        (&["run", "note", "LARMOR", "--yes", "--state", "file"], "--state"),
        (&["run", "note", "LARMOR", "--yes", "--rehearse=file"], "--rehearse"),
    ] {
        let output = ibexdeploy(folder.path(), arguments)?;
        let text = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.lines().last().is_some_and(|next| next.contains("next:") && next.contains(words)), "{arguments:?}: {text}");
    }
    assert_eq!(std::fs::read(folder.path().join("file"))?, b"mine");
    Ok(())
}

#[test]
fn a_rehearsal_leaves_alone_what_is_no_sandbox() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let own = folder.path().join("shared/NDXLARMOR/thesis.txt");
    std::fs::create_dir_all(own.parent().ok_or("no folder")?)?;
    std::fs::write(&own, "mine")?;
    for more in [&[][..], &["--fresh"]] {
        let arguments = [&["run", "note", "LARMOR", "--yes", "--rehearse=shared"], more].concat();
        let output = ibexdeploy(folder.path(), &arguments)?;
        let text = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("NDXLARMOR is no sandbox"), "{text}");
    }
    assert_eq!(std::fs::read(own)?, b"mine");
    Ok(())
}

#[test]
fn there_is_nothing_to_resume_where_no_run_is_open() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let rehearsed = |words: &[&str]| ibexdeploy(folder.path(), &[words, &["--rehearse=sandboxes"]].concat());
    assert_eq!(rehearsed(&["run", "note", "LARMOR", "--yes"])?.status.code(), Some(0));
    let output = rehearsed(&["runs", "resume", "--of", "LARMOR"])?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("no run is unfinished on LARMOR"), "{text}");
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_told() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("ndx.yaml"), INVENTORY)?;
    std::fs::write(folder.path().join("note.yaml"), PLAYBOOK)?;
    for form in ["plain", "json"] {
        let output = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"))
            .current_dir(folder.path())
            .args(["--inventory", "ndx.yaml", "--playbooks", ".", "--state", "state", "--rehearse=sandboxes", "--output", form])
            .args(["run", "note", "LARMOR", "--yes"])
            .stdin(Stdio::null())
            .stdout(std::fs::File::create("/dev/full")?)
            .output()?;
        let text = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(0), "the run itself went well: {text}");
        assert!(text.contains("warning: not all could be written to standard output") && text.contains("runs report"), "{text}");
    }
    Ok(())
}
