use super::*;
use crate::actions::restore::Restore;
use crate::actions::testing::{Bench, contents, tree};
use crate::events::RunId;
use std::os::unix::fs::PermissionsExt;

fn backup(of: &[&str]) -> Backup {
    Backup {
        of: of.iter().map(|p| Place((*p).to_owned())).collect(),
        to: None,
        exclude: vec!["**/*.*dmp".to_owned()],
        exclude_in: BTreeMap::from([("server".to_owned(), vec![".git".to_owned()])]),
        must_hold: BTreeMap::from([("server".to_owned(), vec!["version.txt".to_owned()])]),
        if_exists: true,
    }
}

fn installed() -> Bench {
    let bench = Bench::new();
    for (path, content) in [
        ("VERSION.txt", "12.0.1 of today"),
        ("ioc/a.db", "a"),
        ("ioc/core.1dmp", "dump"),
        (".git/HEAD", "ref"),
        ("ioc/\u{e4}\u{f6}.txt", "umlauts"),
    ] {
        bench.write("server", path, content);
    }
    std::fs::create_dir(bench.at("server", "empty")).unwrap();
    bench
}

fn folders(bench: &Bench) -> Vec<String> {
    let all = std::fs::read_dir(bench.at("backups", "")).unwrap();
    let mut names: Vec<_> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_holds_what_it_should_and_python_reads_it() -> Result<()> {
    let bench = installed();
    let both = backup(&["server", "client"]);
    assert_eq!(both.probe(&bench.cx())?.summary, "1 folder, 3 files, 23 B");
    assert_eq!(both.space(&bench.cx())?[0].bytes, 23);
    both.apply(&bench.cx())?;
    let names = folders(&bench);
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("ibex_backup_2"), "{names:?}");
    let folder = bench.at("backups", &names[0]);
    let catalogue = read_catalogue(&folder)?;
    let server = &catalogue.places["server"];
    assert_eq!((server.zip.as_str(), server.written.files), ("EPICS.zip", 3));
    assert_eq!(server.version.as_deref(), Some("12.0.1"));
    let out = bench.dir.path().join("out");
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2])";
    let python = std::process::Command::new("python3").args(["-c", script]).arg(folder.join("EPICS.zip")).arg(&out).status();
    assert!(python.unwrap().success());
    let names: Vec<_> = contents(&out).into_keys().collect();
    assert_eq!(names, ["VERSION.txt", "ioc/a.db", "ioc/\u{e4}\u{f6}.txt"]);
    assert!(out.join("empty").is_dir());
    // Again within the run: it is done. In another run: a second folder of the day.
    both.apply(&bench.cx())?;
    assert_eq!(folders(&bench).len(), 1);
    let mut other = bench;
    other.step.id = "stage.09.backup".to_owned();
    both.apply(&other.cx())?;
    assert!(folders(&other)[1].ends_with("_2"));
    Ok(())
}

#[test]
fn an_incomplete_backup_is_no_backup() {
    let bench = installed();
    std::fs::remove_file(bench.at("server", "VERSION.txt")).unwrap();
    let error = backup(&["server"]).apply(&bench.cx()).unwrap_err();
    assert!(error.to_string().contains("does not hold version.txt"), "{error}");
    assert_eq!(folders(&bench), Vec::<String>::new());
    let wrong = Backup { exclude_in: BTreeMap::from([("sever".to_owned(), Vec::new())]), ..backup(&["server"]) };
    assert_eq!(wrong.probe(&bench.cx()).unwrap_err().kind(), ErrorKind::BadInput);
    let missing = Backup { if_exists: false, ..backup(&["client"]) };
    assert!(missing.probe(&bench.cx()).is_err());
}

#[test]
fn damage_is_found_when_read_back() -> Result<()> {
    let bench = installed();
    let noise: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    bench.write("server", "noise.bin", noise);
    let (folder, zip) = (bench.at("server", ""), bench.dir.path().join("x.zip"));
    let listing = Listing::of(&folder, &PathPatterns::default())?;
    let mut gone = listing.clone();
    gone.files.insert(RelPath::parse("was/here.txt")?, 1);
    let written = archive::write(&folder, &gone, &zip, &|_| Ok(()))?;
    assert_eq!(written.vanished.len(), 1);
    archive::verify(&zip, &gone, &written, &|_| Ok(()))?;
    let mut fewer = listing.clone();
    fewer.files.pop_first();
    assert_eq!(archive::verify(&zip, &fewer, &written, &|_| Ok(())).unwrap_err().kind(), ErrorKind::Integrity);
    let mut bytes = std::fs::read(&zip).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&zip, bytes).unwrap();
    assert!(archive::verify(&zip, &gone, &written, &|_| Ok(())).is_err());
    Ok(())
}

#[test]
fn a_restore_brings_back_content_and_times_and_is_undone_exactly() -> Result<()> {
    let mut bench = installed();
    backup(&["server"]).apply(&bench.cx())?;
    std::fs::set_permissions(bench.at("server", "ioc/a.db"), PermissionsExt::from_mode(0o600)).unwrap();
    bench.write("server", "ioc/a.db", "changed");
    bench.write("server", "new.txt", "new");
    let before = tree(&bench.at("server", ""));
    let restore = Restore { from: None, of: vec![Place("server".to_owned())] };
    assert!(restore.probe(&bench.cx()).is_err(), "the backup of this very run does not count");
    bench.plan.run = RunId("20260102-000000-bbbbbb".to_owned());
    bench.step.id = "apply.02.restore".to_owned();
    restore.stage(&bench.cx())?;
    assert_eq!(tree(&bench.at("server", "")), before);
    restore.apply(&bench.cx())?;
    assert_eq!(bench.read("server", "ioc/a.db"), "a");
    let meta = bench.at("server", "ioc/a.db").metadata().unwrap();
    assert_eq!(crate::actions::moves::mtime_ns(&meta), 1_700_000_000_000_000_000);
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert!(!bench.at("server", "new.txt").exists());
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&bench.at("server", "")), before);
    Ok(())
}
