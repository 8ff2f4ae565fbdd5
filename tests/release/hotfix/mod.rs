//! Hotfixes: put in place, listed, taken back, refused, and what a release makes of them.

mod apply;
mod hostile;
#[cfg(target_os = "linux")]
mod killed;
mod pack;
mod releases;
mod revert;
mod shown;

use crate::support::{Ended, Fleet, sandbox};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;

const NAME: &str = "NDXLARMOR";

/// Files that both releases of a rehearsal's kit have.
const START: &str = "EPICS/ioc/master/GALIL/st.cmd";
const FROZEN: &str = "EPICS/misc/upgrade/master/requirements-frozen.txt";

/// Writes an archive in the fleet's folder.
fn archive(fleet: &Fleet, name: &str, entries: &[(&str, &str)]) -> PathBuf {
    let path = fleet.dir().join(name);
    write_zip(&path, entries);
    path
}

fn write_zip(path: &Path, entries: &[(&str, &str)]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).expect("an archive"));
    for (name, text) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).expect("an entry");
        zip.write_all(text.as_bytes()).expect("its content");
    }
    zip.finish().expect("a whole archive");
}

/// `hotfix NDXLARMOR ... --yes`.
fn hotfix(fleet: &Fleet, arguments: &[&str]) -> Ended {
    fleet.run(&[&["hotfix", NAME][..], arguments, &["--yes"]].concat())
}

/// Puts an archive in place, which must go well.
fn put(fleet: &Fleet, archive: &Path) -> Ended {
    let ended = hotfix(fleet, &[&archive.display().to_string()]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    ended
}

/// The hotfixes of the instrument, as `--list` tells them.
fn listed(fleet: &Fleet) -> Vec<Value> {
    let ended = fleet.run(&["hotfix", NAME, "--list"]);
    assert_eq!(ended.code, 0, "{}", ended.story());
    let all: Value = serde_json::from_str(&ended.stdout).expect("one document");
    all[0]["hotfixes"].as_array().expect("a list").clone()
}

fn ids(fleet: &Fleet) -> Vec<String> {
    listed(fleet).iter().map(|h| h["hotfix"]["id"].as_str().expect("a name").to_owned()).collect()
}

/// All installed files and folders with owner, mode and content.
fn look(fleet: &Fleet) -> BTreeMap<String, String> {
    sandbox::installed(&fleet.root(NAME))
}

/// The native path of a path under a component.
fn at(fleet: &Fleet, path: &str) -> PathBuf {
    let (component, below) = path.split_once('/').expect("a component");
    let installed = match component {
        "EPICS" => "EPICS",
        "Client" => "Client_E4",
        _ => "Python3",
    };
    fleet.root(NAME).join("c/Instrument/Apps").join(installed).join(below)
}

fn read(fleet: &Fleet, path: &str) -> String {
    std::fs::read_to_string(at(fleet, path)).expect("a file")
}

/// Everything that was said, with single backslashes.
fn said(ended: &Ended) -> String {
    ended.story().replace("\\\\", "\\")
}
