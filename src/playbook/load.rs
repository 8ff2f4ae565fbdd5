//! Reading a playbook with all that it includes.

use super::check::{Checked, check};
use super::source::SourceFile;
use super::step::{Phase, Playbook, Step};
use crate::actions::Action;
use crate::error::{Error, Result, SourcePosition};
use crate::nearest::nearest;
use crate::yaml;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A playbook with its includes in place, free of the mistakes that can be seen without an inventory and a kit.
#[derive(Debug, Clone)]
pub struct LoadedPlaybook {
    pub name: String,
    pub description: String,
    /// Variables with the values they have unless the inventory or `--set` says otherwise.
    pub vars: BTreeMap<String, Value>,
    /// Nothing is stopped when no `sync` step has anything to change.
    pub only_if_differs: bool,
    /// In the order in which they run.
    pub steps: Vec<LoadedStep>,
    /// The playbook's own file first.
    pub files: Vec<SourceFile>,
}

impl LoadedPlaybook {
    /// The file a step stands in.
    pub fn file_of(&self, step: &LoadedStep) -> &SourceFile {
        &self.files[step.file]
    }

    /// The place of a value inside a step, for example `/sync/to`; of the whole step for an empty pointer.
    pub fn position(&self, step: &LoadedStep, below: &str) -> SourcePosition {
        self.file_of(step).position(&format!("{}{below}", step.pointer))
    }

    /// The components that steps name, so far as no template stands in the name: what a kit must be read for.
    pub fn components(&self) -> BTreeSet<String> {
        self.components_of(|step| !matches!(step.action, Action::Mysql(_)) || step.step.when.is_none())
    }

    /// Components that are read where the kit has them: those that only steps with a condition name, which may be that
    /// they are there (`'MySQL' in kit.components`).
    pub fn optional_components(&self) -> BTreeSet<String> {
        let needed = self.components();
        self.components_of(|_| true).into_iter().filter(|name| !needed.contains(name)).collect()
    }

    fn components_of(&self, counts: impl Fn(&LoadedStep) -> bool) -> BTreeSet<String> {
        let named = self.steps.iter().filter(|step| counts(step)).filter_map(|step| match &step.action {
            Action::Sync(sync) => Some(sync.component.clone()),
            Action::Mysql(mysql) => Some(mysql.component.clone()),
            _ => None,
        });
        named.filter(|name| !crate::template::is_template(name)).collect()
    }
}

/// A step, with the place it was written at.
#[derive(Debug, Clone)]
pub struct LoadedStep {
    pub phase: Phase,
    pub step: Step,
    /// The step's one action.
    pub action: Action,
    /// The file's place in [`LoadedPlaybook::files`].
    pub file: usize,
    /// The step's JSON pointer in that file.
    pub pointer: String,
}

/// A step before its includes and checks.
#[derive(Debug, Clone)]
pub(super) struct RawStep {
    pub(super) phase: Phase,
    pub(super) step: Step,
    pub(super) file: usize,
    pub(super) pointer: String,
}

/// Reads the playbook `name` of a folder, with its includes, and checks it. A path to a `.yaml` file will do as well.
///
/// # Errors
/// The first of its mistakes, with its place; the further ones are with it.
pub fn load(folder: &Path, name: &str) -> Result<LoadedPlaybook> {
    let (playbook, errors) = match read(folder, name) {
        Ok((playbook, errors)) => (Some(playbook), errors),
        Err(errors) => (None, errors),
    };
    match (Error::of_all(errors), playbook) {
        (Some(error), _) => Err(error),
        (None, Some(playbook)) => Ok(playbook),
        (None, None) => Err(Error::internal("a playbook cannot be read, and why is not known")),
    }
}

/// All mistakes of a playbook, in the order of its steps; empty when it is well.
pub fn problems(folder: &Path, name: &str) -> Vec<Error> {
    match read(folder, name) {
        Ok((_, errors)) => errors,
        Err(errors) => errors,
    }
}

/// The playbook with the mistakes of its steps, or why it has none at all.
fn read(folder: &Path, name: &str) -> Result<(LoadedPlaybook, Vec<Error>), Vec<Error>> {
    let path = find(folder, name).map_err(|e| vec![e])?;
    let mut reader = Reader { files: Vec::new(), steps: Vec::new(), errors: Vec::new() };
    let file = SourceFile::read(&path).map_err(|e| vec![e])?;
    let head: Playbook = yaml::parse_all(&file.shown(), file.text())?;
    reader.files.push(file);
    reader.expect_name(&head, &path);
    let mut open = vec![(path.clone(), identity(&path))];
    for phase in Phase::ALL {
        reader.take(phase, head.steps(phase), 0, &format!("/{phase}"), &mut open);
    }
    let Reader { files, steps, errors } = reader;
    let Checked { steps, errors } = check(&head, &files, steps, errors);
    let playbook = LoadedPlaybook {
        name: head.playbook,
        description: head.description,
        vars: head.vars,
        only_if_differs: head.only_if_differs,
        steps,
        files,
    };
    Ok((playbook, errors))
}

/// The file of a playbook that is named as the operator names it.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let is_file = Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
    if is_file {
        return Ok(PathBuf::from(name));
    }
    let path = folder.join(format!("{name}.yaml"));
    if path.is_file() {
        return Ok(path);
    }
    let known = super::list::names(folder)?;
    let next = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "name the folder of playbooks with --playbooks DIR".to_owned(),
        None => format!("the playbooks there are: {}", known.join(", ")),
    };
    Err(Error::usage(format!("there is no playbook `{name}` in {}", folder.display())).next(next))
}

/// One file has one identity, however it is named.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

struct Reader {
    files: Vec<SourceFile>,
    steps: Vec<RawStep>,
    errors: Vec<Error>,
}

/// The files that are being read, the outermost first: as named, and what they are.
type OpenFiles = Vec<(PathBuf, PathBuf)>;

impl Reader {
    fn expect_name(&mut self, head: &Playbook, path: &Path) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if head.playbook != stem {
            let error = Error::bad_input(format!("the playbook calls itself `{}`, and its file `{stem}`", head.playbook))
                .at(self.files[0].position("/playbook"))
                .next(format!("write `playbook: {stem}`, or name the file `{}.yaml`", head.playbook));
            self.errors.push(error);
        }
    }

    /// Takes the steps of a list, and of the lists that it includes, in their order.
    fn take(&mut self, phase: Phase, steps: &[Step], file: usize, pointer: &str, open: &mut OpenFiles) {
        for (n, step) in steps.iter().enumerate() {
            let pointer = format!("{pointer}/{n}");
            match &step.include {
                Some(include) => {
                    if let Err(errors) = self.include(phase, step, include, file, &pointer, open) {
                        self.errors.extend(errors);
                    }
                }
                None => self.steps.push(RawStep { phase, step: step.clone(), file, pointer }),
            }
        }
    }

    fn include(
        &mut self,
        phase: Phase,
        step: &Step,
        include: &str,
        file: usize,
        pointer: &str,
        open: &mut OpenFiles,
    ) -> Result<(), Vec<Error>> {
        let at = self.files[file].position(&format!("{pointer}/include"));
        let alone = Step { include: step.include.clone(), ..Step::default() };
        if *step != alone {
            return Err(vec![
                Error::bad_input("`include` stands together with other keys in one step")
                    .at(at)
                    .next("leave the other keys out, or write them at the steps of the included file"),
            ]);
        }
        let from = self.files[file].path.parent().unwrap_or(Path::new("")).join(include);
        let itself = identity(&from);
        if let Some(first) = open.iter().position(|(_, known)| *known == itself) {
            let chain: Vec<String> = open[first..].iter().map(|(shown, _)| shown.display().to_string()).collect();
            return Err(vec![
                Error::bad_input(format!("`{include}` includes itself"))
                    .because(format!("{} -> {}", chain.join(" -> "), from.display()))
                    .at(at)
                    .next("take one of the includes of this circle out"),
            ]);
        }
        let source = SourceFile::read(&from).map_err(|e| match e.details().position {
            Some(_) => vec![e],
            None => vec![missing_include(e, &from, include).at(at)],
        })?;
        let includer = self.files[file].shown();
        let with_includer = |e: Error| e.because(format!("`{include}` is included by {includer}"));
        let steps: Vec<Step> = yaml::parse_all(&source.shown(), source.text())
            .map_err(|errors| errors.into_iter().map(with_includer).collect::<Vec<_>>())?;
        let index = self.files.iter().position(|f| identity(&f.path) == itself).unwrap_or_else(|| {
            self.files.push(source);
            self.files.len() - 1
        });
        open.push((from, itself));
        self.take(phase, &steps, index, "", open);
        open.pop();
        Ok(())
    }
}

/// An include that is not there, with the name of one that is.
fn missing_include(error: Error, from: &Path, include: &str) -> Error {
    let wanted = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside: Vec<String> = std::fs::read_dir(from.parent().unwrap_or(Path::new(".")))
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    let next = match nearest(&wanted, beside.iter().map(String::as_str)) {
        Some(near) if near != wanted => format!("did you mean `{near}`? an include is found relative to the file that names it"),
        _ => "an include is a file with a list of steps, found relative to the file that names it".to_owned(),
    };
    let cause = error.details().causes.first().cloned();
    let plain = Error::bad_input(format!("the included file `{include}` cannot be read")).next(next);
    cause.into_iter().fold(plain, Error::because)
}
