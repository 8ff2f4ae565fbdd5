use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::io::Write as _;

/// Name, and the groups it lists.
const INSTRUMENTS: [(&str, &[&str]); 7] = [
    ("NDXARGUS", &["ts1", "muons"]),
    ("NDXLOQ", &["ts1", "winter"]),
    ("NDXLARMOR", &["ts2", "winter"]),
    ("NDXLET", &["ts2"]),
    ("NDXZOOM", &["ts2", "ibex_only"]),
    ("NDXEMMA-A", &["ts1"]),
    ("NDEMUONFE", &[]),
];
const GROUPS: [&str; 5] = ["ts1", "ts2", "muons", "winter", "ibex_only"];

fn inventory() -> Inventory {
    let mut text = "defaults: {host: '{{ name }}.isis', transport: {ssh: {}}}\ngroups: {nobody: {}".to_owned();
    for group in GROUPS {
        let _ = write!(text, ", {group}: {{}}");
    }
    text.push_str("}\ninstruments:\n");
    for (name, groups) in INSTRUMENTS {
        let _ = writeln!(text, "  {name}: {{groups: [{}]}}", groups.join(", "));
    }
    Inventory::parse(Path::new("t.yaml"), &text).unwrap()
}

fn typed(patterns: &[&str]) -> Selection {
    Selection { patterns: patterns.iter().map(|p| (*p).to_owned()).collect(), ..Selection::default() }
}

fn chosen(selection: &Selection) -> Result<Vec<String>> {
    let inventory = inventory();
    Ok(inventory.select(selection)?.iter().map(|i| i.name.clone()).collect())
}

fn refused(selection: &Selection) -> String {
    let error = chosen(selection).unwrap_err();
    format!("{error} / {}", error.details().next.as_deref().unwrap_or("-"))
}

#[test]
fn patterns_of_every_kind() -> Result<()> {
    for (patterns, expected) in [
        (&["larmor"][..], &["NDXLARMOR"][..]),
        (&["NdxLarmor"], &["NDXLARMOR"]),
        (&["ndxlarmor.ISIS"], &["NDXLARMOR"]),
        (&["ZOOM", "loq"], &["NDXLOQ", "NDXZOOM"]),
        (&["zoom, loq"], &["NDXLOQ", "NDXZOOM"]),
        (&["TS2"], &["NDXLARMOR", "NDXLET", "NDXZOOM"]),
        (&["ts1,&winter"], &["NDXLOQ"]),
        (&["&winter", "ts1"], &["NDXLOQ"]),
        (&["!let", "ts2"], &["NDXLARMOR", "NDXZOOM"]),
        (&["ndxes,!ts1,!ts2"], &["NDEMUONFE"]),
        (&["all", "&muons"], &["NDXARGUS"]),
        (&["!ts1"], &["NDXLARMOR", "NDXLET", "NDXZOOM", "NDEMUONFE"]),
        (&["l*"], &["NDXLOQ", "NDXLARMOR", "NDXLET"]),
        (&["*oo*,NDXL?T"], &["NDXLET", "NDXZOOM"]),
        (&["{loq,zoom}"], &["NDXLOQ", "NDXZOOM"]),
        (&["[lz]o*,!nobody"], &["NDXLOQ", "NDXZOOM"]),
        (&["emma-a"], &["NDXEMMA-A"]),
    ] {
        assert_eq!(chosen(&typed(patterns))?, expected, "{patterns:?}");
    }
    Ok(())
}

#[test]
fn flags_say_the_same_as_marks() -> Result<()> {
    let all = Selection { all: true, ..Selection::default() };
    assert_eq!(chosen(&all)?.len(), INSTRUMENTS.len());
    let narrowed =
        Selection { only: vec!["ts1,ts2".to_owned(), "winter".to_owned()], except: vec!["loq".to_owned()], ..all.clone() };
    assert_eq!(chosen(&narrowed)?, ["NDXLARMOR"]);
    assert_eq!(chosen(&Selection { all: false, ..narrowed })?, ["NDXLARMOR"]);
    assert_eq!(chosen(&Selection::default().or_all())?.len(), INSTRUMENTS.len());
    assert_eq!(chosen(&typed(&["loq"]).or_all())?, ["NDXLOQ"]);
    Ok(())
}

/// A pattern file that lives as long as the test.
fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

#[test]
fn files_hold_patterns() -> Result<()> {
    let names = file("# the winter round\nloq\n\n  let, zoom  # two more\n");
    let marked = file("ts2\n!let\n");
    let path = |f: &tempfile::NamedTempFile| f.path().display().to_string();
    assert_eq!(chosen(&typed(&[&format!("@{}", path(&names))]))?, ["NDXLOQ", "NDXLET", "NDXZOOM"]);
    assert_eq!(chosen(&typed(&[&format!("@{}", path(&marked))]))?, ["NDXLARMOR", "NDXZOOM"]);
    assert_eq!(chosen(&typed(&[&format!("ts2,!@{}", path(&names))]))?, ["NDXLARMOR"]);
    assert_eq!(chosen(&typed(&[&format!("ts2,&@{}", path(&names))]))?, ["NDXLET", "NDXZOOM"]);
    let from =
        Selection { from: vec![marked.path().to_owned()], except: vec![format!("@{}", path(&names))], ..Selection::default() };
    assert_eq!(chosen(&from)?, ["NDXLARMOR"]);
    Ok(())
}

#[test]
fn a_wrong_word_in_a_file_is_named_with_its_line() {
    let names = file("loq\n\nlarmr\n");
    let error = chosen(&Selection { from: vec![names.path().to_owned()], ..Selection::default() }).unwrap_err();
    assert_eq!(error.details().position.as_ref().map(|p| p.line), Some(3));
    let nested = file("@other\n");
    let error = chosen(&typed(&[&format!("@{}", nested.path().display())])).unwrap_err();
    assert!(error.details().message.starts_with("a pattern file cannot name another one"), "{error}");
    let nothing = file("# nothing\n");
    assert!(refused(&typed(&[&format!("@{}", nothing.path().display())])).contains("holds no patterns"));
}

#[test]
fn what_matches_nothing_says_what_is_near() {
    insta::assert_snapshot!(refused(&typed(&["larmr"])), @"`larmr` matches no instrument of t.yaml / did you mean `LARMOR`? `ibexdeploy inventory list` shows all");
    insta::assert_snapshot!(refused(&typed(&["ts1,!wintr"])), @"`wintr` matches no instrument of t.yaml / did you mean `winter`? `ibexdeploy inventory list` shows all");
    insta::assert_snapshot!(refused(&typed(&["zom*"])), @"`zom*` matches no instrument of t.yaml / did you mean `ZOOM`? `ibexdeploy inventory list` shows all");
    insta::assert_snapshot!(refused(&typed(&["qqq"])), @"`qqq` matches no instrument of t.yaml / `ibexdeploy inventory list` shows the names; the groups are: ibex_only, muons, nobody, ts1, ts2, winter");
    insta::assert_snapshot!(refused(&typed(&["nobody"])), @"the group `nobody` has no instruments / list `nobody` under the `groups` of an instrument in t.yaml");
    insta::assert_snapshot!(refused(&typed(&["[z"])), @"`[z` is not a pattern: unclosed character class; missing ']' / close its brackets");
    insta::assert_snapshot!(refused(&typed(&["muons,&ts2"])), @"the patterns leave no instrument / each of them matches something, but not together: see `ibexdeploy inventory list PATTERN` for each");
}

#[test]
fn what_makes_no_sense_is_refused() {
    insta::assert_snapshot!(refused(&Selection::default()), @"no instruments were named / give names, groups or globs such as LARMOR, ts2 or 'NDX*', or --all; `ibexdeploy inventory list` shows them");
    insta::assert_snapshot!(refused(&typed(&["", ","])), @"no instruments were named / give names, groups or globs such as LARMOR, ts2 or 'NDX*', or --all; `ibexdeploy inventory list` shows them");
    insta::assert_snapshot!(refused(&Selection { all: true, ..typed(&["loq"]) }), @"--all and patterns were given together / leave one of them out; --except and --only narrow --all");
    insta::assert_snapshot!(refused(&Selection { only: vec!["!loq".to_owned()], ..Selection::default() }), @"the mark in `!loq` has no meaning inside --only / write the name, group or glob alone");
    insta::assert_snapshot!(refused(&typed(&["ts1,!"])), @"`!` is a mark without a name / write a name, group or glob behind `!` and `&`, and a file's name behind `@`");
    insta::assert_snapshot!(refused(&typed(&["!@"])), @"`!@` is a mark without a name / write a name, group or glob behind `!` and `&`, and a file's name behind `@`");
    insta::assert_snapshot!(refused(&Selection { all: true, except: vec![" ,".to_owned()], ..Selection::default() }), @"--except was given no pattern / name instruments or groups, or leave it out");
    insta::assert_snapshot!(refused(&typed(&["!!loq"])), @"the mark in `!loq` has no meaning inside ! / write the name, group or glob alone");
}

/// One word of a pattern, and what a person would say it means.
#[derive(Debug, Clone)]
enum Atom {
    Name(usize),
    ShortName(usize),
    Group(usize),
    Starts(char),
    All,
}

impl Atom {
    fn text(&self) -> String {
        match self {
            Self::Name(i) => INSTRUMENTS[*i].0.to_owned(),
            Self::ShortName(i) => INSTRUMENTS[*i].0.trim_start_matches("NDX").to_lowercase(),
            Self::Group(g) => GROUPS[*g].to_uppercase(),
            Self::Starts(c) => format!("{c}*"),
            Self::All => "ndxes".to_owned(),
        }
    }

    fn means(&self, (name, groups): (&str, &[&str])) -> bool {
        match self {
            Self::Name(i) | Self::ShortName(i) => INSTRUMENTS[*i].0 == name,
            Self::Group(g) => groups.contains(&GROUPS[*g]),
            Self::Starts(c) => {
                let short = name.trim_start_matches("NDX").to_lowercase();
                short.starts_with(*c) || name.to_lowercase().starts_with(*c)
            }
            Self::All => true,
        }
    }
}

fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        (0..INSTRUMENTS.len()).prop_map(Atom::Name),
        (0..INSTRUMENTS.len()).prop_map(Atom::ShortName),
        (0..GROUPS.len()).prop_map(Atom::Group),
        prop::sample::select(vec!['l', 'z', 'n', 'a']).prop_map(Atom::Starts),
        Just(Atom::All),
    ]
}

proptest! {
    /// Whatever the order and the grouping of the words, the choice is what the words mean, one instrument at a time.
    #[test]
    fn the_choice_is_what_the_words_mean(
        words in prop::collection::vec((prop::sample::select(vec!["", "", "&", "!"]), atom(), any::<bool>()), 1..7)
    ) {
        let mut texts: Vec<String> = Vec::new();
        for (mark, atom, joined) in &words {
            let text = format!("{mark}{}", atom.text());
            match texts.last_mut() {
                Some(last) if *joined => { last.push(','); last.push_str(&text); }
                _ => texts.push(text),
            }
        }
        let having = |wanted: &'static str| words.iter().filter(move |(mark, _, _)| *mark == wanted).map(|(_, atom, _)| atom);
        let meant: Vec<String> = INSTRUMENTS
            .into_iter()
            .filter(|i| having("").next().is_none() || having("").any(|a| a.means(*i)))
            .filter(|i| having("&").all(|a| a.means(*i)))
            .filter(|i| !having("!").any(|a| a.means(*i)))
            .map(|i| i.0.to_owned())
            .collect();
        let selection = Selection { patterns: texts, ..Selection::default() };
        match chosen(&selection) {
            Ok(found) => prop_assert_eq!(found, meant),
            Err(error) => prop_assert!(meant.is_empty() && error.to_string().contains("leave no instrument"), "{}", error),
        }
    }

    /// No text makes the patterns panic, and an error always says what to do next.
    #[test]
    fn any_text_is_answered(text in "[a-z!&@,*?\\[\\]{} -]{0,12}") {
        if let Err(error) = chosen(&typed(&[&text])) {
            prop_assert!(error.details().next.is_some(), "{}", error);
        }
    }
}
