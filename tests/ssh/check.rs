//! `check`: how far each instrument is reached, in one table.

use crate::support::sshd::free_port;
use crate::support::{Site, SshSettings, Sshd};
use snapbox::{assert_data_eq, str};

/// One instrument in each state.
fn site(sshd: &Sshd, unknown: &Sshd, strange: &Sshd) -> Site {
    let mut site = Site::new();
    let settings = SshSettings::of(sshd);
    std::fs::write(unknown.known_hosts(), "").unwrap();
    let closed = free_port();
    site.add_with_agent("NDXWELL", settings.clone());
    site.add_with_agent("NDXALSO", settings.clone());
    site.add("NDXUNKNOWN", SshSettings::of(unknown));
    site.add("NDXREFUSED", settings.clone().with("key", strange.key().display()));
    site.add("NDXCLOSED", settings.clone().with_port(closed));
    site.add("NDXNOAGENT", settings.with("agent", "preinstalled"));
    site.playbook("check", "stage:\n  - command: {run: 'true', read_only: true}\n");
    site.hide(format!("{}@", sshd.user()), "[USER]@");
    site.hide(format!("authorized keys of {} there", sshd.user()), "authorized keys of [USER] there");
    site.hide(sshd.port(), "[PORT]");
    site.hide(unknown.port(), "[PORT OF NDXUNKNOWN]");
    site.hide(closed, "[CLOSED PORT]");
    site.hide(strange.key().display(), "[KEY]");
    site
}

#[test]
fn a_table_of_all_states_and_its_json() {
    let (sshd, unknown, strange) = (Sshd::start(), Sshd::start(), Sshd::start());
    let mut site = site(&sshd, &unknown, &strange);
    let ended = site.run(&["check", "--all", "--output", "json"]);
    assert_eq!(ended.code, 1, "{}", ended.story());
    let mut rows: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    for row in rows.as_array_mut().unwrap() {
        if let Some(build) = row["agent"].as_str() {
            site.hide(build, "[BUILD]");
        }
        if row["status"].is_object() {
            assert!(row["status"]["free"]["C:"].is_u64(), "{row}");
            row["status"] = "[STATUS]".into();
        }
    }
    let rows = serde_json::to_string_pretty(&rows).unwrap();
    assert_data_eq!(
        site.shown(&rows),
        str![[r#"
[
  {
    "agent": "[BUILD]",
    "by": "ssh",
    "host": "NDXALSO.isis.cclrc.ac.uk",
    "host_key": true,
    "instrument": "NDXALSO",
    "logon": true,
    "reached": true,
    "status": "[STATUS]",
    "steps": [
      {
        "error": null,
        "fetch_bytes": 0,
        "id": "stage.01.command",
        "items": [],
        "summary": "`true` would run; what it changes is its own affair",
        "verdict": "unknown"
      }
    ]
  },
  {
    "by": "ssh",
    "error": {
      "causes": [
        "Connection refused (os error 111)"
      ],
      "host": "NDXCLOSED",
      "kind": "unreachable",
      "message": "no SSH server listens on 127.0.0.1:[CLOSED PORT]",
      "next": "see whether the machine is up and its service sshd runs, and whether `port` is right",
      "temporary": true
    },
    "host": "NDXCLOSED.isis.cclrc.ac.uk",
    "instrument": "NDXCLOSED",
    "reached": false,
    "steps": []
  },
  {
    "by": "ssh",
    "error": {
      "host": "NDXNOAGENT",
      "kind": "no_agent",
      "message": "the agent does not start, and none may be brought (`agent: preinstalled`)",
      "next": "put this build of ibexdeploy there as [SITE]/roots/NDXNOAGENT/.ibexdeploy/bin/ibexdeploy, or let it be brought",
      "output": [
        "bash: line 1: [SITE]/roots/NDXNOAGENT/.ibexdeploy/bin/ibexdeploy: No such file or directory"
      ],
      "temporary": false
    },
    "host": "NDXNOAGENT.isis.cclrc.ac.uk",
    "host_key": true,
    "instrument": "NDXNOAGENT",
    "logon": true,
    "reached": true,
    "steps": []
  },
  {
    "by": "ssh",
    "error": {
      "causes": [
        "it takes publickey; tried: the key [KEY] (SHA256:[..]): Username/PublicKey combination invalid"
      ],
      "host": "NDXREFUSED",
      "kind": "logon",
      "message": "[USER]@127.0.0.1:[PORT] does not let us log on",
      "next": "see that the key's public half stands in the authorized keys of [USER] there (on Windows those of administrators are in C://ProgramData//ssh//administrators_authorized_keys)",
      "temporary": false
    },
    "host": "NDXREFUSED.isis.cclrc.ac.uk",
    "host_key": true,
    "instrument": "NDXREFUSED",
    "logon": false,
    "reached": true,
    "steps": []
  },
  {
    "by": "ssh",
    "error": {
      "host": "NDXUNKNOWN",
      "kind": "host_key",
      "message": "the host key of [127.0.0.1]:[PORT OF NDXUNKNOWN] is not known: it shows ssh-ed25519 SHA256:[..]",
      "next": "compare the fingerprint on the machine, then `ibexdeploy trust NDXUNKNOWN` records it",
      "temporary": false
    },
    "host": "NDXUNKNOWN.isis.cclrc.ac.uk",
    "host_key": false,
    "instrument": "NDXUNKNOWN",
    "reached": true,
    "steps": []
  },
  {
    "agent": "[BUILD]",
    "by": "ssh",
    "host": "NDXWELL.isis.cclrc.ac.uk",
    "host_key": true,
    "instrument": "NDXWELL",
    "logon": true,
    "reached": true,
    "status": "[STATUS]",
    "steps": [
      {
        "error": null,
        "fetch_bytes": 0,
        "id": "stage.01.command",
        "items": [],
        "summary": "`true` would run; what it changes is its own affair",
        "verdict": "unknown"
      }
    ]
  }
]
"#]]
    );

    let ended = site.run(&["check", "--all"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""), "{}", ended.story());
    // Columns are as wide as the numbers of this machine.
    let is_size = |word: &str| word.contains('.') && word.parse::<f64>().is_ok();
    let number = |word: &str| if is_size(word) { "[N]" } else { word }.to_owned();
    let words = |line: &str| line.split_whitespace().map(number).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = site.shown(&ended.stdout).lines().map(words).collect();
    assert_data_eq!(
        lines.join("\n"),
        str![[r#"
INSTRUMENT REACHED HOST KEY LOGON AGENT LOGGED ON FREE MEMORY VERSIONS LOCK REBOOT CHECKS
NDXALSO yes known ok [BUILD] spudulike C: [N] GB [N] GB ok
NDXCLOSED NO
NDXNOAGENT yes known ok NO
NDXREFUSED yes known REFUSED
NDXUNKNOWN yes NOT KNOWN
NDXWELL yes known ok [BUILD] spudulike C: [N] GB [N] GB ok

error: no SSH server listens on 127.0.0.1:[CLOSED PORT]
on NDXCLOSED
because: Connection refused (os error 111)
next: see whether the machine is up and its service sshd runs, and whether `port` is right
error: the agent does not start, and none may be brought (`agent: preinstalled`)
on NDXNOAGENT
the last lines it wrote:
| bash: line 1: [SITE]/roots/NDXNOAGENT/.ibexdeploy/bin/ibexdeploy: No such file or directory
next: put this build of ibexdeploy there as [SITE]/roots/NDXNOAGENT/.ibexdeploy/bin/ibexdeploy, or let it be brought
error: [USER]@127.0.0.1:[PORT] does not let us log on
on NDXREFUSED
because: it takes publickey; tried: the key [KEY] (SHA256:[..]): Username/PublicKey combination invalid
next: see that the key's public half stands in the authorized keys of [USER] there (on Windows those of administrators are in C:/ProgramData/ssh/administrators_authorized_keys)
error: the host key of [127.0.0.1]:[PORT OF NDXUNKNOWN] is not known: it shows ssh-ed25519 SHA256:[..]
on NDXUNKNOWN
next: compare the fingerprint on the machine, then `ibexdeploy trust NDXUNKNOWN` records it
6 instruments looked at, 2 well. Nothing was changed.
"#]]
    );
}

#[test]
fn a_pattern_chooses_and_well_is_well() {
    let (sshd, unknown, strange) = (Sshd::start(), Sshd::start(), Sshd::start());
    let site = site(&sshd, &unknown, &strange);
    let ended = site.run_well(&["check", "WELL,also"]);
    assert!(ended.stdout.contains("2 instruments looked at, 2 well."), "{}", ended.story());
    assert!(!unknown.log().contains("Remote protocol version"), "{}", unknown.log());
    let ended = site.run(&["check", "NDXREFUSED", "--output", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &rows[0]["logon"], &rows[0]["host_key"]), (1, &false.into(), &true.into()), "{}", ended.story());
}
