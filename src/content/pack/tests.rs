use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Default)]
struct Memory {
    verified: HashMap<ContentHash, Vec<u8>>,
}

impl BlobSink for Memory {
    type Writer = Vec<u8>;
    fn open(&mut self, _hash: &ContentHash, _size: u64) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn verified(&mut self, hash: &ContentHash, size: u64, writer: Vec<u8>) -> Result<()> {
        assert_eq!(writer.len() as u64, size);
        self.verified.insert(*hash, writer);
        Ok(())
    }
}

fn pack(blobs: &[Vec<u8>]) -> (PackHeader, Vec<u8>) {
    let by_hash: HashMap<_, _> = blobs.iter().map(|b| (ContentHash::of(b), b.as_slice())).collect();
    let chunk = Chunk { blobs: blobs.iter().map(|b| (ContentHash::of(b), b.len() as u64)).collect() };
    let mut bytes = Vec::new();
    let header = build(&chunk, |hash| Ok(by_hash[hash]), &mut bytes).unwrap();
    (header, bytes)
}

fn unpack(header: &PackHeader, bytes: &[u8], piece: usize) -> Result<Memory> {
    let mut unpacker = Unpacker::new(header.clone(), Memory::default())?;
    for part in bytes.chunks(piece) {
        unpacker.feed(part)?;
    }
    unpacker.finish()
}

fn blobs() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let incompressible = prop::collection::vec(any::<u8>(), 0..3000);
    let runs = (any::<u8>(), 0_usize..50_000).prop_map(|(byte, n)| vec![byte; n]);
    prop::collection::vec(prop_oneof![incompressible, runs], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_comes_out_whatever_the_pieces(blobs in blobs(), piece in 1_usize..5000) {
        let (header, bytes) = pack(&blobs);
        prop_assert_eq!(header.packed, bytes.len() as u64);
        let out = unpack(&header, &bytes, piece).unwrap();
        for blob in &blobs {
            prop_assert_eq!(out.verified.get(&ContentHash::of(blob)), Some(blob));
        }
    }

    /// A flipped bit is found out, or it is one of those few that mean nothing to the decoder: then all is right.
    #[test]
    fn a_corrupted_byte_never_gives_a_wrong_blob(blobs in blobs(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (header, mut bytes) = pack(&blobs);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        match unpack(&header, &bytes, 1000) {
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Integrity),
            Ok(out) => {
                for blob in &blobs {
                    prop_assert_eq!(out.verified.get(&ContentHash::of(blob)), Some(blob));
                }
            }
        }
    }

    #[test]
    fn too_few_bytes_are_found_out(blobs in blobs(), at in any::<prop::sample::Index>()) {
        let (header, bytes) = pack(&blobs);
        let short = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(unpack(&header, short, 1000).map(|_| ()).unwrap_err().kind(), ErrorKind::Integrity);
    }

    /// Chunks depend on what is in them, not on what comes far before: after a change at the front, all chunks behind
    /// the next end that the content decides are the same.
    #[test]
    fn chunks_are_independent_of_changes_elsewhere(seeds in prop::collection::vec(any::<u32>(), 100..400), extra in any::<u32>()) {
        let all: Vec<_> = seeds.iter().map(|s| (ContentHash::of(&s.to_le_bytes()), u64::from(*s % 20_000))).collect();
        let mut changed = all.clone();
        changed.insert(0, (ContentHash::of(&extra.to_be_bytes()), 5));
        changed.remove(3);
        let chunks = cut(&all);
        prop_assert_eq!(chunks.iter().flat_map(|c| c.blobs.clone()).collect::<Vec<_>>(), all.clone());
        let settled = all.iter().skip(4).position(|(h, _)| h.bytes()[0] % 32 == 0).map(|i| i + 5);
        if let Some(from) = settled {
            let behind = cut(&all[from..]);
            for list in [chunks, cut(&changed)] {
                prop_assert_eq!(&list[list.len() - behind.len()..], &behind[..]);
            }
        }
    }
}

#[test]
fn every_corrupted_byte_of_content_is_detected() {
    let blob: Vec<u8> = (0..400_u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
    let (header, bytes) = pack(&[blob]);
    // Behind the frame's header, whose window size may be larger than needed without harm.
    for at in 6..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x01;
        assert!(unpack(&header, &bad, bad.len()).is_err(), "byte {at}");
    }
}

#[test]
fn too_much_and_the_wrong_blob_are_found_out() {
    let (header, mut bytes) = pack(&[b"one".to_vec(), b"two".to_vec()]);
    let (_, other) = pack(&[b"one".to_vec(), b"TWO".to_vec()]);
    assert_eq!(
        unpack(&PackHeader { packed: other.len() as u64, ..header.clone() }, &other, 9).map(|_| ()).unwrap_err().kind(),
        ErrorKind::Integrity
    );
    let fewer = PackHeader { blobs: header.blobs[..1].to_vec(), ..header.clone() };
    assert_eq!(unpack(&fewer, &bytes, 9).map(|_| ()).unwrap_err().kind(), ErrorKind::Integrity);
    bytes.push(0);
    assert_eq!(unpack(&header, &bytes, 9).map(|_| ()).unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn a_blob_that_changed_is_not_packed() {
    let chunk = Chunk { blobs: vec![(ContentHash::of(b"abc"), 3)] };
    let changed: &[u8] = b"abd";
    assert_eq!(build(&chunk, |_| Ok(changed), &mut Vec::new()).unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn large_blobs_stand_alone() {
    let blob = |n: u8, size| {
        let mut bytes = [n; 32];
        bytes[0] = 1;
        (ContentHash::from_bytes(bytes), size)
    };
    let sizes: Vec<Vec<u64>> = cut(&[blob(1, 10), blob(2, CHUNK_BYTES + 1), blob(3, 10), blob(4, CHUNK_BYTES), blob(5, 1)])
        .iter()
        .map(|c| c.blobs.iter().map(|b| b.1).collect())
        .collect();
    assert_eq!(sizes, [vec![10], vec![CHUNK_BYTES + 1], vec![10, CHUNK_BYTES], vec![1]]);
}
