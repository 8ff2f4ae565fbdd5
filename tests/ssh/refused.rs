//! Instruments that cannot be reached: each says why and what to do, and none is in another's way.

use crate::support::sshd::{free_port, keygen};
use crate::support::{Home, LocalUser, Shell, Site, SshSettings, Sshd, Stranger};
use snapbox::{assert_data_eq, str};

/// The settings of a server, for what is to fail soon.
pub(crate) fn hasty(sshd: &Sshd) -> SshSettings {
    SshSettings::of(sshd).with("timeout", "3s")
}

/// A site with the instrument NDXWELL, which is.
pub(crate) fn site(well: &Sshd) -> Site {
    let mut site = Site::new();
    site.add_with_agent("NDXWELL", SshSettings::of(well));
    site.hide(format!("{}@", well.user()), "[USER]@");
    site
}

/// What the operator reads about all instruments, but NDXWELL, of which it says only that it is well.
pub(crate) fn told(site: &Site) -> String {
    let ended = site.run(&["status", "--all"]);
    assert_eq!(ended.code, 1, "{}", ended.story());
    assert_eq!(ended.stderr, "");
    let well = ended.stdout.lines().find(|line| line.starts_with("NDXWELL")).expect("a row");
    assert!(well.contains("C: ") && !ended.stdout.contains("on NDXWELL"), "{}", ended.story());
    let (_, errors) = ended.stdout.split_once("error: ").expect("errors");
    site.shown(&format!("error: {errors}"))
}

#[test]
fn host_keys_that_are_not_the_known_ones() {
    let well = Sshd::start();
    let mut site = site(&well);
    let [mut changed, revoked, unknown] = [(); 3].map(|()| Sshd::start());
    let other = Sshd::builder().host_keys(&["ecdsa"]).start();
    changed.set_up_anew();
    let line = format!("@revoked * {}\n", revoked.host_key("ed25519"));
    std::fs::write(revoked.known_hosts(), line + &std::fs::read_to_string(revoked.known_hosts()).unwrap()).unwrap();
    std::fs::write(unknown.known_hosts(), "").unwrap();
    let line = format!("[127.0.0.1]:{} {}\n", other.port(), well.host_key("ed25519"));
    std::fs::write(other.known_hosts(), line).unwrap();
    for (name, sshd) in [("NDXCHANGED", &changed), ("NDXREVOKED", &revoked), ("NDXUNKNOWN", &unknown), ("NDXOTHERKIND", &other)] {
        site.add(name, hasty(sshd));
        site.hide(sshd.port(), &format!("[PORT OF {name}]"));
        site.hide(sshd.known_hosts().display(), "[KNOWN HOSTS]");
    }
    assert_data_eq!(
        told(&site),
        str![[r#"
error: THE HOST KEY OF [127.0.0.1]:[PORT OF NDXCHANGED] HAS CHANGED: it shows ssh-ed25519 SHA256:[..], known is SHA256:[..] ([KNOWN HOSTS]:1); somebody may be between this machine and it, or it was set up anew. Nothing was sent to it
  on NDXCHANGED
  next: ask who set it up and compare the fingerprint on its own screen; only then `ibexdeploy trust --replace NDXCHANGED`
error: [127.0.0.1]:[PORT OF NDXOTHERKIND] shows a host key of another kind than is known: ecdsa-sha2-nistp256 SHA256:[..], known is ssh-ed25519 SHA256:[..] ([KNOWN HOSTS]:1)
  on NDXOTHERKIND
  next: if the machine was set up anew, `ibexdeploy trust --replace NDXOTHERKIND` records the new key
error: the host key of [127.0.0.1]:[PORT OF NDXREVOKED], ssh-ed25519 SHA256:[..], is revoked ([KNOWN HOSTS]:1). Nothing was sent to it
  on NDXREVOKED
  next: make a new host key on the machine, and find out why this one was revoked
error: the host key of [127.0.0.1]:[PORT OF NDXUNKNOWN] is not known: it shows ssh-ed25519 SHA256:[..]
  on NDXUNKNOWN
  next: compare the fingerprint on the machine, then `ibexdeploy trust NDXUNKNOWN` records it

"#]]
    );
    // Nobody has tried to log on.
    for sshd in [&changed, &revoked, &unknown, &other] {
        assert!(!sshd.log().contains("userauth-request"), "{}", sshd.log());
    }
    site.playbook("check", "stage:\n  - command: {run: 'true', read_only: true}\n");
    let table = site.run(&["check", "--all"]).stdout;
    for (name, word) in [("NDXCHANGED", "WRONG"), ("NDXREVOKED", "WRONG"), ("NDXOTHERKIND", "WRONG"), ("NDXUNKNOWN", "NOT KNOWN")]
    {
        let row = table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        assert!(row.contains(word), "{row}");
    }
}

#[test]
fn places_where_no_server_answers() {
    let well = Sshd::start();
    let mut site = site(&well);
    let hangs = Stranger::saying("SSH-2.0-OpenSSH_9.2p1\r\n", false);
    let silent = Stranger::saying("", false);
    let web = Stranger::saying("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", true);
    let closed = free_port();
    let at = |port| hasty(&well).with_port(port).with("timeout", "2s");
    for (name, port) in [("NDXHANGS", hangs.port()), ("NDXSILENT", silent.port()), ("NDXWEB", web.port()), ("NDXCLOSED", closed)]
    {
        site.add(name, at(port));
        site.hide(port, &format!("[PORT OF {name}]"));
    }
    site.add("NDXNAMELESS", hasty(&well).with("address", "nowhere.invalid"));
    // Each system has its own words for it.
    let told = told(&site);
    let told: Vec<&str> = told.lines().filter(|line| !line.contains("because: failed to lookup address")).collect();
    assert_data_eq!(
        told.join("\n"),
        str![[r#"
error: no SSH server listens on 127.0.0.1:[PORT OF NDXCLOSED]
  on NDXCLOSED
  because: Connection refused (os error 111)
  next: see whether the machine is up and its service sshd runs, and whether `port` is right
error: the key exchange with 127.0.0.1:[PORT OF NDXHANGS] took longer than 2s
  on NDXHANGS
  next: see whether the machine is overloaded, or a firewall swallows what is sent; `timeout:` gives it longer
error: there is no address for the host nowhere.invalid
  on NDXNAMELESS
  next: check `host` and `address` in the inventory, and whether this machine's name service works
error: the greeting of 127.0.0.1:[PORT OF NDXSILENT] took longer than 2s
  on NDXSILENT
  next: see whether the machine is overloaded, or a firewall swallows what is sent; `timeout:` gives it longer
error: no SSH session with 127.0.0.1:[PORT OF NDXWEB]
  on NDXWEB
  because: Failed getting banner
  because: it says `Connection: close`
  next: what listens there may be no SSH server: see whether `port` is right; or it takes no more connections at once (MaxStartups), and its own log says so
"#]]
    );
}

#[test]
fn keys_and_passwords_that_are_not_taken() {
    let Some(user) = LocalUser::create(Shell::Sh, Home::Own) else { return };
    let well = Sshd::start();
    let mut site = site(&well);
    let keys = Sshd::builder().user(&user).start();
    let passwords = Sshd::builder().user(&user).line("AuthenticationMethods password").passwords().start();
    let (strange, locked) = (site.dir().join("strange"), site.dir().join("locked"));
    keygen(&strange, "ed25519", "");
    keygen(&locked, "ed25519", "the right words");
    site.secret("wrong_password", "not the password");
    site.secret("wrong_passphrase", "not the words");
    site.add("NDXWRONGKEY", hasty(&keys).with("key", strange.display()));
    site.add("NDXNOKEY", hasty(&keys).with("key", site.dir().join("nowhere").display()));
    site.add("NDXLOCKEDKEY", hasty(&keys).with("key", locked.display()));
    site.add("NDXWRONGWORDS", hasty(&keys).with("key", locked.display()).with("passphrase", "wrong_passphrase"));
    site.add("NDXPASSWORD", hasty(&passwords).without("key").with("password", "wrong_password").with("timeout", "20s"));
    site.add("NDXNOPASSWORD", hasty(&passwords).without("key"));
    for (sshd, word) in [(&keys, "[PORT]"), (&passwords, "[PORT FOR PASSWORDS]")] {
        site.hide(sshd.port(), word);
    }
    site.hide(user.name(), "[USER]");
    assert_data_eq!(
        told(&site),
        str![[r#"
error: [USER]@127.0.0.1:[PORT] does not let us log on
  on NDXLOCKEDKEY
  because: it takes publickey; tried: the key [SITE]/locked has a passphrase, and none is known
  next: name the secret with the key's passphrase as `passphrase` in the transport's settings, or add the key to your SSH agent (`ssh-add`)
error: the key file [SITE]/nowhere is not there
  on NDXNOKEY
  next: correct `key` in the inventory, or put the key there
error: [USER]@127.0.0.1:[PORT FOR PASSWORDS] does not let us log on
  on NDXNOPASSWORD
  because: it takes password; tried: nothing at hand fits
  next: name the secret with the account's password as `password` in the transport's settings
error: [USER]@127.0.0.1:[PORT FOR PASSWORDS] does not let us log on
  on NDXPASSWORD
  because: it takes password; tried: the password: Authentication failed (username/password)
  next: see that the secret which `password` names is the account's password, and that the account is not locked
error: [USER]@127.0.0.1:[PORT] does not let us log on
  on NDXWRONGKEY
  because: it takes publickey; tried: the key [SITE]/strange (SHA256:[..]): Username/PublicKey combination invalid
  next: see that the key's public half stands in the authorized keys of [USER] there (on Windows those of administrators are in C:/ProgramData/ssh/administrators_authorized_keys)
error: [USER]@127.0.0.1:[PORT] does not let us log on
  on NDXWRONGWORDS
  because: it takes publickey; tried: the key [SITE]/locked: its passphrase is another one than was given, or the file is damaged
  next: correct the secret that `passphrase` names; `ssh-keygen -yf KEY` tries a passphrase

"#]]
    );
}

#[test]
fn a_run_goes_on_with_those_that_answer() {
    let well = Sshd::start();
    let mut site = site(&well);
    let unknown = Sshd::start();
    std::fs::write(unknown.known_hosts(), "").unwrap();
    site.add("NDXUNKNOWN", hasty(&unknown));
    site.playbook("mark", "stage:\n  - command: {run: 'echo done > /dev/null', read_only: true}\n");
    let ended = site.run(&["run", "mark", "--all", "--yes", "--output", "json"]);
    assert_eq!(ended.code, 1, "{}", ended.story());
    assert_eq!((ended.outcome("NDXWELL"), ended.outcome("NDXUNKNOWN")), ("ok".to_owned(), "unreachable".to_owned()));
    let last = ended.last("NDXUNKNOWN", "instrument_finished").unwrap();
    assert!(last["error"]["next"].as_str().unwrap().contains("ibexdeploy trust NDXUNKNOWN"), "{last}");
}

#[test]
fn a_bastion_that_forwards_nothing() {
    let well = Sshd::start();
    let mut site = site(&well);
    let bastion = Sshd::builder().line("AllowTcpForwarding no").start();
    let known = [&well, &bastion].map(|sshd| std::fs::read_to_string(sshd.known_hosts()).unwrap()).concat();
    std::fs::write(site.ssh_folder().join("known_hosts"), known).unwrap();
    let key = std::fs::read_to_string(well.key().with_extension("pub")).unwrap();
    std::fs::write(bastion.dir().join("authorized_keys"), key).unwrap();
    let jump = format!("{}@127.0.0.1:{}", bastion.user(), bastion.port());
    site.add("NDXBEHIND", hasty(&well).without("known_hosts").with("proxy_jump", jump));
    // The way to the bastion itself may be wrong as well.
    let jump = format!("{}@127.0.0.1:{}", bastion.user(), free_port());
    site.hide(jump.rsplit_once(':').unwrap().1, "[CLOSED PORT]");
    site.add("NDXFAR", hasty(&well).without("known_hosts").with("proxy_jump", jump));
    let stranger = Sshd::start();
    site.hide(stranger.port(), "[UNKNOWN PORT]");
    let jump = format!("{}@127.0.0.1:{}", stranger.user(), stranger.port());
    site.add("NDXSTRANGE", hasty(&well).without("known_hosts").with("proxy_jump", jump));
    site.hide(well.port(), "[PORT]");
    site.hide(bastion.port(), "[PORT OF THE BASTION]");
    assert_data_eq!(
        told(&site),
        str![[r#"
error: cannot go through [USER]@127.0.0.1:[PORT OF THE BASTION]
  on NDXBEHIND
  because: the host that is gone through does not reach 127.0.0.1:[PORT]
  because: Channel open failure (administratively prohibited)
  next: see whether it may forward connections (AllowTcpForwarding), and knows that host
error: cannot go through [USER]@127.0.0.1:[CLOSED PORT]
  on NDXFAR
  because: no SSH server listens on 127.0.0.1:[CLOSED PORT]
  because: Connection refused (os error 111)
  next: see whether the machine is up and its service sshd runs, and whether `port` is right
error: cannot go through [USER]@127.0.0.1:[UNKNOWN PORT]
  on NDXSTRANGE
  because: the host key of [127.0.0.1]:[UNKNOWN PORT] is not known: it shows ssh-ed25519 SHA256:[..]
  next: compare the fingerprint on the machine, then `ibexdeploy trust NDXSTRANGE` records it

"#]]
    );
}
