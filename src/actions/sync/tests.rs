use super::*;
use crate::actions::testing::{Bench, contents, crash_after, tree};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn sync() -> Sync {
    Sync {
        component: "EPICS".to_owned(),
        from: None,
        to: Place("server".to_owned()),
        keep: vec!["keep".to_owned(), "**/*.kept".to_owned()],
        exclude: Vec::new(),
        as_unit: vec![".git".to_owned()],
        remove_extra: true,
        generated: vec!["**/__pycache__".to_owned()],
        versions: None,
    }
}

fn installed(bench: &Bench) {
    for (path, content) in [
        ("VERSION.txt", "1"),
        ("same.txt", "same"),
        ("ioc/a.db", "old a"),
        ("ioc/gone.db", "gone"),
        ("old/x/y.txt", "y"),
        ("old/z.txt", "z"),
        (".git/HEAD", "ref1"),
        (".git/objects/p1", "pack one"),
        (".git/index", "local"),
        ("keep/mine.txt", "mine"),
        ("ioc/my.kept", "mine too"),
        ("ioc/__pycache__/m.pyc", "generated"),
        ("Readme.TXT", "readme"),
        ("moved.bin", "moved content"),
    ] {
        bench.write("server", path, content);
    }
}

fn component(bench: &mut Bench) {
    bench.component(
        "EPICS",
        &[
            ("VERSION.txt", "2"),
            ("same.txt", "same"),
            ("ioc/a.db", "new a"),
            ("ioc/new.bat", "new b"),
            ("fresh/deep/n.txt", "n"),
            (".git/HEAD", "ref2"),
            (".git/objects/p1", "pack one"),
            ("keep/theirs.txt", "theirs"),
            ("README.txt", "readme"),
            ("bin/moved.bin", "moved content"),
        ],
    );
}

fn wanted() -> BTreeMap<String, String> {
    [
        ("VERSION.txt", "2"),
        ("same.txt", "same"),
        ("ioc/a.db", "new a"),
        ("ioc/new.bat", "new b"),
        ("fresh/deep/n.txt", "n"),
        (".git/HEAD", "ref2"),
        (".git/objects/p1", "pack one"),
        ("keep/mine.txt", "mine"),
        ("ioc/my.kept", "mine too"),
        ("ioc/__pycache__/m.pyc", "generated"),
        ("README.txt", "readme"),
        ("bin/moved.bin", "moved content"),
    ]
    .into_iter()
    .map(|(a, b)| (a.to_owned(), b.to_owned()))
    .collect()
}

#[test]
fn a_probe_tells_and_changes_nothing() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    let before = tree(&bench.at("server", ""));
    let probe = sync().probe(&bench.cx())?;
    assert_eq!(probe.summary, "7 files, 16 B to fetch, 5 to remove");
    assert_eq!(
        probe.items,
        [
            "~ .git/HEAD",
            "- .git/index",
            "~ README.txt",
            "~ VERSION.txt",
            "+ bin/moved.bin",
            "+ fresh/deep/n.txt",
            "~ ioc/a.db",
            "- ioc/gone.db",
            "+ ioc/new.bat",
            "- moved.bin",
            "- old/x/y.txt",
            "- old/z.txt",
        ]
    );
    assert_eq!(probe.fetch_bytes, 16);
    assert_eq!(tree(&bench.at("server", "")), before);
    Ok(())
}

#[test]
fn an_update_stages_renames_and_comes_back_exactly() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    let server = bench.at("server", "");
    std::fs::set_permissions(bench.at("server", "ioc/a.db"), PermissionsExt::from_mode(0o640)).unwrap();
    let before = tree(&server);
    let stats = sync().stage(&bench.cx())?;
    assert_eq!((stats.fetched_bytes, stats.copied_bytes), (16, 27));
    assert_eq!(tree(&server), before);
    let again = sync().stage(&bench.cx())?;
    assert_eq!((again.files, again.fetched_bytes), (0, 0));
    assert_eq!(sync().space(&bench.cx())?[0].bytes, 0);
    let done = sync().apply(&bench.cx())?;
    assert_eq!(contents(&server), wanted());
    assert_eq!(done.result["removed"], 5);
    assert!(!bench.at("server", "old").exists());
    let mode = |p: &str| bench.at("server", p).metadata().unwrap().mode() & 0o777;
    assert_eq!(mode("ioc/a.db"), 0o640);
    assert_eq!(mode("ioc/new.bat") & 0o111, 0o111);
    assert_eq!(mode("fresh/deep/n.txt") & 0o111, 0);
    assert_eq!(sync().probe(&bench.cx())?.difference, Difference::None);
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&server), before);
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&server), before);
    Ok(())
}

#[test]
fn a_first_install_makes_the_folders_and_undo_removes_them() -> Result<()> {
    let mut bench = Bench::new();
    bench.component("EPICS", &[("a.txt", "a"), ("b/c.txt", "c")]);
    sync().stage(&bench.cx())?;
    let apps = bench.at("server", "").parent().unwrap().to_path_buf();
    assert!(!apps.exists());
    sync().apply(&bench.cx())?;
    assert_eq!(contents(&bench.at("server", "")).len(), 2);
    bench.write("server", "log.txt", "made by a program since");
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert!(!apps.parent().unwrap().exists());
    Ok(())
}

#[test]
fn what_changes_between_stage_and_apply_is_staged_again() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    sync().stage(&bench.cx())?;
    bench.write("server", "same.txt", "no longer the same");
    bench.write("server", "ioc/a.db", "changed meanwhile");
    bench.write("server", "late.txt", "late");
    let before = tree(&bench.at("server", ""));
    sync().apply(&bench.cx())?;
    assert_eq!(contents(&bench.at("server", "")), wanted());
    assert!(bench.world.notes.lock().unwrap().iter().any(|n| n.contains("staged again")));
    bench.undo()?;
    assert_eq!(tree(&bench.at("server", "")), before);
    Ok(())
}

#[test]
fn files_and_folders_change_places() -> Result<()> {
    let mut bench = Bench::new();
    bench.write("server", "a", "file");
    bench.write("server", "b/x", "x");
    bench.write("server", "b/y/z", "z");
    std::os::unix::fs::symlink("nowhere", bench.at("server", "l")).unwrap();
    bench.component("EPICS", &[("a/inner", "1"), ("b", "2"), ("l", "3")]);
    let before = tree(&bench.at("server", ""));
    let plain = Sync { remove_extra: false, ..sync() };
    plain.stage(&bench.cx())?;
    plain.apply(&bench.cx())?;
    let names: Vec<_> = contents(&bench.at("server", "")).into_keys().collect();
    assert_eq!(names, ["a/inner", "b", "l"]);
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&bench.at("server", "")), before);
    Ok(())
}

#[test]
fn the_target_may_be_a_link_and_from_strips() -> Result<()> {
    let mut bench = Bench::new();
    let real = bench.dir.path().join("elsewhere");
    std::fs::create_dir_all(&real).unwrap();
    std::fs::create_dir_all(bench.at("client", "").parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, bench.at("client", "")).unwrap();
    bench.component("Client", &[("Client/a.txt", "a"), ("zips/Client.7z", "z"), ("COPY_COMPLETE.txt", "")]);
    let client =
        Sync { component: "Client".to_owned(), from: Some("Client".to_owned()), to: Place("client".to_owned()), ..sync() };
    client.stage(&bench.cx())?;
    client.apply(&bench.cx())?;
    assert_eq!(contents(&real).into_keys().collect::<Vec<_>>(), ["a.txt"]);
    assert!(bench.at("client", "").symlink_metadata().unwrap().is_symlink());
    let wrong = Sync { from: Some("Cliant".to_owned()), ..client };
    assert_eq!(wrong.probe(&bench.cx()).unwrap_err().kind(), ErrorKind::BadInput);
    Ok(())
}

#[test]
fn a_link_where_the_component_has_a_folder_and_a_shell_inside_are_refused() -> Result<()> {
    let mut bench = Bench::new();
    bench.write("server", "old/f", "f");
    std::fs::create_dir(bench.dir.path().join("else")).unwrap();
    std::os::unix::fs::symlink(bench.dir.path().join("else"), bench.at("server", "ioc")).unwrap();
    bench.component("EPICS", &[("ioc/a", "1")]);
    let error = sync().probe(&bench.cx()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("is a link"), "{error}");
    bench.component("EPICS", &[("a", "1")]);
    bench.world.processes.lock().unwrap().push(crate::platform::ProcessInfo {
        pid: 7,
        parent: 1,
        name: "sh".to_owned(),
        executable: None,
        scripts: Vec::new(),
        folder: Some(bench.at("server", "old")),
    });
    sync().stage(&bench.cx())?;
    let before = tree(&bench.at("server", ""));
    let error = sync().apply(&bench.cx()).unwrap_err();
    assert!(error.to_string().contains("in use by sh (7)"), "{error}");
    assert_eq!(tree(&bench.at("server", "")), before);
    assert!(bench.world.undo.lock().unwrap().is_empty());
    Ok(())
}

#[test]
fn kept_files_in_a_unit_are_refused() -> Result<()> {
    let mut bench = Bench::new();
    bench.write("server", ".git/HEAD", "1");
    bench.write("server", ".git/x.kept", "1");
    bench.component("EPICS", &[(".git/HEAD", "2")]);
    assert_eq!(sync().probe(&bench.cx()).unwrap_err().kind(), ErrorKind::BadInput);
    Ok(())
}

#[test]
fn a_full_disk_is_said_and_staging_goes_on_later() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    let before = tree(&bench.at("server", ""));
    *bench.world.room.lock().unwrap() = Some(8);
    assert_eq!(sync().stage(&bench.cx()).unwrap_err().kind(), ErrorKind::OutOfSpace);
    assert_eq!(tree(&bench.at("server", "")), before);
    let brought = bench.world.fetched.lock().unwrap().len();
    *bench.world.room.lock().unwrap() = None;
    sync().stage(&bench.cx())?;
    let fetched = bench.world.fetched.lock().unwrap().clone();
    let unique: BTreeSet<_> = fetched.iter().collect();
    assert!(brought > 0);
    assert_eq!(unique.len(), fetched.len(), "what came before the disk was full is not fetched again");
    Ok(())
}

#[test]
fn a_cancel_stops_staging() {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    bench.cancel();
    assert_eq!(sync().stage(&bench.cx()).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn owners_are_kept() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    let other = 12_345;
    for path in ["", "ioc", "ioc/a.db", ".git", ".git/HEAD"] {
        if std::os::unix::fs::chown(bench.at("server", path), Some(other), Some(other)).is_err() {
            return Ok(()); // not root
        }
    }
    sync().stage(&bench.cx())?;
    sync().apply(&bench.cx())?;
    let owner = |p: &str| bench.at("server", p).metadata().unwrap().uid();
    for path in ["ioc/a.db", "ioc/new.bat", ".git", ".git/HEAD", "fresh/deep/n.txt", "fresh"] {
        assert_eq!(owner(path), other, "{path}");
    }
    assert_ne!(owner("VERSION.txt"), other);
    Ok(())
}

#[test]
fn hand_made_changes_are_unknown_then_found_and_saved() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    let changes = |bench: &Bench| hand_changes(bench.cx().home, "EPICS", &bench.at("server", ""), &[], &[]);
    assert_eq!(changes(&bench)?, None);
    sync().stage(&bench.cx())?;
    assert_eq!(bench.world.hand.lock().unwrap().pop(), Some((None, None)));
    write_baseline(&bench.cx(), &sync())?;
    assert_eq!(changes(&bench)?, Some(Vec::new()));
    bench.write("server", "ioc/a.db", "by hand");
    bench.write("server", "ioc/hand.db", "added");
    bench.write("server", "same.txt", "by hand, and back in a moment");
    std::fs::remove_file(bench.at("server", "ioc/gone.db")).unwrap();
    bench.write("server", "same.txt", "same");
    let found: Vec<_> = changes(&bench)?.unwrap().into_iter().map(|c| (c.path.to_string(), c.kind)).collect();
    assert_eq!(
        found,
        [
            ("ioc/a.db".to_owned(), HandChangeKind::Changed),
            ("ioc/gone.db".to_owned(), HandChangeKind::Removed),
            ("ioc/hand.db".to_owned(), HandChangeKind::Added)
        ]
    );
    sync().apply(&bench.cx())?;
    let (files, archive) = bench.world.hand.lock().unwrap().pop().unwrap();
    assert_eq!(files, Some(2));
    let mut zip = zip::ZipArchive::new(std::fs::File::open(archive.unwrap()).unwrap()).unwrap();
    let mut names: Vec<_> = zip.file_names().map(|n| n.unwrap().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["EPICS/ioc/a.db", "EPICS/ioc/hand.db", "hotfix.yaml"]);
    let head = std::io::read_to_string(zip.by_name("hotfix.yaml").unwrap()).unwrap();
    assert!(head.contains("id: hand-changes-20260101-000000-aaaaaa-epics"), "{head}");
    assert_eq!(std::io::read_to_string(zip.by_name("EPICS/ioc/a.db").unwrap()).unwrap(), "by hand");
    Ok(())
}

/// A random tree: paths out of few names, so that files and folders collide between two of them.
fn any_tree() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop::sample::select(vec!["a", "b", "c", "A", ".git", "keep"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    prop::collection::btree_map(path, "[xyz]{0,2}", 1..14).prop_map(|tree| {
        let paths: Vec<String> = tree.keys().cloned().collect();
        let inside =
            |p: &str| paths.iter().any(|q| p.len() > q.len() && p.to_lowercase().starts_with(&format!("{}/", q.to_lowercase())));
        let mut seen = BTreeSet::new();
        tree.into_iter().filter(|(p, _)| !inside(p)).filter(|(p, _)| seen.insert(p.to_lowercase())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn killed_anywhere_it_leads_to_the_new_tree_or_back_to_the_old(
        old in any_tree(), new in any_tree(), kill in 0u32..12, remove_extra: bool, go_on: bool, kill_undo in 0u32..8,
    ) {
        let mut bench = Bench::new();
        std::fs::create_dir_all(bench.at("server", "")).unwrap();
        for (path, content) in &old {
            bench.write("server", path, content);
        }
        let files: Vec<(&str, &str)> = new.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
        prop_assume!(files.iter().any(|(p, _)| p.split('/').next() != Some("keep")));
        bench.component("EPICS", &files);
        let sync = Sync { keep: vec!["keep".to_owned()], remove_extra, ..sync() };
        let server = bench.at("server", "");
        let before = tree(&server);
        // A kept path in the way of something that comes is refused, with nothing changed.
        if sync.stage(&bench.cx()).is_err() {
            prop_assert_eq!(tree(&server), before);
            return Ok(());
        }
        crash_after(Some(kill));
        let killed = sync.apply(&bench.cx()).is_err();
        crash_after(None);
        if killed && !go_on {
            crash_after(Some(kill_undo));
            let _ = bench.undo();
            crash_after(None);
            prop_assert_eq!(bench.undo().unwrap(), Vec::<String>::new());
            prop_assert_eq!(tree(&server), before);
            return Ok(());
        }
        sync.apply(&bench.cx()).unwrap();
        let now = contents(&server);
        for (path, content) in new.iter().filter(|(p, _)| p.split('/').next() != Some("keep")) {
            prop_assert_eq!(now.get(path), Some(content), "{}", path);
        }
        for path in now.keys().filter(|p| !new.contains_key(*p)) {
            let kept = path.split('/').next() == Some("keep");
            prop_assert!(kept || (!remove_extra && old.contains_key(path)), "{} should not be there", path);
        }
        prop_assert_eq!(bench.undo().unwrap(), Vec::<String>::new());
        prop_assert_eq!(tree(&server), before);
    }
}

#[test]
fn the_agent_s_own_folder_in_a_target_is_nobody_s_content() -> Result<()> {
    let mut bench = Bench::new();
    bench.write("server", ".ibexdeploy/run/undo/0", "kept for undo");
    bench.write("server", "extra.txt", "extra");
    bench.component("EPICS", &[("a.txt", "a")]);
    sync().stage(&bench.cx())?;
    sync().apply(&bench.cx())?;
    let names: Vec<_> = contents(&bench.at("server", "")).into_keys().collect();
    assert_eq!(names, [".ibexdeploy/run/undo/0", "a.txt"]);
    Ok(())
}

#[test]
fn the_areas_of_a_run_are_known_and_go() -> Result<()> {
    let mut bench = Bench::new();
    bench.component("EPICS", &[("a.txt", "a")]);
    sync().stage(&bench.cx())?;
    let run_dir = bench.cx().run_dir.to_path_buf();
    let bases = volumes::areas_of_run(&run_dir)?;
    assert_eq!(bases.len(), 1);
    assert!(bases[0].ends_with(".ibexdeploy/volumes/20260101-000000-aaaaaa"));
    volumes::remove_areas(&run_dir, false)?;
    assert!(!bases[0].join("stage").exists() && bases[0].join("undo").exists());
    volumes::remove_areas(&run_dir, true)?;
    assert!(!bases[0].exists());
    Ok(())
}

#[test]
fn an_undo_works_when_the_stage_area_is_gone() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    let before = tree(&bench.at("server", ""));
    sync().stage(&bench.cx())?;
    sync().apply(&bench.cx())?;
    volumes::remove_areas(bench.cx().run_dir, false)?;
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&bench.at("server", "")), before);
    volumes::remove_areas(bench.cx().run_dir, false)?;
    assert_eq!(bench.undo()?, Vec::<String>::new());
    assert_eq!(tree(&bench.at("server", "")), before);
    Ok(())
}

#[test]
fn what_undo_cannot_find_is_named() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    component(&mut bench);
    sync().stage(&bench.cx())?;
    sync().apply(&bench.cx())?;
    let Some(UndoRecord::Sync(record)) = bench.world.undo.lock().unwrap().first().cloned() else { panic!("no record") };
    let version = Moves::begun(&record.moves.file)?.unwrap().0.outs.iter().position(|o| o.path.as_str() == "VERSION.txt");
    std::fs::remove_file(record.moves.undo.join(version.unwrap().to_string())).unwrap();
    let left = bench.undo()?;
    assert!(left.len() == 1 && left[0].contains("VERSION.txt is lost"), "{left:?}");
    std::fs::write(&record.moves.file, b"{").unwrap();
    assert_eq!(bench.undo().unwrap_err().kind(), ErrorKind::Integrity);
    Ok(())
}

#[test]
fn empty_folders_come_with_the_rest_and_are_no_reason_by_themselves() -> Result<()> {
    let mut bench = Bench::new();
    installed(&bench);
    bench.write("server", "taken", "a file that lies in the place of one");
    let files = [("same.txt", "same"), (".git/HEAD", "ref2"), ("fresh/n.txt", "n"), ("taken/x", "x")];
    let folders = [(".git/refs/heads/", ""), ("fresh/logs/", ""), ("logs/old/", ""), ("ioc/", ""), ("ioc/__pycache__/", "")];
    bench.component("EPICS", &[&files[..], &folders[..]].concat());
    let server = bench.at("server", "");
    let before = tree(&server);
    sync().stage(&bench.cx())?;
    sync().apply(&bench.cx())?;
    for folder in [".git/refs/heads", "fresh/logs", "logs/old", "ioc"] {
        assert!(server.join(folder).is_dir(), "{folder}");
    }
    std::fs::remove_dir(server.join("logs/old")).unwrap();
    assert_eq!(sync().probe(&bench.cx())?.difference, Difference::None);
    std::fs::create_dir(server.join("logs/old")).unwrap();
    assert_eq!(bench.undo()?, [""; 0]);
    assert_eq!(tree(&server), before);
    Ok(())
}
