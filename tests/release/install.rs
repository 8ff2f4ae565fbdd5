//! IBEX on machines that do not have it: installed whole, or not at all.

use crate::kill::machine::{LIMIT, journal, kill, outcome, wait_for, workers};
use crate::kill::traced::clear;
use crate::support::{Ended, Fleet, SmallDisk};
use ibexdeploy::rehearsal::KitShape;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Without SECI.
const NEW: &str = "NDXEMU";
/// With SECI.
const HYBRID: &str = "NDXLARMOR";

fn fleet() -> Fleet {
    Fleet::new(&KitShape::small().without_git())
}

fn install(fleet: &Fleet, name: &str, profile: &str, more: &[&str]) -> Ended {
    fleet.run(&[&["install", name, "--profile", profile, "--yes"], more].concat())
}

fn settings(fleet: &Fleet, name: &str) -> PathBuf {
    fleet.root(name).join("c/Instrument/Settings/config").join(name)
}

fn remote(fleet: &Fleet) -> PathBuf {
    fleet.dir().join("remotes/settings.git")
}

/// What git answers in a folder; nothing when it fails.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(folder).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the machine has of IBEX.
fn of_ibex(fleet: &Fleet, name: &str) -> Vec<String> {
    let startup = fleet.root(name).join("c/ProgramData/Microsoft/Windows/Start Menu/Programs/StartUp");
    let mut found: Vec<String> = fleet.apps(name).into_keys().collect();
    found.extend(Fleet::tree(&settings(fleet, name)).into_keys());
    found.extend(Fleet::tree(&startup).into_keys());
    found
}

#[test]
fn a_new_instrument_has_everything_and_a_branch_of_its_own() {
    let fleet = fleet();
    let done = install(&fleet, NEW, "new", &[]);
    assert_eq!((done.code, done.outcome(NEW).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(fleet.unlike(NEW, "26.9.0", &[]), [""; 0]);
    assert!(fleet.ibex(NEW).is_some(), "{}", done.story());
    let tree = settings(&fleet, NEW);
    assert_eq!(git(&tree, &["symbolic-ref", "--short", "HEAD"]).as_deref(), Some(NEW));
    let head = git(&tree, &["rev-parse", "HEAD"]);
    assert_eq!(git(&remote(&fleet), &["rev-parse", NEW]), head, "the branch is pushed");
    assert!(git(&remote(&fleet), &["rev-parse", "--verify", "--quiet", "master"]) != head, "as a branch of its own");
    let startup = fleet.root(NEW).join("c/ProgramData/Microsoft/Windows/Start Menu/Programs/StartUp/IBEX autostart.cmd");
    let line = std::fs::read_to_string(startup).expect("an automatic start");
    assert!(line.contains(r"C:\Instrument\Apps\EPICS\start_ibex_server.bat"), "{line}");
    let left: Vec<String> = done.events.iter().filter(|e| e["event"] == "reminder").map(|e| e["text"].to_string()).collect();
    assert!(left.iter().any(|text| text.contains("instrument list")), "{left:?}");

    let again = install(&fleet, NEW, "new", &[]);
    assert_eq!((again.code, again.outcome(NEW).as_str()), (1, "failed"), "a machine with IBEX takes a release");
    assert!(again.stdout.contains("IBEX is installed there (26.9.0)"), "{}", again.story());
    assert!(
        again.stdout.contains(&format!("ibexdeploy release {NEW}")),
        "nobody removes a file to get past this: {}",
        again.story()
    );
    let release = fleet.run(&["release", NEW, "--yes"]);
    assert_eq!((release.code, release.outcome(NEW).as_str()), (0, "ok"), "{}", release.story());
}

#[test]
fn beside_seci_nothing_of_it_is_touched_and_it_goes_on() {
    let fleet = fleet();
    // The sandbox is made by the first look.
    let dry = install(&fleet, HYBRID, "beside-seci", &["--dry-run"]);
    assert!(fleet.root(HYBRID).exists(), "{}", dry.story());
    let logged_on = |from: &str, to: &str| {
        let file = fleet.root(HYBRID).join(".ibexdeploy/sandbox.json");
        let text = std::fs::read_to_string(&file).expect("the state");
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).expect("the state");
    };
    logged_on("spudulike", "somebody");
    let refused = install(&fleet, HYBRID, "beside-seci", &[]);
    assert_eq!((refused.code, refused.outcome(HYBRID).as_str()), (1, "failed"), "{}", refused.story());
    logged_on("somebody", "spudulike");
    let folder = fleet.root(HYBRID).join("c/Program Files (x86)/STFC ISIS Facility/SECI");
    let start = Command::new(folder.join("start"))
        .args(["SECI", "SeciUserInterface.exe"])
        .current_dir(&folder)
        .env("IBEX_ROOT", fleet.root(HYBRID))
        .stdout(Stdio::null())
        .status();
    assert!(start.expect("it starts").success());
    let pid = fleet.root(HYBRID).join("c/Instrument/Var/seci.pid");
    let program = std::fs::read_to_string(&pid).expect("SECI runs");
    let (before, shared) = (Fleet::tree(&folder), Fleet::tree(&fleet.root(HYBRID).join("c/LabVIEW Modules")));
    let done = install(&fleet, HYBRID, "beside-seci", &[]);
    assert_eq!((done.code, done.outcome(HYBRID).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(fleet.unlike(HYBRID, "26.9.0", &[]), [""; 0]);
    assert_eq!(Fleet::tree(&folder), before);
    assert_eq!(Fleet::tree(&fleet.root(HYBRID).join("c/LabVIEW Modules")), shared);
    assert_eq!(std::fs::read_to_string(&pid).expect("SECI runs"), program, "the same SECI still runs");
    assert!(fleet.ibex(HYBRID).is_none(), "IBEX was not started beside it");
    let to_ibex = fleet.run(&["switch", HYBRID, "ibex", "--yes"]);
    assert_eq!((to_ibex.code, to_ibex.outcome(HYBRID).as_str()), (0, "changed"), "{}", to_ibex.story());
    assert!(fleet.ibex(HYBRID).is_some());
}

#[test]
fn a_profile_that_the_inventory_contradicts_is_refused() {
    let fleet = fleet();
    for (name, profile, words) in [(HYBRID, "new", "has SECI"), (NEW, "beside-seci", "has no SECI")] {
        let refused = install(&fleet, name, profile, &[]);
        assert_eq!(refused.code, 2, "{}", refused.story());
        assert!(format!("{}{}", refused.stdout, refused.stderr).contains(words), "{}", refused.story());
        assert!(!fleet.root(name).exists(), "no sandbox was made");
    }
}

#[test]
fn what_cannot_be_done_is_found_out_before_anything_is_there() {
    let fleet = fleet();
    let away = install(&fleet, NEW, "new", &["--set", "settings_remote=/nowhere/settings.git"]);
    assert_eq!((away.code, away.outcome(NEW).as_str()), (1, "failed"), "{}", away.story());
    assert!(away.stdout.contains("cannot be reached"), "{}", away.story());
    assert!(away.last(NEW, "outage_started").is_none(), "{}", away.story());
    assert_eq!(of_ibex(&fleet, NEW), [""; 0]);

    let file = fleet.root(NEW).join(".ibexdeploy/sandbox.json");
    let text = std::fs::read_to_string(&file).expect("the state");
    let small = text.replace(&(16_u64 << 30).to_string(), &(8_u64 << 30).to_string());
    assert_ne!(small, text);
    std::fs::write(&file, small).expect("the state");
    let little = install(&fleet, NEW, "new", &[]);
    assert_eq!((little.code, little.outcome(NEW).as_str()), (1, "failed"), "{}", little.story());
    assert!(little.stdout.contains("of memory, and 13"), "{}", little.story());
    assert_eq!(of_ibex(&fleet, NEW), [""; 0]);
    std::fs::write(&file, text).expect("the state");

    let Some(_disk) = SmallDisk::under(&fleet, NEW, 16_384) else { return };
    let full = install(&fleet, NEW, "new", &[]);
    assert_eq!((full.code, full.outcome(NEW).as_str()), (1, "failed"), "{}", full.story());
    assert_eq!(full.last(NEW, "instrument_finished").expect("it ended")["error"]["kind"], "out_of_space", "{}", full.story());
    assert_eq!(of_ibex(&fleet, NEW), [""; 0]);
}

/// Nothing of IBEX is there, nothing was stopped, and the message says why.
fn is_refused(fleet: &Fleet, ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, ended.outcome(NEW).as_str()), (1, "failed"), "{}", ended.story());
    let error = ended.last(NEW, "instrument_finished").expect("it ended")["error"].to_string();
    words.iter().for_each(|words| assert!(error.contains(words), "{words}: {error}"));
    assert!(ended.last(NEW, "outage_started").is_none(), "{}", ended.story());
    assert_eq!(of_ibex(fleet, NEW), [""; 0], "{}", ended.story());
}

/// Runs the binary with the programs of this folder and no others.
fn install_with_programs(fleet: &Fleet, programs: &Path, more: &[&str]) -> Ended {
    // A worker has the programs of the one who started it.
    clear(&fleet.root(NEW));
    let arguments = [&["install", NEW, "--profile", "new", "--yes", "--output", "json"], more].concat();
    Ended::of(fleet.command(&arguments).env("PATH", programs))
}

/// All programs of this machine but one.
fn programs_without(fleet: &Fleet, name: &str) -> PathBuf {
    let folder = fleet.dir().join("programs");
    std::fs::create_dir(&folder).expect("a folder");
    for entry in ["/usr/bin", "/bin"].into_iter().flat_map(|f| std::fs::read_dir(f).expect("programs")).flatten() {
        if entry.file_name() != name {
            // The two may be one folder.
            let _ = std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name()));
        }
    }
    folder
}

/// The shipped playbooks, with what a rehearsal leaves out of this step done all the same.
fn playbooks_with(fleet: &Fleet, step: &str) -> String {
    let folder = fleet.dir().join("playbooks");
    assert!(Command::new("cp").arg("-a").arg("playbooks").arg(&folder).status().expect("cp").success());
    let file = folder.join("install.yaml");
    let text = std::fs::read_to_string(&file).expect("the playbook");
    let (head, tail) = text.split_once(&format!("  - name: {step}\n")).expect("the step");
    let (check, rest) = tail.split_once("    when: not rehearsal\n").expect("a condition");
    assert_eq!(check.lines().count(), 1, "it is the condition of this step: {check}");
    std::fs::write(&file, format!("{head}  - name: {step}\n{check}{rest}")).expect("the playbook");
    folder.display().to_string()
}

#[test]
fn a_machine_without_git_is_refused_before_anything_is_there() {
    let fleet = fleet();
    // The sandbox is made by the first look.
    install(&fleet, NEW, "new", &["--dry-run"]);
    let programs = programs_without(&fleet, "git");
    let refused = install_with_programs(&fleet, &programs, &[]);
    is_refused(&fleet, &refused, &["git is there", "git --version"]);
}

#[test]
fn a_machine_without_uv_is_refused_before_anything_is_there() {
    let fleet = fleet();
    install(&fleet, NEW, "new", &["--dry-run"]);
    let books = playbooks_with(&fleet, "uv is there");
    let programs = programs_without(&fleet, "uv");
    let refused = install_with_programs(&fleet, &programs, &["--playbooks", &books]);
    is_refused(&fleet, &refused, &["uv is there", "uv --version"]);
}

#[test]
fn a_machine_with_less_than_30_gb_is_refused_before_anything_is_there() {
    let fleet = fleet();
    install(&fleet, NEW, "new", &["--dry-run"]);
    let books = playbooks_with(&fleet, "enough room on the disk");
    clear(&fleet.root(NEW));
    let Some(_disk) = SmallDisk::under(&fleet, NEW, 60_000_000) else { return };
    let refused = install(&fleet, NEW, "new", &["--playbooks", &books]);
    is_refused(&fleet, &refused, &["out_of_space", "are free on the volume of C:\\\\Instrument\\\\Apps, and 30.0 GB are wanted"]);
}

#[test]
fn a_machine_on_which_nobody_is_logged_on_is_refused_before_anything_is_there() {
    let fleet = fleet();
    install(&fleet, NEW, "new", &["--dry-run"]);
    let file = fleet.root(NEW).join(".ibexdeploy/sandbox.json");
    let text = std::fs::read_to_string(&file).expect("the state");
    assert!(text.contains("\"spudulike\""), "{text}");
    std::fs::write(&file, text.replace("\"spudulike\"", "\"somebody\"")).expect("the state");
    let refused = install(&fleet, NEW, "new", &[]);
    is_refused(&fleet, &refused, &["spudulike", "logged on"]);
}

#[test]
fn an_installation_that_fails_leaves_the_machine_without_ibex() {
    let fleet = fleet();
    fleet.add_to_script("26.9.0", "start_ibex_server.bat", "echo 'no database' >&2\nexit 3");
    let failed = install(&fleet, NEW, "new", &[]);
    assert_eq!((failed.code, failed.outcome(NEW).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert_eq!(of_ibex(&fleet, NEW), [""; 0], "{}", failed.story());
    assert!(fleet.ibex(NEW).is_none());
    assert_eq!(git(&remote(&fleet), &["rev-parse", "--verify", "--quiet", NEW]), None, "nothing was pushed");
}

#[test]
fn work_in_settings_that_were_cloned_is_kept_when_the_installation_is_taken_back() {
    let fleet = fleet();
    let done = install(&fleet, NEW, "new", &["--skip-tags", "switching"]);
    assert_eq!(done.code, 0, "{}", done.story());
    let tree = settings(&fleet, NEW);
    std::fs::write(tree.join("configurations/own.cmd"), "by a scientist\r\n").expect("a file");
    let who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org"];
    git(&tree, &["add", "--all"]).expect("added");
    git(&tree, &[&who[..], &["commit", "--quiet", "--message", "Mine"]].concat()).expect("committed");
    let commit = git(&tree, &["rev-parse", "HEAD"]).expect("a commit");
    let refused = fleet.run(&["rollback", NEW, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    let back = fleet.run(&["rollback", NEW, "--yes", "--discard-newer"]);
    assert_eq!((back.code, back.outcome(NEW).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(of_ibex(&fleet, NEW), [""; 0], "{}", back.story());
    let listed = Command::new("find").arg(fleet.root(NEW)).args(["-name", "clone.since"]).output().expect("find");
    let aside = PathBuf::from(String::from_utf8_lossy(&listed.stdout).trim());
    assert!(git(&aside, &["cat-file", "-e", &commit]).is_some(), "the commit is still there: {}", back.story());
    assert!(back.stdout.contains("clone.since"), "and it is said where: {}", back.story());
}

#[test]
fn a_worker_killed_at_any_moment_ends_with_ibex_installed() {
    let begun_step = |fleet: &Fleet, name: &str| {
        let all = journal(&fleet.root(NEW));
        all.iter().any(|e| e["event"]["event"] == "step_started" && e["event"]["step"]["name"] == name)
    };
    for step in ["server", "settings", "settings of this release", "automatic start", "start IBEX"] {
        let fleet = fleet();
        let root = fleet.root(NEW);
        let mut controller = fleet.start(&["install", NEW, "--profile", "new", "--yes"]);
        let begun = std::time::Instant::now();
        while !begun_step(&fleet, step) && outcome(&journal(&root)).is_none() {
            assert!(begun.elapsed() < LIMIT, "{step} did not begin");
            std::thread::yield_now();
        }
        workers(&root).into_iter().for_each(kill);
        while controller.until(|_| true).is_some() {}
        let ended = wait_for("the run ends", || outcome(&journal(&root)));
        assert_eq!(ended, "changed", "killed in {step}");
        assert_eq!(fleet.unlike(NEW, "26.9.0", &[]), [""; 0], "killed in {step}");
        assert!(fleet.ibex(NEW).is_some(), "killed in {step}");
        assert_eq!(git(&settings(&fleet, NEW), &["status", "--porcelain"]).as_deref(), Some(""), "killed in {step}");
    }
}
