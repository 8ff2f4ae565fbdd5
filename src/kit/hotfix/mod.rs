//! Hotfixes: a few files over an installed tree, in a zip archive with paths under a component.
//!
//! An archive comes from anywhere, so it is read with suspicion: every entry is checked before one byte of it is used.

mod central;
mod head;
mod model;
mod pack;
mod read;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use head::{HEAD_FILE, Head, Restart};
pub use model::{Patch, PatchFile, PatchPath};
pub use pack::{GitRange, pack_folder, pack_git};
pub use read::{HeadText, ReadPatch};
pub use store::PatchStore;
pub use write::{Content, Entry, write};
