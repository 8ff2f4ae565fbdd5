//! Security descriptors in their self-relative form, as bytes (MS-DTYP 2.4.2 to 2.4.6): what `windows-sys` has are pointers
//! into them.

use std::fmt;

/// Bits of a descriptor's control field.
const DACL_PRESENT: u16 = 0x0004;
const DACL_AUTO_INHERIT_REQ: u16 = 0x0100;
const DACL_AUTO_INHERITED: u16 = 0x0400;
const DACL_PROTECTED: u16 = 0x1000;
const SELF_RELATIVE: u16 = 0x8000;

/// Flags of an entry.
const OBJECT_INHERIT: u8 = 0x01;
const INHERITED: u8 = 0x10;
/// For files and folders, here and below.
const ALL_BELOW: u8 = 0x03;

/// Kinds of entries with a mask and one account: allowed, denied.
const PLAIN_KINDS: [u8; 2] = [0, 1];

/// The identifier of whoever makes a file: in its place, the file's entry names the owner.
const CREATOR_OWNER: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0];

/// Generic rights, and what they are for files: read, write, execute, all.
const GENERIC: [(u32, u32); 4] =
    [(0x8000_0000, 0x0012_0089), (0x4000_0000, 0x0012_0116), (0x2000_0000, 0x0012_00a0), (0x1000_0000, 0x001f_01ff)];

/// All that can be done with a file; reading and executing it.
const ALL: u32 = 0x001f_01ff;
const READ_AND_EXECUTE: u32 = 0x0012_00a9;

/// An account, as the system knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sid(Vec<u8>);

impl Sid {
    /// The account SYSTEM.
    pub(crate) fn system() -> Self {
        Self(vec![1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0])
    }

    /// The group of administrators.
    pub(crate) fn administrators() -> Self {
        Self(vec![1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 0x02, 0, 0])
    }

    /// The group of all who have an account.
    fn users() -> Self {
        Self(vec![1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 0x02, 0, 0])
    }

    /// Reads one that begins at the first byte.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let parts = usize::from(*bytes.get(1)?);
        (bytes[0] == 1).then_some(())?;
        bytes.get(..8 + 4 * parts).map(|all| Self(all.to_vec()))
    }
}

impl Sid {
    /// Reads `S-1-5-...`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.strip_prefix("S-1-")?.split('-');
        let authority: u64 = numbers.next()?.parse().ok()?;
        let parts: Vec<u32> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let mut bytes = vec![1, u8::try_from(parts.len()).ok().filter(|n| *n <= 15)?];
        bytes.extend_from_slice(&authority.to_be_bytes()[2..]);
        bytes.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
        Some(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Sid {
    /// `S-1-5-18`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0[2..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        write!(f, "S-1-{authority}")?;
        self.0[8..]
            .chunks_exact(4)
            .try_for_each(|part| write!(f, "-{}", u32::from_le_bytes([part[0], part[1], part[2], part[3]])))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let part: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(part)).ok()
}

fn control(descriptor: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(descriptor.get(2..4)?.try_into().ok()?))
}

/// Who owns it.
pub(crate) fn owner(descriptor: &[u8]) -> Option<Sid> {
    let at = number(descriptor, 4).filter(|at| *at > 0)?;
    Sid::read(descriptor.get(at..)?)
}

/// True where there is no access list: everybody may do everything.
fn is_open(descriptor: &[u8]) -> Option<bool> {
    Some(control(descriptor)? & DACL_PRESENT == 0 || number(descriptor, 16)? == 0)
}

/// The whole access list as it stands there; nothing where there is none, or it is damaged.
pub(crate) fn list(descriptor: &[u8]) -> Option<&[u8]> {
    if is_open(descriptor)? {
        return None;
    }
    let at = number(descriptor, 16).filter(|at| *at > 0)?;
    let length = usize::from(u16::from_le_bytes(descriptor.get(at + 2..at + 4)?.try_into().ok()?));
    descriptor.get(at..at + length)
}

/// The descriptor so that setting it does not take the mark from entries that were inherited: they go on following the
/// folder they came from.
pub(crate) fn kept_as_it_is(descriptor: &[u8]) -> Option<Vec<u8>> {
    let mut kept = descriptor.to_vec();
    let mut bits = control(descriptor)?;
    if bits & DACL_AUTO_INHERITED != 0 {
        bits |= DACL_AUTO_INHERIT_REQ;
    }
    kept.get_mut(2..4)?.copy_from_slice(&bits.to_le_bytes());
    Some(kept)
}

/// What a file that is made in a folder with this descriptor gets: the owner, and the entries that files inherit.
/// Nothing when the descriptor is not understood.
pub(crate) fn inherited_by_file(folder: &[u8]) -> Option<Vec<u8>> {
    let owner = owner(folder)?;
    let entries = if is_open(folder)? { None } else { Some(inherited_entries(list(folder)?, &owner)?) };
    Some(descriptor_of(&owner, entries.as_deref(), DACL_AUTO_INHERIT_REQ | DACL_AUTO_INHERITED))
}

fn inherited_entries(list: &[u8], owner: &Sid) -> Option<Vec<Vec<u8>>> {
    let count = usize::from(u16::from_le_bytes(list.get(4..6)?.try_into().ok()?));
    let mut at = 8;
    let mut entries = Vec::new();
    for _ in 0..count {
        let size = usize::from(u16::from_le_bytes(list.get(at + 2..at + 4)?.try_into().ok()?));
        let entry = list.get(at..at + size).filter(|entry| entry.len() >= 8)?;
        at += size;
        if entry[1] & OBJECT_INHERIT != 0 {
            entries.push(inherited(entry, owner)?);
        }
    }
    Some(entries)
}

/// One entry as a file inherits it.
fn inherited(entry: &[u8], owner: &Sid) -> Option<Vec<u8>> {
    let mut made = entry.to_vec();
    made[1] = INHERITED;
    if !PLAIN_KINDS.contains(&entry[0]) {
        return Some(made);
    }
    let mut mask = u32::try_from(number(entry, 4)?).ok()?;
    for (generic, meaning) in GENERIC {
        if mask & generic != 0 {
            mask = mask & !generic | meaning;
        }
    }
    made[4..8].copy_from_slice(&mask.to_le_bytes());
    if entry.get(8..) == Some(&CREATOR_OWNER[..]) {
        made.truncate(8);
        made.extend_from_slice(&owner.0);
        let size = u16::try_from(made.len()).ok()?;
        made[2..4].copy_from_slice(&size.to_le_bytes());
    }
    Some(made)
}

/// A descriptor with an owner (who is the group as well) and a list; without one, everybody may do everything.
fn descriptor_of(owner: &Sid, entries: Option<&[Vec<u8>]>, bits: u16) -> Vec<u8> {
    const HEAD: usize = 20;
    let list_at = if entries.is_some() { HEAD + owner.0.len() } else { 0 };
    let bits = bits | SELF_RELATIVE | DACL_PRESENT;
    let mut made = vec![1, 0];
    made.extend_from_slice(&bits.to_le_bytes());
    for at in [HEAD, HEAD, 0, list_at] {
        // A descriptor is never longer than a list, whose length has 16 bits.
        made.extend_from_slice(&u32::try_from(at).unwrap_or_default().to_le_bytes());
    }
    made.extend_from_slice(&owner.0);
    if let Some(entries) = entries {
        let length = 8 + entries.iter().map(Vec::len).sum::<usize>();
        made.extend_from_slice(&[2, 0]);
        made.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        made.extend_from_slice(&u16::try_from(entries.len()).unwrap_or(u16::MAX).to_le_bytes());
        made.extend_from_slice(&[0, 0]);
        made.extend(entries.iter().flatten());
    }
    made
}

/// Everything below for the system, administrators and `own`, and nothing for others.
pub(crate) fn for_administrators(own: &Sid) -> Vec<u8> {
    let entries = [Sid::system(), Sid::administrators(), own.clone()].map(|sid| entry(ALL_BELOW, ALL, &sid));
    descriptor_of(own, Some(&entries), DACL_PROTECTED)
}

/// The same, and everybody who has logged on may read and execute.
pub(crate) fn readable_by_users(own: &Sid) -> Vec<u8> {
    let mut entries = [Sid::system(), Sid::administrators(), own.clone()].map(|sid| entry(ALL_BELOW, ALL, &sid)).to_vec();
    entries.push(entry(ALL_BELOW, READ_AND_EXECUTE, &Sid::users()));
    descriptor_of(own, Some(&entries), DACL_PROTECTED)
}

/// An entry that allows.
fn entry(flags: u8, mask: u32, sid: &Sid) -> Vec<u8> {
    let mut made = vec![0, flags];
    made.extend_from_slice(&u16::try_from(8 + sid.0.len()).unwrap_or(u16::MAX).to_le_bytes());
    made.extend_from_slice(&mask.to_le_bytes());
    made.extend_from_slice(&sid.0);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u8, flags: u8, mask: u32, sid: &[u8]) -> Vec<u8> {
        let mut made = super::entry(flags, mask, &Sid(sid.to_vec()));
        made[0] = kind;
        made
    }

    #[test]
    fn accounts_are_written_as_windows_writes_them() {
        assert_eq!(Sid::system().to_string(), "S-1-5-18");
        assert_eq!(Sid::administrators().to_string(), "S-1-5-32-544");
        assert_eq!(Sid::read(&[1, 2, 0]), None);
        for sid in [Sid::system(), Sid::administrators()] {
            assert_eq!(Sid::parse(&sid.to_string()), Some(sid));
        }
        assert!(["", "S-1", "S-1-x", "S-1-5-4294967296"].iter().all(|text| Sid::parse(text).is_none()));
    }

    #[test]
    fn a_file_gets_what_its_folder_lets_files_inherit() {
        let admins = Sid::administrators();
        let folder = descriptor_of(
            &admins,
            Some(&[
                // For the folder alone, for folders below, for everything below, for whoever makes the file.
                entry(0, 0, 0x001f_01ff, &Sid::system().0),
                entry(0, 0x02, 0x001f_01ff, &Sid::system().0),
                entry(0, 0x03, 0x8000_0000, &Sid::system().0),
                entry(1, 0x1b, 0x1000_0000, &CREATOR_OWNER),
            ]),
            0,
        );
        let file = inherited_by_file(&folder).unwrap();
        assert_eq!(owner(&file), Some(admins.clone()));
        let expected = [entry(0, 0x10, 0x0012_0089, &Sid::system().0), entry(1, 0x10, 0x001f_01ff, &admins.0)];
        let list = list(&file).unwrap();
        assert_eq!(list[8..], expected.concat());
        assert_eq!(list[4], 2);
    }

    #[test]
    fn a_closed_folder_has_entries_for_administrators_alone() {
        let own = Sid::parse("S-1-5-21-1-2-3-1001").unwrap();
        let closed = for_administrators(&own);
        assert_eq!(owner(&closed), Some(own.clone()));
        assert_eq!(list(&closed).unwrap()[4], 3);
        assert_eq!(control(&closed).unwrap() & DACL_PROTECTED, DACL_PROTECTED);
        assert_eq!(list(&readable_by_users(&own)).unwrap()[4], 4);
        assert_eq!(Sid::users().to_string(), "S-1-5-32-545");
    }

    #[test]
    fn what_is_damaged_is_not_understood() {
        let whole = descriptor_of(&Sid::system(), Some(&[entry(0, 3, 1, &Sid::system().0)]), 0);
        for length in 0..whole.len() {
            assert_eq!(inherited_by_file(&whole[..length]), None, "{length}");
        }
        let open = descriptor_of(&Sid::system(), None, 0);
        assert_eq!(list(&inherited_by_file(&open).unwrap()), None);
    }

    #[test]
    fn inherited_entries_keep_their_mark() {
        let whole = descriptor_of(&Sid::system(), Some(&[entry(0, 0x10, 1, &Sid::system().0)]), DACL_AUTO_INHERITED);
        let kept = kept_as_it_is(&whole).unwrap();
        assert_eq!(control(&kept), control(&whole).map(|bits| bits | DACL_AUTO_INHERIT_REQ));
        assert_eq!(list(&kept), list(&whole));
    }
}
