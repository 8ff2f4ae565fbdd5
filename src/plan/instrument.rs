//! The plan of one instrument.

use super::make::{PlanRequest, ReadFiles};
use super::model::{ComponentPlan, InstrumentPlan, PLAN_FORMAT, PlanStep};
use super::step::plan_step;
use crate::actions::Action;
use crate::actions::check::Check;
use crate::actions::git::expect_ref_name;
use crate::actions::mysql::Mysql;
use crate::error::{Error, Result};
use crate::inventory::{Instrument, KitTransfer, secrets};
use crate::kit::{Component, Kit, VERSION_FILE, version_of_tree};
use crate::nearest::nearest;
use crate::paths::{RelPath, WinPath};
use crate::playbook::{GIVEN_NAMES, LATE_NAMES, LoadedStep, RUN_NAME};
use crate::template::{self, Context};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What the steps of one instrument are planned with, and what they have been found to need so far.
pub(super) struct Planner<'a, 'r> {
    pub(super) request: &'a PlanRequest<'a>,
    pub(super) instrument: &'a Instrument,
    pub(super) context: Context,
    pub(super) read: &'r mut ReadFiles,
    /// Names only the instrument will have, as far as the steps have come.
    pub(super) late: BTreeSet<String>,
    pub(super) secrets: BTreeSet<String>,
    components: BTreeMap<String, ComponentPlan>,
    /// The targets of `sync` steps so far: where, and which component.
    targets: Vec<(WinPath, String)>,
    /// Those of them that become equal to a tree of the kit, `VERSION.txt` included, and that tree.
    trees: Vec<(WinPath, PathBuf)>,
}

pub(super) fn plan_instrument<'a>(
    request: &'a PlanRequest<'a>,
    instrument: &'a Instrument,
    read: &mut ReadFiles,
) -> Result<InstrumentPlan> {
    let context = context(request, instrument)?;
    let mut planner = Planner {
        request,
        instrument,
        context,
        read,
        late: BTreeSet::from(["facts", "hotfix", RUN_NAME].map(str::to_owned)),
        secrets: BTreeSet::new(),
        components: BTreeMap::new(),
        targets: Vec::new(),
        trees: Vec::new(),
    };
    let mut steps: Vec<PlanStep> = Vec::with_capacity(request.playbook.steps.len());
    let mut numbers = BTreeMap::new();
    let mut errors = Vec::new();
    for loaded in &request.playbook.steps {
        let number = numbers.entry(loaded.phase).or_insert(0_u32);
        *number += 1;
        let id = format!("{}.{number:02}.{}", loaded.phase, loaded.action.name());
        match plan_step(&mut planner, loaded, id) {
            Ok(step) => steps.push(step),
            Err(error) => {
                // Steps that use its result are not wrong as well.
                planner.late.extend(loaded.step.register.clone());
                errors.push(error.on_host(&instrument.name));
            }
        }
    }
    if let Some(error) = Error::of_all(errors) {
        return Err(error);
    }
    let pull = match &instrument.kits {
        // What is in no kit comes from the controller, and the share may be away.
        KitTransfer::Pull(pull) if !planner.components.is_empty() => Some(pull.clone()),
        KitTransfer::Push | KitTransfer::Pull(_) => None,
    };
    if let Some(secret) = pull.as_ref().and_then(|pull| pull.password.clone()) {
        planner.secrets.insert(secret);
    }
    Ok(InstrumentPlan {
        format: PLAN_FORMAT,
        run: request.run.clone(),
        instrument: instrument.name.clone(),
        host: instrument.host.clone(),
        playbook: request.playbook.name.clone(),
        operator: request.operator.clone(),
        kit: request.kit.map(|k| k.version.clone()),
        rehearsal: is_rehearsal(request, instrument),
        places: instrument.places.clone(),
        accounts: instrument.accounts.clone(),
        vars: planner.context,
        components: planner.components,
        pull,
        secrets: planner.secrets.into_iter().collect(),
        hold: request.hold.clone(),
        only_if_differs: request.playbook.only_if_differs,
        hotfixes: request.hotfixes.clone(),
        steps,
    })
}

/// A machine that only stands for an instrument rehearses, whatever the command says.
fn is_rehearsal(request: &PlanRequest<'_>, instrument: &Instrument) -> bool {
    request.rehearsal || instrument.transport.is_sandbox()
}

/// The names that templates can use when the plan is made, with their values on this instrument.
fn context(request: &PlanRequest<'_>, instrument: &Instrument) -> Result<Context> {
    let mut context = given(request, instrument);
    let reserved = |name: &&String| GIVEN_NAMES.contains(&name.as_str()) || LATE_NAMES.contains(&name.as_str());
    // An instrument whose PVs are named otherwise than its host may say so.
    if let Some(name) = instrument.vars.keys().filter(|n| *n != "inst").chain(request.set.keys()).find(reserved) {
        return Err(Error::bad_input(format!("the variable `{name}` has the name of something that is always there"))
            .next("give the variable another name in the inventory or with --set"));
    }
    let mut own = instrument.vars.clone();
    own.extend(request.set.clone());
    context.extend(own.clone());
    let playbook = request.playbook;
    let without_run: Context =
        context.iter().filter(|(name, _)| *name != RUN_NAME).map(|(n, v)| (n.clone(), v.clone())).collect();
    for (name, value) in playbook.vars.iter().filter(|(name, _)| !own.contains_key(*name)) {
        let file = &playbook.files[0];
        let locate = |pointer: &str, text: &str, offset| file.position_in(pointer, text, offset);
        let renderer = super::render::Renderer { context: &without_run, late: &BTreeSet::new(), locate: &locate };
        let pointer = format!("/vars/{}", crate::yaml::pointer_part(name));
        context.insert(name.clone(), renderer.value(value, &pointer, &mut Vec::new())?);
    }
    Ok(context)
}

fn given(request: &PlanRequest<'_>, instrument: &Instrument) -> Context {
    let places: BTreeMap<&String, &str> = instrument.places.iter().map(|(name, path)| (name, path.as_str())).collect();
    let mut given = BTreeMap::from([
        ("name".to_owned(), json!(instrument.name)),
        ("inst".to_owned(), json!(instrument.inst())),
        ("host".to_owned(), json!(instrument.host)),
        ("groups".to_owned(), json!(instrument.groups)),
        ("places".to_owned(), json!(places)),
        ("rehearsal".to_owned(), json!(is_rehearsal(request, instrument))),
        (RUN_NAME.to_owned(), json!(request.run)),
    ]);
    if let Some(Kit { version, components, .. }) = request.kit {
        let names: Vec<&String> = components.keys().collect();
        let versions: BTreeMap<&String, &String> = components.iter().map(|(n, c)| (n, &c.manifest.version)).collect();
        given.insert("kit".to_owned(), json!({"version": version, "components": names, "versions": versions}));
    }
    given
}

impl<'a> Planner<'a, '_> {
    /// Looks at what a step that will run refers to; `kept` are the pointers of strings that are still templates.
    pub(super) fn refer(&mut self, loaded: &LoadedStep, action: &Action, kept: &[String]) -> Result<()> {
        let at = |error: Error, pointer: &str| error.at(self.request.playbook.position(loaded, pointer));
        for (pointer, place) in super::arguments::places(action) {
            if !kept.contains(&pointer) {
                place.resolve(&self.instrument.places).map_err(|e| at(e, &pointer))?;
            }
        }
        for (pointer, secret) in super::arguments::secrets(action) {
            if !self.instrument.secrets.contains_key(secret) {
                return Err(at(secrets::unknown(secret, self.instrument.secrets.keys()), &pointer));
            }
            self.secrets.insert(secret.to_owned());
        }
        match action {
            Action::Sync(sync) if kept.is_empty() => self.sync(loaded, sync),
            Action::Sync(_) => {
                let next = "components and targets of `sync` must be known when the plan is made";
                Err(at(Error::bad_input("`sync` cannot use names that only the instrument knows").next(next), &kept[0]))
            }
            Action::Git(git) => {
                for (pointer, what, name) in git.names().filter(|(pointer, ..)| !kept.iter().any(|k| k == pointer)) {
                    expect_ref_name(what, name).map_err(|e| at(e, pointer))?;
                }
                Ok(())
            }
            Action::Check(check) if kept.is_empty() => self.proof(loaded, check),
            Action::Mysql(mysql) if kept.is_empty() => self.mysql(loaded, mysql),
            Action::Mysql(_) => {
                let next = "component, zip and folders of `mysql` must be known when the plan is made";
                Err(at(Error::bad_input("`mysql` cannot use names that only the instrument knows").next(next), &kept[0]))
            }
            _ => Ok(()),
        }
    }

    /// The component that a step takes its files from.
    fn component(&self, loaded: &LoadedStep, action: &str, name: &str) -> Result<&'a Component> {
        let request = self.request;
        let at = |error: Error| error.at(request.playbook.position(loaded, &format!("/{action}/component")));
        let Some(kit) = request.kit else {
            let next = "name the folder of releases with --kits DIR, and a release with --kit VERSION if it is not the newest";
            return Err(at(Error::bad_input(format!("`{action}` needs a kit, and the run has none")).next(next)));
        };
        kit.components.get(name).ok_or_else(|| {
            let known: Vec<&str> = kit.components.keys().map(String::as_str).collect();
            let next = nearest(name, known.iter().copied())
                .map_or_else(|| format!("its components are: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
            at(Error::bad_input(format!("the kit {} has no component `{name}`", kit.version)).next(next))
        })
    }

    /// Adds a folder that a step replaces.
    fn target(&mut self, loaded: &LoadedStep, pointer: &str, target: WinPath, whose: &str) -> Result<()> {
        if let Some((other, theirs)) = self.targets.iter().find(|(o, _)| o.is_within(&target) || target.is_within(o)) {
            let message = format!("the target {target} overlaps with {other}, the target of `{theirs}`");
            let next = "give each step a folder of its own; neither may lie inside the other";
            return Err(Error::bad_input(message).at(self.request.playbook.position(loaded, pointer)).next(next));
        }
        self.targets.push((target, whose.to_owned()));
        Ok(())
    }

    fn needs(&mut self, name: &str, component: &Component) {
        let plan = ComponentPlan {
            version: component.manifest.version.clone(),
            release: component.release.clone(),
            manifest: component.manifest_hash,
            files: component.manifest.files.len() as u64,
            bytes: component.bytes,
        };
        self.components.insert(name.to_owned(), plan);
    }

    fn mysql(&mut self, loaded: &LoadedStep, mysql: &Mysql) -> Result<()> {
        let component = self.component(loaded, "mysql", &mysql.component)?;
        for (key, place) in [("/mysql/to", &mysql.to), ("/mysql/data", &mysql.data)] {
            self.target(loaded, key, place.resolve(&self.instrument.places)?, &mysql.component)?;
        }
        self.needs(&mysql.component, component);
        Ok(())
    }

    /// A version that the kit's own file does not have could never be proven: better known now than after the outage.
    fn proof(&self, loaded: &LoadedStep, check: &Check) -> Result<()> {
        // What is proven under a condition may be another release's.
        let Some(version) = check.version.as_ref().filter(|_| loaded.step.when.is_none()) else { return Ok(()) };
        let at = version.at.resolve(&self.instrument.places)?;
        let Some((_, tree)) = self.trees.iter().find(|(target, _)| *target == at) else { return Ok(()) };
        let name = || loaded.step.name.clone().unwrap_or_else(|| loaded.action.performer().describe());
        let found = version_of_tree(tree).map_err(|e| e.because(format!("the playbook proves it: {}", name())))?;
        if found == version.is {
            return Ok(());
        }
        let message = format!("{} says {found}, and the step wants {}", tree.join(VERSION_FILE).display(), version.is);
        let next = "correct the file, or write `{{ kit.versions.COMPONENT }}`, which is what it says";
        Err(Error::bad_input(message).at(self.request.playbook.position(loaded, "/check/version/is")).next(next))
    }

    fn sync(&mut self, loaded: &LoadedStep, sync: &crate::actions::sync::Sync) -> Result<()> {
        let at = |error: Error, pointer: &str| error.at(self.request.playbook.position(loaded, pointer));
        let component = self.component(loaded, "sync", &sync.component)?;
        if let Some(from) = &sync.from {
            let inside = format!("{}/", from.replace('\\', "/").trim_end_matches('/'));
            if !component.manifest.files.iter().any(|f| f.path.as_str().starts_with(&inside)) {
                let message = format!("the component `{}` of {} has no folder `{from}`", sync.component, component.release);
                let next = "a folder inside the component, in the same case, or no `from` for all of it";
                return Err(at(Error::bad_input(message).next(next), "/sync/from"));
            }
        }
        let to = sync.to.resolve(&self.instrument.places)?;
        if sync.brings(VERSION_FILE)? {
            let from = sync.from.as_deref().map(RelPath::parse).transpose()?;
            let tree = from.map_or_else(|| component.folder.clone(), |from| from.under(&component.folder));
            self.trees.push((to.clone(), tree));
        }
        self.target(loaded, "/sync/to", to, &sync.component)?;
        self.needs(&sync.component, component);
        Ok(())
    }
}

/// Names in `--set` that nothing in the playbook or the inventory knows.
///
/// # Errors
/// The first of them, with the nearest that is known.
pub(super) fn check_set(request: &PlanRequest<'_>) -> Result<()> {
    let mut known: BTreeSet<String> = request.playbook.vars.keys().cloned().collect();
    known.extend(request.instruments.iter().flat_map(|i| i.vars.keys().cloned()));
    for loaded in &request.playbook.steps {
        for (pointer, value) in crate::playbook::step_values(&loaded.step, &loaded.action) {
            crate::playbook::each_string(&value, &pointer, &mut |_, text| {
                known.extend(template::names(text).unwrap_or_default())
            });
        }
        known.extend(loaded.step.when.iter().flat_map(|w| template::expression_names(w).unwrap_or_default()));
    }
    match request.set.keys().find(|name| !known.contains(*name)) {
        None => Ok(()),
        Some(name) => {
            let next = match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`ibexdeploy playbook show` lists the variables of a playbook".to_owned(),
            };
            Err(Error::usage(format!("`--set {name}=...`: nothing uses a variable `{name}`")).next(next))
        }
    }
}

/// Tags that no step has: with a mistyped one all would be left out, or nothing.
///
/// # Errors
/// The first of them, with the nearest that there is.
pub(super) fn check_tags(request: &PlanRequest<'_>) -> Result<()> {
    let known: BTreeSet<&str> = request.playbook.steps.iter().flat_map(|s| &s.step.tags).map(String::as_str).collect();
    let Some(tag) = request.tags.iter().chain(&request.skip_tags).find(|tag| !known.contains(tag.as_str())) else {
        return Ok(());
    };
    let next = match nearest(tag, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "the playbook has no tags".to_owned(),
        None => format!("the tags are: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::usage(format!("no step of the playbook `{}` has the tag `{tag}`", request.playbook.name)).next(next))
}

/// The value of a variable, as `--set` gives it: JSON when it is JSON, text otherwise.
pub fn set_value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
