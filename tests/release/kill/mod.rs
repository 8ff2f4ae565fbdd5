//! `kill -9` of controllers and workers at every phase: what is left goes on to the new release or back to the old one.
#![cfg(target_os = "linux")]

pub(crate) mod machine;
mod moments;
pub(crate) mod round;
mod suite;
pub(crate) mod traced;
