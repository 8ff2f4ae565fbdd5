//! Content for instruments: of the kit that was just read, or of the one that a plan names which was made before.

use super::Fleet;
use crate::actions::Action;
use crate::content::ContentHash;
use crate::content::pack::Chunk;
use crate::error::{Error, Result};
use crate::kit::hotfix::PatchStore;
use crate::kit::{ContentStore, KitStore, Release};
use crate::link::{ContentSource, ReadyPack};
use crate::plan::{InstrumentPlan, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What can be sent for plans that were made before, and what cannot.
pub(in crate::cli) struct PlannedContent {
    pub(in crate::cli) source: Arc<dyn ContentSource>,
    /// One for each component that is not there or is not the one of the plan. A run that has all its content goes on
    /// without it.
    pub(in crate::cli) lacking: Vec<Error>,
}

/// A component of a kit as a plan has it, by its manifest, with the instruments that are to get it.
type Wanted<'a> = BTreeMap<(&'a str, ContentHash), BTreeSet<&'a str>>;

/// The kit that this controller made a plan from, read again.
///
/// # Errors
/// When the cache cannot be used.
pub(in crate::cli) fn kept_plan_content(fleet: &Fleet, plan: &Plan) -> Result<PlannedContent> {
    let plans: Vec<&InstrumentPlan> = plan.targets.iter().map(|t| &t.plan).collect();
    let open = |_: &KitStore, name: &str| match &plan.kit {
        Some(kit) => Release::open(&kit.folder),
        None => Err(Error::bad_input(format!("the plan does not say where the kit {name} is"))),
    };
    let folder = plan.kit.as_ref().and_then(|kit| kit.folder.parent());
    planned(fleet, &plans, folder, &open)
}

/// The kits of plans that are stored at the instruments, from this controller's folder of releases.
///
/// # Errors
/// When the cache cannot be used.
pub(in crate::cli) fn stored_plan_content(fleet: &Fleet, plans: &[&InstrumentPlan]) -> Result<PlannedContent> {
    planned(fleet, plans, fleet.kits.as_deref(), &|store, name| store.choose(Some(name)))
}

fn planned(
    fleet: &Fleet,
    plans: &[&InstrumentPlan],
    folder: Option<&Path>,
    open: &dyn Fn(&KitStore, &str) -> Result<Release>,
) -> Result<PlannedContent> {
    let cache = fleet.state.join("cache");
    let content = Arc::new(ContentStore::new(&cache)?);
    let mut kits: BTreeMap<&str, Wanted<'_>> = BTreeMap::new();
    for plan in plans {
        for (component, wanted) in &plan.components {
            let kit = plan.kit.as_deref().unwrap_or(&wanted.release);
            let who = kits.entry(kit).or_default().entry((component, wanted.manifest)).or_default();
            who.insert(&plan.instrument);
        }
    }
    let mut lacking = add_hotfixes(&content, &PatchStore::open(&fleet.state), plans);
    for (kit, wanted) in &kits {
        let store = folder.map(|folder| KitStore::open(folder, &cache));
        let release = store.as_ref().ok_or_else(no_kits).and_then(|store| Ok((store, open(store, kit)?)));
        for ((component, manifest), instruments) in wanted {
            let added = match &release {
                Ok((store, release)) => add(&content, store, release, component, *manifest),
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = added {
                let who: Vec<&str> = instruments.iter().copied().collect();
                lacking.push(error.context(format!(
                    "{component} of {kit} (manifest {}) cannot be sent to {}",
                    manifest.short(),
                    who.join(", ")
                )));
            }
        }
    }
    Ok(PlannedContent { source: source(&content), lacking })
}

/// Makes the files of hotfixes known. Gives an error for each hotfix that lacks some.
pub(super) fn add_hotfixes(content: &ContentStore, patches: &PatchStore, plans: &[&InstrumentPlan]) -> Vec<Error> {
    let mut lacking: BTreeMap<&str, Missing<'_>> = BTreeMap::new();
    for plan in plans {
        let hotfixes = plan.steps.iter().filter_map(|step| match &step.action {
            Action::Hotfix(hotfix) => hotfix.content.as_ref(),
            _ => None,
        });
        for (patch, file) in hotfixes.flat_map(|patch| patch.files.iter().map(move |file| (patch, file))) {
            match patches.content(&file.hash) {
                Some(path) => content.add_file(file.hash, path, file.size),
                None => {
                    let missing = lacking.entry(&patch.archive).or_default();
                    missing.instruments.insert(&plan.instrument);
                    missing.files.insert((file.component.as_str(), file.path.as_str()));
                }
            }
        }
    }
    lacking.into_iter().map(|(archive, missing)| missing.error(archive)).collect()
}

/// Files of a hotfix that are not at this controller.
#[derive(Default)]
struct Missing<'a> {
    instruments: BTreeSet<&'a str>,
    /// Component and path.
    files: BTreeSet<(&'a str, &'a str)>,
}

impl Missing<'_> {
    fn error(&self, archive: &str) -> Error {
        let who: Vec<&str> = self.instruments.iter().copied().collect();
        let first = self.files.first().map_or_else(String::new, |(component, path)| format!("{component}/{path}"));
        let more = if self.files.len() > 1 { format!(" and {} more", self.files.len() - 1) } else { String::new() };
        Error::bad_input(format!("the hotfix {archive} cannot be sent to {}", who.join(", ")))
            .because(format!("{first}{more} is not at this controller"))
            .next(format!(
                "give the same archive once more: `ibexdeploy runs resume --of {} --patch {archive}`; or cancel the run with \
                 Ctrl-C, and bring the hotfix anew",
                who.join(",")
            ))
    }
}

/// Makes a component known, unless it is another one than the plan's.
fn add(content: &ContentStore, store: &KitStore, release: &Release, component: &str, manifest: ContentHash) -> Result<()> {
    let kit = store.load(release, &[component.to_owned()], &|_| {})?;
    let found = kit.components.get(component).map(|c| c.manifest_hash);
    if found == Some(manifest) {
        return content.add_kit(&kit);
    }
    let found = found.map_or_else(|| "nothing".to_owned(), |hash| hash.short());
    Err(Error::bad_input(format!(
        "{} has changed since the plan was made: its manifest is now {found}",
        release.folder.display()
    ))
    .next("put the release back as it was and resume again; or cancel the run with Ctrl-C, and release anew"))
}

fn no_kits() -> Error {
    Error::usage("there is no folder of releases").next("name it with --kits DIR or IBEXDEPLOY_KITS, and resume again")
}

/// A store, as links see it.
pub(super) fn source(content: &Arc<ContentStore>) -> Arc<dyn ContentSource> {
    Arc::new(Store(Arc::clone(content)))
}

struct Store(Arc<ContentStore>);

impl ContentSource for Store {
    fn chunks(&self, hashes: &[ContentHash]) -> Result<Vec<Chunk>> {
        self.0.chunks(hashes)
    }

    fn pack(&self, chunk: &Chunk) -> Result<ReadyPack> {
        let pack = self.0.pack(chunk)?;
        Ok(ReadyPack { header: pack.header.clone(), bytes: Box::new(pack.reader()) })
    }
}
