//! `mysql`: the database server of an instrument replaced by the kit's, with nothing lost.
//!
//! While IBEX runs, the kit's zip is unpacked and its data folder prepared. In the outage the old server is told to take
//! no changes, everything is counted and dumped, the server is stopped, and programs and data change places by renames.
//! What was there stays as it was in the run's undo folder, so that the way back is a rename and a start.

mod before;
mod client;
mod dump;
mod kit;
mod rows;
mod server;
mod sql;
mod upgrade;
mod version;

pub use before::MysqlUndo;
pub(super) use sql::{file_of_server, remind_of_files, run_files};

use super::moves::shown;
use super::volumes::{areas_beside, resolved};
use super::{Applied, Deadline, Difference, FetchStats, Perform, Probe, SpaceNeed, StepContext, UndoRecord};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::Place;
use crate::platform::ServiceStatus;
use crate::units::Size;
use before::{Before, DATA, Files, OldServer};
use client::{Client, row};
use kit::KitZip;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use server::Installed;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use upgrade::Upgrade;
use version::{Route, ServerVersion};

/// Brings MySQL to the kit's version, with all databases and accounts: within a series on a copy of the data, else by a
/// dump that is read into new data; or installs it where there is none. The old programs and data are kept for the undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mysql {
    /// The component of the kit that holds the zip; `MySQL` unless said.
    #[serde(default = "component")]
    pub component: String,
    /// The zip in the component; that of the newest version unless said. It is called like `mysql-8.4.3-winx64.zip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zip: Option<String>,
    /// The folder of the programs; the place `mysql` unless said.
    #[serde(default = "programs")]
    pub to: Place,
    /// The data folder; the place `mysql_data` unless said.
    #[serde(default = "data")]
    pub data: Place,
    /// The name of the new server's service; `MYSQL84` for 8.4 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Names that the service of the present server may have.
    #[serde(default = "services")]
    pub services: Vec<String>,
    /// The port of both servers; 3306 unless said.
    #[serde(default = "port")]
    pub port: u16,
    /// The name of the secret that is root's password; `mysql_root` unless said.
    #[serde(default = "password")]
    pub password: String,
    /// Databases that the present server must have. All that it has are taken along, also others.
    #[serde(default = "databases")]
    pub databases: Vec<String>,
    /// The folder that the dump is written to, where it stays as a backup; the place `backups` unless said.
    #[serde(default = "dump_to")]
    pub dump_to: Place,
    /// SQL files that make databases and accounts in new data, before the dump is read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<Place>,
    /// Keys of `my.ini`: section, key, value. `basedir`, `datadir` and `port` are set by themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ini: BTreeMap<String, BTreeMap<String, String>>,
    /// Keeps the other keys of the present `my.ini`; true unless said.
    #[serde(default = "yes")]
    pub keep_ini: bool,
}

fn component() -> String {
    "MySQL".to_owned()
}

fn programs() -> Place {
    Place("mysql".to_owned())
}

fn data() -> Place {
    Place("mysql_data".to_owned())
}

fn services() -> Vec<String> {
    ["MYSQL84", "MYSQL80", "MYSQL57"].map(str::to_owned).into()
}

fn port() -> u16 {
    3306
}

fn password() -> String {
    "mysql_root".to_owned()
}

fn databases() -> Vec<String> {
    ["alarm", "archive", "exp_data", "iocdb", "journal", "msg_log"].map(str::to_owned).into()
}

fn dump_to() -> Place {
    Place("backups".to_owned())
}

fn yes() -> bool {
    true
}

/// The least time that taking a failed upgrade back gets.
const BACK: Duration = Duration::from_secs(1800);

/// What one look at the instrument and the kit gave.
struct Look {
    zip: KitZip,
    old: Option<Installed>,
    /// Nothing when the kit's version is there already.
    route: Option<Route>,
    /// The folders of programs and data, resolved.
    programs: PathBuf,
    data: PathBuf,
}

impl Mysql {
    fn look(&self, cx: &StepContext<'_>) -> Result<Look> {
        let zip = KitZip::find(self, cx)?;
        let name = self.service_for(zip.version);
        let mut names = self.services.clone();
        if !names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            names.push(name);
        }
        let old = Installed::find(cx, &names)?;
        let route = Route::between(old.as_ref().map(|old| old.version), zip.version)?;
        let (programs, data) = (resolved(&cx.native(&self.to)?)?, resolved(&cx.native(&self.data)?)?);
        if route == Some(Route::New) && !server::is_empty(&data)? {
            return Err(Error::step_failed(format!("{} holds data, and no service of MySQL is there", shown(cx, &data)))
                .because(format!("looked for {}", names.join(", ")))
                .next("name the server's service in `services`; or move the folder away, if its data are of no use"));
        }
        Ok(Look { zip, old, route, programs, data })
    }

    fn client(&self, old: &Installed) -> Client<'_> {
        Client { bin: old.bin.clone(), port: self.port, secret: &self.password }
    }

    /// The present server's data folder, when it lets us in and has the databases it should have.
    fn examine(&self, cx: &StepContext<'_>, look: &Look, old: &Installed) -> Result<PathBuf> {
        let service = &old.service.name;
        if cx.platform.service(service)? != Some(ServiceStatus::Running) {
            return Err(Error::step_failed(format!("the service {service} does not run, so its data cannot be looked at"))
                .next("start it, see that it is well, and run it again"));
        }
        let client = self.client(old);
        let answer = client.ask(cx, "data", &row("@@datadir", ""))?;
        let folder = answer.into_iter().flatten().next().map(PathBuf::from);
        let folder =
            folder.ok_or_else(|| Error::step_failed(format!("the server of {service} does not name its data folder")))?;
        let folder = resolved(&folder.components().collect::<PathBuf>())?;
        if folder != look.data && !server::is_empty(&look.data)? {
            return Err(Error::step_failed(format!("{} holds data that are not the running server's", shown(cx, &look.data)))
                .because(format!("those are in {}", shown(cx, &folder)))
                .next("correct the place of `data`, or move the folder away"));
        }
        let there = rows::databases(cx, &client)?;
        if let Some(missing) = self.databases.iter().find(|wanted| !there.contains(wanted)) {
            let next = match crate::nearest::nearest(missing, there.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if there.is_empty() => "it has none: is it the right server?".to_owned(),
                None => format!("it has {}; correct `databases`, or see what became of it", there.join(", ")),
            };
            return Err(Error::step_failed(format!("the server of {service} has no database `{missing}`")).next(next));
        }
        self.expect_room(cx, &client, &there)?;
        Ok(folder)
    }

    /// Room for the dump, by what the server says that its tables take.
    fn expect_room(&self, cx: &StepContext<'_>, client: &Client<'_>, databases: &[String]) -> Result<()> {
        let (bytes, to) = (rows::bytes(cx, client, databases)?, cx.native(&self.dump_to)?);
        let free = cx.platform.free_space(&to)?;
        if bytes <= free {
            return Ok(());
        }
        let message = format!("the dump may take {}, and {} has {} free", Size(bytes), shown(cx, &to), Size(free));
        Err(Error::new(ErrorKind::OutOfSpace, message).next("move old backups away, or say another folder in `dump_to`"))
    }

    /// Brings programs and data beside the present ones.
    fn prepare(&self, cx: &StepContext<'_>, look: &Look, route: Route) -> Result<FetchStats> {
        let areas = areas_beside(cx, &look.programs)?;
        let stats = look.zip.bring(self, cx, &areas, &look.programs)?;
        if route != Route::InPlace {
            self.make_data(cx, look)?;
        }
        Ok(stats)
    }

    /// An empty data folder in the stage area, unless it is there.
    fn make_data(&self, cx: &StepContext<'_>, look: &Look) -> Result<()> {
        let staged = areas_beside(cx, &look.data)?.stage;
        let (made, making) = (staged.join(DATA), staged.join("data.making"));
        if made.is_dir() {
            return Ok(());
        }
        files::remove_folder(&making)?;
        let programs = areas_beside(cx, &look.programs)?.stage.join(kit::PROGRAMS);
        server::initialise(cx, &programs, &making)?;
        cx.platform.copy_rights(&super::volumes::nearest_folder(&look.data)?, &making)?;
        std::fs::rename(&making, &made).cannot(|| format!("move {}", making.display()))
    }

    /// Writes down what is going to be done.
    fn begin(&self, cx: &StepContext<'_>, look: Look, route: Route, files: &Files) -> Result<(Before, MysqlUndo)> {
        let old = match &look.old {
            Some(old) => Some(OldServer {
                service: old.service.clone(),
                version: old.version,
                bin: old.bin.clone(),
                data: self.examine(cx, &look, old)?,
            }),
            None => None,
        };
        self.prepare(cx, &look, route)?;
        let (programs_areas, data_areas) = (areas_beside(cx, &look.programs)?, areas_beside(cx, &look.data)?);
        cx.platform.flush_volume(&programs_areas.stage)?;
        cx.platform.flush_volume(&data_areas.stage)?;
        let name = self.service_for(look.zip.version);
        let before = Before {
            route,
            new: server::definition(&name, &look.programs),
            version: look.zip.version,
            port: self.port,
            secret: self.password.clone(),
            programs_stage: programs_areas.stage,
            aside: Before::aside_in(&data_areas),
            data_stage: data_areas.stage,
            programs: look.programs,
            data: look.data,
            dump: old.is_some().then(|| dump::free_name(&cx.native(&self.dump_to)?)).transpose()?,
            old,
        };
        before.keep(files)
    }

    /// Undoes a failed attempt at once, so that the databases are there again whatever comes next.
    fn take_back(cx: &StepContext<'_>, undo: &MysqlUndo, error: Error) -> Error {
        let deadline = Deadline::after(BACK, Arc::default());
        super::taken_back(error, undo.take_back_at_once(&StepContext { deadline: &deadline, ..*cx }))
    }
}

impl Route {
    fn words(self) -> &'static str {
        match self {
            Self::New => "a new server",
            Self::InPlace => "on a copy of the data",
            Self::Reload => "by a dump that is read into new data",
        }
    }
}

impl Perform for Mysql {
    fn describe(&self) -> String {
        match &self.zip {
            Some(zip) if !zip.is_empty() => format!("mysql from {zip}"),
            _ => "mysql from the kit".to_owned(),
        }
    }

    /// Without the password, which a dry run has not: versions and folders.
    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let look = self.look(cx)?;
        let Some(route) = look.route else {
            let summary = format!("MySQL {} is installed already", look.zip.version);
            return Ok(Probe { difference: Difference::None, summary, ..Probe::default() });
        };
        let mut items = vec![format!("the service {} runs {}", self.service_for(look.zip.version), shown(cx, &look.programs))];
        let summary = match &look.old {
            None => format!("MySQL {}, {}", look.zip.version, route.words()),
            Some(old) => {
                items.insert(0, format!("the service {} is stopped, its programs and data are kept", old.service.name));
                let held = Size(server::bytes_below(&look.data));
                format!("MySQL {} to {}, {}; {held} of data", old.version, look.zip.version, route.words())
            }
        };
        Ok(Probe { difference: Difference::Some, summary, items, fetch_bytes: look.zip.entry.size })
    }

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        let look = self.look(cx)?;
        if look.route.is_none() || Before::read(&Files::of(cx, &look.data))?.is_some() {
            return Ok(Vec::new());
        }
        let unpacked = look.zip.entry.size.saturating_mul(kit::UNPACKED);
        let programs = SpaceNeed { on: cx.path(&self.to)?, bytes: unpacked, what: format!("MySQL {}", look.zip.version) };
        let held = server::bytes_below(&look.data);
        let data = SpaceNeed { on: cx.path(&self.data)?, bytes: held, what: "the data of MySQL once more".to_owned() };
        // Text takes about as much as tables do.
        let dump = SpaceNeed { on: cx.path(&self.dump_to)?, bytes: held, what: "the dump of MySQL's data".to_owned() };
        Ok(vec![programs, data, dump])
    }

    /// Everything that can be done beside the running server: the programs, an empty data folder or a first copy of the
    /// data, and a look whether the password is right.
    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        let look = self.look(cx)?;
        let Some(route) = look.route else { return Ok(FetchStats::default()) };
        if Before::read(&Files::of(cx, &look.data))?.is_some() {
            return Ok(FetchStats::default());
        }
        let folder = look.old.as_ref().map(|old| self.examine(cx, &look, old)).transpose()?;
        let stats = self.prepare(cx, &look, route)?;
        if let Some(folder) = folder.filter(|_| route == Route::InPlace) {
            // The server writes meanwhile: in the outage only what has changed since is copied again.
            upgrade::copy_of_data(&folder, &areas_beside(cx, &look.data)?.stage).refresh(cx)?;
        }
        Ok(stats)
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let files = Files::of(cx, &resolved(&cx.native(&self.data)?)?);
        let (before, undo) = match Before::read(&files)? {
            Some(begun) => begun,
            None => {
                let look = self.look(cx)?;
                let Some(route) = look.route else {
                    return Ok(Applied::ok(format!("MySQL {} is installed already", look.zip.version)));
                };
                self.begin(cx, look, route, &files)?
            }
        };
        cx.undo_log.intend(UndoRecord::Mysql(undo.clone()))?;
        let held = Upgrade { mysql: self, cx, before: &before, files: &files }
            .carry_out()
            .map_err(|error| Self::take_back(cx, &undo, error))?;
        Ok(self.applied(cx, &before, &held))
    }
}

impl Mysql {
    fn service_for(&self, version: ServerVersion) -> String {
        self.service.clone().unwrap_or_else(|| version.service())
    }

    fn applied(&self, cx: &StepContext<'_>, before: &Before, held: &rows::Rows) -> Applied {
        let dump = before.dump.as_ref().filter(|dump| dump.exists()).map(|dump| shown(cx, dump));
        let from = before.old.as_ref().map(|old| old.version.to_string());
        let (tables, rows) = held.totals();
        let summary = match &from {
            Some(from) => {
                format!("MySQL {from} to {}, {}: {rows} rows in {tables} tables as before", before.version, before.route.words())
            }
            None => format!("MySQL {} as the service {}", before.version, before.new.name),
        };
        Applied::changed(summary).with_result(json!({
            "from": from,
            "to": before.version.to_string(),
            "service": before.new.name,
            "dump": dump,
            "rows": held.by_table(),
        }))
    }
}
