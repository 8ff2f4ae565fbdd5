//! What is found out about an instrument before its plan runs.
//!
//! Every fact is always there; one that does not apply or cannot be found out is null, so that strict templates
//! may ask for it. Each has one producer:
//!
//! | fact | value | found by |
//! | --- | --- | --- |
//! | `active_system` | `ibex`, `mini`, `seci`, `none` | programs under the place `server` (mini: with `startup.txt` in the settings' configurations); else programs under the place `seci` or of SECI's names. `isisicp.exe` counts for neither |
//! | `boot_id` | text | [`Platform::boot_id`] |
//! | `dae_type` | `DAE2`, `DAE3` | `DAEType` in `C:\LabVIEW Modules\dae\icp_config.xml`: 1 and 2 are DAE2, 3 and 4 are DAE3 |
//! | `disk` | `{C: bytes}` | free space of each drive that a place lies on |
//! | `galil` | `old`, `new` | `GALIL_OLD.txt` in `ioc\master\GALIL` or `ioc\master\GALIL-OLD` of the place `server` |
//! | `hotfixes` | what each installed hotfix asks for, by its name | the agent's own list |
//! | `logged_on` | list of users | [`Platform::logged_on`] |
//! | `memory` | bytes | [`Platform::memory`] |
//! | `pending_reboot` | why | [`Platform::pending_reboot`] |
//! | `seci_present` | true, false | the place `seci` exists |
//! | `versions` | `{server, client, python}` | the first word of `VERSION.txt` in the place of that name |

use super::systems::{ActiveSystem, SECI_PROGRAMS, SHARED_PROGRAM};
use super::{Platform, ProcessInfo};
use crate::error::{IoContext, Result};
use crate::files;
use crate::paths::{Drives, Place, WinPath};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The places whose version is a fact.
const VERSIONED: [&str; 3] = ["server", "client", "python"];

const ICP_CONFIG: &str = "C:\\LabVIEW Modules\\dae\\icp_config.xml";

/// Gathers all facts. What cannot be found out is null and written to the log, never an error: the checks of the
/// playbook decide what is needed.
pub fn gather(platform: &dyn Platform, drives: &Drives, places: &BTreeMap<String, WinPath>) -> BTreeMap<String, Value> {
    let look = Look { platform, drives, places };
    let facts: [(&str, Result<Value>); 10] = [
        ("active_system", look.systems().map(|systems| Value::from(systems.active().word()))),
        ("boot_id", platform.boot_id().map(Value::from)),
        ("dae_type", look.dae_type()),
        ("disk", look.disk()),
        ("galil", look.galil()),
        ("logged_on", platform.logged_on().map(Value::from)),
        ("memory", platform.memory().map(Value::from)),
        ("pending_reboot", platform.pending_reboot().map(Value::from)),
        ("seci_present", Ok(Value::from(look.below("seci", "").is_some_and(|p| p.exists())))),
        ("versions", Ok(look.versions())),
    ];
    let or_null = |(name, value): (&str, Result<Value>)| {
        let value = value.unwrap_or_else(|error| {
            tracing::warn!(fact = name, %error, "cannot be found out");
            Value::Null
        });
        (name.to_owned(), value)
    };
    facts.into_iter().map(or_null).collect()
}

/// The first word of the `VERSION.txt` in a folder; nothing when there is none.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn version_in(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("VERSION.txt");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(files::first_word_of(&bytes)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).cannot(|| format!("read {}", path.display())),
    }
}

/// Which of the two control systems run on a machine, by a program of each.
#[derive(Debug, Clone)]
pub struct Systems {
    /// A program under the place `server`.
    pub server: Option<ProcessInfo>,
    /// Where the server runs, it runs in mini mode: only the IOCs that `startup.txt` in the settings names.
    pub mini: bool,
    /// A program under the place `seci`, or one of SECI's names.
    pub seci: Option<ProcessInfo>,
}

impl Systems {
    /// What runs at this moment.
    ///
    /// # Errors
    /// When the system does not tell its programs.
    pub fn now(platform: &dyn Platform, drives: &Drives, places: &BTreeMap<String, WinPath>) -> Result<Self> {
        Look { platform, drives, places }.systems()
    }

    /// The value of the fact `active_system`.
    pub fn active(&self) -> ActiveSystem {
        match (&self.server, &self.seci) {
            (Some(_), _) if self.mini => ActiveSystem::Mini,
            (Some(_), _) => ActiveSystem::Ibex,
            (None, Some(_)) => ActiveSystem::Seci,
            (None, None) => ActiveSystem::None,
        }
    }

    /// SECI runs beside all of IBEX. Both would talk to the same devices, so that this is never meant; beside a few IOCs, in
    /// mini mode, it is.
    pub fn both(&self) -> bool {
        self.server.is_some() && self.seci.is_some() && !self.mini
    }
}

struct Look<'a> {
    platform: &'a dyn Platform,
    drives: &'a Drives,
    places: &'a BTreeMap<String, WinPath>,
}

impl Look<'_> {
    /// The native path of something below a place, when the inventory names that place.
    fn below(&self, place: &str, rest: &str) -> Option<PathBuf> {
        let place = if rest.is_empty() { place.to_owned() } else { format!("{place}\\{rest}") };
        let path = Place(place).resolve(self.places).ok()?;
        self.drives.native(&path).ok()
    }

    fn systems(&self) -> Result<Systems> {
        let mut processes = self.platform.processes()?;
        processes.retain(|p| !p.name.eq_ignore_ascii_case(SHARED_PROGRAM));
        let runs_under = |place: &str| {
            let folder = self.below(place, "")?;
            let folder = folder.canonicalize().unwrap_or(folder);
            processes.iter().find(|p| p.runs_below(&folder)).cloned()
        };
        let is_seci = |p: &&ProcessInfo| SECI_PROGRAMS.iter().any(|name| p.name.eq_ignore_ascii_case(name));
        let named = || processes.iter().find(is_seci).cloned();
        Ok(Systems {
            server: runs_under("server"),
            mini: self.below("settings", "configurations\\startup.txt").is_some_and(|p| p.exists()),
            seci: runs_under("seci").or_else(named),
        })
    }

    fn dae_type(&self) -> Result<Value> {
        let path = self.drives.native(&WinPath::parse(ICP_CONFIG)?)?;
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
            Err(e) => return Err(e).cannot(|| format!("read {}", path.display())),
        };
        Ok(match dae_number(&text) {
            Some(1 | 2) => Value::from("DAE2"),
            Some(3 | 4) => Value::from("DAE3"),
            _ => Value::Null,
        })
    }

    fn disk(&self) -> Result<Value> {
        let mut free = Map::new();
        for path in self.places.values() {
            let Some(drive) = path.drive().map(|d| d.to_ascii_uppercase().to_string()) else { continue };
            if !free.contains_key(&drive) {
                let native = self.drives.native(&WinPath::parse(&format!("{drive}:\\"))?)?;
                free.insert(drive, json!(self.platform.free_space(&native)?));
            }
        }
        Ok(Value::Object(free))
    }

    fn galil(&self) -> Result<Value> {
        let there = |below: &str| self.below("server", below).is_some_and(|p| p.exists());
        let old = there("ioc\\master\\GALIL\\GALIL_OLD.txt") || there("ioc\\master\\GALIL-OLD\\GALIL_OLD.txt");
        Ok(match old {
            true => Value::from("old"),
            false if there("ioc\\master\\GALIL") => Value::from("new"),
            false => Value::Null,
        })
    }

    fn versions(&self) -> Value {
        let found = VERSIONED.iter().map(|place| {
            let version = self.below(place, "").and_then(|folder| version_in(&folder).ok().flatten());
            ((*place).to_owned(), Value::from(version))
        });
        Value::Object(found.collect())
    }
}

/// The number behind the name `DAEType`: as the next element's text (`<Name>DAEType</Name><Val>3</Val>`, LabVIEW's
/// form) or the element's own.
fn dae_number(xml: &str) -> Option<u32> {
    let (_, after) = xml.split_once("DAEType")?;
    let texts = after.split('>').skip(1).map(|t| t.split('<').next().unwrap_or_default().trim());
    texts.take(4).find_map(|t| t.parse().ok())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::platform::testing::Bench;

    #[test]
    fn facts_come_from_the_instruments_files() {
        let bench = Bench::new();
        bench.write("C:\\Instrument\\Apps\\EPICS\\VERSION.txt", "\u{feff}26.8.0 built on a Tuesday\r\n");
        bench.write("C:\\Instrument\\Apps\\EPICS\\ioc\\master\\GALIL\\GALIL_OLD.txt", "");
        bench.write(ICP_CONFIG, "<I32>\n<Name>DAEType</Name>\n<Val>3</Val>\n</I32>");
        let facts = bench.facts();
        assert_eq!(facts["versions"], json!({"server": "26.8.0", "client": null, "python": null}));
        assert_eq!(facts["galil"], json!("old"));
        assert_eq!(facts["dae_type"], json!("DAE3"));
        assert_eq!(facts["active_system"], json!("none"));
        assert_eq!(facts["logged_on"], json!(["spudulike"]));
        assert_eq!(facts["pending_reboot"], Value::Null);
        assert!(facts["disk"]["C"].as_u64().is_some_and(|n| n > 0));
    }

    #[test]
    fn what_is_not_there_is_null_and_never_missing() {
        let facts = Bench::new().facts();
        for name in ["dae_type", "galil"] {
            assert_eq!(facts.get(name), Some(&Value::Null), "{name}");
        }
        assert_eq!(facts["seci_present"], json!(false));
    }

    #[test]
    fn a_program_under_the_server_means_ibex() {
        let bench = Bench::new();
        let _program = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
        assert_eq!(bench.facts()["active_system"], json!("ibex"));
        bench.write("C:\\Instrument\\Settings\\config\\NDXTEST\\configurations\\startup.txt", "GALIL_01\n");
        assert_eq!(bench.facts()["active_system"], json!("mini"));
    }

    #[test]
    fn both_forms_of_the_dae_type_are_read() {
        assert_eq!(dae_number("<DAEType>2</DAEType>"), Some(2));
        assert_eq!(dae_number("<Name>DAEType</Name> <Val> 4 </Val>"), Some(4));
        assert_eq!(dae_number("<Name>DAEType</Name> <Val></Val>"), None);
        assert_eq!(dae_number("<x/>"), None);
    }
}
