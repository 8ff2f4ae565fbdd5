//! Root's password is with the programs that need it, and nowhere else.

use super::{NAME, RELEASE, Site};
use crate::support::{Ended, Fleet};
use ibexdeploy::rehearsal::mysql;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// A value that occurs nowhere else, with all that must be quoted.
const CANARY: &str = "Xq7mysql-0b9d'\\ \"e4";
/// The part of it that no quoting changes.
const CORE: &[u8] = b"Xq7mysql-0b9d";

const INVENTORY: &str = "defaults:
  host: '{{ name }}.isis.cclrc.ac.uk'
  transport: {local: {root: 'FOLDER/{{ name }}'}}
  accounts: {instrument: {user: spudulike, session: logged_on}}
  places:
    mysql: C:\\Instrument\\Apps\\MySQL
    mysql_data: C:\\Instrument\\Var\\mysql\\data
    backups: C:\\data\\old
  secrets: {mysql_root: {file: 'FOLDER/site/password'}}
instruments: {NDXLARMOR: {}}
";

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(CORE.len()).any(|w| w == CORE)
}

/// Files below a folder that hold the password, apart from where it comes from.
fn files_with_it(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && entry.file_name() != "site" {
            found.extend(files_with_it(&entry.path()));
        } else if kind.is_file() && holds(&std::fs::read(entry.path()).unwrap_or_default()) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// Processes that show the password until `over`: `what` of it, and the program's name.
fn watch(over: &AtomicBool, controller: u32) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while !over.load(Ordering::SeqCst) {
        for process in std::fs::read_dir("/proc").expect("the table of processes").flatten() {
            if process.file_name() == controller.to_string().as_str() {
                continue;
            }
            let name = || std::fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned();
            let before = name();
            for what in ["cmdline", "environ"] {
                // It may have ended, or be another user's.
                if holds(&std::fs::read(process.path().join(what)).unwrap_or_default()) {
                    // It may end now, or have begun another program just before.
                    let name = Some(name()).filter(|name| !name.is_empty()).unwrap_or(before.clone());
                    seen.insert(format!("{what} of {name}"));
                }
            }
        }
    }
    seen
}

fn run(fleet: &Fleet) -> (Ended, BTreeSet<String>) {
    let site = fleet.dir().join("site");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
    command.args(["run", "first", NAME, "--yes", "-vv", "--output", "json", "--kit", RELEASE, "--inventory"]);
    command.arg(site.join("ndx.yaml")).arg("--playbooks").arg(&site).arg("--kits").arg(fleet.kits());
    command.arg("--state").arg(fleet.dir().join("state")).env("IBEXDEPLOY_LOG", "trace").stdin(Stdio::null());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&over, std::process::id()));
        let ended = Ended::of(&mut command);
        over.store(true, Ordering::SeqCst);
        (ended, watching.join().expect("the watch ends"))
    })
}

#[test]
fn the_password_is_with_the_clients_of_the_server_alone() {
    if !mysql::is_there() {
        eprintln!("skipped: there is no MariaDB here; scripts/test installs it");
        return;
    }
    let site = Site::without_server("8.4.3");
    let fleet = &site.fleet;
    site.end_worker();
    mysql::install(&site.sandbox(), "8.0.36", "MYSQL80", CANARY).expect("a server");
    site.ask_as("root", CANARY, "CREATE DATABASE iocdb; CREATE TABLE iocdb.iocs (name INT); INSERT INTO iocdb.iocs VALUES (1);")
        .expect("the databases");
    let folder = fleet.dir().join("site");
    std::fs::create_dir(&folder).expect("a folder");
    let put = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text.replace("FOLDER", &fleet.dir().display().to_string())).expect("a file");
    };
    put("ndx.yaml", INVENTORY);
    put("first.yaml", "playbook: first\napply:\n  - mysql: {databases: [iocdb]}\n");
    put("password", CANARY);

    // A failure says much: the server's log, the output of programs.
    let ini = site.root().join("c/Instrument/Apps/MySQL/my.ini");
    let text = std::fs::read_to_string(&ini).expect("my.ini");
    std::fs::write(&ini, format!("{text}default_authentication_plugin=mysql_native_password\r\n")).expect("my.ini");
    let (failed, _) = run(fleet);
    assert_eq!(failed.outcome(NAME), "rolled_back", "{}", failed.story());
    assert_eq!(files_with_it(fleet.dir()), [""; 0]);
    std::fs::write(&ini, text).expect("my.ini");

    let (ended, seen) = run(fleet);
    assert_eq!(ended.outcome(NAME), "changed", "{}", ended.story());
    assert!(site.ask_as("root", CANARY, "SELECT VERSION();").is_ok_and(|v| v == "8.4.3\n"), "the new server has the password");
    assert_eq!(files_with_it(fleet.dir()), [""; 0]);
    assert!(!holds(failed.story().as_bytes()) && !holds(ended.story().as_bytes()));
    let clients = ["environ of mysql.exe", "environ of mysqldump.exe", "environ of mariadb", "environ of mariadb-dump"];
    assert!(!seen.is_empty(), "the clients were seen with it");
    for what in &seen {
        assert!(clients.contains(&what.as_str()) || what == "environ of sh", "{what}");
    }
}
