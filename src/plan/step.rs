//! One step of one instrument's plan.

use super::defaults::{default_run_as, default_timeout};
use super::instrument::Planner;
use super::model::{LateTemplates, PlanStep};
use super::render::{Locate, Renderer};
use crate::actions::migrate::{Migrate, WhichChain};
use crate::actions::sync::Sync;
use crate::actions::{Action, Perform};
use crate::content::ContentHash;
use crate::error::{Error, IoContext, Result};
use crate::inventory::Instrument;
use crate::migrate::Chain;
use crate::paths::{Place, WinPath};
use crate::playbook::{ENDED_NAME, Each, LoadedStep, RunAs, UndoSpec};
use crate::template::{Context, is_template};
use crate::yaml::position_at;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn plan_step(planner: &mut Planner<'_, '_>, loaded: &LoadedStep, id: String) -> Result<PlanStep> {
    let step = &loaded.step;
    let mut planned = PlanStep {
        id,
        name: String::new(),
        phase: loaded.phase,
        action: loaded.action.clone(),
        run_as: step.run_as.unwrap_or_else(|| default_run_as(&loaded.action)),
        when: None,
        skip: None,
        each: step.each.clone(),
        register: step.register.clone(),
        retries: step.retries.unwrap_or(0),
        timeout: step.timeout.unwrap_or_else(|| default_timeout(&loaded.action)),
        tags: step.tags.clone(),
        on_failure: step.on_failure.unwrap_or_default(),
        undo: step.undo.clone(),
        writes: Vec::new(),
        late: LateTemplates::default(),
    };
    decide(planner, loaded, &mut planned)?;
    if let Some(name) = step.register.as_ref().filter(|name| planner.context.contains_key(*name)) {
        return Err(Error::bad_input(format!("`register: {name}` would hide the variable `{name}` of the inventory"))
            .at(planner.request.playbook.position(loaded, "/register"))
            .next(format!("choose another name, for example `{name}_found`")));
    }
    if planned.skip.is_some() {
        planner.late.extend(step.register.clone());
        // What is never run need not be complete: its names may be defined only where it runs.
        planned.name = step.name.clone().unwrap_or_else(|| loaded.action.performer().describe());
        return Ok(planned);
    }
    account(planner, loaded, &planned)?;
    fill(planner, loaded, &mut planned)?;
    planner.late.extend(step.register.clone());
    Ok(planned)
}

/// A step that runs in the session of the instrument's account needs to know which that is.
fn account(planner: &Planner<'_, '_>, loaded: &LoadedStep, planned: &PlanStep) -> Result<()> {
    if planned.run_as == RunAs::Admin || planner.instrument.accounts.contains_key("instrument") {
        return Ok(());
    }
    Err(Error::bad_input(format!("the inventory has no account `instrument` for {}", planner.instrument.name))
        .at(planner.request.playbook.position(loaded, ""))
        .next("add it under `accounts:` in the inventory, or run the step `as: admin`"))
}

/// The tag of steps that run whatever `--tags` asks for: stopping and starting, when only the client is wanted.
const ALWAYS: &str = "always";

/// Whether the step runs, as far as that is known: by its tags, then by `when`.
fn decide(planner: &Planner<'_, '_>, loaded: &LoadedStep, planned: &mut PlanStep) -> Result<()> {
    let request = planner.request;
    let has = |wanted: &&String| planned.tags.contains(wanted);
    if let Some(tag) = request.skip_tags.iter().find(has) {
        planned.skip = Some(format!("--skip-tags {tag}"));
        return Ok(());
    }
    let always = planned.tags.iter().any(|t| t == ALWAYS);
    if !request.tags.is_empty() && !always && !request.tags.iter().any(|t| has(&t)) {
        planned.skip = Some(format!("not tagged {}", request.tags.join(" or ")));
        return Ok(());
    }
    let Some(when) = &loaded.step.when else { return Ok(()) };
    let file = request.playbook.file_of(loaded);
    let locate = |pointer: &str, text: &str, offset| file.position_in(&format!("{}{pointer}", loaded.pointer), text, offset);
    let renderer = Renderer { context: &planner.context, late: &late_names(planner, loaded), locate: &locate };
    match renderer.decide(when, "/when")? {
        Some(true) => {}
        Some(false) => planned.skip = Some(format!("when: {when} is false")),
        None => planned.when = Some(when.clone()),
    }
    Ok(())
}

/// Names that only the instrument will have when it comes to the step.
fn late_names(planner: &Planner<'_, '_>, loaded: &LoadedStep) -> BTreeSet<String> {
    let mut late = planner.late.clone();
    if matches!(&loaded.action, Action::Notify(notify) if notify.if_failed) {
        late.insert(ENDED_NAME.to_owned());
    }
    late
}

/// Fills in everything that is known now.
fn fill(planner: &mut Planner<'_, '_>, loaded: &LoadedStep, planned: &mut PlanStep) -> Result<()> {
    let step = &loaded.step;
    let playbook = planner.request.playbook;
    let file = playbook.file_of(loaded);
    let mut action = loaded.action.clone();
    let inlined = inline(planner, loaded, &mut action)?;
    let locate = |pointer: &str, text: &str, offset: usize| match &inlined {
        Some(from) if from.pointer == pointer => position_at(&from.file, text, offset),
        _ => file.position_in(&format!("{}{pointer}", loaded.pointer), text, offset),
    };
    let mut late = late_names(planner, loaded);
    if step.each.is_some() {
        late.insert("item".to_owned());
    }
    let mut kept = Vec::new();
    let renderer = Renderer { context: &planner.context, late: &late, locate: &locate };
    planned.action = rendered(&renderer, &action, "", &mut kept)?;
    if let Action::Sync(sync) = &mut planned.action {
        lay_out(planner.instrument, sync);
    }
    let of_action = kept.len();
    planned.undo = rendered::<Option<UndoSpec>>(&renderer, &step.undo, "/undo", &mut kept)?;

    let now = PlanTime { context: &planner.context, locate: &locate };
    planned.name = match &step.name {
        Some(name) => now.rendered(name, "/name")?,
        None => planned.action.performer().describe(),
    };
    planned.each = now.rendered::<Option<Each>>(&step.each, "/each")?;
    let writes = now.rendered::<Vec<Place>>(&step.writes, "/writes")?;
    planned.writes = resolve_writes(planner, loaded, &writes)?;
    if let Some(files) = planned.each.as_ref().and_then(|e| e.files.as_deref()) {
        let base = files.split(['\\', '/']).next().unwrap_or(files);
        if WinPath::parse(files).is_err() {
            let places = &planner.instrument.places;
            Place(base.to_owned()).resolve(places).map_err(|e| e.at(playbook.position(loaded, "/each/files")))?;
        }
    }
    if let Some(UndoSpec::Command(command)) = &planned.undo {
        for (pointer, place) in super::arguments::places(&Action::Command((**command).clone())) {
            if kept.contains(&format!("/undo{pointer}")) {
                continue;
            }
            let at = |e: Error| e.at(playbook.position(loaded, &format!("/undo{pointer}")));
            if !kept.contains(&format!("/undo{pointer}")) {
                place.resolve(&planner.instrument.places).map_err(at)?;
            }
        }
    }
    planner.refer(loaded, &planned.action, &kept[..of_action])?;
    match &mut planned.action {
        Action::Migrate(migrate) => chain(planner, loaded, migrate)?,
        Action::Hotfix(hotfix) => {
            if let Some(pointer) = kept.first() {
                let next = "an archive, and the hotfix to take back, must be known when the plan is made";
                let error = Error::bad_input("`hotfix` cannot use names that only the instrument knows").next(next);
                return Err(error.at(playbook.position(loaded, pointer)));
            }
            super::patch::read(planner, hotfix)?;
            if step.name.is_none() {
                planned.name = hotfix.describe();
            }
        }
        _ => {}
    }
    if let Action::Task(task) = &mut planned.action {
        super::task::plan_task(planner, loaded, task)?;
    }
    planned.late = LateTemplates(kept);
    Ok(())
}

/// Where versions lie beside each other, a component that has a place of its own goes to a folder of its own.
fn lay_out(instrument: &Instrument, sync: &mut Sync) {
    if instrument.places.contains_key(sync.to.as_str()) {
        sync.versions.clone_from(&instrument.versions);
    }
}

fn resolve_writes(planner: &Planner<'_, '_>, loaded: &LoadedStep, writes: &[Place]) -> Result<Vec<WinPath>> {
    let resolved = writes.iter().enumerate().map(|(n, place)| {
        let at = |e: Error| e.at(planner.request.playbook.position(loaded, &format!("/writes/{n}")));
        place.resolve(&planner.instrument.places).map_err(at)
    });
    resolved.collect()
}

/// What must be complete when the plan is made.
struct PlanTime<'a> {
    context: &'a Context,
    locate: &'a Locate<'a>,
}

impl PlanTime<'_> {
    fn rendered<T: Serialize + DeserializeOwned>(&self, value: &T, pointer: &str) -> Result<T> {
        let renderer = Renderer { context: self.context, late: &BTreeSet::new(), locate: self.locate };
        rendered(&renderer, value, pointer, &mut Vec::new())
    }
}

/// Fills in a typed value.
fn rendered<T: Serialize + DeserializeOwned>(
    renderer: &Renderer<'_>,
    value: &T,
    pointer: &str,
    kept: &mut Vec<String>,
) -> Result<T> {
    let broken = |e: serde_json::Error| Error::internal("a step cannot be written as data").because(e);
    let raw = serde_json::to_value(value).map_err(broken)?;
    let filled = renderer.value(&raw, pointer, kept)?;
    serde_json::from_value(filled).map_err(broken)
}

/// Puts the chain of migrations into the action, so that the instrument needs no file for it. It comes after the
/// templates are filled in: migrations have none.
fn chain(planner: &mut Planner<'_, '_>, loaded: &LoadedStep, migrate: &mut Migrate) -> Result<()> {
    if migrate.chain == WhichChain::Kit {
        return Ok(());
    }
    let playbook = planner.request.playbook;
    let folder = playbook.file_of(loaded).path.parent().unwrap_or(Path::new("")).join(&migrate.migrations);
    let loaded_chain = Chain::load(&folder).map_err(|e| match e.details().position {
        Some(_) => e,
        None => e.at(playbook.position(loaded, "/migrate/migrations")),
    })?;
    for (path, text) in loaded_chain.files {
        planner.read.insert(path.display().to_string(), (ContentHash::of(text.as_bytes()), text));
    }
    migrate.links = Some(loaded_chain.chain);
    Ok(())
}

/// A file whose text took the place of its name in an action.
struct Inlined {
    /// Where the text stands in the action.
    pointer: String,
    file: String,
}

/// Puts the text of a `template:` file into the action.
fn inline(planner: &mut Planner<'_, '_>, loaded: &LoadedStep, action: &mut Action) -> Result<Option<Inlined>> {
    let (named, text, key, pointer) = match action {
        Action::File(file) => (&mut file.template, &mut file.content, "/file/template", "/file/content"),
        Action::Notify(notify) => match &mut notify.mail {
            Some(mail) => (&mut mail.template, &mut mail.text, "/notify/mail/template", "/notify/mail/text"),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let Some(name) = named.take() else { return Ok(None) };
    let playbook = planner.request.playbook;
    let at = |error: Error| error.at(playbook.position(loaded, key));
    if is_template(&name) {
        let next = "write its name out; the file's text may hold templates";
        return Err(at(Error::bad_input("the name of a template file cannot be a template").next(next)));
    }
    let path = playbook.file_of(loaded).path.parent().unwrap_or(Path::new("")).join(&name);
    let shown = path.display().to_string();
    if !planner.read.contains_key(&shown) {
        let read = std::fs::read_to_string(&path).cannot(|| format!("read the template {shown}"));
        let found = read.map_err(|e| at(e.next("a template is found relative to the file that names it")))?;
        planner.read.insert(shown.clone(), (ContentHash::of(found.as_bytes()), found));
    }
    *text = planner.read.get(&shown).map(|(_, text)| text.clone());
    Ok(Some(Inlined { pointer: pointer.to_owned(), file: shown }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_file_is_found_by_its_own_lines() {
        let at = position_at("mail.txt", "one\ntwo {{ x }}", 11);
        assert_eq!((at.line, at.column), (2, 8));
    }
}
