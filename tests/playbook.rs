//! Playbooks as files: what the shipped ones hold, and what is said about mistakes.

#![cfg(test)]

use ibexdeploy::playbook::{self, Phase};
use std::path::Path;
use tempfile::TempDir;

/// A folder with the playbook `t.yaml`, and further files.
fn folder(playbook: &str, others: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("t.yaml"), playbook).unwrap();
    for (name, text) in others {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// All mistakes of a playbook as an operator reads them.
fn mistakes(playbook: &str, others: &[(&str, &str)]) -> String {
    let folder = folder(playbook, others);
    let base = format!("{}{}", folder.path().display(), std::path::MAIN_SEPARATOR);
    let errors = playbook::problems(folder.path(), "t");
    let texts: Vec<String> = errors
        .iter()
        .map(|error| {
            let details = error.details();
            let excerpt = details.position.as_ref().and_then(|p| p.excerpt.clone()).unwrap_or_default();
            format!("{error}\n{excerpt}\nnext: {}\n", details.next.as_deref().unwrap_or("-")).replace(&base, "")
        })
        .collect();
    texts.join("\n")
}

/// Position and message of each mistake.
fn messages(playbook: &str, others: &[(&str, &str)]) -> String {
    let folder = folder(playbook, others);
    let base = format!("{}{}", folder.path().display(), std::path::MAIN_SEPARATOR);
    let errors = playbook::problems(folder.path(), "t");
    errors.iter().map(|e| e.to_string().replace(&base, "")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_playbooks_are_well() {
    let listed = playbook::list(Path::new("playbooks")).unwrap();
    let names: Vec<&str> = listed.iter().map(|l| l.name.as_str()).collect();
    let shipped = [
        "backup",
        "check",
        "hotfix",
        "install",
        "labview",
        "migrate",
        "mysql",
        "os-patch",
        "release",
        "restore",
        "settings",
        "software",
        "switch",
        "switching",
    ];
    assert_eq!(names, shipped);
    for playbook in &listed {
        let problems = playbook::problems(Path::new("playbooks"), &playbook.name);
        assert_eq!(problems, [], "{}", playbook.name);
        assert!(playbook.description.as_ref().is_ok_and(|d| !d.is_empty()), "{}", playbook.name);
    }
}

#[test]
fn included_steps_stand_in_their_place() {
    let release = playbook::load(Path::new("playbooks"), "release").unwrap();
    let apply: Vec<&str> =
        release.steps.iter().filter(|s| s.phase == Phase::Apply).filter_map(|s| s.step.name.as_deref()).collect();
    let first = [
        "no run is going on",
        "stop IBEX",
        "stop IBEX, whatever is being measured",
        "nothing runs from the folders that change",
        "nothing that SECI uses runs from the folders that change",
        "no automatic start",
    ];
    assert_eq!(apply[..6], first);
    assert_eq!(apply.last(), Some(&"start IBEX"));
    assert_eq!(release.components().into_iter().collect::<Vec<_>>(), ["Client", "EPICS", "genie_python_3"]);
    assert_eq!(release.files.len(), 15);
}

#[test]
fn an_unknown_playbook_names_the_nearest() {
    let error = playbook::load(Path::new("playbooks"), "relese").unwrap_err();
    assert_eq!(error.to_string(), "there is no playbook `relese` in playbooks");
    assert_eq!(error.details().next.as_deref(), Some("did you mean `release`?"));
}

#[test]
fn an_unknown_action_names_the_nearest() {
    let text = mistakes("playbook: t\napply:\n  - synch: {component: EPICS, to: server}\n", &[]);
    assert!(text.starts_with("t.yaml:3:5: "), "{text}");
    assert!(text.contains("did you mean `sync`?"), "{text}");
}

#[test]
fn a_step_has_one_action() {
    let text = "playbook: t
stage:
  - name: nothing
  - remind: {text: x}
    check: {port: {port: 80}}
";
    insta::assert_snapshot!(mistakes(text, &[]), @r#"
    t.yaml:3:5: this step has no action
    1 | playbook: t
    2 | stage:
    3 |   - name: nothing
      |     ^
    next: give it one of: ask, backup, check, clone, command, copy, file, git, hotfix, link, migrate, mysql, notify, os_patch, package, process, reboot, remind, remove, restore, retention, service, snapshot, sync, task, vhd; or `include`

    t.yaml:5:5: this step has two actions: `remind` and `check`
    3 |   - name: nothing
    4 |   - remind: {text: x}
    5 |     check: {port: {port: 80}}
      |     ^
    next: make a step of each, in the order in which they should happen
    "#);
}

#[test]
fn an_include_stands_alone_exists_and_does_not_include_itself() {
    let text = "playbook: t
stage:
  - include: shared/a.yaml
    tags: [x]
  - include: shared/c.yaml
  - include: shared/a.yaml
";
    let others = [("shared/a.yaml", "- include: b.yaml\n"), ("shared/b.yaml", "- remind: {text: x}\n- include: a.yaml\n")];
    insta::assert_snapshot!(mistakes(text, &others), @r#"
    t.yaml:3:14: `include` stands together with other keys in one step
    1 | playbook: t
    2 | stage:
    3 |   - include: shared/a.yaml
      |              ^
    next: leave the other keys out, or write them at the steps of the included file

    t.yaml:5:14: the included file `shared/c.yaml` cannot be read: No such file or directory (os error 2)
    3 |   - include: shared/a.yaml
    4 |     tags: [x]
    5 |   - include: shared/c.yaml
      |              ^
    next: did you mean `a.yaml`? an include is found relative to the file that names it

    shared/b.yaml:2:12: `a.yaml` includes itself: shared/a.yaml -> shared/b.yaml -> shared/a.yaml
    1 | - remind: {text: x}
    2 | - include: a.yaml
      |            ^
    next: take one of the includes of this circle out
    "#);
    let text = messages("playbook: t\nclose:\n  - include: t.yaml\n", &[]);
    assert_eq!(text, "t.yaml:3:14: `t.yaml` includes itself: t.yaml -> t.yaml");
}

#[test]
fn a_mistake_in_an_included_file_stands_there() {
    let text = mistakes("playbook: t\nclose:\n  - include: a.yaml\n", &[("a.yaml", "- remind: {txt: x}\n")]);
    assert!(text.starts_with("a.yaml:1:12: "), "{text}");
    assert!(text.contains("did you mean `text`?"), "{text}");
}

#[test]
fn arguments_that_exclude_each_other() {
    let text = r"playbook: t
stage:
  - check: {}
  - check: {port: {port: 1}, memory: {at_least: 1GB}}
  - check: {process: {is: none}}
  - check: {pv: {name: a, is: b, contains: c}}
  - command: {run: a, program: b}
  - command: {at: server}
  - command: {run: a, args: [b]}
  - file: {path: var\x, content: a, lines: [b]}
  - file: {path: var\x}
  - backup: {of: [server], exclude_in: {sever: [x]}}
  - retention: {keep: 0, move_to: old_backups}
apply:
  - retention: {keep: 2, move_to: old_backups}
close:
  - notify: {}
  - notify: {mail: {relay: r, from: f, to: [], subject: s}}
";
    insta::assert_snapshot!(messages(text, &[]), @r#"
    t.yaml:3:5: `check` does not say what
    t.yaml:4:13: `check` has `memory` and `port`
    t.yaml:5:13: the check names no programs
    t.yaml:6:44: the check has both `is` and `contains`
    t.yaml:7:32: `command` has `run` and `program`
    t.yaml:8:5: `command` does not say what
    t.yaml:9:23: `args` belong to `program`
    t.yaml:10:37: `file` has `content` and `lines`
    t.yaml:11:5: `file` does not say what
    t.yaml:12:41: `exclude_in` names `sever`, which this step does not back up
    t.yaml:13:23: `keep: 0` would leave no backup
    t.yaml:15:5: `retention` copies for long, and IBEX would be stopped meanwhile
    t.yaml:17:5: `notify` does not say what
    t.yaml:18:14: a mail has either `text` or `template`
    t.yaml:18:40: the mail goes to nobody
    "#);
}

#[test]
fn each_has_one_kind_and_a_good_pattern() {
    let text = r"playbook: t
stage:
  - remind: {text: x}
    each: {}
  - remind: {text: x}
    each: {files: 'server\*', list: [1]}
  - remind: {text: x}
    each: {files: server}
  - remind: {text: x}
    each: {files: 'server\[a'}
  - backup: {of: [server], exclude: ['**/*.{a']}
";
    insta::assert_snapshot!(messages(text, &[]), @r#"
    t.yaml:4:5: `each` has neither `files` nor `list`
    t.yaml:6:5: `each` has both `files` and `list`
    t.yaml:8:19: `server` has no pattern
    t.yaml:10:19: `[a` is not a pattern: unclosed character class; missing ']'
    t.yaml:11:38: `**/*.{a` is not a pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)
    "#);
}

#[test]
fn templates_are_read_before_anything_runs() {
    let text = r#"playbook: t
stage:
  - remind:
      text: |
        the first line
        and {{ inst
  - remind: {text: 'it is {{ item }}'}
  - remind: {text: x}
    when: "'hybrid' in"
  - remind: {text: x}
    when: '{{ rehearsal }}'
  - remind: {text: '{{ found.path }}'}
  - check: {port: {port: 80}}
    register: found
  - remind: {text: '{{ found }}'}
    name: step {{ facts.dae_type }}
"#;
    insta::assert_snapshot!(mistakes(text, &[]), @r#"
    t.yaml:6:16: the template cannot be read: unexpected end of input, expected end of variable block
    4 |       text: |
    5 |         the first line
    6 |         and {{ inst
      |                ^
    next: write names as {{ name }}, and expressions as in `'hybrid' in groups and inst != 'LOQ'`

    t.yaml:7:30: `item` stands in a step without `each`
    5 |         the first line
    6 |         and {{ inst
    7 |   - remind: {text: 'it is {{ item }}'}
      |                              ^
    next: give the step an `each:`, or write out what is meant

    t.yaml:9:21: the template cannot be read: unexpected end of input, expected expression
    7 |   - remind: {text: 'it is {{ item }}'}
    8 |   - remind: {text: x}
    9 |     when: "'hybrid' in"
      |                     ^
    next: write names as {{ name }}, and expressions as in `'hybrid' in groups and inst != 'LOQ'`

    t.yaml:11:11: `when` is an expression already: it takes no {{ }}
     9 |     when: "'hybrid' in"
    10 |   - remind: {text: x}
    11 |     when: '{{ rehearsal }}'
       |           ^
    next: write the expression alone, as in `when: "'hybrid' in groups"`

    t.yaml:12:24: `found` is used before the step that registers it
    10 |   - remind: {text: x}
    11 |     when: '{{ rehearsal }}'
    12 |   - remind: {text: '{{ found.path }}'}
       |                        ^
    next: move the step with this `register:` in front of this one

    t.yaml:16:19: `facts` is known only at the instrument, and `name` is filled in when the plan is made
    14 |     register: found
    15 |   - remind: {text: '{{ found }}'}
    16 |     name: step {{ facts.dae_type }}
       |                   ^
    next: use names that the inventory or the playbook's `vars:` give
    "#);
}

#[test]
fn a_registered_name_hides_nothing() {
    let text = "playbook: t
vars: {size: 1, kit: x}
stage:
  - check: {port: {port: 80}}
    register: inst
  - check: {port: {port: 80}}
    register: size
  - check: {port: {port: 80}}
    register: a-b
";
    insta::assert_snapshot!(messages(text, &[]), @r#"
    t.yaml:2:22: the variable `kit` has the name of something that is always there
    t.yaml:5:15: `register: inst` would hide the name `inst`
    t.yaml:7:15: `register: size` would hide the name `size`
    t.yaml:9:15: `a-b` cannot be the name of a result
    "#);
}

#[test]
fn what_cannot_be_undone_is_said_where_it_may_have_to_be() {
    let text = "playbook: t
stage:
  - command: {run: a}
apply:
  - command: {run: a}
  - command: {run: a, read_only: true}
  - command: {run: a}
    undo: none
  - command: {run: a}
    writes: [server]
  - reboot: {reason: x}
prove:
  - command: {run: a}
    undo: {command: {run: b, program: c}}
close:
  - command: {run: a}
";
    insta::assert_snapshot!(mistakes(text, &[]), @r#"
    t.yaml:5:5: it is not known how to undo this command, and `apply` may have to be undone
    3 |   - command: {run: a}
    4 | apply:
    5 |   - command: {run: a}
      |     ^
    next: say what it writes (`writes: [place]`), how to take it back (`undo: {command: {...}}`), that it changes nothing (`read_only: true`), or, knowing it, `undo: none`

    t.yaml:11:5: a `reboot` cannot be undone, and `apply` may have to be undone
     9 |   - command: {run: a}
    10 |     writes: [server]
    11 |   - reboot: {reason: x}
       |     ^
    next: write `undo: none` to say that this is known, or an inverse (`undo: {command: {...}}`)

    t.yaml:14:39: `command` has `run` and `program`
    12 | prove:
    13 |   - command: {run: a}
    14 |     undo: {command: {run: b, program: c}}
       |                                       ^
    next: it takes exactly one of: run, program
    "#);
}

#[test]
fn actions_stand_where_they_have_a_meaning() {
    let text = "playbook: t
stage:
  - sync: {component: EPICS, to: server}
  - notify: {webhook: {url: u, body: {}}}
  - remind: {text: x}
    writes: [server]
  - migrate: {at: settings}
  - package: {installer: setup.exe}
apply:
  - notify: {webhook: {url: u, body: {}}}
  - remove: {paths: [server]}
    as: instrument
  - command: {run: a, read_only: true}
    writes: [server]
  - command: {run: a}
    undo: {command: {run: b, stdin_secret: s}}
";
    insta::assert_snapshot!(messages(text, &[]), @r#"
    t.yaml:3:5: `sync` changes the instrument, and in `stage` nothing is undone
    t.yaml:6:5: `writes` belongs to `command`, not to `remind`
    t.yaml:7:5: `migrate` changes the instrument, and in `stage` nothing is undone
    t.yaml:8:5: `package` changes the instrument, and in `stage` nothing is undone
    t.yaml:10:5: `notify` cannot be taken back, so it stands in `stage` or `close` only
    t.yaml:12:9: `remove` cannot run `as: instrument`
    t.yaml:14:5: the command is `read_only`, and `writes` somewhere
    t.yaml:16:5: an undo cannot use a secret
    "#);
}

#[test]
fn nothing_is_pushed_before_close() {
    let git = "git: {at: settings, push: true}";
    let text =
        format!("playbook: t\nstage:\n  - {git}\napply:\n  - name: settings\n    {git}\nprove:\n  - {git}\nclose:\n  - {git}\n");
    insta::assert_snapshot!(mistakes(&text, &[]), @r"
    t.yaml:3:5: `git` changes the instrument, and in `stage` nothing is undone
    1 | playbook: t
    2 | stage:
    3 |   - git: {at: settings, push: true}
      |     ^
    next: move the step to `apply`: its content is fetched during `stage` anyway

    t.yaml:3:31: what is pushed cannot be taken back, so `push` stands in `close` only
    1 | playbook: t
    2 | stage:
    3 |   - git: {at: settings, push: true}
      |                               ^
    next: make a step of its own in `close`, where the release can no longer be undone

    t.yaml:6:31: what is pushed cannot be taken back, so `push` stands in `close` only
    4 | apply:
    5 |   - name: settings
    6 |     git: {at: settings, push: true}
      |                               ^
    next: make a step of its own in `close`, where the release can no longer be undone

    t.yaml:8:31: what is pushed cannot be taken back, so `push` stands in `close` only
    6 |     git: {at: settings, push: true}
    7 | prove:
    8 |   - git: {at: settings, push: true}
      |                               ^
    next: make a step of its own in `close`, where the release can no longer be undone
    ");
}

#[test]
fn installers_updates_and_gates_are_checked() {
    let text = "playbook: t
apply:
  - package: {installer: setup.exe, version: '1', success: x}
    undo: none
  - package: {installer: setup.exe}
  - os_patch: {limit: 0, rounds: many}
    undo: none
  - os_patch: {limit: '{{ name }}'}
  - command: {run: a, read_only: true, gate: {port: {port: 1}, memory: {at_least: 1GB}}}
  - command: {run: a}
    undo: {command: {run: b, gate: {port: {port: 1}}}}
";
    insta::assert_snapshot!(messages(text, &[]), @r"
    t.yaml:3:46: `version` is that of a `product`
    t.yaml:3:60: `success` is looked for in a log
    t.yaml:5:5: `package` cannot be undone, and `apply` may have to be undone
    t.yaml:6:23: `0` is not a number of things
    t.yaml:6:34: `many` is not a number of things
    t.yaml:8:5: updates of the operating system cannot be undone, and `apply` may have to be undone
    t.yaml:9:47: `check` has `memory` and `port`
    t.yaml:11:30: an undo has no `gate`
    ");
}

#[test]
fn virtual_disks_are_checked() {
    let text = "playbook: t
stage:
  - vhd: {file: 'D:\\a.vhdx'}
apply:
  - vhd: {file: 'D:\\a.iso', machine: NDXZOOM}
  - vhd: {file: 'D:\\a.VHD', host: NDHYPERV1, at: server}
  - vhd: {file: 'D:\\a.vhdx', state: detached, instead_of: 'D:\\b.vhdx'}
  - vhd: {file: '{{ disk }}'}
";
    insta::assert_snapshot!(messages(text, &[]), @r"
    t.yaml:3:5: `vhd` changes the instrument, and in `stage` nothing is undone
    t.yaml:5:17: `D:\a.iso` is no virtual disk
    t.yaml:5:38: `machine` belongs to `host`
    t.yaml:6:50: `at` is for a disk that this machine attaches itself
    t.yaml:7:59: `instead_of` is for a disk that is attached
    ");
}

#[test]
fn a_playbook_is_called_as_its_file_and_has_steps() {
    insta::assert_snapshot!(messages("playbook: other\n", &[]), @r#"t.yaml:1:11: the playbook calls itself `other`, and its file `t`"#);
    insta::assert_snapshot!(messages("playbook: t\n", &[]), @r#"t.yaml:1:1: the playbook `t` has no steps"#);
}

#[test]
fn all_mistakes_come_together() {
    let folder = folder("playbook: t\nstage:\n  - name: a\n  - name: b\n  - name: c\n", &[]);
    let error = playbook::load(folder.path(), "t").unwrap_err();
    let lines: Vec<u64> = std::iter::once(&error)
        .chain(&error.details().others)
        .filter_map(|e| Some(e.details().position.as_ref()?.line))
        .collect();
    assert_eq!(lines, [3, 4, 5]);
}
