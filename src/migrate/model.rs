//! The data of a migration, as its file has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A migration: the changes that take settings from one version to the next one of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// What it is for, shown when it runs.
    pub description: String,
    /// In the order in which they are made; each sees what those before it did.
    pub changes: Vec<Change>,
}

/// The versions of the settings in their order, which is that of the list and not that of the numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainFile {
    /// From the oldest to the newest version. The last one has no migration.
    pub versions: Vec<VersionEntry>,
}

/// One version of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionEntry {
    /// As `config_version.txt` has it.
    pub version: String,
    /// The file with what leads from here to the next version, beside the chain; nothing changes when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
}

/// One change: exactly one kind, and on which machines it is made. Paths are relative to the folder of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Only on these machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_on: Vec<String>,
    /// On all machines but these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_on: Vec<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_macro: Option<ChangeMacro>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_macro: Option<AddMacro>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename_ioc: Option<Rename>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_base_ioc: Option<AddBaseIoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename_pv: Option<Rename>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename_opi: Option<Rename>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_screen: Option<RemoveScreen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_meta: Option<AddMeta>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_lines: Option<AddLines>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit_lines: Option<EditLines>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_record: Option<ChangeRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_record: Option<AddRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_folders: Option<DeleteFolders>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_remote: Option<SetRemote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<Sql>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
}

/// What a [`Change`] does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    ChangeMacro(&'a ChangeMacro),
    AddMacro(&'a AddMacro),
    RenameIoc(&'a Rename),
    AddBaseIoc(&'a AddBaseIoc),
    RenamePv(&'a Rename),
    RenameOpi(&'a Rename),
    RemoveScreen(&'a RemoveScreen),
    AddMeta(&'a AddMeta),
    AddLines(&'a AddLines),
    EditLines(&'a EditLines),
    ChangeRecord(&'a ChangeRecord),
    AddRecord(&'a AddRecord),
    DeleteFolders(&'a DeleteFolders),
    Stop(&'a Stop),
    SetRemote(&'a SetRemote),
    Sql(&'a Sql),
    ByHand(&'a ByHand),
}

impl Change {
    /// The kinds that are set, each with its key; a valid change has exactly one.
    pub(super) fn kinds(&self) -> Vec<(&'static str, Kind<'_>)> {
        let all = [
            ("change_macro", self.change_macro.as_ref().map(Kind::ChangeMacro)),
            ("add_macro", self.add_macro.as_ref().map(Kind::AddMacro)),
            ("rename_ioc", self.rename_ioc.as_ref().map(Kind::RenameIoc)),
            ("add_base_ioc", self.add_base_ioc.as_ref().map(Kind::AddBaseIoc)),
            ("rename_pv", self.rename_pv.as_ref().map(Kind::RenamePv)),
            ("rename_opi", self.rename_opi.as_ref().map(Kind::RenameOpi)),
            ("remove_screen", self.remove_screen.as_ref().map(Kind::RemoveScreen)),
            ("add_meta", self.add_meta.as_ref().map(Kind::AddMeta)),
            ("add_lines", self.add_lines.as_ref().map(Kind::AddLines)),
            ("edit_lines", self.edit_lines.as_ref().map(Kind::EditLines)),
            ("change_record", self.change_record.as_ref().map(Kind::ChangeRecord)),
            ("add_record", self.add_record.as_ref().map(Kind::AddRecord)),
            ("delete_folders", self.delete_folders.as_ref().map(Kind::DeleteFolders)),
            ("stop", self.stop.as_ref().map(Kind::Stop)),
            ("set_remote", self.set_remote.as_ref().map(Kind::SetRemote)),
            ("sql", self.sql.as_ref().map(Kind::Sql)),
            ("by_hand", self.by_hand.as_ref().map(Kind::ByHand)),
        ];
        all.into_iter().filter_map(|(key, kind)| Some((key, kind?))).collect()
    }
}

/// Renames a macro of an IOC and of its numbered copies, or gives it another value: in every `iocs.xml` and in
/// `globals.txt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMacro {
    /// The IOC: `GALIL` means `GALIL_01` as well.
    pub ioc: String,
    /// A regular expression that matches the macro's name from its start; end it with `$` for the whole name.
    pub name: String,
    /// Only macros whose value this regular expression matches from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The new name; `$1` stands for the first group of `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename: Option<String>,
    /// The new value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

/// Adds a macro to an IOC and its numbered copies in every `iocs.xml`, where it is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMacro {
    /// The IOC: `GALIL` means `GALIL_01` as well.
    pub ioc: String,
    pub name: String,
    pub value: String,
}

/// Another name in every place where this kind of name stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    pub from: String,
    pub to: String,
}

/// Adds an IOC to the component that every configuration has, behind another one; nothing when it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddBaseIoc {
    pub ioc: String,
    /// The IOC it is put behind.
    pub after: String,
}

/// Removes a device screen from `devices/screens.xml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveScreen {
    /// The key of its OPI.
    pub key: String,
}

/// Adds an element to the `meta.xml` of every configuration and component, where it is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMeta {
    pub element: String,
    pub value: String,
}

/// Adds lines at the end of a text file, those that are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddLines {
    pub file: String,
    pub lines: Vec<String>,
    /// The lines of the file when there is none; without these, it is not made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_file: Vec<String>,
}

/// Edits lines of text files by a regular expression.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditLines {
    /// A pattern of files: `**/*.cmd`.
    pub files: String,
    /// Only lines that load one of these databases (`motor.db`) with `dbLoadRecords`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loading: Vec<String>,
    /// Only lines that load a database which the server makes with this template: one whose `.substitutions` file below
    /// the server's `support` folder names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading_made_with: Option<String>,
    /// Only lines in which this regular expression is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub having: Option<String>,
    /// Not lines in which this regular expression is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<String>,
    /// The regular expression that is replaced. A chosen line without it must be edited by a person: then nothing is
    /// changed.
    pub replace: String,
    /// What stands there then; `$1` is the first group of `replace`, `$$` a dollar sign.
    pub with: String,
}

/// Changes a record of `dashboard.db`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRecord {
    /// The record's name.
    pub record: String,
    /// Fields to add where they are missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// Fields to give another value; one that is missing is added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
}

/// Adds a record at the end of `dashboard.db`; nothing when it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRecord {
    /// The record's name.
    pub record: String,
    /// Its type, for example `stringin`.
    #[serde(rename = "type")]
    pub kind: String,
    pub fields: BTreeMap<String, String>,
}

/// Deletes folders with all that is in them, those that are there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteFolders {
    pub folders: Vec<String>,
    /// Stops with `message` when one of them has a newer commit than this moment, for example `2024-09-01T00:00:00+01:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchanged_since: Option<String>,
    /// What a person must do when it stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Stops with a message that a person must act on, when something is there. Nothing of the whole chain is changed then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub next: String,
    /// When this file or folder is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_exists: Option<String>,
    /// When a PV with this in its name stands in a block, a synoptic or the dashboard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub if_pv: Vec<String>,
}

/// Points a remote of a git work tree elsewhere. Only on an instrument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRemote {
    /// The work tree, relative to the folder of the settings: `../common`.
    pub folder: String,
    pub remote: String,
    pub url: String,
}

/// An SQL file of the server that the databases need. It is named for a person: migrations do not touch databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// Relative to the server's folder.
    pub file: String,
}

/// Something beside the settings that a person does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByHand {
    pub text: String,
}
