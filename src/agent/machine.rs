//! What a worker has all its life: the home, the platform, its own executable.

use super::home::Home;
use crate::actions::hotfix::{InstalledHotfix, installed};
use crate::content::{ContentHash, HashCache};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::{Drives, WinPath};
use crate::plan::{InstrumentPlan, PLAN_FORMAT};
use crate::platform::{self, Platform};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The machine the agent works on.
pub(crate) struct Machine {
    pub(crate) home: Home,
    pub(crate) drives: Drives,
    pub(crate) platform: Box<dyn Platform>,
    /// What wraps jobs: this executable, as it was when the worker started.
    pub(crate) executable: PathBuf,
    /// Hash of the executable.
    pub(crate) build: String,
    /// Hashes of the guarded folders' files between the runs.
    pub(crate) hashes: HashCache,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Machine {
    /// # Errors
    /// When the home cannot be used or the system does not tell what is needed.
    pub(crate) fn open(root: Option<&Path>) -> Result<Self> {
        let executable = std::env::current_exe().cannot(|| "find this executable")?;
        let build = ContentHash::of_file(&executable)?.short();
        let home = Home::open(root)?;
        let platform = platform::open(home.root())?;
        let hashes = HashCache::open(&home.folder().join("index").join("guard.hashes"));
        Ok(Self { drives: home.drives(), platform, executable, build, hashes, home })
    }

    /// What is found out about the instrument before a plan runs, with the hotfixes that it has.
    pub(crate) fn facts(&self, places: &BTreeMap<String, WinPath>) -> BTreeMap<String, Value> {
        let mut facts = platform::facts::gather(&*self.platform, &self.drives, places);
        let hotfixes = installed::read(self.home.folder()).map(|all| {
            let one = |h: InstalledHotfix| {
                let asks = json!({"id": h.id, "restart": h.restart.word(), "iocs": h.restart.iocs()});
                (h.id, asks)
            };
            Value::Object(all.into_iter().map(one).collect())
        });
        let hotfixes = hotfixes.unwrap_or_else(|error| {
            tracing::warn!(fact = "hotfixes", %error, "cannot be found out");
            Value::Null
        });
        facts.insert("hotfixes".to_owned(), hotfixes);
        facts
    }

    /// Whether a plan is for this machine and of a form this build knows.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn check_plan(&self, plan: &InstrumentPlan) -> Result<()> {
        if plan.format > PLAN_FORMAT {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the plan has format {}, this agent knows {PLAN_FORMAT}", plan.format),
            )
            .next("bring the agent up to date"));
        }
        let host = self.platform.host_name();
        let name = self.home.identity()?.map(|i| i.name);
        let other_name = name.as_deref().is_some_and(|n| !n.eq_ignore_ascii_case(&plan.instrument));
        if !is_host(&plan.host, &host) || other_name {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "the plan is for {} ({}), and this is {} ({host})",
                    plan.instrument,
                    plan.host,
                    name.as_deref().unwrap_or("another")
                ),
            )
            .next("check `host` in the inventory"));
        }
        Ok(())
    }
}

/// Whether a machine is the one that the inventory means. A machine may know itself by its first name alone, or be named by an
/// address, which it cannot compare; the keys and certificates of its services have told who it is by then.
fn is_host(planned: &str, own: &str) -> bool {
    let first = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let whole = planned.contains('.') && own.contains('.');
    planned.eq_ignore_ascii_case(own) || (!whole && first(planned) == first(own)) || planned.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_may_know_its_first_name_only() {
        for (planned, own) in [
            ("NDXLOQ.isis.cclrc.ac.uk", "ndxloq"),
            ("ndxloq", "NDXLOQ.isis.cclrc.ac.uk"),
            ("NDXLOQ.isis.cclrc.ac.uk", "NDXLOQ.ISIS.cclrc.ac.uk"),
            ("10.1.2.3", "NDXLOQ"),
            ("fe80::1", "NDXLOQ"),
        ] {
            assert!(is_host(planned, own), "{planned} {own}");
        }
        for (planned, own) in [
            ("NDXLOQ.isis.cclrc.ac.uk", "NDXLOQ.elsewhere.org"),
            ("NDXLOQ", "NDXLOQ2"),
            ("NDXLOQ.isis.cclrc.ac.uk", "NDX"),
            ("NDXLOQ", "10.1.2.3"),
        ] {
            assert!(!is_host(planned, own), "{planned} {own}");
        }
    }
}
