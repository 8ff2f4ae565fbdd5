//! Inventories and playbooks that are not right.

use super::{HEAD, Site};
use insta::assert_snapshot;

#[test]
fn inventories() {
    let site = Site::new();
    let after_head = |text: &str| site.inventory(format!("{HEAD}{text}"));
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {grups: [ts1]}\n"), @r"
    exit 2
    error: unknown key `grups`
      --> bad.yaml:7:15
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | instruments:
      7 |   NDXLARMOR: {grups: [ts1]}
        |               ^
      next: did you mean `groups`?
    ");
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {groups: ts1}\n"), @r"
    exit 2
    error: `groups` must be a list (`[a, b]`), not `ts1`
      --> bad.yaml:7:23
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | instruments:
      7 |   NDXLARMOR: {groups: ts1}
        |                       ^
      next: write [ts1]
    ");
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {}\n  larmor: {}\n"), @"
    exit 2
    error: the instrument `larmor` is given twice
      --> bad.yaml:8:3
      6 | instruments:
      7 |   NDXLARMOR: {}
      8 |   larmor: {}
        |   ^
      next: `NDXLARMOR` stands on line 7 already; case and NDX in front make no difference: keep one
    ");
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {}\n  NDXLARMOR: {}\n"), @"
    exit 2
    error: the key `NDXLARMOR` is given twice
      --> bad.yaml:8:3
      6 | instruments:
      7 |   NDXLARMOR: {}
      8 |   NDXLARMOR: {}
        |   ^
      next: it stands on line 7 already: keep one of the two
    ");
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {host: one}\n  NDXZOOM: {host: one}\n"), @"
    exit 2
    error: `NDXLARMOR` and `NDXZOOM` are one machine: both have the host one
      --> bad.yaml:8:19
      6 | instruments:
      7 |   NDXLARMOR: {host: one}
      8 |   NDXZOOM: {host: one}
        |                   ^
      next: remove one of them, or give it the host it really has
    ");
    assert_snapshot!(after_head("instruments:\n\tNDXLARMOR: {}\n"), @r"
    exit 2
    error: a tab in the indentation
      --> bad.yaml:7:1
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | instruments:
      7 | →NDXLARMOR: {}
        | ^
      next: indent with spaces: YAML does not allow tabs there (`→` in the excerpt)
    ");
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {places: {data: \"C:\\Instrument\"}}\n"), @r#"
    exit 2
    error: an unknown escape in double quotes
      --> bad.yaml:7:30
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | instruments:
      7 |   NDXLARMOR: {places: {data: "C:\Instrument"}}
        |                              ^
      next: inside double quotes a backslash begins an escape (`\n` is a new line, `\I` is nothing at all): use single quotes, 'C:\Instrument', or none
    "#);
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {places: {data: \"C:\\new\"}}\n"), @r#"
    exit 2
    error: a Windows path in double quotes
      --> bad.yaml:7:30
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | instruments:
      7 |   NDXLARMOR: {places: {data: "C:\new"}}
        |                              ^
      next: inside double quotes a backslash begins an escape (`\n` is a new line, `\I` is nothing at all): use single quotes, 'C:\Instrument', or none
    "#);
    assert_snapshot!(after_head("instruments:\n  NDXLARMOR: {host: {{ name }}}\n"), @r"
    exit 2
    error: `{{` must be in quotes
      --> bad.yaml:7:21
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | instruments:
      7 |   NDXLARMOR: {host: {{ name }}}
        |                     ^
      next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map
    ");
    assert_snapshot!(after_head("groups:\n  a: {groups: [b]}\n  b: {groups: [a]}\ninstruments:\n  NDXLARMOR: {}\n"), @r"
    exit 2
    error: groups belong to each other in a circle: a -> b -> a
      --> bad.yaml:8:16
      6 | groups:
      7 |   a: {groups: [b]}
      8 |   b: {groups: [a]}
        |                ^
      next: take one of them out of the other's `groups`
    error: groups belong to each other in a circle: b -> a -> b
      --> bad.yaml:7:16
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | groups:
      7 |   a: {groups: [b]}
        |                ^
      next: take one of them out of the other's `groups`
    ");
}

#[test]
fn independent_mistakes_of_an_inventory_are_told_together() {
    let site = Site::new();
    let text = "groups:\n  a: {grups: [b]}\n  b: {places: []}\ninstruments:\n  NDXLARMOR: {groups: 5}\n  NDXZOOM: {}\n";
    assert_snapshot!(site.inventory(format!("{HEAD}{text}")), @r"
    exit 2
    error: unknown key `grups`
      --> bad.yaml:7:7
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | groups:
      7 |   a: {grups: [b]}
        |       ^
      next: did you mean `groups`?
    error: `places` must be a map (`key: value`), not a list
      --> bad.yaml:8:15
      6 | groups:
      7 |   a: {grups: [b]}
      8 |   b: {places: []}
        |               ^
      next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    error: `groups` must be a list (`[a, b]`), not `5`
      --> bad.yaml:10:23
       8 |   b: {places: []}
       9 | instruments:
      10 |   NDXLARMOR: {groups: 5}
         |                       ^
      next: write [5]
    ");
    let text = "instruments:\n  NDXLARMOR: {groups: [nope], host: here}\n  NDXZOOM: {places: {a: b}}\n";
    assert_snapshot!(site.inventory(format!("{HEAD}{text}")), @r"
    exit 2
    error: there is no group `nope`
      --> bad.yaml:7:24
      5 |   places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4}
      6 | instruments:
      7 |   NDXLARMOR: {groups: [nope], host: here}
        |                        ^
      next: declare it under `groups:`, as `nope: {}`
    error: the place `a` is `b`, which is not an absolute Windows path
      --> bad.yaml:8:25
      6 | instruments:
      7 |   NDXLARMOR: {groups: [nope], host: here}
      8 |   NDXZOOM: {places: {a: b}}
        |                         ^
      next: write it as C:\folder or \\server\share\folder, without quotes or in single quotes
    ");
}

#[test]
fn files_that_are_no_text_or_no_end() {
    let site = Site::new();
    assert_snapshot!(site.inventory(b"\xff\xfei\0n\0"), @"
    exit 2
    error: the file is not UTF-8 text
      --> bad.yaml:1:1
      next: it is UTF-16, as PowerShell's `>` and old Notepad write it: save it as UTF-8
    ");
    assert_snapshot!(site.inventory(b"instruments:\n  NDX\xe9: {}\n"), @"
    exit 2
    error: the file is not UTF-8 text
      --> bad.yaml:2:6
      next: save it as UTF-8
    ");
    assert_snapshot!(site.inventory("a: \0\n"), @r"
    exit 2
    error: a value cannot begin with `\0`
      --> bad.yaml:1:4
      1 | a: �
        |    ^
      next: put it into single quotes
    ");
    assert_snapshot!(site.inventory("# x\n".repeat(2 << 20)), @"
    exit 2
    error: bad.yaml is longer than 4.2 MB
      next: name a file that a person wrote: this one cannot be it
    ");
    assert_snapshot!(site.inventory(""), @"
    exit 2
    error: bad.yaml is empty
      next: write its content, or name the file that has it; `ibexdeploy schema` shows the form
    ");
    let bombs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &('b'..='j')
            .map(|c| {
                let before = char::from(u8::try_from(c).unwrap() - 1);
                format!("    {c}: &{c} [{}]\n", vec![format!("*{before}"); 10].join(", "))
            })
            .collect::<String>();
    assert_snapshot!(site.inventory(format!("defaults:\n  vars:\n    {bombs}instruments: {{NDXLARMOR: {{}}}}\n")), @"
    exit 2
    error: budget breached: Nodes { nodes: 250001 }
      --> bad.yaml:8:16
      6 |     d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]
      7 |     e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]
      8 |     f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]
        |                ^
      next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    let deep = format!("defaults: {{vars: {{a: {}{}}}}}\n", "[".repeat(20_000), "]".repeat(20_000));
    assert_snapshot!(site.inventory(deep), @"
    exit 2
    error: recursion limit exceeded
      --> bad.yaml:1:275
      1 | [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
        |                                                                                  ^
      next: check the brackets, quotes and indentation of this line and the one before
    ");
    for name in [".", "/dev/zero", "gone.yaml"] {
        let said = site.refused(&["release", "--all", "--yes", "--inventory", name]);
        assert!(said.starts_with("exit 2\nerror: "), "{said}");
        assert!(said.contains("next: "), "{said}");
    }
    let pipe = std::process::Command::new("mkfifo").arg(site.path("pipe")).status().unwrap();
    assert!(pipe.success());
    assert_snapshot!(site.refused(&["release", "--all", "--yes", "--inventory", "pipe"]), @"
    exit 2
    error: pipe is not a file
      next: name a file of text
    ");
}

#[test]
fn playbooks() {
    let site = Site::new();
    assert_snapshot!(site.playbook("playbook: t\napply:\n  - synk: {component: EPICS, to: server}\n"), @"
    exit 2
    error: unknown key `synk`
      --> ./t.yaml:3:5
      1 | playbook: t
      2 | apply:
      3 |   - synk: {component: EPICS, to: server}
        |     ^
      next: did you mean `sync`?
    ");
    assert_snapshot!(site.playbook("playbook: t\nclose:\n  - remind: {text: x}\n    tmeout: 5m\n"), @"
    exit 2
    error: unknown key `tmeout`
      --> ./t.yaml:4:5
      2 | close:
      3 |   - remind: {text: x}
      4 |     tmeout: 5m
        |     ^
      next: did you mean `timeout`?
    ");
    assert_snapshot!(site.playbook("playbook: t\nstage:\n  - check: {port: {port: eighty}}\n"), @"
    exit 2
    error: `port` must be a whole number in range, not `eighty`
      --> ./t.yaml:3:26
      1 | playbook: t
      2 | stage:
      3 |   - check: {port: {port: eighty}}
        |                          ^
      next: `ibexdeploy schema` and the pages in docs/ show the form of every key
    ");
    assert_snapshot!(site.playbook("playbook: t\nstage:\n  - remind: {text: x}\n    timeout: 5\n"), @"
    exit 2
    error: `5` is not a duration
      --> ./t.yaml:4:14
      2 | stage:
      3 |   - remind: {text: x}
      4 |     timeout: 5
        |              ^
      next: write a number and a unit: 500ms, 90s, 5m, 2h, 1h30m
    ");
    assert_snapshot!(site.playbook("playbook: t\nstage:\n  - remind: {text: x}\nstage: []\n"), @"
    exit 2
    error: the key `stage` is given twice
      --> ./t.yaml:4:1
      2 | stage:
      3 |   - remind: {text: x}
      4 | stage: []
        | ^
      next: it stands on line 2 already: keep one of the two
    ");
    assert_snapshot!(site.playbook("playbook: t\nstage:\n\t- remind: {text: x}\n"), @"
    exit 2
    error: a tab in the indentation
      --> ./t.yaml:3:1
      1 | playbook: t
      2 | stage:
      3 | →- remind: {text: x}
        | ^
      next: indent with spaces: YAML does not allow tabs there (`→` in the excerpt)
    ");
    assert_snapshot!(site.playbook("playbook: t\napply:\n  - remove: {paths: [\"C:\\Instrument\"]}\n"), @r#"
    exit 2
    error: an unknown escape in double quotes
      --> ./t.yaml:3:22
      1 | playbook: t
      2 | apply:
      3 |   - remove: {paths: ["C:\Instrument"]}
        |                      ^
      next: inside double quotes a backslash begins an escape (`\n` is a new line, `\I` is nothing at all): use single quotes, 'C:\Instrument', or none
    "#);
    assert_snapshot!(site.playbook("playbook: t\nclose:\n  - remind: {text: {{ inst }}}\n"), @"
    exit 2
    error: `{{` must be in quotes
      --> ./t.yaml:3:20
      1 | playbook: t
      2 | close:
      3 |   - remind: {text: {{ inst }}}
        |                    ^
      next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map
    ");
    assert_snapshot!(site.playbook("playbook: t\nclose:\n  - include: t.yaml\n"), @"
    exit 2
    error: `t.yaml` includes itself
      --> ./t.yaml:3:14
      1 | playbook: t
      2 | close:
      3 |   - include: t.yaml
        |              ^
      because: ./t.yaml -> ./t.yaml
      next: take one of the includes of this circle out
    ");
    assert_snapshot!(site.playbook("playbook: t\nclose:\n  - remind: {text: 'it's'}\n"), @"
    exit 2
    error: text behind the closing quote
      --> ./t.yaml:3:24
      1 | playbook: t
      2 | close:
      3 |   - remind: {text: 'it's'}
        |                        ^
      next: quote the whole value; inside single quotes a quote is doubled: 'it''s'
    ");
    assert_snapshot!(site.playbook(b"playbook: t\nclose:\n  - remind: {text: caf\xe9}\n"), @"
    exit 1
    error: cannot read ./t.yaml
      because: stream did not contain valid UTF-8
    ");
}

#[test]
fn what_a_playbook_names_is_there() {
    let site = Site::new();
    assert_snapshot!(site.playbook("playbook: t\napply:\n  - sync: {component: EPIKS, to: server}\n"), @"
    exit 2
    error: neither DIR/kits/26.9.0 nor an older release has the component `EPIKS`
      --> ./t.yaml:3:23
      1 | playbook: t
      2 | apply:
      3 |   - sync: {component: EPIKS, to: server}
        |                       ^
      next: did you mean `EPICS`?
    ");
    assert_snapshot!(site.playbook("playbook: t\napply:\n  - sync: {component: EPICS, to: sever}\n"), @"
    exit 2
    error: there is no place named `sever`
      --> ./t.yaml:3:34
      1 | playbook: t
      2 | apply:
      3 |   - sync: {component: EPICS, to: sever}
        |                                  ^
      on NDXLARMOR
      next: did you mean `server`?
    ");
    let inside =
        "playbook: t\napply:\n  - sync: {component: EPICS, to: server}\n  - sync: {component: Client, to: server\\Client}\n";
    assert_snapshot!(site.playbook(inside), @r"
    exit 2
    error: the target C:\Instrument\Apps\EPICS\Client overlaps with C:\Instrument\Apps\EPICS, the target of `EPICS`
      --> ./t.yaml:4:35
      2 | apply:
      3 |   - sync: {component: EPICS, to: server}
      4 |   - sync: {component: Client, to: server\Client}
        |                                   ^
      on NDXLARMOR
      next: give each step a folder of its own; neither may lie inside the other
    ");
    assert_snapshot!(site.playbook("playbook: t\nclose:\n  - remind: {text: '{{ instt }}'}\n"), @"
    exit 2
    error: `instt` is not defined
      --> ./t.yaml:3:24
      1 | playbook: t
      2 | close:
      3 |   - remind: {text: '{{ instt }}'}
        |                        ^
      on NDXLARMOR
      next: did you mean `inst`?
    ");
    let secret = "playbook: t\nstage:\n  - command: {run: 'true', read_only: true, env: {A: {secret: mysql_rot}}}\n";
    assert_snapshot!(site.playbook(secret), @"
    exit 2
    error: there is no secret `mysql_rot`
      --> ./t.yaml:3:63
      1 | playbook: t
      2 | stage:
      3 |   - command: {run: 'true', read_only: true, env: {A: {secret: mysql_rot}}}
        |                                                               ^
      on NDXLARMOR
      next: say under `secrets:` in the inventory where it comes from
    ");
    site.put(
        "ndx.yaml",
        format!("{HEAD}  secrets: {{mysql_root: {{env: NOT_SET_ANYWHERE}}}}\ninstruments: {{NDXLARMOR: {{}}}}\n"),
    );
    assert_snapshot!(site.playbook(secret), @"
    exit 2
    error: there is no secret `mysql_rot`
      --> ./t.yaml:3:63
      1 | playbook: t
      2 | stage:
      3 |   - command: {run: 'true', read_only: true, env: {A: {secret: mysql_rot}}}
        |                                                               ^
      on NDXLARMOR
      next: did you mean `mysql_root`?
    ");
    assert_snapshot!(site.playbook(secret.replace("rot", "root")), @"
    exit 2
    error: the secret `mysql_root` comes from the environment variable NOT_SET_ANYWHERE, which is not set
      on NDXLARMOR
      next: set NOT_SET_ANYWHERE and run the command again
    ");
    site.put("ndx.yaml", format!("{HEAD}instruments: {{NDXLARMOR: {{}}}}\n").replace("  accounts", "  #"));
    assert_snapshot!(site.playbook("playbook: t\nstage:\n  - command: {run: 'true', read_only: true}\n"), @"
    exit 2
    error: the inventory has no account `instrument` for NDXLARMOR
      --> ./t.yaml:3:5
      1 | playbook: t
      2 | stage:
      3 |   - command: {run: 'true', read_only: true}
        |     ^
      on NDXLARMOR
      next: add it under `accounts:` in the inventory, or run the step `as: admin`
    ");
}

#[test]
fn independent_mistakes_of_a_playbook_are_told_together() {
    let site = Site::new();
    let text = "playbook: t
stge: []
stage:
  - chek: {port: {port: 80}}
  - remind: {text: fine}
  - command: {run: 5, read_only: maybe}
    timeout: soon
";
    assert_snapshot!(site.playbook(text), @"
    exit 2
    error: unknown key `stge`
      --> ./t.yaml:2:1
      1 | playbook: t
      2 | stge: []
        | ^
      next: did you mean `stage`?
    error: unknown key `chek`
      --> ./t.yaml:4:5
      2 | stge: []
      3 | stage:
      4 |   - chek: {port: {port: 80}}
        |     ^
      next: did you mean `check`?
    error: `read_only` must be `true` or `false`, not `maybe`
      --> ./t.yaml:6:34
      4 |   - chek: {port: {port: 80}}
      5 |   - remind: {text: fine}
      6 |   - command: {run: 5, read_only: maybe}
        |                                  ^
      next: write true or false, without quotes
    ");
    let text = "playbook: t
apply:
  - sync: {component: EPICS, to: sever}
  - remove: {paths: [cliant]}
close:
  - remind: {text: '{{ nobody }}'}
";
    assert_snapshot!(site.playbook(text), @"
    exit 2
    error: there is no place named `sever`
      --> ./t.yaml:3:34
      1 | playbook: t
      2 | apply:
      3 |   - sync: {component: EPICS, to: sever}
        |                                  ^
      on NDXLARMOR
      next: did you mean `server`?
    error: there is no place named `cliant`
      --> ./t.yaml:4:22
      2 | apply:
      3 |   - sync: {component: EPICS, to: sever}
      4 |   - remove: {paths: [cliant]}
        |                      ^
      on NDXLARMOR
      next: did you mean `client`?
    error: `nobody` is not defined
      --> ./t.yaml:6:24
      4 |   - remove: {paths: [cliant]}
      5 | close:
      6 |   - remind: {text: '{{ nobody }}'}
        |                        ^
      on NDXLARMOR
      next: give it a value under `vars:` in the playbook or the inventory, or with --set; known are: groups, host, inst, kit, name, places, rehearsal, run
    ");
    assert_snapshot!(site.refused(&["playbook", "check", "t"]), @"
    exit 0
    t: no mistakes
    ");
}
