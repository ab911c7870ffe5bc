//! Sets the owner, mode, access control lists, other attributes and time of an entry, in an order in which no
//! intermediate state gives more rights than the final one.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use ar7_registry::records::{EntryType, ExtendedAttribute, Inode};

use super::Options;
use super::report::Aspect;
use crate::fs::system::{Handle, Status, System};
use crate::records::Timestamp;

/// The mode bits that run a program with the rights of its owner, and of its group.
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const SPECIAL_BITS: u32 = SET_USER_ID | SET_GROUP_ID;

const GROUP_BITS: u32 = 0o070;

/// The access control list of an entry.
pub(super) const ACCESS_LIST: &str = "system.posix_acl_access";

/// The access control list that new entries of a directory get.
pub(super) const DEFAULT_LIST: &str = "system.posix_acl_default";

const CAPABILITY: &str = "security.capability";

/// The namespace of attributes that belong to the users.
const USER: &[u8] = b"user.";

/// What an entry gets.
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent fact")]
pub(super) struct Wanted {
    kind: EntryType,
    /// The owner and group of the stored entry.
    stored_owner: (u32, u32),
    /// Whether they are restored.
    restores_owner: bool,
    /// The mode bits to set, special ones included.
    mode: u32,
    modified: Timestamp,
    attributes: Vec<ExtendedAttribute>,
    /// Whether they are unreadable. Then those of a directory that was there stay.
    are_attributes_lost: bool,
    /// Whether the entry may have access control lists that are not its own.
    may_have_lists: bool,
    /// Whether capabilities may be set, and other attributes that only the system's administrator can set.
    sets_privileged: bool,
}

/// Part of an entry that could not be set, with the reason.
pub(super) type Lack = (Aspect, io::Error);

impl Wanted {
    /// `attributes` are `None` if they are lost.
    pub(super) fn new(
        options: &Options,
        inode: &Inode,
        attributes: Option<Vec<ExtendedAttribute>>,
        may_have_lists: bool,
    ) -> Wanted {
        let stored = inode.attributes;
        let mut dropped = if options.preserve_special { 0 } else { SPECIAL_BITS };
        if attributes.is_none() {
            // A list that is lost may give the group less than these bits, which are its mask.
            dropped |= GROUP_BITS;
        }
        Wanted {
            kind: inode.kind,
            stored_owner: (stored.uid, stored.gid),
            restores_owner: options.preserve_owner,
            mode: stored.mode & 0o7777 & !dropped,
            modified: stored.modified.into(),
            are_attributes_lost: attributes.is_none(),
            attributes: attributes.unwrap_or_default(),
            may_have_lists,
            sets_privileged: options.preserve_special,
        }
    }

    /// Returns whether an existing entry has the mode and, if it is to be restored, the owner.
    pub(super) fn has_rights_of(&self, existing: &Status) -> bool {
        let has_owner =
            !self.restores_owner || self.stored_owner == (existing.owner, existing.group);
        has_owner && (self.kind == EntryType::Symlink || self.mode == existing.mode)
    }

    /// Sets everything. What the user's rights or the file system do not allow is passed to `lacks`.
    ///
    /// - A directory that was there first loses the group bits, which are the mask of its access control list, then the
    ///   list, and attributes that the archive does not give it.
    /// - Attributes come first: once the final mode is set, the owner may not write to the entry any more.
    /// - The owner comes before the mode and the capabilities, because changing it clears mode bits and capabilities.
    /// - The mode gives the group what the access control list gives to the owning group. The list then sets the group
    ///   bits to its mask.
    /// - The time comes last. Nothing after it changes it.
    pub(super) fn set(
        &self,
        system: &System,
        handle: &Handle,
        lacks: &mut dyn FnMut(Lack),
    ) -> io::Result<()> {
        if self.may_have_lists && self.kind != EntryType::Symlink {
            let present = system.status_of_held(handle)?.mode;
            system.set_mode(handle, present & (self.mode | !0o777) & !GROUP_BITS)?;
            system.remove_attribute(handle, ACCESS_LIST.as_ref())?;
            if self.kind == EntryType::Directory {
                system.remove_attribute(handle, DEFAULT_LIST.as_ref())?;
                let removed = if self.are_attributes_lost {
                    Ok(())
                } else {
                    self.remove_attributes(system, handle)
                };
                lacking(Aspect::ExtendedAttribute, removed, lacks)?;
            }
        }
        self.set_attributes(system, handle, Aspect::ExtendedAttribute, lacks);
        if self.restores_owner {
            let (owner, group) = self.stored_owner;
            lacking(Aspect::Owner, system.set_owner(handle, owner, group), lacks)?;
        }
        // A symbolic link has no mode of its own.
        if self.kind != EntryType::Symlink {
            let mode = if self.mode & SPECIAL_BITS == 0 {
                self.mode
            } else {
                self.mode_for(&system.status_of_held(handle)?, lacks)
            };
            lacking(Aspect::Mode, system.set_mode(handle, self.narrowed(mode)), lacks)?;
        }
        self.set_attributes(system, handle, Aspect::AccessControlList, lacks);
        self.set_attributes(system, handle, Aspect::Capability, lacks);
        lacking(Aspect::Time, system.set_modified(handle, self.modified), lacks)
    }

    /// Returns the mode to set. A program that ran with the rights of its owner or group must not run with those of
    /// another one.
    fn mode_for(&self, status: &Status, lacks: &mut dyn FnMut(Lack)) -> u32 {
        let (owner, group) = self.stored_owner;
        let mut dropped = 0;
        if self.kind != EntryType::Directory {
            dropped |= if status.owner == owner { 0 } else { SET_USER_ID };
            dropped |= if status.group == group { 0 } else { SET_GROUP_ID };
        }
        if self.mode & dropped != 0 {
            let reason = "without the owner, the special bits would give the rights of another one";
            lacks((Aspect::Mode, io::Error::other(reason)));
        }
        self.mode & !dropped
    }

    /// Removes those attributes of a directory that was there before which the archive does not give it. Attributes
    /// outside of the users' namespace belong to the system, and stay.
    fn remove_attributes(&self, system: &System, handle: &Handle) -> io::Result<()> {
        let Handle::Open(directory) = handle else { return Ok(()) };
        for name in system.attribute_names(directory)? {
            if name.starts_with(USER) && !self.attributes.iter().any(|one| one.name == name) {
                system.remove_attribute(handle, OsStr::from_bytes(&name))?;
            }
        }
        Ok(())
    }

    fn set_attributes(
        &self,
        system: &System,
        handle: &Handle,
        aspect: Aspect,
        lacks: &mut dyn FnMut(Lack),
    ) {
        for attribute in self.attributes.iter().filter(|one| aspect_of(&one.name) == aspect) {
            let set = if is_privileged(&attribute.name) && !self.sets_privileged {
                Err(io::Error::other("not asked for with the special bits"))
            } else {
                system.set_attribute(handle, &attribute.name, &attribute.value)
            };
            if let Err(error) = set {
                lacks((aspect, error));
            }
        }
    }

    /// Returns the mode with the group's rights as the access control list has them, without its mask.
    fn narrowed(&self, mode: u32) -> u32 {
        let list = self.attributes.iter().find(|one| one.name == ACCESS_LIST.as_bytes());
        match list {
            Some(list) => mode & (!GROUP_BITS | group_rights(&list.value) << 3),
            None => mode,
        }
    }
}

/// Passes an error to `lacks` if the user's rights or the file system do not allow an operation.
fn lacking(aspect: Aspect, outcome: io::Result<()>, lacks: &mut dyn FnMut(Lack)) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match outcome {
        // An owner that does not exist in the user namespace is invalid.
        Err(error) if matches!(error.kind(), PermissionDenied | InvalidInput | Unsupported) => {
            lacks((aspect, error));
            Ok(())
        }
        outcome => outcome,
    }
}

/// Returns whether an extended attribute can give rights or trust, as those outside of the users' namespace do. Access
/// control lists only narrow or widen access to the entry itself.
fn is_privileged(name: &[u8]) -> bool {
    !name.starts_with(USER) && aspect_of(name) != Aspect::AccessControlList
}

fn aspect_of(name: &[u8]) -> Aspect {
    if name == ACCESS_LIST.as_bytes() || name == DEFAULT_LIST.as_bytes() {
        Aspect::AccessControlList
    } else if name == CAPABILITY.as_bytes() {
        Aspect::Capability
    } else {
        Aspect::ExtendedAttribute
    }
}

/// Returns the rights of the owning group in an access control list, from 0 to 7. A malformed list gives none.
///
/// The list is a version, then entries of tag, rights and number (`posix_acl_xattr.h` of Linux).
fn group_rights(list: &[u8]) -> u32 {
    const VERSION: [u8; 4] = 2_u32.to_le_bytes();
    const OWNING_GROUP: u16 = 4;
    let Some(entries) = list.strip_prefix(&VERSION) else { return 0 };
    let (entries, []) = entries.as_chunks::<8>() else { return 0 };
    let mut rights = 0;
    for &[tag, more_tag, low, high, ..] in entries {
        if u16::from_le_bytes([tag, more_tag]) == OWNING_GROUP {
            rights = u32::from(u16::from_le_bytes([low, high])) & 0o7;
        }
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|&(tag, rights)| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &[0xff; 4]].concat()
        });
        2_u32.to_le_bytes().into_iter().chain(entries).collect()
    }

    #[test]
    fn without_its_access_control_list_an_entry_gives_the_group_no_more_than_the_list_does() {
        for (value, mode, expected) in [
            // Read and write for a named user, nothing for the group: the mode shows the mask.
            (list(&[(1, 6), (2, 6), (4, 0), (16, 6), (32, 0)]), 0o660, 0o600),
            (list(&[(1, 7), (2, 7), (4, 4), (16, 7), (32, 0)]), 0o2770, 0o2740),
            // The mask also limits the group.
            (list(&[(1, 7), (4, 7), (16, 4), (32, 5)]), 0o745, 0o745),
            (list(&[]), 0o777, 0o707),
            (vec![2, 0, 0, 0, 4], 0o777, 0o707),
            (vec![3, 0, 0, 0], 0o777, 0o707),
            (Vec::new(), 0o777, 0o707),
        ] {
            let attributes = vec![ExtendedAttribute::new(ACCESS_LIST, value.clone())];
            let wanted = Wanted {
                kind: EntryType::File,
                stored_owner: (0, 0),
                restores_owner: false,
                mode,
                modified: Timestamp::default(),
                attributes,
                are_attributes_lost: false,
                may_have_lists: false,
                sets_privileged: false,
            };
            assert_eq!(wanted.narrowed(mode), expected, "{value:?}");
        }
    }

    #[test]
    fn an_existing_entry_has_the_same_rights_if_mode_and_owner_are_those_to_restore() {
        use std::os::fd::AsFd as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "").unwrap();
        let directory = std::fs::File::open(folder.path()).unwrap();
        let existing = System::default().status(directory.as_fd(), b"f").unwrap();
        let owner = (existing.owner, existing.group);
        for (kind, mode, wanted_owner, expected) in [
            (EntryType::File, existing.mode, None, true),
            (EntryType::File, existing.mode, Some(owner), true),
            (EntryType::File, existing.mode, Some((owner.0, owner.1 ^ 1)), false),
            (EntryType::File, existing.mode ^ 0o111, None, false),
            (EntryType::Symlink, existing.mode ^ 0o111, None, true),
            (EntryType::Symlink, existing.mode, Some((owner.0 ^ 1, owner.1)), false),
        ] {
            let wanted = Wanted {
                kind,
                stored_owner: wanted_owner.unwrap_or_default(),
                restores_owner: wanted_owner.is_some(),
                mode,
                modified: Timestamp::default(),
                are_attributes_lost: false,
                attributes: Vec::new(),
                may_have_lists: false,
                sets_privileged: false,
            };
            assert_eq!(wanted.has_rights_of(&existing), expected, "{kind:?} {mode:o}");
        }
    }

    #[test]
    fn an_entry_whose_owner_cannot_be_set_does_not_run_with_the_rights_of_another() {
        use rustix::io::Errno;
        use std::os::unix::fs::PermissionsExt as _;
        for (errno, expected) in
            [(Errno::PERM, Some(0o755)), (Errno::INVAL, Some(0o755)), (Errno::IO, None)]
        {
            let file = tempfile::tempfile().unwrap();
            let calls = std::sync::atomic::AtomicU32::new(0);
            // The first call sets the owner.
            let fail = move || match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Err(errno.into()),
                _ => Ok(()),
            };
            let system =
                System { disturbance: Some(std::sync::Arc::new(fail)), ..System::default() };
            let wanted = Wanted {
                kind: EntryType::File,
                stored_owner: (1, 1),
                restores_owner: true,
                mode: 0o6755,
                modified: Timestamp::default(),
                are_attributes_lost: false,
                attributes: Vec::new(),
                may_have_lists: false,
                sets_privileged: false,
            };
            let (handle, mut lacks) = (Handle::Open(file.try_clone().unwrap()), Vec::new());
            let set = wanted.set(&system, &handle, &mut |(aspect, _)| lacks.push(aspect));
            assert_eq!(set.is_ok(), expected.is_some());
            if let Some(mode) = expected {
                assert_eq!(lacks, [Aspect::Owner, Aspect::Mode]);
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, mode);
            }
        }
    }
}
