//! A sandbox with everything an action asks for, in memory where the agent would go elsewhere.

use super::{
    AskOperator, Content, Deadline, FetchStats, JobEnd, JobSpec, Jobs, Progress, StepContext, UndoLog, UndoRecord, Want,
};
use crate::content::{ContentHash, Manifest, ManifestEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{RunId, Unit};
use crate::paths::{Drives, RelPath, WinPath};
use crate::plan::{ComponentPlan, InstrumentPlan, LateTemplates, PlanStep};
use crate::platform::disks::{DiskFile, VirtualDisk};
use crate::platform::testing::{copy_file_rights, copy_rights};
use crate::platform::updates::{Program, Update};
use crate::platform::{Platform, ProcessInfo, ScheduledTask, ServiceControl, ServiceDefinition, ServiceStatus};
use crate::playbook::{OnFailure, Phase, RunAs};
use crate::secrets::Secrets;
use crate::units::Span;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

thread_local! {
    static RENAMES_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// From now on, this thread can do so many renames before it "is killed"; nothing lets it live.
pub(crate) fn crash_after(renames: Option<u32>) {
    RENAMES_LEFT.set(renames);
}

/// Called before each rename.
pub(crate) fn crash_point() -> Result<()> {
    match RENAMES_LEFT.get() {
        Some(0) => Err(Error::internal("killed by the test")),
        left => {
            RENAMES_LEFT.set(left.map(|n| n - 1));
            Ok(())
        }
    }
}

/// A sandbox and a plan with one step.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) plan: InstrumentPlan,
    pub(crate) step: PlanStep,
    drives: Drives,
    pub(crate) world: World,
    deadline: Deadline,
    pub(crate) cancelled: Arc<AtomicBool>,
    secrets: Secrets,
    facts: BTreeMap<String, serde_json::Value>,
    home: PathBuf,
    run_dir: PathBuf,
}

/// The fakes: what they were given, and what they give.
#[derive(Default)]
pub(crate) struct World {
    root: PathBuf,
    pub(crate) processes: Mutex<Vec<ProcessInfo>>,
    pub(crate) blobs: Mutex<HashMap<ContentHash, Vec<u8>>>,
    pub(crate) fetched: Mutex<Vec<ContentHash>>,
    pub(crate) undo: Mutex<Vec<UndoRecord>>,
    pub(crate) notes: Mutex<Vec<String>>,
    pub(crate) hand: Mutex<Vec<(Option<u64>, Option<String>)>>,
    /// Fails writes with "no space" once so many bytes were brought.
    pub(crate) room: Mutex<Option<u64>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("NDXTEST").canonicalize().unwrap_or_else(|_| {
            std::fs::create_dir(dir.path().join("NDXTEST")).unwrap();
            dir.path().join("NDXTEST").canonicalize().unwrap()
        });
        let home = root.join(".ibexdeploy");
        let run = RunId("20260101-000000-aaaaaa".to_owned());
        let run_dir = home.join("runs").join(run.as_str());
        std::fs::create_dir_all(&run_dir).unwrap();
        let place = |name: &str, path: &str| (name.to_owned(), WinPath::parse(path).unwrap());
        let plan = InstrumentPlan {
            rehearsal: true,
            places: BTreeMap::from([
                place("server", "C:\\Instrument\\Apps\\EPICS"),
                place("client", "C:\\Instrument\\Apps\\Client_E4"),
                place("backups", "C:\\data\\old"),
            ]),
            ..InstrumentPlan::empty(run, "NDXTEST", "release", "op@pc")
        };
        let step = PlanStep {
            id: "apply.01.test".to_owned(),
            name: "test".to_owned(),
            phase: Phase::Apply,
            action: super::Action::Remind(super::remind::Remind { text: String::new() }),
            run_as: RunAs::Admin,
            when: None,
            skip: None,
            each: None,
            register: None,
            retries: 0,
            timeout: Span(Duration::from_secs(600)),
            tags: Vec::new(),
            on_failure: OnFailure::Rollback,
            undo: None,
            writes: Vec::new(),
            late: LateTemplates::default(),
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        Self {
            drives: Drives::Sandbox { root: root.clone() },
            world: World { root, ..World::default() },
            deadline: Deadline::after(Duration::from_secs(600), Arc::clone(&cancelled)),
            cancelled,
            secrets: Secrets::default(),
            facts: BTreeMap::new(),
            dir,
            plan,
            step,
            home,
            run_dir,
        }
    }

    pub(crate) fn cx(&self) -> StepContext<'_> {
        StepContext {
            plan: &self.plan,
            step: &self.step,
            drives: &self.drives,
            platform: &self.world,
            undo_log: &self.world,
            progress: &self.world,
            content: &self.world,
            jobs: &self.world,
            operator: &self.world,
            secrets: &self.secrets,
            deadline: &self.deadline,
            home: &self.home,
            run_dir: &self.run_dir,
            facts: &self.facts,
        }
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// A native path below a place.
    pub(crate) fn at(&self, place: &str, below: &str) -> PathBuf {
        let base = self.drives.native(&self.plan.places[place]).unwrap();
        if below.is_empty() { base } else { RelPath::parse(below).unwrap().under(&base) }
    }

    pub(crate) fn write(&self, place: &str, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(place, below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        super::moves::set_mtime(&path, 1_700_000_000_123_456_700).unwrap();
        path
    }

    pub(crate) fn read(&self, place: &str, below: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.at(place, below)).unwrap()).into_owned()
    }

    /// Makes a component of the kit, known to the plan and to the content. A path that ends in `/` is an empty folder.
    pub(crate) fn component(&mut self, name: &str, all: &[(&str, &str)]) {
        let (folders, files): (Vec<_>, Vec<_>) = all.iter().partition(|(path, _)| path.ends_with('/'));
        let empty_folders = folders.iter().map(|(path, _)| RelPath::parse(path.trim_end_matches('/')).unwrap()).collect();
        let mut blobs = self.world.blobs.lock().unwrap();
        let mut entries: Vec<ManifestEntry> = files
            .iter()
            .map(|(path, content)| {
                let hash = ContentHash::of(content.as_bytes());
                blobs.insert(hash, content.as_bytes().to_vec());
                let path = RelPath::parse(path).unwrap();
                let executable = path.as_str().ends_with(".bat");
                ManifestEntry { path, size: content.len() as u64, hash, executable }
            })
            .collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let (version, release) = ("2".to_owned(), "2".to_owned());
        let manifest = Manifest { component: name.to_owned(), version, release, files: entries, empty_folders };
        let bytes = manifest.to_bytes().unwrap();
        let hash = ContentHash::of(&bytes);
        blobs.insert(hash, bytes);
        let plan = ComponentPlan {
            version: "2".to_owned(),
            release: "2".to_owned(),
            manifest: hash,
            files: manifest.files.len() as u64,
            bytes: manifest.total_bytes(),
        };
        self.plan.components.insert(name.to_owned(), plan);
    }

    /// Undoes everything that was written down, the newest first; gives what was left.
    pub(crate) fn undo(&self) -> Result<Vec<String>> {
        let records = self.world.undo.lock().unwrap().clone();
        let mut left = Vec::new();
        for record in records.iter().rev() {
            left.extend(record.undo(&self.cx())?.left);
        }
        Ok(left)
    }
}

/// Every path below a folder with kind, content, mode, owner, inode and time of change.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder) {
        let Ok(entry) = entry else { continue };
        let meta = entry.path().symlink_metadata().unwrap();
        let mut text = if meta.is_dir() {
            "folder".to_owned()
        } else if meta.is_symlink() {
            format!("link {}", std::fs::read_link(entry.path()).unwrap().display())
        } else {
            format!("file {}", String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()))
        };
        text.push_str(&format!(" {}", super::moves::mtime_ns(&meta)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            text.push_str(&format!(" {:o} {} {}", meta.mode(), meta.uid(), meta.ino()));
        }
        let below = entry.path().strip_prefix(folder).unwrap().display().to_string();
        found.insert(below, text);
    }
    found
}

/// The files below a folder with their content.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, String> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
        .map(|e| {
            let below = e.path().strip_prefix(folder).unwrap().display().to_string();
            (below, String::from_utf8_lossy(&std::fs::read(e.path()).unwrap()).into_owned())
        })
        .collect()
}

fn no<T>(what: &str) -> Result<T> {
    Err(Error::internal(format!("the test has no {what}")))
}

impl Content for World {
    fn fetch(&self, wants: Vec<Want>, _progress: &dyn Progress, _deadline: &Deadline) -> Result<FetchStats> {
        let mut stats = FetchStats::default();
        for want in wants {
            let blob = self.blob(&want.hash, self, &Deadline::after(Duration::from_secs(1), Arc::default()))?;
            assert_eq!(blob.len() as u64, want.size);
            if let Some(room) = self.room.lock().unwrap().as_mut() {
                let full = Error::new(ErrorKind::OutOfSpace, "no space left on device");
                *room = room.checked_sub(want.size).ok_or(full)?;
            }
            for to in &want.to {
                std::fs::write(to, &blob).unwrap();
            }
            stats.files += 1;
            stats.fetched_bytes += want.size;
            self.fetched.lock().unwrap().push(want.hash);
        }
        Ok(stats)
    }

    fn blob(&self, hash: &ContentHash, _progress: &dyn Progress, _deadline: &Deadline) -> Result<Vec<u8>> {
        self.blobs.lock().unwrap().get(hash).cloned().ok_or_else(|| Error::new(ErrorKind::TimedOut, "no such content"))
    }
}

impl UndoLog for World {
    fn intend(&self, record: UndoRecord) -> Result<()> {
        // As in the journal: through its written form.
        let text = serde_json::to_string(&record).unwrap();
        self.undo.lock().unwrap().push(serde_json::from_str(&text).unwrap());
        Ok(())
    }
}

impl Progress for World {
    fn waiting(&self, _what: &str, _elapsed: Duration, _limit: Duration) {}
    fn advanced(&self, _done: u64, _total: u64, _unit: Unit) {}
    fn output(&self, _line: &str) {}
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
    fn remind(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
    fn hand_changes(&self, _component: &str, files: Option<u64>, archive: Option<&str>) {
        self.hand.lock().unwrap().push((files, archive.map(str::to_owned)));
    }
}

impl Jobs for World {
    fn run(&self, _job: JobSpec, _progress: &dyn Progress, _deadline: &Deadline) -> Result<JobEnd> {
        no("jobs")
    }
}

impl AskOperator for World {
    fn ask(&self, _question: &str, _deadline: &Deadline) -> Result<bool> {
        no("operator")
    }
}

impl Platform for World {
    fn name(&self) -> &'static str {
        "sandbox"
    }
    fn host_name(&self) -> String {
        "NDXTEST".to_owned()
    }
    fn boot_id(&self) -> Result<String> {
        Ok("1".to_owned())
    }
    fn reboot(&self, _reason: &str) -> Result<()> {
        no("reboot")
    }
    fn pending_reboot(&self) -> Result<Option<String>> {
        Ok(None)
    }
    fn service(&self, _name: &str) -> Result<Option<ServiceStatus>> {
        Ok(None)
    }
    fn control_service(&self, _name: &str, _control: ServiceControl) -> Result<()> {
        no("services")
    }
    fn service_definition(&self, _name: &str) -> Result<Option<ServiceDefinition>> {
        Ok(None)
    }
    fn register_service(&self, _definition: &ServiceDefinition) -> Result<()> {
        no("services")
    }
    fn remove_service(&self, _name: &str) -> Result<()> {
        no("services")
    }
    fn processes(&self) -> Result<Vec<ProcessInfo>> {
        Ok(self.processes.lock().unwrap().clone())
    }
    fn kill(&self, _pid: u32) -> Result<()> {
        no("processes")
    }
    fn task(&self, _name: &str) -> Result<Option<ScheduledTask>> {
        Ok(None)
    }
    fn register_task(&self, _task: &ScheduledTask) -> Result<()> {
        no("tasks")
    }
    fn remove_task(&self, _name: &str) -> Result<()> {
        no("tasks")
    }
    fn logged_on(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn free_space(&self, _path: &Path) -> Result<u64> {
        Ok(1 << 40)
    }
    fn volume_of(&self, _path: &Path) -> Result<u64> {
        Ok(1)
    }
    fn memory(&self) -> Result<u64> {
        Ok(1 << 34)
    }
    fn connect_share(&self, _share: &WinPath, _user: &str, _password: &str) -> Result<Box<dyn std::any::Any + Send + Sync>> {
        no("shares")
    }
    fn make_link(&self, at: &Path, to: &Path) -> Result<()> {
        std::os::unix::fs::symlink(to, at).map_err(|e| Error::io("link", &e))
    }
    fn virtual_disk(&self, _file: &DiskFile) -> Result<VirtualDisk> {
        no("disks")
    }
    fn attach_disk(&self, _file: &DiskFile, _at: Option<&Path>) -> Result<()> {
        no("disks")
    }
    fn detach_disk(&self, _file: &DiskFile) -> Result<()> {
        no("disks")
    }
    fn copy_rights(&self, like: &Path, path: &Path) -> Result<()> {
        copy_rights(like, path)
    }
    fn copy_file_rights(&self, like: &Path, file: &Path, executable: bool) -> Result<()> {
        copy_file_rights(like, file, executable)
    }
    fn flush_volume(&self, _path: &Path) -> Result<()> {
        Ok(())
    }
    fn offered_updates(&self) -> Result<Vec<Update>> {
        no("updates")
    }
    fn install_update(&self, _id: &str) -> Result<i32> {
        no("updates")
    }
    fn installed_programs(&self) -> Result<Vec<Program>> {
        Ok(Vec::new())
    }
    fn shell_line(&self, line: &str) -> (String, Vec<String>) {
        ("sh".to_owned(), vec!["-c".to_owned(), line.to_owned()])
    }
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn background_priority(&self, _on: bool) {}
    fn windows_path(&self, native: &Path) -> Option<WinPath> {
        Drives::Sandbox { root: self.root.clone() }.windows(native)
    }
}
