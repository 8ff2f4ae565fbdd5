//! A real database server for a sandbox: a kit's zip whose programs are scripts that call MariaDB's.

mod given;
mod running;

pub use given::{ROOT_SECRET, expect_new, give_servers, has_only_a_name, lacking_place, room};
pub use running::Servers;
pub(super) use running::end_all;

use super::Sandbox;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::{RelPath, WinPath};
use crate::platform::{self, Platform, ServiceControl, ServiceDefinition, ServiceStart};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SERVER: &str = include_str!("../scripts/mysql/mysqld.exe");
const CLIENT: &str = include_str!("../scripts/mysql/client.sh");
/// What the databases of a rehearsed instrument hold.
const DATABASES: &str = include_str!("../scripts/mysql/databases.sql");

/// The component of a kit that holds the zip.
pub const COMPONENT: &str = "MySQL";
/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(60);
/// The version that the newer release of a rehearsal brings.
pub(super) const NEWER: &str = "8.4.3";

/// The service that a sandbox comes with.
const SIMULATED: &str = "MYSQL80";

/// MySQL's programs, what plays them, and with which option; the server's stands apart.
const CLIENTS: [(&str, &str, &str); 4] = [
    ("mysql", "mariadb", ""),
    ("mysqldump", "mariadb-dump", ""),
    ("mysqladmin", "mariadb-admin", ""),
    // A zip of MySQL 8.4 brings none; MariaDB's tables need it.
    ("mysql_upgrade", "mariadb-upgrade", "--skip-version-check"),
];

/// True when this machine has the programs that play a server.
pub fn is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_path_buf()]).collect();
    ["mariadbd", "mariadb-install-db"].iter().all(|name| folders.iter().any(|folder| folder.join(name).is_file()))
}

/// A mark of what the scripts are: a kit made of others is made anew.
pub(super) fn scripts() -> ContentHash {
    ContentHash::of([SERVER, CLIENT].concat().as_bytes())
}

/// The programs of a version by their path below the folder that a zip holds.
fn programs(version: &str) -> Vec<(String, String)> {
    let server = ("bin/mysqld.exe".to_owned(), SERVER.replace("@VERSION@", version));
    let clients = CLIENTS
        .iter()
        .map(|(name, plays, more)| (format!("bin/{name}.exe"), CLIENT.replace("@PROGRAM@", plays).replace("@OPTIONS@", more)));
    let text = ("README".to_owned(), format!("MySQL {version}, as a sandbox has it\r\n"));
    std::iter::once(server).chain(clients).chain([text]).collect()
}

/// Writes `mysql-<version>-winx64.zip` into the component `MySQL` of a release.
///
/// # Errors
/// When it cannot be written.
pub fn make_zip(release: &Path, version: &str) -> Result<()> {
    let top = format!("mysql-{version}-winx64");
    let file = release.join("MySQL").join(format!("{top}.zip"));
    let broken = |e: zip::result::ZipError| Error::new(ErrorKind::Io, format!("cannot write {}", file.display())).because(e);
    files::write_with(&file, |out| {
        let mut zip = zip::ZipWriter::new(out);
        for (path, text) in programs(version) {
            zip.start_file(format!("{top}/{path}"), zip::write::SimpleFileOptions::default()).map_err(broken)?;
            zip.write_all(text.as_bytes()).cannot(|| format!("write {}", file.display()))?;
        }
        zip.finish().map_err(broken)?;
        Ok(())
    })
}

/// Gives a sandbox a running server of a version, with that password for root, as if it had been there for long.
///
/// # Errors
/// When a program fails, or the sandbox has no places for it.
pub fn install(sandbox: &Sandbox, version: &str, service: &str, password: &str) -> Result<()> {
    put_programs(sandbox, version)?;
    let data = sandbox.place("mysql_data")?;
    // The server wants to make it by itself.
    if let Err(e) = std::fs::remove_dir(&data)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::io(format!("remove {}", data.display()), &e));
    }
    let server = sandbox.place("mysql")?.join("bin/mysqld.exe");
    let made = Command::new(&server)
        .args(["--initialize-insecure".to_owned(), format!("--datadir={}", data.display())])
        .env("IBEX_ROOT", &sandbox.root)
        .output();
    let made = made.cannot(|| format!("start {}", server.display()))?;
    if !made.status.success() {
        let said = [made.stdout, made.stderr].concat();
        let said: Vec<String> = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
        let first = said.iter().find(|line| !line.trim().is_empty()).cloned().unwrap_or_else(|| made.status.to_string());
        let odd = sandbox.root.to_string_lossy().contains(char::is_whitespace);
        let next = if odd { "MariaDB wants a path without spaces: rehearse in another folder" } else { "see what it says" };
        return Err(Error::step_failed("a sandbox's database server could not be made")
            .because(first)
            .with_output(said)
            .next(next));
    }
    let machine = platform::open(Some(&sandbox.root))?;
    register(machine.as_ref(), sandbox, service)?;
    machine.control_service(service, ServiceControl::Start)?;
    await_answer(&sandbox.place("mysql")?.join("bin"), &sandbox.root)?;
    tell(sandbox, None, &format!("ALTER USER 'root'@'localhost' IDENTIFIED BY '{}';\n", quoted(password)))
}

/// The programs of a version and the settings of the machine.
fn put_programs(sandbox: &Sandbox, version: &str) -> Result<()> {
    let home = sandbox.place("mysql")?;
    for (path, text) in programs(version) {
        let file = RelPath::parse(&path)?.under(&home);
        files::write_unflushed(&file, text.as_bytes())?;
        super::make_executable(&file)?;
    }
    let windows =
        |place: &str| sandbox.spec.places.get(place).map_or_else(String::new, |p: &WinPath| p.as_str().replace('\\', "/"));
    let ini = format!(
        "# settings of this machine\r\n[mysqld]\r\nbasedir={}\r\ndatadir={}\r\nport=3306\r\nmax_connections=42\r\n",
        windows("mysql"),
        windows("mysql_data")
    );
    files::write_unflushed(&home.join("my.ini"), ini.as_bytes())
}

/// Registers the server's service in the place of the one that a sandbox comes with, which is only simulated.
fn register(machine: &dyn Platform, sandbox: &Sandbox, service: &str) -> Result<()> {
    unregister_simulated(machine)?;
    let home = sandbox.place("mysql")?;
    machine.register_service(&ServiceDefinition {
        name: service.to_owned(),
        program: home.join("bin/mysqld.exe"),
        arguments: vec![format!("--defaults-file={}", home.join("my.ini").display()), service.to_owned()],
        start: ServiceStart::Automatic,
        restarts: true,
    })
}

fn unregister_simulated(machine: &dyn Platform) -> Result<()> {
    if machine.service(SIMULATED)?.is_some() {
        machine.control_service(SIMULATED, ServiceControl::Stop)?;
        machine.remove_service(SIMULATED)?;
    }
    Ok(())
}

/// Waits until the server of a sandbox answers anybody at all; `bin` has its programs.
fn await_answer(bin: &Path, root: &Path) -> Result<()> {
    let admin = bin.join("mysqladmin.exe");
    let begun = Instant::now();
    loop {
        let mut ping = Command::new(&admin);
        ping.args(["--user=ibexdeploy", "--connect-timeout=5", "--silent", "ping"]).env("IBEX_ROOT", root);
        let pinged = ping.output().cannot(|| format!("start {}", admin.display()))?;
        if pinged.status.success() {
            return Ok(());
        }
        if begun.elapsed() > START {
            return Err(silent(&pinged.stderr));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn silent(said: &[u8]) -> Error {
    let said = String::from_utf8_lossy(said).lines().map(str::to_owned).collect();
    Error::step_failed("a sandbox's database server does not answer").with_output(said)
}

/// Gives the server statements, as root.
fn tell(sandbox: &Sandbox, password: Option<&str>, sql: &str) -> Result<()> {
    let client = sandbox.place("mysql")?.join("bin/mysql.exe");
    let mut command = Command::new(&client);
    command.arg("--user=root").env("IBEX_ROOT", &sandbox.root);
    if let Some(password) = password {
        command.env("MYSQL_PWD", password);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .cannot(|| format!("start {}", client.display()))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(sql.as_bytes()).cannot(|| "give the server statements")?;
    }
    let ended = child.wait_with_output().cannot(|| "wait for the server's client")?;
    if ended.status.success() { Ok(()) } else { Err(silent(&ended.stderr)) }
}

/// A password inside single quotes.
fn quoted(password: &str) -> String {
    password.replace('\\', "\\\\").replace('\'', "''")
}
