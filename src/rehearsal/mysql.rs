//! A real database server for a sandbox: a kit's zip whose programs are scripts that call MariaDB's.

use super::Sandbox;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::{RelPath, WinPath};
use crate::platform::{self, ServiceControl, ServiceDefinition, ServiceStart};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const SERVER: &str = include_str!("scripts/mysql/mysqld.exe");
const CLIENT: &str = include_str!("scripts/mysql/client.sh");

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
    let (home, data) = (sandbox.place("mysql")?, sandbox.place("mysql_data")?);
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
    files::write_unflushed(&home.join("my.ini"), ini.as_bytes())?;
    // The server wants to make it by itself.
    if let Err(e) = std::fs::remove_dir(&data)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::io(format!("remove {}", data.display()), &e));
    }
    let server = home.join("bin/mysqld.exe");
    let made = Command::new(&server)
        .args(["--initialize-insecure".to_owned(), format!("--datadir={}", data.display())])
        .env("IBEX_ROOT", &sandbox.root)
        .output();
    let made = made.cannot(|| format!("start {}", server.display()))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr).lines().map(str::to_owned).collect();
        return Err(Error::step_failed("a sandbox's database server could not be made").with_output(said));
    }
    let machine = platform::open(Some(&sandbox.root))?;
    // A sandbox comes with a service that is only simulated.
    machine.control_service("MYSQL80", ServiceControl::Stop)?;
    machine.remove_service("MYSQL80")?;
    machine.register_service(&ServiceDefinition {
        name: service.to_owned(),
        program: server,
        arguments: vec![format!("--defaults-file={}", home.join("my.ini").display()), service.to_owned()],
        start: ServiceStart::Automatic,
        restarts: true,
    })?;
    machine.control_service(service, ServiceControl::Start)?;
    set_password(sandbox, password)
}

/// Waits for the server, and gives root a password.
fn set_password(sandbox: &Sandbox, password: &str) -> Result<()> {
    let client = sandbox.place("mysql")?.join("bin/mysql.exe");
    let admin = sandbox.place("mysql")?.join("bin/mysqladmin.exe");
    let mut ping = Command::new(&admin);
    ping.args(["--user=root", "--wait=60", "--connect-timeout=5", "--silent", "ping"]).env("IBEX_ROOT", &sandbox.root);
    let pinged = ping.output().cannot(|| format!("start {}", admin.display()))?;
    let mut child = Command::new(&client)
        .arg("--user=root")
        .env("IBEX_ROOT", &sandbox.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .cannot(|| format!("start {}", client.display()))?;
    if let Some(mut input) = child.stdin.take() {
        let sql =
            format!("ALTER USER 'root'@'localhost' IDENTIFIED BY '{}';\n", password.replace('\\', "\\\\").replace('\'', "''"));
        input.write_all(sql.as_bytes()).cannot(|| "give the server a password")?;
    }
    let ended = child.wait_with_output().cannot(|| "wait for the server's client")?;
    if ended.status.success() {
        return Ok(());
    }
    let said = [pinged.stderr, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
    Err(Error::step_failed("a sandbox's database server does not answer").with_output(said))
}
