//! PowerShell text that this repository gives to others, read by a parser of the language: Wine has no PowerShell.

use std::path::Path;
use tree_sitter::{Node, Parser};

/// Everything in a text that is no PowerShell, with its line.
fn faults(text: &str) -> Vec<String> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).expect("the language");
    let tree = parser.parse(text, None).expect("a tree");
    let mut found = Vec::new();
    collect(tree.root_node(), text, &mut found);
    found
}

fn collect(node: Node<'_>, text: &str, found: &mut Vec<String>) {
    if node.is_error() || node.is_missing() {
        let line = text.lines().nth(node.start_position().row).unwrap_or_default();
        found.push(format!("line {}: {line}", node.start_position().row + 1));
    }
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        collect(child, text, found);
    }
}

/// All nodes of a kind, as text.
fn all<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    fn walk<'t>(node: Node<'_>, kind: &str, text: &'t str, found: &mut Vec<&'t str>) {
        if node.kind() == kind {
            found.push(&text[node.byte_range()]);
        }
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            walk(child, kind, text, found);
        }
    }
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).expect("the language");
    let tree = parser.parse(text, None).expect("a tree");
    let mut found = Vec::new();
    walk(tree.root_node(), kind, text, &mut found);
    found
}

fn files() -> Vec<(String, String)> {
    let sources = walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).into_iter().flatten();
    let scripts = sources.filter(|e| e.path().extension().is_some_and(|ending| ending == "ps1"));
    scripts.map(|e| (e.path().display().to_string(), std::fs::read_to_string(e.path()).expect("a script"))).collect()
}

#[test]
fn the_parser_sees_what_is_wrong() {
    assert_eq!(faults("try { Remove-Item -Force 'x' } finally { $a = 1 }\n"), [""; 0]);
    for wrong in ["try { $a = 1 \n", "$a = 'open\n", "if ($a { }\n"] {
        assert!(!faults(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn every_script_in_the_sources_is_powershell_short_and_quoted() {
    let files = files();
    assert!(!files.is_empty());
    for (file, text) in files {
        assert_eq!(faults(&text), [""; 0], "{file}");
        assert!(text.lines().count() <= 60, "{file}: what is longer belongs into the agent");
        // What is put in stands where nothing in it can end a text or begin a variable of PowerShell's.
        for mark in marks(&text) {
            let holders = ["verbatim_string_characters", "expandable_string_literal"];
            let holders: Vec<_> = holders.iter().flat_map(|kind| all(&text, kind)).filter(|node| node.contains(&mark)).collect();
            assert!(!holders.is_empty(), "{file}: {mark} stands outside of a text");
        }
    }
}

/// `@NAME@` and its like.
fn marks(text: &str) -> Vec<String> {
    let is_mark = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    text.split('@').skip(1).filter(is_mark).map(|word| format!("@{word}@")).collect()
}

#[test]
fn the_commands_of_the_documents_are_powershell() {
    let docs = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("documents").flatten();
    let mut seen = 0;
    for doc in docs.filter(|e| e.path().extension().is_some_and(|ending| ending == "md")) {
        let text = std::fs::read_to_string(doc.path()).expect("a document");
        for block in text.split("```powershell\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            assert_eq!(faults(block), [""; 0], "{}: {block}", doc.path().display());
            seen += 1;
        }
    }
    assert!(seen > 2, "the documents have commands");
}
