//! Access control lists of POSIX. The kernel enforces them. How a mode follows from a list, a list from a mode, and both
//! from the directory of a new entry, it leaves to the file system.
//!
//! A list is a version, then entries of tag, rights and number (`posix_acl_xattr.h` of Linux).

use ar7_registry::records::ExtendedAttribute;

/// The extended attributes with the list of an entry, and with that of new entries in a directory.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: [u8; 4] = 2_u32.to_le_bytes();

const OWNER: u16 = 1;
const GROUP: u16 = 4;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// The rights in a mode.
const RIGHTS: u32 = 0o777;

/// An access control list.
struct List(Vec<Entry>);

struct Entry {
    tag: u16,
    rights: u16,
    number: [u8; 4],
}

/// Returns the mode of an entry that gets a list, and whether the list says more than this mode. Returns `None` if it is
/// malformed.
pub(crate) fn mode_with(list: &[u8], mode: u32) -> Option<(u32, bool)> {
    let list = List::parse(list)?;
    Some((mode & !RIGHTS | list.mode()?, list.0.len() > 3))
}

/// Returns the list of an entry whose mode is changed.
pub(crate) fn with_mode(list: &[u8], mode: u32) -> Option<Vec<u8>> {
    let mut list = List::parse(list)?;
    list.change(mode, |_, rights| rights);
    Some(list.bytes())
}

/// Returns the mode and the lists of a new entry in a directory with this list for new entries.
pub(crate) fn inherited(
    default: &[u8],
    mode: u32,
    is_directory: bool,
) -> Option<(u32, Vec<ExtendedAttribute>)> {
    let mut list = List::parse(default)?;
    list.change(mode, |before, rights| before & rights);
    let mode = mode & !RIGHTS | list.mode()?;
    let mut lists = Vec::new();
    if list.0.len() > 3 {
        lists.push(ExtendedAttribute::new(ACCESS, list.bytes()));
    }
    if is_directory {
        lists.push(ExtendedAttribute::new(DEFAULT, default));
    }
    Some((mode, lists))
}

impl List {
    fn parse(bytes: &[u8]) -> Option<List> {
        let (entries, []) = bytes.strip_prefix(&VERSION)?.as_chunks::<8>() else { return None };
        let entry = |&[tag, more_tag, rights, more_rights, a, b, c, d]: &[u8; 8]| Entry {
            tag: u16::from_le_bytes([tag, more_tag]),
            rights: u16::from_le_bytes([rights, more_rights]) & 0o7,
            number: [a, b, c, d],
        };
        Some(List(entries.iter().map(entry).collect()))
    }

    fn bytes(&self) -> Vec<u8> {
        let entry = |entry: &Entry| {
            [&entry.tag.to_le_bytes()[..], &entry.rights.to_le_bytes(), &entry.number].concat()
        };
        VERSION.into_iter().chain(self.0.iter().flat_map(entry)).collect()
    }

    fn rights(&self, tag: u16) -> Option<u32> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.rights.into())
    }

    /// Returns the tag of the entry that a mode shows as the rights of the group.
    fn group_class(&self) -> u16 {
        if self.rights(MASK).is_some() { MASK } else { GROUP }
    }

    fn mode(&self) -> Option<u32> {
        let group = self.rights(self.group_class())?;
        Some(self.rights(OWNER)? << 6 | group << 3 | self.rights(OTHERS)?)
    }

    /// Changes the entries that a mode shows: `combine` gets their rights and those of a mode.
    fn change(&mut self, mode: u32, combine: impl Fn(u16, u16) -> u16) {
        let group = self.group_class();
        for entry in &mut self.0 {
            let shift = match entry.tag {
                OWNER => 6,
                OTHERS => 0,
                tag if tag == group => 3,
                _ => continue,
            };
            let rights = u16::try_from(mode >> shift & 0o7).unwrap_or_default();
            entry.rights = combine(entry.rights, rights);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let number = [0xff; 4];
        List(entries.iter().map(|&(tag, rights)| Entry { tag, rights, number }).collect()).bytes()
    }

    #[test]
    fn the_group_s_rights_in_a_mode_are_the_mask_if_there_is_one() {
        let minimal = list(&[(1, 6), (4, 4), (32, 1)]);
        assert_eq!(mode_with(&minimal, 0o2777), Some((0o2641, false)));
        let masked = list(&[(1, 7), (2, 7), (4, 1), (16, 5), (32, 0)]);
        assert_eq!(mode_with(&masked, 0), Some((0o750, true)));
        let changed = list(&[(1, 6), (2, 7), (4, 1), (16, 2), (32, 4)]);
        assert_eq!(with_mode(&masked, 0o624), Some(changed));
    }

    #[test]
    fn a_new_entry_has_no_right_that_its_maker_did_not_ask_for() {
        let default = list(&[(1, 7), (2, 7), (4, 7), (16, 6), (32, 5)]);
        let access = list(&[(1, 6), (2, 7), (4, 7), (16, 4), (32, 0)]);
        let access = ExtendedAttribute::new(ACCESS, access);
        assert_eq!(inherited(&default, 0o640, false), Some((0o640, vec![access])));
        let minimal = list(&[(1, 7), (4, 5), (32, 5)]);
        let default = ExtendedAttribute::new(DEFAULT, minimal.clone());
        assert_eq!(inherited(&minimal, 0o1777, true), Some((0o1755, vec![default])));
    }

    #[test]
    fn a_malformed_list_is_refused() {
        for bytes in [&b""[..], &[2, 0, 0, 0], &[3, 0, 0, 0], &list(&[(1, 7)])[..11]] {
            assert_eq!(mode_with(bytes, 0o777), None, "{bytes:?}");
        }
    }
}
