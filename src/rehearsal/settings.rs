//! The settings of a rehearsed instrument, its scripts and common files: git work trees, each with a bare remote on which
//! somebody has gone on. The settings are on the instrument's branch.

use super::git::run;
use super::sandbox::Sandbox;
use crate::error::{IoContext, Result};
use std::path::{Path, PathBuf};

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

/// Work trees beside the settings: the place, and the name of the remote.
const BESIDE: [(&str, &str); 2] = [("scripts", "scripts.git"), ("common_settings", "common.git")];

/// What these begin with, and what somebody has added on their remotes.
const SHARED: [(&str, &str); 1] = [("readme.txt", "What instruments have in common.\r\n")];
const ADDED: [(&str, &str); 1] = [("added.txt", "Added by somebody else.\r\n")];

/// A work tree and its remote, made once: scripts and common files of all sandboxes are copies of it.
#[derive(Debug)]
pub(super) struct Pattern(tempfile::TempDir);

impl Pattern {
    /// # Errors
    /// When files cannot be written, or git fails.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
        let made = tempfile::tempdir_in(folder).cannot(|| format!("make a folder in {}", folder.display()))?;
        let pattern = Self(made);
        let (tree, remote) = (pattern.tree(), pattern.remote());
        begin(&tree, &remote)?;
        commit(&tree, &SHARED, "The beginning")?;
        commit(&tree, &ADDED, "Added by somebody else")?;
        run(&tree, &["push", "--quiet", "--set-upstream", "origin", "master"])?;
        run(&tree, &["reset", "--quiet", "--hard", "HEAD~1"])?;
        Ok(pattern)
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn remote(&self) -> PathBuf {
        self.0.path().join("remote.git")
    }

    fn copy(&self, tree: &Path, remote: &Path) -> Result<()> {
        super::copy_tree(&self.tree(), tree)?;
        super::copy_tree(&self.remote(), remote)?;
        run(tree, &["remote", "set-url", "origin", &remote.display().to_string()])
    }
}

/// Makes the settings of a sandbox, its scripts and common files, whose inventory says where they are.
///
/// # Errors
/// When files cannot be written, or git fails.
pub(super) fn make(sandbox: &Sandbox, pattern: &Pattern) -> Result<()> {
    for (place, remote) in BESIDE.iter().filter(|(place, _)| sandbox.spec.places.contains_key(*place)) {
        pattern.copy(&sandbox.place(place)?, &sandbox.root.join("remotes").join(remote))?;
    }
    if !sandbox.spec.places.contains_key("settings") {
        return Ok(());
    }
    let (tree, remote) = (sandbox.place("settings")?, sandbox.root.join("remotes").join("settings.git"));
    begin(&tree, &remote)?;
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

/// A work tree without a commit, to be on `master`, and its bare remote.
fn begin(tree: &Path, remote: &Path) -> Result<()> {
    for folder in [tree, remote] {
        std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
    }
    run(remote, &["init", "--quiet", "--bare", "--template="])?;
    run(tree, &["init", "--quiet", "--template="])?;
    run(tree, &["config", "core.autocrlf", "false"])?;
    run(tree, &["remote", "add", "origin", &remote.display().to_string()])?;
    run(tree, &["symbolic-ref", "HEAD", "refs/heads/master"])
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
