//! What the arguments of actions refer to: places, secrets.

use crate::actions::Action;
use crate::actions::check::Check;
use crate::actions::command::{Command, EnvValue};
use crate::paths::Place;

/// The places an action names, each with its pointer in the serialised action.
pub(super) fn places(action: &Action) -> Vec<(String, &Place)> {
    let mut found: Vec<(String, Option<&Place>)> = Vec::new();
    match action {
        Action::Backup(a) => {
            found.extend(list("/backup/of", &a.of));
            found.push(("/backup/to".to_owned(), a.to.as_ref()));
        }
        Action::Check(a) => found.extend(check_places("/check", a)),
        Action::Clone(a) => found.push(("/clone/to".to_owned(), Some(&a.to))),
        Action::Command(a) => found.extend(command_places(a)),
        Action::Copy(a) => {
            found.push(("/copy/from".to_owned(), Some(&a.from)));
            found.push(("/copy/to".to_owned(), Some(&a.to)));
        }
        Action::File(a) => found.push(("/file/path".to_owned(), Some(&a.path))),
        Action::Git(a) => found.push(("/git/at".to_owned(), Some(&a.at))),
        Action::Link(a) => {
            found.push(("/link/at".to_owned(), Some(&a.at)));
            found.push(("/link/to".to_owned(), Some(&a.to)));
        }
        Action::Migrate(a) => {
            found.push(("/migrate/at".to_owned(), Some(&a.at)));
            found.push(("/migrate/server".to_owned(), Some(&a.server)));
        }
        Action::Mysql(a) => {
            found.extend(
                [("to", &a.to), ("data", &a.data), ("dump_to", &a.dump_to)].map(|(k, p)| (format!("/mysql/{k}"), Some(p))),
            );
            found.extend(list("/mysql/schema", &a.schema));
        }
        Action::OsPatch(a) => found.push(("/os_patch/from".to_owned(), a.from.as_ref().filter(|p| !p.as_str().is_empty()))),
        Action::Package(a) => {
            found.push(("/package/installer".to_owned(), Some(&a.installer)));
            found.push(("/package/creates".to_owned(), a.creates.as_ref()));
            found.push(("/package/log".to_owned(), a.log.as_ref()));
        }
        Action::Process(a) => found.extend(list("/process/under", &a.under)),
        Action::Remove(a) => found.extend(list("/remove/paths", &a.paths)),
        Action::Restore(a) => {
            found.push(("/restore/from".to_owned(), a.from.as_ref()));
            found.extend(list("/restore/of", &a.of));
            found.push(("/restore/file".to_owned(), a.file.as_ref()));
        }
        Action::Retention(a) => {
            found.push(("/retention/move_to".to_owned(), Some(&a.move_to)));
            found.push(("/retention/at".to_owned(), a.at.as_ref()));
        }
        Action::Snapshot(a) => {
            found.extend(list("/snapshot/files", &a.files));
            found.push(("/snapshot/save".to_owned(), a.save.as_ref()));
        }
        Action::Sync(a) => found.push(("/sync/to".to_owned(), Some(&a.to))),
        Action::Task(a) => found.push(("/task/report".to_owned(), a.report.as_ref())),
        Action::Vhd(a) => {
            found.push(("/vhd/at".to_owned(), a.at.as_ref()));
            found.push(("/vhd/file".to_owned(), Some(&a.file)));
            found.push(("/vhd/instead_of".to_owned(), a.instead_of.as_ref()));
        }
        // Of a hotfix only those count that its archive has files for.
        Action::Ask(_) | Action::Hotfix(_) | Action::Notify(_) | Action::Reboot(_) | Action::Remind(_) | Action::Service(_) => {}
    }
    found.into_iter().filter_map(|(pointer, place)| place.map(|p| (pointer, p))).collect()
}

fn list<'a>(pointer: &str, places: &'a [Place]) -> Vec<(String, Option<&'a Place>)> {
    places.iter().enumerate().map(|(n, place)| (format!("{pointer}/{n}"), Some(place))).collect()
}

fn check_places<'a>(at: &str, check: &'a Check) -> Vec<(String, Option<&'a Place>)> {
    let mut found = vec![
        (format!("{at}/disk/place"), check.disk.as_ref().map(|d| &d.place)),
        (format!("{at}/version/at"), check.version.as_ref().map(|v| &v.at)),
        (format!("{at}/file/path"), check.file.as_ref().map(|f| &f.path)),
        (format!("{at}/output/at"), check.output.as_ref().and_then(|o| o.at.as_ref())),
        (format!("{at}/git/at"), check.git.as_ref().map(|g| &g.at)),
    ];
    if let Some(process) = &check.process {
        found.extend(list(&format!("{at}/process/under"), &process.under));
    }
    found
}

fn command_places(command: &Command) -> Vec<(String, Option<&Place>)> {
    // A program without a folder in its name is found by PATH.
    let program = command.program.as_ref().filter(|p| p.as_str().contains(['\\', '/']));
    let mut found = vec![
        ("/command/at".to_owned(), command.at.as_ref()),
        ("/command/program".to_owned(), program),
        ("/command/log".to_owned(), command.log.as_ref()),
        ("/command/creates".to_owned(), command.creates.as_ref()),
    ];
    found.extend(command.gate.iter().flat_map(|gate| check_places("/command/gate", gate)));
    found
}

/// The secrets an action uses, each with its pointer in the serialised action.
pub(crate) fn secrets(action: &Action) -> Vec<(String, &str)> {
    let command = match action {
        Action::Command(command) => command,
        Action::Mysql(mysql) => return vec![("/mysql/password".to_owned(), mysql.password.as_str())],
        Action::Migrate(migrate) => {
            return migrate.sql_password.iter().map(|secret| ("/migrate/sql_password".to_owned(), secret.as_str())).collect();
        }
        _ => return Vec::new(),
    };
    let env = command.env.iter().filter_map(|(name, value)| match value {
        EnvValue::Secret(secret) => Some((format!("/command/env/{}/secret", crate::yaml::pointer_part(name)), secret.as_str())),
        EnvValue::Value(_) => None,
    });
    let stdin = command.stdin_secret.as_deref().map(|secret| ("/command/stdin_secret".to_owned(), secret));
    env.chain(stdin).collect()
}
