//! `ibexdeploy agent play`: what a task of the instrument's scheduler starts.

use super::operate::{Led, lead, new_run};
use super::{GlobalOptions, Log};
use crate::actions::task::{STORED, StoredTask};
use crate::content::ContentHash;
use crate::engine::{Job, Limits};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::link::{Access, NoContent, Patience, Start, Submission};
use crate::plan::{PLAN_FORMAT, Plan, Target, TransportSpec};
use crate::protocol::{ControllerHello, PROTOCOL_VERSION};
use crate::secrets::Secrets;
use crate::transport::{Local, Ssh, Transports, Winrm};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Carry out the plan that a task keeps in the agent's home, on this machine
#[derive(Debug, clap::Args)]
pub(super) struct Play {
    /// The root folder of a sandbox; this machine itself unless given
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write what happens to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The task's plan
    #[arg(value_name = "FILE")]
    plan: PathBuf,
}

impl Play {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let mut out = self.out()?;
        let led = self.led(global).and_then(|led| lead(global, Led { out: out.another()?, ..led }));
        if let Err(error) = &led {
            // Whoever started the task sees the file only.
            out.say(&crate::report::error(error, crate::report::Screen::PLAIN));
        }
        led
    }

    fn out(&self) -> Result<Out> {
        let Some(path) = &self.report else { return Ok(Out(None)) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
        }
        File::create(path).cannot(|| format!("write {}", path.display())).map(|file| Out(Some(file)))
    }

    fn led(&self, global: &GlobalOptions) -> Result<Led> {
        let stored: StoredTask = files::read_json(&self.plan)?.ok_or_else(|| {
            Error::new(ErrorKind::Integrity, format!("{} is gone", self.plan.display()))
                .next("register the task again: `ibexdeploy run switching` at the controller")
        })?;
        let run = new_run();
        let mut plan = stored.plan;
        plan.run = run.clone();
        plan.vars.insert("run".to_owned(), run.as_str().into());
        plan.operator = format!("task@{}", plan.host);
        let transport = self.root.clone().map_or(TransportSpec::ThisMachine, |root| TransportSpec::Local { root });
        let target = Target { transport, plan };
        let access = access(&target.plan.operator)?;
        // Whoever starts the task has seen what it does: that is the answer to its questions.
        let submission = Submission { secrets: Vec::new(), answer_yes: true };
        Ok(Led {
            jobs: vec![Job { start: Start::Submit(submission), idle: None, target: target.clone() }],
            access,
            limits: Limits { jobs: 1, canary: Vec::new(), batch: None, max_fail: None },
            deadline: None,
            log: Log::start(global)?,
            secrets: Secrets::default(),
            state: self.state(),
            plan: Plan {
                format: PLAN_FORMAT,
                run,
                created: Timestamp::now(),
                operator: target.plan.operator.clone(),
                playbook: target.plan.playbook.clone(),
                sources: BTreeMap::new(),
                kit: None,
                rehearsal: target.plan.rehearsal,
                targets: vec![target],
            },
            resumed: None,
            out: None,
        })
    }

    /// The state folder of the machine as its own controller: beside the plans.
    fn state(&self) -> PathBuf {
        let tasks = self.plan.parent().filter(|p| p.file_name().is_some_and(|n| n == STORED));
        tasks.unwrap_or(Path::new(".")).join("state")
    }
}

/// Where the report goes.
struct Out(Option<File>);

impl Out {
    fn another(&self) -> Result<Option<crate::report::Out>> {
        let Some(file) = &self.0 else { return Ok(None) };
        let file = file.try_clone().cannot(|| "write the report")?;
        Ok(Some(Box::new(file)))
    }

    fn say(&mut self, text: &str) {
        if let Some(file) = &mut self.0 {
            // The exit code says it as well.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

fn access(operator: &str) -> Result<Access> {
    let program = std::env::current_exe().cannot(|| "find this executable")?;
    Ok(Access {
        transport: Arc::new(Transports { local: Local::default(), ssh: Ssh::default(), winrm: Winrm::default() }),
        hello: ControllerHello {
            protocol: PROTOCOL_VERSION,
            build: ContentHash::of_file(&program)?.to_string(),
            operator: operator.to_owned(),
        },
        content: Arc::new(NoContent),
        rate: None,
        patience: Patience::default(),
    })
}
