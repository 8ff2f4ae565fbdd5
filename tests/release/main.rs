//! Releases of sandboxes through the real binary: what an operator does, judged by other programs.
#![cfg(test)]
#![cfg(unix)]

#[cfg(target_os = "linux")]
#[path = "../support/channel_access.rs"]
mod channel_access;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
#[path = "../support/terminal.rs"]
mod terminal;

#[cfg(target_os = "linux")]
mod backups;
#[cfg(target_os = "linux")]
mod backups_killed;
#[cfg(target_os = "linux")]
mod bad_input;
#[cfg(target_os = "linux")]
mod beamline;
#[cfg(target_os = "linux")]
mod cancel;
mod disk;
#[cfg(target_os = "linux")]
mod disks;
mod faults;
#[cfg(target_os = "linux")]
mod full_backups;
#[cfg(target_os = "linux")]
mod full_home;
mod hand;
mod hotfix;
#[cfg(target_os = "linux")]
mod install;
mod kill;
#[cfg(target_os = "linux")]
mod linked;
mod migrate;
#[cfg(target_os = "linux")]
mod mysql;
#[cfg(target_os = "linux")]
mod os_patch;
mod outage;
#[cfg(target_os = "linux")]
mod parts;
mod refused;
#[cfg(target_os = "linux")]
mod rehearsed;
#[cfg(target_os = "linux")]
mod resume;
mod rollback;
#[cfg(target_os = "linux")]
mod routine;
#[cfg(target_os = "linux")]
mod secrets;
#[cfg(target_os = "linux")]
mod server_branch;
#[cfg(target_os = "linux")]
mod settings;
#[cfg(target_os = "linux")]
mod software;
#[cfg(target_os = "linux")]
mod stranded;
#[cfg(target_os = "linux")]
mod switch;
mod told;
mod twice;
mod untrusted_text;
mod whole;
