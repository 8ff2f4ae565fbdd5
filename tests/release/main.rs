//! Releases of sandboxes through the real binary: what an operator does, judged by other programs.
#![cfg(test)]
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod rollback;
mod twice;
mod whole;
