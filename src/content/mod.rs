//! What files are, for both sides: content hashes, manifests of components, indexes of installed trees, packs of blobs.

mod hash;
mod manifest;

pub use hash::ContentHash;
pub use manifest::{Manifest, ManifestEntry};
