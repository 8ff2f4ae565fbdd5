use super::*;
use crate::actions::backup::{Backup, IfUnreadable};
use crate::actions::testing::{Bench, contents, crash_after};
use crate::events::{Outcome, RunId};
use crate::locks::locked;
use std::collections::BTreeMap;
use std::path::Path;

const SHARE: &str = "\\\\server\\backups$\\old";

fn retention(keep: u32) -> Retention {
    Retention { keep, move_to: Place(SHARE.to_owned()), at: None }
}

/// A bench with so many backups, the oldest first, each of another version.
fn with_backups(number: usize) -> (Bench, Vec<String>) {
    let mut bench = Bench::new();
    let backup = Backup {
        of: vec![Place("server".to_owned())],
        to: None,
        exclude: Vec::new(),
        exclude_in: BTreeMap::new(),
        must_hold: BTreeMap::new(),
        if_exists: false,
        unreadable: IfUnreadable::Fail,
    };
    let mut names = Vec::new();
    for n in 0..number {
        bench.plan.run = RunId(format!("20260101-00000{n}-aaaaaa"));
        bench.write("server", "VERSION.txt", format!("12.0.{n}"));
        let applied = backup.apply(&bench.cx()).unwrap();
        let folder = applied.result["folder"].as_str().unwrap();
        names.push(folder.rsplit('\\').next().unwrap().to_owned());
        bench.step.id = format!("stage.0{n}.backup");
    }
    bench.step.id = "close.01.retention".to_owned();
    (bench, names)
}

fn share(bench: &Bench) -> PathBuf {
    bench.dir.path().join("NDXTEST/unc/server/backups$/old/NDXTEST")
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(all) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn told(bench: &Bench) -> String {
    locked(&bench.world.notes).join("\n")
}

#[test]
fn the_oldest_go_to_the_share_and_the_newest_stay() -> Result<()> {
    let (bench, names) = with_backups(4);
    let first = contents(&bench.at("backups", &names[0]));
    let probe = retention(2).probe(&bench.cx())?;
    assert_eq!(probe.items, [0, 1].map(|n| format!("- C:\\data\\old\\{}", names[n])));
    assert_eq!(names_in(&bench.at("backups", "")), names, "a look moves nothing");
    let applied = retention(2).apply(&bench.cx())?;
    assert_eq!(applied.summary, format!("2 of 2 old backups moved to {SHARE}\\NDXTEST, 2 stay"));
    assert_eq!(names_in(&bench.at("backups", "")), names[2..]);
    assert_eq!(names_in(&share(&bench)), names[..2]);
    assert_eq!(contents(&share(&bench).join(&names[0])), first);
    assert_eq!(retention(2).apply(&bench.cx())?.outcome, Outcome::Ok);
    // A path that ends with the machine's name is taken as it is.
    let own = Retention { move_to: Place(format!("{SHARE}\\ndxtest")), ..retention(1) };
    assert_eq!(own.to(&bench.cx())?.as_str(), format!("{SHARE}\\ndxtest"));
    Ok(())
}

#[test]
fn damaged_and_older_folders_do_not_count_and_the_last_good_one_stays() -> Result<()> {
    let (bench, names) = with_backups(3);
    for name in &names[1..] {
        std::fs::remove_file(bench.at("backups", &format!("{name}/EPICS.zip"))).unwrap();
    }
    bench.write("backups", "ibex_backup_2025_03_02/EPICS.zip", "older");
    let applied = retention(1).apply(&bench.cx())?;
    assert_eq!(applied.summary, format!("1 of 1 old backup moved to {SHARE}\\NDXTEST, 3 stay"));
    assert_eq!(names_in(&bench.at("backups", "")), names);
    assert_eq!(names_in(&share(&bench)), ["ibex_backup_2025_03_02"]);
    // Without any good one nothing goes, and a number of nothing is one.
    let (bench, names) = with_backups(2);
    retention(0).apply(&bench.cx())?;
    assert_eq!(names_in(&bench.at("backups", "")), names[1..]);
    std::fs::remove_file(bench.at("backups", &format!("{}/EPICS.zip", names[1]))).unwrap();
    bench.write("backups", "ibex_backup_2025_03_02/EPICS.zip", "older");
    assert_eq!(retention(1).probe(&bench.cx())?.difference, Difference::None);
    Ok(())
}

#[test]
fn a_share_that_is_not_there_is_reported_and_nothing_goes() -> Result<()> {
    let (bench, names) = with_backups(3);
    std::fs::write(bench.dir.path().join("NDXTEST/unc"), "no share").unwrap();
    let applied = retention(1).apply(&bench.cx())?;
    assert_eq!(applied.outcome, Outcome::Ok);
    assert_eq!(applied.summary, format!("0 of 2 old backups moved to {SHARE}\\NDXTEST, 3 stay"));
    assert_eq!(names_in(&bench.at("backups", "")), names);
    let told = told(&bench);
    assert!(
        told.contains(&format!("the old backup {} was not moved to {SHARE}\\NDXTEST: cannot make the folder", names[0])),
        "{told}"
    );
    assert!(told.contains("check the share"), "{told}");
    Ok(())
}

#[test]
fn a_backup_whose_zip_is_not_what_it_was_stays_and_the_others_go() -> Result<()> {
    let (bench, names) = with_backups(3);
    let zip = bench.at("backups", &format!("{}/EPICS.zip", names[0]));
    let mut bytes = std::fs::read(&zip).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&zip, &bytes).unwrap();
    retention(1).apply(&bench.cx())?;
    assert_eq!(names_in(&bench.at("backups", "")), [&names[0], &names[2]].map(String::clone));
    assert_eq!(names_in(&share(&bench)), names[1..2], "no half copy stays there");
    assert!(told(&bench).contains("EPICS.zip is not what was written at the backup"), "{}", told(&bench));
    Ok(())
}

#[test]
fn killed_at_any_rename_nothing_is_lost_and_the_next_run_goes_on() -> Result<()> {
    for kill in 0..3 {
        let (bench, names) = with_backups(2);
        let first = contents(&bench.at("backups", &names[0]));
        crash_after(Some(kill));
        let _ = retention(1).apply(&bench.cx())?;
        crash_after(None);
        let places = [bench.at("backups", &names[0]), share(&bench).join(&names[0])];
        assert!(places.iter().any(|p| contents(p) == first), "killed before rename {kill}: it is whole in one place");
        retention(1).apply(&bench.cx())?;
        assert_eq!(names_in(&bench.at("backups", "")), names[1..]);
        assert_eq!(names_in(&share(&bench)), names[..1], "once, under its own name");
    }
    Ok(())
}

#[test]
fn another_backup_of_the_same_name_on_the_share_is_not_touched() -> Result<()> {
    let (bench, names) = with_backups(2);
    let other = share(&bench).join(&names[0]);
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("EPICS.zip"), "another").unwrap();
    retention(1).apply(&bench.cx())?;
    assert_eq!(contents(&other), BTreeMap::from([("EPICS.zip".to_owned(), "another".to_owned())]));
    assert_eq!(names_in(&share(&bench)), [names[0].clone(), format!("{}_2", names[0])]);
    Ok(())
}
