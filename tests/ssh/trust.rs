//! `trust`: host keys are shown, compared by a person, and recorded as the real client takes them.

use crate::command::Ended;
use crate::support::{Site, SshSettings, Sshd, output_of};
use crate::terminal::Terminal;
use snapbox::{assert_data_eq, str};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A site whose operator knows no host yet.
fn site(servers: &[(&str, &Sshd)]) -> (Site, PathBuf) {
    let mut site = Site::new();
    for (name, sshd) in servers {
        site.add_with_agent(name, SshSettings::of(sshd).without("known_hosts"));
        site.hide(sshd.port(), &format!("[PORT OF {name}]"));
    }
    let known = site.ssh_folder().join("known_hosts");
    (site, known)
}

/// Logs on with the real client, which must know the key already.
fn real_client_knows(site: &Site, sshd: &Sshd) {
    let known = format!("UserKnownHostsFile={}", site.ssh_folder().join("known_hosts").display());
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", &known]);
    ssh.args(["-o", "GlobalKnownHostsFile=/dev/null", "-i"]).arg(sshd.key());
    output_of(ssh.args(["-p", &sshd.port().to_string(), "-l", sshd.user(), "127.0.0.1", "true"]));
}

#[test]
fn a_person_confirms_on_the_terminal() {
    let (one, two) = (Sshd::start(), Sshd::builder().host_keys(&["ecdsa"]).start());
    let (site, known) = site(&[("NDXONE", &one), ("NDXTWO", &two)]);
    for (answer, code) in [("n", 4), ("y", 0)] {
        assert!(!known.exists());
        let (child, mut terminal) = Terminal::start(&mut site.command(&["trust", "--all"]));
        terminal.until(&format!("Record 2 keys in {}?", known.display()));
        for fingerprint in [one.fingerprint("ed25519"), two.fingerprint("ecdsa")] {
            assert!(terminal.shown.contains(&fingerprint), "{fingerprint} in {}", terminal.shown);
        }
        terminal.answer(answer);
        terminal.rest();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", terminal.shown);
    }
    real_client_knows(&site, &one);
    real_client_knows(&site, &two);
    site.run_well(&["status", "--all"]);
}

#[test]
fn without_a_terminal_keys_are_shown_and_not_recorded() {
    let (one, two) = (Sshd::start(), Sshd::builder().host_keys(&["rsa"]).start());
    let (site, known) = site(&[("NDXONE", &one), ("NDXTWO", &two)]);
    let ended = site.run(&["trust", "--all"]);
    assert_eq!(ended.code, 4, "{}", ended.story());
    assert!(!known.exists());
    let shown: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str, sshd: &Sshd, kind: &str, file| {
        [name, &format!("[127.0.0.1]:{}", sshd.port()), kind, &sshd.fingerprint(file), "new"].map(str::to_owned)
    };
    assert_eq!(shown[1], row("NDXONE", &one, "ssh-ed25519", "ed25519"));
    assert_eq!(shown[2], row("NDXTWO", &two, "ssh-rsa", "rsa"));
    assert_data_eq!(
        site.shown(&ended.stderr),
        str![[r#"
error: no key was recorded: there is no terminal to ask on
  next: compare the fingerprints with those that the machines show, then add --yes

"#]]
    );
    // The servers have seen nobody log on.
    assert!(!one.log().contains("userauth-request"), "{}", one.log());
}

#[test]
fn what_is_not_reached_over_ssh_is_passed_over() {
    let sshd = Sshd::start();
    let (site, _known) = site(&[("NDXONE", &sshd)]);
    let mut trust = site.command(&["trust", "--all", "--yes"]);
    // It was written just now.
    let inventory = site.dir().join("inventory.yaml");
    let text = fs::read_to_string(&inventory).unwrap();
    let text = text.replacen(
        "instruments:\n",
        "instruments:\n  NDXFAR: {transport: {winrm: {user: g, password: w}}, secrets: {w: {env: W}}}\n",
        1,
    );
    fs::write(&inventory, text).unwrap();
    let ended = Ended::of(&mut trust);
    assert_eq!(ended.code, 0, "{}", ended.story());
    assert!(ended.stdout.contains("recorded now"), "{}", ended.story());
    assert!(ended.stdout.ends_with("\npassed over, as only SSH has host keys: NDXFAR\n"), "{}", ended.story());
}

#[test]
fn what_is_known_is_not_recorded_twice() {
    let (one, two) = (Sshd::start(), Sshd::builder().host_keys(&["ecdsa", "rsa"]).start());
    // Two instruments have a server in common.
    let (site, known) = site(&[("NDXONE", &one), ("NDXTWIN", &one), ("NDXTWO", &two)]);
    fs::write(&known, "# kept by hand").unwrap();
    let ended = site.run_well(&["trust", "--all", "--yes"]);
    assert_eq!(ended.stdout.matches("recorded now").count(), 3, "{}", ended.story());
    let text = fs::read_to_string(&known).unwrap();
    let (port, other) = (one.port(), two.port());
    let wanted = format!(
        "# kept by hand\n[127.0.0.1]:{port} {}\n[127.0.0.1]:{other} {}\n",
        one.host_key("ed25519"),
        two.host_key("ecdsa")
    );
    assert_eq!(text, wanted);
    real_client_knows(&site, &one);
    real_client_knows(&site, &two);
    let ended = site.run_well(&["trust", "--all", "--yes"]);
    let states: Vec<&str> = ended.stdout.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(states, ["known"; 3], "{}", ended.story());
    assert_eq!(fs::read_to_string(&known).unwrap(), wanted);
    site.run_well(&["status", "--all"]);
}

#[test]
fn a_changed_key_is_replaced_only_when_that_is_asked() {
    let (mut one, two) = (Sshd::start(), Sshd::start());
    let (site, known) = site(&[("NDXONE", &one), ("NDXTWO", &two), ("NDXTWIN", &one)]);
    let (old, at) = (one.host_key("ed25519"), format!("[127.0.0.1]:{}", one.port()));
    let others = format!("# desks\n\nndxzoom,130.246.0.1 {old} root@zoom\n@revoked ndxzoom {old}\n");
    let before = format!("{others}{at},armour {old}\n{at} {old} again\n[127.0.0.1]:{} {}\n", two.port(), two.host_key("ed25519"));
    fs::write(&known, &before).unwrap();
    one.set_up_anew();

    let ended = site.run(&["trust", "--all", "--yes"]);
    assert_eq!(ended.code, 1, "{}", ended.story());
    assert!(ended.stdout.contains(&one.fingerprint("ed25519")), "{}", ended.story());
    assert_data_eq!(
        site.shown(ended.stdout.split_once("known\n").unwrap().1),
        str![[r#"
NDXONE: the host key has changed: recorded is SHA256:[..] ([SITE]/home/.ssh/known_hosts:5). Somebody may be between this machine and it, or it was set up anew: compare the fingerprint on its own screen, then give --replace
NDXTWIN: the host key has changed: recorded is SHA256:[..] ([SITE]/home/.ssh/known_hosts:5). Somebody may be between this machine and it, or it was set up anew: compare the fingerprint on its own screen, then give --replace

"#]]
    );
    assert_eq!(fs::read_to_string(&known).unwrap(), before);

    site.run_well(&["trust", "--all", "--yes", "--replace"]);
    let after = format!(
        "{others}armour {old}\n[127.0.0.1]:{} {}\n{at} {}\n",
        two.port(),
        two.host_key("ed25519"),
        one.host_key("ed25519")
    );
    assert_eq!(fs::read_to_string(&known).unwrap(), after);
    assert_eq!(fs::read_to_string(known.with_extension("old")).unwrap(), before);
    real_client_knows(&site, &one);
    site.run_well(&["status", "--all"]);
}

#[test]
fn hosts_that_are_gone_through_are_recorded_first() {
    let (sshd, gate, inner) = (Sshd::start(), Sshd::start(), Sshd::start());
    let (mut site, known) = site(&[]);
    for bastion in [&gate, &inner] {
        bastion.let_in(&sshd.key().with_extension("pub"));
    }
    let jumps: Vec<String> = [&gate, &inner].map(|s| format!("{}@127.0.0.1:{}", s.user(), s.port())).into();
    let settings = SshSettings::of(&sshd).without("known_hosts").with("proxy_jump", jumps.join(","));
    site.add_with_agent("NDXONE", settings.clone());
    site.add_with_agent("NDXTWO", settings);
    // Without a terminal only the first is seen: nothing is sent through a host that is not known.
    let ended = site.run(&["trust", "--all"]);
    assert_eq!(ended.code, 4, "{}", ended.story());
    assert!(ended.stdout.contains(&gate.fingerprint("ed25519")) && !known.exists(), "{}", ended.story());
    assert!(!gate.log().contains("Accepted"), "{}", gate.log());

    let (child, mut terminal) = Terminal::start(&mut site.command(&["trust", "--all"]));
    for server in [&gate, &inner, &sshd] {
        // The rows of a question stand before it.
        terminal.until(&server.fingerprint("ed25519"));
        terminal.until("Record 1 key in ");
        terminal.shown.clear();
        terminal.answer("y");
    }
    terminal.rest();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", terminal.shown);
    assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 3);
    real_client_knows(&site, &gate);
    site.run_well(&["status", "--all"]);
}
