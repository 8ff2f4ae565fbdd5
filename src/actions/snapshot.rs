//! `snapshot`: values before and after, and their difference in the report.

use super::check::Reader;
use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::platform::ServiceStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Keeps values under a name; a second snapshot of the same name reports what differs from the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The name that ties the two together; `state` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// Process variables to read through the instrument's `caget`; a list of names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pvs: Vec<String>,
    /// Files whose text is compared, as places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<crate::paths::Place>,
    /// Services whose state is compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

/// A snapshot, as it is kept in the run's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The step that took it: taken again by that step after a crash, it is still the first one.
    by: String,
    values: BTreeMap<String, String>,
}

/// Differences that are told one by one; the others are in the result.
const TOLD: usize = 20;
/// Files are compared whole up to this size, in bytes, and by their hash beyond it.
const WHOLE: u64 = 256 << 10;

impl Snapshot {
    fn name(&self) -> &str {
        self.named.as_deref().unwrap_or("state")
    }

    fn file(&self, cx: &StepContext<'_>) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let tag = ContentHash::of(self.name().as_bytes()).short();
        cx.run_dir.join(format!("snapshot-{}-{tag}.json", self.name().chars().map(plain).collect::<String>()))
    }

    /// The values as they are now; what cannot be read is a value as well.
    fn take(&self, cx: &StepContext<'_>) -> Result<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        if !self.pvs.is_empty() {
            for (name, value) in Reader::new(cx)?.read(&self.pvs)? {
                values.insert(name, value.unwrap_or_else(|why| format!("(cannot be read: {why})")));
            }
        }
        for place in &self.files {
            values.insert(cx.path(place)?.to_string(), file_value(&cx.native(place)?)?);
        }
        for name in &self.services {
            let word = cx.platform.service(name)?.map_or("absent", ServiceStatus::word);
            values.insert(format!("service {name}"), word.to_owned());
        }
        Ok(values)
    }
}

fn file_value(path: &Path) -> Result<String> {
    let cannot = || format!("read {}", path.display());
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok("(a folder)".to_owned()),
        Ok(metadata) if metadata.len() > WHOLE => Ok(format!("({} bytes, hash {})", metadata.len(), ContentHash::of_file(path)?)),
        Ok(_) => Ok(String::from_utf8_lossy(&std::fs::read(path).cannot(cannot)?).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok("(does not exist)".to_owned()),
        Err(e) => Err(Error::io(cannot(), &e)),
    }
}

fn kept(path: &Path) -> Result<Option<Kept>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Error::new(ErrorKind::Integrity, format!("the snapshot {} cannot be read", path.display())).because(e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read {}", path.display()), &e)),
    }
}

fn keep(path: &Path, kept: &Kept) -> Result<()> {
    files::write_pretty_json(path, kept)
}

/// What differs, by name: the value before and after, where there is one. What only one of the two looked at is left out.
fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeMap<String, (String, String)> {
    let both = after.iter().filter_map(|(name, now)| Some((name, before.get(name)?, now)));
    both.filter(|(_, then, now)| then != now).map(|(n, then, now)| (n.clone(), (then.clone(), now.clone()))).collect()
}

/// A difference in one line; of longer texts the lines that only one of them has.
fn told(name: &str, before: &str, after: &str) -> String {
    if before.lines().count() <= 1 && after.lines().count() <= 1 {
        return format!("{name}: {} before, {} now", before.trim_end(), after.trim_end());
    }
    let only = |a: &str, b: &str| {
        let there: BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|l| !there.contains(l)).count()
    };
    format!("{name}: {} lines gone, {} lines new", only(before, after), only(after, before))
}

impl Perform for Snapshot {
    fn describe(&self) -> String {
        format!("snapshot {}", self.name())
    }

    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        let count = self.pvs.len() + self.files.len() + self.services.len();
        Ok(Probe { difference: Difference::None, summary: format!("would keep {count} values"), ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let path = self.file(cx);
        let values = self.take(cx)?;
        let Some(before) = kept(&path)?.filter(|k| k.by != cx.step.id) else {
            let count = values.len();
            keep(&path, &Kept { by: cx.step.id.clone(), values: values.clone() })?;
            return Ok(Applied::ok(format!("{count} values kept as `{}`", self.name())).with_result(json!({ "values": values })));
        };
        let found = differences(&before.values, &values);
        for (name, (then, now)) in found.iter().take(TOLD) {
            cx.progress.note(&told(name, then, now));
        }
        if found.len() > TOLD {
            cx.progress.note(&format!("{} more differences in `{}`", found.len() - TOLD, self.name()));
        }
        let listed: BTreeMap<_, _> =
            found.iter().map(|(name, (then, now))| (name, json!({ "before": then, "after": now }))).collect();
        let summary = match found.len() {
            0 => format!("all {} values are as before", values.len()),
            n => format!("{n} of {} values differ from before", values.len()),
        };
        Ok(Applied::ok(summary).with_result(json!({ "values": values, "differences": listed })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::testing::Bench;

    fn bench() -> Bench {
        let bench = Bench::of(json!({"snapshot": {"services": ["MYSQL80"], "files": ["settings\\a.txt"], "pvs": ["IN:X:A"]}}));
        bench.write("C:\\Instrument\\Settings\\config\\NDXTEST\\a.txt", "one\ntwo\n");
        bench.script("C:\\Instrument\\Apps\\EPICS\\caget", "echo IN:X:A $(cat value)");
        bench.write("C:\\Instrument\\Apps\\EPICS\\value", "4.2");
        bench
    }

    #[test]
    fn the_second_one_says_what_differs() {
        let mut bench = bench();
        assert_eq!(bench.apply().unwrap().summary, "3 values kept as `state`");
        bench.step.id = "prove.01.snapshot".into();
        assert_eq!(bench.apply().unwrap().summary, "all 3 values are as before");
        bench.write("C:\\Instrument\\Settings\\config\\NDXTEST\\a.txt", "one\nthree\nfour\n");
        bench.write("C:\\Instrument\\Apps\\EPICS\\value", "5");
        let applied = bench.apply().unwrap();
        assert_eq!(applied.summary, "2 of 3 values differ from before");
        assert_eq!(applied.result["differences"]["IN:X:A"], json!({"before": "4.2", "after": "5"}));
        let notes = bench.told.notes.lock().unwrap().join("\n");
        assert!(notes.contains("IN:X:A: 4.2 before, 5 now"), "{notes}");
        assert!(notes.contains("a.txt: 1 lines gone, 2 lines new"), "{notes}");
    }

    #[test]
    fn taken_again_by_the_same_step_it_is_still_the_first() {
        let bench = bench();
        bench.apply().unwrap();
        bench.write("C:\\Instrument\\Apps\\EPICS\\value", "5");
        assert_eq!(bench.apply().unwrap().summary, "3 values kept as `state`");
    }

    #[test]
    fn an_unreadable_variable_is_a_value_too() {
        let bench = Bench::of(json!({"snapshot": {"pvs": ["IN:X:A", "IN:X:B"]}}));
        bench.script(
            "C:\\Instrument\\Apps\\EPICS\\caget",
            "echo IN:X:A 1; echo 'IN:X:B *** Not connected (PV not found)'; exit 1",
        );
        let values = bench.apply().unwrap().result["values"].clone();
        assert_eq!(values["IN:X:A"], "1");
        assert_eq!(values["IN:X:B"], "(cannot be read: *** Not connected (PV not found))");
    }
}
