//! Real SSH servers, and links to them that fail on purpose. `fixtures` proves these tools with the real `ssh` client.
#![cfg(test)]
#![cfg(target_os = "linux")]

// Shared with other test targets, which use other parts of it.
#[allow(dead_code)]
#[path = "../support/command.rs"]
mod command;
mod cuts;
mod detached;
#[path = "../support/dice.rs"]
mod dice;
mod faults;
mod fixtures;
#[path = "../support/sandbox.rs"]
mod sandbox;
mod support;
mod whole;
