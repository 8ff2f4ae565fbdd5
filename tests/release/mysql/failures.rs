//! What goes wrong: found while IBEX runs, or taken back exactly.

use super::{Before, NAME, PASSWORD, RELEASE, Site, expect_new};
use crate::support::SmallDisk;
use ibexdeploy::rehearsal::mysql;

#[test]
fn what_can_be_known_beforehand_stops_nothing() {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let ibex = site.fleet.ibex(NAME);
    let refuse = |expected: &str| {
        let ended = site.upgrade();
        let story = ended.story();
        assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{story}");
        assert!(story.contains(expected), "{expected} in {story}");
        assert!(ended.last(NAME, "outage_started").is_none(), "{story}");
        assert_eq!(site.fleet.ibex(NAME), ibex, "{story}");
        assert_eq!(site.sql("SELECT @@read_only, VERSION();"), "0\t8.0.36\n", "{story}");
        assert_eq!(site.dumps(), [""; 0], "{story}");
    };
    let zip = site.fleet.kits().join(RELEASE).join("MySQL/mysql-8.4.3-winx64.zip");
    let whole = std::fs::read(&zip).expect("the zip");

    std::fs::write(&zip, &whole[..whole.len() / 2]).expect("a zip that was copied half");
    refuse("mysql-8.4.3-winx64.zip of the kit cannot be used");
    let mut damaged = whole.clone();
    damaged[whole.len() / 3] ^= 0x55;
    std::fs::write(&zip, &damaged).expect("a damaged zip");
    refuse("mysql-8.4.3-winx64.zip of the kit cannot be used");
    std::fs::write(&zip, &whole).expect("the zip");

    site.change_program("8.4.3", "mysqld.exe", |text| text.replace("version=8.4.3", "version=8.4.2"));
    refuse("mysql-8.4.3-winx64.zip holds MySQL 8.4.2");
    std::fs::write(&zip, &whole).expect("the zip");

    site.sql("DROP DATABASE alarm;");
    refuse("has no database `alarm`");
    site.sql("CREATE DATABASE alarm;");

    site.sql("ALTER USER 'root'@'localhost' IDENTIFIED BY 'another';");
    let ended = site.upgrade();
    assert_eq!(ended.outcome(NAME), "failed", "{}", ended.story());
    let error = &ended.last(NAME, "instrument_finished").expect("an end")["error"];
    assert_eq!(error["message"], "the server does not accept the password `mysql_root` for root", "{error}");
    assert!(ended.last(NAME, "outage_started").is_none());
}

#[test]
fn a_failure_in_the_outage_brings_the_old_server_back_with_its_data() {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let programs = site.root().join("c/Instrument/Apps/MySQL");
    let fail = |expected: &str| {
        let before = Before::of(&site);
        let ended = site.upgrade();
        let story = ended.story();
        assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{story}");
        assert!(story.contains(expected), "{expected} in {story}");
        before.expect_again(&site, &story);
    };

    // A dump that ends in the middle, as if all were well.
    let dump = programs.join("bin/mysqldump.exe");
    let whole = std::fs::read_to_string(&dump).expect("a program");
    let cut = "for a; do case $a in --result-file=*) f=${a#*=} ;; esac; done\n";
    let calls = whole.replace("exec ", "").replace("#!/bin/sh\n", &format!("#!/bin/sh\n{cut}"));
    std::fs::write(&dump, format!("{calls}head -c 4000 \"$f\" >\"$f.x\"; mv \"$f.x\" \"$f\"\n")).expect("a program");
    fail("does not end with `-- Dump completed`");
    std::fs::write(&dump, "#!/bin/sh\nexit 0\n").expect("a program");
    fail("cannot read");
    std::fs::write(&dump, "#!/bin/sh\necho 'mysqldump: Got errno 28 on write' >&2\nexit 2\n").expect("a program");
    fail("`mysqldump` found the disk full");
    std::fs::write(&dump, &whole).expect("a program");

    // A server that does not know a setting of the old one.
    let ini = programs.join("my.ini");
    let text = std::fs::read_to_string(&ini).expect("my.ini");
    std::fs::write(&ini, format!("{text}default_authentication_plugin=mysql_native_password\r\n")).expect("my.ini");
    fail("unknown variable 'default_authentication_plugin'");
    std::fs::write(&ini, &text).expect("my.ini");

    // A server that loses rows.
    let zip = site.fleet.kits().join(RELEASE).join("MySQL/mysql-8.4.3-winx64.zip");
    let good = std::fs::read(&zip).expect("the zip");
    site.change_program("8.4.3", "mysql.exe", |text| text.replace("exec mariadb", "sed \"/^('EUROTHRM_01',0),/d\" | mariadb"));
    fail("iocdb.iocs: 2 before, 1 now");
    std::fs::write(&zip, &good).expect("the zip");

    // One that ends in the middle of the reload.
    let kills = "case $(cat) in *'Current Database'*) kill -9 $(cat \"$IBEX_ROOT\"/c/Instrument/Var/mysql/data/sandbox.pid) ;; esac\nexit 1\n";
    site.change_program("8.4.3", "mysql.exe", |text| {
        let feed = format!("#!/bin/sh\nif [ \"$(readlink /proc/self/fd/0 | sed 's/.*[.]//')\" = sql ]; then\n{kills}fi\n");
        text.replacen("#!/bin/sh\n", &feed, 1)
    });
    fail("`mysql` ended with exit code 1");
    std::fs::write(&zip, &good).expect("the zip");
    let before = Before::of(&site);
    let ended = site.upgrade();
    expect_new(&site, &before, "8.4.3", &ended.story());
}

#[test]
fn rows_that_root_writes_while_the_dump_is_made_are_not_lost() {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let dump = site.root().join("c/Instrument/Apps/MySQL/bin/mysqldump.exe");
    let whole = std::fs::read_to_string(&dump).expect("a program");
    let late =
        "echo \"INSERT INTO iocdb.iocs VALUES ('LATE', 1);\" | \"$(dirname \"$0\")/mysql.exe\" --no-defaults --user=root\n";
    std::fs::write(&dump, format!("{}\n{late}", whole.replace("exec ", ""))).expect("a program");
    let ended = site.upgrade();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert!(ended.stdout.contains("written to while they were dumped"), "{}", ended.story());
    assert!(ended.stdout.contains("iocdb.iocs: "), "{}", ended.story());
    assert_eq!(site.version(), "8.0.36");
    let rows = || site.sql("SELECT COUNT(*) FROM iocdb.iocs WHERE name = 'LATE';").trim().to_owned();
    assert_ne!(rows(), "0", "{}", ended.story());
    let there = rows();
    std::fs::write(&dump, &whole).expect("a program");
    let ended = site.upgrade();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!((site.version().as_str(), rows()), ("8.4.3", there), "{}", ended.story());
}

#[test]
fn a_release_that_fails_later_takes_the_upgrade_back_with_it() {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let before = Before::of(&site);
    let files = site.fleet.apps(NAME);
    let script = site.fleet.server(NAME).parent().map(|apps| apps.join("MySQL/bin/mysql.exe")).expect("a path");
    // IBEX writes to the new server before its start fails.
    let write = format!(
        "echo \"INSERT INTO iocdb.iocs VALUES ('FIRST', 1);\" | MYSQL_PWD='{PASSWORD}' IBEX_ROOT={} {} --user=root; exit 9",
        site.root().display(),
        script.display(),
    );
    let path = site.fleet.kits().join(RELEASE).join("EPICS/start_ibex_server.bat");
    let text = std::fs::read_to_string(&path).expect("a script");
    std::fs::write(&path, text.replace("#!/bin/sh\n", &format!("#!/bin/sh\n{write}\n"))).expect("a script");
    let ended = site.fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert!(ended.stdout.contains("MySQL 8.0.36 to 8.4.3"), "{}", ended.story());
    assert_eq!(site.version(), "8.0.36", "{}", ended.story());
    assert!(site.content() == before.content, "{}", ended.story());
    assert_eq!(site.services(), before.services);
    assert!(site.fleet.apps(NAME) == files, "{}", ended.story());
    assert!(ended.stdout.contains("rows that were written after the upgrade are in the data folder"), "{}", ended.story());

    std::fs::write(&path, text).expect("a script");
    let released = site.fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{}", released.story());
    expect_new(&site, &before, "8.4.3", &released.story());
}

#[test]
fn a_disk_that_is_full_stops_nothing_or_is_taken_back() {
    if !mysql::is_there() {
        eprintln!("skipped: there is no MariaDB here; scripts/test installs it");
        return;
    }
    let site = Site::without_server("8.4.3");
    site.end_worker();
    let Some(_disk) = SmallDisk::under(&site.fleet, NAME, 130_000_000) else { return };
    site.fleet.start_ibex(NAME);
    site.install("8.0.36", "MYSQL80");
    let before = Before::of(&site);

    // Something fills the disk while the dump is being written.
    let dump = site.root().join("c/Instrument/Apps/MySQL/bin/mysqldump.exe");
    let whole = std::fs::read_to_string(&dump).expect("a program");
    let fills = "dd if=/dev/zero of=\"$IBEX_ROOT/c/fill\" bs=1M 2>/dev/null\nexec ";
    std::fs::write(&dump, whole.replace("exec ", fills)).expect("a program");
    let ended = site.upgrade();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert!(ended.stdout.contains("`mysqldump` found the disk full"), "{}", ended.story());
    std::fs::remove_file(site.root().join("c/fill")).expect("what filled the disk");
    std::fs::write(&dump, &whole).expect("a program");
    before.expect_again(&site, &ended.story());

    // Not enough from the beginning.
    std::fs::write(site.root().join("c/large"), vec![0; 70_000_000]).expect("a large file");
    let ended = site.upgrade();
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{}", ended.story());
    assert!(ended.stdout.contains("the data of MySQL once more"), "{}", ended.story());
    assert!(ended.last(NAME, "outage_started").is_none(), "{}", ended.story());
    before.expect_again(&site, &ended.story());
}
