//! Files of known host keys in all the forms that OpenSSH writes and takes.

use crate::support::{Site, SshSettings, Sshd, output_of, told};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the real client makes of a file of known hosts: that it takes the server, or why not.
fn real_client(sshd: &Sshd, known: &Path) -> Result<(), String> {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display())).arg("-i").arg(sshd.key());
    let output = ssh.args(["-p", &sshd.port().to_string(), "-l", sshd.user(), "127.0.0.1", "true"]).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(told(&output)) }
}

#[test]
fn all_forms_that_the_real_client_takes() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let mut site = Site::new();
    let (name, key) = (format!("[127.0.0.1]:{}", sshd.port()), sshd.host_key("ed25519"));
    let (kind, digits) = key.split_once(' ').unwrap();
    let strange = other.host_key("ed25519");
    let forms = [
        ("NDXPLAIN", format!("{name} {key}\n")),
        ("NDXNOEND", format!("{name} {key}")),
        ("NDXCOMMENTED", format!("# {name} {strange}\n\n   # indented\n{name} {key} root@somewhere on a desk\n")),
        ("NDXTABS", format!("\t{name}\t{kind} \t{digits}\t\n")),
        ("NDXWINDOWS", format!("{name} {key}\r\n")),
        ("NDXSEVERAL", format!("ndxzoom,{name},130.246.0.1 {key}\n")),
        ("NDXWILD", format!("[127.0.*]:{} {key}\n", sshd.port())),
        ("NDXANY", format!("* {key}\n")),
        ("NDXQUESTION", format!("[127.0.0.?]:* {key}\n")),
        ("NDXNOPORT", format!("127.0.0.1 {key}\n")),
        ("NDXNOTPORT", format!("!{name},* {key}\n")),
        ("NDXSECOND", format!("{name} {strange}\n{name} {key}\n")),
        ("NDXELSEWHERE", format!("elsewhere {strange}\n@revoked * {strange}\n{name} {key}\n")),
        ("NDXBROKEN", format!("{name}\n{name} ssh-ed25519 AAAA\n{name} ssh-new-kind AAAA\n@new-mark * {key}\n{name} {key}\n")),
    ];
    let mut hashed = String::new();
    for (instrument, text) in &forms {
        let file = site.dir().join(format!("known-{instrument}"));
        fs::write(&file, text).unwrap();
        assert_eq!(real_client(&sshd, &file), Ok(()), "{instrument}");
        site.add_with_agent(instrument, SshSettings::of(&sshd).with("known_hosts", file.display()));
        if *instrument == "NDXELSEWHERE" {
            hashed = text.replace("@revoked * ", "other ");
        }
    }
    let file = site.dir().join("hashed");
    fs::write(&file, hashed).unwrap();
    output_of(Command::new("ssh-keygen").arg("-Hf").arg(&file));
    assert!(fs::read_to_string(&file).unwrap().starts_with("|1|"));
    site.add_with_agent("NDXHASHED", SshSettings::of(&sshd).with("known_hosts", file.display()));
    site.run_well(&["status", "--all"]);
}

#[test]
fn forms_that_the_real_client_refuses() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    let (port, key, strange) = (sshd.port(), sshd.host_key("ed25519"), Sshd::start().host_key("ed25519"));
    let name = format!("[127.0.0.1]:{port}");
    let forms = [
        ("NDXREVOKED", format!("{name} {key}\n@revoked * {key}\n"), "is revoked"),
        ("NDXREVOKEDFIRST", format!("@revoked {name}\t{key}\n{name} {key}\n"), "is revoked"),
        ("NDXNOT", format!("!{name},!127.0.0.1,* {key}\n"), "is not known"),
        ("NDXOWNPORT", format!("127.0.0.1 {key}\n{name} {strange}\n"), "HAS CHANGED"),
        ("NDXOTHERPORT", format!("[127.0.0.1]:{} {key}\n", port - 1), "is not known"),
        ("NDXCOMMENT", format!("# {name} {key}\n"), "is not known"),
        ("NDXAUTHORITY", format!("@cert-authority * {key}\n"), "is not known"),
        ("NDXMARK", format!("@new-mark {name} {key}\n"), "is not known"),
        ("NDXNOTHING", String::new(), "is not known"),
    ];
    for (instrument, text, _) in &forms {
        let file = site.dir().join(format!("known-{instrument}"));
        fs::write(&file, text).unwrap();
        assert!(real_client(&sshd, &file).is_err_and(|told| told.contains("ost key")), "{instrument}");
        site.add_with_agent(instrument, SshSettings::of(&sshd).with("known_hosts", file.display()));
    }
    let ended = site.run(&["status", "--all", "--output", "json"]);
    assert_eq!(ended.code, 1, "{}", ended.story());
    let rows: Vec<serde_json::Value> = serde_json::from_str(&ended.stdout).unwrap();
    for (instrument, _, says) in &forms {
        let row = rows.iter().find(|row| row["instrument"] == *instrument).unwrap();
        assert!(row["error"]["message"].as_str().is_some_and(|message| message.contains(says)), "{row}");
    }
}

#[test]
fn one_known_key_of_several() {
    let sshd = Sshd::builder().host_keys(&["ed25519", "ecdsa", "rsa"]).start();
    let mut site = Site::new();
    for (instrument, kind) in [("NDXED", "ed25519"), ("NDXEC", "ecdsa"), ("NDXRSA", "rsa")] {
        let file = site.dir().join(kind);
        fs::write(&file, format!("[127.0.0.1]:{} {}\n", sshd.port(), sshd.host_key(kind))).unwrap();
        assert_eq!(real_client(&sshd, &file), Ok(()), "{kind}");
        site.add_with_agent(instrument, SshSettings::of(&sshd).with("known_hosts", file.display()));
    }
    site.run_well(&["status", "--all"]);
}
