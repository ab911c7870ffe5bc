//! Changes of attributes in the open transaction.

use ar7_engine::format::Timestamp;
use ar7_registry::Names;
use ar7_registry::records::{Attributes, EntryType, ExtendedAttribute, InodeNumber, Origin};
use fuser::Errno;

use crate::access_lists;
use crate::errno::Failure;
use crate::inodes::{
    Change, SET_GID, changed_extended, changed_now, drop_capabilities, existing, without_privileges,
};
use crate::open_file::Orphan;
use crate::writer::{Need, Writer};

/// The attributes to change.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) changed: Option<Timestamp>,
}

/// What happens to an extended attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Setting<'a> {
    Set { value: &'a [u8], must_exist: bool, must_be_new: bool },
    Remove,
}

/// Who changes an extended attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Wanted {
    pub(crate) fn is_empty(self) -> bool {
        let Wanted { mode, uid, gid, modified, changed } = self;
        mode.or(uid).or(gid).is_none() && modified.or(changed).is_none()
    }

    /// Returns whether nothing but times is changed.
    pub(crate) fn is_of_times(self) -> bool {
        self.mode.or(self.uid).or(self.gid).is_none()
    }

    fn changes_owner(self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }

    fn apply(self, number: InodeNumber, kind: EntryType, before: Attributes) -> Attributes {
        let Wanted { mode, uid, gid, modified, changed } = self;
        let mut attributes = changed_now(number, before);
        attributes.mode = mode.map_or(attributes.mode, |mode| mode & 0o7777);
        if self.changes_owner() && mode.is_none() && kind == EntryType::File {
            attributes.mode = without_privileges(attributes.mode);
        }
        attributes.uid = uid.unwrap_or(attributes.uid);
        attributes.gid = gid.unwrap_or(attributes.gid);
        attributes.modified = modified.unwrap_or(attributes.modified);
        if let Some(changed) = changed {
            attributes.origin = Some(Origin { changed, inode: number.0 });
        }
        attributes
    }

    /// Changes the extended attributes that depend on mode and owner. Returns whether there are any.
    fn apply_to_extended(self, extended: &mut Vec<ExtendedAttribute>) -> bool {
        let is_followed = self.mode.is_some_and(|mode| follow_mode(extended, mode));
        let is_dropped = self.changes_owner() && drop_capabilities(extended);
        is_followed || is_dropped
    }
}

impl Writer {
    /// Sets attributes.
    pub(crate) fn set_attributes(&self, number: InodeNumber, wanted: Wanted) -> Result<(), Errno> {
        self.change(self.need(number, 0), |names| {
            self.check_attributes(names, number, wanted)?;
            self.make_attributes(names, number, wanted)
        })
    }

    /// Fails if attributes cannot be set, before anything changes.
    pub(crate) fn check_attributes(
        &self,
        names: &Names<'_>,
        number: InodeNumber,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let is_orphan = || self.file(number).is_some_and(|file| file.is_orphan());
        if wanted.is_of_times() || is_orphan() {
            return Ok(());
        }
        self.check_extended(&attribute_change(names, number, wanted)?)
    }

    /// Sets attributes, after the check. Only with the turn.
    pub(crate) fn make_attributes(
        &self,
        names: &Names<'_>,
        number: InodeNumber,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let apply = |orphan: &mut Orphan| {
            let before = orphan.inode.attributes;
            orphan.inode.attributes = wanted.apply(number, orphan.inode.kind, before);
            wanted.apply_to_extended(&mut orphan.extended);
        };
        if self.change_orphan(number, apply) {
            return Ok(());
        }
        let change = attribute_change(names, number, wanted)?;
        self.mark(number);
        change.make(names, number)
    }

    /// Makes the user who mounts the owner of the root directory, unless its attributes were set before: in a new archive,
    /// nobody has set them.
    pub(crate) fn take_root(&self, uid: u32, gid: u32) {
        let root = self.archive.snapshot().inode(InodeNumber::ROOT).ok().flatten();
        let attributes = root.map(|root| root.attributes);
        let is_new = |it: &Attributes| (it.uid, it.gid, it.origin) == (0, 0, None);
        if uid != 0 && attributes.as_ref().is_some_and(is_new) {
            let wanted = Wanted { uid: Some(uid), gid: Some(gid), ..Wanted::default() };
            // On a full disk this fails, as adding a name would.
            let _ = self.set_attributes(InodeNumber::ROOT, wanted);
        }
    }

    /// Sets or removes an extended attribute.
    pub(crate) fn set_extended(
        &self,
        number: InodeNumber,
        name: &[u8],
        setting: Setting<'_>,
        caller: Caller,
    ) -> Result<(), Errno> {
        let bytes = if let Setting::Set { value, .. } = setting { value.len() } else { 0 };
        self.change(self.need(number, bytes), |names| {
            let mut outcome = Ok(());
            if self.change_orphan(number, |orphan| {
                let attributes = &mut orphan.inode.attributes;
                outcome = set_list_in(&mut orphan.extended, attributes, name, setting, caller);
            }) {
                return Ok(outcome?);
            }
            let inode = existing(names, number)?;
            let mut extended = names.extended_attributes(&inode)?;
            let mut attributes = changed_now(number, inode.attributes);
            set_list_in(&mut extended, &mut attributes, name, setting, caller)?;
            let change = Change { attributes, extended: Some(extended) };
            self.check_extended(&change)?;
            self.mark(number);
            change.make(names, number)
        })
    }

    /// Returns what a change of attributes needs. Those of a file without a name are kept in memory.
    fn need(&self, number: InodeNumber, bytes: usize) -> Need {
        let is_orphan = self.file(number).is_some_and(|file| file.is_orphan());
        if is_orphan { Need::Nothing } else { Need::Room(bytes) }
    }

    fn change_orphan(&self, number: InodeNumber, change: impl FnOnce(&mut Orphan)) -> bool {
        let file = self.file(number).filter(|file| file.is_orphan());
        file.is_some_and(|file| file.content().set_orphan(change))
    }
}

/// Returns what a change of attributes changes in an inode.
fn attribute_change(
    names: &Names<'_>,
    number: InodeNumber,
    wanted: Wanted,
) -> Result<Change, Failure> {
    let inode = existing(names, number)?;
    let attributes = wanted.apply(number, inode.kind, inode.attributes);
    let extended = if wanted.is_of_times() {
        None
    } else {
        changed_extended(names, &inode, |extended| wanted.apply_to_extended(extended))?
    };
    Ok(Change { attributes, extended })
}

/// Changes the access control list among extended attributes. Returns whether there is one.
fn follow_mode(extended: &mut [ExtendedAttribute], mode: u32) -> bool {
    let list = extended.iter_mut().find(|attribute| attribute.name == access_lists::ACCESS);
    let changed = list.and_then(|list| Some((access_lists::with_mode(&list.value, mode)?, list)));
    changed.map(|(value, list)| list.value = value).is_some()
}

/// Sets or removes an extended attribute. The mode follows from an access control list. An error changes nothing.
fn set_list_in(
    extended: &mut Vec<ExtendedAttribute>,
    attributes: &mut Attributes,
    name: &[u8],
    setting: Setting<'_>,
    caller: Caller,
) -> Result<(), Errno> {
    let value = match setting {
        Setting::Set { value, .. } if name == access_lists::ACCESS => value,
        _ => return set_in(extended, name, setting),
    };
    let followed = access_lists::mode_with(value, attributes.mode).ok_or(Errno::EINVAL)?;
    set_in(extended, name, setting)?;
    let (mode, says_more) = followed;
    attributes.mode = mode;
    // The kernel does not say in which other groups the caller is.
    if caller.uid != 0 && caller.gid != attributes.gid {
        attributes.mode &= !SET_GID;
    }
    if !says_more {
        extended.retain(|attribute| attribute.name != access_lists::ACCESS);
    }
    Ok(())
}

fn set_in(
    extended: &mut Vec<ExtendedAttribute>,
    name: &[u8],
    setting: Setting<'_>,
) -> Result<(), Errno> {
    let at = extended.iter().position(|attribute| attribute.name == name);
    match (setting, at) {
        (Setting::Remove, Some(at)) => {
            extended.remove(at);
        }
        (Setting::Remove | Setting::Set { must_exist: true, .. }, None) => {
            return Err(Errno::ENODATA);
        }
        (Setting::Set { must_be_new: true, .. }, Some(_)) => return Err(Errno::EEXIST),
        (Setting::Set { value, .. }, None) => extended.push(ExtendedAttribute::new(name, value)),
        (Setting::Set { value, .. }, Some(at)) => {
            if let Some(attribute) = extended.get_mut(at) {
                attribute.value = value.to_vec();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_access_control_list_changes_nothing() {
        let caller = Caller { uid: 0, gid: 0 };
        let modified = Timestamp::default();
        let before = Attributes { mode: 0o640, uid: 0, gid: 0, modified, origin: None };
        let (mut extended, mut attributes) = (Vec::new(), before);
        let setting = Setting::Set { value: b"no list", must_exist: false, must_be_new: false };
        let name = access_lists::ACCESS;
        let outcome = set_list_in(&mut extended, &mut attributes, name, setting, caller);
        assert_eq!((outcome, extended, attributes), (Err(Errno::EINVAL), Vec::new(), before));
    }
}
