//! The programs that speak with a server, and what their complaints mean.
//!
//! The password is in the environment of the one program that needs it (`MYSQL_PWD`), and statements come by standard
//! input: neither stands on a command line, in a file, or in the job's description.

use crate::actions::StepContext;
use crate::actions::external::{self, External, Seen};
use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a question may take that reads no table.
const QUESTION: Duration = Duration::from_secs(60);

/// Rows that the server took are taken by its clients as well.
const LONG_ROWS: &str = "--max-allowed-packet=1G";

/// What our rows begin with, so that they are told from warnings.
const MARK: &str = "@";

/// The programs of one server's `bin`, and how they log on.
#[derive(Debug, Clone)]
pub(super) struct Client<'a> {
    /// The folder with the programs.
    pub(super) bin: PathBuf,
    pub(super) port: u16,
    /// The name of the secret that is root's password.
    pub(super) secret: &'a str,
}

/// The path of a program in a server's `bin`.
pub(super) fn program_in(bin: &Path, name: &str) -> PathBuf {
    bin.join(format!("{name}.exe"))
}

/// True when the server answers anybody at all; who asks is not let in, and need not be.
///
/// # Errors
/// When the program cannot be started.
pub(super) fn is_answering(cx: &StepContext<'_>, bin: &Path, port: u16) -> Result<bool> {
    // It ends with 0 as well when the server is there and refuses the log-on.
    let mut asking = logging_on(bin, "mysqladmin", "ibexdeploy", port);
    asking.args.extend(["--connect-timeout=5".to_owned(), "ping".to_owned()]);
    Ok(external::answer(cx, "mysql-ping", asking)?.exit_code == 0)
}

/// A program with the options that all take.
fn logging_on(bin: &Path, name: &str, user: &str, port: u16) -> External {
    let args = ["--no-defaults".to_owned(), format!("--user={user}"), "--host=localhost".to_owned(), format!("--port={port}")];
    External { program: program_in(bin, name).display().to_string(), args: args.into(), ..External::default() }
}

impl Client<'_> {
    fn external(&self, cx: &StepContext<'_>, name: &str, args: &[&str]) -> Result<External> {
        let mut program = logging_on(&self.bin, name, "root", self.port);
        program.args.extend(args.iter().map(|a| (*a).to_owned()));
        let password = program.secret(cx, self.secret)?;
        program.env.push(("MYSQL_PWD".to_owned(), password));
        Ok(program)
    }

    /// The rows of a question that reads no table. Each `SELECT` of it begins with [`MARK`], see [`row`].
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub(super) fn ask(&self, cx: &StepContext<'_>, purpose: &str, sql: &str) -> Result<Vec<Vec<String>>> {
        let deadline = cx.deadline.within(QUESTION);
        self.read(&StepContext { deadline: &deadline, ..*cx }, purpose, sql)
    }

    /// The same for a question that reads whole tables: it has the time of the step.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn read(&self, cx: &StepContext<'_>, purpose: &str, sql: &str) -> Result<Vec<Vec<String>>> {
        let seen = self.run_sql(cx, purpose, sql)?;
        let rows = seen.output.lines().filter_map(|line| line.strip_prefix(MARK)?.strip_prefix('\t'));
        Ok(rows.map(|row| row.trim_end_matches('\r').split('\t').map(unescaped).collect()).collect())
    }

    /// The lines of a question whose answer has one column that cannot be marked (`SHOW`).
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn lines(&self, cx: &StepContext<'_>, purpose: &str, sql: &str) -> Result<Vec<String>> {
        let deadline = cx.deadline.within(QUESTION);
        let seen = self.run_sql(&StepContext { deadline: &deadline, ..*cx }, purpose, sql)?;
        Ok(seen.output.lines().map(|line| unescaped(line.trim_end_matches('\r'))).collect())
    }

    /// Gives the server statements that can be given again.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn tell(&self, cx: &StepContext<'_>, purpose: &str, sql: &str) -> Result<()> {
        self.run_sql(cx, purpose, sql).map(drop)
    }

    fn run_sql(&self, cx: &StepContext<'_>, purpose: &str, sql: &str) -> Result<Seen> {
        let mut program = self.external(cx, "mysql", &["--batch", "--skip-column-names", "--default-character-set=utf8mb4"])?;
        program.stdin = Some(sql.to_owned());
        let seen = external::answer(cx, &format!("mysql-{purpose}"), program)?;
        if seen.exit_code == 0 { Ok(seen) } else { Err(self.failed(cx, "mysql", seen.exit_code, &seen.tail)) }
    }

    /// Runs the statements of a file once: after a crash the program is found again.
    ///
    /// # Errors
    /// When it fails, or whether it did its work is unknown.
    pub(super) fn run_file(&self, cx: &StepContext<'_>, id: &str, file: &Path) -> Result<()> {
        let mut program = self.external(cx, "mysql", &["--batch", LONG_ROWS, "--default-character-set=utf8mb4"])?;
        program.stdin_file = Some(file.to_path_buf());
        let end = external::run(cx, format!("{}.{id}", cx.step.id), program)?;
        if end.exit_code == 0 { Ok(()) } else { Err(self.failed(cx, "mysql", end.exit_code, &end.tail)) }
    }

    /// Gives the server the statements of a file that hold hashes of passwords, which can be given again.
    ///
    /// # Errors
    /// When one is refused; of what the client says, only what holds no statement is passed on.
    pub(super) fn tell_in_private(&self, cx: &StepContext<'_>, purpose: &str, file: &Path) -> Result<()> {
        let mut program = self.external(cx, "mysql", &["--batch", "--default-character-set=utf8mb4"])?;
        program.stdin_file = Some(file.to_path_buf());
        let seen = external::answer(cx, &format!("mysql-{purpose}"), program)?;
        if seen.exit_code == 0 {
            return Ok(());
        }
        let told = seen.tail.iter().filter(|line| line.starts_with("ERROR "));
        // A syntax error shows the statement from where it is wrong.
        let told: Vec<String> = told.map(|line| line.split(" near ").next().unwrap_or_default().to_owned()).collect();
        Err(self.failed(cx, "mysql", seen.exit_code, &told))
    }

    /// Writes everything that databases hold into a file: tables with their rows as of one moment, views, routines,
    /// triggers and events.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn dump(&self, cx: &StepContext<'_>, databases: &[String], to: &Path) -> Result<()> {
        let result = format!("--result-file={}", to.display());
        let mut args = vec![
            "--single-transaction",
            "--quick",
            LONG_ROWS,
            "--hex-blob",
            "--routines",
            "--events",
            "--triggers",
            "--default-character-set=utf8mb4",
            &result,
            "--databases",
        ];
        args.extend(databases.iter().map(String::as_str));
        let program = self.external(cx, "mysqldump", &args)?;
        // Found again after a crash: two of them must not write one file.
        let end = external::run(cx, format!("{}.dump", cx.step.id), program)?;
        if end.exit_code == 0 { Ok(()) } else { Err(self.failed(cx, "mysqldump", end.exit_code, &end.tail)) }
    }

    /// Brings the tables of the system to the server's version, where the server's kit has a program for that: since
    /// 8.0.16 MySQL does it by itself when it starts, and 8.4 brings none.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn upgrade_tables(&self, cx: &StepContext<'_>) -> Result<()> {
        if !program_in(&self.bin, "mysql_upgrade").is_file() {
            return Ok(());
        }
        let program = self.external(cx, "mysql_upgrade", &["--force"])?;
        let end = external::run(cx, format!("{}.upgrade", cx.step.id), program)?;
        if end.exit_code == 0 { Ok(()) } else { Err(self.failed(cx, "mysql_upgrade", end.exit_code, &end.tail)) }
    }

    /// The error of a program, by what it said.
    fn failed(&self, cx: &StepContext<'_>, program: &str, exit_code: i32, tail: &[String]) -> Error {
        let output = external::redacted(cx, tail);
        let says = |phrase: &str| output.iter().any(|line| line.contains(phrase));
        let port = self.port;
        let error = if says("ERROR 1045") || says("Access denied for user") {
            Error::new(ErrorKind::Refused, format!("the server does not accept the password `{}` for root", self.secret))
                .next("correct where the inventory's `secrets:` take it from, or the password in the server")
        } else if says("ERROR 2002") || says("ERROR 2003") || says("Can't connect to") {
            Error::step_failed(format!("the server does not answer on port {port}"))
                .next("see that its service runs, and that `port` is the server's own")
        } else if says("No space left on device") || says("rrno 28") || says("(Errcode: 28") || says("is full") {
            Error::new(ErrorKind::OutOfSpace, format!("`{program}` found the disk full")).next("make room, then run it again")
        } else {
            Error::step_failed(format!("`{program}` ended with exit code {exit_code}"))
                .next("read what it says, put that right in the databases, and run it again")
        };
        error.with_output(output)
    }
}

/// A `SELECT` whose rows [`Client::read`] finds.
pub(super) fn row(columns: &str, from: &str) -> String {
    format!("SELECT '{MARK}', {columns} {from};\n")
}

/// A name as statements have it.
pub(super) fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Text as statements have it, whatever the server's mode says about backslashes.
pub(super) fn text(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let digits: String = text.bytes().map(|b| format!("{b:02x}")).collect();
    format!("CONVERT(0x{digits} USING utf8mb4)")
}

/// A value as the client writes it with `--batch`.
fn unescaped(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => plain.push('\n'),
                Some('t') => plain.push('\t'),
                Some('0') => plain.push('\0'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_end_early() {
        assert_eq!(name("a`; DROP DATABASE x"), "`a``; DROP DATABASE x`");
        assert_eq!(text("é'\\"), "CONVERT(0xc3a9275c USING utf8mb4)");
        assert_eq!(text(""), "''");
        assert_eq!(unescaped("a\\tb\\\\n\\n"), "a\tb\\n\n");
    }
}
