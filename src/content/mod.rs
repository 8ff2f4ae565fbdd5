//! What files are, for both sides: content hashes, manifests of components, indexes of installed trees, packs of blobs.

mod hash;
mod hash_cache;
mod index;
mod manifest;
pub mod pack;
pub mod tree;

pub use hash::ContentHash;
pub use hash_cache::HashCache;
pub use index::{IndexEntry, Seen, TreeDifference, TreeIndex};
pub use manifest::{Manifest, ManifestEntry};
pub use pack::{BlobSink, Chunk, Unpacker};

pub(crate) use hash::Hashing;
pub(crate) use index::hash_all;
