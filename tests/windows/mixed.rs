//! One run with instruments of every kind: sandboxes of this machine, behind SSH and behind WinRM, and Wine behind both.

use crate::command::{Ended, unlike};
use crate::machines::{Machines, NEWER};
use crate::service::{PASSWORD, Service, Settings};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Sandboxes by `scripts/fleet`, each behind an SSH server of its own. They end with the test.
struct Sandboxes(PathBuf);

impl Sandboxes {
    fn up(folder: &Path, kits: &Path) -> Self {
        let sandboxes = Self(folder.to_owned());
        let mut up = sandboxes.script("up");
        let up = up.args(["5", "--transport", "ssh", "--bin", env!("CARGO_BIN_EXE_ibexdeploy"), "--kits"]).arg(kits);
        let done = up.output().expect("it starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        sandboxes
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fleet"));
        script.args([command, "--dir"]).arg(&self.0).stdin(Stdio::null());
        script
    }

    fn root(&self, name: &str) -> PathBuf {
        self.0.join("sandboxes").join(name)
    }
}

impl Drop for Sandboxes {
    fn drop(&mut self) {
        // The test's own end is what counts.
        let _ = self.script("down").output();
    }
}

/// The lines of an instrument in an inventory of `scripts/fleet`.
fn lines_of(inventory: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(inventory).expect("an inventory");
    let from = text.split_once(&format!("\n  {name}:\n")).expect("the instrument").1;
    let own = from.lines().take_while(|line| line.starts_with("    "));
    own.fold(format!("  {name}:\n"), |all, line| all + line + "\n")
}

fn by_winrm(name: &str, settings: &Settings, account: &Value) -> String {
    let transport = json!({"winrm": settings.0});
    format!("  {name}: {{transport: {transport}, secrets: {{word: {{env: IBEXDEPLOY_TEST_WORD}}}}, accounts: {account}}}\n")
}

#[test]
fn sandboxes_and_windows_over_ssh_and_winrm_are_released_in_one_run() {
    let Some(machines) = Machines::up_with(2, "wine-ssh", &["--also-linux"]) else { return };
    let sandboxes = Sandboxes::up(&machines.dir().join("boxes"), &machines.kits());
    let [over_ssh, over_winrm] = ["NDXLARMOR", "NDXZOOM"];
    let [box_local, box_ssh, box_winrm] = ["NDXARGUS", "NDXCHRONUS", "NDXEMU"];
    let prefix = machines.prefix(over_winrm).display().to_string();
    let Some(windows) = Service::start(&["--auth", "negotiate", "--wine", &prefix]) else { return };
    let Some(linux) = Service::start(&["--auth", "negotiate"]) else { return };

    let text = std::fs::read_to_string(machines.inventory()).expect("an inventory");
    let mut inventory = text.split_once("\ninstruments:\n").expect("instruments").0.to_owned() + "\ninstruments:\n";
    inventory += &lines_of(&machines.inventory(), over_ssh);
    let user = Command::new("id").arg("-un").output().expect("a user");
    let account = json!({"instrument": {"user": String::from_utf8_lossy(&user.stdout).trim()}});
    inventory += &by_winrm(over_winrm, &windows.settings().with("timeout", "60s"), &account);
    let _ = writeln!(inventory, "  {box_local}: {{transport: {{local: {{root: {}}}}}}}", sandboxes.root(box_local).display());
    inventory += &lines_of(&sandboxes.0.join("inventory.yaml"), box_ssh);
    let root = sandboxes.root(box_winrm).display().to_string();
    inventory += &by_winrm(box_winrm, &linux.settings().with("root", root), &json!({}));
    let path = machines.dir().join("mixed.yaml");
    std::fs::write(&path, inventory).expect("an inventory can be written");

    let run = |arguments: &[&str]| {
        let mut command = machines.command_of(arguments, &path);
        let ended = Ended::of(command.args(["--output", "json"]).env("IBEXDEPLOY_TEST_WORD", PASSWORD));
        assert_eq!(ended.code, 0, "{arguments:?}: {}{}", ended.story(), machines.logs());
        ended
    };
    let released = run(&["release", "--all", "--yes"]);
    for name in [over_ssh, over_winrm] {
        assert_eq!(released.outcome(name), "changed", "{}", released.story());
        assert_eq!(machines.unlike(name, NEWER), [""; 0], "{name}");
        machines.is_quiet(name);
    }
    for name in [box_local, box_ssh, box_winrm] {
        assert_eq!(released.outcome(name), "changed", "{}", released.story());
        assert_eq!(unlike(&sandboxes.root(name), &machines.kits().join(NEWER), &[]), [""; 0], "{name}");
    }
    assert_eq!((windows.shells(), linux.shells()), (0, 0), "no shell is left behind");
    let status = run(&["status", "--all"]);
    assert!(status.stdout.contains(NEWER) && !status.stdout.contains("26.8.0"), "{}", status.stdout);
}
