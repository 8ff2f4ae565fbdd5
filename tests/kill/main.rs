//! `kill -9` of controllers and workers at every phase: what is left goes on to the new release or back to the old one.
#![cfg(test)]
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod machine;
mod moments;
mod round;
mod suite;
