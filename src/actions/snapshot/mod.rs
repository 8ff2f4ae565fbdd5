//! `snapshot`: values before and after, and their difference in the report.

mod difference;
mod names;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use super::check::{Reader, decode};
use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::content::{ContentHash, HashCache, TreeIndex};
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::paths::{PathPatterns, Place};
use crate::platform::ServiceStatus;
use difference::{differences, not_the_same, told};
use names::expanded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Keeps values under a name; a second snapshot of the same name reports what differs from the first. Values that hold
/// zlib-compressed JSON as hexadecimal digits, as the block server's do, are kept and compared as that JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The name that ties the two together; `state` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// Process variables to read through the instrument's `caget`. `{01..08}` in a name stands for each of these numbers;
    /// names made so need not exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pvs: Vec<String>,
    /// Further process variables, whose names another one lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listed>,
    /// Files whose text is compared, and folders whose files are, by their hashes; as places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Place>,
    /// Paths inside such folders that do not count. Patterns relative to the folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// Services whose state is compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Numbers that differ by no more than this part of the larger one count as the same, for example `0.001`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// A folder in which the values are kept for people as well, in a text file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<Place>,
    /// The second snapshot fails when anything differs from the first.
    #[serde(default)]
    pub same: bool,
}

/// Process variables that are named by the value of another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The one with the list: JSON, also compressed, or names with white space between.
    pub by: String,
    /// What stands before each name of the list, for example `IN:LARMOR:CS:SB:`.
    #[serde(default)]
    pub prefix: String,
}

/// A snapshot, as it is kept in the run's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The step that took it: taken again by that step after a crash, it is still the first one.
    by: String,
    values: Values,
}

/// Values by name, as text.
type Values = BTreeMap<String, String>;

/// Differences that are told one by one; the others are in the result.
const TOLD: usize = 20;
/// Files are compared whole up to this size, in bytes, and by their hash beyond it.
const WHOLE: u64 = 256 << 10;
/// Names that one call of `caget` is given: a command line on Windows has an end.
const AT_ONCE: usize = 200;
/// The value of a name that need not exist, and does not.
const NOT_THERE: &str = "(not there)";
/// How the value of something that cannot be read begins.
const UNREADABLE: &str = "(cannot be read: ";

impl Snapshot {
    fn name(&self) -> &str {
        self.named.as_deref().unwrap_or("state")
    }

    /// The name as a part of file names.
    fn file_part(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        self.name().chars().map(plain).collect()
    }

    fn file(&self, cx: &StepContext<'_>) -> PathBuf {
        let tag = ContentHash::of(self.name().as_bytes()).short();
        cx.run_dir.join(format!("snapshot-{}-{tag}.json", self.file_part()))
    }

    /// The values as they are now; what cannot be read is a value as well.
    fn take(&self, cx: &StepContext<'_>) -> Result<Values> {
        let mut values = Values::new();
        self.read_pvs(cx, &mut values)?;
        for place in &self.files {
            values.insert(cx.path(place)?.to_string(), self.file_value(&cx.native(place)?)?);
        }
        for name in &self.services {
            let word = cx.platform.service(name)?.map_or("absent", ServiceStatus::word);
            values.insert(format!("service {name}"), word.to_owned());
        }
        Ok(values)
    }

    fn read_pvs(&self, cx: &StepContext<'_>, values: &mut Values) -> Result<()> {
        // By name, whether it may be missing.
        let mut wanted: BTreeMap<String, bool> = BTreeMap::new();
        for name in &self.pvs {
            let all = expanded(name)?;
            let may_be_missing = all.len() > 1;
            wanted.extend(all.into_iter().map(|name| (name, may_be_missing)));
        }
        if wanted.is_empty() && self.listed.is_none() {
            return Ok(());
        }
        let reader = Reader::new(cx)?;
        if let Some(listed) = &self.listed {
            let list = read(&reader, std::slice::from_ref(&listed.by))?.remove(&listed.by).unwrap_or_else(|| Err(String::new()));
            let names = list.as_deref().map_or_else(|_| Vec::new(), names::in_list);
            wanted.extend(names.into_iter().map(|name| (format!("{}{name}", listed.prefix), false)));
            values.insert(listed.by.clone(), list.unwrap_or_else(unreadable));
        }
        let names: Vec<String> = wanted.keys().cloned().collect();
        for (name, value) in read(&reader, &names)? {
            let missing = wanted.get(&name).copied().unwrap_or(false);
            let value = value.unwrap_or_else(|why| if missing { NOT_THERE.to_owned() } else { unreadable(why) });
            values.insert(name, value);
        }
        Ok(())
    }

    fn file_value(&self, path: &Path) -> Result<String> {
        let cannot = || format!("read {}", path.display());
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => folder_value(path, &PathPatterns::new(&self.except)?),
            Ok(metadata) if metadata.len() > WHOLE => {
                Ok(format!("({} bytes, hash {})", metadata.len(), ContentHash::of_file(path)?))
            }
            Ok(_) => Ok(String::from_utf8_lossy(&std::fs::read(path).cannot(cannot)?).into_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok("(does not exist)".to_owned()),
            Err(e) => Err(Error::io(cannot(), &e)),
        }
    }

    /// Writes the values where people find them after the deployment.
    fn save(&self, cx: &StepContext<'_>, values: &Values) -> Result<Option<String>> {
        let Some(folder) = &self.save else { return Ok(None) };
        let native = cx.native(folder)?;
        std::fs::create_dir_all(&native).cannot(|| format!("make the folder {}", native.display()))?;
        let name = format!("{}_{}_{}.txt", cx.plan.run, self.file_part(), cx.step.phase);
        let mut text = format!("# {} of {}, {}, run {}\r\n", self.name(), cx.plan.instrument, cx.step.name, cx.plan.run);
        for (name, value) in values.iter().filter(|(_, value)| *value != NOT_THERE) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{name} = {}\r\n", value.trim_end());
        }
        files::write(&native.join(&name), text.as_bytes())?;
        Ok(Some(format!("{}\\{name}", cx.path(folder)?)))
    }
}

fn unreadable(why: String) -> String {
    format!("{UNREADABLE}{why})")
}

/// The values of process variables, what is compressed unpacked.
fn read(reader: &Reader<'_>, names: &[String]) -> Result<BTreeMap<String, Result<String, String>>> {
    let mut all = BTreeMap::new();
    for names in names.chunks(AT_ONCE) {
        let readable = |value: String| match value.starts_with("78") {
            // Every zlib stream begins so; whatever else does is no such stream.
            true => decode(&value).unwrap_or(value),
            false => value,
        };
        all.extend(reader.read(names)?.into_iter().map(|(name, value)| (name, value.map(readable))));
    }
    Ok(all)
}

/// The files of a folder, a line each.
fn folder_value(folder: &Path, except: &PathPatterns) -> Result<String> {
    let index = TreeIndex::build(folder, &HashCache::in_memory(), except)?;
    Ok(index.entries.iter().map(|(path, entry)| format!("{path} {}\n", entry.hash)).collect())
}

impl Perform for Snapshot {
    fn describe(&self) -> String {
        format!("snapshot {}", self.name())
    }

    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        let mut count = self.files.len() + self.services.len();
        for name in &self.pvs {
            count += expanded(name)?.len();
        }
        let listed = self.listed.as_ref().map_or_else(String::new, |l| format!(", and those that {} lists", l.by));
        let summary = format!("would keep {count} values{listed}");
        Ok(Probe { difference: Difference::None, summary, ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let path = self.file(cx);
        let values = self.take(cx)?;
        let saved = self.save(cx, &values)?.map_or_else(String::new, |file| format!(", and in {file}"));
        let before = files::read_json::<Kept>(&path)?;
        let Some(before) = before.filter(|kept| kept.by != cx.step.id) else {
            files::write_pretty_json(&path, &Kept { by: cx.step.id.clone(), values: values.clone() })?;
            let summary = format!("{} values kept as `{}`{saved}", values.len(), self.name());
            return Ok(Applied::ok(summary).with_result(json!({ "values": values })));
        };
        let found = differences(&before.values, &values, self.tolerance.unwrap_or(0.0));
        for (name, (then, now)) in found.iter().take(TOLD) {
            cx.progress.note(&told(name, then, now));
        }
        if found.len() > TOLD {
            cx.progress.note(&format!("{} more differences in `{}`", found.len() - TOLD, self.name()));
        }
        if self.same && !found.is_empty() {
            return Err(not_the_same(self.name(), &found, TOLD));
        }
        let listed: BTreeMap<_, _> =
            found.iter().map(|(name, (then, now))| (name, json!({ "before": then, "after": now }))).collect();
        let summary = match found.len() {
            0 => format!("all {} values are as before", values.len()),
            n => format!("{n} of {} values differ from before", values.len()),
        };
        Ok(Applied::ok(summary + &saved).with_result(json!({ "values": values, "differences": listed })))
    }
}
