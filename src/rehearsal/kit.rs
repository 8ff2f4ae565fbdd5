//! Makes the kits of a rehearsal: two releases of realistic shape.

use super::content::{Numbers, binary, change, text};
use super::{KitShape, TreeShape, git, mysql};
use crate::content::ContentHash;
use crate::error::{IoContext, Result};
use crate::kit::Release;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[cfg(windows)]
use super::site_programs::SERVER_FILES;

/// Programs of the site, and what they read, by their path in the server's folder.
#[cfg(not(windows))]
const SERVER_FILES: [(&str, &str); 7] = [
    ("start_ibex_server.bat", include_str!("scripts/start_ibex_server.bat")),
    ("stop_ibex_server.bat", include_str!("scripts/stop_ibex_server.bat")),
    ("create_icp_binaries.bat", include_str!("scripts/create_icp_binaries.bat")),
    ("crtl/vc_redist.x64.exe", include_str!("scripts/vc_redist.x64.exe")),
    ("ioc_tools/caget.bat", include_str!("scripts/caget.bat")),
    ("ioc_tools/sandbox.sh", include_str!("scripts/sandbox.sh")),
    ("ioc_tools/server_loop.sh", include_str!("scripts/server_loop.sh")),
];

const GENIE_PYTHON: &str = if cfg!(windows) { "@python %*\r\n" } else { "#!/bin/sh\nexec python3 \"$@\"\n" };

/// Folders of the server that have Python programs with their own libraries.
const FROZEN: [&str; 3] = ["misc/upgrade/master", "ISIS/inst_servers/master", "support/webget/master"];
const REQUIREMENTS: &str = "genie-python==15.2.0\r\nlxml==6.0.1\r\npsutil==7.0.0\r\n";

const SERVER_FOLDERS: [&str; 8] = [
    "ioc/master/GALIL",
    "ioc/master/EUROTHRM",
    "ioc/master/LKSH218",
    "support/asyn/master",
    "support/motor/master",
    "support/StreamDevice/master",
    "ISIS/BlockServer/master",
    "libjson/master",
];
const CLIENT_FOLDERS: [&str; 4] = ["Client/plugins", "Client/features", "Client/configuration", "Client/Resources/Synoptic"];
const PYTHON_FOLDERS: [&str; 4] = ["Lib/site-packages/genie_python", "Lib/site-packages/numpy", "Lib/encodings", "DLLs"];
const BELOW: [&str; 6] = ["src", "Db", "iocBoot", "protocol", "test", "data"];
const TEXTS: [&str; 8] = [".db", ".template", ".proto", ".py", ".xml", ".opi", ".cmd", ".txt"];
const BINARIES: [&str; 4] = [".dll", ".exe", ".lib", ".jar"];

/// Files by path; true for those that may be run.
type Files = BTreeMap<String, (Vec<u8>, bool)>;

/// The two releases that were made.
#[derive(Debug, Clone)]
pub struct RehearsalKits {
    pub older: Release,
    pub newer: Release,
    /// False when `.git` was wanted and this machine has no git program.
    pub has_git: bool,
}

/// Makes both releases of a shape in `folder`, and returns at once when they are there already.
///
/// # Errors
/// When files cannot be written, or git fails.
pub fn make_kits(folder: &Path, shape: &KitShape) -> Result<RehearsalKits> {
    let releases = shape.versions.each_ref().map(|v| folder.join(v));
    let wanted = Stamp::of(shape);
    if !releases.iter().all(|r| wanted.stands_in(r)) {
        for release in &releases {
            crate::files::remove_folder(release)?;
        }
        make(&releases, shape)?;
        for release in &releases {
            wanted.write(release)?;
        }
    }
    let [older, newer] = &releases;
    let older = Release::open(older)?;
    let has_git = older.component("EPICS").is_some_and(|f| f.join(".git").exists());
    Ok(RehearsalKits { older, newer: Release::open(newer)?, has_git })
}

/// True when the newer release of a shape brings a server on this machine.
fn has_mysql(shape: &KitShape) -> bool {
    shape.mysql && mysql::is_there()
}

/// True for a release that [`make_kits`] has made.
pub fn is_of_a_rehearsal(release: &Path) -> bool {
    release.join(Stamp::FILE).is_file()
}

/// Written last into each release: which shape it was made of. A release without it is not complete.
struct Stamp(String);

impl Stamp {
    const FILE: &str = ".rehearsal-kit";

    fn of(shape: &KitShape) -> Self {
        let scripts: String = SERVER_FILES.iter().map(|(_, text)| *text).collect();
        let mysql = has_mysql(shape).then(|| mysql::scripts().short());
        let version = env!("CARGO_PKG_VERSION");
        Self(format!("{version} {} {mysql:?} {shape:?}\n", ContentHash::of(scripts.as_bytes()).short()))
    }

    fn stands_in(&self, release: &Path) -> bool {
        std::fs::read_to_string(release.join(Self::FILE)).is_ok_and(|text| text == self.0)
    }

    fn write(&self, release: &Path) -> Result<()> {
        let file = release.join(Self::FILE);
        std::fs::write(&file, &self.0).cannot(|| format!("write {}", file.display()))
    }
}

fn make(releases: &[PathBuf; 2], shape: &KitShape) -> Result<()> {
    let components: [(&str, TreeShape, &[&str]); 3] = [
        ("EPICS", shape.server, &SERVER_FOLDERS),
        ("Client", shape.client, &CLIENT_FOLDERS),
        ("genie_python_3", shape.python, &PYTHON_FOLDERS),
    ];
    for (name, tree, folders) in components {
        let mut files = filler(shape.seed, name, tree, folders);
        let folders = releases.each_ref().map(|r| r.join(name));
        add_known(&mut files, name, &shape.versions[0]);
        write_all(&folders[0], &files)?;
        let with_git = name == "EPICS" && shape.git && git::is_there();
        if with_git {
            git::commit(&folders[0], &shape.versions[0])?;
        }
        evolve(&mut files, shape, name);
        add_known(&mut files, name, &shape.versions[1]);
        write_all(&folders[1], &files)?;
        if with_git {
            super::copy_tree(&folders[0].join(".git"), &folders[1].join(".git"))?;
            git::commit(&folders[1], &shape.versions[1])?;
            git::keep_old_galil(&folders[1])?;
        }
    }
    if has_mysql(shape) {
        mysql::make_zip(&releases[1], mysql::NEWER)?;
    }
    Ok(())
}

/// Files without a meaning: most are short texts, a few are binaries that take half of the bytes.
fn filler(seed: u64, component: &str, shape: TreeShape, folders: &[&str]) -> Files {
    let mut numbers = Numbers::of(seed, component);
    let mut files = Files::new();
    let texts = shape.files.saturating_sub(shape.binaries);
    for (count, bytes, is_binary) in [(shape.binaries, shape.bytes / 2, true), (texts, shape.bytes - shape.bytes / 2, false)] {
        let shares: Vec<u64> = (0..count).map(|_| numbers.uneven()).collect();
        let all: u64 = shares.iter().sum();
        for (i, share) in shares.iter().enumerate() {
            let size = usize::try_from(bytes * share / all).unwrap_or(0).max(24);
            let ending = numbers.pick(if is_binary { &BINARIES } else { &TEXTS });
            let module = numbers.below(6);
            let kind = if is_binary { "bin" } else { "f" };
            let path = format!("{}/{}{module}/{kind}{i:05}{ending}", numbers.pick(folders), numbers.pick(&BELOW));
            let content = if is_binary { binary(&mut numbers, size) } else { text(&mut numbers, &path, size) };
            files.insert(path, (content, ending == ".exe"));
        }
    }
    files
}

/// True for the names that [`filler`] gives.
fn is_filler(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let number = name.strip_prefix("bin").or_else(|| name.strip_prefix('f'));
    number.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
}

/// The files with a meaning; those of another version are replaced.
fn add_known(files: &mut Files, component: &str, version: &str) {
    let mut put = |path: &str, text: &str, run: bool| files.insert(path.to_owned(), (text.as_bytes().to_vec(), run));
    let version_file = format!("{version} {version}.1024\r\n");
    match component {
        "EPICS" => {
            put("VERSION.txt", &version_file, false);
            for (path, text) in SERVER_FILES {
                put(path, text, true);
            }
            for folder in FROZEN {
                put(&format!("{folder}/requirements-frozen.txt"), REQUIREMENTS, false);
            }
            for folder in ["isisicp", "ICP_Binaries"] {
                put(&format!("{folder}/isisicp.exe"), "MZ isisicp", true);
            }
            put("ioc/master/GALIL/st.cmd", "dbLoadRecords(\"galil.db\")\r\niocInit\r\n", false);
        }
        "Client" => {
            put("Client/VERSION.txt", &version_file, false);
            put("Client/ibex-client.exe", &format!("#!/bin/sh\necho ibex-client {version}\n"), true);
            put("zips/Client.7z", &format!("7z of {version}"), false);
            put("COPY_COMPLETE.txt", &version_file, false);
        }
        _ => {
            put("VERSION.txt", &version_file, false);
            put("genie_python.bat", GENIE_PYTHON, true);
            put("Lib/site.py", "import sys\r\n", false);
        }
    }
}

/// Turns the files of the older release into those of the newer one.
fn evolve(files: &mut Files, shape: &KitShape, component: &str) {
    let mut numbers = Numbers::of(shape.seed, &format!("{component} {}", shape.newer()));
    let mut order: Vec<String> = files.keys().filter(|p| is_filler(p)).cloned().collect();
    order.sort_by_cached_key(|path| Numbers::of(shape.seed ^ 1, path).next());
    let changed = (order.len() * shape.changed_per_mille as usize / 1000).max(2);
    let moved = (changed / 2).max(1);
    for path in order.iter().take(changed) {
        if let Some((content, _)) = files.get_mut(path) {
            change(&mut numbers, content);
        }
    }
    for path in order.iter().skip(changed).take(moved) {
        files.remove(path);
    }
    for (i, near) in order.iter().skip(changed + moved).take(moved).enumerate() {
        let folder = near.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = format!("{folder}/new{i:03}.db");
        let size = files.get(near).map_or(500, |(content, _)| content.len().min(20_000));
        let content = text(&mut numbers, &path, size);
        files.insert(path, (content, false));
    }
}

fn write_all(folder: &Path, files: &Files) -> Result<()> {
    let mut made = std::collections::BTreeSet::new();
    for (path, (content, run)) in files {
        let native = folder.join(path);
        let what = || format!("write {}", native.display());
        if let Some(parent) = native.parent()
            && made.insert(parent.to_path_buf())
        {
            std::fs::create_dir_all(parent).cannot(what)?;
        }
        std::fs::write(&native, content).cannot(what)?;
        if *run {
            super::make_executable(&native)?;
        }
    }
    Ok(())
}
