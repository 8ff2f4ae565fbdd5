use super::*;
use crate::error::Result;
use crate::paths::RelPath;
use std::path::Path;

fn entry(path: &str, text: &str) -> Entry {
    let (component, below) = path.split_once('/').unwrap();
    let path = PatchPath { component: component.to_owned(), path: RelPath::parse(below).unwrap() };
    Entry { path, content: Content::Bytes(text.as_bytes().to_vec()), executable: below.ends_with(".bat") }
}

fn packed(folder: &Path, name: &str, head: &Head, entries: Vec<Entry>) -> Result<ReadPatch> {
    let archive = folder.join(name);
    write(&archive, head, entries)?;
    PatchStore::open(folder).read(&archive)
}

#[test]
fn what_is_written_is_read_and_the_same_bytes_come_of_the_same_entries() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let head = Head {
        id: Some("a-fix".to_owned()),
        description: "it mends: everything".to_owned(),
        deletes: vec!["Client/old.jar".to_owned()],
        restart: Restart::Iocs(vec!["GALIL_01".to_owned()]),
        ..Head::default()
    };
    let entries = || vec![entry("EPICS/b.bat", "b"), entry("EPICS/a/a.db", "a")];
    let read = packed(folder.path(), "one.zip", &head, entries())?;
    let mut turned = entries();
    turned.reverse();
    let again = packed(folder.path(), "two.zip", &head, turned)?;
    assert_eq!(read.digest, again.digest);
    let patch = read.patch;
    assert_eq!((patch.id.as_str(), patch.archive.as_str()), ("a-fix", "one.zip"));
    let files: Vec<_> = patch.files.iter().map(|f| (f.path.as_str(), f.size, f.executable)).collect();
    assert_eq!(files, [("a/a.db", 1, false), ("b.bat", 1, true)]);
    assert_eq!(patch.deletes[0].to_string(), "Client/old.jar");
    assert_eq!(patch.components().into_iter().collect::<Vec<_>>(), ["Client", "EPICS"]);
    assert_eq!(patch.content()?, again.patch.content()?);
    Ok(())
}

#[test]
fn without_a_name_of_its_own_a_hotfix_has_its_archive_s() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let read = packed(folder.path(), "my patch (2).zip", &Head::default(), vec![entry("EPICS/a", "a")])?;
    assert_eq!(read.patch.id, "my-patch--2");
    assert!(packed(folder.path(), "---.zip", &Head::default(), vec![entry("EPICS/a", "a")]).is_err());
    Ok(())
}

#[test]
fn every_mistake_of_a_head_has_its_place() {
    let text = "id: 'a b'\nrestart: {iocs: ['A;B', GOOD_01]}\nchecks:\n- output: {run: x}\n- {}\n";
    let error = Head::parse("hotfix.yaml", text).unwrap_err();
    let all: Vec<String> = std::iter::once(&error)
        .chain(&error.details().others)
        .map(|e| e.details())
        .map(|d| {
            let line = d.position.as_ref().map_or(0, |p| p.line);
            format!("{line}: {}", d.message)
        })
        .collect();
    assert_eq!(
        all,
        [
            "1: `a b` cannot be the name of a hotfix",
            "2: `A;B` is not the name of an IOC",
            "4: a check of a hotfix runs no line, so it cannot be `output`",
            "5: a check has exactly one kind",
        ]
    );
}
