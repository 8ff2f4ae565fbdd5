//! Settings of instruments migrated through the real binary, and taken back.

use crate::support::{Ended, Fleet};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

/// An instrument whose settings are a git work tree of the version 25.2.1.1.
fn fleet() -> (Fleet, PathBuf) {
    let fleet = Fleet::empty();
    fleet.make(&[NAME]);
    let settings = fleet.root(NAME).join("c/Instrument/Settings/config").join(NAME);
    for (path, text) in [
        ("configurations/config_version.txt", "25.2.1.1\n"),
        ("configurations/components/_base/iocs.xml", "<iocs>\n    <ioc name=\"BSKAFKA\"/>\n</iocs>"),
        ("configurations/dashboard.db", "record(ai, \"A\") {\n}\n"),
    ] {
        let path = settings.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
        std::fs::write(path, text).expect("files can be written");
    }
    for args in [
        &["init", "--quiet", "--initial-branch", NAME][..],
        &["config", "user.name", "tester"],
        &["config", "user.email", "tester@example.com"],
        &["add", "--all"],
        &["commit", "--quiet", "--message", "first"],
    ] {
        git(&settings, args);
    }
    (fleet, settings)
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(folder).output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the binary with the output that people read.
fn in_words(fleet: &Fleet, arguments: &[&str]) -> Ended {
    Ended::of(fleet.command_of(arguments, "state").args(["--output", "plain"]))
}

fn look(settings: &Path) -> BTreeMap<String, String> {
    let mut all = Fleet::tree(settings);
    all.retain(|path, _| !path.starts_with(".git/"));
    for args in [&["for-each-ref"][..], &["ls-files", "--stage"], &["status", "--porcelain"]] {
        all.insert(args.join(" "), git(settings, args));
    }
    all
}

#[test]
fn an_instrument_s_settings_are_migrated_and_taken_back() {
    let (fleet, settings) = fleet();
    let before = look(&settings);
    let dry = fleet.run(&["migrate", NAME, "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.story());
    assert!(dry.stdout.contains("FWDR"), "the diff is shown: {}", dry.story());
    assert_eq!(look(&settings), before);

    let done = fleet.run(&["migrate", NAME, "--yes"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(std::fs::read_to_string(settings.join("configurations/config_version.txt")).expect("a version"), "26.8.1\n");
    assert!(
        git(&settings, &["log", "--format=%s%d", "-1"])
            .contains("IBEX Upgrade to 26.8.1 (HEAD -> NDXLARMOR, tag: NDXLARMOR_26.8.1)")
    );
    assert_eq!(git(&settings, &["status", "--porcelain"]), "");
    assert!(done.stdout.contains("bluesky_copier"), "what is left for a person: {}", done.story());
    assert!(!done.stdout.contains("\\\"refs\\\""), "the answer of the helper is not shown");

    let again = fleet.run(&["migrate", NAME, "--yes"]);
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "{}", again.story());

    let run = done.last(NAME, "instrument_finished").expect("it finished")["run"].as_str().unwrap_or_default().to_owned();
    let by_hand = settings.join("configurations/dashboard.db");
    let text = std::fs::read(&by_hand).expect("the dashboard");
    std::fs::write(&by_hand, "record(ai, \"B\") {\n}\n").expect("a change by hand");
    let refused = fleet.run(&["rollback", NAME, "--yes", "--run", &run]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    std::fs::write(&by_hand, text).expect("the change is taken back");
    let back = fleet.run(&["rollback", NAME, "--yes", "--run", &run]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(look(&settings), before);
}

#[test]
fn a_step_that_fails_later_takes_the_migration_back() {
    let (fleet, settings) = fleet();
    let before = look(&settings);
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("playbooks/migrations");
    let playbook = fleet.dir().join("fails.yaml");
    let text = format!(
        "playbook: fails\napply:\n  - migrate: {{at: settings, migrations: '{}', to: 26.2.0}}\n  - command: {{run: exit 3, read_only: true}}\n",
        migrations.display()
    );
    std::fs::write(&playbook, text).expect("a playbook");
    let ended = fleet.run(&["run", &playbook.display().to_string(), NAME, "--yes"]);
    assert_eq!(ended.outcome(NAME), "rolled_back", "{}", ended.story());
    assert!(ended.stdout.contains("from 25.2.1.1 to 26.2.0"), "it had been migrated before: {}", ended.story());
    assert_eq!(look(&settings), before);
}

#[test]
fn a_malformed_file_is_named_with_its_line_before_anything_changes() {
    let (fleet, settings) = fleet();
    std::fs::write(settings.join("configurations/components/_base/iocs.xml"), "<iocs>\n<ioc>\n</iocs>").expect("a file");
    git(&settings, &["commit", "--quiet", "--all", "--message", "spoilt"]);
    let before = look(&settings);
    let ended = fleet.run(&["migrate", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{}", ended.story());
    assert!(ended.stdout.contains("_base\\\\iocs.xml") && ended.stdout.contains("\"line\":3"), "{}", ended.story());
    assert_eq!(look(&settings), before);
    let place = format!("config\\{NAME}\\configurations\\components\\_base\\iocs.xml:3:");
    let plain = in_words(&fleet, &["migrate", NAME, "--yes"]);
    let report = plain.stdout.split("What went wrong").nth(1).unwrap_or_default().to_owned();
    assert!(report.contains(&place), "{}", plain.story());
    for question in [&["runs", "show"][..], &["runs", "report", "--markdown"]] {
        let shown = in_words(&fleet, question);
        assert!(shown.stdout.contains(&place), "{question:?}: {}", shown.story());
    }
    std::fs::write(settings.join("configurations/config_version.txt"), "6.6.6\n").expect("a file");
    git(&settings, &["commit", "--quiet", "--all", "--message", "unknown"]);
    let unknown = in_words(&fleet, &["migrate", NAME, "--yes"]);
    let report = unknown.stdout.split("What went wrong").nth(1).unwrap_or_default().to_owned();
    assert!(report.contains("configurations\\config_version.txt:1:"), "{}", unknown.story());
}

#[test]
fn the_server_s_own_script_runs_instead_and_is_taken_back() {
    let (fleet, settings) = fleet();
    let before = look(&settings);
    let folder = fleet.server(NAME).join("misc/upgrade/master");
    std::fs::create_dir_all(&folder).expect("folders can be made");
    let version = settings.join("configurations/config_version.txt");
    let script =
        format!("#!/bin/sh\necho 99.0.0 > '{0}' && cd '{1}' && git commit -qam kit\n", version.display(), settings.display());
    let file = folder.join("upgrade.bat");
    std::fs::write(&file, script).expect("a script");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let playbook = |name: &str, more: &str| {
        let path = fleet.dir().join(format!("{name}.yaml"));
        let text = format!("playbook: {name}\napply:\n  - migrate: {{at: settings, chain: kit}}\n{more}");
        std::fs::write(&path, text).expect("a playbook");
        path.display().to_string()
    };
    let ended = fleet.run(&["run", &playbook("fails", "  - command: {run: exit 3, read_only: true}\n"), NAME, "--yes"]);
    assert_eq!(ended.outcome(NAME), "rolled_back", "{}", ended.story());
    assert!(ended.stdout.contains("`exit 3` ended with exit code 3"), "the script had run before: {}", ended.story());
    assert_eq!(look(&settings), before);
    let ended = fleet.run(&["run", &playbook("kit", ""), NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(std::fs::read_to_string(version).expect("a version"), "99.0.0\n");
    assert_eq!(git(&settings, &["log", "--format=%s", "-1"]), "kit\n");
}

#[test]
fn an_account_without_a_name_in_git_migrates_as_well() {
    let (fleet, settings) = fleet();
    // As good as none: git refuses to commit with it.
    git(&settings, &["config", "user.name", ""]);
    let done = fleet.run(&["migrate", NAME, "--yes"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    let who = git(&settings, &["log", "-1", "--format=%an <%ae>, %cn <%ce>"]);
    let ours = format!("ibexdeploy <ibexdeploy@{NAME}>");
    assert_eq!(who.trim(), format!("{ours}, {ours}"));
}
