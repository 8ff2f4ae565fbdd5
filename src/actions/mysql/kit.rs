//! The kit's zip: found in its component, brought, unpacked and verified beside the running server.

use super::Mysql;
use super::server::{NEEDED, version_of};
use super::version::ServerVersion;
use crate::actions::backup::read::{self, Held};
use crate::actions::backup::write::counting;
use crate::actions::moves::shown;
use crate::actions::sync::staging::give_file_rights;
use crate::actions::volumes::{Areas, nearest_folder, take_over_staged};
use crate::actions::{FetchStats, StepContext, Want};
use crate::content::{ContentHash, Manifest, ManifestEntry};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::files::remove_folder;
use crate::units::Size;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

/// Bytes of a zip are about so many times as many when it is unpacked.
pub(super) const UNPACKED: u64 = 5;

/// The zip of a kit.
#[derive(Debug, Clone)]
pub(super) struct KitZip {
    pub(super) entry: ManifestEntry,
    pub(super) version: ServerVersion,
}

impl KitZip {
    /// The zip that the step names, or the one of the newest version that the component holds.
    ///
    /// # Errors
    /// When the component holds no such file.
    pub(super) fn find(mysql: &Mysql, cx: &StepContext<'_>) -> Result<Self> {
        let manifest = manifest(cx, &mysql.component)?;
        choose(&manifest, mysql.zip.as_deref().filter(|zip| !zip.is_empty()))
    }

    /// Brings the zip and unpacks it as `programs` of the stage area, unless this run has done so.
    ///
    /// # Errors
    /// When it cannot be had, is damaged, lacks a program, or holds another version than its name says; when the disk
    /// has no room for it.
    pub(super) fn bring(&self, mysql: &Mysql, cx: &StepContext<'_>, areas: &Areas, target: &Path) -> Result<FetchStats> {
        let (programs, done) = (areas.stage.join(PROGRAMS), areas.stage.join("programs.done"));
        if done.exists() && programs.is_dir() {
            return Ok(FetchStats::default());
        }
        // Programs that an earlier run unpacked count for nothing; its zip is known by its content.
        let zip = areas.stage.join(format!("{}.zip", self.entry.hash));
        take_over_staged(areas)?;
        let stats = self.fetch(mysql, cx, &zip)?;
        files::remove(&done)?;
        remove_folder(&programs)?;
        self.unpack(cx, areas, &zip, &programs)?;
        give_rights(cx, &programs, target)?;
        let found = version_of(cx, &programs.join("bin"))?;
        if found != self.version {
            return Err(Error::new(ErrorKind::Integrity, format!("{} holds MySQL {found}", self.entry.path))
                .next("give the zip its right name, or copy it into the kit again"));
        }
        // The zip stays with the programs until the run is closed: a run after this one may want it.
        files::write(&done, b"unpacked and verified\n")?;
        Ok(stats)
    }

    fn fetch(&self, mysql: &Mysql, cx: &StepContext<'_>, zip: &Path) -> Result<FetchStats> {
        if zip.is_file() && ContentHash::of_file(zip)? == self.entry.hash {
            return Ok(FetchStats::default());
        }
        let want = Want {
            hash: self.entry.hash,
            size: self.entry.size,
            component: mysql.component.clone(),
            path: self.entry.path.as_str().to_owned(),
            to: vec![zip.to_path_buf()],
        };
        cx.content.fetch(vec![want], cx.progress, cx.deadline)
    }

    fn unpack(&self, cx: &StepContext<'_>, areas: &Areas, zip: &Path, programs: &Path) -> Result<()> {
        let of_kit = |e: Error| e.context(format!("{} of the kit cannot be used", self.entry.path));
        let (held, top, bytes) = look_into(zip).map_err(of_kit)?;
        let free = cx.platform.free_space(&areas.stage)?;
        if bytes > free {
            let folder = shown(cx, &areas.stage);
            return Err(Error::new(ErrorKind::OutOfSpace, format!("{} unpacks to {}", self.entry.path, Size(bytes)))
                .because(format!("the volume of {folder} has {} free", Size(free)))
                .next("make room, then run it again"));
        }
        let unpacking = areas.stage.join("unpacking");
        remove_folder(&unpacking)?;
        std::fs::create_dir_all(&unpacking).cannot(|| format!("make the folder {}", unpacking.display()))?;
        let done = AtomicU64::new(0);
        let alive = counting(cx, bytes, &done);
        read::unpack(zip, &held, None, &unpacking, &alive).map_err(|e| of_kit(e.next(COPY_AGAIN)))?;
        let inside = unpacking.join(&top);
        for name in NEEDED {
            if !inside.join("bin").join(format!("{name}.exe")).is_file() {
                return Err(
                    of_kit(Error::new(ErrorKind::Integrity, format!("it holds no {top}\\bin\\{name}.exe"))).next(COPY_AGAIN)
                );
            }
        }
        std::fs::rename(&inside, programs).cannot(|| format!("move {}", inside.display()))?;
        remove_folder(&unpacking)
    }
}

const COPY_AGAIN: &str = "copy the whole zip into the kit again";

/// The folder of a stage area that becomes the programs' folder.
pub(super) const PROGRAMS: &str = "programs";

/// What a zip holds, its one top folder, and the bytes that it unpacks to.
fn look_into(zip: &Path) -> Result<(Vec<Held>, String, u64)> {
    let held = read::contents(zip).map_err(|e| e.next(COPY_AGAIN))?;
    let mut tops = held.iter().map(|h| h.path.names().next().unwrap_or_default());
    let top = tops.next().ok_or_else(|| Error::new(ErrorKind::Integrity, "it is empty").next(COPY_AGAIN))?.to_owned();
    if tops.any(|other| other != top) {
        return Err(Error::new(ErrorKind::Integrity, "it has more than one folder at its top")
            .next("a kit's zip is MySQL's own, with one folder that holds bin, share and the rest"));
    }
    let bytes = held.iter().map(|h| h.size).fold(0, u64::saturating_add);
    Ok((held, top, bytes))
}

/// Owner and rights as of the folder that will hold the programs; those in `bin` may be run.
fn give_rights(cx: &StepContext<'_>, programs: &Path, target: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(programs).contents_first(true) {
        let entry = entry.map_err(|e| Error::new(ErrorKind::Io, format!("cannot read {}", programs.display())).because(e))?;
        let below = entry.path().strip_prefix(programs).unwrap_or(Path::new(""));
        let place: PathBuf = if below.as_os_str().is_empty() { target.to_path_buf() } else { target.join(below) };
        if entry.file_type().is_dir() {
            cx.platform.copy_rights(&nearest_folder(&place)?, entry.path())?;
        } else {
            give_file_rights(cx, None, &place, entry.path(), below.starts_with("bin"))?;
        }
    }
    Ok(())
}

/// The manifest of a component, kept in the run's folder once it came.
fn manifest(cx: &StepContext<'_>, component: &str) -> Result<Manifest> {
    let hash = cx.plan.component(component)?.manifest;
    let file = cx.run_dir.join(format!("manifest-{}.json", hash.short()));
    let mut bytes = Vec::new();
    if std::fs::File::open(&file).and_then(|mut f| f.read_to_end(&mut bytes)).is_err() || ContentHash::of(&bytes) != hash {
        bytes = cx.content.blob(&hash, cx.progress, cx.deadline)?;
        if ContentHash::of(&bytes) != hash {
            return Err(Error::new(ErrorKind::Integrity, format!("the manifest of {component} is not the planned one")));
        }
        files::write(&file, &bytes)?;
    }
    Manifest::from_bytes(&bytes)
}

fn choose(manifest: &Manifest, wanted: Option<&str>) -> Result<KitZip> {
    let zips = manifest.files.iter().filter_map(|entry| {
        let version = ServerVersion::of_zip(entry.path.file_name())?;
        Some(KitZip { entry: entry.clone(), version })
    });
    let zips: Vec<KitZip> = zips.collect();
    let names: Vec<&str> = zips.iter().map(|z| z.entry.path.as_str()).collect();
    let component = &manifest.component;
    let Some(wanted) = wanted else {
        return zips.iter().max_by_key(|z| z.version).cloned().ok_or_else(|| {
            Error::bad_input(format!("the component {component} of the kit holds no zip of MySQL"))
                .next("it is called like mysql-8.4.3-winx64.zip")
        });
    };
    if let Some(found) = zips.iter().find(|z| z.entry.path.as_str().eq_ignore_ascii_case(wanted)) {
        return Ok(found.clone());
    }
    let next = match crate::nearest::nearest(wanted, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "it holds no zip of MySQL at all: it is called like mysql-8.4.3-winx64.zip".to_owned(),
        None => format!("it holds {}", names.join(", ")),
    };
    Err(Error::bad_input(format!("the component {component} of the kit has no `{wanted}`")).next(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::RelPath;

    fn manifest(names: &[&str]) -> Manifest {
        let entry = |name: &&str| ManifestEntry {
            path: RelPath::parse(name).unwrap(),
            size: 1,
            hash: ContentHash::of(name.as_bytes()),
            executable: false,
        };
        let files = names.iter().map(entry).collect();
        Manifest {
            component: "MySQL".to_owned(),
            version: String::new(),
            release: "26.9.0".to_owned(),
            files,
            empty_folders: Vec::new(),
        }
    }

    #[test]
    fn the_newest_zip_is_taken_by_its_number() {
        let all = manifest(&["mysql-8.4.10-winx64.zip", "mysql-8.4.9-winx64.zip", "mysql-9.txt"]);
        assert_eq!(choose(&all, None).unwrap().version.to_string(), "8.4.10");
        assert_eq!(choose(&all, Some("mysql-8.4.9-winx64.zip")).unwrap().version.to_string(), "8.4.9");
        let error = choose(&all, Some("mysql-8.4.7-winx64.zip")).unwrap_err();
        assert!(error.details().next.as_ref().unwrap().contains("did you mean"), "{error:?}");
        assert!(choose(&manifest(&["readme.txt"]), None).unwrap_err().to_string().contains("no zip of MySQL"));
    }
}
