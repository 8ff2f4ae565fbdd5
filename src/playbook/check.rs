//! What can be checked about a playbook without an inventory and a kit; each mistake with its place.

use super::actions::check_action;
use super::load::{LoadedStep, RawStep};
use super::names::{GIVEN_NAMES, LATE_NAMES, RUN_NAME, each_string};
use super::source::SourceFile;
use super::step::{Each, Phase, Playbook, RunAs, Step, UndoSpec};
use crate::actions::Action;
use crate::actions::command::EnvValue;
use crate::error::Error;
use crate::nearest::nearest;
use crate::paths::PathPatterns;
use crate::template::{self, Fault};
use std::collections::{BTreeMap, BTreeSet};

/// The steps that can be used, and everything that is wrong.
pub(super) struct Checked {
    pub(super) steps: Vec<LoadedStep>,
    pub(super) errors: Vec<Error>,
}

/// Checks the steps of a playbook whose includes are in place; `errors` are those found so far.
pub(super) fn check(head: &Playbook, files: &[SourceFile], raw: Vec<RawStep>, errors: Vec<Error>) -> Checked {
    let mut checker = Checker { files, errors, registered: BTreeSet::new(), to_come: BTreeMap::new() };
    checker.vars(head);
    for step in &raw {
        if let Some(name) = &step.step.register {
            *checker.to_come.entry(name.clone()).or_insert(0) += 1;
        }
    }
    if raw.is_empty() && checker.errors.is_empty() {
        let error = Error::bad_input(format!("the playbook `{}` has no steps", head.playbook)).at(files[0].position(""));
        checker.errors.push(error.next("give it steps under `stage`, `apply`, `prove` or `close`"));
    }
    let steps = raw.into_iter().filter_map(|step| checker.step(head, step)).collect();
    Checked { steps, errors: checker.errors }
}

/// Where in which file a step stands.
pub(super) struct Spot<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) pointer: &'a str,
}

impl Spot<'_> {
    /// An error at a value of the step.
    pub(super) fn error(&self, below: &str, message: impl Into<String>, next: impl Into<String>) -> Error {
        Error::bad_input(message).at(self.file.position(&format!("{}{below}", self.pointer))).next(next)
    }

    fn fault(&self, below: &str, text: &str, fault: Fault) -> Error {
        let at = self.file.position_in(&format!("{}{below}", self.pointer), text, fault.offset);
        Error::bad_input(fault.message).at(at).next(fault.next)
    }
}

struct Checker<'a> {
    files: &'a [SourceFile],
    errors: Vec<Error>,
    /// Names that the steps so far have registered.
    registered: BTreeSet<String>,
    /// Names that steps register, and how many are still to come.
    to_come: BTreeMap<String, usize>,
}

impl Checker<'_> {
    fn vars(&mut self, head: &Playbook) {
        for name in head.vars.keys() {
            if GIVEN_NAMES.contains(&name.as_str()) || LATE_NAMES.contains(&name.as_str()) {
                let at = self.files[0].position(&format!("/vars/{}", crate::yaml::pointer_part(name)));
                let error = Error::bad_input(format!("the variable `{name}` has the name of something that is always there"));
                self.errors.push(error.at(at).next("give the variable another name"));
            }
        }
    }

    fn step(&mut self, head: &Playbook, raw: RawStep) -> Option<LoadedStep> {
        let files = self.files;
        let spot = Spot { file: &files[raw.file], pointer: &raw.pointer };
        let action = match single_action(&raw.step, &spot) {
            Ok(action) => action,
            Err(error) => {
                self.errors.push(error);
                return None;
            }
        };
        let step = &raw.step;
        check_action(&action, "", &spot, &mut self.errors);
        self.each(step, &spot);
        self.templates(step, &action, &spot);
        self.register(head, step, &spot);
        self.errors.extend(misplaced(raw.phase, step, &action, &spot));
        self.errors.extend(undo_problem(raw.phase, step, &action, &spot));
        if let Some(UndoSpec::Command(command)) = &step.undo {
            check_action(&Action::Command((**command).clone()), "/undo", &spot, &mut self.errors);
            if command.stdin_secret.is_some() || command.env.values().any(|v| matches!(v, EnvValue::Secret(_))) {
                let next = "secrets are in the worker's memory only, and gone after a restart: undo must work without them";
                self.errors.push(spot.error("/undo", "an undo cannot use a secret", next));
            }
        }
        Some(LoadedStep { phase: raw.phase, step: raw.step, action, file: raw.file, pointer: raw.pointer })
    }

    fn each(&mut self, step: &Step, spot: &Spot<'_>) {
        match &step.each {
            Some(Each { files: Some(_), list: Some(_) }) => {
                let next = "write `files: place\\pattern` or `list: [...]`, or make two steps of it";
                self.errors.push(spot.error("/each", "`each` has both `files` and `list`", next));
            }
            Some(Each { files: None, list: None }) => {
                let next = "write `files: place\\pattern` or `list: [...]`";
                self.errors.push(spot.error("/each", "`each` has neither `files` nor `list`", next));
            }
            Some(Each { files: Some(pattern), .. }) if !template::is_template(pattern) => {
                let below = pattern.split_once(['\\', '/']).map_or("", |(_, below)| below);
                if below.is_empty() {
                    let next = "write a place and a pattern below it, for example `server\\**\\requirements-frozen.txt`";
                    self.errors.push(spot.error("/each/files", format!("`{pattern}` has no pattern"), next));
                } else if let Err(error) = PathPatterns::new(&[below]) {
                    self.errors.push(error.at(spot.file.position(&format!("{}/each/files", spot.pointer))));
                }
            }
            _ => {}
        }
    }

    fn register(&mut self, head: &Playbook, step: &Step, spot: &Spot<'_>) {
        let Some(name) = &step.register else { return };
        if let Some(left) = self.to_come.get_mut(name) {
            *left -= 1;
        }
        let plain =
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || !plain {
            let next = "use letters, digits and `_`, so that templates can use it";
            self.errors.push(spot.error("/register", format!("`{name}` cannot be the name of a result"), next));
        } else if GIVEN_NAMES.contains(&name.as_str()) || LATE_NAMES.contains(&name.as_str()) || head.vars.contains_key(name) {
            let next = format!("choose another name, for example `{name}_found`");
            self.errors.push(spot.error("/register", format!("`register: {name}` would hide the name `{name}`"), next));
        } else {
            self.registered.insert(name.clone());
        }
    }

    /// Reads every template of the step, and looks at the names that only the instrument has.
    fn templates(&mut self, step: &Step, action: &Action, spot: &Spot<'_>) {
        let mut texts = Vec::new();
        for (below, value) in step_values(step, action) {
            each_string(&value, &below, &mut |pointer, text| texts.push((pointer.to_owned(), text.to_owned())));
        }
        for (pointer, text) in texts {
            let names = match template::try_names(&text, false) {
                Ok(names) => names,
                Err(fault) => {
                    self.errors.push(spot.fault(&pointer, &text, fault));
                    continue;
                }
            };
            let fixed = pointer.split('/').nth(1).is_some_and(|first| PLAN_TIME.contains(&first));
            for name in names {
                self.name(step, &name, &pointer, &text, fixed, spot);
            }
        }
        if let Some(when) = &step.when {
            self.when(step, when, spot);
        }
    }

    fn when(&mut self, step: &Step, when: &str, spot: &Spot<'_>) {
        if template::is_template(when) {
            let next = "write the expression alone, as in `when: \"'hybrid' in groups\"`";
            self.errors.push(spot.error("/when", "`when` is an expression already: it takes no {{ }}", next));
            return;
        }
        match template::try_expression_names(when, false) {
            Err(fault) => self.errors.push(spot.fault("/when", when, fault)),
            Ok(names) if names.contains("item") => {
                let next = "`when` decides about the whole step, before its items are known: choose the items in `each`";
                self.errors.push(spot.error("/when", "`when` cannot use `item`", next));
            }
            Ok(names) => names.iter().for_each(|name| self.name(step, name, "/when", when, false, spot)),
        }
    }

    /// One use of a name; `fixed` where only names known when planning will do.
    fn name(&mut self, step: &Step, name: &str, pointer: &str, text: &str, fixed: bool, spot: &Spot<'_>) {
        let is_late = LATE_NAMES.contains(&name) || name == RUN_NAME || self.registered.contains(name);
        let to_come = self.to_come.get(name).is_some_and(|left| *left > 0);
        let offset = text.find(name).unwrap_or(0);
        let mut wrong = |message: String, next: &str| {
            let fault = Fault { message, offset, next: next.to_owned() };
            self.errors.push(spot.fault(pointer, text, fault));
        };
        if fixed && is_late {
            let place = pointer.split('/').nth(1).unwrap_or("");
            wrong(
                format!("`{name}` is known only at the instrument, and `{place}` is filled in when the plan is made"),
                "use names that the inventory or the playbook's `vars:` give",
            );
        } else if name == "item" && step.each.is_none() {
            wrong("`item` stands in a step without `each`".to_owned(), "give the step an `each:`, or write out what is meant");
        } else if !is_late && to_come {
            wrong(
                format!("`{name}` is used before the step that registers it"),
                "move the step with this `register:` in front of this one",
            );
        }
    }
}

/// Keys of a step that are filled in when the plan is made, whatever they hold.
const PLAN_TIME: [&str; 3] = ["name", "each", "writes"];

/// Everything of a step that may hold templates, with its pointer.
pub(crate) fn step_values(step: &Step, action: &Action) -> Vec<(String, serde_json::Value)> {
    let value = |v: serde_json::Result<serde_json::Value>| v.unwrap_or(serde_json::Value::Null);
    vec![
        ("/name".to_owned(), value(serde_json::to_value(&step.name))),
        ("/each".to_owned(), value(serde_json::to_value(&step.each))),
        ("/undo".to_owned(), value(serde_json::to_value(&step.undo))),
        ("/writes".to_owned(), value(serde_json::to_value(&step.writes))),
        (String::new(), value(serde_json::to_value(action))),
    ]
}

/// The step's one action.
fn single_action(step: &Step, spot: &Spot<'_>) -> Result<Action, Error> {
    let mut actions = step.actions();
    let place = |a: &Action| {
        let position = spot.file.position(&format!("{}/{}", spot.pointer, a.name()));
        (position.line, position.column)
    };
    actions.sort_by_key(place);
    let names: Vec<String> = actions.iter().map(|a| format!("`{}`", a.name())).collect();
    match actions.len() {
        1 => Ok(actions.swap_remove(0)),
        0 => Err(spot.error(
            "",
            "this step has no action",
            "give it one of: ask, backup, check, clone, command, copy, file, git, hotfix, link, \
             migrate, mysql, notify, os_patch, package, process, reboot, remind, remove, restore, retention, service, snapshot, sync, task, vhd; or `include`",
        )),
        n => {
            let second = format!("/{}", actions[1].name());
            let how_many = if n == 2 { "two actions".to_owned() } else { format!("{n} actions") };
            let message = format!("this step has {how_many}: {}", names.join(" and "));
            Err(spot.error(&second, message, "make a step of each, in the order in which they should happen"))
        }
    }
}

/// Actions and keys that have no meaning in this phase or at this action.
fn misplaced(phase: Phase, step: &Step, action: &Action, spot: &Spot<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = action.name();
    let below = format!("/{name}");
    let mutates = matches!(
        name,
        "clone"
            | "git"
            | "hotfix"
            | "link"
            | "migrate"
            | "mysql"
            | "os_patch"
            | "package"
            | "reboot"
            | "remove"
            | "restore"
            | "service"
            | "sync"
            | "task"
            | "vhd"
    );
    if name == "notify" && !matches!(phase, Phase::Stage | Phase::Close) {
        let next =
            "move the step to `close`, where the release can no longer be undone, or to `stage`, before anything is changed";
        errors.push(spot.error(&below, "`notify` cannot be taken back, so it stands in `stage` or `close` only", next));
    } else if phase == Phase::Stage && mutates {
        let message = format!("`{name}` changes the instrument, and in `stage` nothing is undone");
        errors.push(spot.error(&below, message, "move the step to `apply`: its content is fetched during `stage` anyway"));
    }
    if matches!(action, Action::Notify(notify) if notify.if_failed) && phase != Phase::Close {
        let next = "move the step to `close`: it is kept for the end of a run, and left out of one that ends well";
        errors.push(spot.error("/notify/if_failed", "`if_failed` stands in `close` only", next));
    }
    if name == "retention" && matches!(phase, Phase::Apply | Phase::Prove) {
        let next = "move the step to `close`, or to `stage` when a backup needs the room";
        errors.push(spot.error(&below, "`retention` copies for long, and IBEX would be stopped meanwhile", next));
    }
    if matches!(action, Action::Git(git) if git.push) && phase != Phase::Close {
        let next = "make a step of its own in `close`, where the release can no longer be undone";
        errors.push(spot.error("/git/push", "what is pushed cannot be taken back, so `push` stands in `close` only", next));
    }
    let external = matches!(action, Action::Command(_) | Action::Migrate(_));
    let by_programs = external || matches!(action, Action::Check(_) | Action::Clone(_) | Action::Git(_) | Action::Snapshot(_));
    if step.run_as == Some(RunAs::Instrument) && !by_programs {
        let message = format!("`{name}` cannot run `as: instrument`");
        errors.push(spot.error("/as", message, "leave `as` out: the agent does this itself, and keeps the files' owner"));
    }
    if !step.writes.is_empty() && !external {
        let next = "leave it out: the other actions know by themselves what they write";
        errors.push(spot.error("/writes", format!("`writes` belongs to `command`, not to `{name}`"), next));
    }
    if matches!(action, Action::Command(command) if command.read_only) && !step.writes.is_empty() {
        let next = "leave one of the two out";
        errors.push(spot.error("/writes", "the command is `read_only`, and `writes` somewhere", next));
    }
    errors
}

/// A step that cannot be taken back, in a phase where it may have to be.
fn undo_problem(phase: Phase, step: &Step, action: &Action, spot: &Spot<'_>) -> Option<Error> {
    if !matches!(phase, Phase::Apply | Phase::Prove) || step.undo.is_some() {
        return None;
    }
    let name = action.name();
    let message = match action {
        Action::Command(c) if !c.read_only && step.writes.is_empty() => "it is not known how to undo this command".to_owned(),
        Action::Reboot(_) => "a `reboot` cannot be undone".to_owned(),
        Action::OsPatch(_) => "updates of the operating system cannot be undone".to_owned(),
        Action::Notify(_) | Action::Command(_) => return None,
        _ if action.performer().cannot_undo() => format!("`{name}` cannot be undone"),
        _ => return None,
    };
    let next = if matches!(action, Action::Command(_)) {
        "say what it writes (`writes: [place]`), how to take it back (`undo: {command: {...}}`), that it changes nothing \
         (`read_only: true`), or, knowing it, `undo: none`"
    } else {
        "write `undo: none` to say that this is known, or an inverse (`undo: {command: {...}}`)"
    };
    Some(spot.error(&format!("/{name}"), format!("{message}, and `{phase}` may have to be undone"), next))
}

/// The nearest of the known names, as advice.
pub(super) fn advice(wrong: &str, known: &[String]) -> String {
    match nearest(wrong, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it can be one of: {}", known.join(", ")),
    }
}
