//! Secrets reach the program that a step gives them to, and no other place.

use crate::kill::machine::{kill, wait_for, workers};
use crate::support::Fleet;
use crate::terminal::Terminal;
use ibexdeploy::rehearsal::KitShape;
use std::path::Path;
use std::process::{Command, Stdio};

/// A value that occurs nowhere else, by where it comes from.
const BY_ENV: &str = "Xq7env-f3a91c7e5b2d";
const BY_FILE: &str = "Xq7file-08d4e6a1c9b7";
const BY_COMMAND: &str = "Xq7vault-5e2b7f90d1a3";
const BY_PROMPT: &str = "Xq7typed-c41f8e6a7d20";
const ALL: [&str; 4] = [BY_ENV, BY_FILE, BY_COMMAND, BY_PROMPT];

/// A script: the program is given every secret, and prints all it can.
const TELLS_ALL: &str =
    r#"echo "given $GIVEN_ENV and $GIVEN_FILE"; echo "fed $(cat)" >&2; printf '%s' "root:$GIVEN_FILE" | base64"#;

const PLAYBOOK: &str = r#"playbook: secrets
stage:
  - command:
      run: 'sh FOLDER/site/tell.sh; echo waiting; while [ ! -e FOLDER/go ]; do sleep 0.02; done'
      env: {GIVEN_ENV: {secret: by_env}, GIVEN_FILE: {secret: by_file}}
      stdin_secret: by_command
      read_only: true
    register: told
  - command: {run: 'echo again {{ told.lines[0] }}', read_only: true}
apply:
  - command:
      run: 'sh FOLDER/site/tell.sh; exit 3'
      env: {GIVEN_ENV: {secret: by_env}, GIVEN_FILE: {secret: by_file}}
      stdin_secret: by_command
    undo: none
"#;

const PROMPTED: &str = r#"playbook: prompted
stage:
  - command: {run: 'echo "given $GIVEN_TYPED"', env: {GIVEN_TYPED: {secret: by_prompt}}, read_only: true}
"#;

/// A program that waits, and then one that is given a secret.
const LATER: &str = r#"playbook: later
stage:
  - command: {run: 'echo waiting; while [ ! -e FOLDER/go ]; do sleep 0.02; done', read_only: true}
  - command: {run: 'echo "given $GIVEN_ENV"', env: {GIVEN_ENV: {secret: by_env}}, read_only: true}
"#;

const INVENTORY: &str = "defaults:
  host: '{{ name }}.isis.cclrc.ac.uk'
  transport: {local: {root: 'FOLDER/{{ name }}'}}
  accounts: {instrument: {user: spudulike, session: logged_on}}
  places: {server: C:\\Instrument\\Apps\\EPICS}
  secrets:
    by_env: {env: SECRET_OF_THE_TEST}
    by_file: {file: 'FOLDER/site/secret.txt'}
    by_command: {command: [cat, 'FOLDER/site/vault.txt']}
    by_prompt: {prompt: Password of the site}
instruments: {NDXLARMOR: {}}
";

/// A sandbox, with an inventory and playbooks beside it; `site` holds the secrets.
fn fleet() -> Fleet {
    let fleet = Fleet::new(&KitShape::small().without_git());
    let made = fleet.run(&["status", "NDXLARMOR"]);
    assert_eq!(made.code, 0, "{}", made.story());
    let folder = fleet.dir().display().to_string();
    let site = fleet.dir().join("site");
    std::fs::create_dir(&site).unwrap();
    let put = |name: &str, text: &str| {
        std::fs::write(site.join(name), text.replace("FOLDER", &folder)).unwrap();
    };
    put("ndx.yaml", INVENTORY);
    put("secrets.yaml", PLAYBOOK);
    put("prompted.yaml", PROMPTED);
    put("later.yaml", LATER);
    put("tell.sh", TELLS_ALL);
    put("secret.txt", &format!("{BY_FILE}\n"));
    put("vault.txt", &format!("{BY_COMMAND}\n"));
    fleet
}

/// The binary with the inventory and the playbooks of this test, in JSON, as talkative as it can be.
fn command(fleet: &Fleet, arguments: &[&str]) -> Command {
    command_of(fleet, arguments, "state")
}

/// The same for an operator with a state folder of this name.
fn command_of(fleet: &Fleet, arguments: &[&str], state: &str) -> Command {
    let site = fleet.dir().join("site");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
    command.args(arguments).args(["--yes", "-vv", "--inventory"]).arg(site.join("ndx.yaml"));
    command.arg("--playbooks").arg(&site).arg("--state").arg(fleet.dir().join(state));
    command.env("SECRET_OF_THE_TEST", BY_ENV).env("IBEXDEPLOY_LOG", "trace");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The texts that would give a secret away in these bytes.
fn found_in(bytes: &[u8]) -> Vec<&'static str> {
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
    let mut found: Vec<&str> = ALL.into_iter().filter(|secret| holds(secret.as_bytes())).collect();
    // BY_FILE inside `printf root:$GIVEN_FILE | base64`, without the digits at both ends.
    if holds(b"WHE3ZmlsZS0wOGQ0ZTZhMWM5Yj") {
        found.push("base64");
    }
    found
}

/// Every file below a folder that has a secret in it, apart from where the secrets are kept.
fn found_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.file_name() != "site" {
            found.extend(found_below(&path));
        } else if kind.is_file() {
            let hits = found_in(&std::fs::read(&path).unwrap());
            found.extend(hits.iter().map(|hit| format!("{hit} in {}", path.display())));
        }
        found.extend(found_in(entry.file_name().as_encoded_bytes()).iter().map(|hit| format!("{hit} names a file")));
    }
    found
}

/// Whether a process with this environment was started by a test that runs beside this one, and has the same secrets.
fn is_of_another_test(environ: &[u8]) -> bool {
    let Ok(own) = std::env::var("NEXTEST_TEST_NAME") else { return false };
    let name = environ.split(|b| *b == 0).find_map(|v| v.strip_prefix(b"NEXTEST_TEST_NAME="));
    name.is_some_and(|name| name != own.as_bytes())
}

/// Where secrets are among this machine's processes: `who` gets process, and what of it shows one.
fn among_processes() -> Vec<(u32, &'static str, Vec<u8>)> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = process.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        if is_of_another_test(&std::fs::read(process.path().join("environ")).unwrap_or_default()) {
            continue;
        }
        for what in ["cmdline", "environ"] {
            // A process may have ended, or be another user's.
            let bytes = std::fs::read(process.path().join(what)).unwrap_or_default();
            if !found_in(&bytes).is_empty() {
                found.push((id, what, bytes));
            }
        }
    }
    found
}

#[test]
fn a_secret_is_found_with_its_program_and_nowhere_else() {
    let fleet = fleet();
    let mut child = command(&fleet, &["run", "secrets", "NDXLARMOR", "--output", "json"]).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut stdout = String::new();
    while !stdout.contains("\"line\":\"waiting\"") {
        let read = std::io::BufRead::read_line(&mut lines, &mut stdout).unwrap();
        let mut said = || std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(read > 0, "the run ended early:\n{stdout}\n{}", said());
    }

    // The program runs now, and has printed everything.
    let seen = among_processes();
    let programs = seen.iter().filter(|(_, what, bytes)| *what == "environ" && bytes.windows(10).any(|w| w == b"GIVEN_ENV="));
    assert!(programs.count() > 0, "the program has its secret");
    for (id, what, bytes) in &seen {
        let given = bytes.windows(10).any(|w| w == b"GIVEN_ENV=");
        assert!(*what == "environ" && (given || *id == child.id()), "{what} of {id}: {}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(found_below(fleet.dir()), [""; 0]);

    std::fs::write(fleet.dir().join("go"), "").unwrap();
    std::io::Read::read_to_string(&mut lines, &mut stdout).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stdout}");
    // What it printed is there, without the secrets.
    for text in ["given *** and ***", "fed ***", "again given *** and ***", "exit code 3"] {
        assert!(stdout.contains(text), "{text} in {stdout}");
    }
    assert_eq!(found_in(stdout.as_bytes()), [""; 0]);
    assert_eq!(found_in(&ended.stderr), [""; 0]);
    assert_eq!(found_below(fleet.dir()), [""; 0]);
}

#[test]
fn another_controller_hands_the_secrets_over_to_a_worker_that_came_back() {
    let fleet = fleet();
    let root = fleet.root("NDXLARMOR");
    let mut child = command(&fleet, &["run", "later", "NDXLARMOR", "--output", "json"]).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut stdout = String::new();
    while !stdout.contains("\"line\":\"waiting\"") {
        assert!(std::io::BufRead::read_line(&mut lines, &mut stdout).unwrap() > 0, "the run ended early:\n{stdout}");
    }
    kill(child.id());
    child.wait().unwrap();
    workers(&root).into_iter().for_each(kill);
    wait_for("the worker is gone", || workers(&root).is_empty().then_some(()));
    std::fs::write(fleet.dir().join("go"), "").unwrap();

    let resume = ["runs", "resume", "--of", "NDXLARMOR", "--output", "json"];
    let resumed = command_of(&fleet, &resume, "other").output().unwrap();
    let told = String::from_utf8(resumed.stdout).unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{told}\n{}", String::from_utf8_lossy(&resumed.stderr));
    assert!(told.contains("given ***"), "{told}");
    assert_eq!(found_in(told.as_bytes()), [""; 0]);
    assert_eq!(found_below(fleet.dir()), [""; 0]);
}

#[test]
fn plans_and_reports_name_secrets_and_hold_none() {
    let fleet = fleet();
    std::fs::write(fleet.dir().join("go"), "").unwrap();
    let calls: [&[&str]; 6] = [
        &["run", "secrets", "NDXLARMOR", "--dry-run"],
        &["run", "secrets", "NDXLARMOR"],
        &["runs", "show"],
        &["runs", "report"],
        &["status", "NDXLARMOR"],
        &["inventory", "show", "NDXLARMOR"],
    ];
    for arguments in calls {
        let options = if arguments.contains(&"run") { &["--yes", "-vv"][..] } else { &["-vv"] };
        let site = fleet.dir().join("site");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
        command.args(arguments).args(options).arg("--inventory").arg(site.join("ndx.yaml"));
        command.arg("--playbooks").arg(&site).arg("--state").arg(fleet.dir().join("state"));
        let output = command.env("SECRET_OF_THE_TEST", BY_ENV).stdin(Stdio::null()).output().unwrap();
        assert_ne!(output.status.code(), Some(2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(found_in(&[output.stdout, output.stderr].concat()), [""; 0], "{arguments:?}");
    }
    assert_eq!(found_below(fleet.dir()), [""; 0]);
}

#[test]
fn a_secret_is_typed_without_being_shown() {
    let fleet = fleet();
    let mut run = command(&fleet, &["run", "prompted", "NDXLARMOR", "--output", "json"]);
    let (mut child, mut terminal) = Terminal::start(&mut run);
    terminal.until("Password of the site: ");
    terminal.answer_hidden(BY_PROMPT);
    let mut stdout = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut stdout).unwrap();
    terminal.rest();
    assert!(child.wait().unwrap().success(), "{stdout}\n{}", terminal.shown);
    assert!(stdout.contains("given ***"), "{stdout}");
    assert_eq!(found_in(&[stdout, terminal.shown].concat().into_bytes()), [""; 0]);
    assert_eq!(found_below(fleet.dir()), [""; 0]);
}

#[test]
fn without_a_terminal_a_prompt_says_what_to_do() {
    let fleet = fleet();
    let before = Fleet::tree(&fleet.root("NDXLARMOR"));
    let output = command(&fleet, &["run", "prompted", "NDXLARMOR"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @r"
    error: `Password of the site` cannot be asked without a terminal
      on NDXLARMOR
      next: let the secret come from `env`, `file` or `command` in the inventory
    ");
    assert_eq!(Fleet::tree(&fleet.root("NDXLARMOR")), before);
}
