//! Plans whose sources change while the operator thinks.

use super::{HEAD, Site};
use crate::terminal::Terminal;
use insta::assert_snapshot;
use std::process::Stdio;

const REMOVE: &str = "playbook: t\napply:\n  - remove: {paths: [server]}\n";

/// Answers the question of a run after a file was changed.
fn confirmed_after(site: &Site, file: &str, text: &str, answer: &str) -> String {
    site.put("t.yaml", REMOVE);
    let mut command = site.command(&["run", "t", "NDXLARMOR"]);
    let (mut child, mut terminal) = Terminal::start(command.env("NO_COLOR", "1").stdout(Stdio::null()));
    terminal.until("[y/N] ");
    site.put(file, text);
    terminal.answer(answer);
    terminal.rest();
    let code = child.wait().unwrap().code().unwrap();
    assert_eq!(site.state_of_sandboxes(), site.before, "{}", terminal.shown);
    let after = terminal.shown.rsplit("[y/N] ").next().unwrap_or_default();
    format!("exit {code}\n{}", after.replace("\r\n", "\n").replace(&site.fleet.dir().display().to_string(), "DIR"))
}

#[test]
fn an_inventory_that_changed_since_the_plan_was_made() {
    let site = Site::new();
    let changed = format!("{HEAD}instruments: {{NDXLARMOR: {{}}, NDXZOOM: {{}}}} # changed\n");
    assert_snapshot!(confirmed_after(&site, "ndx.yaml", &changed, "y"), @"
    exit 4
    y
    error: ndx.yaml changed since the plan was made
      next: start again, so that the plan is made anew and can be confirmed
    ");
}

#[test]
fn a_playbook_that_changed_since_the_plan_was_made() {
    let site = Site::new();
    assert_snapshot!(confirmed_after(&site, "t.yaml", &REMOVE.replace("server", "client"), "yes"), @"
    exit 4
    yes
    error: ./t.yaml changed since the plan was made
      next: start again, so that the plan is made anew and can be confirmed
    ");
}

#[test]
fn an_answer_that_is_no_yes() {
    let site = Site::new();
    assert_snapshot!(confirmed_after(&site, "t.yaml", REMOVE, "maybe"), @"
    exit 4
    maybe
    error: not confirmed: nothing was touched
    ");
}
