//! An error as people read it: where, what, why, the last output, what to do next.

use super::style::Screen;
use super::text::{clean, names, safe, safe_json, wrap};
use crate::error::Error;
use std::fmt::Write;

/// How many mistakes that were found together with the first are shown.
const OTHERS: usize = 20;

/// The full form of an error that ends a command, over several lines, each ended.
pub fn error(error: &Error, screen: Screen) -> String {
    let d = error.details();
    let mut text = format!("{} {}\n", screen.red("error:"), screen.bold(&clean(&d.message)));
    text.push_str(&indented(error, "  ", true, screen));
    for other in d.others.iter().take(OTHERS) {
        text.push_str(&self::error(other, screen));
    }
    if d.others.len() > OTHERS {
        let _ = writeln!(text, "and {} more", d.others.len() - OTHERS);
    }
    text
}

/// The errors of instruments, those that several of them have once, with the names of all.
pub(super) fn each_once<'a>(errors: impl Iterator<Item = (&'a str, &'a Error)>, screen: Screen) -> String {
    let mut all: Vec<(Error, Vec<&str>)> = Vec::new();
    for (instrument, error) in errors {
        let same = error.clone().on_hosts("");
        match all.iter_mut().find(|(known, _)| *known == same) {
            Some((_, instruments)) => instruments.push(instrument),
            None => all.push((same, vec![instrument])),
        }
    }
    all.into_iter().map(|(error, instruments)| self::error(&error.on_hosts(names(&instruments)), screen)).collect()
}

/// What stands below an error's message: file and line, host and step (when wanted), causes, output, next move.
pub(super) fn indented(error: &Error, indent: &str, place: bool, screen: Screen) -> String {
    let d = error.details();
    let mut text = String::new();
    // Writing into a string cannot fail.
    if let Some(position) = &d.position {
        let _ = writeln!(text, "{indent}--> {}:{}:{}", clean(&position.file), position.line, position.column);
        for line in position.excerpt.iter().flat_map(|e| e.lines()) {
            let _ = writeln!(text, "{indent}{}", safe(line.trim_end()));
        }
    }
    let mut line = |label: &str, what: &str| {
        let first = format!("{indent}{label} ");
        let next = " ".repeat(first.len());
        let _ = writeln!(text, "{}", wrap(&clean(what), screen.width, &first, &next));
    };
    if place {
        match (&d.host, &d.step) {
            (Some(host), Some(step)) => line("on", &format!("{host}, in the step {step}")),
            (Some(host), None) => line("on", host),
            (None, Some(step)) => line("in the step", step),
            (None, None) => {}
        }
    }
    for cause in &d.causes {
        line("because:", cause);
    }
    text.push_str(&output(&d.output, indent, screen));
    if let Some(next) = &d.next {
        let _ = writeln!(
            text,
            "{}",
            wrap(&clean(next), screen.width, &format!("{indent}{} ", screen.bold("next:")), &format!("{indent}      "))
        );
    }
    text
}

/// The last lines that a program wrote.
pub(super) fn output(lines: &[String], indent: &str, screen: Screen) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("{indent}the last lines it wrote:\n");
    for line in lines {
        let _ = writeln!(text, "{}", screen.dim(format!("{indent}  | {}", clean(line)).trim_end()));
    }
    text
}

/// An error as one JSON object on one line, ended.
pub fn error_json(error: &Error) -> String {
    // An error is texts and numbers: it always becomes JSON.
    let object = serde_json::json!({ "error": error });
    safe_json(object.to_string()) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, SourcePosition};
    use insta::assert_snapshot;

    #[test]
    fn a_mistake_in_a_file() {
        let e = Error::bad_input("unknown key `taget`")
            .at(SourcePosition {
                file: "playbooks/release.yaml".into(),
                line: 12,
                column: 5,
                excerpt: Some("11 |   - sync:\n12 |       taget: server\n   |       ^^^^^".into()),
            })
            .next("did you mean `target`?");
        assert_snapshot!(error(&e, Screen::PLAIN), @r"
        error: unknown key `taget`
          --> playbooks/release.yaml:12:5
          11 |   - sync:
          12 |       taget: server
             |       ^^^^^
          next: did you mean `target`?
        ");
    }

    #[test]
    fn a_failure_at_an_instrument_in_a_narrow_terminal() {
        let e = Error::step_failed("stop_ibex_server.bat ended with exit code 3")
            .because("procServ did not answer")
            .because("the port 4051 is held by another process")
            .on_host("NDXLOQ")
            .in_step("apply.03.command")
            .with_output(vec!["stopping\tGALIL_01".into(), "\u{1b}[31mFEHLER\u{1b}[0m: Gerät antwortet nicht 完".into()])
            .next("look at C:\\Instrument\\Var\\logs\\ioc, then `ibexdeploy runs resume`");
        assert_snapshot!(error(&e, Screen { width: Some(40), colour: false }), @r"
        error: stop_ibex_server.bat ended with exit code 3
          on NDXLOQ, in the step
             apply.03.command
          because: procServ did not answer
          because: the port 4051 is held by
                   another process
          the last lines it wrote:
            | stopping    GALIL_01
            | FEHLER: Gerät antwortet nicht 完
          next: look at
                C:\Instrument\Var\logs\ioc, then
                `ibexdeploy runs resume`
        ");
        assert_snapshot!(error(&e, Screen { width: None, colour: true }).lines().next().unwrap().escape_debug(), @r"\u{1b}[1;31merror:\u{1b}[0m \u{1b}[1mstop_ibex_server.bat ended with exit code 3\u{1b}[0m");
    }

    #[test]
    fn as_json_it_is_one_line() {
        let e = Error::new(ErrorKind::Refused, "locked\nby another").on_host("NDXLOQ");
        assert_snapshot!(error_json(&e), @r#"{"error":{"host":"NDXLOQ","kind":"refused","message":"locked\nby another","temporary":false}}"#);
    }
}
