//! A playbook and options to a plan with all it needs, and from there to a run.

use super::fleet::new_run;
use super::lead::{Led, lead};
use super::secrets::RunSecrets;
use super::{Fleet, LOOK_FIRST, confirm, content, dry_run, rehearse};
use crate::actions::Action;
use crate::actions::hotfix::HotfixPolicy;
use crate::cli::{GlobalOptions, RunOptions, output};
use crate::engine::{Job, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::events::check_state_folder;
use crate::kit::hotfix::PatchStore;
use crate::kit::{ContentStore, Kit, KitStore};
use crate::link::{Start, Submission};
use crate::plan::{self, Hold, InstrumentPlan, Plan, PlanRequest, PlanStep, set_value};
use crate::playbook::{self, LoadedPlaybook, Phase};
use crate::rehearsal::mysql;
use crate::report::{Screen, what_will_happen};
use crate::units::Span;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long an instrument waits in hold when no deadline says otherwise.
const HOLD_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What a command wants to be done.
#[derive(Debug, Default)]
pub(in crate::cli) struct Wanted<'a> {
    pub(in crate::cli) playbook: &'a str,
    /// A release by name or folder.
    pub(in crate::cli) kit: Option<&'a str>,
    /// Only the phase `stage`.
    pub(in crate::cli) only_stage: bool,
    /// Each instrument applies when its first checks hold.
    pub(in crate::cli) when_idle: bool,
    /// Values that win over everything but the operator's own `--set`.
    pub(in crate::cli) set: BTreeMap<String, Value>,
    /// What a release does with installed hotfixes.
    pub(in crate::cli) hotfixes: HotfixPolicy,
    /// What is shown with the question before instruments are changed.
    pub(in crate::cli) preface: String,
}

/// A plan that can be run.
#[derive(Debug)]
pub(in crate::cli) struct Prepared {
    pub(in crate::cli) fleet: Fleet,
    pub(in crate::cli) plan: Plan,
    pub(in crate::cli) secrets: RunSecrets,
    content: Arc<ContentStore>,
    when_idle: bool,
    preface: String,
}

/// Makes the plan. Contacts no instrument.
///
/// # Errors
/// When anything in inventory, playbook, kit or options is not right.
pub(in crate::cli) fn prepare(
    global: &GlobalOptions,
    fleet: Fleet,
    options: &RunOptions,
    wanted: &Wanted<'_>,
) -> Result<Prepared> {
    let playbook = playbook::load(&global.playbooks, wanted.playbook)?;
    check_state_folder(&fleet.state)?;
    let cache = fleet.state.join("cache");
    let content = ContentStore::new(&cache)?;
    let kit = load_kit(&fleet, &playbook, wanted.kit, &cache)?;
    if let Some(kit) = &kit {
        content.add_kit(kit)?;
    }
    let mut set = wanted.set.clone();
    for text in &options.set {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Error::usage(format!("`--set {text}` has no `=`")).next("write --set NAME=VALUE"))?;
        set.insert(name.trim().to_owned(), set_value(value));
    }
    let patches = PatchStore::open(&fleet.state);
    let mut plan = plan::make(&PlanRequest {
        playbook: &playbook,
        instruments: fleet.instruments(),
        inventory: &fleet.inventory,
        kit: kit.as_ref(),
        run: new_run(),
        created: Timestamp::now(),
        operator: fleet.operator.clone(),
        rehearsal: fleet.rehearsal,
        hold: hold(options, wanted),
        tags: options.tags.clone(),
        skip_tags: options.skip_tags.clone(),
        hotfixes: wanted.hotfixes.clone(),
        patches: &patches,
        set,
    })?;
    if fleet.rehearsal {
        rehearse::skip_missing_servers(&mut plan)?;
    }
    let plans: Vec<&InstrumentPlan> = plan.targets.iter().map(|t| &t.plan).collect();
    if let Some(error) = content::add_hotfixes(&content, &patches, &plans).into_iter().next() {
        return Err(error);
    }
    let secrets = if options.dry_run { RunSecrets::default() } else { super::resolve(&fleet, &plan)? };
    let (when_idle, preface) = (wanted.when_idle, wanted.preface.clone());
    Ok(Prepared { fleet, plan, secrets, content: Arc::new(content), when_idle, preface })
}

fn hold(options: &RunOptions, wanted: &Wanted<'_>) -> Hold {
    if wanted.only_stage {
        Hold::AfterStage
    } else if options.canary.is_some() || options.batch.is_some() || options.deadline.is_some() || wanted.when_idle {
        Hold::UntilReleased { limit: options.deadline.unwrap_or(Span(HOLD_LIMIT)) }
    } else {
        Hold::No
    }
}

fn load_kit(fleet: &Fleet, playbook: &LoadedPlaybook, wanted: Option<&str>, cache: &std::path::Path) -> Result<Option<Kit>> {
    let mut components: Vec<String> = playbook.components().into_iter().collect();
    if components.is_empty() && wanted.is_none() {
        return Ok(None);
    }
    let folder = fleet.kits.clone().ok_or_else(|| {
        Error::usage(format!("the playbook {} needs a kit, and there is no folder of releases", playbook.name))
            .next("name it with --kits DIR or IBEXDEPLOY_KITS; `--rehearse` makes one")
    })?;
    let store = KitStore::open(&folder, cache);
    let release = store.choose(wanted)?;
    let optional = playbook.optional_components();
    for component in &optional {
        if store.has(&release, component)? {
            components.push(component.clone());
        }
    }
    let mut kit = store.load(&release, &components, &|_| {}).map_err(|e| located(e, playbook))?;
    if fleet.rehearsal
        && optional.contains(mysql::COMPONENT)
        && let Some(why) = rehearse::without_mysql(kit.components.get(mysql::COMPONENT), &fleet.instruments())
    {
        rehearse::tell(&format!("MySQL is left out: {why}"));
        kit.components.remove(mysql::COMPONENT);
    }
    Ok(Some(kit))
}

/// A component that no release has is a mistake of the step that names it.
fn located(error: Error, playbook: &LoadedPlaybook) -> Error {
    let named = |component: &str| {
        error.kind() == ErrorKind::BadInput && error.details().message.ends_with(&format!("component `{component}`"))
    };
    let step = playbook.steps.iter().find(|s| match &s.action {
        Action::Sync(sync) => named(&sync.component),
        Action::Mysql(mysql) => named(&mysql.component),
        _ => false,
    });
    match step {
        Some(step) if error.details().position.is_none() => {
            error.at(playbook.position(step, &format!("/{}/component", step.action.name())))
        }
        _ => error,
    }
}

impl Prepared {
    /// How the instruments are reached, with the content of this plan.
    ///
    /// # Errors
    /// When this executable cannot be read.
    pub(in crate::cli) fn access(&self, options: &RunOptions) -> Result<crate::link::Access> {
        self.fleet.access(Some(content::source(&self.content)), Some(options))
    }

    fn jobs(&self, yes: bool) -> Vec<Job> {
        let jobs = self.plan.targets.iter().map(|target| Job {
            start: Start::Submit(Submission { secrets: self.secrets.of(&target.plan.instrument), answer_yes: yes }),
            idle: self.when_idle.then(|| first_checks(&target.plan)),
            target: target.clone(),
        });
        jobs.collect()
    }
}

/// The checks that `apply` begins with: an instrument is idle when they hold.
fn first_checks(plan: &InstrumentPlan) -> InstrumentPlan {
    let apply = plan.steps.iter().filter(|s| s.phase == Phase::Apply && s.skip.is_none());
    let checks = apply.take_while(|s| s.action.name() == "check").cloned();
    // As gates they are really looked at; in `apply` a look says what might be brought about by then.
    let checks = checks.map(|s| PlanStep { phase: Phase::Stage, ..s }).collect();
    InstrumentPlan { steps: checks, secrets: Vec::new(), ..plan.clone() }
}

/// A release that lacks a component may be meant so, or half copied. Whoever is asked to confirm sees it there.
fn warn_of_older_parts(plan: &Plan) {
    let Some(kit) = &plan.kit else { return };
    for (component, release) in &kit.borrowed {
        let version = &kit.version;
        output::warn(&format!("{component} is not in {version}: it comes from {release}, also where a newer one is installed"));
    }
}

/// Asks the instruments what would change, or asks for confirmation and runs the plan.
///
/// # Errors
/// When it is not confirmed, or cannot be kept.
pub(in crate::cli) fn go(global: &GlobalOptions, prepared: Prepared, options: &RunOptions) -> Result<u8> {
    if options.dry_run || options.yes {
        warn_of_older_parts(&prepared.plan);
    }
    if options.dry_run {
        return dry_run::ask(global, &prepared, options);
    }
    let limits = limits(&prepared.fleet, options)?;
    let changes = prepared.plan.targets.iter().any(|t| t.plan.hold != Hold::AfterStage && beyond_stage(&t.plan));
    if changes {
        let view = plan::view(&prepared.plan)?;
        let shown = format!("{}{}", what_will_happen(&view, Screen::of_stderr()), prepared.preface);
        confirm(&shown, options.yes, LOOK_FIRST)?;
        plan::check_unchanged(&prepared.plan)?;
    }
    let summary = lead(
        global,
        Led {
            jobs: prepared.jobs(options.yes),
            access: prepared.access(options)?,
            limits,
            deadline: options.deadline.map(|span| span.0),
            log: prepared.fleet.log.clone(),
            secrets: prepared.secrets.all,
            state: prepared.fleet.state,
            plan: prepared.plan,
            resumed: None,
            out: None,
        },
    )?;
    Ok(summary)
}

fn beyond_stage(plan: &InstrumentPlan) -> bool {
    plan.steps.iter().any(|s| s.phase != Phase::Stage && s.skip.is_none())
}

/// The limits of a run.
///
/// # Errors
/// When `--canary` chooses nothing.
pub(in crate::cli) fn limits(fleet: &Fleet, options: &RunOptions) -> Result<Limits> {
    let canary = options.canary.as_deref().map_or(Ok(Vec::new()), |pattern| fleet.among(pattern))?;
    Ok(Limits { jobs: options.jobs, canary, batch: options.batch, max_fail: options.max_fail })
}
