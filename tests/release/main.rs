//! Releases of sandboxes through the real binary: what an operator does, judged by other programs.
#![cfg(test)]
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod faults;
mod hand;
mod kill;
mod refused;
mod rollback;
mod twice;
mod whole;
