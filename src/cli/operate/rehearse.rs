//! `--rehearse`: the same inventory, on sandboxes.

use crate::error::{Error, IoContext, Result};
use crate::inventory::{Instrument, Inventory, KitTransfer};
use crate::kit::{Component, KitStore, Release};
use crate::plan::{Plan, Target, TransportSpec};
use crate::rehearsal::mysql::{self, Servers};
use crate::rehearsal::{KitShape, Sandbox, SandboxSpec, is_of_a_rehearsal, make_kits, make_sandboxes, make_settings_remote};
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
    let mut chosen = inventory.instruments.iter().filter(|i| names.contains(&i.name));
    if fresh {
        chosen.try_for_each(|i| Sandbox::at(&folder, &sandbox_of(i)).remove())?;
    }
    for instrument in &mut inventory.instruments {
        instrument.transport = TransportSpec::Local { root: folder.join(&instrument.name) };
        instrument.kits = KitTransfer::Push;
    }
    let own_kits = kits.is_none();
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
            let made = make_kits(&kits, &KitShape::realistic())?;
            if !made.has_git {
                tell("git is left out: this machine has no git program");
            }
            (kits.clone(), Some(made.older))
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
    match sandboxes {
        Sandboxes::Bare => {
            make_settings_remote(&settings_remote(&folder))?;
            if own_kits && mysql::is_there() {
                let wants = |spec: &&SandboxSpec| mysql::lacking_place(spec).is_none() && !spec.places.contains_key("seci");
                specs.iter().filter(wants).try_for_each(|spec| mysql::expect_new(&Sandbox::at(&folder, spec)))?;
            }
        }
        Sandboxes::Released if own_kits && mysql::is_there() => give_servers(&folder, &specs),
        Sandboxes::Released => {}
    }
    Ok(kits)
}

/// Gives the sandboxes a database server each, as many as this machine has memory for. Without one, all but MySQL is
/// rehearsed.
fn give_servers(folder: &Path, specs: &[SandboxSpec]) {
    let fit: Vec<Sandbox> = specs.iter().filter(|s| mysql::lacking_place(s).is_none()).map(|s| Sandbox::at(folder, s)).collect();
    let room = mysql::room().unwrap_or(fit.len());
    if room < fit.len() {
        let all = fit.len();
        tell(&format!("MySQL on {room} of {all} sandboxes: this machine has no memory for more servers"));
    }
    let chosen = &fit[..room.min(fit.len())];
    let new = chosen.iter().filter(|sandbox| !sandbox.has_server()).count();
    if new == 0 {
        return;
    }
    tell(&format!("giving {new} sandboxes a database server: MariaDB, which stands for MySQL"));
    if let Err(error) = mysql::give_servers(folder, chosen) {
        tell(&format!("MySQL is left out where there is no server: {}", error.with_advice()));
    }
}

/// Why the component of a kit that holds MySQL is left out of a rehearsal; nothing when it can be rehearsed.
pub(super) fn without_mysql(component: Option<&Component>, instruments: &[&Instrument]) -> Option<String> {
    let Some(component) = component else {
        let why = "this machine has no MariaDB, which stands for it; with Debian's package mariadb-server it is rehearsed too";
        return (!mysql::is_there()).then(|| why.to_owned());
    };
    if !component.folder.parent().is_some_and(is_of_a_rehearsal) {
        return Some(format!("the programs in {} need Windows", component.folder.display()));
    }
    instruments.iter().find_map(|instrument| {
        let lacks = mysql::lacking_place(&sandbox_of(instrument)).map(|place| format!("place `{place}`"));
        let secret = mysql::ROOT_SECRET;
        let lacks = lacks.or_else(|| (!instrument.secrets.contains_key(secret)).then(|| format!("secret `{secret}`")));
        lacks.map(|lacks| format!("{} has no {lacks} in the inventory", instrument.name))
    })
}

/// Leaves out the steps of MySQL on sandboxes that have no server, only a service of that name.
///
/// # Errors
/// When the state of a sandbox cannot be read.
pub(super) fn skip_missing_servers(plan: &mut Plan) -> Result<()> {
    for target in &mut plan.targets {
        let Some(root) = root_of(target).map(Path::to_path_buf) else { continue };
        let steps = target.plan.steps.iter_mut().filter(|s| s.action.name() == "mysql" && s.skip.is_none());
        for step in steps {
            if mysql::has_only_a_name(&root)? {
                step.skip = Some("this sandbox has no database server".to_owned());
            }
        }
    }
    Ok(())
}

/// Starts the servers of a rehearsal's sandboxes, which stop when what is returned is dropped.
///
/// # Errors
/// When a sandbox's mark cannot be read.
pub(super) fn start_servers(plan: &Plan) -> Result<Option<Servers>> {
    if !plan.rehearsal {
        return Ok(None);
    }
    let (servers, failed) = Servers::start(plan.targets.iter().filter_map(root_of))?;
    failed.iter().for_each(|error| tell(&error.with_advice()));
    Ok(Some(servers))
}

fn root_of(target: &Target) -> Option<&Path> {
    match &target.transport {
        TransportSpec::Local { root } => Some(root),
        _ => None,
    }
}

/// What takes a while before the run begins, on standard error.
pub(super) fn tell(what: &str) {
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
