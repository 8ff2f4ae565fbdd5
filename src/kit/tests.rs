use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const EPICS: [(&str, &str); 3] = [("VERSION.txt", "26.8.0 1234\r\n"), ("ioc/a.db", "record"), ("start.bat", "rem")];

fn put(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    }
}

struct Share {
    dir: tempfile::TempDir,
    store: KitStore,
}

impl Share {
    fn new(releases: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for release in releases {
            put(&dir.path().join("share").join(release).join("EPICS"), &EPICS);
        }
        let store = KitStore::open(&dir.path().join("share"), &dir.path().join("cache"));
        Self { dir, store }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("share").join(below)
    }

    fn load(&self, components: &[&str]) -> Result<Kit> {
        let components: Vec<_> = components.iter().map(|c| (*c).to_owned()).collect();
        self.store.load(&self.store.choose(None)?, &components, &|_| ())
    }

    fn message(&self, components: &[&str]) -> String {
        let error = self.load(components).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.details().next.is_some(), "{error}");
        // Native paths: on Windows with its own separators.
        error.to_string().replace(&self.path("").display().to_string(), "share/").replace('\\', "/")
    }
}

#[test]
fn the_newest_plain_release_counts_by_its_numbers() -> Result<()> {
    let share = Share::new(&["26.9.0", "26.10.0", "26.11.0-rc1", "not a release", "9.0.0"]);
    let names: Vec<_> = share.store.releases()?.into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["9.0.0", "26.9.0", "26.10.0", "26.11.0-rc1"]);
    assert_eq!(share.store.choose(None)?.name, "26.10.0");
    assert_eq!(share.store.choose(Some("26.11.0-RC1"))?.name, "26.11.0-rc1");
    let error = share.store.choose(Some("26.11.0rc1")).unwrap_err();
    assert!(error.details().next.as_deref().unwrap().contains("did you mean `26.11.0-rc1`?"));
    let by_path = share.store.choose(Some(share.path("not a release").to_str().unwrap()))?;
    assert_eq!(by_path.components.keys().collect::<Vec<_>>(), ["EPICS"]);
    Ok(())
}

#[test]
fn a_partial_release_is_completed_and_says_so() -> Result<()> {
    let share = Share::new(&["26.7.0", "26.8.0", "26.10.0"]);
    put(&share.path("26.7.0/genie_python_3"), &[("VERSION.txt", "7")]);
    put(&share.path("26.8.0/genie_python_3"), &[("VERSION.txt", "8")]);
    put(&share.path("26.8.1-fix/genie_python_3"), &[("VERSION.txt", "fix")]);
    put(&share.path("26.11.0-rc/genie_python_3"), &[("VERSION.txt", "newer")]);
    let kit = share.load(&["EPICS", "genie_python_3"])?;
    let python = &kit.components["genie_python_3"];
    assert_eq!((python.release.as_str(), python.borrowed, python.manifest.version.as_str()), ("26.8.0", true, "8"));
    assert_eq!(kit.notes, ["genie_python_3 comes from 26.8.0: 26.10.0 does not have it"]);
    assert!(!kit.components["EPICS"].borrowed);
    insta::assert_snapshot!(share.message(&["Client"]), @"neither share/26.10.0 nor an older release has the component `Client`");
    Ok(())
}

#[test]
fn manifests_are_the_same_whatever_the_threads_did() -> Result<()> {
    let share = Share::new(&["26.8.0"]);
    let files = AtomicU64::new(0);
    let release = share.store.choose(None)?;
    let count = |p: &KitProgress| {
        files.fetch_max(p.files, Ordering::Relaxed);
    };
    let kit = share.store.load(&release, &[], &count)?;
    let epics = &kit.components["EPICS"];
    assert_eq!(files.into_inner(), 3);
    assert_eq!(epics.manifest.version, "26.8.0");
    assert_eq!(
        epics.manifest.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
        ["VERSION.txt", "ioc/a.db", "start.bat"]
    );
    let again = share.store.load(&release, &[], &|_| ())?;
    assert_eq!(again.components["EPICS"].manifest_hash, epics.manifest_hash);
    Ok(())
}

#[test]
fn the_second_reading_comes_from_the_cache_and_verify_does_not() -> Result<()> {
    let share = Share::new(&["26.8.0"]);
    let hash = |kit: Kit| kit.components["EPICS"].manifest_hash;
    let first = hash(share.load(&[])?);
    // Other content behind the same size, time and file number: only reading finds it out.
    let path = share.path("26.8.0/EPICS/start.bat");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "REM").unwrap();
    let set_time = |time| std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    set_time(time);
    assert_eq!(hash(share.load(&[])?), first);
    let read = share.store.verify(&share.store.choose(None)?, false, &|_| ())?;
    assert_ne!(read[0].manifest, first.to_string());
    assert_eq!(read[0].written, Written::None);
    // Another time is enough for it to be read again.
    set_time(time + Duration::from_nanos(1000));
    assert_eq!(hash(share.load(&[])?).to_string(), read[0].manifest);
    Ok(())
}

#[test]
fn a_written_manifest_finds_what_is_missing_changed_or_too_much() -> Result<()> {
    let share = Share::new(&["26.8.0"]);
    let release = share.store.choose(None)?;
    assert_eq!(share.store.verify(&release, true, &|_| ())?[0].written, Written::Now);
    let release = share.store.choose(None)?;
    assert_eq!(share.store.verify(&release, false, &|_| ())?[0].written, Written::Matches);
    std::fs::remove_file(share.path("26.8.0/EPICS/ioc/a.db")).unwrap();
    put(&share.path("26.8.0/EPICS"), &[("new.txt", "n"), ("start.bat", "other")]);
    insta::assert_snapshot!(share.message(&[]), @"share/26.8.0/EPICS is not as share/26.8.0/manifests/EPICS.json says: ioc/a.db is missing, start.bat has other content, new.txt is not in it");
    Ok(())
}

#[test]
fn the_client_must_be_copied_to_the_end_and_its_duplicate_is_left_out() -> Result<()> {
    let share = Share::new(&["26.8.0"]);
    put(&share.path("26.8.0/Client"), &[("Client/VERSION.txt", "26.8.0"), ("zips/Client.7z", "7z")]);
    insta::assert_snapshot!(share.message(&[]), @"share/26.8.0/Client is still being copied: it has no COPY_COMPLETE.txt");
    put(&share.path("26.8.0/Client"), &[("COPY_COMPLETE.txt", "")]);
    let kit = share.load(&["Client"])?;
    let files: Vec<_> = kit.components["Client"].manifest.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(files, ["COPY_COMPLETE.txt", "Client/VERSION.txt"]);
    Ok(())
}

// Windows has no such names; a share that Linux serves does.
#[cfg(unix)]
#[test]
fn names_that_windows_cannot_have_or_tell_apart_are_named() {
    let share = Share::new(&["26.8.0"]);
    put(&share.path("26.8.0/EPICS"), &[("ioc/aux.c", ""), ("what?", ""), ("end.", "")]);
    insta::assert_snapshot!(share.message(&[]), @"share/26.8.0/EPICS has names that Windows cannot have: end. (Windows drops a dot or space at the end of a name), ioc/aux.c (`aux` is a device name on Windows), what? (the character '?' is not allowed in Windows names)");
    let share = Share::new(&["26.8.0"]);
    put(&share.path("26.8.0/EPICS"), &[("IOC/b.db", ""), ("ioc/A.DB", "")]);
    insta::assert_snapshot!(share.message(&[]), @"share/26.8.0/EPICS has names that differ only in case: IOC and ioc, ioc/A.DB and ioc/a.db");
}

#[cfg(unix)]
#[test]
fn a_component_may_be_a_link_and_its_inside_may_not() -> Result<()> {
    let share = Share::new(&["26.8.0"]);
    std::fs::create_dir(share.path("26.9.0")).unwrap();
    std::os::unix::fs::symlink("../26.8.0/EPICS", share.path("26.9.0/EPICS")).unwrap();
    let kit = share.load(&[])?;
    assert_eq!((kit.components["EPICS"].release.as_str(), kit.components["EPICS"].borrowed), ("26.8.0", true));
    assert_eq!(kit.components["EPICS"].manifest.files.len(), 3);
    assert!(kit.notes[0].starts_with("EPICS of 26.9.0 is a link to "), "{:?}", kit.notes);
    std::os::unix::fs::symlink("/etc/hosts", share.path("26.8.0/EPICS/ioc/hosts")).unwrap();
    insta::assert_snapshot!(share.message(&[]), @"share/26.9.0/EPICS has links inside: ioc/hosts -> /etc/hosts");
    std::fs::remove_file(share.path("26.9.0/EPICS")).unwrap();
    std::os::unix::fs::symlink("../gone", share.path("26.9.0/EPICS")).unwrap();
    insta::assert_snapshot!(share.message(&[]), @"share/26.9.0/EPICS is a link that leads nowhere: No such file or directory (os error 2)");
    Ok(())
}

#[test]
fn a_kit_that_changes_while_it_is_read_is_refused() -> Result<()> {
    let share = Share::new(&["26.8.0"]);
    let release = share.store.choose(None)?;
    // The first sign of progress is when hashing has begun: then a file is written.
    let epics = share.path("26.8.0/EPICS");
    let disturb = |_: &KitProgress| std::fs::write(epics.join("late.txt"), "x").unwrap();
    let error = share.store.load(&release, &[], &disturb).unwrap_err();
    assert!(error.to_string().ends_with("EPICS changed while it was read: late.txt"), "{error}");
    assert_eq!(share.load(&[])?.components["EPICS"].manifest.files.len(), 4);
    Ok(())
}
