//! The settings of a rehearsed instrument: a git work tree on the instrument's branch, with a bare remote on which
//! somebody has gone on.

use super::git::run;
use super::sandbox::Sandbox;
use crate::error::{IoContext, Result};
use std::path::Path;

/// The beginning, on `master` and on the instrument's branch.
const COMMON: [(&str, &str); 5] = [
    (".gitignore", "*.py[co]\r\n*.swp\r\n"),
    ("configurations/config_version.txt", "26.8.0\r\n"),
    ("configurations/components/_base/iocs.xml", "<?xml version=\"1.0\" ?>\n<iocs/>\n"),
    ("configurations/components/_base/blocks.xml", "<?xml version=\"1.0\" ?>\n<blocks/>\n"),
    ("configurations/synoptics/default.xml", "<?xml version=\"1.0\" ?>\n<instrument><name>default</name></instrument>\n"),
];

/// What the instrument has of its own.
const OWN: [(&str, &str); 3] = [
    ("configurations/globals.txt", "GALIL_01__MTRCTRL=01\r\n"),
    (
        "configurations/configurations/setup/iocs.xml",
        "<?xml version=\"1.0\" ?>\n<iocs><ioc autostart=\"true\" name=\"GALIL_01\"><macros/></ioc></iocs>\n",
    ),
    ("configurations/configurations/setup/blocks.xml", "<?xml version=\"1.0\" ?>\n<blocks/>\n"),
];

/// What is new on `master`.
const NEWER: [(&str, &str); 1] = [(".gitignore", "*.py[co]\r\n*.swp\r\n*.tmp\r\n")];

/// Makes the settings of a sandbox whose inventory says where they are.
///
/// # Errors
/// When files cannot be written, or git fails.
pub(super) fn make(sandbox: &Sandbox) -> Result<()> {
    if !sandbox.spec.places.contains_key("settings") {
        return Ok(());
    }
    let (tree, remote) = (sandbox.place("settings")?, sandbox.root.join("remotes").join("settings.git"));
    for folder in [&tree, &remote] {
        std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
    }
    run(&remote, &["init", "--quiet", "--bare", "--template="])?;
    run(&tree, &["init", "--quiet", "--template="])?;
    run(&tree, &["config", "core.autocrlf", "false"])?;
    run(&tree, &["remote", "add", "origin", &remote.display().to_string()])?;
    run(&tree, &["symbolic-ref", "HEAD", "refs/heads/master"])?;
    commit(&tree, &COMMON, "The beginning")?;
    let branch = sandbox.spec.name.as_str();
    run(&tree, &["checkout", "--quiet", "-b", branch])?;
    commit(&tree, &OWN, "Configurations of this instrument")?;
    run(&tree, &["checkout", "--quiet", "master"])?;
    commit(&tree, &NEWER, "Leave temporary files out")?;
    run(&tree, &["push", "--quiet", "origin", "master", branch])?;
    run(&tree, &["checkout", "--quiet", branch])?;
    run(&tree, &["branch", "--quiet", "--set-upstream-to", &format!("origin/{branch}")])?;
    run(&tree, &["branch", "--quiet", "-D", "master"])
}

/// Makes the repository that the settings of machines without IBEX come from: a bare one with `master` alone. One that is
/// there is kept.
///
/// # Errors
/// When files cannot be written, or git fails.
pub fn make_remote(remote: &Path) -> Result<()> {
    if remote.join("HEAD").exists() {
        return Ok(());
    }
    let tree = remote.with_extension("making");
    for folder in [&tree, remote] {
        std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
    }
    run(&tree, &["init", "--quiet", "--template="])?;
    run(&tree, &["symbolic-ref", "HEAD", "refs/heads/master"])?;
    commit(&tree, &COMMON, "The beginning")?;
    run(remote, &["init", "--quiet", "--bare", "--template="])?;
    run(remote, &["symbolic-ref", "HEAD", "refs/heads/master"])?;
    run(&tree, &["push", "--quiet", &remote.display().to_string(), "master"])?;
    std::fs::remove_dir_all(&tree).cannot(|| format!("remove {}", tree.display()))
}

fn commit(tree: &Path, files: &[(&str, &str)], message: &str) -> Result<()> {
    for (path, text) in files {
        let file = tree.join(path);
        let what = || format!("write {}", file.display());
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).cannot(what)?;
        }
        std::fs::write(&file, text).cannot(what)?;
    }
    run(tree, &["add", "--all"])?;
    run(tree, &["commit", "--quiet", "--message", message])
}
