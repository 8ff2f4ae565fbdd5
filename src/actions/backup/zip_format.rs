//! The bytes of a zip file (PKWARE APPNOTE 6.3.9), for a writer that knows the sizes of most entries before it writes them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How an entry's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Stored = 0,
    Deflated = 8,
}

/// From this size on an entry gets 64-bit sizes: below the limit of the old form, with room for what compressing may add.
const LARGE: u64 = 0xF000_0000;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Stands where the 64-bit form has the value.
const IN_ZIP64: u32 = u32::MAX;
const MANY: u16 = u16::MAX;

/// Seconds from 1601, where Windows begins to count, to 1970.
const WINDOWS_EPOCH: i64 = 11_644_473_600;

/// When a file was changed last, in the forms that a zip has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    dos: (u16, u16),
    /// Seconds since 1970.
    unix: Option<i32>,
    /// 100 ns since 1601.
    windows: Option<u64>,
}

impl Times {
    /// From nanoseconds since 1970. The oldest field holds local time in steps of two seconds.
    pub(super) fn of(mtime_ns: i64, zone: &TimeZone) -> Self {
        let seconds = mtime_ns.div_euclid(1_000_000_000);
        let windows = seconds
            .checked_add(WINDOWS_EPOCH)
            .and_then(|s| s.checked_mul(10_000_000)?.checked_add(mtime_ns.rem_euclid(1_000_000_000) / 100));
        Self {
            dos: Timestamp::from_second(seconds).map_or(Self::NONE.dos, |t| dos(t, zone)),
            unix: i32::try_from(seconds).ok().filter(|s| *s >= 0),
            windows: windows.and_then(|w| u64::try_from(w).ok()),
        }
    }

    /// The first day that the oldest field knows.
    pub(super) const NONE: Self = Self { dos: (0, (1 << 5) | 1), unix: None, windows: None };

    fn extra(self, central: bool, out: &mut Vec<u8>) {
        if let Some(seconds) = self.unix {
            // "UT": one byte says that the time of change follows.
            put16(out, 0x5455);
            put16(out, 5);
            out.push(1);
            out.extend(seconds.to_le_bytes());
        }
        if let Some(ticks) = self.windows.filter(|_| central) {
            put16(out, 0x000A);
            put16(out, 32);
            put32(out, 0);
            put16(out, 1);
            put16(out, 24);
            // Change, access, creation: only the first is known.
            (0..3).for_each(|_| out.extend(ticks.to_le_bytes()));
        }
    }
}

fn dos(time: Timestamp, zone: &TimeZone) -> (u16, u16) {
    let local = zone.to_datetime(time);
    let Ok(year) = u16::try_from(i32::from(local.year()) - 1980) else { return Times::NONE.dos };
    if year > 127 {
        return Times::NONE.dos;
    }
    let part = |n: i8| u16::from(n.unsigned_abs());
    let clock = (part(local.hour()) << 11) | (part(local.minute()) << 5) | (part(local.second()) / 2);
    (clock, (year << 9) | (part(local.month()) << 5) | part(local.day()))
}

/// One file or empty folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// With `/` between names, and at the end of a folder's.
    pub(super) name: String,
    pub(super) times: Times,
    pub(super) attributes: Attributes,
    pub(super) method: Method,
    pub(super) crc: u32,
    /// Bytes in the zip.
    pub(super) packed: u64,
    pub(super) size: u64,
    /// Where its header begins.
    pub(super) offset: u64,
    /// Has 64-bit sizes.
    pub(super) large: bool,
}

/// What the system says about a file besides its time, and which system that is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    system: u16,
    external: u32,
}

impl Attributes {
    const FOLDER: u32 = 0x10;

    /// Those of a file.
    pub(super) fn of(meta: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Self { system: 3, external: meta.mode() << 16 }
        }
        #[cfg(windows)]
        {
            use std::os::windows::fs::MetadataExt;
            // Read-only, hidden, system, archive.
            Self { system: 0, external: meta.file_attributes() & 0x27 }
        }
    }

    /// Those of a folder with nothing in it.
    pub(super) fn folder() -> Self {
        if cfg!(unix) {
            Self { system: 3, external: (0o040_755 << 16) | Self::FOLDER }
        } else {
            Self { system: 0, external: Self::FOLDER }
        }
    }
}

impl Entry {
    /// An entry whose sizes are to come; `expected` is how large its file looks.
    pub(super) fn new(name: String, times: Times, attributes: Attributes, expected: u64) -> Self {
        let large = expected >= LARGE;
        Self { name, times, attributes, method: Method::Stored, crc: 0, packed: 0, size: 0, offset: 0, large }
    }

    fn version(&self) -> u16 {
        if self.large || self.offset >= u64::from(IN_ZIP64) { VERSION_ZIP64 } else { VERSION }
    }

    /// What both headers have in common, from the version to the sizes.
    fn common(&self, out: &mut Vec<u8>) {
        put16(out, self.version());
        put16(out, UTF8);
        put16(out, self.method as u16);
        put16(out, self.times.dos.0);
        put16(out, self.times.dos.1);
        put32(out, self.crc);
        put32(out, self.short(self.packed));
        put32(out, self.short(self.size));
        // A listing has no longer names.
        put16(out, u16::try_from(self.name.len()).unwrap_or(u16::MAX));
    }

    fn short(&self, value: u64) -> u32 {
        if self.large { IN_ZIP64 } else { u32::try_from(value).unwrap_or(IN_ZIP64) }
    }

    /// What stands in front of the entry's bytes. Its length does not depend on the sizes, so that it can be written anew
    /// once they are known.
    pub(super) fn local_header(&self) -> Vec<u8> {
        let mut extra = Vec::new();
        if self.large {
            put16(&mut extra, 1);
            put16(&mut extra, 16);
            put64(&mut extra, self.size);
            put64(&mut extra, self.packed);
        }
        self.times.extra(false, &mut extra);
        let mut out = b"PK\x03\x04".to_vec();
        self.common(&mut out);
        put16(&mut out, length(&extra));
        out.extend(self.name.as_bytes());
        out.extend(extra);
        out
    }

    /// The entry in the directory at the zip's end.
    pub(super) fn central_header(&self) -> Vec<u8> {
        let far = self.offset >= u64::from(IN_ZIP64);
        let mut extra = Vec::new();
        if self.large || far {
            put16(&mut extra, 1);
            put16(&mut extra, if self.large { 16 } else { 0 } + if far { 8 } else { 0 });
            if self.large {
                put64(&mut extra, self.size);
                put64(&mut extra, self.packed);
            }
            if far {
                put64(&mut extra, self.offset);
            }
        }
        self.times.extra(true, &mut extra);
        let mut out = b"PK\x01\x02".to_vec();
        put16(&mut out, (self.attributes.system << 8) | self.version());
        self.common(&mut out);
        put16(&mut out, length(&extra));
        // No comment, first disk, no internal attributes.
        (0..3).for_each(|_| put16(&mut out, 0));
        put32(&mut out, self.attributes.external);
        put32(&mut out, if far { IN_ZIP64 } else { u32::try_from(self.offset).unwrap_or(IN_ZIP64) });
        out.extend(self.name.as_bytes());
        out.extend(extra);
        out
    }
}

/// What ends a zip: how many entries there are, and where their directory is.
pub(super) fn end(entries: u64, start: u64, bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if entries >= u64::from(MANY) || start >= u64::from(IN_ZIP64) || bytes >= u64::from(IN_ZIP64) {
        out.extend(b"PK\x06\x06");
        put64(&mut out, 44);
        put16(&mut out, VERSION_ZIP64);
        put16(&mut out, VERSION_ZIP64);
        put32(&mut out, 0);
        put32(&mut out, 0);
        put64(&mut out, entries);
        put64(&mut out, entries);
        put64(&mut out, bytes);
        put64(&mut out, start);
        out.extend(b"PK\x06\x07");
        put32(&mut out, 0);
        put64(&mut out, start + bytes);
        put32(&mut out, 1);
    }
    out.extend(b"PK\x05\x06");
    put32(&mut out, 0);
    let entries = u16::try_from(entries).unwrap_or(MANY);
    put16(&mut out, entries);
    put16(&mut out, entries);
    put32(&mut out, u32::try_from(bytes).unwrap_or(IN_ZIP64));
    put32(&mut out, u32::try_from(start).unwrap_or(IN_ZIP64));
    put16(&mut out, 0);
    out
}

fn length(extra: &[u8]) -> u16 {
    // At most three fields of known size.
    u16::try_from(extra.len()).unwrap_or(u16::MAX)
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_le_bytes());
}
