//! An operator with an inventory, a home folder and instruments that are nothing but a folder behind a server.

use super::{LocalUser, SshSettings, output_of};
use crate::command::Ended;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ibexdeploy");

const DEFAULTS: &str = r"defaults:
  host: '{{ name }}.isis.cclrc.ac.uk'
  accounts: {instrument: {user: spudulike, session: logged_on}}
  places: {server: C:\Instrument\Apps\EPICS, var: C:\Instrument\Var}
";

/// Where a secret comes from.
enum Source {
    Variable(String),
    Question(String),
}

/// Nothing of the operator's own counts here: the home folder is one of the test, and no SSH agent is known.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    instruments: BTreeMap<String, SshSettings>,
    secrets: BTreeMap<String, Source>,
    /// What is not the same from one test to the next, with what stands for it.
    hidden: Vec<(String, String)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ibxs").tempdir_in("/tmp").expect("a folder in /tmp");
        // Other users log in to folders below it.
        open_to_all(dir.path());
        for folder in ["home/.ssh", "roots", "playbooks"] {
            std::fs::create_dir_all(dir.path().join(folder)).expect("a folder");
        }
        let hidden = vec![(dir.path().display().to_string(), "[SITE]".to_owned())];
        Self { dir, instruments: BTreeMap::new(), secrets: BTreeMap::new(), hidden }
    }

    /// An instrument that has nothing but a name, in a folder of its own unless the settings name another one.
    pub(crate) fn add(&mut self, name: &str, settings: SshSettings) -> PathBuf {
        let root = settings.root().unwrap_or_else(|| self.root(name));
        if !root.starts_with(self.dir()) {
            // It may be one that is not there, or of another user.
            self.instruments.insert(name.to_owned(), settings);
            return root;
        }
        let home = root.join(".ibexdeploy");
        std::fs::create_dir_all(&home).expect("a folder");
        let identity = format!("{{\"name\": \"{name}\", \"host\": \"{name}.isis.cclrc.ac.uk\"}}");
        std::fs::write(home.join("identity.json"), identity).expect("a file");
        self.instruments.insert(name.to_owned(), settings.or("root", root.display()));
        root
    }

    /// An instrument where the agent is already: a second name of the executable, so that nothing is sent.
    pub(crate) fn add_with_agent(&mut self, name: &str, settings: SshSettings) -> PathBuf {
        let root = self.add(name, settings.or("agent", "preinstalled"));
        put_agent(&root.join(".ibexdeploy/bin"));
        root
    }

    /// A secret that instruments may name; the binary finds its value in its environment.
    pub(crate) fn secret(&mut self, name: &str, value: &str) {
        self.secrets.insert(name.to_owned(), Source::Variable(value.to_owned()));
    }

    /// A secret that the operator is asked for on a terminal.
    pub(crate) fn asked_secret(&mut self, name: &str, question: &str) {
        self.secrets.insert(name.to_owned(), Source::Question(question.to_owned()));
    }

    /// A playbook of this name.
    pub(crate) fn playbook(&self, name: &str, steps: &str) {
        let file = self.dir().join("playbooks").join(format!("{name}.yaml"));
        std::fs::write(file, format!("playbook: {name}\n{steps}")).expect("a playbook");
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder that stands for an instrument.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.dir().join("roots").join(name)
    }

    /// `~/.ssh` of the operator.
    pub(crate) fn ssh_folder(&self) -> PathBuf {
        self.dir().join("home/.ssh")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// The real binary with what was added so far.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(BINARY), arguments)
    }

    /// The same with another executable.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut text = DEFAULTS.to_owned();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  secrets:");
        for (name, source) in &self.secrets {
            let _ = match source {
                Source::Variable(_) => writeln!(text, "    {name}: {{env: {}}}", variable(name)),
                Source::Question(question) => writeln!(text, "    {name}: {{prompt: {question}}}"),
            };
        }
        let _ = writeln!(text, "instruments:");
        for (name, settings) in &self.instruments {
            let _ = writeln!(text, "  {name}:\n    transport:\n      ssh:\n{}", settings.lines("        "));
        }
        let inventory = self.dir().join("inventory.yaml");
        let text = if self.secrets.is_empty() { text.replace("  secrets:\n", "") } else { text };
        std::fs::write(&inventory, text).expect("an inventory");
        let mut command = Command::new(program);
        command.current_dir(self.dir()).args(arguments).arg("--inventory").arg(inventory).arg("--state").arg(self.state());
        command.arg("--playbooks").arg(self.dir().join("playbooks"));
        command.env("HOME", self.dir().join("home")).env_remove("SSH_AUTH_SOCK");
        for (name, source) in &self.secrets {
            if let Source::Variable(value) = source {
                command.env(variable(name), value);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(arguments))
    }

    /// Runs the binary, which must end well.
    pub(crate) fn run_well(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{}", ended.story());
        ended
    }

    /// Shows a word in the place of a text from now on.
    pub(crate) fn hide(&mut self, text: impl std::fmt::Display, word: &str) {
        // The longest first, so that none is taken for a part of another.
        self.hidden.push((text.to_string(), word.to_owned()));
        self.hidden.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// What the operator reads, with what differs from one test to the next replaced.
    pub(crate) fn shown(&self, text: &str) -> String {
        let text = self.hidden.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        without_digits_behind("incoming-", &without_fingerprints(&text))
    }
}

/// Puts the executable into an agent's `bin` folder, as one that somebody else has brought.
fn put_agent(bin: &Path) {
    std::fs::create_dir_all(bin).expect("a folder for the agent");
    let place = bin.join("ibexdeploy");
    if std::fs::hard_link(BINARY, &place).is_err() {
        std::fs::copy(BINARY, &place).expect("the agent can be copied");
    }
}

/// Gives a folder and all below it to a user; files that have other names as well stay whose they are.
pub(crate) fn give(folder: &Path, user: &LocalUser) {
    output_of(Command::new("find").arg(folder).args(["-links", "-2", "-o", "-type", "d"]).args(["-exec", "chown", "-h"]).args([
        user.name(),
        "{}",
        "+",
    ]));
}

/// Lets all users in.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("rights of a folder");
}

/// The variable that holds a secret.
fn variable(secret: &str) -> String {
    format!("IBEXDEPLOY_TEST_{}", secret.to_uppercase())
}

/// `SHA256:` stays, and what follows it goes.
fn without_fingerprints(text: &str) -> String {
    let mut parts = text.split("SHA256:");
    let first = parts.next().unwrap_or_default().to_owned();
    let is_digit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    parts.fold(first, |all, part| format!("{all}SHA256:[..]{}", part.trim_start_matches(is_digit)))
}

fn without_digits_behind(word: &str, text: &str) -> String {
    let mut parts = text.split(word);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| format!("{all}{word}[..]{}", part.trim_start_matches(|c: char| c.is_ascii_hexdigit())))
}
