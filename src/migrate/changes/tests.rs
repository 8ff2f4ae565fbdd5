use super::super::chain::{Chain, Link};
use super::super::model::Migration;
use super::super::run::{Left, LeftWhat, Migrated, Site, migrate};
use super::super::tree::Tree;
use crate::error::{Error, Result};
use crate::paths::RelPath;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const IOCS: &str = "<?xml version=\"1.0\" ?>\r\n<iocs xmlns=\"http://epics.isis.rl.ac.uk/schema/iocs/1.0\">\r\n  <!-- GALIL ADDR -->\r\n  <ioc autostart=\"true\" name=\"GALIL_01\" restart=\"true\">\r\n    <macros>\r\n      <macro name=\"ADDR\" value=\"1.2.3.4\"/>\r\n      <macro name='ADDRESS' value='ADDR'/>\r\n    </macros>\r\n    <pvs/>\r\n  </ioc>\r\n  <ioc name=\"GALIL\"><macros/></ioc>\r\n  <ioc name=\"GALILMUL_01\"><macros><macro name=\"ADDR\" value=\"1\"/></macros></ioc>\r\n</iocs>\r\n";
const GLOBALS: &str =
    "# GALIL_01__ADDR=1\r\nGALIL_01__ADDR=1.2.3.4\r\nGALIL_01__ADDRESS=x\r\nGALILMUL_01__ADDR=2\r\nGALIL_011__ADDR=3\r\n";
const BLOCKS: &str = "<blocks><block><name>ADDR</name><read_pv>GALIL_01:ADDR</read_pv></block></blocks>";
const SYNOPTIC: &str = "<instrument><name>Old Panel</name><target><name>Old Panel</name><properties><property><key>GALIL</key><value>GALIL_01</value></property><property><value>XGALIL_01 GALIL_011</value></property></properties></target><pv><displayname>GALIL_01:ADDR</displayname><address>X:GALIL_01:ADDR</address></pv></instrument>";
const SCREENS: &str = "<devices>\n  <device>\n    <name>Old Panel</name>\n    <key>Old Panel</key>\n  </device>\n  <device><name>n</name><key>Other</key></device>\n</devices>";
const DASHBOARD: &str = "record(ai, \"$(P)GALIL_01:ADDR\") {\n    field(INP, \"$(P)GALIL_01:ADDR CP\") # GALIL_01:ADDR\n}\n";

/// Settings with the version 1.0.0 and a few files.
fn settings(more: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 9] = [
        ("configurations/config_version.txt", b"1.0.0\r\nkept\r\n"),
        ("configurations/configurations/a/iocs.xml", IOCS.as_bytes()),
        ("configurations/components/b/iocs.xml", IOCS.as_bytes()),
        ("configurations/configurations/a/blocks.xml", BLOCKS.as_bytes()),
        ("configurations/synoptics/s.xml", SYNOPTIC.as_bytes()),
        ("configurations/devices/screens.xml", SCREENS.as_bytes()),
        ("configurations/globals.txt", GLOBALS.as_bytes()),
        ("configurations/dashboard.db", DASHBOARD.as_bytes()),
        ("Python/GALIL.py", b"GALIL_01:ADDR Old Panel GALIL_01__ADDR=1"),
    ];
    for (path, bytes) in files.iter().chain(more) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

fn chain(changes: &str) -> Chain {
    let text = format!("description: d\nchanges:\n{changes}");
    let migration: Migration = crate::yaml::parse("m.yaml", &text).unwrap();
    let link = |version: &str, migration| Link { version: version.to_owned(), migration };
    Chain { links: vec![link("0.9.0", None), link("1.0.0", Some(migration)), link("1.0.0.1", None), link("1.1.0", None)] }
}

pub(super) fn run_on(dir: &Path, changes: &str, site: &Site<'_>) -> Result<(BTreeMap<String, String>, Migrated)> {
    let mut tree = Tree::open(dir, "S")?;
    let migrated = migrate(&mut tree, &chain(changes), site, None)?;
    let changed = tree.changes().into_iter().filter(|(path, _)| path.file_name() != "config_version.txt");
    let text = |bytes: Vec<u8>| bytes.iter().map(|b| char::from(*b)).collect::<String>();
    Ok((changed.map(|(path, change)| (path.to_string(), change.after.map_or("gone".to_owned(), text))).collect(), migrated))
}

pub(super) fn site(newest: super::super::run::NewestCommit<'_>) -> Site<'_> {
    Site { machine: "NDXTEST".to_owned(), server: None, has_history: true, newest_commit: newest }
}

pub(super) fn never(_: &RelPath) -> Result<Option<i64>> {
    Ok(None)
}

fn changed(more: &[(&str, &[u8])], changes: &str) -> Result<(BTreeMap<String, String>, Vec<Left>)> {
    let dir = settings(more);
    run_on(dir.path(), changes, &site(&never)).map(|(files, migrated)| (files, migrated.left))
}

fn expect(changes: &str, wanted: &[(&str, String)]) {
    let (files, left) = changed(&[], changes).unwrap();
    let wanted: BTreeMap<String, String> = wanted.iter().map(|(path, text)| ((*path).to_owned(), text.clone())).collect();
    assert_eq!(files, wanted);
    assert_eq!(left, []);
}

const A: &str = "configurations/configurations/a/iocs.xml";
const B: &str = "configurations/components/b/iocs.xml";
const G: &str = "configurations/globals.txt";

#[test]
fn a_macro_is_renamed_in_both_places_and_nowhere_else() {
    let iocs = IOCS.replace("<macro name=\"ADDR\" value=\"1.2.3.4\"/>", "<macro name=\"HOST\" value=\"1.2.3.4\"/>");
    let globals = GLOBALS.replace("\nGALIL_01__ADDR=", "\nGALIL_01__HOST=");
    let change = "- change_macro: {ioc: GALIL, name: ADDR$, rename: HOST}\n";
    expect(change, &[(A, iocs.clone()), (B, iocs), (G, globals)]);
}

#[test]
fn macros_match_from_their_start_and_take_groups_along() {
    let iocs = IOCS
        .replace("<macro name=\"ADDR\" value=\"1.2.3.4\"/>", "<macro name=\"X_ADDR\" value=\"&lt;\"/>")
        .replace("<macro name='ADDRESS' value='ADDR'/>", "<macro name='X_ADDR' value='&lt;'/>");
    let globals = GLOBALS
        .replace("\nGALIL_01__ADDR=1.2.3.4", "\nGALIL_01__X_ADDR=<")
        .replace("\nGALIL_01__ADDRESS=x", "\nGALIL_01__X_ADDR=<");
    let change = "- change_macro: {ioc: GALIL, name: (A..R), rename: X_$1, set: <}\n";
    expect(change, &[(A, iocs.clone()), (B, iocs), (G, globals)]);
}

#[test]
fn a_value_is_set_where_the_old_one_matches() {
    let iocs = IOCS.replace("value=\"1.2.3.4\"", "value=\"9\"");
    let globals = GLOBALS.replace("\nGALIL_01__ADDR=1.2.3.4", "\nGALIL_01__ADDR=9");
    expect("- change_macro: {ioc: GALIL, name: ADDR, value: '1[.]', set: '9'}\n", &[(A, iocs.clone()), (B, iocs), (G, globals)]);
    expect("- change_macro: {ioc: GALIL, name: ADDR, value: '2', set: '9'}\n", &[]);
}

#[test]
fn a_macro_is_added_where_it_is_missing() {
    let iocs = IOCS.replace("value='ADDR'/>\r\n", "value='ADDR'/>\r\n      <macro name=\"N\" value=\"a&amp;b\"/>\r\n").replace(
        "<ioc name=\"GALIL\"><macros/></ioc>",
        "<ioc name=\"GALIL\"><macros><macro name=\"N\" value=\"a&amp;b\"/></macros></ioc>",
    );
    expect("- add_macro: {ioc: GALIL, name: N, value: a&b}\n", &[(A, iocs.clone()), (B, iocs)]);
    let (files, _) = changed(&[], "- add_macro: {ioc: GALIL_01, name: ADDR, value: x}\n").unwrap();
    assert_eq!(files, BTreeMap::new());
}

#[test]
fn an_ioc_is_renamed_in_its_three_places() {
    let iocs = IOCS.replace("name=\"GALIL_01\"", "name=\"MOT$_01\"").replace("name=\"GALIL\"", "name=\"MOT$\"");
    let globals = GLOBALS.replace("\nGALIL_01__", "\nMOT$_01__");
    let synoptic = SYNOPTIC.replace("<value>GALIL_01</value>", "<value>MOT$_01</value>");
    expect(
        "- rename_ioc: {from: GALIL, to: MOT$}\n",
        &[(A, iocs.clone()), (B, iocs), (G, globals), ("configurations/synoptics/s.xml", synoptic)],
    );
}

#[test]
fn a_pv_is_renamed_in_its_three_places() {
    expect(
        "- rename_pv: {from: '01:ADDR', to: '01:HOST'}\n",
        &[
            ("configurations/configurations/a/blocks.xml", BLOCKS.replace("GALIL_01:ADDR", "GALIL_01:HOST")),
            ("configurations/synoptics/s.xml", SYNOPTIC.replace("X:GALIL_01:ADDR", "X:GALIL_01:HOST")),
            ("configurations/dashboard.db", DASHBOARD.replace("P)GALIL_01:ADDR", "P)GALIL_01:HOST")),
        ],
    );
}

#[test]
fn an_opi_is_renamed_in_its_two_places() {
    expect(
        "- rename_opi: {from: Old Panel, to: New & Better}\n",
        &[
            ("configurations/synoptics/s.xml", SYNOPTIC.replace("<target><name>Old Panel", "<target><name>New &amp; Better")),
            ("configurations/devices/screens.xml", SCREENS.replace("<key>Old Panel", "<key>New &amp; Better")),
        ],
    );
    let rest = "<devices>\n  <device><name>n</name><key>Other</key></device>\n</devices>".to_owned();
    expect("- remove_screen: {key: Old Panel}\n", &[("configurations/devices/screens.xml", rest)]);
}

#[test]
fn every_meta_file_gets_the_element_once() {
    let meta = "<meta>\n  <description/>\n</meta>\n";
    let more: [(&str, &[u8]); 3] = [
        ("configurations/configurations/a/meta.xml", meta.as_bytes()),
        ("configurations/components/_base/meta.xml", b"<meta/>"),
        ("configurations/components/b/meta.xml", b"<meta><new>true</new></meta>"),
    ];
    let (files, _) = changed(&more, "- add_meta: {element: new, value: 'false'}\n").unwrap();
    let wanted = [
        ("configurations/components/_base/meta.xml", "<meta><new>false</new></meta>"),
        ("configurations/configurations/a/meta.xml", "<meta>\n  <description/>\n  <new>false</new>\n</meta>\n"),
    ];
    assert_eq!(files, wanted.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[test]
fn an_ioc_is_added_to_the_base_behind_another() {
    let base = "<iocs>\n  <ioc name=\"A\"/>\n  <ioc name=\"Z\"/>\n</iocs>";
    let path = "configurations/components/_base/iocs.xml";
    let change = "- add_base_ioc: {ioc: N, after: A}\n";
    let (files, _) = changed(&[(path, base.as_bytes())], change).unwrap();
    let new = "<ioc name=\"N\" autostart=\"true\" restart=\"true\" simlevel=\"none\"><macros/><pvs/><pvsets/></ioc>";
    assert_eq!(files[path], base.replace("<ioc name=\"A\"/>", &format!("<ioc name=\"A\"/>\n  {new}")));
    let again = files[path].clone();
    assert!(changed(&[(path, again.as_bytes())], change).unwrap().0.is_empty());
    let error = changed(&[(path, b"<iocs/>")], change).unwrap_err();
    assert!(error.to_string().contains("has the IOC A 0 times"), "{error}");
    assert!(changed(&[], change).unwrap_err().to_string().contains("does not exist"));
}

#[test]
fn lines_are_added_with_the_file_s_own_ends_and_encoding() {
    let change = "- add_lines: {file: .gitignore, lines: [x, 'y\u{e9}'], new_file: [n, x]}\n";
    let (files, _) = changed(&[(".gitignore", b"a\xE9\r\nx\r\n")], change).unwrap();
    assert_eq!(files[".gitignore"], "a\u{e9}\r\nx\r\ny\u{e9}\r\n");
    assert_eq!(changed(&[], change).unwrap().0[".gitignore"], "n\nx\n");
    assert!(changed(&[], "- add_lines: {file: none.cmd, lines: [x]}\n").unwrap().0.is_empty());
}

#[test]
fn lines_that_load_a_database_are_edited() {
    let command = "dbLoadRecords(\"$(X)/db/jaws.db\",\"P=1,\")\r\ndbLoadRecords(\"$(X)/db/other.db\",\"P=1\")\r\n# jaws.db\r\ndbLoadRecords(\"jaws.db\",\"P=1,NEW=1\")\r\n";
    let path = "configurations/galil/jaws.cmd";
    let edit = "unless: NEW=, replace: ',?\"\\)$', with: ',NEW=$$(A=#)\")'}\n";
    let wanted = command.replace("P=1,\")", "P=1,NEW=$(A=#)\")");
    let (files, _) =
        changed(&[(path, command.as_bytes())], &format!("- edit_lines: {{files: '**/*.cmd', loading: [jaws.db], {edit}"))
            .unwrap();
    assert_eq!(files[path], wanted);

    let by_server = format!("- edit_lines: {{files: '**/*.cmd', loading_made_with: slits.template, {edit}");
    let (files, left) = changed(&[(path, command.as_bytes())], &by_server).unwrap();
    assert!(files.is_empty() && matches!(left[0].what, LeftWhat::ByHand { .. }), "{left:?}");

    let server = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(server.path().join("support/jaws/Db")).unwrap();
    std::fs::write(server.path().join("support/jaws/Db/jaws.substitutions"), "file slits.template {}").unwrap();
    std::fs::write(server.path().join("support/jaws/Db/other.substitutions"), "file x.template {}").unwrap();
    let dir = settings(&[(path, command.as_bytes())]);
    let site = Site { server: Some(server.path().to_path_buf()), ..site(&never) };
    assert_eq!(run_on(dir.path(), &by_server, &site).unwrap().0[path], wanted);

    let odd = "# one\ndbLoadRecords(\"jaws.db\", \"P=1\") # odd\n";
    let dir = settings(&[(path, odd.as_bytes())]);
    let error = run_on(dir.path(), &by_server, &site).unwrap_err();
    let at = error.details().position.clone().unwrap();
    assert_eq!((at.file.as_str(), at.line), ("S/configurations/galil/jaws.cmd", 2), "{error}");
}

#[test]
fn records_are_changed_and_what_is_not_there_is_left_for_a_person() {
    let change = |record: &str| format!("- change_record: {{record: $(P){record}, add: {{DESC: d}}, set: {{INP: x}}}}\n");
    let (files, _) = changed(&[], &change("GALIL_01:ADDR")).unwrap();
    let wanted = "    field(INP, \"x\") # GALIL_01:ADDR\n    field(DESC, \"d\")\n}\n";
    assert!(files["configurations/dashboard.db"].ends_with(wanted), "{files:?}");
    let (files, left) = changed(&[], &change("NONE")).unwrap();
    assert!(files.is_empty() && left[0].to_string().contains("has no record $(P)NONE"), "{left:?}");
    let (files, _) = changed(&[], "- add_record: {record: N, type: bo, fields: {VAL: '1'}}\n").unwrap();
    assert_eq!(files["configurations/dashboard.db"], format!("{DASHBOARD}\nrecord(bo, \"N\") {{\n    field(VAL, \"1\")\n}}\n"));
}

#[test]
fn folders_are_deleted_unless_they_changed_lately() {
    let more: [(&str, &[u8]); 2] = [("configurations/galil/a.cmd", b"a"), ("configurations/Galil2/sub/b.cmd", b"b")];
    let change = "- delete_folders: {folders: [configurations/galil, configurations/galil2, gone], unchanged_since: '2024-09-01T00:00:00Z', message: copy it}\n";
    let dir = settings(&more);
    let at = |seconds: i64| move |_: &RelPath| -> Result<Option<i64>> { Ok(Some(seconds)) };
    let files = run_on(dir.path(), change, &site(&at(1_700_000_000))).unwrap().0;
    let gone = ["configurations/Galil2/sub/b.cmd", "configurations/galil/a.cmd"].map(|p| (p.to_owned(), "gone".to_owned()));
    assert_eq!(files, gone.into());
    let error = run_on(dir.path(), change, &site(&at(1_800_000_000))).unwrap_err();
    assert_eq!(error.details().next.as_deref(), Some("copy it"), "{error}");
    let unknown = Site { has_history: false, ..site(&never) };
    let (files, migrated) = run_on(dir.path(), change, &unknown).unwrap();
    assert!(files.is_empty() && migrated.left[0].to_string().contains("S/configurations/galil"), "{:?}", migrated.left);
}

#[test]
fn a_person_must_act_first() {
    let told = |changes: &str| -> Option<Error> { changed(&[], changes).err() };
    let error = told("- stop: {message: m, next: do it, if_pv: ['_01:ADDR']}\n").unwrap();
    assert!(error.to_string().contains("m: S/configurations/configurations/a/blocks.xml has GALIL_01:ADDR"), "{error}");
    assert_eq!(error.details().next.as_deref(), Some("do it"));
    assert!(told("- stop: {message: m, next: n, if_exists: CONFIGURATIONS/devices}\n").is_some());
    assert!(told("- stop: {message: m, next: n, if_exists: configurations/none, if_pv: [NONE]}\n").is_none());
}

#[test]
fn machines_are_told_apart_and_what_is_not_a_file_is_left() {
    let rename = "rename_opi: {from: Other, to: N}\n";
    assert_eq!(changed(&[], &format!("- only_on: [ndxtest]\n  {rename}")).unwrap().0.len(), 1);
    assert_eq!(changed(&[], &format!("- only_on: [NDXOTHER]\n  {rename}")).unwrap().0.len(), 0);
    assert_eq!(changed(&[], &format!("- not_on: [NDXTEST]\n  {rename}")).unwrap().0.len(), 0);
    let (files, left) =
        changed(&[], "- sql: {file: a.sql}\n- by_hand: {text: t}\n- set_remote: {folder: ../c, remote: o, url: u}\n").unwrap();
    assert!(files.is_empty());
    let told: Vec<String> = left.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["from 1.0.0: the SQL file a.sql of the server", "from 1.0.0: t", "from 1.0.0: the remote o of ../c leads to u"]
    );
}

#[test]
fn versions_follow_the_list() {
    let dir = settings(&[]);
    let version = dir.path().join("configurations/config_version.txt");
    let go = |to: Option<&str>| -> Result<(String, Vec<String>)> {
        let mut tree = Tree::open(dir.path(), "S")?;
        let migrated = migrate(&mut tree, &chain("- by_hand: {text: t}\n"), &site(&never), to)?;
        let changes = tree.changes();
        let after = changes.get(&RelPath::parse("configurations/config_version.txt")?).and_then(|c| c.after.clone());
        let passed = migrated.passed.iter().map(|p| format!("{} {} {}", p.from, p.to, p.files.len())).collect();
        Ok((String::from_utf8(after.unwrap_or_default()).unwrap(), passed))
    };
    let all = ["1.0.0 1.0.0.1 1", "1.0.0.1 1.1.0 1"].map(str::to_owned).to_vec();
    assert_eq!(go(None).unwrap(), ("1.1.0\r\nkept\r\n".to_owned(), all.clone()));
    assert_eq!(go(Some("1.0.0.1")).unwrap(), ("1.0.0.1\r\nkept\r\n".to_owned(), all[..1].to_vec()));
    assert_eq!(go(Some("1.0.0")).unwrap(), (String::new(), vec![]));
    assert!(go(Some("0.9.0")).unwrap_err().to_string().contains("comes after 0.9.0"));
    assert!(go(Some("2.0.0")).unwrap_err().to_string().contains("does not know the version `2.0.0`"));
    std::fs::write(&version, "1.0.7\n").unwrap();
    let error = go(None).unwrap_err();
    assert_eq!(
        error.details().position.as_ref().map(|p| (p.file.as_str(), p.line)),
        Some(("S/configurations/config_version.txt", 1))
    );
    std::fs::remove_file(&version).unwrap();
    assert_eq!(go(None).unwrap(), ("1.1.0\n".to_owned(), [vec!["0.9.0 1.0.0 1".to_owned()], all].concat()));
}

#[test]
fn xml_that_is_not_well_formed_is_named_and_nothing_changes() {
    let more: [(&str, &[u8]); 1] = [("configurations/components/c/iocs.xml", b"<iocs>\n  <ioc name=\"A\">\n</iocs>")];
    let error = changed(&more, "- change_macro: {ioc: GALIL, name: ADDR$, rename: HOST}\n").unwrap_err();
    let at = error.details().position.clone().unwrap();
    assert_eq!((at.file.as_str(), at.line), ("S/configurations/components/c/iocs.xml", 3), "{error}");
}

/// Every kind of change, for names that nothing has.
const WITHOUT_MATCHES: &str = "- change_macro: {ioc: NONE, name: ., rename: x, set: y}
- change_macro: {ioc: GALIL, name: NONE, rename: x, set: y}
- add_macro: {ioc: NONE, name: x, value: y}
- rename_ioc: {from: NONE, to: x}
- rename_pv: {from: NONE, to: x}
- rename_opi: {from: NONE, to: x}
- remove_screen: {key: NONE}
- add_lines: {file: none.txt, lines: [x]}
- edit_lines: {files: '**/*.cmd', loading: [none.db], replace: x, with: y}
- delete_folders: {folders: [none]}
- stop: {message: m, next: n, if_exists: none, if_pv: [NONE]}
";

proptest! {
    /// Whatever the files hold: without matches, no byte of them changes.
    #[test]
    fn without_matches_no_byte_changes(
        name in "[A-M<>&'\" \u{e9}]{0,8}", gap in "[ \t\r\n]{0,3}", comment in "[a-m<>&' ]{0,10}", lines in "[A-M=_#\r\n0-9]{0,60}",
        mark in any::<bool>(), latin in any::<bool>(), quote in "['\"]",
    ) {
        let escaped = quick_xml::escape::escape(&name);
        let xml = format!("<?xml version={quote}1.0{quote}?>{gap}<!--{comment}--><iocs{gap}>{gap}<ioc name{gap}={gap}{quote}{escaped}{quote}{gap}/>{gap}<target><name>{escaped}</name></target><read_pv>{escaped}</read_pv><![CDATA[{comment}]]></iocs>{gap}");
        let mut bytes = if mark { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
        bytes.extend(if latin && !mark { xml.chars().map(|c| c as u8).collect() } else { xml.into_bytes() });
        // Attributes that touch each other are not well-formed without the gap: such a file is refused, not changed.
        let more: [(&str, &[u8]); 5] = [
            ("configurations/configurations/p/iocs.xml", &bytes), ("configurations/configurations/p/blocks.xml", &bytes),
            ("configurations/synoptics/p.xml", &bytes), ("configurations/globals.txt", lines.as_bytes()), ("x/p.cmd", lines.as_bytes()),
        ];
        let (files, _) = changed(&more, WITHOUT_MATCHES)?;
        prop_assert_eq!(files, BTreeMap::new());
    }
}
