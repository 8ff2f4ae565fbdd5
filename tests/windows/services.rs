//! A service of the site, under the machine's own service manager: stopped, its program replaced, and started again.

use crate::machines::{Machines, NEWER, OLDER, differences, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

const SERVICE: &str = "ArchiveEngine";
const COMPONENT: &str = "Archiver";
/// Where its program lies, and the file that it writes its version to; below drive C.
const FOLDER: &str = "Instrument/Apps/Archiver";
const VERSION: &str = "Instrument/Var/archiver.txt";

const PLAYBOOK: &str = r"
playbook: archiver
apply:
  - name: stop the archiver
    service: {name: ArchiveEngine, state: stopped, wait: 3s, kill: true}
  - name: archiver
    sync: {component: Archiver, to: 'C:\Instrument\Apps\Archiver', remove_extra: true}
  - name: start the archiver
    service: {name: ArchiveEngine, state: running, wait: 5s}
prove:
  - name: the archiver runs
    check: {service: {name: ArchiveEngine, is: running}}
  - name: it is the new one
    check: {file: {path: var\archiver.txt, contains: '{{ kit.versions.Archiver }}'}}
";

/// A machine with the older service running, and releases that bring it.
struct Site {
    machines: Machines,
    playbooks: PathBuf,
}

impl Site {
    fn up() -> Option<Self> {
        let machines = Machines::up(1, "wine-ssh")?;
        for version in [OLDER, NEWER] {
            put_into_kit(&machines, version, &[]);
        }
        let playbooks = machines.dir().join("playbooks");
        std::fs::create_dir(&playbooks).expect("a folder");
        std::fs::write(playbooks.join("archiver.yaml"), PLAYBOOK).expect("a playbook");
        let site = Self { machines, playbooks };
        let folder = site.machines.on_c(site.name(), FOLDER);
        std::fs::create_dir_all(&folder).expect("a folder");
        for file in ["archiver.exe", "VERSION.txt"] {
            std::fs::copy(site.machines.kits().join(OLDER).join(COMPONENT).join(file), folder.join(file)).expect("a copy");
        }
        let program = r"C:\Instrument\Apps\Archiver\archiver.exe C:\Instrument\Var\archiver.txt";
        site.machines.program(site.name(), &["sc", "create", SERVICE, "binPath=", program, "start=", "demand"]);
        site.machines.program(site.name(), &["sc", "start", SERVICE]);
        site.wait_for_version(OLDER);
        Some(site)
    }

    fn name(&self) -> &str {
        &self.machines.names[0]
    }

    fn arguments(&self) -> [&str; 6] {
        ["run", "archiver", self.name(), "--yes", "--playbooks", self.playbooks.to_str().expect("text")]
    }

    /// The service's process.
    fn process(&self) -> Option<u32> {
        self.machines.processes_of(self.name(), "archiver.exe").into_iter().next()
    }

    fn wait_for_version(&self, version: &str) {
        let path = self.machines.on_c(self.name(), VERSION);
        let says = || std::fs::read_to_string(&path).ok().filter(|text| text.trim() == version);
        wait_for(&format!("the service {version} runs"), || says().and(self.process()));
    }
}

/// Compiles the service into a release.
fn put_into_kit(machines: &Machines, version: &str, options: &[&str]) {
    let folder = machines.kits().join(version).join(COMPONENT);
    std::fs::create_dir_all(&folder).expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/wine/service.c");
    let mut compiler = Command::new("x86_64-w64-mingw32-gcc");
    compiler.args(["-O2", "-s", "-Wall", "-Wextra", "-Werror", "-municode"]).args(options);
    compiler.arg(format!("-DVERSION=\"{version}\"")).arg("-o").arg(folder.join("archiver.exe")).arg(source);
    let done = compiler.output().expect("the compiler starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::write(folder.join("VERSION.txt"), format!("{version}\r\n")).expect("written");
}

#[test]
fn a_service_is_stopped_upgraded_started_and_brought_back() {
    let Some(site) = Site::up() else { return };
    let (machines, name) = (&site.machines, site.name());
    let before = machines.installed(name);
    let older = site.process();

    let upgraded = machines.runs_well(&site.arguments());
    assert_eq!(upgraded.outcome(name), "changed", "{}", upgraded.story());
    site.wait_for_version(NEWER);
    assert_ne!(site.process(), older, "it is another process");
    let kit = crate::command::tree(&machines.kits().join(NEWER).join(COMPONENT));
    assert_eq!(differences(&kit, &crate::command::tree(&machines.on_c(name, FOLDER))), [""; 0]);

    let back = machines.runs_well(&["rollback", name, "--yes"]);
    assert_eq!(back.outcome(name), "rolled_back", "{}", back.story());
    assert_eq!(differences(&before, &machines.installed(name)), [""; 0]);
    site.wait_for_version(OLDER);
    machines.is_quiet(name);
}

#[test]
fn a_service_that_does_not_start_is_brought_back_and_the_process_of_one_that_does_not_stop_is_ended() {
    let Some(site) = Site::up() else { return };
    let (machines, name) = (&site.machines, site.name());
    let before = machines.installed(name);
    put_into_kit(machines, NEWER, &["-DBROKEN"]);
    let failed = machines.run(&site.arguments());
    assert_eq!((failed.code, failed.outcome(name).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert!(failed.stdout.contains("cannot start the service ArchiveEngine"), "{}", failed.story());
    assert_eq!(differences(&before, &machines.installed(name)), [""; 0]);
    site.wait_for_version(OLDER);

    put_into_kit(machines, NEWER, &[]);
    std::fs::write(machines.on_c(name, &format!("{VERSION}.deaf")), "").expect("written");
    let older = site.process();
    let forced = machines.run(&site.arguments());
    assert!(forced.stdout.contains("ended the process of ArchiveEngine"), "{}", forced.story());
    // Windows' service manager knows then that the service has stopped. Wine's does not, so that the run is taken back.
    assert_eq!((forced.code, forced.outcome(name).as_str()), (1, "rolled_back"), "{}", forced.story());
    site.wait_for_version(OLDER);
    assert_ne!(site.process(), older, "it is another process");
    assert_eq!(differences(&before, &machines.installed(name)), [""; 0]);
    machines.is_quiet(name);
}
