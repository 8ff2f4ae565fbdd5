//! What is only known at the instrument: conditions, items, templates that the plan left open.

use crate::actions::Action;
use crate::content::tree;
use crate::error::{Error, Result};
use crate::paths::{Drives, PathPatterns, Place, RelPath};
use crate::plan::{InstrumentPlan, PlanStep};
use crate::template::{self, Context};
use serde_json::{Value, json};

/// One round of a step with `each`; nothing for a step without.
pub(crate) type Item = Option<Value>;

/// The names that templates can use at the instrument.
pub(crate) fn names(plan: &InstrumentPlan, facts: &Context, registered: &Context, item: &Item) -> Context {
    let mut names: Context = plan_names(plan);
    names.extend(plan.vars.clone());
    names.insert("facts".to_owned(), json!(facts));
    names.extend(hotfix_of(plan, facts).map(|value| ("hotfix".to_owned(), value)));
    names.extend(registered.clone());
    if let Some(item) = item {
        names.insert("item".to_owned(), item.clone());
    }
    names
}

fn plan_names(plan: &InstrumentPlan) -> Context {
    let short = plan.instrument.strip_prefix("NDX").unwrap_or(&plan.instrument);
    [
        ("name", json!(plan.instrument)),
        ("inst", json!(short)),
        ("host", json!(plan.host)),
        ("run", json!(plan.run)),
        ("rehearsal", json!(plan.rehearsal)),
        ("places", json!(plan.places)),
        ("kit", json!({"version": plan.kit, "components": plan.components})),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What the hotfix asks for that the run puts in place or takes back; nothing when it does neither.
fn hotfix_of(plan: &InstrumentPlan, facts: &Context) -> Option<Value> {
    let mut steps = plan.steps.iter().filter(|s| s.skip.is_none()).filter_map(|s| match &s.action {
        Action::Hotfix(hotfix) => Some(hotfix),
        _ => None,
    });
    let hotfix = steps.find(|hotfix| hotfix.changes_files())?;
    if let Some(patch) = &hotfix.content {
        return Some(json!({"id": patch.id, "restart": patch.restart.word(), "iocs": patch.restart.iocs()}));
    }
    let id = hotfix.revert.clone().unwrap_or_default();
    let installed = facts.get("hotfixes").and_then(Value::as_object);
    let known = installed.and_then(|all| all.iter().find(|(name, _)| name.eq_ignore_ascii_case(&id)));
    // One that is not there is refused while everything is staged, before anybody asks.
    Some(known.map_or_else(|| json!({"id": id, "restart": "none", "iocs": []}), |(_, value)| value.clone()))
}

/// The step with the templates that were left open filled in.
///
/// # Errors
/// When a template uses a name that is not there, or what comes out is no such action.
pub(crate) fn rendered(step: &PlanStep, names: &Context) -> Result<PlanStep> {
    let mut step = step.clone();
    if step.late.is_empty() {
        return Ok(step);
    }
    let unwritable = |e: serde_json::Error| Error::internal("cannot write an action").because(e);
    let mut action = serde_json::to_value(&step.action).map_err(unwritable)?;
    let mut undo = serde_json::to_value(&step.undo).map_err(unwritable)?;
    for pointer in &step.late.0 {
        // No action is called `undo`.
        let found = match pointer.strip_prefix("/undo") {
            Some(below) => undo.pointer_mut(below),
            None => action.pointer_mut(pointer),
        };
        let Some(Value::String(text)) = found else {
            return Err(Error::internal(format!("the plan names a template at {pointer} where there is no text")));
        };
        *text = template::render(text, names)?;
    }
    let invalid = |e: serde_json::Error| Error::bad_input("with its templates filled in the step is not valid").because(e);
    step.action = serde_json::from_value::<Action>(action).map_err(invalid)?;
    step.undo = serde_json::from_value(undo).map_err(invalid)?;
    Ok(step)
}

/// The items a step repeats over; one round without an item for a step without `each`.
///
/// # Errors
/// When the folder cannot be read or the pattern is none.
pub(crate) fn items_of(plan: &InstrumentPlan, drives: &Drives, step: &PlanStep) -> Result<Vec<Item>> {
    let Some(each) = &step.each else { return Ok(vec![None]) };
    if let Some(list) = &each.list {
        return Ok(list.iter().cloned().map(Some).collect());
    }
    let Some(files) = &each.files else { return Ok(Vec::new()) };
    let (folder, pattern) = split_pattern(files);
    let base = Place(folder).resolve(&plan.places)?;
    let native = drives.native(&base)?;
    if !native.is_dir() {
        return Ok(Vec::new());
    }
    let patterns = PathPatterns::new(&[pattern])?;
    let found = tree::walk(&native, &PathPatterns::default())?;
    let item = |path: &RelPath| {
        let full = base.join(path);
        let dir = full.parent().unwrap_or_else(|| base.clone());
        json!({"path": full.as_str(), "name": path.file_name(), "dir": dir.as_str()})
    };
    let mut paths: Vec<&RelPath> = found.iter().map(|f| &f.path).filter(|p| patterns.covers(p)).collect();
    paths.sort();
    Ok(paths.into_iter().map(|p| Some(item(p))).collect())
}

/// The folder before the first name with a wildcard, and the pattern from there on.
fn split_pattern(text: &str) -> (String, String) {
    let text = text.replace('/', "\\");
    let wild = text.find(['*', '?', '[', '{']).unwrap_or(text.len());
    match text[..wild].rfind('\\') {
        Some(at) => (text[..at].to_owned(), text[at + 1..].to_owned()),
        None => (text, "**".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_begin_where_the_wildcards_do() {
        for (text, folder, pattern) in [
            ("server\\**\\requirements-frozen.txt", "server", "**\\requirements-frozen.txt"),
            ("server/ioc/*.txt", "server\\ioc", "*.txt"),
            ("C:\\Instrument\\x.txt", "C:\\Instrument", "x.txt"),
            ("server", "server", "**"),
        ] {
            assert_eq!(split_pattern(text), (folder.to_owned(), pattern.to_owned()), "{text}");
        }
    }
}
