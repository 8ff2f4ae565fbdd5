//! `--rehearse`: the same inventory, on sandboxes.

use crate::error::{Error, IoContext, Result};
use crate::inventory::{Instrument, Inventory, KitTransfer};
use crate::kit::{KitStore, Release};
use crate::plan::TransportSpec;
use crate::rehearsal::{KitShape, Sandbox, SandboxSpec, make_kits, make_sandboxes, make_settings_remote};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What new sandboxes have on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Sandboxes {
    /// The older release, as if it had been there for long.
    Released,
    /// No IBEX: machines that it is to be installed on.
    Bare,
}

/// Where the settings of rehearsed machines come from that have no IBEX yet: one repository for all.
pub(in crate::cli) fn settings_remote(folder: &Path) -> PathBuf {
    folder.join("remotes").join("settings.git")
}

/// Turns all instruments into sandboxes below `folder`, makes those of the chosen names, and says where kits are.
///
/// # Errors
/// When files cannot be written.
pub(super) fn prepare(
    inventory: &mut Inventory,
    names: &[String],
    folder: &Path,
    kits: Option<PathBuf>,
    fresh: bool,
    sandboxes: Sandboxes,
) -> Result<PathBuf> {
    let folder = std::path::absolute(folder).cannot(|| format!("find the folder {}", folder.display()))?;
    if folder.exists() && !folder.is_dir() {
        return Err(Error::usage(format!("{} is not a folder", folder.display()))
            .next("name a folder for the rehearsal: --rehearse=DIR makes it where there is none"));
    }
    inventory.instruments.iter().try_for_each(|i| Sandbox::at(&folder, &sandbox_of(i)).check_place())?;
    if fresh {
        inventory.instruments.iter().try_for_each(|i| Sandbox::at(&folder, &sandbox_of(i)).remove())?;
    }
    for instrument in &mut inventory.instruments {
        instrument.transport = TransportSpec::Local { root: folder.join(&instrument.name) };
        instrument.kits = KitTransfer::Push;
    }
    let (kits, installed) = match kits {
        Some(kits) => {
            let installed = before_newest(&kits, &folder)?;
            (kits, installed)
        }
        None => {
            let kits = folder.join("kits");
            std::fs::create_dir_all(&kits).cannot(|| format!("make the folder {}", kits.display()))?;
            if kits.read_dir().is_ok_and(|mut inside| inside.next().is_none()) {
                tell(&format!("making a kit of realistic shape in {}", kits.display()));
            }
            (kits.clone(), Some(make_kits(&kits, &KitShape::realistic())?.older))
        }
    };
    let chosen = inventory.instruments.iter().filter(|i| names.contains(&i.name));
    let specs: Vec<SandboxSpec> = chosen.map(sandbox_of).collect();
    let new = specs.iter().filter(|spec| !Sandbox::at(&folder, spec).exists()).count();
    if new > 0 {
        tell(&format!("making {new} of {} sandboxes in {}", specs.len(), folder.display()));
    }
    let installed = match sandboxes {
        Sandboxes::Released => installed,
        Sandboxes::Bare => None,
    };
    make_sandboxes(&folder, &specs, installed.as_ref())?;
    if sandboxes == Sandboxes::Bare {
        make_settings_remote(&settings_remote(&folder))?;
    }
    Ok(kits)
}

/// What takes a while before the run begins, on standard error.
fn tell(what: &str) {
    // Nothing depends on it being read.
    let _ = writeln!(std::io::stderr(), "rehearsal: {what}");
}

/// The release that new sandboxes have already: the newest but one, when there are two.
fn before_newest(kits: &Path, folder: &Path) -> Result<Option<Release>> {
    let mut plain: BTreeMap<usize, Release> = BTreeMap::new();
    let releases = KitStore::open(kits, folder).releases()?;
    for release in releases.into_iter().filter(|r| r.version.as_ref().is_some_and(|v| v.is_plain())) {
        plain.insert(plain.len(), release);
    }
    plain.pop_last();
    Ok(plain.pop_last().map(|(_, release)| release))
}

fn sandbox_of(instrument: &Instrument) -> SandboxSpec {
    SandboxSpec { name: instrument.name.clone(), host: instrument.host.clone(), places: instrument.places.clone() }
}
