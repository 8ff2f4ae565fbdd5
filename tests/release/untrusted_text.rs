//! Text from kits, instruments and operators that would act on a terminal.

use crate::support::{Ended, Fleet};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

/// Characters that may not reach a terminal: all that act on it, apart from line ends and tabs.
fn acting(text: &str) -> String {
    let acts = |c: &char| (c.is_control() && !matches!(c, '\n' | '\t')) || *c == '\u{202e}';
    text.chars().filter(acts).collect()
}

/// What a command writes in each form, to both streams.
fn in_all_forms(make: impl Fn() -> Command) -> Vec<String> {
    let forms = [&["--output", "plain", "-vv"][..], &["--output", "pretty", "-vv"], &["--output", "json"]];
    let told = forms.map(|form| {
        let ended = Ended::of(make().args(form));
        format!("{}{}", ended.stdout, ended.stderr)
    });
    told.into()
}

#[test]
fn nothing_that_others_write_acts_on_the_terminal() {
    let fleet = Fleet::running(&[NAME]);
    // What stands in the installed tree, and what a program of the kit says before it fails.
    let version = "26.8.0\u{1b}[2J\u{9b}31m\u{202e}\u{7}";
    std::fs::write(fleet.server(NAME).join("VERSION.txt"), version).expect("a file");
    let words = "printf '\\033[2J\\033]0;title\\007rude\\033[31m red \\302\\233 \\342\\200\\256 back\\r\\n'\nexit 3";
    fleet.add_to_script("26.9.0", "create_icp_binaries.bat", words);
    let named = |arguments: &[&str]| {
        let mut command = fleet.command(arguments);
        command.env("USER", "eve\u{1b}[2J\u{9b}1m\u{202e}").env("HOSTNAME", "desk\u{1b}]0;x\u{7}");
        command
    };
    for told in in_all_forms(|| named(&["release", NAME, "--yes", "--skip-tags", "backup"])) {
        assert!(told.contains("rude") && told.contains("eve"), "{told}");
        assert_eq!(acting(&told), "", "{}", told.escape_debug());
    }
    for query in [&["status", NAME][..], &["runs", "list"], &["runs", "show"], &["runs", "report"], &["check", NAME]] {
        for told in in_all_forms(|| named(query)) {
            assert_eq!(acting(&told), "", "{query:?}: {}", told.escape_debug());
        }
    }
    let markdown = Ended::of(&mut named(&["runs", "report", "--markdown"])).stdout;
    assert_eq!(acting(&markdown), "", "{}", markdown.escape_debug());
}

#[test]
fn a_version_of_the_kit_that_would_act_on_the_terminal_is_shown_and_does_not() {
    let fleet = Fleet::running(&[NAME]);
    let file = fleet.kits().join("26.9.0/EPICS/VERSION.txt");
    std::fs::write(&file, "\u{1b}[2J26.9.0\n").expect("a file");
    for query in [&["release", NAME, "--yes"][..], &["kit", "show", "26.9.0"], &["kit", "list"]] {
        for told in in_all_forms(|| fleet.command(query)) {
            assert_eq!(acting(&told), "", "{query:?}: {}", told.escape_debug());
        }
    }
    let refused = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(refused.code, 2, "{}", refused.story());
    let shown = refused.stderr.replace("\\\\", "\\");
    assert!(shown.contains("EPICS/VERSION.txt") && shown.contains("\\u{1b}[2J26.9.0"), "{}", refused.story());
}
