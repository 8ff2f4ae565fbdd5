//! Command lines that are not right.

use super::Site;
use insta::assert_snapshot;

const REMIND: &str = "playbook: t\nclose:\n  - remind: {text: x}\n    tags: [wiring]\n";

#[test]
fn command_lines() {
    let site = Site::new();
    site.put("t.yaml", REMIND);
    let run = |options: &[&str]| site.refused(&[&["run", "t", "NDXLARMOR", "--yes"], options].concat());
    assert_snapshot!(run(&["--jobs", "0"]), @"
    exit 2
    error: invalid value '0' for '--jobs <N>': it must be a whole number, 1 or more

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["--limit-rate", "0"]), @"
    exit 2
    error: invalid value '0' for '--limit-rate <SIZE>': nothing would ever arrive: leave it out for no limit

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["--batch", "0"]), @"
    exit 2
    error: invalid value '0' for '--batch <N>': it must be a whole number, 1 or more

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["--max-fail", "none"]), @"
    exit 2
    error: invalid value 'none' for '--max-fail <N>': it must be a whole number, 1 or more

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["--deadline", "5"]), @"
    exit 2
    error: invalid value '5' for '--deadline <TIME>': `5` is not a duration; write a number and a unit: 500ms, 90s, 5m, 2h, 1h30m

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["--limit-rate", "fast"]), @"
    exit 2
    error: invalid value 'fast' for '--limit-rate <SIZE>': `fast` is not a size; write a number and a unit: 500MB, 30GB, 2GiB

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["--canary", "NDXZOOM"]), @"
    exit 2
    error: `NDXZOOM` chooses none of the instruments of this run
      next: canaries are among the instruments that the command names
    ");
    assert_snapshot!(run(&["--canary", "NDXZOM"]), @"
    exit 2
    error: `NDXZOM` matches no instrument of ndx.yaml
      next: did you mean `NDXZOOM`? `ibexdeploy inventory list` shows all
    ");
    assert_snapshot!(run(&["--set", "name"]), @"
    exit 2
    error: `--set name` has no `=`
      next: write --set NAME=VALUE
    ");
    assert_snapshot!(run(&["--set", "nobody=1"]), @"
    exit 2
    error: `--set nobody=...`: nothing uses a variable `nobody`
      next: `ibexdeploy playbook show` lists the variables of a playbook
    ");
    assert_snapshot!(run(&["--tags", "wirng"]), @"
    exit 2
    error: no step of the playbook `t` has the tag `wirng`
      next: did you mean `wiring`?
    ");
    assert_snapshot!(run(&["--skip-tags", "nope"]), @"
    exit 2
    error: no step of the playbook `t` has the tag `nope`
      next: the tags are: wiring
    ");
    assert_snapshot!(run(&["--deadlin", "5m"]), @"
    exit 2
    error: unexpected argument '--deadlin' found

      tip: a similar argument exists: '--deadline'

    Usage: ibexdeploy run --yes --deadline <TIME> <PLAYBOOK> <PATTERN>...

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["--rehearse", "../x"]), @"
    exit 2
    error: `../x` matches no instrument of ndx.yaml
      next: to rehearse in that folder, write --rehearse=../x
    ");
    assert_snapshot!(site.refused(&["run", "t", "--yes"]), @"
    exit 2
    error: no instruments were named
      next: give names, groups or globs such as LARMOR, ts2 or 'NDX*', or --all; `ibexdeploy inventory list` shows them
    ");
    assert_snapshot!(site.refused(&["run", "t", "larmr", "--yes"]), @"
    exit 2
    error: `larmr` matches no instrument of ndx.yaml
      next: did you mean `LARMOR`? `ibexdeploy inventory list` shows all
    ");
    assert_snapshot!(site.refused(&["run", "t", "NDXLARMOR,!ts9", "--yes"]), @"
    exit 2
    error: `ts9` matches no instrument of ndx.yaml
      next: `ibexdeploy inventory list` shows the names; the groups are:
    ");
    assert_snapshot!(site.refused(&["run", "T2", "NDXLARMOR", "--yes"]), @"
    exit 2
    error: there is no playbook `T2` in .
      next: did you mean `t`?
    ");
    assert_snapshot!(site.refused(&["relese", "NDXLARMOR", "--yes"]), @"
    exit 2
    error: unrecognized subcommand 'relese'

      tip: some similar subcommands exist: 'restore', 'release'

    Usage: ibexdeploy [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(site.refused(&["runs", "show", "2099"]), @"
    exit 2
    error: there is no run `2099`
      next: there are no runs in DIR/state; --state names another folder
    ");
}

#[test]
fn without_a_yes_or_a_terminal_nothing_is_done() {
    let site = Site::new();
    site.put("t.yaml", "playbook: t\napply:\n  - remove: {paths: [server]}\n");
    assert_snapshot!(site.refused(&["run", "t", "NDXLARMOR"]), @"
    exit 4
    error: not confirmed: nothing was touched
      because: there is no terminal to ask on
      next: look at it with --dry-run, then add --yes
    ");
}

#[test]
fn a_state_folder_that_cannot_be_written() {
    let site = Site::new();
    site.put("t.yaml", REMIND);
    site.put("file", "");
    assert_snapshot!(site.refused(&["run", "t", "NDXLARMOR", "--yes", "--state", "file"]), @"
    exit 2
    error: cannot write the state folder file
      because: Not a directory (os error 20)
      next: make it writable, or name another with --state DIR or IBEXDEPLOY_STATE; nothing was touched
    ");
    assert_snapshot!(site.refused(&["run", "t", "NDXLARMOR", "--yes", "--state", "/proc/ibexdeploy"]), @"
    exit 2
    error: cannot write the state folder /proc/ibexdeploy
      because: No such file or directory (os error 2)
      next: make it writable, or name another with --state DIR or IBEXDEPLOY_STATE; nothing was touched
    ");
}
