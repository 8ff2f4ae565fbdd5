//! What becomes of installed hotfixes when a release replaces the tree they are in.

use super::installed::{self, HotfixedFile, InstalledHotfix};
use crate::actions::StepContext;
use crate::actions::sync::difference::{Wanted, WantedTree};
use crate::content::{Seen, TreeIndex};
use crate::error::{Error, ErrorKind, Result, first_named};
use crate::files;
use crate::paths::{PathPatterns, RelPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the operator wants of installed hotfixes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotfixPolicy {
    /// They stay in place where the release has the files that they were made for.
    pub keep: bool,
    /// Names of those that are dropped all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

impl HotfixPolicy {
    /// True when nothing is kept: what a plan does unless told.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    fn keeps(&self, id: &str) -> bool {
        self.keep && !self.drop.iter().any(|dropped| dropped.eq_ignore_ascii_case(id))
    }
}

/// What becomes of one hotfix in one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The release has its files: it is a hotfix no more.
    Included,
    /// The release replaces its files; `fits` when they could have been kept.
    Dropped { fits: bool },
    /// Its files stay; those named are in the release as well.
    Kept { included: Vec<RelPath> },
    /// It was to be kept and cannot be, for these reasons.
    Stuck { why: Vec<String> },
}

/// A hotfix and its fate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub id: String,
    pub description: String,
    /// The component whose release this is about.
    pub component: String,
    /// The release, for people.
    pub version: String,
    pub fate: Fate,
}

/// What the release makes of one file.
enum OfFile {
    /// The release has it as the hotfix does.
    Included,
    /// The release has what the hotfix was made for.
    Fits,
    Conflicts(String),
}

/// All hotfixes that touched one file, the oldest first, by their place in the list.
type Chains<'a> = BTreeMap<String, Vec<(usize, &'a HotfixedFile)>>;

/// The tree that a release is compared with.
pub(in crate::actions) struct Release<'a> {
    pub(in crate::actions) component: &'a str,
    pub(in crate::actions) version: &'a str,
    pub(in crate::actions) wanted: &'a mut WantedTree,
    pub(in crate::actions) installed: &'a TreeIndex,
    /// What the release does not look at.
    pub(in crate::actions) skip: &'a PathPatterns,
}

/// Judges every hotfix in the component, and lets the release want the files of those that stay.
///
/// # Errors
/// When the list of hotfixes cannot be read.
pub(in crate::actions) fn settle(release: Release<'_>, cx: &StepContext<'_>) -> Result<Vec<Judged>> {
    let all = installed::read(cx.home)?;
    let mut chains = Chains::new();
    for (n, hotfix) in all.iter().enumerate() {
        let here = hotfix.files.iter().filter(|f| f.component == release.component && !release.skip.covers(&f.path));
        here.for_each(|f| chains.entry(f.path.case_key()).or_default().push((n, f)));
    }
    let mut judged = Vec::new();
    for (n, hotfix) in all.iter().enumerate() {
        let mine = chains.values().filter(|chain| chain.iter().any(|(m, _)| *m == n));
        let found: Vec<(&HotfixedFile, OfFile)> =
            mine.filter_map(|chain| Some((chain.last()?.1, judge_file(chain, &all, &release, cx)))).collect();
        if found.is_empty() {
            continue;
        }
        let fate = fate_of(&cx.plan.hotfixes, hotfix, found);
        judged.push(Judged {
            id: hotfix.id.clone(),
            description: hotfix.description.clone(),
            component: release.component.to_owned(),
            version: release.version.to_owned(),
            fate,
        });
    }
    let stays = |n: usize| judged.iter().any(|j| j.id == all[n].id && matches!(j.fate, Fate::Kept { .. }));
    for chain in chains.values() {
        if let Some((_, file)) = chain.last().filter(|(n, _)| stays(*n)) {
            want(file, release.wanted, release.installed);
        }
    }
    Ok(judged)
}

fn fate_of(policy: &HotfixPolicy, hotfix: &InstalledHotfix, files: Vec<(&HotfixedFile, OfFile)>) -> Fate {
    let (mut included, mut why, number) = (Vec::new(), Vec::new(), files.len());
    for (file, what) in files {
        match what {
            OfFile::Included => included.push(file.path.clone()),
            OfFile::Fits => {}
            OfFile::Conflicts(reason) => why.push(reason),
        }
    }
    if included.len() == number {
        Fate::Included
    } else if !policy.keeps(&hotfix.id) {
        Fate::Dropped { fits: why.is_empty() }
    } else if why.is_empty() {
        Fate::Kept { included }
    } else {
        Fate::Stuck { why }
    }
}

fn judge_file(chain: &[(usize, &HotfixedFile)], all: &[InstalledHotfix], release: &Release<'_>, cx: &StepContext<'_>) -> OfFile {
    let (Some((_, first)), Some((_, last))) = (chain.first(), chain.last()) else { return OfFile::Included };
    let kit = release.wanted.get(&last.path).map(|w| Seen { size: w.size, hash: w.hash });
    let now = release.installed.entries.get(&last.path).map(Seen::from);
    let named = last.named();
    if kit == last.after {
        return OfFile::Included;
    }
    if kit != first.before {
        let what = match kit {
            Some(_) => "is another file in the release than the one that it was made for",
            None => "is not in the release",
        };
        return OfFile::Conflicts(format!("{named} {what}"));
    }
    if now != last.after {
        return OfFile::Conflicts(format!("{named} was changed by hand since"));
    }
    let policy = &cx.plan.hotfixes;
    match chain.iter().find(|(n, _)| !policy.keeps(&all[*n].id)) {
        Some((n, _)) if policy.keep => OfFile::Conflicts(format!("{named} was changed by {} too, which is dropped", all[*n].id)),
        _ => OfFile::Fits,
    }
}

/// The release wants the file as the hotfix left it.
fn want(file: &HotfixedFile, wanted: &mut WantedTree, installed: &TreeIndex) {
    match (file.after, installed.entries.get(&file.path)) {
        (Some(after), Some(entry)) => {
            let as_it_is =
                Wanted { source: file.path.clone(), size: after.size, hash: after.hash, executable: entry.executable() };
            wanted.insert(file.path.clone(), as_it_is);
        }
        _ => drop(wanted.remove(&file.path)),
    }
}

/// Refuses a release that was to keep hotfixes which it cannot keep.
///
/// # Errors
/// Naming each of them and why.
pub(in crate::actions) fn expect_none_stuck(judged: &[Judged]) -> Result<()> {
    let stuck = judged.iter().filter_map(|j| match &j.fate {
        Fate::Stuck { why } => Some((j, why)),
        _ => None,
    });
    let errors = stuck.map(|(j, why)| {
        let what = format!("the hotfix {} cannot be kept with {} of {}", j.id, j.version, j.component);
        Error::new(ErrorKind::Refused, what).with_output(first_named(why)).next(format!(
            "drop it with `--drop-hotfix {}`, or release without --keep-hotfixes; a new hotfix can be made for the release",
            j.id
        ))
    });
    Error::of_all(errors.collect()).map_or(Ok(()), Err)
}

/// A line for people about each.
pub(in crate::actions) fn lines(judged: &[Judged]) -> Vec<String> {
    let line = |j: &Judged| match &j.fate {
        Fate::Included => format!("hotfix {}: included in {} of {}", j.id, j.version, j.component),
        Fate::Dropped { fits } => {
            let could = if *fits { "; `--keep-hotfixes` would keep it" } else { "" };
            format!("hotfix {}: dropped, {} of {} replaces its files{could}", j.id, j.version, j.component)
        }
        Fate::Kept { .. } => {
            format!("hotfix {}: kept, {} of {} has the files that it was made for", j.id, j.version, j.component)
        }
        Fate::Stuck { why } => format!("hotfix {}: cannot be kept: {}", j.id, why.join("; ")),
    };
    judged.iter().map(line).collect()
}

fn fates_file(cx: &StepContext<'_>) -> PathBuf {
    cx.data_file("hotfixes.json")
}

/// Writes down what was found, and tells of it when that is new.
///
/// # Errors
/// When it cannot be written.
pub(in crate::actions) fn note(judged: &[Judged], cx: &StepContext<'_>) -> Result<()> {
    let before = fates(cx)?;
    if before == judged {
        return Ok(());
    }
    files::write_json(&fates_file(cx), &judged)?;
    for (j, line) in judged.iter().zip(lines(judged)) {
        if !before.contains(j) {
            cx.progress.note(&line);
        }
    }
    Ok(())
}

/// Leaves it to a person to see whether the hotfixes are still needed that go now, or stay.
pub(in crate::actions) fn remind(judged: &[Judged], cx: &StepContext<'_>) {
    for j in judged {
        let (done, ask) = match &j.fate {
            Fate::Dropped { .. } => ("dropped, {} replaces its files", "see whether it is still needed"),
            Fate::Kept { .. } => ("kept over {}", "revert it once it is not needed any more"),
            Fate::Included | Fate::Stuck { .. } => continue,
        };
        let done = done.replace("{}", &format!("{} of {}", j.version, j.component));
        let what = if j.description.is_empty() { String::new() } else { format!(" ({})", j.description) };
        cx.progress.remind(&format!("hotfix {}: {done}{what}: {ask}", j.id));
    }
}

/// The hotfixes in a few words, as the end of a step's summary: `; hotfixes: a included, b dropped`.
pub(in crate::actions) fn summary(judged: &[Judged]) -> String {
    let word = |j: &Judged| match &j.fate {
        Fate::Included => "included",
        Fate::Dropped { fits: true } => "dropped (`--keep-hotfixes` would keep it)",
        Fate::Dropped { fits: false } => "dropped",
        Fate::Kept { .. } => "kept",
        Fate::Stuck { .. } => "cannot be kept",
    };
    let each: Vec<String> = judged.iter().map(|j| format!("{} {}", j.id, word(j))).collect();
    if each.is_empty() { String::new() } else { format!("; hotfixes: {}", each.join(", ")) }
}

/// What the step found of each hotfix.
///
/// # Errors
/// When the file is damaged.
pub fn fates(cx: &StepContext<'_>) -> Result<Vec<Judged>> {
    Ok(files::read_json(&fates_file(cx))?.unwrap_or_default())
}

/// The list of hotfixes after the release.
pub fn after(all: Vec<InstalledHotfix>, judged: &[Judged]) -> Vec<InstalledHotfix> {
    let rest = all.into_iter().map(|mut hotfix| {
        for j in judged.iter().filter(|j| j.id == hotfix.id) {
            hotfix.files.retain(|f| {
                f.component != j.component
                    || match &j.fate {
                        Fate::Kept { included } => !included.contains(&f.path),
                        Fate::Included | Fate::Dropped { .. } | Fate::Stuck { .. } => false,
                    }
            });
        }
        hotfix
    });
    rest.filter(|hotfix| !hotfix.files.is_empty()).collect()
}
