//! Releases that the instrument reads itself, from a folder on a web server, while the link carries the plan and the events.

use crate::support::{NEWER, PASSWORD, Service, Settings, Site, certificate};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NAME: &str = "NDXLOQ";
const READER: &str = "reader";

/// A web server of one test; it ends with it.
struct Folder {
    process: Child,
    port: u16,
    certificate: String,
    log: PathBuf,
}

impl Folder {
    /// Gives out the site's releases to [`READER`], after some answers of 503.
    fn start(site: &Site, password: &str, failures: usize) -> Self {
        Self::start_at(site, &site.kits(), password, failures)
    }

    fn start_at(site: &Site, folder: &Path, password: &str, failures: usize) -> Self {
        let (certificate, key) = certificate(site.dir(), "folder", "127.0.0.1", &["-newkey", "rsa:2048"]);
        let log = site.dir().join("asked");
        std::fs::write(&log, "").expect("a file");
        let mut command = Command::new("python3");
        command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/folder.py")).arg(folder);
        command.args([&certificate, &key, &format!("{READER}:{password}")]).arg(&log).arg(failures.to_string());
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        Self { process, port: line.trim().parse().expect("a port"), certificate, log }
    }

    /// The setting `kits` of an instrument that reads there.
    fn kits(&self) -> Value {
        let from = format!("https://127.0.0.1:{}/", self.port);
        json!({"pull": {"from": from, "user": READER, "password": "word", "ca": self.certificate}})
    }

    /// Paths that it was asked for, with its answers.
    fn asked(&self) -> Vec<String> {
        std::fs::read_to_string(&self.log).expect("its log").lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn site() -> Option<(Service, Settings, Site)> {
    let service = Service::start(&["--auth", "negotiate"])?;
    let settings = service.settings();
    let site = Site::of(&[NAME], &settings);
    Some((service, settings, site))
}

#[test]
fn a_release_comes_from_a_web_server_that_has_its_troubles() {
    let Some((_service, settings, site)) = site() else { return };
    // A name that addresses write differently.
    let odd = site.kits().join(NEWER).join("EPICS/ioc/50% of #1 & more.txt");
    std::fs::create_dir_all(odd.parent().expect("a folder")).and_then(|()| std::fs::write(&odd, "odd")).expect("a file");
    let folder = Folder::start(&site, PASSWORD, 2);
    site.reach_with(&[NAME], &settings, &folder.kits());
    let released = site.run(&["release", NAME, "--yes"]);
    assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{}", released.story());
    assert_eq!(site.unlike(NAME, NEWER), [""; 0]);

    let asked = folder.asked();
    assert_eq!(asked.iter().filter(|line| line.contains(" 503 ")).count(), 2, "{asked:?}");
    let given = asked.iter().filter(|line| line.contains("\" 200 ")).count() as u64;
    let staged = released.last(NAME, "staged").expect("content was staged");
    assert!(given > 10 && given <= staged["files"].as_u64().expect("a number"), "{given} {staged}");
    assert!(asked.iter().any(|line| line.contains("50%25%20of%20%231%20%26%20more.txt")), "{asked:?}");
    // The password is nowhere but in memory.
    let found = Command::new("grep").args(["-rlF", PASSWORD]).arg(site.dir()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn what_is_not_as_the_manifest_says_or_not_given_changes_nothing() {
    let Some((_service, settings, site)) = site() else { return };
    let failed = |what: &str| {
        let released = site.run(&["release", NAME, "--yes"]);
        assert_eq!((released.code, released.outcome(NAME).as_str()), (1, "failed"), "{}", released.story());
        assert!(released.story().contains(what), "{}", released.story());
        assert_eq!(site.unlike(NAME, "26.8.0"), [""; 0]);
    };
    let folder = Folder::start(&site, "an0ther-word", 0);
    site.reach_with(&[NAME], &settings, &folder.kits());
    failed("is not given to reader (401)");

    let folder = Folder::start(&site, PASSWORD, 0);
    let mut kits = folder.kits();
    kits["pull"].as_object_mut().expect("a map").remove("ca");
    site.reach_with(&[NAME], &settings, &kits);
    failed("the instrument must trust that authority");
    assert_eq!(folder.asked(), [""; 0]);

    // The kit is read once more for each run; what the server gives out is another one.
    let served = site.dir().join("served");
    let copied = Command::new("cp").arg("-a").arg(site.kits()).arg(&served).status().expect("cp");
    assert!(copied.success());
    std::fs::write(served.join(NEWER).join("EPICS/VERSION.txt"), "26.9.1\r\n").expect("a file");
    drop(folder);
    let folder = Folder::start_at(&site, &served, PASSWORD, 0);
    site.reach_with(&[NAME], &settings, &folder.kits());
    failed("is not what the kit's manifest says");
    std::fs::remove_file(served.join(NEWER).join("EPICS/VERSION.txt")).expect("a file");
    failed("EPICS/VERSION.txt is not there (404)");
}
