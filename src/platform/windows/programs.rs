//! What the registry tells: installed programs, and whether the system waits for a restart.

use crate::error::{Error, IoContext, Result};
use crate::platform::updates::Program;
use std::io;
use winreg::RegKey;
use winreg::enums::{HKEY_LOCAL_MACHINE, KEY_READ, KEY_WOW64_32KEY, KEY_WOW64_64KEY};

const UNINSTALL: &str = "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall";

/// Keys that are there as long as something waits for a restart, and why.
const WAITING_KEYS: [(&str, &str); 2] = [
    (
        "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootPending",
        "Windows has changes to finish while it starts",
    ),
    (
        "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired",
        "Windows Update has installed something that needs a restart",
    ),
];

const SESSION_MANAGER: &str = "SYSTEM\\CurrentControlSet\\Control\\Session Manager";
const RENAMES: &str = "PendingFileRenameOperations";

/// A key of this machine; nothing when there is none.
fn key(path: &str, view: u32) -> Result<Option<RegKey>> {
    match RegKey::predef(HKEY_LOCAL_MACHINE).open_subkey_with_flags(path, KEY_READ | view) {
        Ok(key) => Ok(Some(key)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read the registry key HKLM\\{path}"), &e)),
    }
}

/// The programs of "Programs and Features", those of 64 and of 32 bits, each once.
pub(super) fn installed() -> Result<Vec<Program>> {
    let mut found = Vec::new();
    for view in [KEY_WOW64_64KEY, KEY_WOW64_32KEY] {
        let Some(all) = key(UNINSTALL, view)? else { continue };
        for name in all.enum_keys() {
            let name = name.cannot(|| format!("read the registry key HKLM\\{UNINSTALL}"))?;
            // One may be removed while we look.
            let Ok(one) = all.open_subkey_with_flags(&name, KEY_READ | view) else { continue };
            let text = |value: &str| one.get_value::<String, _>(value).ok().filter(|text| !text.trim().is_empty());
            let part_of_another =
                one.get_value::<u32, _>("SystemComponent").is_ok_and(|n| n == 1) || text("ParentKeyName").is_some();
            if let Some(name) = text("DisplayName").filter(|_| !part_of_another) {
                let program = Program { name, version: text("DisplayVersion").unwrap_or_default() };
                if !found.contains(&program) {
                    found.push(program);
                }
            }
        }
    }
    found.sort_by_key(|program| program.name.to_lowercase());
    Ok(found)
}

/// Whether the system waits for a restart, and why.
pub(super) fn pending_reboot() -> Result<Option<String>> {
    for (path, why) in WAITING_KEYS {
        if key(path, KEY_WOW64_64KEY)?.is_some() {
            return Ok(Some(why.to_owned()));
        }
    }
    let Some(manager) = key(SESSION_MANAGER, KEY_WOW64_64KEY)? else { return Ok(None) };
    let renames: Vec<String> = manager.get_value(RENAMES).unwrap_or_default();
    Ok(renames.iter().find(|name| !name.is_empty()).map(|name| {
        let file = name.trim_start_matches(['!', '*']).trim_start_matches("\\??\\");
        format!("files are replaced or removed when Windows starts, {file} among them")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use winreg::enums::KEY_WRITE;

    #[test]
    fn programs_of_both_views_are_listed_and_parts_of_others_are_not() {
        let name = format!("ibexdeploy test {}", std::process::id());
        let machine = RegKey::predef(HKEY_LOCAL_MACHINE);
        let made: Vec<(String, u32)> = [("a", KEY_WOW64_64KEY), ("b", KEY_WOW64_32KEY), ("part", KEY_WOW64_64KEY)]
            .map(|(part, view)| {
                let path = format!("{UNINSTALL}\\{name} {part}");
                let (key, _) = machine.create_subkey_with_flags(&path, KEY_WRITE | view).unwrap();
                key.set_value("DisplayName", &format!("{name} {part}")).unwrap();
                key.set_value("DisplayVersion", &"1.2.3").unwrap();
                if part == "part" {
                    key.set_value("SystemComponent", &1_u32).unwrap();
                }
                (path, view)
            })
            .to_vec();
        let mut found = installed().unwrap();
        found.retain(|program| program.name.starts_with(&name));
        for (path, view) in made {
            machine.delete_subkey_with_flags(path, view).unwrap();
        }
        let expected = ["a", "b"].map(|part| Program { name: format!("{name} {part}"), version: "1.2.3".to_owned() });
        assert_eq!(found, expected);
    }
}
