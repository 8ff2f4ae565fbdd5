use super::*;
use crate::paths::WinPath;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Output};

/// Path and sha256 of all files below a folder, by programs that are not ours.
fn sums(folder: &Path) -> BTreeMap<String, String> {
    let line = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
    let output = Command::new("sh").args(["-c", line]).current_dir(folder).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|l| l.split_once("  ").unwrap()).map(|(sum, path)| (path.to_owned(), sum.to_owned())).collect()
}

fn spec(name: &str) -> SandboxSpec {
    let places = [
        ("server", "C:\\Instrument\\Apps\\EPICS"),
        ("client", "C:\\Instrument\\Apps\\Client_E4"),
        ("python", "C:\\Instrument\\Apps\\Python3"),
        ("var", "C:\\Instrument\\Var"),
    ];
    let places = places.map(|(name, path)| (name.to_owned(), WinPath::parse(path).unwrap()));
    SandboxSpec { name: name.to_owned(), host: format!("{}.example.org", name.to_lowercase()), places: places.into() }
}

fn sandbox(dir: &Path) -> Sandbox {
    let kits = make_kits(&dir.join("kits"), &KitShape::small().without_git()).unwrap();
    make_sandboxes(dir, &[spec("NDXLARMOR")], Some(&kits.older)).unwrap().remove(0)
}

/// Runs a script of the server as the agent does: by its name, in its folder.
fn script(sandbox: &Sandbox, line: &str) -> Output {
    let server = sandbox.place("server").unwrap();
    let path = format!(".:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(server).env("PATH", path).env("IBEX_ROOT", &sandbox.root).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Stops the sandbox's server also when a test fails.
struct StopServer<'a>(&'a Sandbox);

impl Drop for StopServer<'_> {
    fn drop(&mut self) {
        script(self.0, "stop_ibex_server.bat");
    }
}

#[test]
fn the_same_seed_gives_the_same_kits_and_another_one_others() {
    let dir = tempfile::tempdir().unwrap();
    let shape = KitShape::small();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    let made = make_kits(&a, &shape).unwrap();
    make_kits(&b, &shape).unwrap();
    make_kits(&c, &KitShape { seed: 7, ..shape.clone() }).unwrap();
    assert_eq!(sums(&a), sums(&b));
    assert_ne!(sums(&a), sums(&c));
    assert_eq!(made.older.components.keys().collect::<Vec<_>>(), ["Client", "EPICS", "genie_python_3"]);
    if made.has_git {
        let line = "git status --porcelain && git branch --show-current && git log --format=%s";
        let git = Command::new("sh").args(["-c", line]).current_dir(a.join("26.9.0/EPICS")).output().unwrap();
        assert_eq!(text(&git), "main\nRelease 26.9.0\nRelease 26.8.0\n");
    }
}

#[test]
fn the_newer_release_changes_adds_and_removes_a_little() {
    let dir = tempfile::tempdir().unwrap();
    let shape = KitShape::realistic().without_git();
    make_kits(dir.path(), &shape).unwrap();
    let (old, new) = (sums(&dir.path().join("26.8.0/EPICS")), sums(&dir.path().join("26.9.0/EPICS")));
    let names = |sums: &BTreeMap<String, String>| sums.keys().cloned().collect::<BTreeSet<_>>();
    let per_mille = |count: usize| count * 1000 / old.len();
    let changed = old.iter().filter(|(path, sum)| new.get(*path).is_some_and(|n| n != *sum)).count();
    assert!((15..30).contains(&per_mille(changed)), "{changed} of {}", old.len());
    assert!((7..15).contains(&per_mille(names(&old).difference(&names(&new)).count())));
    assert!((7..15).contains(&per_mille(names(&new).difference(&names(&old)).count())));
    let bytes: u64 = old.keys().map(|p| std::fs::metadata(dir.path().join("26.8.0/EPICS").join(p)).unwrap().len()).sum();
    assert!((11_000_000..13_000_000).contains(&bytes), "{bytes}");
}

#[test]
fn kits_that_are_there_are_kept_and_broken_ones_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let shape = KitShape::small().without_git();
    make_kits(dir.path(), &shape).unwrap();
    let mark = dir.path().join("26.8.0/EPICS/mark");
    std::fs::write(&mark, "").unwrap();
    make_kits(dir.path(), &shape).unwrap();
    assert!(mark.exists());
    std::fs::remove_file(dir.path().join("26.9.0/.rehearsal-kit")).unwrap();
    make_kits(dir.path(), &shape).unwrap();
    assert!(!mark.exists());
}

#[test]
fn a_sandbox_holds_the_older_release_and_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path());
    let kit = |below: &str| sums(&dir.path().join("kits/26.8.0").join(below));
    for (place, below) in [("server", "EPICS"), ("client", "Client/Client"), ("python", "genie_python_3")] {
        assert_eq!(sums(&sandbox.place(place).unwrap()), kit(below), "{place}");
    }
    let identity = std::fs::read_to_string(sandbox.root.join(".ibexdeploy/identity.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<Identity>(&identity).unwrap(),
        Identity { name: "NDXLARMOR".into(), host: "ndxlarmor.example.org".into() }
    );
    let state = std::fs::read_to_string(sandbox.root.join(".ibexdeploy/sandbox.json")).unwrap();
    assert_eq!(serde_json::from_str::<SandboxState>(&state).unwrap(), SandboxState::default());
}

#[test]
fn sandboxes_that_are_there_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let before = sandbox(dir.path());
    let own: PathBuf = before.place("var").unwrap().join("own.txt");
    std::fs::write(&own, "x").unwrap();
    let specs = [spec("NDXLARMOR"), spec("NDXZOOM")];
    let made = make_sandboxes(dir.path(), &specs, None).unwrap();
    assert!(own.exists() && made[1].exists());
    std::fs::remove_file(made[0].root.join(".ibexdeploy/sandbox.json")).unwrap();
    make_sandboxes(dir.path(), &specs, None).unwrap();
    assert!(!own.exists());
}

#[test]
fn the_server_starts_and_stops_once_however_often_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path());
    let var = sandbox.place("var").unwrap();
    let _stop = StopServer(&sandbox);
    let first = script(&sandbox, "start_ibex_server.bat");
    assert!(first.status.success(), "{first:?}");
    let pid = std::fs::read_to_string(var.join("ibex_server.pid")).unwrap();
    assert!(var.join("tmp/ibex_running.txt").exists());
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap();
    assert!(line.contains(sandbox.place("server").unwrap().join("ioc_tools/server_loop.sh").to_str().unwrap()), "{line}");
    assert!(text(&script(&sandbox, "start_ibex_server.bat")).contains("already running"));
    assert_eq!(std::fs::read_to_string(var.join("ibex_server.pid")).unwrap(), pid);
    assert_eq!(text(&script(&sandbox, "stop_ibex_server.bat")), "IBEX server stopped\n");
    assert_eq!(text(&script(&sandbox, "stop_ibex_server.bat")), "IBEX server is not running\n");
    assert!(!var.join("tmp/ibex_running.txt").exists());
}

#[test]
fn a_server_whose_folder_is_found_without_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path());
    let _stop = StopServer(&sandbox);
    let start = sandbox.place("server").unwrap().join("start_ibex_server.bat");
    assert!(Command::new(start).env_remove("IBEX_ROOT").current_dir("/").output().unwrap().status.success());
    assert!(sandbox.place("var").unwrap().join("tmp/ibex_running.txt").exists());
}

#[test]
fn pvs_are_read_as_by_caget() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path());
    let state = "ioc_tools/caget.bat IN:LARMOR:DAE:RUNSTATE_STR";
    let off = script(&sandbox, state);
    assert_eq!(off.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&off.stderr).contains("'IN:LARMOR:DAE:RUNSTATE_STR' not found."));
    let _stop = StopServer(&sandbox);
    script(&sandbox, "start_ibex_server.bat");
    assert_eq!(text(&script(&sandbox, state)).split_whitespace().collect::<Vec<_>>(), ["IN:LARMOR:DAE:RUNSTATE_STR", "SETUP"]);
    sandbox.set_pvs(&[("IN:LARMOR:DAE:RUNSTATE_STR", "RUNNING"), ("X", "a = b  c")]).unwrap();
    assert_eq!(text(&script(&sandbox, "ioc_tools/caget.bat -t IN:LARMOR:DAE:RUNSTATE_STR X")), "RUNNING\na = b  c\n");
    assert_eq!(script(&sandbox, "ioc_tools/caget.bat X Y").status.code(), Some(1));
}
