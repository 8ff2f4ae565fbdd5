//! A vendor's packages, under the machine's own Windows Installer: installed, upgraded, removed, refused.

use crate::command::Ended;
use crate::machines::{Machines, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the packages lie on the machine, and what they install; below drive C.
const PACKAGES: &str = "kits";
const INSTALLED: &str = "Program Files/Lab JDK/release";

/// For what the shipped playbook leaves to people.
const REMOVAL: &str = r"
playbook: removal
vars: {product: ''}
apply:
  - name: remove the JDK
    command: {program: msiexec.exe, args: [/x, '{{ product }}', /quiet, /norestart]}
    as: admin
    undo: none
prove:
  - check: {file: {path: 'C:\Program Files\Lab JDK\release', absent: true}}
";

/// Its undo removes what it installed.
const TRIAL: &str = r"
playbook: trial
vars: {installer: '', version: '1'}
apply:
  - name: JDK
    package: {product: 'Lab JDK', version: '{{ version }}', installer: '{{ installer }}', log: var\logs\jdk.log}
    as: admin
    # 1605: nothing was installed.
    undo: {command: {program: msiexec.exe, args: [/x, '{PRODUCT}', /quiet, /norestart], exit_codes: [0, 1605]}}
";

/// Its undo leaves all as it is.
const UPGRADE: &str = r"
playbook: upgrade
vars: {installer: '', version: ''}
apply:
  - package: {product: 'Lab JDK', version: '{{ version }}', installer: '{{ installer }}'}
    undo: none
";

/// The codes by which the installer knows two versions.
const FIRST: &str = "6D1D3B0E-7B8C-4E0C-9A57-30A3E7B7C011";
const SECOND: &str = "6D1D3B0E-7B8C-4E0C-9A57-30A3E7B7C012";

struct Site {
    machines: Machines,
    playbooks: PathBuf,
}

impl Site {
    fn up() -> Option<Self> {
        if Command::new("wixl").arg("--version").output().is_err() {
            eprintln!("skipped: the program wixl is not there; scripts/test installs it");
            return None;
        }
        let machines = Machines::up(1, "wine-ssh")?;
        let playbooks = machines.dir().join("playbooks");
        std::fs::create_dir(&playbooks).expect("a folder");
        for (name, text) in [("removal.yaml", REMOVAL), ("trial.yaml", TRIAL), ("upgrade.yaml", UPGRADE)] {
            std::fs::write(playbooks.join(name), text.replace("PRODUCT", FIRST)).expect("a playbook");
        }
        std::fs::create_dir(machines.on_c(&machines.names[0], PACKAGES)).expect("a folder");
        Some(Self { machines, playbooks })
    }

    fn name(&self) -> &str {
        &self.machines.names[0]
    }

    /// Puts a package on the machine; gives its path there.
    fn package(&self, file: &str, version: &str, product_code: &str) -> String {
        // wixl finds a package's files beside its description only.
        let folder = self.machines.dir().join("package");
        std::fs::create_dir_all(&folder).expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/wine/product.wxs");
        std::fs::copy(source, folder.join("product.wxs")).expect("a copy");
        std::fs::write(folder.join("release"), format!("JAVA_VERSION={version}\r\n")).expect("written");
        let mut wixl = Command::new("wixl");
        wixl.current_dir(&folder).args(["-a", "x64", "-D", &format!("Version={version}")]);
        wixl.args(["-D", &format!("ProductCode={product_code}"), "-o", "product.msi", "product.wxs"]);
        let done = wixl.output().expect("wixl starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::copy(folder.join("product.msi"), self.machines.on_c(self.name(), PACKAGES).join(file)).expect("a copy");
        format!(r"C:\{PACKAGES}\{file}")
    }

    /// The shipped playbook, which wants a package in a version or a later one.
    fn software(&self, installer: &str, version: &str) -> Ended {
        let set = ["jdk_product=Lab JDK*", &format!("jdk_installer={installer}"), &format!("jdk_version={version}")];
        let set = set.iter().flat_map(|setting| ["--set", setting]);
        self.machines.run(&["run", "software", self.name(), "--yes"].into_iter().chain(set).collect::<Vec<_>>())
    }

    fn own(&self, playbook: &str, settings: &[&str]) -> Ended {
        let folder = self.playbooks.to_str().expect("text");
        let set = settings.iter().flat_map(|setting| ["--set", setting]);
        let words = ["run", playbook, self.name(), "--yes", "--playbooks", folder].into_iter();
        self.machines.run(&words.chain(set).collect::<Vec<_>>())
    }

    /// The versions of the product that the registry lists, by the system's own program.
    fn listed(&self) -> Vec<String> {
        let key = r"HKLM\Software\Microsoft\Windows\CurrentVersion\Uninstall";
        let said = self.machines.program(self.name(), &["reg", "query", key, "/s"]);
        let of_product = said.split("HKEY_LOCAL_MACHINE").filter(|part| part.contains("Lab JDK"));
        let version = |part: &str| part.lines().find(|line| line.contains("DisplayVersion")).map(str::to_owned);
        of_product.filter_map(version).filter_map(|line| line.split_whitespace().last().map(str::to_owned)).collect()
    }

    /// What is installed by its own file.
    fn installed(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.machines.on_c(self.name(), INSTALLED)).ok()?;
        Some(text.trim().trim_start_matches("JAVA_VERSION=").to_owned())
    }
}

fn is(ended: &Ended, name: &str, code: i32, outcome: &str) {
    assert_eq!((ended.code, ended.outcome(name).as_str()), (code, outcome), "{}", ended.story());
}

#[test]
fn a_package_is_installed_found_upgraded_and_removed() {
    let Some(site) = Site::up() else { return };
    let name = site.name();
    site.machines.start_ibex(name);
    let (older, newer) = (site.package("jdk-1.msi", "1.0.0", FIRST), site.package("jdk-2.msi", "2.0.0", SECOND));

    let first = site.software(&older, "1.0");
    is(&first, name, 0, "changed");
    assert_eq!((site.listed(), site.installed().as_deref()), (vec!["1.0.0".to_owned()], Some("1.0.0")), "{}", first.story());
    let again = site.software(&older, "1.0");
    is(&again, name, 0, "ok");
    assert!(again.stdout.contains("everything is as wanted already: nothing was stopped"), "{}", again.story());

    let upgraded = site.software(&newer, "2.0");
    is(&upgraded, name, 0, "changed");
    assert_eq!((site.listed(), site.installed().as_deref()), (vec!["2.0.0".to_owned()], Some("2.0.0")), "{}", upgraded.story());
    assert!(site.machines.ibex(name).is_some(), "IBEX runs again");

    let removed = site.own("removal", &[&format!("product={{{SECOND}}}")]);
    is(&removed, name, 0, "changed");
    assert_eq!((site.listed(), site.installed()), (Vec::new(), None), "{}", removed.story());
    wait_for("the machine is free", || site.machines.agents(name).is_empty().then_some(()));
}

#[test]
fn the_installers_exit_codes_are_understood_and_an_undo_removes_what_was_installed() {
    let Some(site) = Site::up() else { return };
    let name = site.name();
    // No such product: what msiexec says is the program's own exit code.
    let nothing = site.own("removal", &[&format!("product={{{FIRST}}}")]);
    is(&nothing, name, 1, "rolled_back");
    assert!(nothing.stdout.contains("ended with exit code 1605"), "{}", nothing.story());

    std::fs::write(site.machines.on_c(name, PACKAGES).join("half.msi"), "half of a package").expect("written");
    let damaged = site.own("trial", &[r"installer=C:\kits\half.msi"]);
    is(&damaged, name, 1, "rolled_back");
    assert_eq!(site.listed(), [""; 0], "{}", damaged.story());

    let package = site.package("jdk.msi", "1.0.0", FIRST);
    let tried = site.own("trial", &[&format!("installer={package}")]);
    is(&tried, name, 0, "changed");
    assert_eq!((site.listed(), site.installed().as_deref()), (vec!["1.0.0".to_owned()], Some("1.0.0")), "{}", tried.story());
    let log = std::fs::read(site.machines.on_c(name, "Instrument/Var/logs/jdk.log")).expect("the installer's log");
    assert!(!log.is_empty(), "the installer wrote its log");

    // An older one refuses to be installed over a newer one, by a condition of its own.
    let older = site.package("older.msi", "0.9.0", SECOND);
    let refused = site.own("upgrade", &[&format!("installer={older}"), "version=2"]);
    is(&refused, name, 1, "rolled_back");
    assert!(refused.stdout.contains("a fatal error during the installation (1603)"), "{}", refused.story());
    assert_eq!(site.listed(), ["1.0.0"], "{}", refused.story());

    let run = tried.events[0]["run"].as_str().expect("a run");
    let back = site.machines.run(&["rollback", name, "--yes", "--run", run]);
    is(&back, name, 0, "rolled_back");
    assert_eq!((site.listed(), site.installed()), (Vec::new(), None), "{}", back.story());
    site.machines.is_quiet(name);
}
