//! What people read, over made-up runs.

mod end;
mod going_on;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::events::made_up::{Story, step};
use crate::events::{EventKind, Outcome, RunId, StepRef};
use insta::assert_snapshot;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// What a reporter wrote.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn place() -> Where {
    Where { folder: Some("/state/runs/20261123-220000-abcdef".into()) }
}

fn play(reporter: &mut dyn Reporter, story: &Story) -> RunState {
    let mut state = RunState::default();
    for event in &story.events {
        state.apply(event);
        reporter.event(&state, event);
    }
    reporter.finish(&state);
    state
}

fn shown(form: Form, verbose: Verbosity, story: &Story) -> String {
    let written = Written::default();
    play(&mut *open(form, verbose, Screen::PLAIN, place(), Box::new(written.clone())), story);
    written.text()
}

fn columns(width: usize) -> Screen {
    Screen { width: Some(width), colour: false }
}

fn fail(story: &mut Story, name: &str, step: StepRef, error: &Error) {
    let (outcome, error) = (Outcome::Failed, Some(error.clone()));
    story.at(name, EventKind::StepFinished { step, outcome, summary: String::new(), ms: 61_000, error, items: vec![] });
}
