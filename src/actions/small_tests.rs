//! The actions that change single paths: file, copy, remove, link.

use super::copy::Copy;
use super::file::File;
use super::link::Link;
use super::remove::Remove;
use super::testing::{Bench, contents, crash_after, tree};
use super::{Difference, Perform};
use crate::error::{ErrorKind, Result};
use crate::events::Outcome;
use crate::paths::Place;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

fn place(text: &str) -> Place {
    Place(text.to_owned())
}

fn file(path: &str) -> File {
    File {
        path: place(path),
        content: None,
        template: None,
        lines: Vec::new(),
        absent_lines: Vec::new(),
        ini: BTreeMap::new(),
        create: true,
    }
}

/// Applies, killed before each rename in turn and started again; then undoes, and it is as before.
fn there_and_back(bench: &Bench, action: &dyn Perform, check: impl Fn(&Bench)) -> Result<()> {
    let apps = bench.at("server", "").parent().unwrap().to_path_buf();
    let before = tree(&apps);
    for kill in 0..3 {
        crash_after(Some(kill));
        let killed = action.apply(&bench.cx());
        crash_after(None);
        let done = action.apply(&bench.cx())?;
        assert!(killed.is_err() || killed?.outcome == done.outcome);
        check(bench);
        assert_eq!(bench.undo()?, Vec::<String>::new());
        assert_eq!(tree(&apps), before, "killed before rename {kill}");
        assert_eq!(bench.undo()?, Vec::<String>::new());
        assert_eq!(tree(&apps), before, "undone twice");
    }
    Ok(())
}

#[test]
fn a_file_is_edited_in_place_and_comes_back() -> Result<()> {
    let bench = Bench::new();
    let path = bench.write("server", "ioc/globals.txt", b"A=1\r\nB=\xE4\r\n");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();
    let edit = File { lines: vec!["C=3".to_owned()], absent_lines: vec!["A=1".to_owned()], ..file("server\\ioc\\globals.txt") };
    assert_eq!(edit.probe(&bench.cx())?.difference, Difference::Some);
    there_and_back(&bench, &edit, |bench| {
        let path = bench.at("server", "ioc/globals.txt");
        assert_eq!(std::fs::read(&path).unwrap(), b"B=\xE4\r\nC=3\r\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o604);
    })
}

#[test]
fn a_new_file_gets_its_folders_and_both_go_again() -> Result<()> {
    let bench = Bench::new();
    bench.write("server", "VERSION.txt", "1");
    let new = File { content: Some("hello\n".to_owned()), ..file("client\\deep\\er\\x.txt") };
    there_and_back(&bench, &new, |bench| assert_eq!(bench.read("client", "deep/er/x.txt"), "hello\n"))?;
    let not_there = File { create: false, ..new };
    assert_eq!(not_there.probe(&bench.cx()).unwrap_err().kind(), ErrorKind::StepFailed);
    Ok(())
}

#[test]
fn an_edit_that_changes_nothing_is_ok() -> Result<()> {
    let bench = Bench::new();
    bench.write("server", "a.ini", "[x]\nk=1\n");
    let ini = BTreeMap::from([("x".to_owned(), BTreeMap::from([("k".to_owned(), "1".to_owned())]))]);
    let done = File { ini, ..file("server\\a.ini") }.apply(&bench.cx())?;
    assert_eq!(done.outcome, Outcome::Ok);
    assert!(bench.world.undo.lock().unwrap().is_empty());
    Ok(())
}

#[test]
fn files_and_folders_go_and_come_back() -> Result<()> {
    let bench = Bench::new();
    bench.write("server", "a/b.txt", "b");
    bench.write("server", "c.txt", "c");
    std::os::unix::fs::symlink("a", bench.at("server", "l")).unwrap();
    let remove = Remove { paths: ["server\\a", "server\\c.txt", "server\\l", "server\\none"].map(place).to_vec() };
    assert_eq!(remove.probe(&bench.cx())?.summary, "3 to remove");
    there_and_back(&bench, &remove, |bench| {
        assert_eq!(std::fs::read_dir(bench.at("server", "")).unwrap().count(), 0);
    })
}

#[test]
fn a_link_switches_and_switches_back() -> Result<()> {
    let bench = Bench::new();
    for version in ["v1", "v2"] {
        bench.write("server", &format!("{version}/f"), version);
    }
    std::os::unix::fs::symlink(bench.at("server", "v1"), bench.at("server", "now")).unwrap();
    let link = Link { at: place("server\\now"), to: place("server\\v2") };
    assert_eq!(link.probe(&bench.cx())?.difference, Difference::Some);
    there_and_back(&bench, &link, |bench| assert_eq!(bench.read("server", "now/f"), "v2"))?;
    assert_eq!(bench.read("server", "now/f"), "v1");
    let folder = Link { at: place("server\\v1"), to: place("server\\v2") };
    assert_eq!(folder.probe(&bench.cx()).unwrap_err().kind(), ErrorKind::Refused);
    let nowhere = Link { at: place("server\\new"), to: place("server\\v3") };
    assert!(nowhere.apply(&bench.cx()).is_err());
    Ok(())
}

#[test]
fn copies_replace_files_and_leave_others() -> Result<()> {
    let bench = Bench::new();
    bench.write("server", "from/a.txt", "new a");
    bench.write("server", "from/sub/b.txt", "b");
    bench.write("client", "a.txt", "old a");
    bench.write("client", "mine.txt", "mine");
    let folder = Copy { from: place("server\\from"), to: place("client"), if_exists: false };
    there_and_back(&bench, &folder, |bench| {
        let now = contents(&bench.at("client", ""));
        assert_eq!(now.into_keys().collect::<Vec<_>>(), ["a.txt", "mine.txt", "sub/b.txt"]);
        assert_eq!(bench.read("client", "a.txt"), "new a");
    })?;
    let mut bench = bench;
    bench.step.id = "apply.02.copy".to_owned();
    let one = Copy { from: place("server\\from\\a.txt"), to: place("client\\a.txt"), if_exists: false };
    there_and_back(&bench, &one, |bench| assert_eq!(bench.read("client", "a.txt"), "new a"))?;
    let missing = Copy { from: place("server\\none"), to: place("client\\x"), if_exists: true };
    assert_eq!(missing.apply(&bench.cx())?.outcome, Outcome::Skipped);
    let inside = Copy { from: place("client"), to: place("client\\x"), if_exists: false };
    assert_eq!(inside.probe(&bench.cx()).unwrap_err().kind(), ErrorKind::BadInput);
    Ok(())
}
