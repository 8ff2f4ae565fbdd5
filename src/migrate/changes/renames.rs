//! Renames over trees of every shape: a name changes in each of its places, and not one byte elsewhere. What is expected is
//! written by the same template as the tree, with the new name where it belongs, so that nothing of ours judges itself.

use super::tests::{never, run_on, site};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a tree is made of.
#[derive(Debug, Clone)]
struct Parts {
    /// Each with its macros: name and value.
    iocs: Vec<(String, Vec<(String, String)>)>,
    pvs: Vec<String>,
    opis: Vec<String>,
    /// Between elements.
    gap: String,
    end: &'static str,
    quote: char,
    /// A byte order mark in front of XML files.
    mark: bool,
}

/// How names are written; as they are unless a test says otherwise.
struct Names<'a> {
    ioc: &'a dyn Fn(&str) -> String,
    /// Of a macro of an IOC.
    macros: &'a dyn Fn(&str, &str) -> String,
    pv: &'a dyn Fn(&str) -> String,
    opi: &'a dyn Fn(&str) -> String,
}

fn same() -> Names<'static> {
    Names { ioc: &str::to_owned, macros: &|_, name| name.to_owned(), pv: &str::to_owned, opi: &str::to_owned }
}

/// `GALIL` and its numbered copies.
fn is_galil(ioc: &str) -> bool {
    let Some(rest) = ioc.strip_prefix("GALIL") else { return false };
    let bytes = rest.as_bytes();
    bytes.is_empty() || (bytes.len() == 3 && bytes[0] == b'_' && bytes[1..].iter().all(u8::is_ascii_digit))
}

fn parts() -> impl Strategy<Value = Parts> {
    let ioc = prop::sample::select(vec![
        "GALIL",
        "GALIL_01",
        "GALIL_12",
        "GALIL_1",
        "GALIL_011",
        "GALIL_0A",
        "GALILMUL_01",
        "XGALIL_01",
        "galil_01",
        "EUROTHRM_01",
    ]);
    let name = prop::sample::select(vec!["ADDR", "ADDRESS", "XADDR", "ADDR_1", "PORT", "GALIL"]);
    let value = prop::sample::select(vec!["1", "ADDR", "GALIL_01", "GALIL_01:ADDR", "Old Panel"]);
    let macros = prop::collection::vec((name.prop_map(str::to_owned), value.prop_map(str::to_owned)), 0..4);
    let pv = prop::sample::select(vec![
        "GALIL_01:ADDR",
        "X:GALIL_01:ADDR:SP",
        "GALIL_01:ADDGALIL_01:ADDR",
        "GALIL_01:ADD",
        "CS:SB:OTHER",
    ]);
    let opi = prop::sample::select(vec!["Old Panel", "Old Panel 2", "An Old Panel", "old panel", "Other"]);
    (
        prop::collection::vec((ioc.prop_map(str::to_owned), macros), 0..5),
        prop::collection::vec(pv.prop_map(str::to_owned), 0..5),
        prop::collection::vec(opi.prop_map(str::to_owned), 0..5),
        "[ \t]{0,4}",
        prop::sample::select(vec!["\n", "\r\n"]),
        prop::sample::select(vec!['"', '\'']),
        any::<bool>(),
    )
        .prop_map(|(iocs, pvs, opis, gap, end, quote, mark)| Parts { iocs, pvs, opis, gap, end, quote, mark })
}

/// The files of a tree. Every name stands in comments and in elements that no rename is about as well, there always as it was.
fn tree(parts: &Parts, names: &Names<'_>) -> BTreeMap<&'static str, String> {
    let Parts { gap, end, quote: q, .. } = parts;
    let line = |text: String| format!("{gap}{text}{end}");
    let all = |lines: Vec<String>| lines.into_iter().map(line).collect::<String>();
    let xml = |root: &str, lines: Vec<String>| {
        let mark = if parts.mark { "\u{feff}" } else { "" };
        format!("{mark}<?xml version={q}1.0{q} ?>{end}<{root}>{end}{}</{root}>{end}", all(lines))
    };
    let iocs = parts.iocs.iter().flat_map(|(ioc, macros)| {
        let macros = macros
            .iter()
            .map(move |(name, value)| format!("<macro  name={q}{}{q}  value={q}{value}{q}/>", (names.macros)(ioc, name)));
        let head = [
            format!("<!-- {ioc} -->"),
            format!("<ioc autostart={q}true{q} name={q}{}{q} >", (names.ioc)(ioc)),
            "<macros>".into(),
        ];
        let tail = ["</macros>".into(), format!("<pvs><pv name={q}{ioc}:ADDR{q} value={q}ADDR{q}/></pvs>"), "</ioc>".into()];
        head.into_iter().chain(macros).chain(tail)
    });
    let globals = parts.iocs.iter().flat_map(|(ioc, macros)| {
        let lines =
            macros.iter().map(move |(name, value)| format!("{}__{}={value}", (names.ioc)(ioc), (names.macros)(ioc, name)));
        std::iter::once(format!("# {ioc}__ADDR=1")).chain(lines)
    });
    let blocks = parts.pvs.iter().map(|pv| {
        format!("<block><name>{pv}</name><read_pv>{}</read_pv><!-- <read_pv>{pv}</read_pv> --></block>", (names.pv)(pv))
    });
    let of_opis = parts
        .opis
        .iter()
        .map(|opi| format!("<name>{opi}</name><target><name>{}</name><type>{opi}</type></target>", (names.opi)(opi)));
    let of_iocs = parts.iocs.iter().map(|(ioc, _)| format!("<key>{ioc}</key><value>{}</value>", (names.ioc)(ioc)));
    let of_pvs = parts.pvs.iter().map(|pv| format!("<displayname>{pv}</displayname><address>{}</address>", (names.pv)(pv)));
    let screens = parts.opis.iter().map(|opi| format!("<device><name>{opi}</name><key>{}</key></device>", (names.opi)(opi)));
    let records = parts.pvs.iter().enumerate().flat_map(|(n, pv)| {
        let new = (names.pv)(pv);
        [format!("record(ai, \"$(P){n}{new}\") {{ # {pv}"), format!("field(INP, \"{new} CP\")"), "}".to_owned()]
    });
    let iocs: Vec<String> = iocs.collect();
    BTreeMap::from([
        ("configurations/configurations/p/iocs.xml", xml("iocs", iocs.clone())),
        ("configurations/components/_base/iocs.xml", xml("iocs", iocs)),
        ("configurations/globals.txt", all(globals.collect())),
        ("configurations/configurations/p/blocks.xml", xml("blocks", blocks.collect())),
        ("configurations/synoptics/p.xml", xml("instrument", of_opis.chain(of_iocs).chain(of_pvs).collect())),
        ("configurations/devices/screens.xml", xml("devices", screens.collect())),
        ("configurations/dashboard.db", all(records.collect())),
    ])
}

/// Names that are in no place where a rename looks: they stay whatever is renamed.
const BESIDE: [(&str, &str); 3] = [
    ("Python/p.py", "GALIL_01 ADDR GALIL_01:ADDR Old Panel GALIL_01__ADDR=1\r\n"),
    (
        "configurations/configurations/p/groups.xml",
        "<groups><group name=\"GALIL_01\"><read_pv>GALIL_01:ADDR</read_pv></group></groups>",
    ),
    ("configurations/motion/p.cmd", "dbLoadRecords(\"x.db\", \"IOC=GALIL_01,PV=GALIL_01:ADDR,OPI=Old Panel\")\n"),
];

/// Migrates the tree of some parts, and expects the tree of the same parts with the names as they are to be.
fn expect(parts: &Parts, change: &str, names: &Names<'_>) -> Result<(), TestCaseError> {
    let (before, wanted) = (tree(parts, &same()), tree(parts, names));
    let dir = tempfile::tempdir().unwrap();
    let version = ("configurations/config_version.txt", "1.0.0\n");
    let files = before.iter().map(|(path, text)| (*path, text.as_str())).chain(BESIDE).chain([version]);
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (changed, migrated) = run_on(dir.path(), change, &site(&never))?;
    // As `run_on` gives them: a letter for each byte.
    let letters = |text: &String| text.bytes().map(char::from).collect::<String>();
    let wanted: BTreeMap<String, String> = wanted
        .iter()
        .filter(|(path, text)| before[*path] != **text)
        .map(|(path, text)| ((*path).to_owned(), letters(text)))
        .collect();
    prop_assert_eq!(changed, wanted);
    prop_assert_eq!(migrated.left, []);
    Ok(())
}

proptest! {
    #[test]
    fn a_macro_of_an_ioc(parts in parts()) {
        let macros = |ioc: &str, name: &str| if is_galil(ioc) && name == "ADDR" { "HOST".to_owned() } else { name.to_owned() };
        expect(&parts, "- change_macro: {ioc: GALIL, name: ADDR$, rename: HOST}\n", &Names { macros: &macros, ..same() })?;
    }

    #[test]
    fn an_ioc(parts in parts()) {
        let ioc = |ioc: &str| if is_galil(ioc) { ioc.replacen("GALIL", "MOTOR", 1) } else { ioc.to_owned() };
        expect(&parts, "- rename_ioc: {from: GALIL, to: MOTOR}\n", &Names { ioc: &ioc, ..same() })?;
    }

    #[test]
    fn a_pv(parts in parts()) {
        let pv = |pv: &str| pv.replace("GALIL_01:ADDR", "GALIL_01:HOST");
        expect(&parts, "- rename_pv: {from: 'GALIL_01:ADDR', to: 'GALIL_01:HOST'}\n", &Names { pv: &pv, ..same() })?;
    }

    #[test]
    fn an_opi(parts in parts()) {
        let opi = |opi: &str| if opi == "Old Panel" { "New Panel".to_owned() } else { opi.to_owned() };
        expect(&parts, "- rename_opi: {from: Old Panel, to: New Panel}\n", &Names { opi: &opi, ..same() })?;
    }
}
