//! Users of this machine, for one test each.

use super::processes::{Process, of_user};
use super::{is_root, look_for, output_of};
use rustix::process::Signal;
use std::fs::{File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the names of all these users begin with.
const PREFIX: &str = "ibxt";

/// The shell that a user's commands go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    /// `/bin/sh`: dash on Debian.
    Sh,
    Bash,
    /// A script that says something before it does what it is asked, as profiles do that were never meant for programs.
    Noisy,
    /// The same at length: ten thousand characters.
    Shouting,
    /// Another program of this machine.
    Program(&'static str),
}

/// What [`Shell::Noisy`] says.
pub(crate) const NOISE: &str = "Welcome to this machine!\nYou have mail.\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Own,
    /// The folder is named, and is not there.
    Missing,
}

/// A user with a random password; gone with its processes and files when it is dropped.
pub(crate) struct LocalUser {
    name: String,
    uid: u32,
    password: String,
    dir: tempfile::TempDir,
}

impl LocalUser {
    /// Makes a user; nothing, and a line that says so, where the test is not run by root.
    pub(crate) fn create(shell: Shell, home: Home) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            eprintln!("skipped: users can only be made by root");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ibxu").tempdir_in("/tmp").expect("a folder in /tmp");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("rights of a folder");
        let shell = match shell {
            Shell::Sh => PathBuf::from("/bin/sh"),
            Shell::Bash => PathBuf::from("/bin/bash"),
            Shell::Noisy => {
                let words = NOISE.replace('\n', "\\n");
                script(&dir.path().join("noisy"), &format!("printf '{words}'\nexec /bin/sh \"$@\"\n"))
            }
            Shell::Shouting => {
                script(&dir.path().join("shouting"), "printf '%9999s\\n' !\nprintf '%999s\\n' ! >&2\nexec /bin/sh \"$@\"\n")
            }
            Shell::Program(path) => PathBuf::from(path),
        };
        let name = format!("{PREFIX}{}n{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let password = format!("ibx-{:016x}", RandomState::new().hash_one(&name));
        let _alone = users_lock();
        remove_left_over();
        let mut useradd = Command::new("/usr/sbin/useradd");
        useradd.arg("-s").arg(shell).arg("-d").arg(dir.path().join("home"));
        output_of(useradd.arg(if home == Home::Own { "-m" } else { "-M" }).arg(&name));
        let uid = output_of(Command::new("id").args(["-u", &name])).trim().parse().expect("a number");
        let user = Self { name, uid, password, dir };
        user.set_password();
        let asked = script(&user.askpass(), &format!("echo '{}'\n", user.password));
        std::fs::set_permissions(asked, Permissions::from_mode(0o700)).expect("rights of a file");
        Some(user)
    }

    fn set_password(&self) {
        let mut chpasswd = Command::new("/usr/sbin/chpasswd").stdin(Stdio::piped()).spawn().expect("chpasswd starts");
        let line = format!("{}:{}\n", self.name, self.password);
        chpasswd.stdin.take().expect("its input").write_all(line.as_bytes()).expect("chpasswd reads");
        assert!(chpasswd.wait().expect("chpasswd ends").success());
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// The home folder, whether it is there or not.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A program that writes the password, for `SSH_ASKPASS`; nobody but root may read it.
    pub(crate) fn askpass(&self) -> PathBuf {
        self.dir.path().join("askpass")
    }

    /// A folder that belongs to the user.
    pub(crate) fn own_folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        std::os::unix::fs::chown(&folder, Some(self.uid), Some(self.uid)).expect("an owner");
        folder
    }
}

impl Drop for LocalUser {
    fn drop(&mut self) {
        let _alone = users_lock();
        remove(&self.name, Some(self.uid));
    }
}

/// Ends what the user still runs, and removes it. Its files lie in a folder of the test.
fn remove(name: &str, uid: Option<u32>) {
    if let Some(uid) = uid {
        // Not found to have ended, they keep the user, which is said below.
        look_for(|| {
            let left: Vec<Process> = of_user(uid).into_iter().filter(Process::is_alive).collect();
            left.iter().for_each(|p| p.signal(Signal::KILL));
            left.is_empty().then_some(())
        });
    }
    let removed = Command::new("/usr/sbin/userdel").args(["-f", name]).output();
    if !removed.as_ref().is_ok_and(|o| o.status.success()) {
        eprintln!("the user {name} stays: {removed:?}");
    }
}

/// Users of tests that were killed before they could clean up.
fn remove_left_over() {
    let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    for line in users.lines() {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(|u| u.parse().ok()));
        let made_by = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('n')?.0.parse::<u32>().ok());
        if made_by.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(name, uid);
        }
    }
}

/// The programs that change users give up when they meet.
fn users_lock() -> File {
    let file = File::create(std::env::temp_dir().join("ibexdeploy-test-users.lock")).expect("a lock file");
    file.lock().expect("the lock");
    file
}

/// Writes an executable script.
fn script(file: &Path, text: &str) -> PathBuf {
    std::fs::write(file, format!("#!/bin/sh\n{text}")).expect("a script");
    std::fs::set_permissions(file, Permissions::from_mode(0o755)).expect("rights of a file");
    file.to_owned()
}
