//! Real SSH servers, and links to them that fail on purpose. `fixtures` proves these tools with the real `ssh` client.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod bring;
mod check;
#[path = "../support/command.rs"]
mod command;
mod cuts;
mod detached;
#[path = "../support/dice.rs"]
mod dice;
mod faults;
mod fixtures;
mod host_keys;
mod logon;
mod refused;
#[path = "../support/sandbox.rs"]
mod sandbox;
mod secrets;
mod support;
#[path = "../support/terminal.rs"]
mod terminal;
mod trust;
mod unusable;
mod whole;
