use super::*;
use crate::actions::testing::{Bench, crash_after, tree};
use crate::migrate::chain::Link;
use crate::paths::WinPath;
use std::collections::BTreeMap;
use std::process::Command;

const MIGRATION: &str = "description: d
changes:
- rename_pv: {from: OLD, to: NEW}
- add_lines: {file: .gitignore, lines: [x], new_file: [x]}
- delete_folders: {folders: [configurations/gone], unchanged_since: '2024-09-01T00:00:00Z', message: m}
- set_remote: {folder: ../common, remote: origin, url: https://new.example/common.git}
- sql: {file: a.sql}
";

fn bench() -> Bench {
    let mut bench = Bench::new();
    for (name, folder) in [("settings", "NDXTEST"), ("common", "common")] {
        let path = WinPath::parse(&format!("C:\\Instrument\\Settings\\config\\{folder}")).unwrap();
        bench.plan.places.insert(name.to_owned(), path);
    }
    bench.write("settings", "configurations/config_version.txt", "1.0.0\r\n");
    bench.write("settings", "configurations/configurations/a/blocks.xml", "<blocks>\r\n  <read_pv>OLD</read_pv>\r\n</blocks>");
    bench.write("settings", "configurations/gone/a.cmd", "a");
    bench.write("settings", "configurations/gone/deep/b.cmd", "b");
    bench.write("settings", "configurations/globals.txt", "OLD");
    bench
}

fn with_git() -> Bench {
    let bench = bench();
    bench.write("common", "a.txt", "a");
    for (place, branch) in [("settings", "NDXTEST"), ("common", "master")] {
        git(&bench, place, &["init", "--quiet", "--initial-branch", branch]);
        git(&bench, place, &["config", "user.name", "tester"]);
        git(&bench, place, &["config", "user.email", "tester@example.com"]);
        git(&bench, place, &["add", "--all"]);
        git(&bench, place, &["commit", "--quiet", "--message", "first", "--date", "2023-01-01T00:00:00Z"]);
    }
    git(&bench, "common", &["remote", "add", "origin", "https://old.example/common.git"]);
    git(&bench, "settings", &["tag", "NDXTEST_1.1.0"]);
    bench
}

fn git(bench: &Bench, place: &str, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(bench.at(place, ""))
        .env("GIT_COMMITTER_DATE", "2023-01-01T00:00:00Z")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that git and the disk tell about the settings, but how git keeps it.
fn look(bench: &Bench) -> BTreeMap<String, String> {
    let mut all = tree(&bench.at("settings", ""));
    all.retain(|path, _| path != ".git" && !path.starts_with(".git/") && !path.is_empty());
    if bench.at("settings", ".git").exists() {
        for args in [&["for-each-ref"][..], &["symbolic-ref", "HEAD"], &["ls-files", "--stage"], &["status", "--porcelain"]] {
            all.insert(format!("git {args:?}"), git(bench, "settings", args));
        }
        all.insert("remote".to_owned(), git(bench, "common", &["remote", "get-url", "origin"]));
    }
    all
}

fn action() -> Migrate {
    let link = |version: &str, migration| Link { version: version.to_owned(), migration };
    let migration = crate::yaml::parse("m.yaml", MIGRATION).unwrap();
    Migrate {
        at: Place("settings".to_owned()),
        chain: WhichChain::Ours,
        migrations: migrations(),
        to: Some(String::new()),
        server: server(),
        only_in_git: false,
        sql_password: None,
        links: Some(Chain { links: vec![link("1.0.0", Some(migration)), link("1.0.1", None), link("1.1.0", None)] }),
    }
}

#[test]
fn each_version_is_a_commit_with_a_tag() -> Result<()> {
    let bench = with_git();
    let probe = action().probe(&bench.cx())?;
    assert_eq!((probe.difference, probe.summary.as_str()), (Difference::Some, "from 1.0.0 to 1.1.0, 5 files"));
    assert!(probe.items.iter().any(|l| l == "+  <read_pv>NEW</read_pv>"), "{:?}", probe.items);
    assert_eq!(git(&bench, "settings", &["status", "--porcelain"]), "");

    let applied = action().apply(&bench.cx())?;
    assert_eq!(applied.outcome, Outcome::Changed);
    assert_eq!(bench.read("settings", "configurations/config_version.txt"), "1.1.0\r\n");
    assert_eq!(bench.read("settings", "configurations/globals.txt"), "OLD", "that is no PV");
    assert!(!bench.at("settings", "configurations/gone").exists());
    assert_eq!(git(&bench, "settings", &["status", "--porcelain", "--ignored"]), "");
    let log = git(&bench, "settings", &["log", "--format=%s%d", "NDXTEST"]);
    assert_eq!(
        log,
        "IBEX Upgrade to 1.1.0 (HEAD -> NDXTEST, tag: NDXTEST_1.1.0)\nIBEX Upgrade from 1.0.1 (tag: NDXTEST_1.0.1_upgrade)\n\
         IBEX Upgrade from 1.0.0 (tag: NDXTEST_1.0.0_upgrade)\nfirst\n"
    );
    let first = git(&bench, "settings", &["show", "--name-status", "--format=", "NDXTEST_1.0.0_upgrade"]);
    assert_eq!(
        first,
        "A\t.gitignore\nM\tconfigurations/config_version.txt\nM\tconfigurations/configurations/a/blocks.xml\n\
         D\tconfigurations/gone/a.cmd\nD\tconfigurations/gone/deep/b.cmd\n"
    );
    assert_eq!(git(&bench, "settings", &["show", "NDXTEST_1.0.0_upgrade:configurations/config_version.txt"]), "1.0.1\r\n");
    assert_eq!(git(&bench, "common", &["remote", "get-url", "origin"]), "https://new.example/common.git\n");
    assert!(bench.world.notes.lock().unwrap()[0].contains("a.sql"));
    git(&bench, "settings", &["fsck", "--strict"]);

    let again = action().apply(&Bench::cx(&bench))?;
    assert_eq!(again.outcome, Outcome::Changed, "the step that was begun is found again, and has nothing left to do");
    assert_eq!(git(&bench, "settings", &["log", "--format=%s%d", "NDXTEST"]), log);
    Ok(())
}

#[test]
fn a_kill_at_any_rename_goes_on_or_back() -> Result<()> {
    for git in [true, false] {
        let wanted = {
            let bench = if git { with_git() } else { bench() };
            action().apply(&bench.cx())?;
            bench.read("settings", "configurations/configurations/a/blocks.xml")
        };
        for at in 0.. {
            let bench = if git { with_git() } else { self::bench() };
            let before = look(&bench);
            crash_after(Some(at));
            let killed = action().apply(&bench.cx()).is_err();
            crash_after(None);
            if killed {
                action().apply(&bench.cx())?;
            }
            assert_eq!(bench.read("settings", "configurations/configurations/a/blocks.xml"), wanted);
            // Without git's history nobody knows whether the folder has changed lately.
            assert_eq!(bench.at("settings", "configurations/gone").exists(), !git);
            if !killed {
                assert!(at > 2, "something was renamed");
                break;
            }
            crash_after(Some(at));
            let undo = bench.undo();
            crash_after(None);
            if undo.is_err() {
                assert_eq!(bench.undo()?, Vec::<String>::new());
            }
            assert_eq!(look(&bench), before, "killed at {at}, git {git}");
            assert_eq!(bench.undo()?, Vec::<String>::new());
            assert_eq!(look(&bench), before);
        }
    }
    Ok(())
}

#[test]
fn what_others_have_moved_since_is_named() -> Result<()> {
    let bench = with_git();
    action().apply(&bench.cx())?;
    git(&bench, "settings", &["commit", "--quiet", "--allow-empty", "--message", "later"]);
    let left = bench.undo()?;
    assert!(left.iter().any(|l| l.contains("the branch NDXTEST of ") && l.contains("has been moved since")), "{left:?}");
    Ok(())
}

#[test]
fn nothing_changes_when_git_cannot_be_sure() -> Result<()> {
    let bench = with_git();
    bench.write("settings", "configurations/globals.txt", "edited");
    let before = look(&bench);
    let error = action().apply(&bench.cx()).unwrap_err();
    assert!(error.to_string().contains("1 uncommitted changes"), "{error}");
    assert_eq!(look(&bench), before);
    assert!(bench.world.undo.lock().unwrap().is_empty());

    let bench = with_git();
    git(&bench, "settings", &["checkout", "--quiet", "--detach"]);
    let before = look_detached(&bench);
    assert!(action().apply(&bench.cx()).unwrap_err().to_string().contains("not on a branch"));
    assert_eq!(look_detached(&bench), before);
    Ok(())
}

fn look_detached(bench: &Bench) -> (BTreeMap<String, String>, String) {
    let mut all = tree(&bench.at("settings", ""));
    all.retain(|path, _| path != ".git" && !path.starts_with(".git/") && !path.is_empty());
    (all, git(bench, "settings", &["for-each-ref"]))
}

#[test]
fn line_ends_that_git_converts_and_ignored_files_are_respected() -> Result<()> {
    let bench = bench();
    bench.write("settings", ".gitattributes", "*.xml text eol=crlf\n");
    bench.write("settings", ".gitignore", "configurations/components/\n");
    bench.write("settings", "configurations/components/c/blocks.xml", "<blocks><read_pv>OLD</read_pv></blocks>");
    git(&bench, "settings", &["init", "--quiet", "--initial-branch", "NDXTEST"]);
    git(&bench, "settings", &["config", "user.name", "tester"]);
    git(&bench, "settings", &["config", "user.email", "tester@example.com"]);
    git(&bench, "settings", &["add", "--all"]);
    git(&bench, "settings", &["commit", "--quiet", "--message", "first"]);
    let mut migrate = action();
    if let Some(Some(migration)) = migrate.links.as_mut().map(|chain| chain.links[0].migration.as_mut()) {
        migration.changes.truncate(1);
    }
    migrate.apply(&bench.cx())?;
    assert_eq!(bench.read("settings", "configurations/components/c/blocks.xml"), "<blocks><read_pv>NEW</read_pv></blocks>");
    let blob = git(&bench, "settings", &["show", "HEAD:configurations/configurations/a/blocks.xml"]);
    assert_eq!(blob, "<blocks>\n  <read_pv>NEW</read_pv>\n</blocks>", "as git keeps it");
    assert!(!git(&bench, "settings", &["ls-files"]).contains("components"));
    assert_eq!(git(&bench, "settings", &["status", "--porcelain"]), "");
    Ok(())
}

#[test]
fn it_is_skipped_without_git_when_that_is_wanted() -> Result<()> {
    let bench = bench();
    let migrate = Migrate { only_in_git: true, ..action() };
    assert_eq!(migrate.probe(&bench.cx())?.difference, Difference::None);
    assert_eq!(migrate.apply(&bench.cx())?.outcome, Outcome::Skipped);
    assert_eq!(bench.read("settings", "configurations/config_version.txt"), "1.0.0\r\n");
    Ok(())
}

#[test]
fn a_kit_whose_chain_goes_further_is_refused_while_ibex_runs() -> Result<()> {
    let mut bench = bench();
    bench.component(
        "EPICS",
        &[("misc/upgrade/master/upgrade.py", "STEPS = [\n    (\"1.1.0\", X()),\n    (\"1.2.0\", None),\n]\n")],
    );
    let error = action().stage(&bench.cx()).unwrap_err();
    assert!(
        error.to_string().contains("the kit migrates settings to 1.2.0, and our chain of migrations ends at 1.1.0"),
        "{error}"
    );
    bench.component("EPICS", &[("misc/upgrade/master/upgrade.py", "STEPS = [(\"1.0.1\", None)]\n")]);
    action().stage(&bench.cx())?;
    bench.write("settings", "configurations/components/c/blocks.xml", "<blocks>");
    let error = action().stage(&bench.cx()).unwrap_err();
    assert_eq!(error.details().position.as_ref().map(|p| p.line), Some(1), "{error}");
    Ok(())
}
