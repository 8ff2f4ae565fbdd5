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
    std::fs::write(&config, "outptu: json\n")?;
    let output = ibexdeploy(folder.path(), &["plan", "note", "LARMOR", "--config", "config.yaml"])?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("outptu") && text.contains("config.yaml:1:1"), "{text}");
    Ok(())
}
