//! The Windows build of the agent, in Wine, behind real SSH servers and behind WinRM services of our own: no sandbox and no
//! simulation on the instruments. `scripts/build-windows` makes what these tests need; where it is missing they say so and pass.
#![cfg(test)]
#![cfg(target_os = "linux")]

#[path = "../support/command.rs"]
mod command;
mod hotfixes;
mod installers;
#[path = "../support/kdc.rs"]
mod kdc;
mod killed;
mod machines;
mod mixed;
#[path = "../support/moments.rs"]
mod moments;
mod powershell;
#[path = "../support/service.rs"]
mod service;
mod services;
mod ssh;
mod tasks;
#[path = "../support/windows_build.rs"]
mod windows_build;
mod winrm;
