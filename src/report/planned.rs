//! A plan as people read it: the steps once for all instruments that share them.

use super::answers::what_will_happen;
use super::style::Screen;
use super::table::{Column, Table};
use super::text::{count, names};
use crate::plan::{PlanView, StepView, UndoKind};
use crate::playbook::RunAs;
use std::fmt::Write;

/// The plan, with a table of steps for each group of instruments that have the same ones.
pub fn planned(plan: &PlanView, screen: Screen) -> String {
    let mut text = what_will_happen(plan, screen);
    let mut groups: Vec<(Vec<[String; 5]>, Vec<&str>)> = Vec::new();
    for instrument in &plan.instruments {
        let rows: Vec<[String; 5]> = instrument.steps.iter().map(row).collect();
        match groups.iter_mut().find(|(known, _)| *known == rows) {
            Some((_, who)) => who.push(&instrument.name),
            None => groups.push((rows, vec![&instrument.name])),
        }
    }
    for (rows, who) in groups {
        let mut table = Table::new(vec![
            Column::new("STEP"),
            Column::new("NAME").cut_to(16),
            Column::new("AS").spare(1),
            Column::new("UNDO").cut_to(12),
            Column::new("NOTE").cut_to(12),
        ]);
        rows.into_iter().for_each(|row| table.row(row));
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\n{}", screen.bold(&names(&who)));
        text.push_str(&table.render(screen));
    }
    let _ = writeln!(text, "\n{} planned. No instrument was contacted.", count(plan.instruments.len(), "instrument"));
    text
}

fn row(step: &StepView) -> [String; 5] {
    let run_as = match step.run_as {
        RunAs::Admin => "admin",
        RunAs::Instrument => "instrument",
    };
    let undo = match &step.undo {
        UndoKind::NotNeeded => "-".to_owned(),
        UndoKind::Exact => "exact".to_owned(),
        UndoKind::Compensating { by } => format!("by {by}"),
        UndoKind::Impossible => "NONE".to_owned(),
    };
    let note = match &step.skip {
        Some(why) => format!("skipped: {why}"),
        None => {
            let when = step.when.as_ref().map(|w| format!("when {w}"));
            when.into_iter().chain(step.each.clone()).collect::<Vec<_>>().join(", ")
        }
    };
    [step.id.clone(), step.name.clone(), run_as.to_owned(), undo, note]
}
