//! MySQL replaced on a sandbox, with a real server: MariaDB's, played as MySQL by the kit's scripts.

mod failures;
mod kills;
mod secrets;
mod ways;

use crate::kill::machine::{kill, workers};
use crate::support::sandbox::wait_for;
use crate::support::{Ended, Fleet};
use ibexdeploy::paths::WinPath;
use ibexdeploy::rehearsal::{Sandbox, SandboxSpec, mysql};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const NAME: &str = "NDXLARMOR";
/// What a rehearsal gives for the secret `mysql_root`.
pub(crate) const PASSWORD: &str = "stand-in for mysql_root";
pub(crate) const RELEASE: &str = "26.9.0";

/// A sandbox with a server, and a kit with a newer one. No server outlives it.
pub(crate) struct Site {
    pub(crate) fleet: Fleet,
}

impl Drop for Site {
    fn drop(&mut self) {
        for pid in servers(self.fleet.dir()) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

/// Processes of a database server whose command line names a folder.
pub(crate) fn servers(folder: &Path) -> Vec<u32> {
    let folder = folder.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").expect("the table of processes").flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.starts_with("mariadbd\0") && line.contains(&folder) {
            found.push(pid);
        }
    }
    found
}

/// What is in the databases: tables of every kind that a dump must bring along.
const CONTENT: &str = "
CREATE DATABASE alarm; CREATE DATABASE archive; CREATE DATABASE exp_data;
CREATE DATABASE iocdb; CREATE DATABASE journal; CREATE DATABASE msg_log;
CREATE DATABASE `of somebody's`;
CREATE TABLE archive.sample (id INT PRIMARY KEY AUTO_INCREMENT, value DOUBLE, note TEXT CHARACTER SET utf8mb4, raw BLOB);
INSERT INTO archive.sample (value, note, raw) SELECT seq, CONCAT('Å \\\\ \\' ', seq), UNHEX('00FF0A27') FROM archive.seq_1_to_5000;
CREATE TABLE iocdb.iocs (name VARCHAR(40) PRIMARY KEY, running BOOL);
INSERT INTO iocdb.iocs VALUES ('GALIL_01', 1), ('EUROTHRM_01', 0);
CREATE TABLE `of somebody's`.`a \\``b` (x INT);
INSERT INTO `of somebody's`.`a \\``b` VALUES (1), (2), (3);
CREATE VIEW iocdb.up AS SELECT name FROM iocdb.iocs WHERE running;
CREATE TABLE msg_log.message (text VARCHAR(100));
CREATE TRIGGER iocdb.told AFTER INSERT ON iocdb.iocs FOR EACH ROW INSERT INTO msg_log.message VALUES (NEW.name);
CREATE PROCEDURE archive.forget() DELETE FROM archive.sample;
CREATE EVENT archive.daily ON SCHEDULE EVERY 1 DAY DO DELETE FROM archive.sample WHERE value < 0;
CREATE USER 'iocdb'@'localhost' IDENTIFIED BY '$iocdb'; GRANT SELECT, INSERT ON iocdb.* TO 'iocdb'@'localhost';
CREATE USER 'report'@'%' IDENTIFIED BY 'it''s'; GRANT SELECT ON archive.sample TO 'report'@'%';
";

/// All that must be the same afterwards, row by row.
const LOOK: &str = "
SELECT id, value, HEX(note), HEX(raw) FROM archive.sample ORDER BY id; SELECT * FROM iocdb.iocs ORDER BY name;
SELECT * FROM `of somebody's`.`a \\``b` ORDER BY x; SELECT * FROM iocdb.up ORDER BY name;
SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'iocdb';
SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'archive';
SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'archive';
SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME;
SHOW GRANTS FOR 'iocdb'@'localhost'; SHOW GRANTS FOR 'report'@'%'; SELECT @@read_only;
";

impl Site {
    /// A server of the version `old` that holds [`CONTENT`], and the kit's zip of `new`; nothing, with a line that says
    /// so, where there is no MariaDB.
    pub(crate) fn new(old: &str, service: &str, new: &str) -> Option<Self> {
        if !mysql::is_there() {
            eprintln!("skipped: there is no MariaDB here; scripts/test installs it");
            return None;
        }
        let site = Self::without_server(new);
        site.install(old, service);
        Some(site)
    }

    /// Gives the sandbox a server that holds [`CONTENT`].
    pub(crate) fn install(&self, version: &str, service: &str) {
        mysql::install(&self.sandbox(), version, service, PASSWORD).expect("a server");
        self.sql(CONTENT);
    }

    /// Ends the worker of the last command, which would stay for a moment in folders that are moved.
    pub(crate) fn end_worker(&self) {
        workers(&self.root()).into_iter().for_each(kill);
        wait_for("the worker ends", || workers(&self.root()).is_empty().then_some(()));
        // A socket that nobody listens on.
        let _ = std::fs::remove_file(self.root().join(".ibexdeploy/worker.sock"));
    }

    pub(crate) fn without_server(new: &str) -> Self {
        let site = Self { fleet: Fleet::running(&[NAME]) };
        mysql::make_zip(&site.fleet.kits().join(RELEASE), new).expect("a zip");
        site
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.fleet.root(NAME)
    }

    /// Ends the server, as a person would who stops its service.
    pub(crate) fn stop(&self) {
        for pid in servers(self.fleet.dir()) {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        wait_for("the server ends", || servers(self.fleet.dir()).is_empty().then_some(()));
    }

    pub(crate) fn sandbox(&self) -> Sandbox {
        let place = |name: &str, path: &str| (name.to_owned(), WinPath::parse(path).expect("a path"));
        let places = BTreeMap::from([
            place("mysql", "C:\\Instrument\\Apps\\MySQL"),
            place("mysql_data", "C:\\Instrument\\Var\\mysql\\data"),
        ]);
        Sandbox { spec: SandboxSpec { name: NAME.to_owned(), host: NAME.to_owned(), places }, root: self.root() }
    }

    /// What the server answers; an error is what it says.
    pub(crate) fn ask_as(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        let mut client = Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--user", user, "--socket"])
            .arg(self.root().join("mysql.sock"))
            .env("MYSQL_PWD", password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts");
        client.stdin.take().expect("its input").write_all(sql.as_bytes()).expect("it reads");
        let ended = client.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ended.status.success() { Ok(text(&ended.stdout)) } else { Err(text(&ended.stderr)) }
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.ask_as("root", PASSWORD, sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The version of the server that answers.
    pub(crate) fn version(&self) -> String {
        self.sql("SELECT VERSION();").trim().to_owned()
    }

    pub(crate) fn content(&self) -> String {
        self.sql(LOOK)
    }

    pub(crate) fn programs(&self) -> BTreeMap<String, String> {
        Fleet::tree(&self.root().join("c/Instrument/Apps/MySQL"))
    }

    /// The services of the sandbox.
    pub(crate) fn services(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.root().join(".ibexdeploy/sandbox.json")).expect("the sandbox's state");
        let mut state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for service in state["services"].as_object_mut().expect("services").values_mut() {
            service.as_object_mut().expect("a service").remove("pid");
        }
        state["services"].take()
    }

    pub(crate) fn dumps(&self) -> Vec<String> {
        let folder = self.root().join("c/data/old");
        let names = std::fs::read_dir(folder).expect("backups").flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        let mut dumps: Vec<String> = names.filter(|name| name.starts_with("ibex_mysql_")).collect();
        dumps.sort();
        dumps
    }

    pub(crate) fn upgrade(&self) -> Ended {
        self.fleet.run(&["run", "mysql", NAME, "--yes"])
    }

    /// Changes a program of the kit's zip: `edit` gets its text.
    pub(crate) fn change_program(&self, version: &str, name: &str, edit: impl Fn(&str) -> String) {
        let folder = self.fleet.dir().join("unzipped");
        let top = format!("mysql-{version}-winx64");
        let zip = self.fleet.kits().join(RELEASE).join("MySQL").join(format!("{top}.zip"));
        let unzip = Command::new("unzip").args(["-q", "-o", "-d"]).arg(&folder).arg(&zip).status().expect("unzip");
        assert!(unzip.success());
        let file = folder.join(&top).join("bin").join(name);
        let text = std::fs::read_to_string(&file).expect("a program");
        std::fs::write(&file, edit(&text)).expect("a program can be changed");
        std::fs::remove_file(&zip).expect("the zip");
        let python = "import shutil,sys; shutil.make_archive(sys.argv[1][:-4], 'zip', sys.argv[2], sys.argv[3])";
        let zipped = Command::new("python3").args(["-c", python]).arg(&zip).arg(&folder).arg(&top).status().expect("python3");
        assert!(zipped.success());
    }
}

/// What a site is like, to be compared.
#[derive(Clone)]
pub(crate) struct Before {
    pub(crate) version: String,
    pub(crate) content: String,
    pub(crate) programs: BTreeMap<String, String>,
    pub(crate) services: serde_json::Value,
    pub(crate) dumps: Vec<String>,
}

impl Before {
    pub(crate) fn of(site: &Site) -> Self {
        Self {
            version: site.version(),
            content: site.content(),
            programs: site.programs(),
            services: site.services(),
            dumps: site.dumps(),
        }
    }

    /// The old server runs on its old data, and IBEX as well.
    pub(crate) fn expect_again(&self, site: &Site, story: &str) {
        assert_eq!(site.version(), self.version, "{story}");
        assert!(site.content() == self.content, "the databases hold the same: {story}");
        assert_eq!(site.programs(), self.programs, "{story}");
        assert_eq!(site.services(), self.services, "{story}");
        assert_eq!(servers(site.fleet.dir()).len(), 1, "one server: {story}");
        assert_eq!(site.dumps(), self.dumps, "{story}");
        assert!(site.fleet.ibex(NAME).is_some(), "IBEX runs: {story}");
        site.sql(
            "INSERT INTO iocdb.iocs VALUES ('NEW', 1); DELETE FROM iocdb.iocs WHERE name = 'NEW'; DELETE FROM msg_log.message;",
        );
    }
}

pub(crate) fn expect_new(site: &Site, before: &Before, version: &str, story: &str) {
    assert_eq!(site.version(), version, "{story}");
    assert!(site.content() == before.content, "the databases hold the same: {story}");
    assert_eq!(servers(site.fleet.dir()).len(), 1, "one server: {story}");
    assert!(site.fleet.ibex(NAME).is_some(), "IBEX runs: {story}");
}
