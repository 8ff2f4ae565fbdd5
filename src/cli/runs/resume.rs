//! `ibexdeploy runs resume`.

use crate::cli::operate::{Fleet, Led, RunSecrets, ask, kept_plan_content, lead, limits, new_run, resolve, stored_plan_content};
use crate::cli::output::warn;
use crate::cli::{GlobalOptions, RunOptions, TargetOptions};
use crate::engine::Job;
use crate::error::{Error, Result};
use crate::events::{Outcome, RunFolder, RunState};
use crate::kit::hotfix::PatchStore;
use crate::link::{Link, Start, Submission, unexpected_reply};
use crate::plan::{self, InstrumentPlan, PLAN_FORMAT, Plan, Target};
use crate::protocol::{Query, QueryReply};
use clap::Args;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long an instrument may take to say what it works on.
const LIMIT: Duration = Duration::from_secs(60);

/// Go on with a run: follow what the instruments do, and start what was not started
#[derive(Debug, Args)]
pub(in crate::cli) struct Resume {
    /// The run, or the beginning of its name [default: the newest that is not finished]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Follow the newest run of these instruments instead, for a run that another controller began
    #[arg(long, value_name = "PATTERN", conflicts_with = "id")]
    of: Vec<String>,
    /// The archive of the hotfix that the run is about, for files that the instruments still lack
    #[arg(long, value_name = "PATCH.zip")]
    patch: Vec<PathBuf>,
    #[command(flatten)]
    run: RunOptions,
}

impl Resume {
    pub(in crate::cli) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let patches = PatchStore::open(&global.state_folder()?);
        for archive in &self.patch {
            // What it holds is kept by its hashes: that is what the run asks for, and nothing else is sent.
            patches.read(archive)?;
        }
        if self.of.is_empty() { self.own(global) } else { self.of_another(global) }
    }

    /// A run that this controller keeps.
    fn own(&self, global: &GlobalOptions) -> Result<u8> {
        let state = global.state_folder()?;
        let folder = match &self.id {
            None => newest_unfinished(&state)?.map_or_else(|| RunFolder::open_or_newest(&state, None), Ok)?,
            id => RunFolder::open_or_newest(&state, id.as_deref())?,
        };
        let plan = folder.plan()?;
        if let Err(changed) = plan::check_unchanged(&plan) {
            warn(&format!("{changed}; the run goes on by its own plan"));
        }
        let all = plan.targets.iter().map(|t| t.plan.instrument.clone()).collect();
        let fleet = Fleet::reopen(global, all, plan.rehearsal)?;
        let secrets = resolve(&fleet, &plan)?;
        let content = kept_plan_content(&fleet, &plan)?;
        content.lacking.iter().for_each(warn_of);
        let is_rollback = plan.targets.iter().all(|t| t.plan.steps.is_empty());
        let ended = ended(&RunState::of(&folder.read()?.events));
        let open = plan.targets.iter().filter(|t| !ended.contains(&t.plan.instrument));
        let jobs: Vec<Job> = open
            .map(|target| {
                let secrets = secrets.of(&target.plan.instrument);
                let submission = Submission { secrets, answer_yes: self.run.yes };
                // A rollback has no steps to hand over: it is asked for anew where it did not get to.
                let submit = (!is_rollback).then_some(submission);
                Job { start: Start::Follow { run: plan.run.0.clone(), submit }, idle: None, target: target.clone() }
            })
            .collect();
        if jobs.is_empty() {
            return Err(Error::usage(format!("the run {} is finished on all its instruments", plan.run))
                .next("`ibexdeploy runs report` shows how"));
        }
        let led = Led {
            out: None,
            access: fleet.access(Some(content.source), Some(&self.run))?,
            limits: limits(&fleet, &self.run)?,
            deadline: self.run.deadline.map(|span| span.0),
            log: fleet.log.clone(),
            secrets: secrets.all,
            state: fleet.state,
            resumed: Some(folder),
            plan,
            jobs,
        };
        lead(global, led)
    }

    /// The newest run of each instrument, known only there.
    fn of_another(&self, global: &GlobalOptions) -> Result<u8> {
        let targets = TargetOptions { patterns: self.of.clone(), ..TargetOptions::default() };
        let fleet = Fleet::choose(global, &targets)?;
        let run = new_run();
        let open = self.unfinished(&fleet, fleet.bare_targets(&run, "resume"))?;
        let plans: Vec<&InstrumentPlan> = open.iter().filter(|open| open.plan_known).map(|open| &open.target.plan).collect();
        let content = stored_plan_content(&fleet, &plans)?;
        content.lacking.iter().for_each(warn_of);
        let plan = Plan {
            format: PLAN_FORMAT,
            run,
            created: Timestamp::now(),
            operator: fleet.operator.clone(),
            playbook: "resume".to_owned(),
            sources: BTreeMap::new(),
            kit: None,
            rehearsal: fleet.rehearsal,
            targets: open.iter().map(|open| open.target.clone()).collect(),
        };
        let secrets = match resolve(&fleet, &plan) {
            Ok(secrets) => secrets,
            // Whoever only looks on need not have them: the worker has, unless it is a new one.
            Err(error) => {
                warn_of(&error.context("the run's secrets are not handed over again: a step that lacks them waits"));
                RunSecrets::of_logons(&fleet)?
            }
        };
        let jobs = open.into_iter().map(|open| open.job(&secrets, self.run.yes)).collect();
        let led = Led {
            out: None,
            access: fleet.access(Some(content.source), Some(&self.run))?,
            limits: limits(&fleet, &self.run)?,
            deadline: self.run.deadline.map(|span| span.0),
            log: fleet.log.clone(),
            secrets: secrets.all,
            state: fleet.state,
            resumed: None,
            plan,
            jobs,
        };
        lead(global, led)
    }

    /// Where a run is open. An instrument that does not answer now is tried again by whoever follows it, and a run whose
    /// plan cannot be read does not go on.
    fn unfinished(&self, fleet: &Fleet, targets: Vec<Target>) -> Result<Vec<Open>> {
        let talk = |_: Target, link: Link| Box::pin(plan_in_hand(link)) as _;
        let answers = ask(fleet, &targets, self.run.jobs, LIMIT, Arc::new(talk))?;
        let mut open = Vec::new();
        for (target, answer) in targets.into_iter().zip(answers) {
            let plan = match answer {
                Ok(InHand::Nothing) => continue,
                Ok(InHand::Damaged) => None,
                Ok(InHand::Plan(plan)) => Some(plan),
                Err(error) => {
                    warn(&format!("what its run wants of this machine is not known: {error}"));
                    None
                }
            };
            let plan_known = plan.is_some();
            open.push(Open { target: Target { plan: plan.map_or(target.plan, |plan| *plan), ..target }, plan_known });
        }
        if open.is_empty() {
            return Err(Error::usage(format!("no run is unfinished on {}", self.of.join(" and ")))
                .next("`ibexdeploy status` shows the last run of each instrument"));
        }
        Ok(open)
    }
}

/// An instrument with a run that another controller began.
struct Open {
    /// With the plan that the instrument keeps, if that is known.
    target: Target,
    plan_known: bool,
}

impl Open {
    /// Follows it. Secrets are kept nowhere at the instrument: those that its plan names are handed over again.
    fn job(self, secrets: &RunSecrets, answer_yes: bool) -> Job {
        let Self { target, plan_known } = self;
        let secrets = secrets.of(&target.plan.instrument);
        let start = if plan_known {
            Start::Follow { run: target.plan.run.0.clone(), submit: Some(Submission { secrets, answer_yes }) }
        } else {
            Start::Follow { run: String::new(), submit: None }
        };
        Job { start, idle: None, target }
    }
}

/// The newest run of this controller that did not come to its end, whatever was done since.
fn newest_unfinished(state: &Path) -> Result<Option<RunFolder>> {
    // One that cannot be read says so when it is named.
    let open = |folder: &RunFolder| folder.read().is_ok_and(|log| RunState::of(&log.events).finished.is_none());
    Ok(RunFolder::list(state)?.into_iter().find(open))
}

/// What an instrument is at.
enum InHand {
    Nothing,
    /// A run of which not all can be read.
    Damaged,
    Plan(Box<InstrumentPlan>),
}

async fn plan_in_hand(mut link: Link) -> Result<InHand> {
    let QueryReply::Runs(runs) = link.query(Query::Runs).await? else { return Err(unexpected_reply()) };
    let plan = match runs.into_iter().find(|run| run.outcome.is_none()) {
        None => InHand::Nothing,
        Some(run) if run.damage.is_some() => InHand::Damaged,
        Some(run) => match link.query(Query::StoredPlan { run: run.run.0 }).await? {
            QueryReply::StoredPlan(plan) => InHand::Plan(plan),
            _ => return Err(unexpected_reply()),
        },
    };
    link.goodbye().await;
    Ok(plan)
}

/// The instruments that need nothing more. Those that were not reached or not started do.
fn ended(state: &RunState) -> BTreeSet<String> {
    let open = |outcome: Outcome| matches!(outcome, Outcome::Unreachable | Outcome::Cancelled);
    let ended = state.instruments.iter().filter(|i| i.outcome.is_some_and(|outcome| !open(outcome)));
    ended.map(|i| i.name.clone()).collect()
}

/// Content that cannot be sent, with what to do about it.
fn warn_of(error: &Error) {
    warn(&error.with_advice());
}
