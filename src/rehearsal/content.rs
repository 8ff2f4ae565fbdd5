//! File contents that look like those of a release, the same for the same seed.

/// A small generator of numbers (SplitMix64): the kits must be the same for ever, whatever libraries do.
#[derive(Debug, Clone)]
pub(super) struct Numbers(u64);

impl Numbers {
    /// The numbers of a seed and a name, independent of those of other names.
    pub(super) fn of(seed: u64, name: &str) -> Self {
        // FNV-1a, which is fixed for ever as well.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self(seed ^ hash)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let at = usize::try_from(self.below(list.len() as u64)).unwrap_or(0);
        list.get(at).copied().unwrap_or_default()
    }

    /// A share of a whole: most often small, now and then a hundred times as large.
    pub(super) fn uneven(&mut self) -> u64 {
        let doublings = self.below(3) + self.below(3) + self.below(3);
        (1000 + self.below(1000)) << doublings
    }
}

const WORDS: [&str; 48] = [
    "record",
    "ai",
    "ao",
    "bi",
    "calc",
    "calcout",
    "field",
    "DESC",
    "SCAN",
    "PINI",
    "INP",
    "OUT",
    "FLNK",
    "DTYP",
    "EGU",
    "PREC",
    "asyn",
    "stream",
    "protocol",
    "$(P)",
    "$(Q)",
    "$(PORT)",
    "Passive",
    "second",
    ".1",
    "YES",
    "NO",
    "import",
    "def",
    "return",
    "class",
    "None",
    "True",
    "<widget",
    "</widget>",
    "motor",
    "axis",
    "velocity",
    "temperature",
    "pressure",
    "setpoint",
    "readback",
    "HIHI",
    "LOLO",
    "dbLoadRecords",
    "iocInit",
    "galil",
    "eurotherm",
];

/// Lines of words, with Windows line ends, of about `size` bytes (exactly, from 2 on).
pub(super) fn text(numbers: &mut Numbers, name: &str, size: usize) -> Vec<u8> {
    let mut text = format!("# {name}\r\n");
    while text.len() < size {
        for _ in 0..numbers.below(8) + 2 {
            text.push_str(numbers.pick(&WORDS));
            text.push(' ');
        }
        text.push_str(&format!("{:x}\r\n", numbers.below(1 << 32)));
    }
    text.truncate(size);
    text.into_bytes()
}

/// Bytes of a program: some that cannot be compressed, some that repeat, some zeros.
pub(super) fn binary(numbers: &mut Numbers, size: usize) -> Vec<u8> {
    let mut bytes = b"MZ\x90\0".to_vec();
    let mut instructions = [0_u64; 64];
    for instruction in &mut instructions {
        *instruction = numbers.next();
    }
    while bytes.len() < size {
        let length = 4096 + usize::try_from(numbers.below(12_000)).unwrap_or(0);
        match numbers.below(10) {
            0..3 => (0..length / 8).for_each(|_| bytes.extend(numbers.next().to_le_bytes())),
            3..8 => (0..length / 6).for_each(|_| {
                let at = usize::try_from(numbers.below(64)).unwrap_or(0);
                bytes.extend(&instructions[at].to_le_bytes()[..6]);
            }),
            _ => bytes.resize(bytes.len() + length, 0),
        }
    }
    bytes.truncate(size);
    bytes
}

/// A small change somewhere in a file, as an edit or a rebuild makes; the size stays.
pub(super) fn change(numbers: &mut Numbers, bytes: &mut [u8]) {
    let mark = format!("{:016x}", numbers.next());
    let at = usize::try_from(numbers.below(bytes.len().saturating_sub(mark.len()) as u64)).unwrap_or(0);
    for (byte, new) in bytes.iter_mut().skip(at).zip(mark.bytes()) {
        *byte = new;
    }
}
