//! `ibexdeploy inventory` and `ibexdeploy schema`, as a person runs them.

use snapbox::cmd::{Command, cargo_bin};
use snapbox::{IntoData, str};
use std::path::{Path, PathBuf};

/// The program, free of the caller's settings, in a folder.
fn program(folder: &Path) -> Command {
    let mut command = Command::new(cargo_bin!("ibexdeploy")).current_dir(folder);
    for variable in ["INVENTORY", "PLAYBOOKS", "KITS", "STATE", "OUTPUT", "JOBS"] {
        command = command.env_remove(format!("IBEXDEPLOY_{variable}"));
    }
    command
}

/// The program with the inventory that is shipped.
fn shipped() -> Command {
    program(&repository())
}

/// A small site: what is shipped may change without these tests.
const SITE: &str = r"
defaults:
  host: '{{ name }}.isis'
  transport: {ssh: {user: gamekeeper, key: ~/.ssh/ibex}}
  accounts: {instrument: {user: spudulike, session: logged_on}}
  places: {server: C:\Instrument\Apps\EPICS, settings: 'C:\Instrument\Settings\config\{{ name }}'}
  vars: {pv_prefix: 'IN:{{ inst }}:', windows: {from: 8, days: [mon, tue]}}
  secrets: {mysql_root: {command: [keeper, get, ibex/mysql_root]}}
groups:
  ts2: {}
  muons: {vars: {windows: {from: 9}}}
  winter: {}
instruments:
  NDXLARMOR: {groups: [ts2, winter], seci: {retire: 2099-03-31}}
  NDXZOOM: {groups: [ts2], transport: {winrm: {user: gamekeeper, password: mysql_root, auth: kerberos}}}
  NDXEMU: {groups: [muons, winter], places: {server: 'E:\EPICS'}, kits: {pull: {from: '\\srv\kits$'}}, seci: {}}
";

/// The program with the small site, in a folder that lives as long as the first of the two.
fn site() -> std::io::Result<(tempfile::TempDir, Command)> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("site.yaml"), SITE)?;
    let command = program(folder.path()).env("IBEXDEPLOY_INVENTORY", "site.yaml");
    Ok((folder, command))
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Checks an inventory that a person wrote; the whole text on standard error is compared.
fn refused(text: &str, expected: impl IntoData) -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("my.yaml"), text)?;
    let checked = program(folder.path()).args(["inventory", "check", "--inventory", "my.yaml"]).assert();
    checked.code(2).stdout_eq("").stderr_eq(expected.into_data().raw());
    Ok(())
}

fn json(command: Command) -> serde_json::Result<serde_json::Value> {
    let output = command.arg("--output=json").assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output)
}

#[test]
fn the_shipped_inventory_has_thirty_instruments() {
    shipped().args(["inventory", "check"]).assert().success();
    let listed = json(shipped().args(["inventory", "list"])).unwrap();
    let names: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|i| i["name"].as_str()).collect();
    assert_eq!(names.len(), 30);
    assert!(names.contains(&"NDXZOOM") && names.contains(&"NDXLARMOR"), "{names:?}");
}

#[test]
fn every_shipped_instrument_is_in_one_station_and_one_round() {
    let listed = json(shipped().args(["inventory", "list"])).unwrap();
    for instrument in listed.as_array().unwrap() {
        let groups: Vec<&str> = instrument["groups"].as_array().unwrap().iter().filter_map(|g| g.as_str()).collect();
        for pair in [["ts1", "ts2"], ["winter", "summer"], ["hybrid", "ibex_only"]] {
            assert_eq!(pair.iter().filter(|g| groups.contains(g)).count(), 1, "{instrument}");
        }
        assert_eq!(groups.contains(&"hybrid"), instrument["seci"]["retire"].is_string(), "{instrument}");
    }
}

#[test]
fn a_list_is_a_table() {
    let (_folder, program) = site().unwrap();
    program.args(["inventory", "list"]).assert().success().stdout_eq(str![[r#"
INSTRUMENT  HOST            BY     GROUPS        SECI UNTIL
NDXLARMOR   NDXLARMOR.isis  ssh    ts2 winter    2099-03-31
NDXZOOM     NDXZOOM.isis    winrm  ts2
NDXEMU      NDXEMU.isis     ssh    muons winter  not agreed
3 instruments

"#]]);
}

#[test]
fn a_list_as_json_is_one_document() {
    let (_folder, program) = site().unwrap();
    let list = program.args(["inventory", "list", "winter", "--except", "emu", "--output", "json"]);
    list.assert().success().stdout_eq(str![[r#"
[
  {
    "groups": [
      "ts2",
      "winter"
    ],
    "host": "NDXLARMOR.isis",
    "name": "NDXLARMOR",
    "seci": {
      "retire": "2099-03-31"
    },
    "transport": "ssh"
  }
]

"#]]);
}

#[test]
fn an_instrument_shows_its_settings_and_their_origin() {
    let (_folder, program) = site().unwrap();
    program.args(["inventory", "show", "emu"]).assert().success().stdout_eq(
        str![[r#"
NDXEMU (EMU)
host NDXEMU.isis, groups muons winter

SETTING                      VALUE                                 FROM
accounts.instrument.session  logged_on                             defaults (line 5)
accounts.instrument.user     spudulike                             defaults (line 5)
host                         NDXEMU.isis                           defaults (line 3)
kits.pull.from               \\srv\kits$                           instrument (line 16)
places.server                E:\EPICS                              instrument (line 16)
places.settings              C:\Instrument\Settings\config\NDXEMU  defaults (line 6)
seci                         {}                                    instrument (line 16)
secrets.mysql_root.command   ["keeper","get","ibex/mysql_root"]    defaults (line 8)
transport.ssh.key            ~/.ssh/ibex                           defaults (line 4)
transport.ssh.user           gamekeeper                            defaults (line 4)
vars.pv_prefix               IN:EMU:                               defaults (line 7)
vars.windows.days            ["mon","tue"]                         defaults (line 7)
vars.windows.from            9                                     group muons (line 11)

"#]]
        .raw(),
    );
}

#[test]
fn an_instrument_as_json_has_every_setting() {
    let (_folder, program) = site().unwrap();
    program.args(["inventory", "show", "ndxzoom", "--output=json"]).assert().success().stdout_eq(
        str![[r#"
{
  "accounts": {
    "instrument": {
      "logged_on": true,
      "user": "spudulike"
    }
  },
  "groups": [
    "ts2"
  ],
  "host": "NDXZOOM.isis",
  "kits": "push",
  "layout": "plain",
  "name": "NDXZOOM",
  "origins": {
    "/accounts/instrument/session": "defaults",
    "/accounts/instrument/user": "defaults",
    "/host": "defaults",
    "/places/server": "defaults",
    "/places/settings": "defaults",
    "/secrets/mysql_root/command": "defaults",
    "/transport/winrm/auth": "instrument",
    "/transport/winrm/password": "instrument",
    "/transport/winrm/user": "instrument",
    "/vars/pv_prefix": "defaults",
    "/vars/windows/days": "defaults",
    "/vars/windows/from": "defaults"
  },
  "places": {
    "server": "C:\\Instrument\\Apps\\EPICS",
    "settings": "C:\\Instrument\\Settings\\config\\NDXZOOM"
  },
  "seci": null,
  "secrets": {
    "mysql_root": {
      "command": [
        "keeper",
        "get",
        "ibex/mysql_root"
      ]
    }
  },
  "transport": {
    "winrm": {
      "auth": "kerberos",
      "password": "mysql_root",
      "user": "gamekeeper"
    }
  },
  "vars": {
    "pv_prefix": "IN:ZOOM:",
    "windows": {
      "days": [
        "mon",
        "tue"
      ],
      "from": 8
    }
  }
}

"#]]
        .raw(),
    );
}

#[test]
fn a_check_counts_and_warns() {
    let (_folder, program) = site().unwrap();
    program.args(["inventory", "check"]).assert().success().stdout_eq(str![[r#"
warning: site.yaml:16:104: NDXEMU: no date is agreed for SECI to retire
warning: site.yaml:15:3: NDXZOOM: WinRM carries some 20 MB of files a second at best, a gigabyte in a minute; `kits: pull` lets the instrument read the share itself
site.yaml: 3 instruments, 2 warnings

"#]]);
}

#[test]
fn secrets_show_only_their_source() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2").unwrap();
    std::fs::write(
        folder.path().join("my.yaml"),
        "defaults: {transport: {ssh: {}}, secrets: {a: {file: password}, b: {env: SECRET_B}}}\ninstruments: {NDXLOQ: {}}\n",
    )
    .unwrap();
    for form in ["plain", "json"] {
        let shown = program(folder.path()).env("SECRET_B", "hunter3");
        let shown = shown.args(["inventory", "show", "loq", "--inventory=my.yaml", "--output", form]).assert().success();
        let text = String::from_utf8_lossy(&shown.get_output().stdout).into_owned();
        assert!(text.contains("password") && text.contains("SECRET_B") && !text.contains("hunter"), "{text}");
    }
}

#[test]
fn a_pattern_that_matches_nothing() {
    shipped().args(["inventory", "list", "larmr"]).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error: `larmr` matches no instrument of inventory/ndx.yaml
  next: did you mean `LARMOR`? `ibexdeploy inventory list` shows all

"#]]);
    shipped().args(["inventory", "list", "ts1,!wintr"]).assert().code(2).stderr_eq(str![[r#"
error: `wintr` matches no instrument of inventory/ndx.yaml
  next: did you mean `winter`? `ibexdeploy inventory list` shows all

"#]]);
    shipped().args(["inventory", "show", "zom"]).assert().code(2).stderr_eq(str![[r#"
error: `zom` matches no instrument of inventory/ndx.yaml
  next: did you mean `ZOOM`? `ibexdeploy inventory list` shows all

"#]]);
}

#[test]
fn mistakes_point_into_the_file() -> std::io::Result<()> {
    refused(
        "defaults:\n  places:\n    server: \"C:\\Instrument\"\n",
        str![[r#"
error: an unknown escape in double quotes
  --> my.yaml:3:13
  1 | defaults:
  2 |   places:
  3 |     server: "C:\Instrument"
    |             ^
  next: inside double quotes a backslash begins an escape (`\n` is a new line, `\I` is nothing at all): use single quotes, 'C:\Instrument', or none

"#]],
    )?;
    refused(
        "defaults:\n  host: {{ name }}.isis\ninstruments: {NDXLOQ: {}}\n",
        str![[r#"
error: `{{` must be in quotes
  --> my.yaml:2:9
  1 | defaults:
  2 |   host: {{ name }}.isis
    |         ^
  next: put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map

"#]],
    )?;
    refused(
        "instruments:\n\tNDXLOQ: {}\n",
        str![[r#"
error: a tab in the indentation
  --> my.yaml:2:1
  1 | instruments:
  2 | →NDXLOQ: {}
    | ^
  next: indent with spaces: YAML does not allow tabs there (`→` in the excerpt)

"#]],
    )?;
    refused(
        "instruments:\n  NDXLOQ: {grups: [ts1]}\n",
        str![[r#"
error: unknown key `grups`
  --> my.yaml:2:12
  1 | instruments:
  2 |   NDXLOQ: {grups: [ts1]}
    |            ^
  next: did you mean `groups`?

"#]],
    )?;
    refused(
        "instruments:\n  NDXLOQ: {}\n  NDXLOQ: {}\n",
        str![[r#"
error: the key `NDXLOQ` is given twice
  --> my.yaml:3:3
  1 | instruments:
  2 |   NDXLOQ: {}
  3 |   NDXLOQ: {}
    |   ^
  next: it stands on line 2 already: keep one of the two

"#]],
    )?;
    refused(
        "",
        str![[r#"
error: my.yaml is empty
  next: write its content, or name the file that has it; `ibexdeploy schema` shows the form

"#]],
    )?;
    refused(
        "defaults: {transport: {ssh: {}}, host: 'one'}\ninstruments:\n  NDXLOQ: {}\n  NDXLET: {}\n",
        str![[r#"
error: `NDXLOQ` and `NDXLET` are one machine: both have the host one
  --> my.yaml:4:3
  2 | instruments:
  3 |   NDXLOQ: {}
  4 |   NDXLET: {}
    |   ^
  next: remove one of them, or give it the host it really has

"#]],
    )?;
    Ok(())
}

#[test]
fn a_missing_inventory_says_how_to_name_one() {
    let folder = tempfile::tempdir().unwrap();
    program(folder.path()).args(["inventory", "list"]).assert().code(2).stderr_eq(str![[r#"
error: cannot read inventory/ndx.yaml
  because: No such file or directory (os error 2)
  next: name the inventory with --inventory FILE or IBEXDEPLOY_INVENTORY

"#]]);
}

#[test]
fn the_committed_schemas_are_current() {
    for kind in ["hotfix", "inventory", "migration-chain", "migrations", "playbook"] {
        let made = shipped().args(["schema", kind]).assert().success().get_output().stdout.clone();
        let file = repository().join(format!("docs/schema/{kind}.json"));
        let committed = std::fs::read(&file).unwrap();
        // Not `assert_eq`: nobody wants to read two schemas.
        assert!(made == committed, "run: cargo run -- schema {kind} > docs/schema/{kind}.json");
    }
}

#[test]
fn the_shipped_inventory_names_its_schema() {
    let text = std::fs::read_to_string(repository().join("inventory/ndx.yaml")).unwrap();
    let named = text.lines().find_map(|l| l.strip_prefix("# yaml-language-server: $schema=")).unwrap();
    assert!(repository().join("inventory").join(named).is_file(), "{named}");
}

#[test]
fn the_example_in_the_documentation_is_right() {
    let page = std::fs::read_to_string(repository().join("docs/inventory.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ndx.yaml"), example).unwrap();
    let checked = program(folder.path()).args(["inventory", "check", "--inventory=ndx.yaml"]).assert();
    // Its dates pass one day; that is a warning.
    checked.success().stdout_eq("...\nndx.yaml: 2 instruments, [..]\n");
}

#[test]
fn the_schema_knows_every_key_of_the_shipped_inventory() {
    let schema: serde_json::Value =
        serde_json::from_slice(&shipped().args(["schema", "inventory"]).assert().success().get_output().stdout).unwrap();
    let keys = schema["$defs"]["Settings"]["properties"].as_object().unwrap();
    for key in ["groups", "host", "transport", "accounts", "kits", "layout", "places", "vars", "secrets", "seci"] {
        assert!(keys.get(key).is_some_and(|k| k.to_string().contains("description")), "{key}");
    }
    assert_eq!(schema["$defs"]["Settings"]["additionalProperties"], serde_json::json!(false));
}
