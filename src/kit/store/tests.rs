use super::*;
use crate::content::{BlobSink, Unpacker};
use std::collections::BTreeMap;

#[derive(Default)]
struct Memory(BTreeMap<ContentHash, Vec<u8>>);

impl BlobSink for Memory {
    type Writer = Vec<u8>;
    fn open(&mut self, _hash: &ContentHash, _size: u64) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn verified(&mut self, hash: &ContentHash, _size: u64, writer: Vec<u8>) -> Result<()> {
        self.0.insert(*hash, writer);
        Ok(())
    }
}

fn read(pack: &Arc<Pack>) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack.reader().read_to_end(&mut bytes).unwrap();
    bytes
}

/// A store with blobs of 40 kB each, and the one chunk of the first three.
fn store_and_chunk(cache: &Path) -> (ContentStore, Chunk) {
    let store = ContentStore::new(cache).unwrap();
    let blobs = (0..3_u8).map(|n| {
        let hash = store.add_bytes(vec![n; 40_000]);
        (hash, 40_000)
    });
    let chunk = Chunk { blobs: blobs.collect() };
    (store, chunk)
}

#[test]
fn many_ask_and_one_compresses() {
    let cache = tempfile::tempdir().unwrap();
    let (store, chunk) = store_and_chunk(cache.path());
    let packs: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.pack(&chunk).unwrap())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(packs.iter().all(|p| Arc::ptr_eq(p, &packs[0])));
    let mut unpacker = Unpacker::new(packs[0].header.clone(), Memory::default()).unwrap();
    unpacker.feed(&read(&packs[0])).unwrap();
    assert_eq!(unpacker.finish().unwrap().0.len(), 3);
}

#[test]
fn a_later_process_takes_the_pack_from_the_cache_unless_it_is_damaged() {
    let cache = tempfile::tempdir().unwrap();
    let (store, chunk) = store_and_chunk(cache.path());
    let first = read(&store.pack(&chunk).unwrap());
    let file = cache.path().join("packs").join(chunk.key().to_string());
    let good = std::fs::read(&file).unwrap();

    // A store that knows none of the blobs can only answer from the cache.
    let empty = ContentStore::new(cache.path()).unwrap();
    assert_eq!(read(&empty.pack(&chunk).unwrap()), first);
    for at in [0, first.len() / 2, first.len() + 3, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, bad).unwrap();
        let empty = ContentStore::new(cache.path()).unwrap();
        assert_eq!(empty.pack(&chunk).unwrap_err().kind(), ErrorKind::Protocol, "byte {at}");
        let (whole, _) = store_and_chunk(cache.path());
        assert_eq!(read(&whole.pack(&chunk).unwrap()), first);
    }
}

#[test]
fn pruning_takes_the_least_recently_used() {
    let cache = tempfile::tempdir().unwrap();
    let (store, chunk) = store_and_chunk(cache.path());
    let chunks: Vec<_> = chunk.blobs.iter().map(|b| Chunk { blobs: vec![*b] }).collect();
    let path = |c: &Chunk| cache.path().join("packs").join(c.key().to_string());
    for (age, chunk) in chunks.iter().enumerate() {
        store.pack(chunk).unwrap();
        let at = SystemTime::now() - Duration::from_secs(60 * (age as u64 + 1));
        File::options().write(true).open(path(chunk)).unwrap().set_modified(at).unwrap();
    }
    let abandoned = cache.path().join("packs/.frame-x");
    std::fs::write(&abandoned, "x").unwrap();
    File::options().write(true).open(&abandoned).unwrap().set_modified(SystemTime::now() - ABANDONED * 2).unwrap();
    let two = chunks[..2].iter().map(|c| std::fs::metadata(path(c)).unwrap().len()).sum();
    store.prune(two).unwrap();
    assert_eq!(chunks.iter().map(|c| path(c).exists()).collect::<Vec<_>>(), [true, true, false]);
    assert!(!abandoned.exists());
}

#[test]
fn unknown_blobs_are_refused_and_doubles_sent_once() {
    let cache = tempfile::tempdir().unwrap();
    let (store, chunk) = store_and_chunk(cache.path());
    let hash = chunk.blobs[0].0;
    let sent: usize = store.chunks(&[hash, hash]).unwrap().iter().map(|c| c.blobs.len()).sum();
    assert_eq!(sent, 1);
    assert_eq!(store.chunks(&[ContentHash::of(b"?")]).unwrap_err().kind(), ErrorKind::Protocol);
}
