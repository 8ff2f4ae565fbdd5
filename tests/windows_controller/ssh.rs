//! A release from Windows to instruments behind real SSH servers. They are Linux machines: their agent is another build.

use crate::agent::SshAgent;
use crate::command::{Ended, unlike};
use crate::operator::{Operator, run};
use ibexdeploy::rehearsal::{KitShape, make_kits};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ibexdeploy");
const NEWER: &str = "26.9.0";

/// Two instruments behind SSH servers; ended with the test.
struct Servers {
    folder: PathBuf,
}

impl Servers {
    /// With the operator's key and the known host keys where OpenSSH has them on Windows, and an inventory that names neither.
    fn up(operator: &Operator) -> Self {
        let servers = Self { folder: operator.dir().join("fleet") };
        let kits = operator.repository().join("kits");
        make_kits(&kits, &KitShape::small().without_git()).expect("kits can be made");
        run(servers.script("up").args(["2", "--transport", "ssh", "--bin", BINARY, "--kits"]).arg(&kits));
        let ssh = operator.profile().join(".ssh");
        std::fs::create_dir_all(&ssh).expect("a folder");
        for name in ["id_ed25519", "known_hosts"] {
            run(Command::new("cp").arg(servers.folder.join(name)).arg(&ssh));
        }
        let inventory = std::fs::read_to_string(servers.folder.join("inventory.yaml")).expect("an inventory");
        let lines: Vec<&str> = inventory
            .lines()
            .filter(|line| !line.starts_with("        key:") && !line.starts_with("        known_hosts:"))
            .map(|line| if line.trim_start().starts_with("ssh: {user: gamekeeper") { "    ssh: {timeout: 20s}" } else { line })
            .collect();
        std::fs::write(operator.repository().join("inventory/ndx.yaml"), lines.join("\r\n")).expect("written");
        servers
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fleet"));
        script.args([command, "--dir"]).arg(&self.folder).stdin(Stdio::null());
        script
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // What it says is of no use when the test has failed already.
        let _ = self.script("down").output();
    }
}

fn release(operator: &Operator) -> Ended {
    operator.run(&["release", "NDXLARMOR,NDXZOOM", "--kits", "kits", "--yes", "--output", "json"])
}

#[test]
fn two_instruments_get_a_release_with_the_agent_that_lies_beside_the_program() {
    let Some(operator) = Operator::new() else { return };
    let servers = Servers::up(&operator);

    let without = operator.run(&["check", "NDXLARMOR", "--output", "json"]);
    assert_ne!(without.code, 0, "{}", without.story());
    assert!(without.stdout.contains("ibexdeploy-x86_64-linux"), "it says which file is needed: {}", without.story());
    run(Command::new("strip").arg("-o").arg(operator.program().with_file_name("ibexdeploy-x86_64-linux")).arg(BINARY));

    let released = release(&operator);
    assert_eq!(released.code, 0, "{}", released.story());
    for name in ["NDXLARMOR", "NDXZOOM"] {
        assert!(released.last(name, "bringing").is_some(), "the agent was brought to {name}: {}", released.story());
        assert_eq!(released.outcome(name), "changed", "{}", released.story());
    }
    let root = servers.folder.join("sandboxes/NDXLARMOR");
    assert_eq!(unlike(&root, &operator.repository().join("kits").join(NEWER), &["ICP_Binaries"]), [""; 0]);
    let again = release(&operator);
    assert_eq!((again.code, again.outcome("NDXZOOM").as_str()), (0, "ok"), "{}", again.story());

    // Without a key file, the SSH agent's keys are all there is; none runs on this PC.
    std::fs::rename(operator.profile().join(".ssh/id_ed25519"), operator.dir().join("key")).expect("moved");
    let refused = operator.run(&["check", "NDXLARMOR"]);
    assert_ne!(refused.code, 0, "{}", refused.story());
    assert!(refused.stdout.contains("no SSH agent runs"), "{}", refused.story());

    let agent = SshAgent::start(&operator, &operator.dir().join("key"));
    let by_agent = operator.run(&["-vv", "check", "NDXLARMOR"]);
    assert_eq!(by_agent.code, 0, "{}", by_agent.story());
    assert!(by_agent.stderr.contains("the agent's key"), "{}", by_agent.story());
    drop(agent);

    // A machine whose host key is not known is named, and what to do.
    std::fs::rename(operator.dir().join("key"), operator.profile().join(".ssh/id_ed25519")).expect("moved");
    std::fs::remove_file(operator.profile().join(".ssh/known_hosts")).expect("removed");
    let unknown = operator.run(&["check", "NDXLARMOR"]);
    assert!(unknown.code != 0 && unknown.stdout.contains("ibexdeploy trust"), "{}", unknown.story());
    let trusted = operator.run(&["trust", "NDXLARMOR", "--yes"]);
    assert_eq!(trusted.code, 0, "{}", trusted.story());
    let known = std::fs::read_to_string(operator.profile().join(".ssh/known_hosts")).expect("recorded");
    assert!(known.contains("127.0.0.1") || known.to_lowercase().contains("ndxlarmor"), "{known}");
    let checked = operator.run(&["check", "NDXLARMOR"]);
    assert_eq!(checked.code, 0, "{}", checked.story());
}
