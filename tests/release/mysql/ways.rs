//! The ways to a newer server, and back.

use super::{Before, NAME, RELEASE, Site, expect_new, servers};
use crate::support::Fleet;
use crate::support::sandbox::wait_for;
use ibexdeploy::rehearsal::mysql;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn another_series_is_reached_by_a_dump_and_a_rollback_brings_the_old_server_back() {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let before = Before::of(&site);
    let ended = site.upgrade();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    expect_new(&site, &before, "8.4.3", &ended.story());
    let said = ended.events.iter().find(|e| e["event"] == "step_finished" && e["step"]["name"] == "MySQL").expect("the step");
    assert_eq!(said["summary"], "MySQL 8.0.36 to 8.4.3, by a dump that is read into new data: 5005 rows in 4 tables as before",);
    let services = site.services();
    assert!(services["MYSQL80"].is_null(), "{services}");
    assert_eq!((&services["MYSQL84"]["delayed"], &services["MYSQL84"]["restarts"]), (&true.into(), &true.into()));
    let ini = std::fs::read_to_string(site.root().join("c/Instrument/Apps/MySQL/my.ini")).expect("my.ini");
    assert!(ini.contains("max_connections=42") && !ini.contains("init-file"), "{ini}");
    assert_eq!(site.dumps().len(), 1);
    let again = site.upgrade();
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "{}", again.story());

    // What is written now is in no other place: a rollback keeps it.
    site.sql("INSERT INTO iocdb.iocs VALUES ('LATER', 1);");
    let refused = site.fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    assert!(refused.story().contains("data (rows written since)"), "{}", refused.story());
    let rolled = site.fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
    assert_eq!(rolled.outcome(NAME), "rolled_back", "{}", rolled.story());
    assert!(site.content() == before.content, "{}", rolled.story());
    assert_eq!((site.version(), site.services()), (before.version.clone(), before.services.clone()));
    assert!(rolled.stdout.contains("rows that were written after the upgrade are in the data folder"), "{}", rolled.story());
    let kept = wait_for("the data folder that was put aside", || {
        let found = Command::new("find").arg(site.root().join(".ibexdeploy")).args(["-name", "data.since"]).output().ok()?;
        String::from_utf8(found.stdout).ok()?.lines().next().map(PathBuf::from)
    });
    assert!(kept.join("iocdb").is_dir());
}

#[test]
fn a_zip_that_was_staged_before_is_not_brought_again() {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let staged = site.fleet.run(&["stage", NAME, "--yes"]);
    assert_eq!(staged.code, 0, "{}", staged.story());
    assert!(site.version().contains("8.0.36"), "{}", site.version());
    let released = site.fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(released.code, 0, "{}", released.story());
    assert_eq!(released.last(NAME, "staged").expect("it staged")["fetched_bytes"], 0, "{}", released.story());
    assert!(site.version().contains("8.4.3"), "{}", site.version());
}

#[test]
fn within_a_series_the_new_server_takes_a_copy_of_the_data() {
    let Some(site) = Site::new("8.4.3", "MYSQL84", "8.4.8") else { return };
    let before = Before::of(&site);
    // The old server is stopped and does not come back: what the new one does to the data is not yet known.
    site.change_program("8.4.8", "mysql_upgrade.exe", |_| "#!/bin/sh\necho the tables are damaged >&2\nexit 3\n".to_owned());
    let failed = site.upgrade();
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert!(failed.stdout.contains("`mysql_upgrade` ended with exit code 3"), "{}", failed.story());
    before.expect_again(&site, &failed.story());

    mysql::make_zip(&site.fleet.kits().join(RELEASE), "8.4.8").expect("a zip");
    let ended = site.upgrade();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    expect_new(&site, &before, "8.4.8", &ended.story());
    assert!(ended.stdout.contains("MySQL 8.4.3 to 8.4.8, on a copy of the data: 5005 rows"), "{}", ended.story());
    assert_eq!(site.services().as_object().map(serde_json::Map::len), Some(1));

    let rolled = site.fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
    assert_eq!(rolled.outcome(NAME), "rolled_back", "{}", rolled.story());
    assert_eq!(site.version(), "8.4.3");
    assert!(site.content() == before.content, "{}", rolled.story());

    // Back is no way: data of a newer server cannot be read by an older one.
    mysql::make_zip(&site.fleet.kits().join(RELEASE), "8.4.1").expect("a zip");
    let back = site.fleet.run(&["run", "mysql", NAME, "--yes", "--set", "mysql_zip=mysql-8.4.1-winx64.zip"]);
    assert_eq!(back.outcome(NAME), "failed", "{}", back.story());
    assert!(back.stdout.contains("MySQL 8.4.3 is installed, and the kit has 8.4.1"), "{}", back.story());
}

#[test]
fn where_there_is_no_server_one_is_installed_and_taken_away_again() {
    if !mysql::is_there() {
        eprintln!("skipped: there is no MariaDB here; scripts/test installs it");
        return;
    }
    let site = Site::without_server("8.4.3");
    let state = site.root().join(".ibexdeploy/sandbox.json");
    let text = std::fs::read_to_string(&state).expect("the sandbox's state");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["services"] = serde_json::json!({});
    std::fs::write(&state, value.to_string()).expect("the state can be changed");
    let playbooks = site.fleet.dir().join("playbooks");
    std::fs::create_dir(&playbooks).expect("a folder");
    std::fs::write(
        playbooks.join("first.yaml"),
        "playbook: first\napply:\n  - mysql: {schema: [var\\schema.sql], ini: {mysqld: {max_connections: '77'}}}\n",
    )
    .expect("a playbook");
    let schema = site.root().join("c/Instrument/Var/schema.sql");
    std::fs::write(&schema, "CREATE DATABASE iocdb; CREATE TABLE iocdb.iocs (name INT); this is no SQL;\n").expect("a schema");
    let run = || site.fleet.run(&["run", "first", NAME, "--yes", "--playbooks", &playbooks.display().to_string()]);

    let failed = run();
    assert_eq!(failed.outcome(NAME), "rolled_back", "{}", failed.story());
    assert!(failed.stdout.contains("schema.sql cannot be made"), "{}", failed.story());
    assert_eq!(servers(site.fleet.dir()), [0; 0], "{}", failed.story());
    assert_eq!(site.services(), serde_json::json!({}), "{}", failed.story());
    assert_eq!(Fleet::tree(&site.root().join("c/Instrument/Apps/MySQL")).len(), 0);

    std::fs::write(&schema, "CREATE DATABASE iocdb; CREATE TABLE iocdb.iocs (name INT);\n").expect("a schema");
    let ended = run();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(site.sql("SELECT VERSION(), @@read_only; SELECT COUNT(*) FROM iocdb.iocs;"), "8.4.3\t0\n0\n");
    let ini = std::fs::read_to_string(site.root().join("c/Instrument/Apps/MySQL/my.ini")).expect("my.ini");
    assert!(ini.contains("max_connections=77") && !ini.contains("init-file"), "{ini}");
    assert!(site.ask_as("root", "", "SELECT 1;").is_err(), "root has a password");
}

#[test]
fn an_sql_file_of_a_migration_is_run_after_a_dump() {
    let Some(site) = Site::new("8.4.3", "MYSQL84", "8.4.3") else { return };
    let playbooks = site.fleet.dir().join("playbooks");
    std::fs::create_dir_all(playbooks.join("migrations")).expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(playbooks.join(name), text).expect("a file");
    put("sql.yaml", "playbook: sql\napply:\n  - migrate: {at: settings, sql_password: mysql_root}\n    as: admin\n");
    put("migrations/chain.yaml", "versions:\n  - {version: 1.0.0, migration: 1.yaml}\n  - {version: 1.1.0}\n");
    put("migrations/1.yaml", "description: A table\nchanges:\n  - sql: {file: SystemSetup/moxas.txt}\n");
    let version = site.root().join(format!("c/Instrument/Settings/config/{NAME}/configurations/config_version.txt"));
    std::fs::create_dir_all(version.parent().expect("a folder")).expect("the settings");
    std::fs::write(&version, "1.0.0\n").expect("a version");
    let sql = site.fleet.server(NAME).join("SystemSetup/moxas.txt");
    std::fs::create_dir_all(sql.parent().expect("a folder")).expect("a folder");
    let run = || site.fleet.run(&["run", "sql", NAME, "--yes", "--playbooks", &playbooks.display().to_string()]);

    std::fs::write(&sql, "CREATE TABLE iocdb.moxas (name INT);\nthis is no SQL;\n").expect("statements");
    let failed = run();
    assert_eq!(failed.outcome(NAME), "rolled_back", "{}", failed.story());
    assert!(failed.stdout.contains("moxas.txt was not run to its end"), "{}", failed.story());
    assert!(failed.stdout.contains("were run on the databases, which is not taken back"), "{}", failed.story());
    assert_eq!(std::fs::read_to_string(&version).expect("a version"), "1.0.0\n");

    std::fs::write(&sql, "DROP TABLE IF EXISTS iocdb.moxas; CREATE TABLE iocdb.moxas (name INT);\n").expect("statements");
    let ended = run();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(site.sql("SELECT COUNT(*) FROM iocdb.moxas;"), "0\n");
    assert_eq!(site.dumps().len(), 2, "one before each");

    // Without a server it is left for a person.
    site.stop();
    std::fs::write(&version, "1.0.0\n").expect("a version");
    let left = run();
    assert_eq!(left.outcome(NAME), "changed", "{}", left.story());
    assert!(left.stdout.contains("run the SQL file SystemSetup/moxas.txt of the server"), "{}", left.story());
}
