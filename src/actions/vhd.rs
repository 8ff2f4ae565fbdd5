//! `vhd`: a virtual disk, attached or detached, here or on the Hyper-V host.

use super::moves::shown;
use super::undo::kept_before;
use super::{Applied, Difference, Perform, Probe, StepContext, UndoRecord, Undone};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::Place;
use crate::platform::disks::{DiskFile, VirtualDisk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Attaches or detaches a virtual disk: as a disk of this machine, or, with `host`, as one of the virtual machine that this
/// machine is. With `instead_of` it takes the place of another one.
///
/// What a disk is attached to by this machine itself lasts until the machine restarts; a host's lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vhd {
    /// The disk's file, `.vhdx` or `.vhd`: on this machine, or on the host.
    pub file: Place,
    #[serde(default)]
    pub state: VhdState,
    /// The folder that shows the disk's largest volume. It must be empty, or is made. Without it Windows gives drive letters. Not
    /// with `host`: Windows shows a volume that it knows where it showed it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// The file of the disk whose place it takes, which is detached first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<Place>,
    /// The Hyper-V host, as the instrument reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// With `host`: the virtual machine's name there; the instrument's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// What a disk is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VhdState {
    #[default]
    Attached,
    Detached,
}

/// A disk as it is to be, or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Disk {
    file: DiskFile,
    attached: bool,
    /// The folder that shows it: a native path.
    at: Option<PathBuf>,
}

impl Disk {
    /// As it was found. Drives do not count: Windows gives a disk the same letters again.
    fn found(&self, now: &VirtualDisk) -> Self {
        let at = now.at.iter().find(|path| path.parent().is_some()).cloned();
        Self { file: self.file.clone(), attached: now.attached, at }
    }

    fn is(&self, cx: &StepContext<'_>, now: &VirtualDisk) -> bool {
        let shows = |at: &PathBuf| now.at.iter().any(|shown| same(cx, shown, at));
        self.attached == now.attached && (!self.attached || self.at.as_ref().is_none_or(shows))
    }

    fn attach(&self, cx: &StepContext<'_>) -> Result<()> {
        if let Some(at) = &self.at {
            std::fs::create_dir_all(at).cannot(|| format!("make {}", shown(cx, at)))?;
        }
        cx.platform.attach_disk(&self.file, self.at.as_deref())
    }
}

/// True for two native paths of one folder, however they are written.
fn same(cx: &StepContext<'_>, one: &Path, other: &Path) -> bool {
    match (cx.platform.windows_path(one), cx.platform.windows_path(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// What is known of disks, in their order. A host takes a while to say it.
fn look(cx: &StepContext<'_>, disks: &[Disk]) -> Result<Vec<VirtualDisk>> {
    disks.iter().map(|disk| cx.platform.virtual_disk(&disk.file)).collect()
}

fn are(cx: &StepContext<'_>, disks: &[Disk], now: &[VirtualDisk]) -> bool {
    disks.iter().zip(now).all(|(disk, now)| disk.is(cx, now))
}

/// Makes disks what they are to be: what is in the way goes first.
fn bring(cx: &StepContext<'_>, disks: &[Disk], now: &[VirtualDisk]) -> Result<()> {
    let wrong = || disks.iter().zip(now).filter(|(disk, now)| !disk.is(cx, now));
    wrong().filter(|(_, now)| now.attached).try_for_each(|(disk, _)| cx.platform.detach_disk(&disk.file))?;
    wrong().filter(|(disk, _)| disk.attached).try_for_each(|(disk, _)| disk.attach(cx))
}

impl Vhd {
    fn disk_file(&self, cx: &StepContext<'_>, place: &Place) -> Result<DiskFile> {
        let path = cx.path(place)?;
        Ok(match &self.host {
            None => DiskFile::Here(cx.drives.native(&path)?),
            Some(host) => {
                let machine = self.machine.clone().unwrap_or_else(|| cx.plan.instrument.clone());
                DiskFile::OnHost { host: host.clone(), machine, path }
            }
        })
    }

    /// The disk as it is to be, and the one whose place it takes.
    fn wanted(&self, cx: &StepContext<'_>) -> Result<Vec<Disk>> {
        let at = self.at.as_ref().map(|at| cx.native(at)).transpose()?;
        let attached = self.state == VhdState::Attached;
        let mut disks = vec![Disk { file: self.disk_file(cx, &self.file)?, attached, at }];
        if let Some(other) = &self.instead_of {
            disks.push(Disk { file: self.disk_file(cx, other)?, attached: false, at: None });
        }
        Ok(disks)
    }

    /// Why it cannot be done as things stand.
    fn obstacle(&self, cx: &StepContext<'_>, wanted: &[Disk], now: &[VirtualDisk]) -> Option<Error> {
        if let Some((disk, _)) = wanted.iter().zip(now).find(|(disk, now)| disk.attached && !now.exists) {
            let error = Error::step_failed(format!("there is no disk {}", disk.file));
            return Some(error.next("correct `file`, or bring it in a step before this one"));
        }
        let at = wanted.iter().find_map(|disk| disk.at.as_ref())?;
        let holds_something = || std::fs::read_dir(at).is_ok_and(|mut entries| entries.next().is_some());
        if now.iter().flat_map(|disk| &disk.at).any(|path| same(cx, path, at)) || !holds_something() {
            return None;
        }
        let error =
            Error::new(ErrorKind::Refused, format!("{} is not empty, and a disk would hide what is in it", shown(cx, at)));
        Some(error.next("move what is in it to its new place first, or name another folder under `at`"))
    }
}

impl Perform for Vhd {
    fn describe(&self) -> String {
        let what = match self.state {
            VhdState::Attached => "attach",
            VhdState::Detached => "detach",
        };
        let host = self.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        format!("{what} the disk {}{host}", self.file)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let wanted = self.wanted(cx)?;
        let now = look(cx, &wanted)?;
        if are(cx, &wanted, &now) {
            return Ok(Probe { difference: Difference::None, summary: "already as wanted".to_owned(), ..Probe::default() });
        }
        let summary = match self.obstacle(cx, &wanted, &now) {
            // A step before this one may bring it.
            Some(error) if error.kind() == ErrorKind::StepFailed => error.details().message.clone(),
            Some(error) => return Err(error),
            None if self.state == VhdState::Attached => "to be attached".to_owned(),
            None => "to be detached".to_owned(),
        };
        Ok(Probe { difference: Difference::Some, summary, ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let wanted = self.wanted(cx)?;
        let kept = cx.data_file(&format!("{}.disks.json", ContentHash::of(self.file.as_str().as_bytes()).short()));
        let now = look(cx, &wanted)?;
        if !kept.exists() {
            if are(cx, &wanted, &now) {
                return Ok(Applied::ok("already as wanted"));
            }
            if let Some(error) = self.obstacle(cx, &wanted, &now) {
                return Err(error);
            }
            let before: Vec<Disk> = wanted.iter().zip(&now).map(|(disk, now)| disk.found(now)).collect();
            files::write_json(&kept, &before)?;
        }
        let hash = ContentHash::of_file(&kept)?;
        cx.undo_log.intend(UndoRecord::Vhd(VhdUndo { kept, hash }))?;
        bring(cx, &wanted, &now)?;
        if !are(cx, &wanted, &look(cx, &wanted)?) {
            return Err(Error::step_failed(format!("the disk {} is not as it was to be", wanted[0].file))
                .next("look at it in Disk Management, or on the host; something of the site may attach disks as well"));
        }
        if self.host.is_none() && self.state == VhdState::Attached {
            cx.progress
                .remind(&format!("{} is attached until the machine restarts; see that the site attaches it then", self.file));
        }
        let done = if self.state == VhdState::Attached { "attached" } else { "detached" };
        Ok(Applied::changed(format!("{} is {done}", wanted[0].file)))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VhdUndo {
    /// What was attached where before.
    kept: PathBuf,
    hash: ContentHash,
}

impl VhdUndo {
    /// Attaches and detaches until all is as it was.
    ///
    /// # Errors
    /// When the system or the host refuses, or what was kept is damaged.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let before: Vec<Disk> = kept_before(&self.kept, self.hash)?;
        bring(cx, &before, &look(cx, &before)?)?;
        let attached: Vec<String> = before.iter().filter(|disk| disk.attached).map(|disk| disk.file.to_string()).collect();
        let summary = match attached.is_empty() {
            true => "the disk is detached".to_owned(),
            false => format!("{} is attached as before", attached.join(", ")),
        };
        Ok(Undone { summary, left: Vec::new() })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::events::Outcome;
    use crate::platform::testing::Bench;
    use serde_json::{Value, json};

    const OLD: &str = "C:\\Disks\\ibex 26.5.vhdx";
    const NEW: &str = "C:\\Disks\\ibex 26.9.vhdx";
    const AT: &str = "C:\\Instrument\\Apps";

    /// Two disks, the older of which is attached at its place.
    fn bench(step: Value) -> Bench {
        let mut bench = Bench::of(json!({"vhd": {"file": OLD, "at": AT}}));
        for (disk, version) in [(OLD, "26.5.0"), (NEW, "26.9.0")] {
            bench.write(disk, "a disk");
            bench.write(&format!("{disk}.content\\EPICS\\VERSION.txt"), version);
        }
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        bench.told.intents.lock().unwrap().clear();
        bench.set(json!({"vhd": step}));
        bench.step.id = "second".into();
        bench
    }

    fn version(bench: &Bench) -> Option<String> {
        std::fs::read_to_string(bench.native(&format!("{AT}\\EPICS\\VERSION.txt"))).ok()
    }

    #[test]
    fn a_disk_takes_the_place_of_another_and_gives_it_back() {
        let bench = bench(json!({"file": NEW, "at": AT, "instead_of": OLD}));
        assert_eq!(version(&bench).as_deref(), Some("26.5.0"));
        assert_eq!(bench.probe().unwrap().summary, "to be attached");
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        assert_eq!(version(&bench).as_deref(), Some("26.9.0"));
        assert_eq!(bench.probe().unwrap().difference, Difference::None);
        let undone = bench.undo();
        assert!(undone[0].summary.contains("ibex 26.5.vhdx is attached as before"), "{undone:?}");
        assert_eq!(version(&bench).as_deref(), Some("26.5.0"));
    }

    #[test]
    fn a_worker_that_dies_in_between_finds_its_way_both_ways() {
        let bench = bench(json!({"file": NEW, "at": AT, "instead_of": OLD}));
        bench.apply().unwrap();
        // It died when the old one was away and the new one not yet there.
        bench.platform.detach_disk(&DiskFile::Here(bench.native(NEW))).unwrap();
        assert_eq!(version(&bench), None);
        bench.apply().unwrap();
        assert_eq!(version(&bench).as_deref(), Some("26.9.0"));
        bench.platform.detach_disk(&DiskFile::Here(bench.native(NEW))).unwrap();
        bench.undo();
        assert_eq!(version(&bench).as_deref(), Some("26.5.0"));
    }

    #[test]
    fn a_disk_is_detached_and_comes_back_where_it_was() {
        let bench = bench(json!({"file": OLD, "state": "detached"}));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        assert!(bench.native(AT).is_dir() && version(&bench).is_none());
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        bench.undo();
        assert_eq!(version(&bench).as_deref(), Some("26.5.0"));
    }

    #[test]
    fn nothing_is_hidden_and_nothing_is_detached_for_a_disk_that_is_not_there() {
        let mut bench = bench(json!({"file": NEW, "at": "C:\\full"}));
        bench.write("C:\\full\\settings.xml", "x");
        for error in [bench.probe().unwrap_err(), bench.apply().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains("C:\\full is not empty"), "{error}");
        }
        bench.set(json!({"vhd": {"file": "C:\\Disks\\no.vhdx", "at": AT, "instead_of": OLD}}));
        assert!(bench.probe().unwrap().summary.contains("there is no disk"));
        assert!(bench.apply().unwrap_err().to_string().contains("no.vhdx"));
        assert_eq!(version(&bench).as_deref(), Some("26.5.0"));
        assert!(bench.told.intents.lock().unwrap().is_empty());
    }

    #[test]
    fn a_host_attaches_to_the_machine_that_the_instrument_is() {
        let mut bench = Bench::new();
        let disk = |name: &str| bench.root.join("hosts/NDHV1/d/VM").join(name);
        for name in ["old.vhdx", "new.vhdx"] {
            std::fs::create_dir_all(disk(name).parent().unwrap()).unwrap();
            std::fs::write(disk(name), "a disk").unwrap();
        }
        let step = |file: &str| json!({"vhd": {"file": format!("D:\\VM\\{file}"), "host": "NDHV1"}});
        bench.set(step("old.vhdx"));
        bench.apply().unwrap();
        let mut swap = step("new.vhdx");
        swap["vhd"]["instead_of"] = "D:\\VM\\old.vhdx".into();
        bench.set(swap);
        bench.step.id = "second".into();
        bench.told.intents.lock().unwrap().clear();
        let done = bench.apply().unwrap();
        assert!(done.summary.contains("D:\\VM\\new.vhdx on NDHV1 is attached"), "{}", done.summary);
        let attached = |name: &str| {
            let path = crate::paths::WinPath::parse(&format!("D:\\VM\\{name}")).unwrap();
            let file = DiskFile::OnHost { host: "NDHV1".into(), machine: bench.plan.instrument.clone(), path };
            bench.platform.virtual_disk(&file).unwrap().attached
        };
        assert_eq!([attached("old.vhdx"), attached("new.vhdx")], [false, true]);
        bench.undo();
        assert_eq!([attached("old.vhdx"), attached("new.vhdx")], [true, false]);
        // A host's disk lasts, and nobody is reminded of anything.
        assert!(bench.told.reminders.lock().unwrap().is_empty());
    }
}
