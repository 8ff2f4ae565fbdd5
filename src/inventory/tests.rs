use super::*;
use crate::plan::{KitFolder, WinrmAuth};
use insta::assert_snapshot;
use jiff::civil::Date;
use serde_json::json;

/// Settings that every test inventory begins with.
const HEAD: &str = "defaults:\n  host: '{{ name }}.isis'\n  transport: {ssh: {user: admin, port: 22}}\n";

fn read(text: &str) -> Result<Inventory> {
    Inventory::parse(Path::new("inv/t.yaml"), text)
}

/// An inventory of the usual head and what follows it.
fn after_head(text: &str) -> Result<Inventory> {
    read(&format!("{HEAD}{text}"))
}

/// All that a person sees of an error.
fn said(text: &str) -> String {
    let error = match after_head(text) {
        Err(error) => error,
        Ok(read) => panic!("{text} was read as {:?}", read.instruments),
    };
    let d = error.details();
    let excerpt = d.position.as_ref().and_then(|p| p.excerpt.clone()).unwrap_or_default();
    format!("{error}\n{excerpt}\nnext: {}", d.next.as_deref().unwrap_or("-"))
}

#[test]
fn layers_go_from_defaults_over_groups_to_the_instrument() -> Result<()> {
    let inventory = read(
        "defaults:
  transport: {ssh: {user: admin, port: 22}}
  places: {a: C:\\d, b: C:\\d, c: C:\\d, d: C:\\d}
  vars: {deep: {x: 1, y: [1, 2]}}
groups:
  base: {places: {b: C:\\base, c: C:\\base, d: C:\\base}}
  first: {groups: [base], places: {c: C:\\first, d: C:\\first}}
  second: {places: {d: C:\\second}, vars: {deep: {y: [3]}}}
instruments:
  NDXA: {groups: [first, second], places: {d: C:\\own}, transport: {ssh: {port: 2222}}}
  NDXB: {groups: [second, first], transport: {local: {root: box}}}
",
    )?;
    let (a, b) = (inventory.instrument("a")?, inventory.instrument("NDXB")?);
    let path = |i: &Instrument, place: &str| i.places[place].to_string();
    assert_eq!(["a", "b", "c", "d"].map(|p| path(a, p)), ["C:\\d", "C:\\base", "C:\\first", "C:\\own"]);
    assert_eq!(path(b, "d"), "C:\\first", "the group listed later wins");
    assert_eq!(a.vars["deep"], json!({"x": 1, "y": [3]}), "maps are merged, lists replaced");
    assert_eq!(a.transport_settings, json!({"ssh": {"user": "admin", "port": 2222}}));
    assert_eq!(b.transport_settings, json!({"local": {"root": "box"}}), "another choice replaces the whole");
    assert_eq!(b.transport, TransportSpec::Local { root: PathBuf::from("inv/box") });
    assert_eq!(a.groups.iter().map(String::as_str).collect::<Vec<_>>(), ["base", "first", "second"]);
    for (pointer, layer) in [
        ("/places/a", Layer::Defaults),
        ("/places/b", Layer::Group("base".to_owned())),
        ("/places/c", Layer::Group("first".to_owned())),
        ("/places/d", Layer::Instrument),
        ("/transport/ssh/user", Layer::Defaults),
        ("/transport/ssh/port", Layer::Instrument),
    ] {
        assert_eq!(a.origins[pointer].layer, layer, "{pointer}");
    }
    assert_eq!(inventory.position_of(a, "/places/c").map(|p| p.line), Some(7));
    assert!(b.origins.keys().all(|p| !p.starts_with("/transport/ssh")), "{:?}", b.origins);
    Ok(())
}

#[test]
fn templates_know_the_instrument_and_its_variables() -> Result<()> {
    let inventory = after_head(
        "  vars: {pv: 'IN:{{ inst }}:', block: '{{ pv }}CS:{{ n }}', n: 5, list: ['{{ name }}']}
  places: {settings: 'C:\\config\\{{ name }}', by_host: 'C:\\{{ host }}'}
instruments:
  NDXLOQ: {}
  NDEMUONFE: {host: '{{ inst | lower }}'}
",
    )?;
    let loq = inventory.instrument("loq")?;
    assert_eq!(loq.host, "NDXLOQ.isis");
    assert_eq!(loq.vars["block"], json!("IN:LOQ:CS:5"));
    assert_eq!(loq.vars["list"], json!(["NDXLOQ"]));
    assert_eq!(loq.places["settings"].as_str(), "C:\\config\\NDXLOQ");
    assert_eq!(loq.places["by_host"].as_str(), "C:\\NDXLOQ.isis");
    assert_eq!(inventory.instrument("NDEMUONFE")?.host, "ndemuonfe");
    Ok(())
}

#[test]
fn instruments_keep_the_order_of_the_file() -> Result<()> {
    let inventory = after_head("instruments:\n  NDXZOOM: {}\n  NDXARGUS: {}\n  NDXLOQ: {}\n")?;
    let names: Vec<&str> = inventory.instruments.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["NDXZOOM", "NDXARGUS", "NDXLOQ"]);
    Ok(())
}

#[test]
fn odd_names_are_instruments() -> Result<()> {
    let inventory = after_head("instruments: {NDXEMMA-A: {}, NDXHRPD_SETUP: {}, NDXHRPD: {}, NDEMUONFE: {}}\n")?;
    assert_eq!(inventory.instrument("emma-a")?.inst(), "EMMA-A");
    assert_eq!(inventory.instrument("hrpd")?.name, "NDXHRPD");
    Ok(())
}

#[test]
fn secrets_keep_their_source_and_files_lie_beside_the_inventory() -> Result<()> {
    let inventory = after_head(
        "  secrets: {a: {env: A}, b: {file: keys/b}, c: {file: ~/c}, d: {command: [keeper, get]}}
instruments:
  NDXLOQ: {secrets: {a: {prompt: 'A?'}}}
",
    )?;
    let secrets = &inventory.instrument("loq")?.secrets;
    assert_eq!(secrets["a"], SecretSource::Prompt("A?".to_owned()), "another source replaces the first");
    let beside = Path::new("inv").join("keys/b");
    assert_eq!(secrets["b"], SecretSource::File(beside.display().to_string()));
    assert_eq!(secrets["c"], SecretSource::File("~/c".to_owned()));
    assert_eq!(secrets["d"].kind(), "command");
    Ok(())
}

#[test]
fn transports_and_kits_are_read_as_data() -> Result<()> {
    let inventory = after_head(
        "  kits: push
instruments:
  NDXA:
    transport: {winrm: {user: g, password: p, auth: kerberos, https: true, port: 5986, ca: ca.pem, timeout: 5s}}
    secrets: {p: {env: P}}
  NDXB: {kits: {pull: {from: '\\\\srv\\kits$\\{{ inst }}'}}}
",
    )?;
    let TransportSpec::Winrm(winrm) = &inventory.instrument("a")?.transport else { panic!("it is reached by WinRM") };
    assert_eq!((winrm.host.as_str(), winrm.port, winrm.auth), ("NDXA.isis", Some(5986), WinrmAuth::Kerberos));
    assert_eq!(winrm.ca.as_deref(), Some(Path::new("inv/ca.pem")));
    assert_eq!(inventory.instrument("a")?.kits, KitTransfer::Push);
    assert_eq!(
        inventory.instrument("b")?.kits,
        KitTransfer::Pull(Pull { from: KitFolder::parse("\\\\srv\\kits$\\B")?, user: None, password: None, ca: None })
    );
    Ok(())
}

#[test]
fn accounts_are_merged_too() -> Result<()> {
    let inventory = after_head(
        "  accounts: {instrument: {user: spudulike, session: logged_on}}
instruments: {NDXA: {accounts: {instrument: {user: other}}}, NDXB: {accounts: {instrument: {session: any}}}}
",
    )?;
    let account = |name: &str| inventory.instrument(name).map(|i| i.accounts["instrument"].clone());
    assert_eq!(account("a")?, Account { user: "other".to_owned(), logged_on: true });
    assert_eq!(account("b")?, Account { user: "spudulike".to_owned(), logged_on: false });
    Ok(())
}

#[test]
fn one_instrument_twice() {
    assert_snapshot!(said("instruments:\n  NDXLOQ: {}\n  ndxloq: {}\n"), @r"
    inv/t.yaml:6:3: the instrument `ndxloq` is given twice
    4 | instruments:
    5 |   NDXLOQ: {}
    6 |   ndxloq: {}
      |   ^
    next: `NDXLOQ` stands on line 5 already; case and NDX in front make no difference: keep one
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {}\n  LOQ: {}\n"), @r"
    inv/t.yaml:6:3: the instrument `LOQ` is given twice
    4 | instruments:
    5 |   NDXLOQ: {}
    6 |   LOQ: {}
      |   ^
    next: `NDXLOQ` stands on line 5 already; case and NDX in front make no difference: keep one
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {}\n  NDXLOQ: {}\n"), @r"
    inv/t.yaml:6:3: the key `NDXLOQ` is given twice
    4 | instruments:
    5 |   NDXLOQ: {}
    6 |   NDXLOQ: {}
      |   ^
    next: it stands on line 5 already: keep one of the two
    ");
}

#[test]
fn two_entries_for_one_machine() {
    assert_snapshot!(said("instruments:\n  NDXLOQ: {}\n  NDXSANS:\n    host: ndxloq.ISIS\n"), @r"
    inv/t.yaml:7:11: `NDXLOQ` and `NDXSANS` are one machine: both have the host ndxloq.ISIS
    5 |   NDXLOQ: {}
    6 |   NDXSANS:
    7 |     host: ndxloq.ISIS
      |           ^
    next: remove one of them, or give it the host it really has
    ");
    let sandboxes = said("instruments:\n  NDXA: {transport: {local: {root: x}}}\n  NDXB: {transport: {local: {root: x}}}\n");
    // A native path: on Windows with its own separator.
    assert_snapshot!(sandboxes.replace(r"inv\x", "inv/x"), @r"
    inv/t.yaml:6:36: `NDXA` and `NDXB` are one machine: both have the sandbox inv/x
    4 | instruments:
    5 |   NDXA: {transport: {local: {root: x}}}
    6 |   NDXB: {transport: {local: {root: x}}}
      |                                    ^
    next: give each its own folder, for example sandboxes/{{ name }}
    ");
}

#[test]
fn groups_that_do_not_exist_or_go_round() {
    assert_snapshot!(said("groups: {winter: {}}\ninstruments:\n  NDXLOQ: {groups: [wintr]}\n"), @r"
    inv/t.yaml:6:21: there is no group `wintr`
    4 | groups: {winter: {}}
    5 | instruments:
    6 |   NDXLOQ: {groups: [wintr]}
      |                     ^
    next: did you mean `winter`?
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {groups: [ts1]}\n"), @r"
    inv/t.yaml:5:21: there is no group `ts1`
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {groups: [ts1]}
      |                     ^
    next: declare it under `groups:`, as `ts1: {}`
    ");
    assert_snapshot!(said("groups:\n  a: {groups: [b]}\n  b: {groups: [c]}\n  c: {groups: [a]}\ninstruments: {NDXLOQ: {groups: [b]}}\n"), @r"
    inv/t.yaml:7:16: groups belong to each other in a circle: a -> b -> c -> a
    5 |   a: {groups: [b]}
    6 |   b: {groups: [c]}
    7 |   c: {groups: [a]}
      |                ^
    next: take one of them out of the other's `groups`
    ");
    assert_snapshot!(said("groups:\n  a: {groups: [a]}\ninstruments: {NDXLOQ: {}}\n"), @r"
    inv/t.yaml:5:16: groups belong to each other in a circle: a -> a
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | groups:
    5 |   a: {groups: [a]}
      |                ^
    next: take one of them out of the other's `groups`
    ");
}

#[test]
fn names_that_cannot_be() {
    assert_snapshot!(said("instruments:\n  NDX LOQ: {}\n"), @r"
    inv/t.yaml:5:3: `NDX LOQ` cannot be an instrument's name: it has the character ' ': letters, digits, `-` and `_` are allowed
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDX LOQ: {}
      |   ^
    next: use the machine's name, for example NDXLARMOR; a longer host name goes into `host:`
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ.isis: {}\n"), @r"
    inv/t.yaml:5:3: `NDXLOQ.isis` cannot be an instrument's name: it has the character '.': letters, digits, `-` and `_` are allowed
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ.isis: {}
      |   ^
    next: use the machine's name, for example NDXLARMOR; a longer host name goes into `host:`
    ");
    assert_snapshot!(said("instruments: {All: {}}\n"), @r"
    inv/t.yaml:4:15: `All` cannot be an instrument's name: patterns use it for every instrument
    2 |   host: '{{ name }}.isis'
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments: {All: {}}
      |               ^
    next: use the machine's name, for example NDXLARMOR
    ");
    assert_snapshot!(said("groups: {all: {}}\ninstruments: {NDXLOQ: {}}\n"), @r"
    inv/t.yaml:4:10: `all` cannot be a group's name: patterns use it for every instrument
    2 |   host: '{{ name }}.isis'
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | groups: {all: {}}
      |          ^
    next: put what all instruments share under `defaults:`
    ");
    assert_snapshot!(said("groups: {loq: {}}\ninstruments: {NDXLOQ: {}}\n"), @r"
    inv/t.yaml:4:10: `loq` cannot be a group's name: the instrument `NDXLOQ` answers to it
    2 |   host: '{{ name }}.isis'
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | groups: {loq: {}}
      |          ^
    next: rename the group
    ");
    assert_snapshot!(said("instruments: {NDXLOQ: {vars: {host: x}}}\n"), @r"
    inv/t.yaml:4:31: `host` cannot name a variable: templates have it already
    2 |   host: '{{ name }}.isis'
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments: {NDXLOQ: {vars: {host: x}}}
      |                               ^
    next: give the variable another name
    ");
    assert_snapshot!(said("instruments: {NDXLOQ: {places: {my-place: x}}}\n"), @r"
    inv/t.yaml:4:33: `my-place` cannot name a place: it has the character '-': letters, digits and `_` are allowed
    2 |   host: '{{ name }}.isis'
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments: {NDXLOQ: {places: {my-place: x}}}
      |                                 ^
    next: templates use the name, so it must be one word
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ:\n    host: 'ndxloq:22'\n"), @r"
    inv/t.yaml:6:11: `ndxloq:22` is not a host name: it has the character ':': letters, digits, `-` and `_` are allowed
    4 | instruments:
    5 |   NDXLOQ:
    6 |     host: 'ndxloq:22'
      |           ^
    next: write a machine's name or address; a port belongs into the transport's settings
    ");
    assert_snapshot!(said("instruments: {}\n"), @r"
    inv/t.yaml:4:1: the inventory has no instruments
    2 |   host: '{{ name }}.isis'
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments: {}
      | ^
    next: add them under `instruments:`, as NDXLARMOR: {}
    ");
}

#[test]
fn places_that_are_not_paths() {
    assert_snapshot!(said("instruments:\n  NDXLOQ:\n    places: {server: Apps\\EPICS}\n"), @r"
    inv/t.yaml:6:22: the place `server` is `Apps\EPICS`, which is not an absolute Windows path
    4 | instruments:
    5 |   NDXLOQ:
    6 |     places: {server: Apps\EPICS}
      |                      ^
    next: write it as C:\folder or \\server\share\folder, without quotes or in single quotes
    ");
    assert_snapshot!(said("  places:\n    server: '\\Instrument\\{{ inst }}'\ninstruments: {NDXLOQ: {}}\n"), @r"
    inv/t.yaml:5:13: NDXLOQ: the place `server` is `\Instrument\LOQ`, which is not an absolute Windows path
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 |   places:
    5 |     server: '\Instrument\{{ inst }}'
      |             ^
    next: write it as C:\folder or \\server\share\folder, without quotes or in single quotes
    ");
}

#[test]
fn templates_that_cannot_be_filled_in() {
    assert_snapshot!(said("instruments:\n  NDXLOQ:\n    places:\n      a: 'C:\\{{ nmae }}'\n"), @r"
    inv/t.yaml:7:10: `nmae` is not defined in `C:\{{ nmae }}`
    5 |   NDXLOQ:
    6 |     places:
    7 |       a: 'C:\{{ nmae }}'
      |          ^
    next: did you mean `name`?
    ");
    assert_snapshot!(said("  vars: {x: '{{ zzz }}'}\ninstruments: {NDXLOQ: {}}\n"), @r"
    inv/t.yaml:4:13: NDXLOQ: `zzz` is not defined in `{{ zzz }}`
    2 |   host: '{{ name }}.isis'
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 |   vars: {x: '{{ zzz }}'}
      |             ^
    next: give it a value under `vars:` in the inventory; known here are: groups, inst, name
    ");
    assert_snapshot!(said("  vars:\n    a: '{{ b }}'\n    b: ['{{ a }}']\ninstruments: {NDXLOQ: {}}\n"), @r"
    inv/t.yaml:5:8: NDXLOQ: variables use each other in a circle: a, b
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 |   vars:
    5 |     a: '{{ b }}'
      |        ^
    next: give one of them a value that does not use the others
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ:\n    vars: {a: ['{{ b ']}\n"), @r"
    inv/t.yaml:6:12: the template cannot be read: unexpected end of input, expected end of variable block in `{{ b `
    4 | instruments:
    5 |   NDXLOQ:
    6 |     vars: {a: ['{{ b ']}
      |            ^
    next: write names as {{ name }}, and expressions as in `'hybrid' in groups and inst != 'LOQ'`
    ");
}

#[test]
fn settings_that_do_not_fit() {
    assert_snapshot!(said("instruments:\n  NDXLOQ: {grups: [ts1]}\n"), @r"
    inv/t.yaml:5:12: unknown key `grups`
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {grups: [ts1]}
      |            ^
    next: did you mean `groups`?
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {transport: {shh: {}}}\n"), @r"
    inv/t.yaml:5:24: `shh` is not known here
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {transport: {shh: {}}}
      |                        ^
    next: did you mean `ssh`?
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {transport: {ssh: {timeout: 5}}}\n"), @r"
    inv/t.yaml:5:39: `5` is not a duration
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {transport: {ssh: {timeout: 5}}}
      |                                       ^
    next: write a number and a unit: 500ms, 90s, 5m, 2h, 1h30m
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {transport: {ssh: {password: mysql}}}\n"), @r"
    inv/t.yaml:5:40: there is no secret `mysql`
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {transport: {ssh: {password: mysql}}}
      |                                        ^
    next: say where it comes from under `secrets:`, for example mysql: {prompt: Password}
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {seci: {retire: 2027-02-31}}\n"), @r"
    inv/t.yaml:5:27: `2027-02-31` is not a day
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {seci: {retire: 2027-02-31}}
      |                           ^
    next: write it as 2027-03-31
    ");
    for (settings, message) in [
        ("port: 99999", "99999 is not a port"),
        ("port: 0", "0 is not a port"),
        ("timeout: 0s", "within `timeout: 0s` nothing can be reached"),
        ("address: a b", "`address: a b` is not a machine's name or address: it has the character ' '"),
    ] {
        let text = said(&format!("instruments:\n  NDXLOQ: {{transport: {{ssh: {{{settings}}}}}}}\n"));
        assert!(text.starts_with("inv/t.yaml:5:") && text.contains(message), "{text}");
    }
    assert_snapshot!(said("instruments:\n  NDXLOQ: {transport: {winrm: {user: '', password: p}}, secrets: {p: {env: P}}}\n"), @r"
    inv/t.yaml:5:32: `user` is empty
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {transport: {winrm: {user: '', password: p}}, secrets: {p: {env: P}}}
      |                                ^
    next: write what belongs there, or leave it out
    ");
    for (settings, message) in [
        ("user: g", "38: nothing says the password to log on with by WinRM"),
        ("password: p", "42: nothing says the account to log on with by WinRM"),
        ("auth: ntlm", "38: nothing says the account to log on with by WinRM"),
        ("", "24: nothing says the account to log on with by WinRM"),
        ("user: g, password: p, kdc: ''", "54: `kdc` is empty"),
        ("user: g, password: p, kdc: dc1, auth: ntlm", "59: `kdc` names a Kerberos server, and `auth: ntlm` asks none"),
        ("user: g, password: p, kdc: dc1, auth: basic, https: true", "59: `kdc` names a Kerberos server, and `auth: basic`"),
        ("user: g, password: p, https: true, ca: c, pin: 'x'", "79: `pin` and `ca` are both given"),
        ("auth: certificate, https: true, certificate: c, key: k, user: g", "94: `user` is not used with `auth: certificate`"),
        ("auth: certificate, https: true, certificate: c, key: k, password: p", "98: `password` is not used with"),
        ("auth: certificate, https: true, certificate: c, key: k, kdc: dc1", "93: `kdc` names a Kerberos server"),
    ] {
        let text =
            said(&format!("instruments:\n  NDXLOQ: {{transport: {{winrm: {{{settings}}}}}, secrets: {{p: {{env: P}}}}}}\n"));
        assert!(text.starts_with(&format!("inv/t.yaml:5:{message}")), "{settings}: {text}");
    }
    // An exception among machines whose defaults are shared: those cannot be taken out.
    for (shared, own) in [
        ("https: true, ca: c", format!("pin: '{}'", "0".repeat(64))),
        ("kdc: dc1", "auth: ntlm".to_owned()),
        ("https: true", "auth: certificate, certificate: c, key: k".to_owned()),
    ] {
        let layers = format!(
            "defaults: {{transport: {{winrm: {{user: g, password: p, {shared}}}}}, secrets: {{p: {{env: P}}}}}}\n\
             instruments: {{NDXLOQ: {{transport: {{winrm: {{{own}}}}}}}}}\n"
        );
        let read = read(&layers);
        assert!(read.is_ok(), "{layers}: {read:?}");
    }
    assert_snapshot!(said("instruments:\n  NDXLOQ: {secrets: {a: {command: []}}}\n"), @r"
    inv/t.yaml:5:26: the secret `a` has an empty `command`
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {secrets: {a: {command: []}}}
      |                          ^
    next: say where it comes from: {env: NAME}, {file: PATH}, {prompt: TEXT} or {command: [PROGRAM, ARGUMENT]}
    ");
    assert_snapshot!(said("instruments:\n  NDXLOQ: {accounts: {instrument: {session: any}}}\n"), @r"
    inv/t.yaml:5:45: the account `instrument` has no `user`
    3 |   transport: {ssh: {user: admin, port: 22}}
    4 | instruments:
    5 |   NDXLOQ: {accounts: {instrument: {session: any}}}
      |                                             ^
    next: add `user:`, here or in `defaults:`
    ");
    let error = read("instruments:\n  NDXLOQ: {}\n").unwrap_err();
    assert_eq!(error.to_string(), "inv/t.yaml:2:3: nothing says how to reach NDXLOQ");
}

#[test]
fn what_deserves_attention_is_warned_of() -> Result<()> {
    let inventory = after_head(
        "groups: {nobody: {}}
instruments:
  NDXA: {seci: {retire: 2026-01-01}}
  NDXB: {seci: {retire: 2027-01-01}}
  NDXC: {seci: {}}
  NDXD: {}
",
    )?;
    let warned = |today: Date| -> Vec<String> {
        let warnings = inventory.warnings(today).into_iter();
        warnings.map(|w| format!("{}: {}", w.position.map_or(0, |p| p.line), w.message)).collect()
    };
    assert_snapshot!(warned(jiff::civil::date(2026, 1, 1)).join("\n"), @r"
    6: NDXA: SECI's retirement date 2026-01-01 has passed: agree a new date with its scientists, or take `seci` out when it is gone
    8: NDXC: no date is agreed for SECI to retire
    4: the group `nobody` has no instruments
    ");
    assert_eq!(warned(jiff::civil::date(2027, 1, 1)).len(), 4);
    Ok(())
}
