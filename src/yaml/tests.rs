//! The error texts that people read.

use super::*;
use crate::error::IoContext;
use insta::assert_snapshot;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    items: BTreeMap<String, Item>,
    #[serde(default)]
    vars: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    folder: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    how: Option<How>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Push,
    Pull(BTreeMap<String, String>),
}

#[test]
fn what_is_well_written_is_read() -> Result<()> {
    let read: Document = parse(
        "t.yaml",
        "items:\n  a: {folder: x, groups: [g], port: 22, enabled: true, how: {pull: {from: y}}}\n  b: {folder: z, how: push}\n",
    )?;
    let (a, b) = (&read.items["a"], &read.items["b"]);
    assert_eq!((a.folder.as_str(), a.port, a.enabled, a.groups.as_slice()), ("x", Some(22), true, ["g".to_owned()].as_slice()));
    assert!(matches!(&a.how, Some(How::Pull(from)) if from["from"] == "y"), "{:?}", a.how);
    assert!(matches!(b.how, Some(How::Push)) && !b.enabled && b.groups.is_empty(), "{b:?}");
    Ok(())
}

/// All that a person sees of an error.
fn said(text: &str) -> String {
    let error = match parse::<Document>("t.yaml", text) {
        Err(error) => error,
        Ok(read) => panic!("{text} was read as {read:?}"),
    };
    let d = error.details();
    let excerpt = d.position.as_ref().and_then(|p| p.excerpt.clone()).unwrap_or_default();
    format!("{error}\n{excerpt}\nnext: {}", d.next.as_deref().unwrap_or("-"))
}

#[test]
fn unknown_keys_and_choices_name_the_nearest() {
    assert_snapshot!(said("items:\n  a:\n    foldr: x\n"), @r"
    t.yaml:3:5: unknown key `foldr`
    1 | items:
    2 |   a:
    3 |     foldr: x
      |     ^
    next: did you mean `folder`?
    ");
    assert_snapshot!(said("items: {a: {folder: x, zzz: 1}}\n"), @r"
    t.yaml:1:24: unknown key `zzz`
    1 | items: {a: {folder: x, zzz: 1}}
      |                        ^
    next: the keys here are: folder, groups, port, enabled, how
    ");
    assert_snapshot!(said("items: {a: {folder: x, how: psuh}}\n"), @r"
    t.yaml:1:29: `psuh` is not known here
    1 | items: {a: {folder: x, how: psuh}}
      |                             ^
    next: did you mean `push`?
    ");
}

#[test]
fn missing_and_duplicate_keys() {
    assert_snapshot!(said("items:\n  a:\n    groups: [x]\n    port: 1\n"), @r"
    t.yaml:2:3: the key `folder` is missing in `a`
    1 | items:
    2 |   a:
      |   ^
    next: add `folder:`
    ");
    assert_snapshot!(said("items: {a: {}}\n"), @r"
    t.yaml:1:9: the key `folder` is missing in `a`
    1 | items: {a: {}}
      |         ^
    next: add `folder:`
    ");
    assert_snapshot!(said("items:\n  a: {groups: [x]}\n"), @r"
    t.yaml:2:3: the key `folder` is missing in `a`
    1 | items:
    2 |   a: {groups: [x]}
      |   ^
    next: add `folder:`
    ");
    assert_snapshot!(said("items:\n  a: {folder: x}\n  b: {folder: x}\n  a: {folder: y}\n"), @r"
    t.yaml:4:3: the key `a` is given twice
    2 |   a: {folder: x}
    3 |   b: {folder: x}
    4 |   a: {folder: y}
      |   ^
    next: it stands on line 2 already: keep one of the two
    ");
    assert_snapshot!(said("vars: {x: {y: 1, y: 2}}\n"), @r"
    t.yaml:1:18: the key `y` is given twice
    1 | vars: {x: {y: 1, y: 2}}
      |                  ^
    next: it stands on line 1 already: keep one of the two
    ");
}

#[test]
fn wrong_types_say_what_is_there() {
    assert_snapshot!(said("items: {a: {folder: x, groups: ts1}}\n"), @r"
    t.yaml:1:32: `groups` must be a list (`[a, b]`), not `ts1`
    1 | items: {a: {folder: x, groups: ts1}}
      |                                ^
    next: write [ts1]
    ");
    assert_snapshot!(said("items: {a: {folder: [x]}}\n"), @r"
    t.yaml:1:21: `folder` must be text, not a list
    1 | items: {a: {folder: [x]}}
      |                     ^
    next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    assert_snapshot!(said("items: {a: {folder: x, groups: [a, [b]]}}\n"), @r"
    t.yaml:1:36: `groups[1]` must be text, not a list
    1 | items: {a: {folder: x, groups: [a, [b]]}}
      |                                    ^
    next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    assert_snapshot!(said("items: {a: {folder: x, port: many}}\n"), @r"
    t.yaml:1:30: `port` must be a whole number in range, not `many`
    1 | items: {a: {folder: x, port: many}}
      |                              ^
    next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    assert_snapshot!(said("items: {a: {folder: x, port: 70000}}\n"), @r"
    t.yaml:1:30: `port` must be a whole number in range, not `70000`
    1 | items: {a: {folder: x, port: 70000}}
      |                              ^
    next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    assert_snapshot!(said("items: {a: {folder: x, enabled: no}}\n"), @r"
    t.yaml:1:33: `enabled` must be `true` or `false`, not `no`
    1 | items: {a: {folder: x, enabled: no}}
      |                                 ^
    next: write true or false, without quotes
    ");
    assert_snapshot!(said("items:\n  a:\nname: x\n"), @r"
    t.yaml:2:4: `a` must be a map (`key: value`), and nothing is given
    1 | items:
    2 |   a:
      |    ^
    next: write {} for an empty one
    ");
    assert_snapshot!(said("items: {a: {folder: }}\n"), @r"
    t.yaml:1:19: `folder` must be text, and nothing is given
    1 | items: {a: {folder: }}
      |                   ^
    next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    assert_snapshot!(said("items: {a: {folder: x, how: [push]}}\n"), @r"
    t.yaml:1:29: `how` must be one word, or a map with one key, not a list
    1 | items: {a: {folder: x, how: [push]}}
      |                             ^
    next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    assert_snapshot!(said("items: {a: {folder: x, how: {pull: {}, push: }}}\n"), @r"
    t.yaml:1:40: only one of these keys can be given here
    1 | items: {a: {folder: x, how: {pull: {}, push: }}}
      |                                        ^
    next: keep one of them and remove the others
    ");
    assert_snapshot!(said("- a\n- b\n"), @r"
    t.yaml:1:1: this must be a map (`key: value`), not a list
    1 | - a
      | ^
    next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
}

#[test]
fn tabs() {
    assert_snapshot!(said("items:\n\ta:\n\t\tfolder: x\n"), @r"
    t.yaml:2:1: a tab in the indentation
    1 | items:
    2 | →a:
      | ^
    next: indent with spaces: YAML does not allow tabs there (`→` in the excerpt)
    ");
    assert_snapshot!(said("items:\n  a:\n  \tfolder: x\n"), @r"
    t.yaml:3:3: a tab in the indentation
    1 | items:
    2 |   a:
    3 |   →folder: x
      |   ^
    next: indent with spaces: YAML does not allow tabs there (`→` in the excerpt)
    ");
}

#[test]
fn windows_paths_in_double_quotes() {
    assert_snapshot!(said("name: \"C:\\Instrument\"\n"), @r#"
    t.yaml:1:7: an unknown escape in double quotes
    1 | name: "C:\Instrument"
      |       ^
    next: inside double quotes a backslash begins an escape (`\n` is a new line, `\I` is nothing at all): use single quotes, 'C:\Instrument', or none
    "#);
    assert_snapshot!(said("name: \"C:\\new\\table\"\n"), @r#"
    t.yaml:1:7: a Windows path in double quotes
    1 | name: "C:\new\table"
      |       ^
    next: inside double quotes a backslash begins an escape (`\n` is a new line, `\I` is nothing at all): use single quotes, 'C:\Instrument', or none
    "#);
}

#[test]
fn well_written_paths_pass() -> Result<()> {
    for text in ["'C:\\Instrument'", "C:\\Instrument", "\"C:\\\\Instrument\"", "\"C:\"", "'\\\\server\\share'", "\"a\\n\""] {
        parse::<Document>("t.yaml", &format!("name: {text}\n"))?;
    }
    Ok(())
}

#[test]
fn unquoted_templates() {
    assert_snapshot!(said("name: {{ inst }}\n"), @r"
    t.yaml:1:7: `{{` must be in quotes
    1 | name: {{ inst }}
      |       ^
    next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map
    ");
    assert_snapshot!(said("name: {{ inst }}.isis\n"), @r"
    t.yaml:1:7: `{{` must be in quotes
    1 | name: {{ inst }}.isis
      |       ^
    next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map
    ");
    assert_snapshot!(said("items: {a: {folder: NDX{{ inst }}}}\n"), @r"
    t.yaml:1:24: `{{` must be in quotes
    1 | items: {a: {folder: NDX{{ inst }}}}
      |                        ^
    next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map
    ");
    assert_snapshot!(said("items: {a: {folder: C:\\config\\{{ inst }}}}\n"), @r"
    t.yaml:1:31: `{{` must be in quotes
    1 | items: {a: {folder: C:\config\{{ inst }}}}
      |                               ^
    next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map
    ");
    assert_snapshot!(said("items: {a: {folder: 'it {{ x }}', groups: [{{ y }}]}}\n"), @r"
    t.yaml:1:44: `{{` must be in quotes
    1 | items: {a: {folder: 'it {{ x }}', groups: [{{ y }}]}}
      |                                            ^
    next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map
    ");
}

#[test]
fn templates_in_block_text_pass() -> Result<()> {
    let read: Document = parse("t.yaml", "name: NDX{{ inst }}\nitems: {a: {folder: '{{ x }}'}}\n")?;
    assert_eq!(read.name.as_deref(), Some("NDX{{ inst }}"));
    Ok(())
}

#[test]
fn broken_yaml() {
    assert_snapshot!(said("name: 'abc\n"), @r"
    t.yaml:1:7: a quote that is not closed
    1 | name: 'abc
      |       ^
    next: close it, or double it inside single quotes: 'it''s'
    ");
    assert_snapshot!(said("name: a: b\n"), @r"
    t.yaml:1:8: a `:` where no value can begin
    1 | name: a: b
      |        ^
    next: check the indentation; quote text that holds `: `
    ");
    assert_snapshot!(said("name: @x\n"), @r"
    t.yaml:1:7: a value cannot begin with `@`
    1 | name: @x
      |       ^
    next: put it into single quotes
    ");
    assert_snapshot!(said("name: *all\n"), @r"
    t.yaml:1:7: an alias that names no anchor
    1 | name: *all
      |       ^
    next: a value that begins with `*` is a reference in YAML: put it into quotes when it is a pattern
    ");
    assert_snapshot!(said("items: {a: {folder: x}\nname: b\n"), @r"
    t.yaml:2:1: while parsing a flow mapping, did not find expected ',' or '}'
    1 | items: {a: {folder: x}
    2 | name: b
      | ^
    next: check the brackets, quotes and indentation of this line and the one before
    ");
    assert_snapshot!(said("items:\n  a:\n    folder: x\n   port: 1\n"), @r"
    t.yaml:4:4: a `key: value` was expected here
    2 |   a:
    3 |     folder: x
    4 |    port: 1
      |    ^
    next: check that the line stands exactly below its neighbours, and quote values with special characters
    ");
    assert_snapshot!(said("name: a\n---\nname: b\n"), @r"
    t.yaml:2:1: the file holds more than one YAML document
    1 | name: a
    2 | ---
      | ^
    next: keep one document in a file: remove the line `---` and what does not belong here
    ");
    assert_snapshot!(said("? [a]\n: b\n"), @r"
    t.yaml:1:3: a key must be plain text, not a list, a map or an alias
    1 | ? [a]
      |   ^
    next: write `key: value`; a key with special characters goes into single quotes
    ");
}

#[test]
fn nothing_at_all() {
    for text in ["", "\n", "# only a comment\n", "---\n", "~\n"] {
        assert!(said(text).starts_with("t.yaml is empty\n"), "{text:?}: {}", said(text));
    }
}

#[test]
fn text_that_is_not_utf8_is_named_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir().cannot(|| "make a folder")?;
    let file = folder.path().join("t.yaml");
    std::fs::write(&file, b"name: a\nitems: \xff\n").cannot(|| "write")?;
    let error = load::<Document>(&file).unwrap_err();
    let d = error.details();
    assert_eq!(d.message, "the file is not UTF-8 text");
    assert_eq!(d.position.as_ref().map(|p| (p.line, p.column)), Some((2, 8)));
    std::fs::write(&file, b"\xff\xfen\0a\0").cannot(|| "write")?;
    let error = load::<Document>(&file).unwrap_err();
    assert!(error.details().next.as_deref().is_some_and(|n| n.contains("UTF-16")));
    Ok(())
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Document>(Path::new("/nowhere/x.yaml")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nowhere/x.yaml"), "{error}");
}

#[test]
fn files_from_windows_editors_are_read() -> Result<()> {
    for text in ["\u{feff}name: a\r\nitems:\r\n  x: {folder: y}\r\n", "\u{feff}# note\nname: a\nitems: {x: {folder: y}}\n"] {
        let read: Document = parse("t.yaml", text)?;
        assert_eq!((read.name.as_deref(), read.items["x"].folder.as_str()), (Some("a"), "y"), "{text:?}");
    }
    let error = parse::<Document>("t.yaml", "\u{feff}name: a\r\n  b: c\r\n").unwrap_err();
    assert_eq!(error.details().position.as_ref().and_then(|p| p.excerpt.as_deref()), Some("1 | name: a\n2 |   b: c\n  |    ^"));
    let error = parse::<Document>("t.yaml", "\u{feff}nam: a\n").unwrap_err();
    assert_eq!(error.to_string(), "t.yaml:1:1: unknown key `nam`");
    Ok(())
}

#[test]
fn words_like_no_stay_text() -> Result<()> {
    let read: Document = parse("t.yaml", "vars: {a: no, b: 2027-03-31, c: true, d: 1.5}\n")?;
    let vars = serde_json::to_value(&read.vars).unwrap();
    assert_eq!(vars, serde_json::json!({"a": "no", "b": "2027-03-31", "c": true, "d": 1.5}));
    Ok(())
}

#[test]
fn what_is_written_reads_back() -> Result<()> {
    let value = BTreeMap::from([("path".to_owned(), "C:\\x: '{{ y }}'".to_owned()), ("no".to_owned(), "yes".to_owned())]);
    let back: BTreeMap<String, String> = parse("t.yaml", &to_string(&value)?)?;
    assert_eq!(back, value);
    Ok(())
}

proptest::proptest! {
    /// Whatever the text, reading gives a value or an error inside the file, and never panics.
    #[test]
    fn errors_point_into_the_text(text in "[a-c:{}\\[\\]'\"\\\\\t\n #*&!|>%@,-]{0,60}") {
        if let Err(error) = parse::<Document>("t.yaml", &text)
            && let Some(p) = &error.details().position
        {
            let lines = text.lines().count() as u64;
            proptest::prop_assert!(p.line >= 1 && p.line <= lines + 1 && p.column >= 1, "{}", error);
        }
    }
}
