//! Archives that are damaged, or made to do harm: each is refused with the entry it is about, before any contact.

use super::{NAME, START, archive, write_zip};
use crate::support::Fleet;
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;

/// Changes bytes of an archive wherever they stand.
fn patched(path: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).expect("an archive");
    let places: Vec<usize> = bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "the archive has these bytes");
    places.iter().for_each(|at| bytes[*at..at + to.len()].copy_from_slice(to));
    std::fs::write(path, bytes).expect("a file");
}

/// Changes bytes of the central directory, counted from the start of its entry for a name.
fn in_directory(path: &Path, name: &str, offset: usize, to: &[u8]) {
    let mut bytes = std::fs::read(path).expect("an archive");
    let entry = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == b"PK\x01\x02")
        .map(|(at, _)| at)
        .find(|at| bytes[at + 46..].starts_with(name.as_bytes()))
        .expect("an entry of the directory");
    bytes[entry + offset..entry + offset + to.len()].copy_from_slice(to);
    std::fs::write(path, bytes).expect("a file");
}

fn with(path: &Path, fill: impl FnOnce(&mut zip::ZipWriter<std::fs::File>)) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).expect("an archive"));
    fill(&mut zip);
    zip.finish().expect("a whole archive");
}

/// What is said of an archive, which must be refused as bad input.
fn refused(fleet: &Fleet, path: &Path) -> String {
    let ended = fleet
        .command(&["hotfix", NAME, &path.display().to_string(), "--yes", "--output", "plain"])
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{}: {text}", path.display());
    text.replace(&fleet.dir().display().to_string(), "DIR")
}

#[test]
fn entries_that_lead_elsewhere_or_cannot_be_on_windows_are_refused_by_name() {
    let fleet = Fleet::empty();
    for (name, what) in [
        ("EPICS/../../x.txt", "leads out of its folder with `..`"),
        ("EPICS\\..\\x.txt", "leads out of its folder with `..`"),
        ("../x.txt", "leads out of its folder with `..`"),
        ("/etc/passwd", "is an absolute path"),
        ("\\\\server\\share\\x", "is an absolute path"),
        ("C:/Windows/x.dll", "begins with a drive letter"),
        ("EPICS/aux.txt", "is a device name on Windows"),
        ("EPICS/ioc/COM1", "is a device name on Windows"),
        ("EPICS/a.txt:stream", "the character ':' is not allowed"),
        ("EPICS/end. ", "drops a dot or space"),
        ("EPICS/what?.txt", "the character '?' is not allowed"),
        ("EPICS//x.txt", "is not a plain path"),
        ("EPICS/./x.txt", "is not a plain path"),
        ("EPICS/.git/HEAD", "lies in `.git`"),
        ("EPICS/ioc/.GIT/hooks/post-merge", "lies in `.GIT`"),
        ("EPICS/.ibexdeploy/x", "lies in `.ibexdeploy`"),
        ("loose.txt", "lies beside the components"),
        ("EPCIS/x.txt", "did you mean `EPICS`?"),
    ] {
        let text = refused(&fleet, &archive(&fleet, "evil.zip", &[(START, "good"), (name, "x")]));
        assert!(text.contains(what) && text.contains(&name.escape_debug().to_string()), "{name}: {text}");
    }
    assert!(!fleet.root(NAME).join(".ibexdeploy/runs").exists(), "nobody was contacted");
}

#[test]
fn links_and_other_things_that_are_no_files_are_refused() {
    let fleet = Fleet::empty();
    let path = fleet.dir().join("evil.zip");
    with(&path, |zip| zip.add_symlink("EPICS/link", "/etc", SimpleFileOptions::default()).expect("a link"));
    assert!(refused(&fleet, &path).contains("`EPICS/link` is a link"));
    // A Unix pipe, and a junction as Windows marks it.
    for (attributes, what) in [(0o010_644_u32 << 16, "is neither a file nor a folder"), (0x400, "is a link")] {
        write_zip(&path, &[("EPICS/odd", "x")]);
        in_directory(&path, "EPICS/odd", 38, &attributes.to_le_bytes());
        let text = refused(&fleet, &path);
        assert!(text.contains("`EPICS/odd`") && text.contains(what), "{text}");
    }
    write_zip(&path, &[("EPICS/secret", "x")]);
    in_directory(&path, "EPICS/secret", 8, &[1]);
    assert!(refused(&fleet, &path).contains("`EPICS/secret` is encrypted"));
}

#[test]
fn what_is_there_twice_is_refused() {
    let fleet = Fleet::empty();
    let path = fleet.dir().join("evil.zip");
    write_zip(&path, &[("EPICS/one.txt", "1"), ("EPICS/two.txt", "2")]);
    patched(&path, b"EPICS/two.txt", b"EPICS/one.txt");
    let text = refused(&fleet, &path);
    assert!(text.contains("`EPICS/one.txt` is there twice"), "{text}");
    for (one, other) in [("EPICS/a.txt", "EPICS/A.TXT"), ("EPICS/a", "EPICS/A/b.txt"), ("EPICS/a.txt", "EPICS\\a.txt")] {
        let text = refused(&fleet, &archive(&fleet, "evil.zip", &[(one, "1"), (other, "2")]));
        assert!(text.contains("is the same to Windows as"), "{one} and {other}: {text}");
    }
    let head = "deletes: [EPICS/a.txt, EPICS/b.txt, '../c.txt']\n";
    let text = refused(&fleet, &archive(&fleet, "evil.zip", &[("hotfix.yaml", head), ("EPICS/A.txt", "1")]));
    assert!(text.contains("`EPICS/a.txt`, which is there as `EPICS/A.txt` as well"), "{text}");
    assert!(text.contains("`../c.txt`, which leads out of its folder"), "{text}");
}

#[test]
fn archives_that_would_fill_a_disk_are_refused_before_they_are_unpacked() {
    let fleet = Fleet::empty();
    let path = fleet.dir().join("bomb.zip");
    with(&path, |zip| {
        zip.start_file("EPICS/zeros", SimpleFileOptions::default()).expect("an entry");
        let zeros = vec![0; 1 << 20];
        (0..128).for_each(|_| zip.write_all(&zeros).expect("zeros"));
    });
    let text = refused(&fleet, &path);
    assert!(text.contains("it would grow from"), "{text}");

    write_zip(&path, &[("EPICS/large", "x")]);
    in_directory(&path, "EPICS/large", 24, &0xF000_0000_u32.to_le_bytes());
    assert!(refused(&fleet, &path).contains("is the most"));

    // One content for two entries: how small archives become large ones.
    write_zip(&path, &[("EPICS/one.txt", "content"), ("EPICS/two.txt", "content")]);
    in_directory(&path, "EPICS/two.txt", 42, &0_u32.to_le_bytes());
    let text = refused(&fleet, &path);
    assert!(text.contains("entries share the same bytes"), "{text}");

    // An entry that is longer than it says.
    let long = "a text that goes on\n".repeat(100);
    write_zip(&path, &[("EPICS/liar.txt", &long)]);
    in_directory(&path, "EPICS/liar.txt", 24, &10_u32.to_le_bytes());
    assert!(refused(&fleet, &path).contains("`EPICS/liar.txt` is damaged"));
    let kept = fleet.dir().join("state/hotfixes");
    let left = std::fs::read_dir(kept).map_or(0, |all| all.flatten().filter(|e| e.file_name().len() != 64).count());
    assert_eq!(left, 0, "nothing half unpacked is left");
}

#[test]
fn damaged_archives_and_heads_are_refused_with_what_is_wrong() {
    let fleet = Fleet::empty();
    let damaged = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| -> String {
        let path: PathBuf = archive(&fleet, name, &[("EPICS/one.txt", "some content that is not too short")]);
        let bytes = std::fs::read(&path).expect("an archive");
        std::fs::write(&path, change(bytes)).expect("a file");
        refused(&fleet, &path)
    };
    let text = damaged("cut.zip", &|bytes| bytes[..bytes.len() / 2].to_vec());
    assert!(text.contains("is not a zip archive, or is damaged"), "{text}");
    let text = damaged("flipped.zip", &|mut bytes| {
        bytes[50] ^= 0x55;
        bytes
    });
    assert!(text.contains("`EPICS/one.txt` is damaged"), "{text}");
    let text = damaged("text.zip", &|_| b"not a zip at all".to_vec());
    assert!(text.contains("is not a zip archive"), "{text}");
    assert!(refused(&fleet, &fleet.dir().join("missing.zip")).contains("cannot read the hotfix DIR/missing.zip"));
    assert!(
        refused(&fleet, &archive(&fleet, "empty.zip", &[("hotfix.yaml", "description: nothing\n")])).contains("brings no file")
    );

    let text = refused(&fleet, &archive(&fleet, "head.zip", &[("hotfix.yaml", "restrat: server\n"), (START, "x")]));
    assert!(text.contains("head.zip: hotfix.yaml:1:1") && text.contains("did you mean `restart`"), "{text}");
    let head = "checks:\n- file: {path: 'servr\\x.txt'}\n";
    let text = refused(&fleet, &archive(&fleet, "place.zip", &[("hotfix.yaml", head), (START, "x")]));
    assert!(text.contains("place.zip: hotfix.yaml:2") && text.contains("did you mean `server`"), "{text}");
    let text = refused(&fleet, &archive(&fleet, "needs.zip", &[("hotfix.yaml", "requires: {EPIX: 1.0.0}\n"), (START, "x")]));
    assert!(text.contains("`requires` names `EPIX`") && text.contains("did you mean `EPICS`"), "{text}");
}

#[test]
fn the_words_of_the_command_say_which_instruments_and_which_archive() {
    let fleet = Fleet::empty();
    let zip = archive(&fleet, "patch.zip", &[(START, "x")]).display().to_string();
    for (words, said) in [
        (vec!["hotfix", NAME, "--yes"], "which hotfix?"),
        (vec!["hotfix", &zip, "--yes"], "which instruments shall get"),
        (vec!["hotfix", NAME, &zip, &zip, "--yes"], "the archive stands last"),
    ] {
        let ended = fleet.command(&words).output().expect("the binary starts");
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(2) && text.contains(said), "{words:?}: {text}");
    }
    let asked = fleet.command(&["hotfix", NAME, &zip]).output().expect("the binary starts");
    let text = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.code() == Some(4) && text.contains("not confirmed"), "{text}");
}
