use super::catalogue::{BackupState, backups_in};
use super::*;
use crate::actions::testing::{Bench, contents, crash_after};
use crate::locks::locked;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Mutex;

fn backup(of: &[&str]) -> Backup {
    Backup {
        of: of.iter().map(|p| Place((*p).to_owned())).collect(),
        to: None,
        exclude: vec!["**/*.*dmp".to_owned()],
        exclude_in: BTreeMap::from([("server".to_owned(), vec![".git".to_owned()])]),
        must_hold: BTreeMap::from([("server".to_owned(), vec!["version.txt".to_owned()])]),
        if_exists: true,
        unreadable: IfUnreadable::Fail,
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
    let Ok(all) = std::fs::read_dir(bench.at("backups", "")) else { return Vec::new() };
    let mut names: Vec<_> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that no compressor makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(next).collect()
}

fn catalogue_of(folder: &Path) -> Catalogue {
    read_catalogue(folder).unwrap().expect("a catalogue")
}

fn write_all(folder: &Path, zip: &Path) -> Result<(Listing, Written)> {
    let listing = Listing::of(folder, &PathPatterns::default())?;
    let (written, _) = write::write(folder, &listing, zip, &|_| Ok(()))?;
    read::verify(zip, &listing, &written, &|_| Ok(()))?;
    Ok((listing, written))
}

/// Every program that people may have opens the zip and finds it whole.
fn every_program_reads(zip: &Path) {
    let script = "import sys, zipfile; sys.exit(zipfile.ZipFile(sys.argv[1]).testzip() is not None)";
    for command in [&["unzip", "-tq"][..], &["bsdtar", "-xOf"], &["python3", "-c", script], &["7z", "t"]] {
        let out = Command::new(command[0]).args(&command[1..]).arg(zip).stdin(std::process::Stdio::null()).output();
        let out = out.unwrap_or_else(|e| panic!("{}: {e}", command[0]));
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stderr),
            String::from_utf8_lossy(&out.stdout[..out.stdout.len().min(4000)])
        );
        assert!(out.status.success(), "{command:?}: {said}");
        assert!(!said.to_lowercase().contains("warning"), "{command:?}: {said}");
    }
}

#[test]
fn a_backup_holds_what_it_should_and_python_reads_it() -> Result<()> {
    let bench = installed();
    let both = backup(&["server", "client"]);
    assert_eq!(both.probe(&bench.cx())?.summary, "1 folder, 3 files, 23 B");
    assert!(both.space(&bench.cx())?[0].bytes > 23, "names take room as well");
    both.apply(&bench.cx())?;
    let names = folders(&bench);
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("ibex_backup_2"), "{names:?}");
    let folder = bench.at("backups", &names[0]);
    let catalogue = catalogue_of(&folder);
    assert!(catalogue.verified >= Some(catalogue.made));
    let server = &catalogue.places["server"];
    assert_eq!((server.zip.as_str(), server.written.files), ("EPICS.zip", 3));
    assert_eq!(server.version.as_deref(), Some("12.0.1"));
    assert_eq!(server.excluded, ["**/*.*dmp", ".git"]);
    let out = bench.dir.path().join("out");
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2])";
    let python = Command::new("python3").args(["-c", script]).arg(folder.join("EPICS.zip")).arg(&out).status();
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
    // The first one goes to the share: its name does not come again.
    std::fs::remove_dir_all(folder).unwrap();
    other.step.id = "stage.10.backup".to_owned();
    both.apply(&other.cx())?;
    assert!(folders(&other)[1].ends_with("_3"), "{:?}", folders(&other));
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
fn what_a_killed_backup_left_behind_goes_with_the_next() -> Result<()> {
    let bench = installed();
    crash_after(Some(0));
    let killed = backup(&["server"]).apply(&bench.cx());
    crash_after(None);
    assert!(killed.is_err());
    // The test's crash lets the clean-up run, which a kill does not.
    let half = bench.write("backups", ".20251231-000000-zzzzzz-stage.02.backup.part/EPICS.zip", "half");
    assert_eq!(backups_in(&bench.at("backups", ""))?.len(), 0, "half a backup is none");
    backup(&["server"]).apply(&bench.cx())?;
    assert!(!half.exists());
    assert_eq!(folders(&bench).len(), 1);
    Ok(())
}

#[test]
fn zips_of_all_shapes_are_read_by_every_program_and_unpacked_alike() -> Result<()> {
    let bench = Bench::new();
    let mut long = "d".repeat(100);
    long = [long.as_str(); 5].join("/");
    let mut large: Vec<u8> = "all work and no play ".repeat(300_000).into_bytes();
    large.extend(noise(6 << 20));
    for (path, content) in [
        ("empty.txt", Vec::new()),
        ("noise.bin", noise(70_000)),
        ("just one piece.bin", vec![7; 4 << 20]),
        ("a byte more.bin", vec![7; (4 << 20) + 1]),
        ("three pieces.bin", large),
        ("\u{65e5}\u{672c}\u{8a9e} & [odd] #1 %.txt", b"odd".to_vec()),
        (format!("{long}/deep.txt").as_str(), b"deep".to_vec()),
    ] {
        bench.write("server", path, content);
    }
    let (folder, zip) = (bench.at("server", ""), bench.dir.path().join("x.zip"));
    let (listing, written) = write_all(&folder, &zip)?;
    assert_eq!((written.files, written.bytes), (7, listing.bytes()));
    assert!(written.zip_bytes < listing.room());
    every_program_reads(&zip);
    let out = bench.dir.path().join("out");
    assert!(Command::new("unzip").arg("-q").arg(&zip).arg("-d").arg(&out).status().unwrap().success());
    assert!(contents(&out) == contents(&folder), "unzip unpacks what was there");
    let ours = bench.dir.path().join("ours");
    read::unpack(&zip, &read::contents(&zip)?, None, &ours, &|_| Ok(()))?;
    assert!(contents(&ours) == contents(&folder), "and so do we");
    let meta = ours.join("three pieces.bin").metadata().unwrap();
    assert_eq!(crate::actions::moves::mtime_ns(&meta), 1_700_000_000_123_456_700, "to 100 ns");
    Ok(())
}

#[test]
fn more_entries_than_the_old_form_can_count() -> Result<()> {
    let bench = Bench::new();
    let zip = bench.dir.path().join("many.zip");
    let empty = (0..66_000).map(|n| RelPath::parse(&format!("d{n}"))).collect::<Result<_>>()?;
    let listing = Listing { empty, ..Listing::default() };
    let (written, _) = write::write(bench.dir.path(), &listing, &zip, &|_| Ok(()))?;
    read::verify(&zip, &listing, &written, &|_| Ok(()))?;
    assert_eq!(read::contents(&zip)?.len(), 66_000);
    every_program_reads(&zip);
    Ok(())
}

#[test]
fn sizes_and_places_beyond_the_old_form_are_in_the_new_one() {
    use zip_format::{Attributes, Entry, Method, Times, end};
    let dir = tempfile::tempdir().unwrap();
    let zone = jiff::tz::TimeZone::UTC;
    let mut entry =
        Entry::new("large.txt".to_owned(), Times::of(1_700_000_000_123_456_700, &zone), Attributes::default(), 5 << 30);
    (entry.method, entry.crc, entry.size, entry.packed) = (Method::Stored, crc32fast::hash(b"hello"), 5, 5);
    let mut bytes = [entry.local_header(), b"hello".to_vec()].concat();
    let start = bytes.len() as u64;
    bytes.extend(entry.central_header());
    let length = bytes.len() as u64 - start;
    bytes.extend(end(1, start, length));
    let zip = dir.path().join("x.zip");
    std::fs::write(&zip, bytes).unwrap();
    every_program_reads(&zip);
    // Far behind: the place is in the extra field, and the old one says so.
    entry.offset = 6 << 30;
    let far = entry.central_header();
    assert_eq!(far[42..46], [0xff; 4]);
    assert!(far.windows(8).any(|w| w == (6_u64 << 30).to_le_bytes()));
}

#[test]
fn damage_is_found_when_read_back() -> Result<()> {
    let bench = installed();
    bench.write("server", "noise.bin", noise(40_000));
    let (folder, zip) = (bench.at("server", ""), bench.dir.path().join("x.zip"));
    let (listing, written) = write_all(&folder, &zip)?;
    let mut fewer = listing.clone();
    fewer.files.pop_first();
    assert_eq!(read::verify(&zip, &fewer, &written, &|_| Ok(())).unwrap_err().kind(), ErrorKind::Integrity);
    let whole = std::fs::read(&zip).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 0x40;
    std::fs::write(&zip, bytes).unwrap();
    let damaged = read::verify(&zip, &listing, &written, &|_| Ok(())).unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::Integrity, "{damaged}");
    assert!(damaged.to_string().contains("noise.bin"), "{damaged}");
    std::fs::write(&zip, &whole[..whole.len() - 30]).unwrap();
    assert_eq!(read::contents(&zip).unwrap_err().kind(), ErrorKind::Integrity);
    Ok(())
}

#[test]
fn what_vanishes_is_named_and_what_comes_back_is_taken() -> Result<()> {
    let bench = installed();
    let (folder, zip) = (bench.at("server", ""), bench.dir.path().join("x.zip"));
    let mut listing = Listing::of(&folder, &PathPatterns::default())?;
    for path in ["gone.txt", "replaced.txt", "busy.txt"] {
        listing.files.insert(RelPath::parse(path)?, 1);
    }
    // A folder in the place of a file cannot be read, as one that a program keeps to itself.
    std::fs::create_dir(folder.join("busy.txt")).unwrap();
    let looked_at = Mutex::new(BTreeSet::new());
    let alive = |_| {
        if locked(&looked_at).insert(0) {
            std::fs::write(folder.join("replaced.txt"), "new").unwrap();
            std::fs::remove_dir(folder.join("busy.txt")).unwrap();
            std::fs::write(folder.join("busy.txt"), "free").unwrap();
        }
        Ok(())
    };
    let (written, _) = write::write(&folder, &listing, &zip, &alive)?;
    assert_eq!(written.vanished, [RelPath::parse("gone.txt")?]);
    assert_eq!((written.unreadable.len(), written.changed.len()), (0, 0));
    read::verify(&zip, &listing, &written, &|_| Ok(()))?;
    every_program_reads(&zip);
    Ok(())
}

#[test]
fn what_stays_unreadable_or_is_written_to_all_the_time_is_named() -> Result<()> {
    let bench = installed();
    let (folder, zip) = (bench.at("server", ""), bench.dir.path().join("x.zip"));
    std::fs::create_dir(folder.join("busy.txt")).unwrap();
    // It has no size, and yet there is something to read: as if somebody wrote between the two looks.
    std::os::unix::fs::symlink("/proc/self/maps", folder.join("log.txt")).unwrap();
    let large = folder.join("large.bin");
    std::fs::write(&large, noise(9 << 20)).unwrap();
    let mut listing = Listing::of(&folder, &PathPatterns::default())?;
    assert_eq!(listing.links, [RelPath::parse("log.txt")?]);
    listing.links.clear();
    listing.files.insert(RelPath::parse("log.txt")?, 0);
    listing.files.insert(RelPath::parse("busy.txt")?, 0);
    // Somebody shortens the large file once its first piece has been read.
    let alive = |read| {
        if read == work::PIECE {
            std::fs::OpenOptions::new().write(true).open(&large).and_then(|f| f.set_len(5 << 20)).unwrap();
        }
        Ok(())
    };
    let (written, _) = write::write(&folder, &listing, &zip, &alive)?;
    let named: Vec<&str> = written.unreadable.iter().map(|u| u.path.as_str()).collect();
    assert_eq!(named, ["busy.txt"]);
    let mut changed: Vec<&str> = written.changed.iter().map(RelPath::as_str).collect();
    changed.sort_unstable();
    assert_eq!(changed, ["large.bin", "log.txt"]);
    read::verify(&zip, &listing, &written, &|_| Ok(()))?;
    every_program_reads(&zip);
    Ok(())
}

#[test]
fn a_file_that_nobody_can_read_fails_the_step_or_is_named() -> Result<()> {
    let bench = installed();
    let odd = bench.at("server", "ioc").join(std::ffi::OsStr::from_bytes(b"bad\xff.txt"));
    std::fs::write(odd, "x").unwrap();
    let error = backup(&["server"]).apply(&bench.cx()).unwrap_err();
    assert!(error.to_string().contains("1 file of C:\\Instrument\\Apps\\EPICS cannot be read"), "{error}");
    assert!(error.details().output[0].contains("ioc/bad"), "{error:?}");
    assert!(error.details().next.as_deref().is_some_and(|n| n.contains("unreadable: name")), "{error:?}");
    assert_eq!(folders(&bench), Vec::<String>::new());
    let named = Backup { unreadable: IfUnreadable::Name, ..backup(&["server"]) };
    let applied = named.apply(&bench.cx())?;
    assert_eq!(applied.result["unreadable"], 1);
    let told = locked(&bench.world.notes).join("\n");
    assert!(told.contains("the backup of server lacks what could not be read: ioc/bad"), "{told}");
    let catalogue = catalogue_of(&bench.at("backups", &folders(&bench)[0]));
    assert_eq!(catalogue.places["server"].written.unreadable.len(), 1);
    Ok(())
}

#[test]
fn the_list_tells_good_backups_from_damaged_and_older_ones() -> Result<()> {
    let bench = installed();
    backup(&["server"]).apply(&bench.cx())?;
    let name = folders(&bench).remove(0);
    bench.write("backups", "ibex_backup_2025_03_02/EPICS.zip", "older");
    bench.write("backups", "ibex_backup_2025_03_01/catalogue.json", "{\"format\": 1,");
    bench.write("backups", "somebody's folder/EPICS.zip", "not ours");
    let all = backups_in(&bench.at("backups", ""))?;
    let states: Vec<(&str, BackupState)> = all.iter().map(|b| (b.name.as_str(), b.state)).collect();
    assert_eq!(states[0], (name.as_str(), BackupState::Good));
    assert_eq!(states.len(), 3, "{states:?}");
    assert!(states.contains(&("ibex_backup_2025_03_02", BackupState::Uncatalogued)));
    assert!(states.contains(&("ibex_backup_2025_03_01", BackupState::Damaged)));
    std::fs::remove_file(bench.at("backups", &format!("{name}/EPICS.zip"))).unwrap();
    let records = catalogue::backups(&bench.cx().drives.clone(), &bench.plan.places["backups"])?;
    let damaged = records.iter().find(|r| r.name == name).unwrap();
    assert_eq!(damaged.problem.as_deref(), Some("EPICS.zip is missing"));
    assert_eq!(damaged.folder.as_str(), format!("C:\\data\\old\\{name}"));
    assert_eq!(damaged.zips[0].place.as_deref(), Some("server"));
    Ok(())
}

/// A small disk; it goes with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing, and a line that says so, where mounting is not permitted.
    fn at(folder: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        if !mounted.is_ok_and(|out| out.status.success()) {
            eprintln!("skipped: a disk cannot be mounted here");
            return None;
        }
        Some(Self(folder.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_in_the_middle_leaves_no_half_backup() {
    let bench = installed();
    for n in 0..40 {
        bench.write("server", &format!("ioc/{n}.bin"), noise(100_000));
    }
    // The bench says that there is room for everything.
    let Some(_disk) = SmallDisk::at(&bench.at("backups", ""), 1_500_000) else { return };
    let error = backup(&["server"]).apply(&bench.cx()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
    assert_eq!(folders(&bench), Vec::<String>::new());
}
