use super::*;
use crate::actions::backup::catalogue::BackupState;
use crate::actions::backup::{Backup, IfUnreadable, catalogue, read};
use crate::actions::testing::{Bench, contents, crash_after, tree};
use crate::error::ErrorKind;
use crate::events::RunId;
use crate::locks::locked;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use zip::write::SimpleFileOptions;

fn place(text: &str) -> Place {
    Place(text.to_owned())
}

fn restore(of: &[&str]) -> Restore {
    Restore { from: None, of: of.iter().map(|p| place(p)).collect(), file: None }
}

/// A server and a client that were backed up in an earlier run, and changed since.
fn backed_up() -> Bench {
    let mut bench = Bench::new();
    for (path, content) in
        [("VERSION.txt", "12.0.1"), ("ioc/a.db", "a"), ("ioc/deep/b.db", "b"), ("run.bat", "#!/bin/sh"), (".git/HEAD", "old")]
    {
        bench.write("server", path, content);
    }
    std::fs::set_permissions(bench.at("server", "run.bat"), PermissionsExt::from_mode(0o755)).unwrap();
    bench.write("client", "VERSION.txt", "25.1.0");
    let backup = Backup {
        of: vec![place("server"), place("client")],
        to: None,
        exclude: Vec::new(),
        exclude_in: BTreeMap::from([("server".to_owned(), vec![".git".to_owned()])]),
        must_hold: BTreeMap::new(),
        if_exists: false,
        unreadable: IfUnreadable::Fail,
    };
    backup.apply(&bench.cx()).unwrap();
    assert!(restore(&[]).probe(&bench.cx()).is_err(), "the backup of this very run does not count");
    bench.plan.run = RunId("20260102-000000-bbbbbb".to_owned());
    bench.step.id = "apply.02.restore".to_owned();
    std::fs::set_permissions(bench.at("server", "ioc/a.db"), PermissionsExt::from_mode(0o600)).unwrap();
    bench.write("server", "ioc/a.db", "changed");
    bench.write("server", "new.txt", "new");
    bench.write("server", ".git/HEAD", "new");
    std::fs::remove_file(bench.at("server", "run.bat")).unwrap();
    bench.write("client", "VERSION.txt", "26.0.0");
    bench
}

fn folder(bench: &Bench) -> std::path::PathBuf {
    let mut all = catalogue::backups_in(&bench.at("backups", "")).unwrap();
    all.remove(0).path
}

#[test]
fn a_restore_brings_back_content_and_times_and_is_undone_exactly() -> Result<()> {
    let bench = backed_up();
    let before = tree(&bench.at("server", ""));
    let restore = restore(&["server"]);
    restore.stage(&bench.cx())?;
    assert_eq!(tree(&bench.at("server", "")), before, "staging changes nothing");
    restore.apply(&bench.cx())?;
    assert_eq!(bench.read("server", "ioc/a.db"), "a");
    let meta = bench.at("server", "ioc/a.db").metadata().unwrap();
    assert_eq!(crate::actions::moves::mtime_ns(&meta), 1_700_000_000_123_456_700);
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert!(!bench.at("server", "new.txt").exists());
    assert_eq!(bench.at("server", "run.bat").metadata().unwrap().permissions().mode() & 0o111, 0o111, "it can be run again");
    assert_eq!(bench.read("server", ".git/HEAD"), "new", "what the backup leaves out stays");
    assert_eq!(bench.read("client", "VERSION.txt"), "26.0.0", "nobody asked for the client");
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&bench.at("server", "")), before);
    Ok(())
}

#[test]
fn all_is_put_back_wherever_it_is_killed_on_the_way() -> Result<()> {
    let bench = backed_up();
    let apps = bench.at("server", "").parent().unwrap().to_path_buf();
    let before = tree(&apps);
    let mut kills = 0;
    loop {
        crash_after(Some(kills));
        let killed = restore(&[]).apply(&bench.cx()).is_err();
        crash_after(None);
        restore(&[]).apply(&bench.cx())?;
        assert_eq!((bench.read("server", "ioc/a.db").as_str(), bench.read("client", "VERSION.txt").as_str()), ("a", "25.1.0"));
        assert_eq!(bench.undo()?, Vec::<String>::new());
        assert_eq!(tree(&apps), before, "killed before rename {kills}");
        kills += 1;
        if !killed {
            assert!(kills > 6, "there are more renames than that");
            return Ok(());
        }
        // Begun anew: the moves of the last round are undone.
        locked(&bench.world.undo).clear();
        std::fs::remove_dir_all(bench.cx().run_dir).unwrap();
        std::fs::create_dir_all(bench.cx().run_dir).unwrap();
        std::fs::remove_dir_all(bench.cx().home.join("volumes")).unwrap();
    }
}

#[test]
fn one_file_or_folder_comes_back_alone() -> Result<()> {
    let bench = backed_up();
    let before = tree(&bench.at("server", ""));
    let one = |path: &str| Restore { file: Some(place(path)), ..restore(&["client"]) };
    let applied = one("server\\ioc\\A.db").apply(&bench.cx())?;
    assert!(
        applied.summary.starts_with("C:\\Instrument\\Apps\\EPICS\\ioc\\a.db from C:\\data\\old\\ibex_backup_"),
        "{applied:?}"
    );
    assert_eq!(bench.read("server", "ioc/a.db"), "a");
    assert_eq!(bench.read("client", "VERSION.txt"), "26.0.0");
    assert!(bench.at("server", "new.txt").exists(), "nothing else is touched");
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&bench.at("server", "")), before);
    locked(&bench.world.undo).clear();
    // A folder that is gone altogether.
    std::fs::remove_dir_all(bench.at("server", "ioc")).unwrap();
    let before = tree(&bench.at("server", ""));
    one("C:\\Instrument\\Apps\\EPICS\\ioc\\deep").apply(&bench.cx())?;
    assert_eq!(contents(&bench.at("server", "ioc")).into_iter().collect::<Vec<_>>(), [("deep/b.db".to_owned(), "b".to_owned())]);
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&bench.at("server", "")), before);
    Ok(())
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let bench = backed_up();
    let fails = |restore: Restore| {
        let error = restore.probe(&bench.cx()).unwrap_err();
        format!("{error} / {}", error.details().next.clone().unwrap_or_default())
    };
    let name = folder(&bench).file_name().unwrap().to_string_lossy().into_owned();
    let told = fails(Restore { from: Some(place("backups\\ibex_backup_2099_01_01")), ..restore(&["server"]) });
    assert!(told.contains("there is no backup") && told.contains(&format!("did you mean `{name}`?")), "{told}");
    let told = fails(Restore { file: Some(place("server\\ioc\\a.dbx")), ..restore(&[]) });
    assert!(told.contains("does not hold ioc/a.dbx") && told.contains("did you mean `ioc/a.db`?"), "{told}");
    let told = fails(restore(&["backups"]));
    assert!(told.contains("does not hold C:\\data\\old") && told.contains("it holds C:\\Instrument\\Apps\\Client_E4"), "{told}");
}

#[test]
fn a_backup_of_another_instrument_or_of_a_folder_that_is_no_place_is_refused() {
    let bench = backed_up();
    let file = folder(&bench).join("catalogue.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let fails = |of: &[&str]| restore(of).probe(&bench.cx()).unwrap_err().to_string();
    std::fs::write(&file, text.replace("Client_E4\",", "Client_E5\",")).unwrap();
    assert!(fails(&[]).contains("C:\\Instrument\\Apps\\Client_E5 is in the backup"), "{}", fails(&[]));
    assert!(restore(&["server"]).probe(&bench.cx()).is_ok());
    std::fs::write(&file, text.replace("NDXTEST", "NDXLET")).unwrap();
    assert!(fails(&["server"]).ends_with("is a backup of NDXLET"), "{}", fails(&["server"]));
    std::fs::write(&file, text.replace("Client_E4.zip", "../Client_E4.zip")).unwrap();
    assert!(fails(&["server"]).contains("there is no backup with a catalogue"), "{}", fails(&["server"]));
}

#[test]
fn a_damaged_backup_is_passed_over_and_refused_when_it_is_named() -> Result<()> {
    let bench = backed_up();
    let before = tree(&bench.at("server", ""));
    let good = folder(&bench);
    let catalogue = std::fs::read(good.join("catalogue.json")).unwrap();
    let zip = good.join("EPICS.zip");
    let mut bytes = std::fs::read(&zip).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&zip, &bytes).unwrap();
    let error = restore(&["server"]).stage(&bench.cx()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("EPICS.zip is not what was written at the backup"), "{error}");
    assert_eq!(tree(&bench.at("server", "")), before);
    // What was found out once is known from then on, and a zip that lacks its end is seen at once: an older good one is taken,
    // and without one there is none.
    std::fs::remove_file(restore(&["server"]).note(&bench.cx())).unwrap();
    for (damaged, why) in [(&bytes[..], "is not what was written at the backup"), (&bytes[..middle], "EPICS.zip has")] {
        std::fs::write(&zip, damaged).unwrap();
        let error = restore(&["server"]).probe(&bench.cx()).unwrap_err();
        assert!(error.to_string().contains("there is no backup with a catalogue"), "{error}");
        let told = std::mem::take(&mut *locked(&bench.world.notes)).join("\n");
        assert!(told.contains("is damaged and was passed over") && told.contains(why), "{told}");
        std::fs::write(good.join("catalogue.json"), &catalogue).unwrap();
    }
    // The client's zip in it is whole.
    let named = Restore {
        from: Some(Place(format!("backups\\{}", good.file_name().unwrap().to_string_lossy()))),
        ..restore(&["client"])
    };
    named.apply(&bench.cx())?;
    assert_eq!(bench.read("client", "VERSION.txt"), "25.1.0");
    Ok(())
}

/// A zip with these entries, as somebody could make it.
fn zip_with(entries: &[(&str, &str)], more: impl FnOnce(&mut zip::ZipWriter<std::io::Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    more(&mut zip);
    zip.finish().unwrap().into_inner()
}

#[test]
fn folders_of_the_older_scripts_can_be_restored_when_they_are_named() -> Result<()> {
    let bench = backed_up();
    std::fs::remove_dir_all(folder(&bench)).unwrap();
    let old = bench.write(
        "backups",
        "ibex_backup_2025_03_02/epics.zip",
        zip_with(&[("VERSION.txt", "11.0.0"), ("x/y.txt", "y")], |_| ()),
    );
    bench.write("backups", "ibex_backup_2025_03_02/Desktop.zip", "whatever");
    let error = restore(&[]).probe(&bench.cx()).unwrap_err();
    assert_eq!(
        error.details().next.as_deref(),
        Some("name one that the older scripts made, for example `--backup ibex_backup_2025_03_02`")
    );
    let named = Restore { from: Some(place("backups\\ibex_backup_2025_03_02")), ..restore(&[]) };
    assert!(named.probe(&bench.cx())?.items[0].starts_with("~ C:\\Instrument\\Apps\\EPICS, 2 files"));
    named.apply(&bench.cx())?;
    assert_eq!(bench.read("server", "VERSION.txt"), "11.0.0");
    assert_eq!(bench.read("server", ".git/HEAD"), "new");
    assert!(locked(&bench.world.notes).join("\n").contains("Desktop.zip is like no place"));
    assert!(old.exists());
    assert_eq!(catalogue::backups_in(&bench.at("backups", ""))?[0].state, BackupState::Uncatalogued);
    Ok(())
}

#[test]
fn zips_that_lead_elsewhere_are_refused_whole() {
    let bench = backed_up();
    let before = tree(&bench.dir.path().join("NDXTEST/c/Instrument"));
    let good = &[("VERSION.txt", "11.0.0")];
    let link = zip_with(good, |zip| zip.add_symlink("x", "/etc", SimpleFileOptions::default()).unwrap());
    let cases = [
        ("../../x", zip_with(&[good[0], ("../../x", "x")], |_| ())),
        ("/etc/x", zip_with(&[good[0], ("/etc/x", "x")], |_| ())),
        ("C:/x", zip_with(&[good[0], ("C:/x", "x")], |_| ())),
        ("..\\x", zip_with(&[good[0], ("..\\x", "x")], |_| ())),
        ("x is a link", link),
        ("VERSION.txt is a file, and VERSION.txt/x lies in it", zip_with(&[good[0], ("VERSION.txt/x", "x")], |_| ())),
        ("have the name a/b", zip_with(&[("a/b", "1"), ("a\\b", "2")], |_| ())),
        ("cannot read", b"this is no zip".to_vec()),
    ];
    for (what, bytes) in cases {
        bench.write("backups", "ibex_backup_2025_03_02/EPICS.zip", bytes);
        let named = Restore { from: Some(place("backups\\ibex_backup_2025_03_02")), ..restore(&["server"]) };
        let error = named.apply(&bench.cx()).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert_eq!(tree(&bench.dir.path().join("NDXTEST/c/Instrument")), before, "{what}");
    }
}

#[test]
fn a_zip_that_gives_more_than_it_says_is_stopped() {
    let bench = backed_up();
    let mut bytes = zip_with(&[("VERSION.txt", &"1".repeat(5000))], |_| ());
    // The size in both headers.
    for at in [22, bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap() + 24] {
        bytes[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    }
    let zip = bench.write("backups", "ibex_backup_2025_03_02/EPICS.zip", bytes);
    let error = read::unpack(&zip, &read::contents(&zip).unwrap(), None, &bench.dir.path().join("out"), &|_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
}

#[test]
fn variables_can_name_places_and_backups() {
    let read = |json: serde_json::Value| serde_json::from_value::<Restore>(json).unwrap();
    let restore = read(serde_json::json!({"from": "ibex_backup_2026_11_02", "of": ["server, client", "python"], "file": " "}));
    assert_eq!(restore.from, Some(place("backups\\ibex_backup_2026_11_02")));
    assert_eq!(restore.of, [place("server"), place("client"), place("python")]);
    assert_eq!(restore.file, None);
    let all = read(serde_json::json!({"from": "", "of": ["all"]}));
    assert_eq!((all.from, all.of), (None, Vec::new()));
}

#[test]
fn what_no_backup_holds_stays_where_it_is() -> Result<()> {
    let mut bench = Bench::new();
    for (path, content) in [("VERSION.txt", "12.0.1"), ("ioc/a.db", "a"), ("ioc/deep/b.db", "b"), ("ioc/deep/dumps/old.dmp", "x")]
    {
        bench.write("server", path, content);
    }
    std::fs::write(bench.at("server", "ioc/deep").join("back\\slash.txt"), "no zip can hold this name").unwrap();
    std::os::unix::fs::symlink("../..", bench.at("server", "ioc").join("linked")).unwrap();
    let backup = Backup {
        of: vec![place("server")],
        to: None,
        exclude: Vec::new(),
        exclude_in: BTreeMap::from([("server".to_owned(), vec!["**/dumps".to_owned()])]),
        must_hold: BTreeMap::new(),
        if_exists: false,
        unreadable: IfUnreadable::Name,
    };
    backup.apply(&bench.cx())?;
    bench.plan.run = RunId("20260102-000000-bbbbbb".to_owned());
    bench.step.id = "apply.02.restore".to_owned();
    bench.write("server", "ioc/deep/b.db", "changed");
    bench.write("server", "ioc/deep/new.db", "new");
    bench.write("server", "ioc/deep/dumps/new.dmp", "y");
    // As if it had been locked then.
    bench.write("server", "ioc/locked.exe", "z");
    let file = folder(&bench).join(catalogue::CATALOGUE);
    let mut written: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    written["places"]["server"]["unreadable"] = serde_json::json!([{"path": "ioc/locked.exe", "why": "in use"}]);
    std::fs::write(&file, serde_json::to_vec(&written).unwrap()).unwrap();
    let before = tree(&bench.at("server", ""));
    for wanted in [restore(&["server"]), Restore { file: Some(place("server\\ioc")), ..restore(&[]) }] {
        wanted.apply(&bench.cx())?;
        assert_eq!(bench.read("server", "ioc/deep/b.db"), "b");
        assert!(!bench.at("server", "ioc/deep/new.db").exists(), "it was made since");
        assert_eq!(bench.read("server", "ioc/deep/dumps/old.dmp"), "x");
        assert_eq!(bench.read("server", "ioc/deep/dumps/new.dmp"), "y");
        assert!(bench.at("server", "ioc").join("linked").is_symlink());
        assert!(bench.at("server", "ioc/deep").join("back\\slash.txt").exists());
        let told = locked(&bench.world.notes).join("\n");
        assert!(told.contains("1 path could not be read when the backup was made") && told.contains("locked.exe"), "{told}");
        assert!(told.contains("3 paths that no backup holds stay as they are"), "{told}");
        assert_eq!(bench.read("server", "ioc/locked.exe"), "z");
        assert_eq!(bench.undo()?, Vec::<String>::new());
        assert_eq!(tree(&bench.at("server", "")), before);
        locked(&bench.world.undo).clear();
        std::fs::remove_dir_all(bench.cx().run_dir).unwrap();
        std::fs::create_dir_all(bench.cx().run_dir).unwrap();
        std::fs::remove_dir_all(bench.cx().home.join("volumes")).unwrap();
    }
    Ok(())
}

#[test]
fn a_folder_inside_one_that_was_saved_can_be_named() -> Result<()> {
    let mut bench = backed_up();
    let inside = bench.plan.places["server"].join(&crate::paths::RelPath::parse("ioc")?);
    bench.plan.places.insert("iocs".to_owned(), inside);
    restore(&["iocs"]).apply(&bench.cx())?;
    assert_eq!(bench.read("server", "ioc/a.db"), "a");
    assert!(bench.at("server", "new.txt").exists(), "only what was named");
    Ok(())
}
