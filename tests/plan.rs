//! Plans: what becomes of a playbook with an inventory and a kit at hand, and what is said when they do not fit.

#![cfg(test)]

use ibexdeploy::actions::hotfix::HotfixPolicy;
use ibexdeploy::content::{ContentHash, Manifest, ManifestEntry};
use ibexdeploy::events::RunId;
use ibexdeploy::inventory::Inventory;
use ibexdeploy::kit::hotfix::PatchStore;
use ibexdeploy::kit::{Component, Kit};
use ibexdeploy::paths::RelPath;
use ibexdeploy::plan::{self, Hold, Plan, PlanRequest, PlanStep, UndoKind};
use ibexdeploy::playbook::{self, RunAs};
use ibexdeploy::{Error, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

const INVENTORY: &str = r"
defaults:
  host: '{{ name }}.example.org'
  transport: {ssh: {user: gamekeeper}}
  places: {server: C:\Instrument\Apps\EPICS, client: C:\Instrument\Apps\Client_E4, var: C:\Instrument\Var}
  accounts: {instrument: {user: spudulike, session: logged_on}}
  secrets: {mysql_root: {env: MYSQL_ROOT}}
groups:
  hybrid: {}
  galil_old: {vars: {galil: old}}
instruments:
  NDXLARMOR: {groups: [hybrid, galil_old]}
  NDXZOOM: {}
";

fn component(name: &str, release: &str, files: &[&str]) -> Component {
    let entry = |path: &&str| ManifestEntry {
        path: RelPath::parse(path).unwrap(),
        size: 3,
        hash: ContentHash::of(b"abc"),
        executable: false,
    };
    let files: Vec<ManifestEntry> = files.iter().map(entry).collect();
    let bytes = 3 * files.len() as u64;
    let manifest = Manifest {
        component: name.to_owned(),
        version: release.to_owned(),
        release: release.to_owned(),
        files,
        empty_folders: vec![],
    };
    let manifest_hash = ContentHash::of(&manifest.to_bytes().unwrap());
    Component { manifest, manifest_hash, folder: name.into(), release: release.to_owned(), borrowed: release != "26.9.0", bytes }
}

fn kit() -> Kit {
    let components = [
        component("EPICS", "26.9.0", &["VERSION.txt", "ioc/a.db"]),
        component("Client", "26.9.0", &["Client/VERSION.txt", "zips/Client.7z"]),
        component("genie_python_3", "26.8.0", &["VERSION.txt"]),
    ];
    let components = components.into_iter().map(|c| (c.manifest.component.clone(), c)).collect();
    Kit { version: "26.9.0".to_owned(), folder: "kits/26.9.0".into(), components, notes: Vec::new() }
}

/// A playbook, an inventory and what a plan is asked for.
struct Bench {
    folder: TempDir,
    kit: Option<Kit>,
    tags: Vec<String>,
    skip_tags: Vec<String>,
    set: BTreeMap<String, Value>,
    run: &'static str,
}

impl Bench {
    fn new(playbook: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("t.yaml"), playbook).unwrap();
        std::fs::write(folder.path().join("inventory.yaml"), INVENTORY).unwrap();
        Self { folder, kit: Some(kit()), tags: Vec::new(), skip_tags: Vec::new(), set: BTreeMap::new(), run: "r1" }
    }

    fn plan(&self) -> Result<Plan> {
        let playbook = playbook::load(self.folder.path(), "t")?;
        let inventory = Inventory::load(&self.folder.path().join("inventory.yaml"))?;
        plan::make(&PlanRequest {
            playbook: &playbook,
            instruments: inventory.instruments.iter().collect(),
            inventory: &inventory,
            kit: self.kit.as_ref(),
            run: RunId(self.run.to_owned()),
            created: Timestamp::UNIX_EPOCH,
            operator: "op@pc".to_owned(),
            rehearsal: false,
            hold: Hold::No,
            tags: self.tags.clone(),
            skip_tags: self.skip_tags.clone(),
            hotfixes: HotfixPolicy::default(),
            patches: &PatchStore::open(self.folder.path()),
            set: self.set.clone(),
        })
    }

    /// The steps of the first instrument.
    fn steps(&self) -> Vec<PlanStep> {
        self.plan().unwrap().targets[0].plan.steps.clone()
    }

    /// What is said when the plan cannot be made.
    fn mistake(&self) -> String {
        let base = format!("{}{}", self.folder.path().display(), std::path::MAIN_SEPARATOR);
        told(&self.plan().unwrap_err()).replace(&base, "")
    }
}

fn told(error: &Error) -> String {
    let details = error.details();
    let excerpt = details.position.as_ref().and_then(|p| p.excerpt.clone()).unwrap_or_default();
    format!("{error}\n{excerpt}\nnext: {}", details.next.as_deref().unwrap_or("-"))
}

fn mistake(playbook: &str) -> String {
    Bench::new(playbook).mistake()
}

fn action(step: &PlanStep) -> Value {
    serde_json::to_value(&step.action).unwrap()
}

#[test]
fn what_is_known_is_filled_in_and_the_rest_stays_a_template() {
    let steps = Bench::new(
        r"playbook: t
vars: {prefix: 'IN:{{ inst }}:', count: 3}
stage:
  - name: look at {{ name }}
    check: {pv: {name: '{{ prefix }}A', is: '{{ count }}'}}
    register: seen
  - remind: {text: '{{ kit.version }} on {{ places.server }}'}
  - remind: {text: '{{ name }} was {{ facts.versions.server }}, {{ seen.value }}'}
apply:
  - command: {at: '{{ item.dir }}', run: 'x {{ inst }}', env: {RUN: {value: '{{ run }}'}}}
    each: {files: 'server\**\*.txt'}
    writes: [server\venv]
",
    )
    .steps();
    assert_eq!(steps[0].name, "look at NDXLARMOR");
    assert_eq!(action(&steps[0])["check"]["pv"]["name"], json!("IN:LARMOR:A"));
    assert_eq!(action(&steps[0])["check"]["pv"]["is"], json!("3"));
    assert_eq!(action(&steps[1])["remind"]["text"], json!(r"26.9.0 on C:\Instrument\Apps\EPICS"));
    assert!(steps[1].late.is_empty());
    assert_eq!(action(&steps[2])["remind"]["text"], json!("{{ name }} was {{ facts.versions.server }}, {{ seen.value }}"));
    assert_eq!(steps[2].late.0, ["/remind/text"]);
    assert_eq!(action(&steps[3])["command"]["run"], json!("x LARMOR"));
    assert_eq!(steps[3].late.0, ["/command/at", "/command/env/RUN/value"]);
    assert_eq!(steps[3].writes[0].as_str(), r"C:\Instrument\Apps\EPICS\venv");
    let ids: Vec<&str> = steps.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["stage.01.check", "stage.02.remind", "stage.03.remind", "apply.01.command"]);
    assert_eq!((steps[0].run_as, steps[3].run_as), (RunAs::Admin, RunAs::Instrument));
    assert_eq!((steps[0].timeout.to_string(), steps[3].timeout.to_string()), ("2m".to_owned(), "10m".to_owned()));
}

#[test]
fn the_strings_left_are_filled_in_by_the_plans_own_names() {
    let bench = Bench::new("playbook: t\nstage:\n  - remind: {text: '{{ name }} {{ places.server }} {{ run }} {{ facts.x }}'}\n");
    let plan = &bench.plan().unwrap().targets[0].plan;
    let mut context = plan.vars.clone();
    context.insert("facts".to_owned(), json!({"x": 1}));
    let text = action(&plan.steps[0])["remind"]["text"].as_str().unwrap().to_owned();
    let filled = ibexdeploy::template::render(&text, &context).unwrap();
    assert_eq!(filled, r"NDXLARMOR C:\Instrument\Apps\EPICS r1 1");
}

#[test]
fn steps_are_skipped_for_a_stated_reason() {
    let mut bench = Bench::new(
        r#"playbook: t
stage:
  - remind: {text: a}
    when: "'hybrid' not in groups"
  - remind: {text: '{{ galil }}'}
    when: galil is defined
    tags: [motion]
  - remind: {text: b}
    when: "'hybrid' in groups and facts.dae_type == 'DAE3'"
    tags: [dae]
  - remind: {text: c}
    tags: [always]
"#,
    );
    let plan = bench.plan().unwrap();
    let skips = |n: usize| plan.targets[n].plan.steps.iter().map(|s| s.skip.clone()).collect::<Vec<_>>();
    assert_eq!(skips(0), [Some("when: 'hybrid' not in groups is false".to_owned()), None, None, None]);
    // What the instrument says about its DAE changes nothing where one part is false already.
    let not_hybrid = "when: 'hybrid' in groups and facts.dae_type == 'DAE3' is false".to_owned();
    assert_eq!(skips(1), [None, Some("when: galil is defined is false".to_owned()), Some(not_hybrid), None]);
    assert_eq!(plan.targets[0].plan.steps[1].when, None);
    assert_eq!(plan.targets[0].plan.steps[2].when.as_deref(), Some("'hybrid' in groups and facts.dae_type == 'DAE3'"));

    bench.tags = vec!["dae".to_owned()];
    let skips: Vec<Option<String>> = bench.steps().into_iter().map(|s| s.skip).collect();
    assert_eq!(skips, [Some("not tagged dae".to_owned()), Some("not tagged dae".to_owned()), None, None]);
    (bench.tags, bench.skip_tags) = (Vec::new(), vec!["dae".to_owned()]);
    assert_eq!(bench.steps()[2].skip.as_deref(), Some("--skip-tags dae"));
}

#[test]
fn the_command_line_wins_over_the_inventory_and_that_over_the_playbook() {
    let mut bench = Bench::new("playbook: t\nvars: {galil: none, other: x}\nstage:\n  - remind: {text: '{{ galil }}'}\n");
    let texts = |bench: &Bench| {
        let plan = bench.plan().unwrap();
        plan.targets.iter().map(|t| action(&t.plan.steps[0])["remind"]["text"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&bench), [json!("old"), json!("none")]);
    bench.set.insert("galil".to_owned(), json!("new"));
    assert_eq!(texts(&bench), [json!("new"), json!("new")]);
    bench.set = BTreeMap::from([("gali".to_owned(), json!(1))]);
    insta::assert_snapshot!(bench.mistake(), @r#"
    `--set gali=...`: nothing uses a variable `gali`

    next: did you mean `galil`?
    "#);
}

#[test]
fn the_same_sources_give_the_same_plan() {
    let text = "playbook: t\nvars: {note: ''}\nstage:\n  - remind: {text: 'run {{ run }} {{ note }}'}\n";
    let mut bench = Bench::new(text);
    let first = bench.plan().unwrap().digest().unwrap();
    bench.run = "r2";
    assert_eq!(bench.plan().unwrap().digest().unwrap(), first);
    bench.set.insert("note".to_owned(), json!("x"));
    assert_ne!(bench.plan().unwrap().digest().unwrap(), first);
}

#[test]
fn a_plan_is_saved_and_knows_when_its_sources_changed() {
    let bench = Bench::new("playbook: t\nstage:\n  - remind: {text: x}\n");
    let plan = bench.plan().unwrap();
    let path = bench.folder.path().join("plan.json");
    plan::save(&plan, &path).unwrap();
    let loaded = plan::load(&path).unwrap();
    assert_eq!(loaded.digest().unwrap(), plan.digest().unwrap());
    plan::check_unchanged(&loaded).unwrap();

    let inventory = bench.folder.path().join("inventory.yaml");
    std::fs::write(&inventory, format!("{INVENTORY}# changed\n")).unwrap();
    let error = plan::check_unchanged(&loaded).unwrap_err();
    assert_eq!(error.to_string(), format!("{} changed since the plan was made", inventory.display()));

    std::fs::write(&path, "{\"format\": 1, ").unwrap();
    assert!(plan::load(&path).unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(&path, "{\"format\": 999}").unwrap();
    assert!(plan::load(&path).unwrap_err().to_string().contains("newer ibexdeploy"));
}

#[test]
fn an_undefined_name_is_shown_with_its_place_and_instrument() {
    let text = "playbook: t
stage:
  - remind: {text: 'ok'}
  - check: {pv: {name: 'IN:{{ ints }}:A'}}
";
    insta::assert_snapshot!(mistake(text), @r#"
    t.yaml:4:31: NDXLARMOR: `ints` is not defined
    2 | stage:
    3 |   - remind: {text: 'ok'}
    4 |   - check: {pv: {name: 'IN:{{ ints }}:A'}}
      |                               ^
    next: did you mean `inst`?
    "#);
    insta::assert_snapshot!(mistake("playbook: t\nstage:\n  - remind: {text: '{{ facts.x }} {{ kit.verson }}'}\n"), @r#"
    t.yaml:3:38: NDXLARMOR: `kit.verson` is not defined
    1 | playbook: t
    2 | stage:
    3 |   - remind: {text: '{{ facts.x }} {{ kit.verson }}'}
      |                                      ^
    next: did you mean `version`?
    "#);
    insta::assert_snapshot!(mistake("playbook: t\nstage:\n  - remind: {text: a}\n    when: gruops and facts.x\n"), @r#"
    t.yaml:4:11: NDXLARMOR: `gruops` is not defined
    2 | stage:
    3 |   - remind: {text: a}
    4 |     when: gruops and facts.x
      |           ^
    next: did you mean `groups`?
    "#);
    insta::assert_snapshot!(mistake("playbook: t\nvars: {a: '{{ hots }}'}\nstage:\n  - remind: {text: a}\n"), @r#"
    t.yaml:2:15: NDXLARMOR: `hots` is not defined
    1 | playbook: t
    2 | vars: {a: '{{ hots }}'}
      |               ^
    next: did you mean `host`?
    "#);
}

#[test]
fn a_run_without_a_kit_says_what_needs_one() {
    let mut bench = Bench::new("playbook: t\nstage:\n  - remind: {text: 'to {{ kit.version }}'}\n");
    bench.kit = None;
    insta::assert_snapshot!(bench.mistake(), @r#"
    t.yaml:3:27: NDXLARMOR: this uses the kit's version or components, and the run has no kit
    1 | playbook: t
    2 | stage:
    3 |   - remind: {text: 'to {{ kit.version }}'}
      |                           ^
    next: name the folder of releases with --kits DIR, and a release with --kit VERSION if it is not the newest
    "#);
    let mut bench = Bench::new("playbook: t\napply:\n  - sync: {component: EPICS, to: server}\n");
    bench.kit = None;
    assert!(bench.mistake().contains("`sync` needs a kit, and the run has none"));
}

#[test]
fn places_components_and_secrets_must_exist() {
    insta::assert_snapshot!(mistake(r"playbook: t
stage:
  - check: {file: {path: servr\VERSION.txt}}
"), @r#"
t.yaml:3:26: NDXLARMOR: there is no place named `servr`
1 | playbook: t
2 | stage:
3 |   - check: {file: {path: servr\VERSION.txt}}
  |                          ^
next: did you mean `server`?
"#);
    insta::assert_snapshot!(mistake("playbook: t\napply:\n  - sync: {component: EPIC, to: server}\n"), @r#"
    t.yaml:3:23: NDXLARMOR: the kit 26.9.0 has no component `EPIC`
    1 | playbook: t
    2 | apply:
    3 |   - sync: {component: EPIC, to: server}
      |                       ^
    next: did you mean `EPICS`?
    "#);
    insta::assert_snapshot!(mistake("playbook: t\napply:\n  - sync: {component: Client, from: client, to: client}\n"), @r#"
    t.yaml:3:37: NDXLARMOR: the component `Client` of 26.9.0 has no folder `client`
    1 | playbook: t
    2 | apply:
    3 |   - sync: {component: Client, from: client, to: client}
      |                                     ^
    next: a folder inside the component, in the same case, or no `from` for all of it
    "#);
    insta::assert_snapshot!(mistake("playbook: t\nstage:\n  - command: {run: a, env: {P: {secret: mysql}}}\n"), @r#"
    t.yaml:3:41: NDXLARMOR: there is no secret `mysql`
    1 | playbook: t
    2 | stage:
    3 |   - command: {run: a, env: {P: {secret: mysql}}}
      |                                         ^
    next: did you mean `mysql_root`?
    "#);
    insta::assert_snapshot!(mistake("playbook: t\napply:\n  - command: {run: a}\n    writes: [sever]\n"), @r#"
    t.yaml:4:14: NDXLARMOR: there is no place named `sever`
    2 | apply:
    3 |   - command: {run: a}
    4 |     writes: [sever]
      |              ^
    next: did you mean `server`?
    "#);
    let bench = Bench::new("playbook: t\nstage:\n  - command: {run: a, stdin_secret: mysql_root}\n");
    assert_eq!(bench.plan().unwrap().targets[0].plan.secrets, ["mysql_root"]);
}

#[test]
fn targets_do_not_lie_in_each_other() {
    insta::assert_snapshot!(mistake(r"playbook: t
apply:
  - sync: {component: EPICS, to: server}
  - sync: {component: Client, from: Client, to: 'c:\instrument\apps\epics\client'}
"), @r#"
t.yaml:4:49: NDXLARMOR: the target c:\instrument\apps\epics\client overlaps with C:\Instrument\Apps\EPICS, the target of `EPICS`
2 | apply:
3 |   - sync: {component: EPICS, to: server}
4 |   - sync: {component: Client, from: Client, to: 'c:\instrument\apps\epics\client'}
  |                                                 ^
next: give each step a folder of its own; neither may lie inside the other
"#);
}

#[test]
fn a_plan_names_the_components_it_needs_and_what_cannot_be_undone() {
    let bench = Bench::new(
        "playbook: t
apply:
  - sync: {component: EPICS, to: server}
  - sync: {component: genie_python_3, to: client}
    tags: [python]
  - name: start
    command: {at: server, run: start.bat}
    undo: {command: {at: server, run: stop.bat}}
  - name: patch
    command: {run: patch.exe}
    undo: none
",
    );
    let plan = bench.plan().unwrap();
    let names: Vec<&String> = plan.targets[0].plan.components.keys().collect();
    assert_eq!(names, ["EPICS", "genie_python_3"]);
    assert_eq!(plan.kit.as_ref().unwrap().borrowed, BTreeMap::from([("genie_python_3".to_owned(), "26.8.0".to_owned())]));
    let view = plan::view(&plan).unwrap();
    assert_eq!(view.instruments[0].cannot_undo, ["patch"]);
    let undo: Vec<&UndoKind> = view.instruments[0].steps.iter().map(|s| &s.undo).collect();
    let by = UndoKind::Compensating { by: "stop.bat".to_owned() };
    assert_eq!(undo, [&UndoKind::Exact, &UndoKind::Exact, &by, &UndoKind::Impossible]);
}

#[test]
fn the_text_of_a_template_file_goes_into_the_plan() {
    let bench = Bench::new("playbook: t\nstage:\n  - file: {path: 'var\\a.txt', template: a.txt}\n");
    assert!(bench.mistake().contains("cannot read the template"));
    let path = bench.folder.path().join("a.txt");
    std::fs::write(&path, "one\n{{ inst }}\n").unwrap();
    let plan = bench.plan().unwrap();
    assert_eq!(action(&plan.targets[0].plan.steps[0])["file"]["content"], json!("one\nLARMOR\n"));
    assert!(plan.sources.contains_key(&path.display().to_string()));
    std::fs::write(&path, "one\ntwo {{ isnt }}\n").unwrap();
    insta::assert_snapshot!(bench.mistake(), @r#"
    a.txt:2:8: NDXLARMOR: `isnt` is not defined
    1 | one
    2 | two {{ isnt }}
      |        ^
    next: did you mean `inst`?
    "#);
}

#[test]
fn the_shipped_playbooks_fit_the_shipped_inventory() {
    let inventory = Inventory::load(Path::new("inventory/ndx.yaml")).unwrap();
    let mut kit = kit();
    kit.components.insert("MySQL".to_owned(), component("MySQL", "", &["mysql-8.4.3-winx64.zip"]));
    // What proves a version reads it in the kit first.
    let folder = TempDir::new().unwrap();
    for component in kit.components.values_mut() {
        component.folder = folder.path().join(&component.folder);
        for file in component.manifest.files.iter().filter(|f| f.path.to_string().ends_with("VERSION.txt")) {
            let file = file.path.under(&component.folder);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{}\r\n", component.release)).unwrap();
        }
    }
    for listed in playbook::list(Path::new("playbooks")).unwrap() {
        let playbook = playbook::load(Path::new("playbooks"), &listed.name).unwrap();
        // What their commands give, and where these make sense.
        let set: &[(&str, &str)] = match listed.name.as_str() {
            "install" => &[("profile", "new")],
            "switch" => &[("to", "seci")],
            _ => &[],
        };
        let instruments: Vec<_> = inventory.instruments.iter().filter(|i| listed.name != "switch" || i.seci.is_some()).collect();
        let count = instruments.len();
        let plan = plan::make(&PlanRequest {
            playbook: &playbook,
            instruments,
            inventory: &inventory,
            kit: Some(&kit),
            run: RunId("r".to_owned()),
            created: Timestamp::UNIX_EPOCH,
            operator: "op@pc".to_owned(),
            rehearsal: true,
            hold: Hold::No,
            tags: Vec::new(),
            skip_tags: Vec::new(),
            hotfixes: HotfixPolicy::default(),
            patches: &PatchStore::open(Path::new("not needed")),
            set: set.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect(),
        });
        let plan = plan.unwrap_or_else(|e| panic!("{}: {}", listed.name, told(&e)));
        assert_eq!(plan.targets.len(), count);
        let view = plan::view(&plan).unwrap();
        let stays: &[&str] = match listed.name.as_str() {
            "os-patch" => &["updates of the operating system"],
            "release" => &["Visual C++ runtime"],
            _ => &[],
        };
        assert_eq!(view.instruments[0].cannot_undo, stays, "{}", listed.name);
    }
}

#[test]
fn a_task_holds_the_plan_of_the_playbook_beside_it() {
    let mut bench = Bench::new(
        r"playbook: t
apply:
  - task: {name: look, playbook: inner, set: {what: '{{ name }}'}, start_by: instrument}
",
    );
    let inner = bench.folder.path().join("inner.yaml");
    std::fs::write(&inner, "playbook: inner\nvars: {what: ''}\nclose:\n  - remind: {text: 'look at {{ what }}'}\n").unwrap();
    let plan = bench.plan().unwrap();
    let held = action(&plan.targets[0].plan.steps[0])["task"]["plan"].clone();
    assert_eq!(held["instrument"], "NDXLARMOR");
    assert_eq!(held["steps"][0]["action"]["remind"]["text"], "look at NDXLARMOR");
    assert!(plan.sources.contains_key(&inner.display().to_string()), "a change of it is noticed: {:?}", plan.sources);
    bench.run = "r2";
    assert_eq!(bench.plan().unwrap().digest().unwrap(), plan.digest().unwrap(), "the run's name is not part of it");
}

#[test]
fn a_task_cannot_hold_what_needs_a_controller() {
    let of = |inner: &str| {
        let bench = Bench::new("playbook: t\napply:\n  - task: {name: look, playbook: inner}\n");
        std::fs::write(bench.folder.path().join("inner.yaml"), format!("playbook: inner\n{inner}")).unwrap();
        bench.mistake()
    };
    let kit = of("apply:\n  - sync: {component: EPICS, to: server}\n");
    assert!(kit.contains("a task cannot carry out the playbook `inner`: it needs a kit"), "{kit}");
    assert!(kit.contains("t.yaml:3:"), "{kit}");
    let itself = of("apply:\n  - task: {name: again, playbook: inner}\n");
    assert!(itself.contains("it registers tasks itself"), "{itself}");
    let secret = of("apply:\n  - command: {run: x, env: {A: {secret: mysql_root}}}\n    undo: none\n");
    assert!(secret.contains("it uses the secret `mysql_root`"), "{secret}");
    let missing = Bench::new("playbook: t\napply:\n  - task: {name: look, playbook: nowhere}\n").mistake();
    assert!(missing.contains("there is no playbook `nowhere`") && missing.contains("t.yaml:3:"), "{missing}");
    let variable = Bench::new("playbook: t\napply:\n  - task: {name: look, playbook: inner, set: {wht: 1}}\n");
    std::fs::write(variable.folder.path().join("inner.yaml"), "playbook: inner\nclose:\n  - remind: {text: a}\n").unwrap();
    assert!(variable.mistake().contains("nothing uses a variable `wht`"), "{}", variable.mistake());
}

#[test]
fn a_linked_layout_tells_each_component_where_versions_lie() {
    let steps = |layout: &str| {
        let bench = Bench::new(
            "playbook: t\napply:\n  - sync: {component: EPICS, to: server}\n  - sync: {component: Client, to: C:\\x}\n",
        );
        let text = INVENTORY.replace("  NDXLARMOR: {", &format!("  NDXLARMOR: {{{layout}"));
        std::fs::write(bench.folder.path().join("inventory.yaml"), text).unwrap();
        bench.steps()
    };
    let linked = steps("layout: {linked: {versions: 'E:\\{{ name }}'}}, ");
    assert_eq!(action(&linked[0])["sync"]["versions"], "E:\\NDXLARMOR");
    assert_eq!(action(&linked[1])["sync"]["versions"], Value::Null, "it has no place of its own");
    assert_eq!(action(&steps("layout: plain, ")[0])["sync"]["versions"], Value::Null);
}
