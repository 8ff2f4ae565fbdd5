//! Instruments, each behind a server and a proxy of its own.

use super::{FaultProxy, Fleet, SshSettings, Sshd, agents, descendants};
use crate::sandbox::{self, is_free, staged, wait_for};
use std::path::{Path, PathBuf};

/// One instrument and the way to it.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Its sandbox.
    pub(crate) root: PathBuf,
    pub(crate) sshd: Sshd,
    pub(crate) proxy: FaultProxy,
}

/// A fleet of them. The agent is not there yet: see [`Fleet::put_agents`].
pub(crate) struct Links {
    pub(crate) fleet: Fleet,
    pub(crate) lines: Vec<Line>,
}

impl Links {
    /// Sandboxes with the older release; the links are well.
    pub(crate) fn to(names: &[&str]) -> Self {
        Self::through(names, Sshd::start)
    }

    /// The same with other servers.
    pub(crate) fn through(names: &[&str], server: impl Fn() -> Sshd) -> Self {
        let ends: Vec<(Sshd, FaultProxy)> = names
            .iter()
            .map(|_| {
                let sshd = server();
                let proxy = FaultProxy::to(sshd.port());
                sshd.known_at(proxy.port());
                (sshd, proxy)
            })
            .collect();
        let settings = |(sshd, proxy): &(Sshd, FaultProxy)| SshSettings::of(sshd).with_port(proxy.port());
        let instruments: Vec<(&str, SshSettings)> = names.iter().copied().zip(ends.iter().map(settings)).collect();
        let fleet = Fleet::of(&instruments, &[]);
        let line = |(name, (sshd, proxy)): (&&str, _)| Line { name: (*name).to_owned(), root: fleet.root(name), sshd, proxy };
        let lines = names.iter().zip(ends).map(line).collect();
        Self { fleet, lines }
    }

    /// One instrument that has the agent and runs IBEX.
    pub(crate) fn one(name: &str) -> Self {
        let links = Self::to(&[name]);
        links.fleet.put_agents(&[name]);
        sandbox::start_ibex(&links.lines[0].root);
        links
    }
}

impl Line {
    /// Everything of the agent ends by itself, and nothing is left that is of no use any more. The server's sessions end too,
    /// once the network has given up what it holds open.
    pub(crate) fn ends_clean(&self, scene: &str) {
        self.ends(scene);
        assert_eq!(staged(&self.root), [""; 0], "{scene}: staged content");
    }

    /// The same, but for what was staged for a later release.
    pub(crate) fn ends(&self, scene: &str) {
        wait_for(&format!("{scene}: the end of workers, relays and jobs"), || agents(&self.root).is_empty().then_some(()));
        self.proxy.cut_now(super::Cut::Reset);
        wait_for(&format!("{scene}: the end of the server's sessions"), || (!self.sshd.is_in_use()).then_some(()));
        assert_eq!(incoming(&self.root), [""; 0], "{scene}: agents that did not arrive");
        assert!(is_free(&self.root), "{scene}: the lock is held");
    }
}

/// Files of agents that were being brought.
fn incoming(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(".ibexdeploy/bin")).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("incoming-")).collect()
}

impl Drop for Links {
    fn drop(&mut self) {
        for line in &self.lines {
            // Only what a failed test has left: workers, jobs, and the programs of these.
            let left: Vec<_> = agents(&line.root).into_iter().map(|(_, process)| process).collect();
            let below: Vec<_> = left.iter().filter_map(|p| u32::try_from(p.pid).ok()).flat_map(descendants).collect();
            left.iter().chain(&below).for_each(|process| process.signal(rustix::process::Signal::KILL));
            let _ = std::fs::remove_file(line.root.join("c/Instrument/Var/ibex_server.pid"));
        }
    }
}
