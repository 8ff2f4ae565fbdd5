//! Releases that the instrument reads itself: from a share, or from a folder on a web server. Whatever comes is what the
//! controller's manifest says, or it is not taken.

mod web;

use super::machine::Machine;
use crate::actions::{Deadline, Progress, Want};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::Unit;
use crate::paths::RelPath;
use crate::plan::{InstrumentPlan, KitFolder, Pull};
use crate::secrets::Secrets;
use secrecy::ExposeSecret;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use web::Web;

/// How often a file that came damaged, or not at all, is read in all.
const ATTEMPTS: u32 = 3;

/// An open folder of releases.
pub(crate) struct Shelf {
    /// Where each component of the plan lies below the folder, with `/` between names.
    components: BTreeMap<String, String>,
    from: Source,
}

enum Source {
    Share {
        base: PathBuf,
        /// Takes the connection that was made for it away again.
        _connection: Option<Box<dyn Any + Send + Sync>>,
    },
    Web(Web),
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("components", &self.components).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Opens the folder that the plan names; nothing when content comes over the link.
    ///
    /// # Errors
    /// When it is not there, or the secret that it needs is not at hand.
    pub(crate) fn open(plan: &InstrumentPlan, machine: &Machine, secrets: &Secrets) -> Result<Option<Self>> {
        let Some(pull) = &plan.pull else { return Ok(None) };
        let below = |release: &str, name: &str| format!("{}/{name}", release.replace('\\', "/"));
        let components = plan.components.iter().map(|(name, c)| (name.clone(), below(&c.release, name))).collect();
        let from = match &pull.from {
            KitFolder::Share(_) => share(pull, machine, secrets)?,
            KitFolder::Web(address) => {
                let password = pull.password.as_ref().map(|name| secrets.get(name)).transpose()?;
                Source::Web(Web::new(address, pull.user.as_deref().zip(password), pull.ca.as_deref())?)
            }
        };
        Ok(Some(Self { components, from }))
    }

    /// True for a component of the releases there. What is in no kit, as the files of a hotfix, comes from the controller always.
    pub(crate) fn has(&self, component: &str) -> bool {
        self.components.contains_key(component)
    }

    /// Brings all that is wanted, each file verified.
    ///
    /// # Errors
    /// When something is not there or not what the manifest says, or at the deadline.
    pub(crate) fn pull(&self, wants: &[Want], total: u64, progress: &dyn Progress, deadline: &Deadline) -> Result<()> {
        let mut first: HashMap<ContentHash, PathBuf> = HashMap::new();
        let mut done = 0;
        for want in wants {
            let Some(to) = want.to.first() else { continue };
            if let Some(from) = first.get(&want.hash) {
                copy_to_others(from, &want.to)?;
                continue;
            }
            self.bring(want, to, deadline)?;
            copy_to_others(to, &want.to)?;
            first.insert(want.hash, to.clone());
            done += want.size;
            progress.advanced(done, total, Unit::Bytes);
        }
        Ok(())
    }

    /// One file, as often as it takes.
    fn bring(&self, want: &Want, to: &Path, deadline: &Deadline) -> Result<()> {
        let folder = self
            .components
            .get(&want.component)
            .ok_or_else(|| Error::internal(format!("no folder of {} among the releases", want.component)))?;
        let path = format!("{folder}/{}", RelPath::parse(&want.path)?);
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            still_wanted(deadline)?;
            let brought = match &self.from {
                Source::Share { base, .. } => {
                    let from = RelPath::parse(&path)?.under(base);
                    std::fs::copy(&from, to).map(drop).cannot(|| format!("copy {} to {}", from.display(), to.display()))
                }
                Source::Web(web) => web.get(&path, want.size, to, attempt, deadline),
            };
            match brought {
                Ok(()) if ContentHash::of_file(to)? == want.hash => return Ok(()),
                Ok(()) => last = Some(self.altered(&path)),
                Err(error) if error.is_temporary() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        // The file is wrong; one that cannot be removed lies in a staging folder that goes as a whole.
        let _ = std::fs::remove_file(to);
        Err(last.unwrap_or_else(|| Error::internal("a file was not even asked for")))
    }

    fn altered(&self, path: &str) -> Error {
        let place = match &self.from {
            Source::Share { base, .. } => format!("{}/{path}", base.display()),
            Source::Web(web) => web.address(path),
        };
        Error::new(ErrorKind::Integrity, format!("{place} is not what the kit's manifest says"))
            .next("what lies there differs from the controller's kit: check that with `ibexdeploy kit verify`, and copy it again")
    }
}

/// # Errors
/// When the step's time is over, or the run was cancelled.
fn still_wanted(deadline: &Deadline) -> Result<()> {
    if deadline.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "cancelled while reading the files of the release"));
    }
    if deadline.is_over() {
        let limit = deadline.limit().as_secs();
        return Err(Error::new(ErrorKind::TimedOut, format!("reading the files of the release took more than {limit} s")));
    }
    Ok(())
}

fn share(pull: &Pull, machine: &Machine, secrets: &Secrets) -> Result<Source> {
    let KitFolder::Share(path) = &pull.from else { return Err(Error::internal("an address is no share")) };
    let connection = match (&pull.user, &pull.password) {
        (Some(user), Some(name)) => {
            let password = secrets.get(name)?;
            Some(machine.platform.connect_share(path, user, password.expose_secret()).map_err(|e| {
                e.next(format!("see that {user} may read the share, and that the secret `{name}` is that account's password"))
            })?)
        }
        _ => None,
    };
    let base = machine.drives.native(path)?;
    if !base.is_dir() {
        return Err(Error::new(ErrorKind::Unreachable, format!("the share {path} is not there")).next(
            "check the share and the account that reads it (`user` and `password` beside `from`), or set `kits: push` in the inventory",
        ));
    }
    Ok(Source::Share { base, _connection: connection })
}

pub(super) fn copy_to_others(from: &Path, all: &[PathBuf]) -> Result<()> {
    for to in all.iter().filter(|to| *to != from) {
        std::fs::copy(from, to).cannot(|| format!("copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}
