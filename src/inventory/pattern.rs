//! Patterns: which instruments a command means.

use super::{Instrument, Inventory, names};
use crate::error::{Error, Result, SourcePosition};
use crate::nearest::nearest;
use globset::{GlobBuilder, GlobMatcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was asked for, not yet held against an inventory.
///
/// As in Ansible, the order does not matter: first everything that is named without a mark is joined (everything, when
/// nothing is), then `&` keeps only what is also in its pattern, then `!` takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Every instrument.
    pub all: bool,
    /// Patterns as typed: `ts2,!NDXLOQ`, `&winter`, `@file`.
    pub patterns: Vec<String>,
    /// As `!`; commas join.
    pub except: Vec<String>,
    /// As `&`; commas join, and each entry narrows further.
    pub only: Vec<String>,
    /// Files with patterns, one a line.
    pub from: Vec<PathBuf>,
}

impl Selection {
    /// One pattern.
    pub fn of(pattern: impl Into<String>) -> Self {
        Self { patterns: vec![pattern.into()], ..Self::default() }
    }

    /// Every instrument when nothing was chosen: for commands that only look.
    #[must_use]
    pub fn or_all(mut self) -> Self {
        self.all |= self == Self::default();
        self
    }
}

/// What a term does with the instruments it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Add,
    Only,
    Except,
}

/// A pattern with where it stands, for errors.
#[derive(Debug, Clone)]
struct Word {
    text: String,
    position: Option<SourcePosition>,
}

/// Words that are joined, and what is done with what they match.
#[derive(Debug, Clone)]
struct Term {
    mark: Mark,
    words: Vec<Word>,
}

/// As [`Inventory::select`].
pub(super) fn select<'i>(inventory: &'i Inventory, selection: &Selection) -> Result<Vec<&'i Instrument>> {
    let terms = terms(selection)?;
    if terms.is_empty() && !selection.all {
        return Err(Error::usage("no instruments were named").next(
            "give names, groups or globs such as LARMOR, ts2 or 'NDX*', or --all; `ibexdeploy inventory list` shows them",
        ));
    }
    if selection.all && terms.iter().any(|t| t.mark == Mark::Add) {
        return Err(Error::usage("--all and patterns were given together")
            .next("leave one of them out; --except and --only narrow --all"));
    }
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    let everything = terms.iter().all(|t| t.mark != Mark::Add);
    if everything {
        chosen.extend(0..inventory.instruments.len());
    }
    for mark in [Mark::Add, Mark::Only, Mark::Except] {
        for term in terms.iter().filter(|t| t.mark == mark) {
            let mut matched = BTreeSet::new();
            for word in &term.words {
                matched.extend(matches(inventory, word, mark)?);
            }
            match mark {
                Mark::Add => chosen.extend(matched),
                Mark::Only => chosen.retain(|i| matched.contains(i)),
                Mark::Except => chosen.retain(|i| !matched.contains(i)),
            }
        }
    }
    if chosen.is_empty() {
        return Err(Error::usage("the patterns leave no instrument")
            .next("each of them matches something, but not together: see `ibexdeploy inventory list PATTERN` for each"));
    }
    Ok(chosen.into_iter().filter_map(|i| inventory.instruments.get(i)).collect())
}

/// Takes a selection apart; reads the files it names.
fn terms(selection: &Selection) -> Result<Vec<Term>> {
    let mut terms = Vec::new();
    for text in &selection.patterns {
        for word in words(text, None) {
            add_term(&mut terms, word)?;
        }
    }
    for file in &selection.from {
        for word in read(file)? {
            add_term(&mut terms, word)?;
        }
    }
    for (mark, flag, texts) in [(Mark::Only, "--only", &selection.only), (Mark::Except, "--except", &selection.except)] {
        for text in texts {
            if words(text, None).next().is_none() {
                return Err(
                    Error::usage(format!("{flag} was given no pattern")).next("name instruments or groups, or leave it out")
                );
            }
            let mut joined = Vec::new();
            for word in words(text, None) {
                joined.extend(plain(word, flag)?);
            }
            terms.push(Term { mark, words: joined });
        }
    }
    Ok(terms)
}

/// What the marks are for.
const MARKS: &str = "write a name, group or glob behind `!` and `&`, and a file's name behind `@`";

/// One word with its mark becomes a term.
fn add_term(terms: &mut Vec<Term>, word: Word) -> Result<()> {
    let (mark, rest) = match word.text.strip_prefix(['!', '&']) {
        Some(rest) if word.text.starts_with('!') => (Mark::Except, rest),
        Some(rest) => (Mark::Only, rest),
        None => (Mark::Add, word.text.as_str()),
    };
    let unmarked = Word { text: rest.trim().to_owned(), position: word.position.clone() };
    if matches!(unmarked.text.as_str(), "" | "@") {
        let error = Error::usage(format!("`{}` is a mark without a name", word.text));
        return Err(super::placed(error.next(MARKS), word.position.clone()));
    }
    // A file named without a mark may hold marks itself.
    if let (Mark::Add, Some(file)) = (mark, unmarked.text.strip_prefix('@')) {
        for inner in read(Path::new(file))? {
            if inner.text.starts_with('@') {
                return Err(nested(&inner));
            }
            add_term(terms, inner)?;
        }
        return Ok(());
    }
    let words = plain(unmarked, if mark == Mark::Only { "&" } else { "!" })?;
    terms.push(Term { mark, words });
    Ok(())
}

/// The words that stand for one, which may name a file but has no further mark; `within` is the mark or flag it is in.
fn plain(word: Word, within: &str) -> Result<Vec<Word>> {
    let Some(file) = word.text.strip_prefix('@') else {
        return if word.text.starts_with(['!', '&']) { Err(doubly_marked(&word, within)) } else { Ok(vec![word]) };
    };
    if file.is_empty() {
        return Err(super::placed(Error::usage("`@` is a mark without a name").next(MARKS), word.position));
    }
    let inner = read(Path::new(file))?;
    match inner.iter().find(|w| w.text.starts_with(['!', '&', '@'])) {
        Some(word) if word.text.starts_with('@') => Err(nested(word)),
        Some(word) => Err(doubly_marked(word, within)),
        None => Ok(inner),
    }
}

fn doubly_marked(word: &Word, within: &str) -> Error {
    let error = Error::usage(format!("the mark in `{}` has no meaning inside {within}", word.text));
    super::placed(error.next("write the name, group or glob alone"), word.position.clone())
}

fn nested(word: &Word) -> Error {
    let error = Error::usage(format!("a pattern file cannot name another one, as `{}` does", word.text));
    super::placed(error.next("write the patterns of both into one file, or use --from twice"), word.position.clone())
}

/// The words of a text with commas.
fn words(text: &str, position: Option<SourcePosition>) -> impl Iterator<Item = Word> + '_ {
    split(text)
        .into_iter()
        .map(move |w| Word { text: w.trim().to_owned(), position: position.clone() })
        .filter(|w| !w.text.is_empty())
}

/// Splits at commas, but not inside the brackets and braces of a glob.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The words of a pattern file: one or more a line; `#` begins a comment.
fn read(file: &Path) -> Result<Vec<Word>> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Error::usage(format!("cannot read the patterns in {}", file.display())).because(e).next("check the file's name")
    })?;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default();
        let position = SourcePosition { file: file.display().to_string(), line: index as u64 + 1, column: 1, excerpt: None };
        found.extend(words(content, Some(position)));
    }
    if found.is_empty() {
        return Err(Error::usage(format!("{} holds no patterns", file.display())).next("write one a line"));
    }
    Ok(found)
}

/// The numbers of the instruments that a word matches.
fn matches(inventory: &Inventory, word: &Word, mark: Mark) -> Result<Vec<usize>> {
    let all = inventory.instruments.iter().enumerate();
    let text = word.text.as_str();
    let named: Vec<usize> = all.clone().filter(|(_, i)| i.is_called(text)).map(|(n, _)| n).collect();
    if !named.is_empty() {
        return Ok(named);
    }
    if names::EVERYTHING.iter().any(|n| n.eq_ignore_ascii_case(text)) {
        return Ok(all.map(|(n, _)| n).collect());
    }
    if let Some(group) = inventory.groups.iter().find(|g| g.eq_ignore_ascii_case(text)) {
        let members: Vec<usize> = all.filter(|(_, i)| i.groups.contains(group)).map(|(n, _)| n).collect();
        // Taking away nobody is what was asked for; working on nobody is not.
        if members.is_empty() && mark != Mark::Except {
            let error = Error::usage(format!("the group `{group}` has no instruments"))
                .next(format!("list `{group}` under the `groups` of an instrument in {}", inventory.file.display()));
            return Err(super::placed(error, word.position.clone()));
        }
        return Ok(members);
    }
    if text.contains(['*', '?', '[', '{']) {
        let glob = glob(text).map_err(|e| super::placed(e, word.position.clone()))?;
        let matched: Vec<usize> =
            all.filter(|(_, i)| glob.is_match(&i.name) || glob.is_match(i.inst())).map(|(n, _)| n).collect();
        if !matched.is_empty() {
            return Ok(matched);
        }
    }
    Err(super::placed(unknown(inventory, text), word.position.clone()))
}

fn glob(text: &str) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(text).case_insensitive(true).build();
    let glob =
        glob.map_err(|e| Error::usage(format!("`{text}` is not a pattern")).because(e.kind()).next("close its brackets"))?;
    Ok(glob.compile_matcher())
}

/// The error of a pattern that matches nothing.
pub(super) fn unknown(inventory: &Inventory, text: &str) -> Error {
    let instruments = inventory.instruments.iter();
    // The short names as well: `LARMR` is nearer to `LARMOR` than to `NDXLARMOR`.
    let known = instruments.flat_map(|i| [i.name.as_str(), i.inst()]).chain(inventory.groups.iter().map(String::as_str));
    let wanted = text.trim_matches(['*', '?']);
    let next = match nearest(wanted, known) {
        Some(near) => format!("did you mean `{near}`? `ibexdeploy inventory list` shows all"),
        None => {
            let groups: Vec<&str> = inventory.groups.iter().map(String::as_str).collect();
            format!("`ibexdeploy inventory list` shows the names; the groups are: {}", groups.join(", "))
        }
    };
    Error::usage(format!("`{text}` matches no instrument of {}", inventory.file.display())).next(next)
}

#[cfg(test)]
mod tests;
