//! `ibexdeploy.exe` as the operator's program, under Wine: questions, rehearsals, a release over SSH.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod agent;
#[path = "../support/command.rs"]
mod command;
mod operator;
mod questions;
mod rehearsal;
mod ssh;
#[path = "../support/windows_build.rs"]
mod windows_build;
