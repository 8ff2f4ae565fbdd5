//! Every way of logging on that must work.

use crate::command::Ended;
use crate::support::sshd::{fingerprint, keygen, keygen_with};
use crate::support::{Home, LocalUser, Shell, Site, SshAgent, SshSettings, Sshd, give};
use crate::terminal::Terminal;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A new pair of keys that a server lets in.
fn key_for(sshd: &Sshd, site: &Site, name: &str, options: &[&str], passphrase: &str) -> PathBuf {
    let file = site.dir().join(name);
    keygen_with(&file, options, passphrase);
    sshd.let_in(&public(&file));
    file
}

fn public(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// The fingerprints of the keys that a server has taken.
fn taken(sshd: &Sshd) -> BTreeSet<String> {
    let log = sshd.log();
    let accepted = log.lines().filter(|line| line.contains("Accepted publickey for "));
    accepted.filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

#[test]
fn key_files_of_every_form() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    site.secret("words", "one two three");
    let forms: [(&str, &[&str], &str); 9] = [
        ("NDXED", &["-t", "ed25519"], ""),
        ("NDXEDWORDS", &["-t", "ed25519"], "one two three"),
        ("NDXEC", &["-t", "ecdsa"], ""),
        ("NDXECLONG", &["-t", "ecdsa", "-b", "521"], ""),
        ("NDXECPEM", &["-t", "ecdsa", "-m", "PEM"], ""),
        ("NDXRSA", &["-t", "rsa", "-b", "2048"], ""),
        ("NDXRSAPEM", &["-t", "rsa", "-b", "2048", "-m", "PEM"], ""),
        ("NDXRSAPEMWORDS", &["-t", "rsa", "-b", "2048", "-m", "PEM"], "one two three"),
        ("NDXRSAEIGHT", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"], "one two three"),
    ];
    let mut all = BTreeSet::new();
    for (name, options, passphrase) in forms {
        let key = key_for(&sshd, &site, name, options, passphrase);
        all.insert(fingerprint(&public(&key)));
        // The public half is not needed.
        fs::remove_file(public(&key)).unwrap();
        let settings = SshSettings::of(&sshd).with("key", key.display());
        let settings = if passphrase.is_empty() { settings } else { settings.with("passphrase", "words") };
        site.add_with_agent(name, settings);
    }
    site.run_well(&["status", "--all"]);
    assert_eq!(taken(&sshd), all);
}

#[test]
fn a_passphrase_is_typed_once_for_all_instruments() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    let key = key_for(&sshd, &site, "locked", &["-t", "ed25519"], "one two three");
    site.asked_secret("words", "Passphrase of the key");
    let settings = SshSettings::of(&sshd).with("key", key.display()).with("passphrase", "words");
    site.add_with_agent("NDXA", settings.clone());
    site.add_with_agent("NDXB", settings);
    let (mut child, mut terminal) = Terminal::start(&mut site.command(&["status", "--all", "--output", "json"]));
    terminal.until("Passphrase of the key: ");
    terminal.answer_hidden("one two three");
    let rows: serde_json::Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    terminal.rest();
    assert!(child.wait().unwrap().success(), "{rows}\n{}", terminal.shown);
    assert_eq!(terminal.shown.matches("Passphrase").count(), 1, "{}", terminal.shown);
    assert!(!terminal.shown.contains("two"), "{}", terminal.shown);
}

#[test]
fn keys_that_an_ssh_agent_holds() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    let agent = SshAgent::start();
    let any = key_for(&sshd, &site, "any", &["-t", "ed25519"], "");
    let held = key_for(&sshd, &site, "held", &["-t", "ecdsa"], "");
    let locked = key_for(&sshd, &site, "locked", &["-t", "ed25519"], "one two three");
    agent.add(&any, "");
    agent.add(&held, "");
    agent.add(&locked, "one two three");
    // Only the agent has these private halves now.
    fs::remove_file(&any).unwrap();
    fs::remove_file(&held).unwrap();
    let settings = SshSettings::of(&sshd);
    site.add_with_agent("NDXANY", settings.clone().without("key"));
    site.add_with_agent("NDXHELD", settings.clone().with("key", held.display()));
    site.add_with_agent("NDXPUBLIC", settings.clone().with("key", public(&held).display()));
    site.add_with_agent("NDXLOCKED", settings.with("key", locked.display()));
    let with = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        agent.tell(&mut command);
        Ended::of(&mut command)
    };
    let ended = with(&["status", "--all"]);
    assert_eq!(ended.code, 0, "{}", ended.story());
    assert_eq!(taken(&sshd), [&any, &held, &locked].map(|key| fingerprint(&public(key))).into());
    // Without it they are of no use.
    let ended = site.run(&["status", "--all"]);
    assert_eq!((ended.code, ended.stdout.matches("no answer, see below").count()), (1, 4), "{}", ended.story());
}

#[test]
fn an_ssh_agent_with_many_keys_does_not_use_up_the_attempts() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    let agent = SshAgent::start();
    for number in 0..7 {
        let other = site.dir().join(format!("other{number}"));
        keygen(&other, "ed25519", "");
        agent.add(&other, "");
    }
    let in_file = key_for(&sshd, &site, "in_file", &["-t", "ed25519"], "");
    let held = key_for(&sshd, &site, "held", &["-t", "ed25519"], "");
    agent.add(&held, "");
    fs::remove_file(&held).unwrap();
    let settings = SshSettings::of(&sshd);
    site.add_with_agent("NDXNAMED", settings.clone().with("key", in_file.display()));
    site.add_with_agent("NDXFILE", settings.clone().without("key"));
    site.add_with_agent("NDXHELD", settings.without("key"));
    let host = |name: &str, key: &Path| format!("Host {name}.*\n  IdentityFile {}\n", key.display());
    fs::write(site.ssh_folder().join("config"), host("NDXFILE", &in_file) + &host("NDXHELD", &held)).unwrap();
    let mut command = site.command(&["status", "--all"]);
    agent.tell(&mut command);
    let ended = Ended::of(&mut command);
    assert_eq!(ended.code, 0, "{}", ended.story());
    assert_eq!(taken(&sshd), [&in_file, &held].map(|key| fingerprint(&public(key))).into());
}

#[test]
fn the_usual_keys_of_the_operator() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    // The first one is not let in.
    keygen(&site.ssh_folder().join("id_ed25519"), "ed25519", "");
    let rsa = key_for(&sshd, &site, "home/.ssh/id_rsa", &["-t", "rsa", "-b", "2048"], "");
    fs::copy(sshd.known_hosts(), site.ssh_folder().join("known_hosts")).unwrap();
    site.add_with_agent("NDXUSUAL", SshSettings::of(&sshd).without("key").without("known_hosts"));
    site.run_well(&["status", "--all"]);
    assert_eq!(taken(&sshd), [fingerprint(&public(&rsa))].into());
}

#[test]
fn passwords_and_questions() {
    let Some(user) = LocalUser::create(Shell::Sh, Home::Own) else { return };
    let passwords = Sshd::builder().user(&user).passwords().line("PubkeyAuthentication no").start();
    let questions = Sshd::builder().user(&user).keyboard_interactive().line("PubkeyAuthentication no").start();
    let both = Sshd::builder().user(&user).passwords().line("AuthenticationMethods publickey,password").start();
    let mut site = Site::new();
    site.secret("password", user.password());
    for (name, sshd) in [("NDXPASSWORD", &passwords), ("NDXQUESTIONS", &questions), ("NDXBOTH", &both)] {
        let settings = SshSettings::of(sshd).with("password", "password");
        site.add_with_agent(name, if name == "NDXBOTH" { settings } else { settings.without("key") });
        give(&site.root(name), &user);
    }
    site.run_well(&["status", "--all"]);
    assert!(passwords.log().contains(&format!("Accepted password for {}", user.name())), "{}", passwords.log());
    assert!(questions.log().contains("Accepted keyboard-interactive/pam for"), "{}", questions.log());
    assert!(both.log().contains("Partial publickey for") && both.log().contains("Accepted password for"), "{}", both.log());
}

#[test]
fn the_operators_own_settings_and_the_inventory_before_them() {
    let (sshd, bastion) = (Sshd::start(), Sshd::start());
    let mut site = Site::new();
    let known = site.dir().join("known");
    let line = |name: &str, sshd: &Sshd| format!("{name} {}\n", sshd.host_key("ed25519"));
    fs::write(&known, line("armour", &sshd) + &line(&format!("[127.0.0.1]:{}", bastion.port()), &bastion)).unwrap();
    let text = format!(
        "Host NDXARMOUR.*\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {key}\n  \
         UserKnownHostsFile {known}\n  HostKeyAlias armour\n  ProxyJump gate\n\n\
         Host gate\n  HostName 127.0.0.1\n  Port {bastion_port}\n  User {user}\n  IdentityFile {bastion_key}\n  \
         UserKnownHostsFile {known}\n\n\
         Host NDXFIRST.*\n  HostName nowhere.invalid\n  Port 1\n  User nobody\n  IdentityFile /nowhere\n  \
         UserKnownHostsFile /nowhere\n  ProxyJump nowhere.invalid\n",
        port = sshd.port(),
        user = sshd.user(),
        key = sshd.key().display(),
        known = known.display(),
        bastion_port = bastion.port(),
        bastion_key = bastion.key().display(),
    );
    fs::write(site.ssh_folder().join("config"), text).unwrap();
    site.add_with_agent("NDXARMOUR", SshSettings::default());
    site.add_with_agent("NDXFIRST", SshSettings::of(&sshd).with("proxy_jump", "none"));
    site.run_well(&["status", "--all"]);
    assert_eq!(taken(&bastion), [fingerprint(&public(&bastion.key()))].into());
}

/// Everybody's host keys, in the operator's own file.
fn all_known(site: &Site, servers: &[&Sshd]) {
    let lines: Vec<String> = servers.iter().map(|sshd| fs::read_to_string(sshd.known_hosts()).unwrap()).collect();
    fs::write(site.ssh_folder().join("known_hosts"), lines.concat()).unwrap();
}

#[test]
fn through_one_and_two_bastions() {
    let (sshd, gate, inner) = (Sshd::start(), Sshd::start(), Sshd::start());
    let mut site = Site::new();
    all_known(&site, &[&sshd, &gate, &inner]);
    gate.let_in(&public(&sshd.key()));
    inner.let_in(&public(&sshd.key()));
    let at = |sshd: &Sshd| format!("{}@127.0.0.1:{}", sshd.user(), sshd.port());
    let settings = SshSettings::of(&sshd).without("known_hosts");
    site.add_with_agent("NDXONE", settings.clone().with("proxy_jump", at(&gate)));
    site.run_well(&["status", "NDXONE"]);
    assert!(gate.log().contains("Accepted publickey") && !inner.log().contains("Accepted publickey"), "{}", gate.log());
    site.add_with_agent("NDXTWO", settings.with("proxy_jump", format!("{},{}", at(&gate), at(&inner))));
    site.run_well(&["status", "NDXTWO"]);
    assert!(inner.log().contains("Accepted publickey"), "{}", inner.log());
    // From one to the next, and not from here.
    for (from, to) in [(&gate, &inner), (&inner, &sshd)] {
        assert!(from.log().contains(&format!("to 127.0.0.1 port {}", to.port())), "{}", from.log());
    }
}

#[test]
fn thirty_instruments_through_a_bastion_that_takes_ten_at_once() {
    let sshd = Sshd::start();
    let gate = Sshd::builder().line("MaxStartups 10:30:100").start();
    let mut site = Site::new();
    all_known(&site, &[&sshd, &gate]);
    gate.let_in(&public(&sshd.key()));
    let jump = format!("{}@127.0.0.1:{}", gate.user(), gate.port());
    let settings = SshSettings::of(&sshd).without("known_hosts").with("proxy_jump", jump).with("timeout", "60s");
    for number in 1..=30 {
        site.add_with_agent(&format!("NDX{number:02}"), settings.clone());
    }
    let ended = site.run_well(&["status", "--all", "--jobs", "30", "--output", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 30, "{}", ended.story());
    assert_eq!(gate.log().matches("Accepted publickey").count(), 30, "{}", gate.log());
    assert!(!gate.log().contains("MaxStartups"), "{}", gate.log());
}
