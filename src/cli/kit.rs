//! `ibexdeploy kit list|show|verify`.

use super::{GlobalOptions, document, exit};
use crate::error::{Error, Result};
use crate::kit::{ComponentReport, Kit as Loaded, KitStore, Release, Written};
use crate::report::text::size;
use crate::report::{Column, Screen, Table};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Show and check the releases in the folder of kits
#[derive(Debug, Args)]
pub(super) struct Kit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The releases, and which one is used when none is named
    List,
    /// The components of a release: where they come from, files, sizes, hashes
    Show {
        /// The release or the path of a folder [default: the newest x.y.z]
        release: Option<String>,
    },
    /// Read every file of a release anew and compare with the manifest in it
    Verify {
        /// The release or the path of a folder [default: the newest x.y.z]
        release: Option<String>,
        /// Write the manifest into the release, for later copies of it to be compared with
        #[arg(long)]
        write: bool,
    },
}

impl Kit {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let store = open_store(global)?;
        match self.command {
            Command::List => list(global, &store)?,
            Command::Show { release } => show(global, &store, release.as_deref())?,
            Command::Verify { release, write } => return verify(global, &store, release.as_deref(), write),
        }
        Ok(exit::OK)
    }
}

fn open_store(global: &GlobalOptions) -> Result<KitStore> {
    let state = global.own_state_folder()?;
    Ok(KitStore::open(&kits_folder(global)?, &state.join("cache")))
}

/// The folder that is named, else that of the rehearsal.
fn kits_folder(global: &GlobalOptions) -> Result<PathBuf> {
    match (&global.kits, &global.rehearse) {
        (Some(folder), _) => Ok(folder.clone()),
        (None, Some(Some(rehearsal))) => Ok(rehearsal.join("kits")),
        (None, Some(None)) => Ok(global.state_folder()?.join("rehearsal").join("kits")),
        (None, None) => Err(Error::usage("the folder of releases is not known")
            .next("name it with --kits DIR or IBEXDEPLOY_KITS, or look at a rehearsal's with --rehearse")),
    }
}

#[derive(Serialize)]
struct ListedRelease {
    release: String,
    newest: bool,
    plain: bool,
    folder: PathBuf,
    components: Vec<String>,
}

fn list(global: &GlobalOptions, store: &KitStore) -> Result<()> {
    let releases = store.releases()?;
    let newest = store.choose(None).ok().map(|r| r.name);
    let line = |r: Release| ListedRelease {
        newest: newest.as_ref() == Some(&r.name),
        plain: r.version.as_ref().is_some_and(crate::kit::ReleaseVersion::is_plain),
        components: r.components.into_keys().collect(),
        release: r.name,
        folder: r.folder,
    };
    let lines: Vec<_> = releases.into_iter().map(line).collect();
    document(global, &lines, || {
        if lines.is_empty() {
            return format!("no release in {}\n", store.folder().display());
        }
        let mut table = Table::new(vec![Column::new("RELEASE"), Column::new("COMPONENTS"), Column::new("")]);
        for r in &lines {
            let word = match (r.newest, r.plain) {
                (true, _) => "newest",
                (false, true) => "",
                (false, false) => "only by name",
            };
            table.row([r.release.clone(), r.components.join(" "), word.to_owned()]);
        }
        table.render(Screen::of_stdout())
    })
}

#[derive(Serialize)]
struct ShownKit {
    release: String,
    folder: PathBuf,
    files: u64,
    bytes: u64,
    components: Vec<ShownComponent>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct ShownComponent {
    component: String,
    version: String,
    /// The release its files come from.
    release: String,
    borrowed: bool,
    folder: PathBuf,
    files: u64,
    bytes: u64,
    manifest: String,
}

impl ShownKit {
    fn of(kit: Loaded) -> Self {
        let component = |(component, c): (String, crate::kit::Component)| ShownComponent {
            component,
            version: c.manifest.version.clone(),
            release: c.release,
            borrowed: c.borrowed,
            folder: c.folder,
            files: c.manifest.files.len() as u64,
            bytes: c.bytes,
            manifest: c.manifest_hash.to_string(),
        };
        let components: Vec<_> = kit.components.into_iter().map(component).collect();
        Self {
            release: kit.version,
            folder: kit.folder,
            files: components.iter().map(|c| c.files).sum(),
            bytes: components.iter().map(|c| c.bytes).sum(),
            components,
            notes: kit.notes,
        }
    }

    fn text(&self) -> String {
        let mut table = Table::new(vec![
            Column::new("COMPONENT"),
            Column::new("VERSION"),
            Column::new("FROM"),
            Column::new("FILES").right(),
            Column::new("SIZE").right(),
            Column::new("MANIFEST"),
        ]);
        for c in &self.components {
            let short: String = c.manifest.chars().take(12).collect();
            table.row([c.component.clone(), c.version.clone(), c.release.clone(), c.files.to_string(), size(c.bytes), short]);
        }
        let mut text = format!("{} in {}\n\n{}", self.release, self.folder.display(), table.render(Screen::of_stdout()));
        for note in &self.notes {
            text.push_str(&format!("\nnote: {note}"));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }
}

fn show(global: &GlobalOptions, store: &KitStore, wanted: Option<&str>) -> Result<()> {
    let kit = store.load_complete(&store.choose(wanted)?, &|_| ())?;
    let shown = ShownKit::of(kit);
    document(global, &shown, || shown.text())
}

#[derive(Serialize)]
struct Verified {
    release: String,
    folder: PathBuf,
    components: Vec<ComponentReport>,
}

/// What has no manifest cannot be verified, and does not count as well.
fn verify(global: &GlobalOptions, store: &KitStore, wanted: Option<&str>, write: bool) -> Result<u8> {
    let release = store.choose(wanted)?;
    let components = store.verify(&release, write, &|_| ())?;
    let all_compared = components.iter().all(|c| c.written != Written::None);
    let verified = Verified { release: release.name, folder: release.folder, components };
    document(global, &verified, || {
        let mut table = Table::new(vec![
            Column::new("COMPONENT"),
            Column::new("FROM"),
            Column::new("FILES").right(),
            Column::new("SIZE").right(),
            Column::new("RESULT"),
        ]);
        for c in &verified.components {
            let result = match c.written {
                Written::Matches => "as its manifest says",
                Written::Now => "manifest written",
                Written::None => "readable; no manifest to compare with",
            };
            table.row([c.component.clone(), c.release.clone(), c.files.to_string(), size(c.bytes), result.to_owned()]);
        }
        let mut text = table.render(Screen::of_stdout());
        if !all_compared {
            text.push_str("\nNot verified: `ibexdeploy kit verify --write` writes what later copies are compared with.\n");
        }
        text
    })?;
    Ok(if all_compared { exit::OK } else { exit::SOME_FAILED })
}
