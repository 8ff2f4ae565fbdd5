//! Simulated updates of the operating system, and programs that say that they are installed.

use super::Sandbox;
use super::state::{SimulatedUpdate, State};
use crate::error::{Error, IoContext, Result};
use crate::nearest::nearest;
use crate::platform::updates::{Program, Update};
use std::time::Duration;

/// Exit codes of Windows installers that the simulation acts on.
const RESTART_NEEDED: i32 = 3010;
const RESTARTING: i32 = 1641;
const BUSY: i32 = 1618;
const ALREADY_INSTALLED: i32 = 2_359_302;

/// A simulated installation that hangs ends by itself after this, so that it stays on no machine for good.
const LONGEST_HANG: Duration = Duration::from_secs(2 * 3600);

impl State {
    /// Installed, restart included.
    fn has_update(&self, id: &str) -> bool {
        self.updates.iter().any(|u| u.id.eq_ignore_ascii_case(id) && u.installed && !u.waits_for_restart)
    }

    fn offers(&self, update: &SimulatedUpdate) -> bool {
        let open = !update.installed || (update.offered_again && !update.waits_for_restart);
        open && update.after.as_ref().is_none_or(|before| self.has_update(before))
    }
}

impl Sandbox {
    pub(super) fn updates_offered(&self) -> Result<Vec<Update>> {
        let state = self.state.read()?;
        let offered = state.updates.iter().filter(|u| state.offers(u));
        Ok(offered.map(|u| Update { id: u.id.clone(), title: u.title.clone(), bytes: u.bytes }).collect())
    }

    pub(super) fn update_install(&self, id: &str) -> Result<i32> {
        let mut code = 0;
        let mut hangs = false;
        self.state.change(|state| {
            let known: Vec<String> = state.updates.iter().map(|u| u.id.clone()).collect();
            let Some(update) = state.updates.iter_mut().find(|u| u.id.eq_ignore_ascii_case(id)) else {
                let near = nearest(id, known.iter().map(String::as_str));
                let hint = near.map_or_else(|| "no such update is offered".to_owned(), |n| format!("did you mean `{n}`?"));
                return Err(Error::step_failed(format!("there is no update {id}")).next(hint));
            };
            if update.installed && !update.offered_again {
                code = ALREADY_INSTALLED;
                return Ok(());
            }
            if update.busy > 0 {
                update.busy -= 1;
                code = BUSY;
                return Ok(());
            }
            (code, hangs) = (update.exit_code, update.hangs);
            update.started += 1;
            let restart = update.needs_restart || matches!(code, RESTART_NEEDED | RESTARTING);
            if !hangs && matches!(code, 0 | RESTART_NEEDED | RESTARTING) {
                (update.installed, update.waits_for_restart) = (true, restart);
                if restart {
                    state.pending_reboot = Some(format!("{id} was installed"));
                }
            }
            Ok(())
        })?;
        if hangs {
            std::thread::sleep(LONGEST_HANG);
        }
        if code == RESTARTING {
            super::Platform::reboot(self, &format!("the installer of {id} asks for it"))?;
        }
        Ok(code)
    }

    /// Files in `programs` of the agent's home, named as the program, that hold its version.
    pub(super) fn programs_installed(&self) -> Result<Vec<Program>> {
        let folder = self.root.join(".ibexdeploy").join("programs");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(format!("read the folder {}", folder.display()), &e)),
        };
        let mut programs = Vec::new();
        for entry in entries {
            let entry = entry.cannot(|| format!("read the folder {}", folder.display()))?;
            let version = std::fs::read_to_string(entry.path()).cannot(|| format!("read {}", entry.path().display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            programs.push(Program { name, version: version.trim().to_owned() });
        }
        Ok(programs)
    }
}
