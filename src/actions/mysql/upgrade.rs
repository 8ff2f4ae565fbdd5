//! The upgrade, from the old server that runs to the new one that holds the same. Every part may be repeated: after a
//! crash it begins again with what is there.

use super::before::{Before, DATA, Files, Mark, OldServer};
use super::client::{Client, name, row};
use super::kit::PROGRAMS;
use super::rows::{self, Rows};
use super::version::Route;
use super::{Mysql, dump, server};
use crate::actions::StepContext;
use crate::actions::moves::{Moves, make_folder, shown};
use crate::actions::remove::split;
use crate::actions::sync::staging::give_file_rights;
use crate::actions::volumes::areas_beside;
use crate::actions::writes::SavedFolder;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::files::remove_folder;
use crate::platform::ServiceStatus;
use secrecy::ExposeSecret;
use std::path::Path;

/// Accounts that every server has by itself.
const OWN_ACCOUNTS: &str = "'', 'root', 'PUBLIC', 'mysql.sys', 'mysql.session', 'mysql.infoschema', 'mariadb.sys'";

/// One upgrade under way.
pub(super) struct Upgrade<'a> {
    pub(super) mysql: &'a Mysql,
    pub(super) cx: &'a StepContext<'a>,
    pub(super) before: &'a Before,
    pub(super) files: &'a Files,
}

impl Upgrade<'_> {
    /// Brings it to its end; gives what the databases hold.
    pub(super) fn carry_out(&self) -> Result<Rows> {
        let held = match &self.before.old {
            Some(old) if !self.files.has(Mark::Dumped) => self.save(old)?,
            Some(_) => files::read_json(&self.files.rows())?
                .ok_or_else(|| Error::new(ErrorKind::Integrity, "the count of what the old server held is gone"))?,
            None => Rows::default(),
        };
        let held = self.replace(held)?;
        self.first_start()?;
        let client = self.new_client();
        if !self.files.has(Mark::Verified) {
            self.fill(&client, &held)?;
            self.files.set(Mark::Verified)?;
        }
        self.finish(&client)?;
        Ok(held)
    }

    /// Gives the new server what the old one held, and compares.
    fn fill(&self, client: &Client<'_>, held: &Rows) -> Result<()> {
        match self.before.route {
            Route::InPlace => client.upgrade_tables(self.cx)?,
            Route::Reload => self.reload(client)?,
            Route::New => self.run_schema(client)?,
        }
        if self.before.old.is_none() {
            return Ok(());
        }
        let databases = rows::databases(self.cx, client)?;
        let mut now = Rows::count(self.cx, client, &databases)?;
        // The schema's script may know databases that the old server did not have.
        now.only_of(held);
        held.expect_same(&now)
    }

    fn old_client(&self, old: &OldServer) -> Client<'_> {
        Client { bin: old.bin.clone(), port: self.before.port, secret: &self.mysql.password }
    }

    fn new_client(&self) -> Client<'_> {
        Client { bin: self.before.programs.join("bin"), port: self.before.port, secret: &self.mysql.password }
    }

    // -- the old server --

    /// Makes the old server take no more changes, counts what it holds and dumps it.
    fn save(&self, old: &OldServer) -> Result<Rows> {
        let (cx, client) = (self.cx, self.old_client(old));
        let service = &old.service.name;
        if cx.platform.service(service)? != Some(ServiceStatus::Running) {
            return Err(Error::step_failed(format!("the service {service} does not run, so its data cannot be saved"))
                .next("start it, see that it is well, and run it again"));
        }
        self.files.set(Mark::Quiet)?;
        // `read_only` does not bind root. MySQL has a word that does; MariaDB passes over this comment.
        client.tell(cx, "quiet", "SET GLOBAL read_only = ON;\n/*!80000 SET GLOBAL super_read_only = ON */;\n")?;
        let databases = rows::databases(cx, &client)?;
        let held = Rows::count(cx, &client, &databases)?;
        if self.before.route == Route::Reload {
            self.save_accounts(&client)?;
        }
        if let Some(to) = self.before.dump.as_ref().filter(|_| !databases.is_empty()) {
            if let Some(folder) = to.parent() {
                make_folder(cx, folder)?;
            }
            client.dump(cx, &databases, to)?;
            dump::expect_complete(to, &databases).map_err(|e| e.context("the old server stays, with its data"))?;
        }
        files::write_json(&self.files.rows(), &held)?;
        self.files.set(Mark::Dumped)?;
        Ok(held)
    }

    /// Writes down the accounts and what they may do: they are in no dump of the databases.
    fn save_accounts(&self, client: &Client<'_>) -> Result<()> {
        let from = format!("FROM mysql.user WHERE User NOT IN ({OWN_ACCOUNTS})");
        let accounts = client.ask(self.cx, "accounts", &row("User, Host", &from))?;
        // MySQL gives a password's hash as it is unless asked for digits; MariaDB passes over this comment.
        let mut question = String::from("/*!80017 SET SESSION print_identified_with_as_hex = ON */;\n");
        for account in &accounts {
            if let [user, host] = account.as_slice() {
                let account = format!("{}@{}", name(user), name(host));
                question.push_str(&format!("SHOW CREATE USER {account};\nSHOW GRANTS FOR {account};\n"));
            }
        }
        let (mut users, mut grants) = (String::new(), String::new());
        for line in client.lines(self.cx, "grants", &question)? {
            if let Some(rest) = line.strip_prefix("CREATE USER ") {
                users.push_str(&format!("CREATE USER IF NOT EXISTS {rest};\n"));
            } else if line.starts_with("GRANT ") {
                grants.push_str(&format!("{line};\n"));
            }
        }
        files::write_private(&self.files.users(), users.as_bytes())?;
        files::write_private(&self.files.grants(), grants.as_bytes())
    }

    // -- in its place --

    /// Stops the old server, and puts the new programs and data in place by renames. Gives what the old one held.
    fn replace(&self, mut held: Rows) -> Result<Rows> {
        let (cx, before) = (self.cx, self.before);
        if !before_is_moved(self.files)? {
            if let Some(old) = &before.old {
                self.expect_quiet(old)?;
                held = self.counted_again(old, held)?;
                server::stop(cx, &old.service.name)?;
            }
            self.files.set(Mark::Replacing)?;
            self.copy_data()?;
        }
        if let Some(old) = before.old.as_ref().filter(|old| !old.service.name.eq_ignore_ascii_case(&before.new.name)) {
            cx.platform.remove_service(&old.service.name)?;
        }
        self.move_in(&self.files.data_moves(), &before.data, DATA)?;
        self.write_first_settings()?;
        self.move_in(&self.files.programs_moves(), &before.programs, PROGRAMS)?;
        cx.platform.register_service(&before.new)?;
        Ok(held)
    }

    /// What the old server holds right before it stops. Where the new one gets the dump, that must be what was dumped:
    /// somebody with root's rights may have written meanwhile.
    fn counted_again(&self, old: &OldServer, held: Rows) -> Result<Rows> {
        if self.cx.platform.service(&old.service.name)? != Some(ServiceStatus::Running) {
            return Ok(held);
        }
        let client = self.old_client(old);
        let databases = rows::databases(self.cx, &client)?;
        let now = Rows::count(self.cx, &client, &databases)?;
        if now == held {
            return Ok(held);
        }
        if self.before.route == Route::Reload {
            return held.expect_same(&now).map(|()| held).map_err(|differ| {
                Error::step_failed("the databases were written to while they were dumped, by somebody with root's rights")
                    .with_output(differ.details().output.clone())
                    .next("find out who writes as root, let them wait, and run it again; the old server and its data stay")
            });
        }
        files::write_json(&self.files.rows(), &now)?;
        Ok(now)
    }

    /// That nobody could write to the old server since it was dumped: where the machine was started anew in between, it takes
    /// changes again.
    fn expect_quiet(&self, old: &OldServer) -> Result<()> {
        if self.cx.platform.service(&old.service.name)? != Some(ServiceStatus::Running) {
            return Ok(());
        }
        let quiet = self.old_client(old).ask(self.cx, "still-quiet", &row("@@global.read_only", ""))?;
        if quiet.into_iter().flatten().next().as_deref() == Some("1") {
            return Ok(());
        }
        Err(Error::step_failed(format!("the server of {} was started anew after it was dumped", old.service.name))
            .because("what was written to it since is not in the dump")
            .next("run it again"))
    }

    /// The old data as they are now that nobody writes to them, for the new server; the old ones stay as they are.
    fn copy_data(&self) -> Result<()> {
        let Some(old) = self.before.old.as_ref().filter(|_| self.before.route == Route::InPlace) else { return Ok(()) };
        let staged = self.before.data_stage.join(DATA);
        if staged.exists() {
            return Ok(());
        }
        let copy = copy_of_data(&old.data, &self.before.data_stage);
        copy.refresh(self.cx)?;
        self.cx.platform.flush_volume(&self.before.data_stage)?;
        std::fs::rename(copy.tree(), &staged).cannot(|| format!("move {}", copy.tree().display()))?;
        remove_folder(&copy.saved)
    }

    fn move_in(&self, file: &Path, target: &Path, staged: &str) -> Result<()> {
        let moves = match Moves::begun(file)? {
            Some((moves, _)) => moves,
            None => {
                let (folder, name) = split(target)?;
                let mut moves = Moves::below(&folder, &areas_beside(self.cx, target)?);
                moves.take(name.clone())?;
                moves.bring(name, staged)?;
                moves.write(file)?;
                moves
            }
        };
        moves.run(self.cx)
    }

    /// `my.ini` for the first start, and the statements that it names. The new server takes no changes until it is
    /// verified, and root never is without a password.
    fn write_first_settings(&self) -> Result<()> {
        if Moves::begun(&self.files.programs_moves())?.is_some() {
            return Ok(());
        }
        let mut init = String::from("SET GLOBAL read_only = ON;\n");
        if self.before.route != Route::InPlace {
            let password = self.cx.secrets.get(&self.mysql.password)?.expose_secret();
            init.push_str(&format!("ALTER USER 'root'@'localhost' IDENTIFIED BY '{}';\n", quoted(password)));
        }
        files::write_private(&self.files.init(), init.as_bytes())?;
        self.keep_old_settings()?;
        let staged = self.before.programs_stage.join(PROGRAMS).join("my.ini");
        self.write_settings(&staged, Some(&self.files.init()))
    }

    fn write_settings(&self, to: &Path, init: Option<&Path>) -> Result<()> {
        let bytes = server::settings(self.mysql, self.cx, &self.files.old_settings(), init)?;
        files::write(to, &bytes)?;
        give_file_rights(self.cx, None, &self.before.programs.join("my.ini"), to, false)
    }

    /// The old server's `my.ini`, before the renames put it elsewhere.
    fn keep_old_settings(&self) -> Result<()> {
        let Some(base) = self.before.old.as_ref().and_then(|old| old.bin.parent()) else { return Ok(()) };
        let file = base.join("my.ini");
        match std::fs::read(&file) {
            Ok(bytes) => files::write(&self.files.old_settings(), &bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("read {}", shown(self.cx, &file)), &e)),
        }
    }

    // -- the new server --

    fn first_start(&self) -> Result<()> {
        let (before, cx) = (self.before, self.cx);
        server::start(cx, &before.new.name, &before.programs.join("bin"), before.port, &before.data)?;
        self.new_client().ask(cx, "log-on", &row("1", "")).map(drop)
    }

    /// Accounts, schema, everything that was dumped, and what the accounts may do with it.
    fn reload(&self, client: &Client<'_>) -> Result<()> {
        let of_old = |e: Error| e.context("the accounts of the old server cannot be made in the new one");
        client.tell_in_private(self.cx, "users", &self.files.users()).map_err(of_old)?;
        self.run_schema(client)?;
        if let Some(dump) = self.before.dump.as_ref().filter(|dump| dump.exists()) {
            client.run_file(self.cx, "reload", dump)?;
        }
        client.tell_in_private(self.cx, "grants", &self.files.grants()).map_err(of_old)
    }

    fn run_schema(&self, client: &Client<'_>) -> Result<()> {
        for (number, place) in self.mysql.schema.iter().enumerate() {
            let file = self.cx.native(place)?;
            client
                .run_file(self.cx, &format!("schema-{number}"), &file)
                .map_err(|e| e.context(format!("the schema {} cannot be made", shown(self.cx, &file))))?;
        }
        Ok(())
    }

    /// The settings for every later start; from here on the databases may be written to.
    fn finish(&self, client: &Client<'_>) -> Result<()> {
        self.write_settings(&self.before.programs.join("my.ini"), None)?;
        self.files.remove_secret()?;
        // What is written from here on is the new server's alone.
        self.files.set(Mark::Finished)?;
        client.tell(self.cx, "open", "SET GLOBAL read_only = OFF;\n")
    }
}

/// True when the data folders have changed places, or are about to.
fn before_is_moved(files: &Files) -> Result<bool> {
    Ok(Moves::begun(&files.data_moves())?.is_some())
}

/// The copy of a data folder in a stage area.
pub(super) fn copy_of_data(data: &Path, stage: &Path) -> SavedFolder {
    SavedFolder { folder: data.to_path_buf(), saved: stage.join("data.copy") }
}

/// A password inside single quotes.
fn quoted(password: &str) -> String {
    let mut quoted = String::with_capacity(password.len());
    for letter in password.chars() {
        match letter {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\0' => quoted.push_str("\\0"),
            other => quoted.push(other),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_password_stays_inside_its_quotes() {
        assert_eq!(quoted("it's a \\ and\na \"b\""), "it''s a \\\\ and\\na \"b\"");
    }
}
