//! What logs on, and what a step is given, is found in no place where somebody might read it.

use crate::support::sshd::{keygen, keygen_with};
use crate::support::{Home, LocalUser, Shell, Site, SshSettings, Sshd, give};
use std::fs;
use std::io::BufRead;
use std::path::Path;

const PASSPHRASE: &str = "Xq7phrase-9b04c7d1e35a";
const MYSQL: &str = "Xq7mysql-61fa08d9c4e2";

fn holds(bytes: &[u8], secrets: &[String]) -> Vec<String> {
    let found = |secret: &&String| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    secrets.iter().filter(found).cloned().collect()
}

/// Every file below a folder that has a secret in it or in its name.
fn found_below(folder: &Path, secrets: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        // The executable itself knows none; it is what takes long to read.
        if kind.is_dir() && entry.file_name() != "bin" {
            found.extend(found_below(&path, secrets));
        } else if kind.is_file() {
            found.extend(holds(&fs::read(&path).unwrap(), secrets).iter().map(|s| format!("{s} in {}", path.display())));
        }
        found.extend(holds(entry.file_name().as_encoded_bytes(), secrets));
    }
    found
}

/// Processes of this machine whose command line or environment has a secret in it, but for one.
fn found_in_processes(except: u32, secrets: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()).filter(|id| *id != except) else {
            continue;
        };
        for what in ["cmdline", "environ"] {
            // It may have ended meanwhile.
            let bytes = fs::read(process.path().join(what)).unwrap_or_default();
            found.extend(holds(&bytes, secrets).iter().map(|s| format!("{s} in {what} of {id}")));
        }
    }
    found
}

#[test]
fn passwords_and_passphrases_are_nowhere_to_be_read() {
    let Some(user) = LocalUser::create(Shell::Sh, Home::Own) else { return };
    let by_password = Sshd::builder().user(&user).passwords().line("PubkeyAuthentication no").start();
    let by_key = Sshd::builder().user(&user).start();
    let mut site = Site::new();
    let key = site.dir().join("locked");
    keygen(&key, "ed25519", PASSPHRASE);
    let pem = site.dir().join("pem");
    keygen_with(&pem, &["-t", "rsa", "-b", "2048", "-m", "PEM"], PASSPHRASE);
    by_key.let_in(&key.with_extension("pub"));
    by_key.let_in(&pem.with_extension("pub"));
    site.secret("account", user.password());
    site.secret("words", PASSPHRASE);
    site.secret("mysql_root", MYSQL);
    let secrets = [user.password().to_owned(), PASSPHRASE.to_owned(), MYSQL.to_owned()];
    let names = ["NDXPASSWORD", "NDXLOCKED", "NDXPEM"];
    site.add_with_agent(names[0], SshSettings::of(&by_password).without("key").with("password", "account"));
    for (name, key) in [(names[1], &key), (names[2], &pem)] {
        site.add_with_agent(name, SshSettings::of(&by_key).with("key", key.display()).with("passphrase", "words"));
    }
    names.iter().for_each(|name| give(&site.root(name), &user));
    let go = site.dir().join("go");
    let run = format!("cat; echo; echo waiting; while [ ! -e {} ]; do sleep 0.02; done", go.display());
    site.playbook("canary", &format!("stage:\n  - command: {{run: '{run}', stdin_secret: mysql_root, read_only: true}}\n"));

    let elsewhere = tempfile::tempdir().unwrap();
    let said = elsewhere.path().join("stderr");
    let mut command = site.command(&["run", "canary", "--all", "--yes", "-vvv", "--output", "json"]);
    let mut child = command.env("IBEXDEPLOY_LOG", "trace").stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut stdout = String::new();
    while stdout.matches("\"line\":\"waiting\"").count() < names.len() {
        let read = lines.read_line(&mut stdout).unwrap();
        assert!(read > 0, "the run ended early:\n{stdout}\n{}", fs::read_to_string(&said).unwrap());
    }

    // The controller was given them in its environment.
    assert_eq!(found_in_processes(u32::MAX, &secrets).len(), secrets.len());
    assert_eq!(found_in_processes(child.id(), &secrets), [""; 0]);
    let workers = found_in_processes(child.id(), &names.map(|name| site.root(name).display().to_string()));
    assert!(workers.len() >= names.len(), "the agents run: {workers:?}");
    assert_eq!(found_below(site.dir(), &secrets), [""; 0]);

    fs::write(&go, "").unwrap();
    std::io::Read::read_to_string(&mut lines, &mut stdout).unwrap();
    assert!(child.wait().unwrap().success(), "{stdout}");
    let said = fs::read(&said).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("logged on"), "-vvv shows the connections");
    // The step has printed what it was given.
    assert!(stdout.contains("\"line\":\"***\""), "{stdout}");
    assert_eq!(holds(stdout.as_bytes(), &secrets), [""; 0]);
    assert_eq!(holds(&said, &secrets), [""; 0]);
    for arguments in [&["status", "--all", "-vv"][..], &["runs", "show", "-vvv"], &["inventory", "show", "NDXPASSWORD", "-vv"]] {
        let ended = site.run_well(arguments);
        assert_eq!(holds((ended.stdout + &ended.stderr).as_bytes(), &secrets), [""; 0], "{arguments:?}");
    }
    assert_eq!(found_below(site.dir(), &secrets), [""; 0]);
    for sshd in [&by_password, &by_key] {
        assert!(sshd.log().contains("Accepted "), "{}", sshd.log());
        assert_eq!(holds(sshd.log().as_bytes(), &secrets), [""; 0]);
    }
}
