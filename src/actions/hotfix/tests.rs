use super::*;
use crate::actions::testing::{Bench, crash_after, tree};
use crate::content::ContentHash;
use crate::kit::hotfix::{PatchFile, PatchPath, Restart};
use crate::paths::RelPath;

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

/// A hotfix with these files of the server, whose content the bench knows.
fn hotfix(bench: &Bench, id: &str, files: &[(&str, &str)], deletes: &[&str]) -> Hotfix {
    let mut blobs = bench.world.blobs.lock().unwrap();
    let file = |(below, text): &(&str, &str)| {
        let hash = ContentHash::of(text.as_bytes());
        blobs.insert(hash, text.as_bytes().to_vec());
        PatchFile { component: "EPICS".to_owned(), path: path(below), size: text.len() as u64, hash, executable: false }
    };
    let patch = Patch {
        id: id.to_owned(),
        description: String::new(),
        archive: format!("{id}.zip"),
        requires: BTreeMap::new(),
        restart: Restart::None,
        files: files.iter().map(file).collect(),
        deletes: deletes.iter().map(|d| PatchPath { component: "EPICS".to_owned(), path: path(d) }).collect(),
        checks: Vec::new(),
    };
    Hotfix {
        patch: Some(format!("{id}.zip")),
        revert: None,
        prove: None,
        to: usual_places(),
        discard_newer: false,
        content: Some(patch),
    }
}

fn installed() -> Bench {
    let bench = Bench::new();
    for (below, text) in [("VERSION.txt", "26.8.0 built"), ("ioc/a.db", "old a"), ("ioc/b.db", "old b"), ("gone.txt", "gone")] {
        bench.write("server", below, text);
    }
    bench
}

const FILES: [(&str, &str); 4] = [("ioc/a.db", "new a"), ("ioc/b.db", "new b"), ("made/x/1.db", "1"), ("made/x/2.db", "2")];

#[test]
fn killed_at_any_rename_it_goes_on_or_comes_back() -> Result<()> {
    let all = {
        let bench = installed();
        hotfix(&bench, "h", &FILES, &["gone.txt"]).apply(&bench.cx())?;
        tree(&bench.at("server", "")).into_iter().map(|(below, what)| (below, what.starts_with("file"))).collect::<Vec<_>>()
    };
    let mut deaths = 0;
    for renames in 0.. {
        let bench = installed();
        let before = tree(&bench.at("server", ""));
        let fix = hotfix(&bench, "h", &FILES, &["gone.txt"]);
        fix.stage(&bench.cx())?;
        crash_after(Some(renames));
        let died = fix.apply(&bench.cx()).is_err();
        crash_after(None);
        if !died {
            break;
        }
        deaths += 1;
        if renames % 2 == 0 {
            fix.apply(&bench.cx())?;
            let now: Vec<_> = tree(&bench.at("server", "")).into_iter().map(|(b, what)| (b, what.starts_with("file"))).collect();
            assert_eq!(now, all, "after {renames} renames");
            assert_eq!(bench.read("server", "made/x/2.db"), "2");
        }
        assert_eq!(bench.undo()?, Vec::<String>::new(), "after {renames} renames");
        assert_eq!(tree(&bench.at("server", "")), before, "after {renames} renames");
    }
    assert!(deaths >= 6, "{deaths} renames");
    Ok(())
}

/// As the agent does at the end of a run.
fn keep(bench: &Bench) -> Result<()> {
    let mut all = installed::read(bench.cx().home)?;
    match Hotfix::done(&bench.cx())? {
        Some(Done::Applied(hotfix)) => all.push(*hotfix),
        Some(Done::Reverted(id)) => all.retain(|hotfix| hotfix.id != id),
        None => {}
    }
    installed::write(bench.cx().home, &all)
}

#[test]
fn a_revert_that_is_killed_at_any_rename_goes_on_or_comes_back() -> Result<()> {
    let mut deaths = 0;
    for renames in 0.. {
        let mut bench = installed();
        let before = tree(&bench.at("server", ""));
        let fix = hotfix(&bench, "h", &FILES, &["gone.txt"]);
        fix.apply(&bench.cx())?;
        keep(&bench)?;
        let with = tree(&bench.at("server", ""));
        bench.world.undo.lock().unwrap().clear();
        bench.step.id = "apply.02.hotfix".to_owned();
        let revert = Hotfix { patch: None, revert: Some("H".to_owned()), content: None, ..fix };
        revert.stage(&bench.cx())?;
        crash_after(Some(renames));
        let died = revert.apply(&bench.cx()).is_err();
        crash_after(None);
        if !died {
            let plain = |all: &BTreeMap<String, String>| -> Vec<String> {
                // Inodes and times of folders are new ones.
                all.iter()
                    .filter(|(_, what)| what.starts_with("file"))
                    .map(|(b, w)| format!("{b}: {}", w.rsplit_once(' ').unwrap().0))
                    .collect()
            };
            assert_eq!(plain(&tree(&bench.at("server", ""))), plain(&before));
            assert!(!bench.at("server", "made").exists(), "its folder went with it");
            break;
        }
        deaths += 1;
        if renames % 2 == 0 {
            revert.apply(&bench.cx())?;
            assert_eq!(bench.read("server", "ioc/a.db"), "old a");
        }
        assert_eq!(bench.undo()?, Vec::<String>::new(), "after {renames} renames");
        assert_eq!(tree(&bench.at("server", "")), with, "after {renames} renames");
    }
    assert!(deaths >= 5, "{deaths} renames");
    Ok(())
}

#[test]
fn what_the_hotfix_replaced_and_is_damaged_since_is_named() -> Result<()> {
    let mut bench = installed();
    let fix = hotfix(&bench, "h", &[("ioc/a.db", "new a")], &[]);
    fix.apply(&bench.cx())?;
    keep(&bench)?;
    let kept = installed::read(bench.cx().home)?[0].files[0].kept.clone().unwrap();
    std::fs::write(kept, "rotten").unwrap();
    bench.step.id = "apply.02.hotfix".to_owned();
    let revert = Hotfix { patch: None, revert: Some("h".to_owned()), content: None, ..fix };
    let error = revert.stage(&bench.cx()).unwrap_err();
    assert!(error.details().message.contains("EPICS/ioc/a.db was before the hotfix is damaged"), "{error}");
    assert_eq!(bench.read("server", "ioc/a.db"), "new a");
    Ok(())
}

#[test]
fn a_full_disk_while_staging_leaves_the_files_as_they_were() {
    let bench = installed();
    *bench.world.room.lock().unwrap() = Some(6);
    let before = tree(&bench.at("server", ""));
    let error = hotfix(&bench, "h", &FILES, &["gone.txt"]).stage(&bench.cx()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    assert_eq!(tree(&bench.at("server", "")), before);
    assert!(bench.world.undo.lock().unwrap().is_empty());
}
