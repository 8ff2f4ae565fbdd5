//! The archive of a `hotfix` step, read into the plan.

use super::arguments;
use super::instrument::Planner;
use super::render::Renderer;
use crate::actions::Action;
use crate::actions::check::Check;
use crate::actions::hotfix::Hotfix;
use crate::error::{Error, Result, SourcePosition};
use crate::kit::hotfix::{HeadText, Patch, PatchPath};
use crate::nearest::nearest;
use crate::yaml;
use std::collections::BTreeSet;
use std::path::Path;

/// Puts what the archive holds into the action. It comes after the templates are filled in: only the checks have some.
pub(super) fn read(planner: &mut Planner<'_, '_>, hotfix: &mut Hotfix) -> Result<()> {
    let Some(archive) = hotfix.patch.as_ref().or(hotfix.prove.as_ref()) else { return Ok(()) };
    let found = planner.request.patches.read(Path::new(archive))?;
    // A change between the plan and its confirmation is noticed, as that of a text is.
    planner.read.insert(archive.clone(), (found.digest, String::new()));
    let mut patch = found.patch;
    // Each part goes to the step that is for it, which also says what is wrong with it.
    let checks = std::mem::take(&mut patch.checks);
    if hotfix.prove.is_none() {
        expect_places(planner, hotfix, &patch)?;
    } else {
        (patch.files, patch.deletes) = (Vec::new(), Vec::new());
        if let Some(head) = &found.head {
            let filled = checks.into_iter().enumerate().map(|(n, check)| fill(planner, head, n, check));
            patch.checks = filled.collect::<Result<_>>()?;
        }
    }
    hotfix.content = Some(patch);
    Ok(())
}

/// Every component must be installed somewhere.
fn expect_places(planner: &Planner<'_, '_>, hotfix: &Hotfix, patch: &Patch) -> Result<()> {
    let known = || hotfix.to.keys().map(String::as_str);
    let required = patch.requires.keys().map(|component| (component.as_str(), None));
    let touched = patch.components().into_iter().map(|component| (component, example(patch, component)));
    let mut mistakes = Vec::new();
    for (component, entry) in touched.chain(required) {
        match hotfix.to.get(component) {
            Some(place) => drop(place.resolve(&planner.instrument.places)?),
            None => {
                let next = match nearest(component, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the components are: {}", known().collect::<Vec<_>>().join(", ")),
                };
                let what = match entry {
                    Some(entry) => format!("the entry `{entry}` is in no component"),
                    None => format!("`requires` names `{component}`, which is no component"),
                };
                mistakes.push(Error::bad_input(format!("the hotfix {}: {what}", patch.archive)).next(next));
            }
        }
    }
    Error::of_all(mistakes).map_or(Ok(()), Err)
}

fn example(patch: &Patch, component: &str) -> Option<String> {
    let of_file = patch.files.iter().find(|f| f.component == component);
    let file = of_file.map(|f| PatchPath { component: component.to_owned(), path: f.path.clone() }.to_string());
    file.or_else(|| patch.deletes.iter().find(|d| d.component == component).map(ToString::to_string))
}

/// A check with its templates filled in, whose places are those of the instrument.
fn fill(planner: &Planner<'_, '_>, head: &HeadText, number: usize, check: Check) -> Result<Check> {
    let tree = yaml::Tree::parse(&head.file, &head.text)?;
    let place = |pointer: &str| {
        let top = SourcePosition { file: head.file.clone(), line: 1, column: 1, excerpt: None };
        tree.position(&format!("/checks/{number}{pointer}")).unwrap_or(top)
    };
    let broken = |e: serde_json::Error| Error::internal("a check cannot be written as data").because(e);
    let locate = |pointer: &str, _: &str, _: usize| place(pointer);
    let renderer = Renderer { context: &planner.context, late: &BTreeSet::new(), locate: &locate };
    let raw = serde_json::to_value(&check).map_err(broken)?;
    let check: Check = serde_json::from_value(renderer.value(&raw, "", &mut Vec::new())?).map_err(broken)?;
    let action = Action::Check(Box::new(check.clone()));
    for (pointer, named) in arguments::places(&action) {
        let below = pointer.strip_prefix("/check").unwrap_or(&pointer);
        named.resolve(&planner.instrument.places).map_err(|e| e.at(place(below)))?;
    }
    Ok(check)
}
