//! The servers that rehearsed instruments have before their release: one is made and filled, the others get copies of it.

use super::running::{end_all, mark_of, services_of, stop};
use super::{DATABASES, put_programs, register, scripts, unregister_simulated};
use crate::content::ContentHash;
use crate::error::{IoContext, Result};
use crate::files;
use crate::paths::WinPath;
use crate::platform;
use crate::rehearsal::sandbox::HOME;
use crate::rehearsal::{Sandbox, SandboxSpec, copy_tree, in_parallel, stand_in};
use std::collections::BTreeMap;
use std::path::Path;

/// The version that instruments have before, and its service.
const OLDER: &str = "8.0.36";
const SERVICE: &str = "MYSQL80";

/// Places that a sandbox needs for a server.
const PLACES: [&str; 3] = ["mysql", "mysql_data", "backups"];

/// The secret that is root's password in the shipped playbooks.
pub const ROOT_SECRET: &str = "mysql_root";

/// Memory that a running server takes of a machine that has other things to do as well, in bytes. Measured: 30 MB of its
/// own, and 24 MB that all of them share.
const MEMORY: u64 = 60 << 20;

/// Gives sandboxes their servers, which do not run yet. Those that have one keep it.
///
/// # Errors
/// When a program of MariaDB fails, or files cannot be written.
pub fn give_servers(folder: &Path, sandboxes: &[Sandbox]) -> Result<()> {
    let model = Model::make(folder)?;
    in_parallel(sandboxes, |sandbox| model.give(sandbox))
}

/// Makes a sandbox without IBEX ready for the server that an installation brings: there is none, not even by its name.
///
/// # Errors
/// When files cannot be written.
pub fn expect_new(sandbox: &Sandbox) -> Result<()> {
    files::write_unflushed(&mark_of(&sandbox.root), MARK)?;
    if has_only_a_name(&sandbox.root)? {
        unregister_simulated(platform::open(Some(&sandbox.root))?.as_ref())?;
    }
    Ok(())
}

/// What stands in the mark of a sandbox, for people.
const MARK: &[u8] = b"commands of the rehearsal start and stop the database server of this sandbox\n";

/// A filled server, which the others are copies of.
struct Model(Sandbox);

impl Model {
    /// Makes it below the folder of a rehearsal; returns at once when it is there.
    fn make(folder: &Path) -> Result<Self> {
        let model = model(folder)?;
        let done = model.root.join("made");
        let wanted = format!("{} {}\n", scripts().short(), ContentHash::of(DATABASES.as_bytes()).short());
        if std::fs::read_to_string(&done).is_ok_and(|text| text == wanted) {
            return Ok(Self(model));
        }
        // One of a rehearsal that was killed while it was making it.
        end_all(&model.root)?;
        files::remove_folder(&model.root)?;
        for folder in [model.root.join(HOME), model.place("mysql_data")?] {
            std::fs::create_dir_all(&folder).cannot(|| format!("make the folder {}", folder.display()))?;
        }
        let password = stand_in(ROOT_SECRET);
        let made = super::install(&model, OLDER, SERVICE, &password)
            .and_then(|()| super::tell(&model, Some(&password), DATABASES))
            .and_then(|()| stop(&model.root));
        if let Err(error) = made {
            end_all(&model.root)?;
            return Err(error);
        }
        files::write_unflushed(&done, wanted.as_bytes())?;
        Ok(Self(model))
    }

    fn give(&self, sandbox: &Sandbox) -> Result<()> {
        let machine = platform::open(Some(&sandbox.root))?;
        if !services_of(machine.as_ref())?.is_empty() {
            return Ok(());
        }
        put_programs(sandbox, OLDER)?;
        let data = sandbox.place("mysql_data")?;
        files::remove_folder(&data)?;
        copy_tree(&self.0.place("mysql_data")?, &data)?;
        // Before the service, which without it would be taken for somebody else's.
        files::write_unflushed(&mark_of(&sandbox.root), MARK)?;
        register(machine.as_ref(), sandbox, SERVICE)
    }
}

/// A sandbox of its own, that no plan knows.
fn model(folder: &Path) -> Result<Sandbox> {
    let place = |name: &str, path: &str| -> Result<_> { Ok((name.to_owned(), WinPath::parse(path)?)) };
    let places = [place("mysql", "C:\\MySQL")?, place("mysql_data", "C:\\data")?];
    let spec = SandboxSpec { name: "mysql".to_owned(), host: "mysql".to_owned(), places: BTreeMap::from(places) };
    Ok(Sandbox { spec, root: folder.join("servers").join(OLDER) })
}

/// The place that a sandbox lacks for a server.
pub fn lacking_place(spec: &SandboxSpec) -> Option<&'static str> {
    PLACES.into_iter().find(|place| !spec.places.contains_key(*place))
}

/// How many servers this machine has memory for; nothing when it does not tell.
pub fn room() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    usize::try_from(kilobytes.saturating_mul(1024) / 2 / MEMORY).ok()
}

/// True when a sandbox has a service of MySQL that is only simulated: there is nothing to be upgraded.
///
/// # Errors
/// When the sandbox's state cannot be read.
pub fn has_only_a_name(root: &Path) -> Result<bool> {
    let machine = platform::open(Some(root))?;
    Ok(machine.service(SERVICE)?.is_some() && machine.service_definition(SERVICE)?.is_none())
}
