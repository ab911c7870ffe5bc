//! Changes of attributes in the open transaction.

use ar7_engine::format::Timestamp;
use ar7_registry::Names;
use ar7_registry::records::{
    Attributes, EntryType, Extended, ExtendedAttribute, Inode, InodeNumber, Origin,
};
use fuser::Errno;

use crate::access_lists;
use crate::errno::Failure;
use crate::inodes::{SET_GID, changed_now, drop_capabilities, existing, without_privileges};
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
}

impl Writer {
    /// Sets attributes.
    pub(crate) fn set_attributes(&self, number: InodeNumber, wanted: Wanted) -> Result<(), Errno> {
        self.change(Need::Room(0), |names| {
            let apply = |orphan: &mut Orphan| {
                let before = orphan.inode.attributes;
                orphan.inode.attributes = wanted.apply(number, orphan.inode.kind, before);
                if let Some(mode) = wanted.mode {
                    follow_mode(&mut orphan.extended, mode);
                }
            };
            if self.change_orphan(number, apply) {
                return Ok(());
            }
            self.mark(number);
            let inode = existing(names, number)?;
            let attributes = wanted.apply(number, inode.kind, inode.attributes);
            names.set_attributes(number, attributes)?;
            if wanted.mode.is_some() {
                change_list(names, number, &inode, attributes.mode)?;
            }
            if wanted.changes_owner() {
                drop_capabilities(names, number, &inode)?;
            }
            Ok(())
        })
    }

    /// Gives the root directory to the user who mounts, unless it was given to somebody before: a new archive has it from
    /// nobody.
    pub(crate) fn take_root(&self, uid: u32, gid: u32) {
        let root = self.archive.snapshot().inode(InodeNumber::ROOT).ok().flatten();
        let attributes = root.map(|root| root.attributes);
        let is_new = |it: &Attributes| (it.uid, it.gid, it.origin) == (0, 0, None);
        if uid != 0 && attributes.as_ref().is_some_and(is_new) {
            let wanted = Wanted { uid: Some(uid), gid: Some(gid), ..Wanted::default() };
            // Without room for it, there is none for a new name either.
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
        self.change(Need::Room(bytes), |names| {
            let mut outcome = Ok(());
            if self.change_orphan(number, |orphan| {
                let mode = &mut orphan.inode.attributes;
                outcome = set_list_in(&mut orphan.extended, mode, name, setting, caller);
            }) {
                return Ok(outcome?);
            }
            self.mark(number);
            let inode = existing(names, number)?;
            let mut extended = names.extended_attributes(&inode)?;
            let mut attributes = changed_now(number, inode.attributes);
            set_list_in(&mut extended, &mut attributes, name, setting, caller)?;
            names.set_extended_attributes(number, &extended)?;
            Ok(names.set_attributes(number, attributes)?)
        })
    }

    fn change_orphan(&self, number: InodeNumber, change: impl FnOnce(&mut Orphan)) -> bool {
        let file = self.file(number).filter(|file| file.is_orphan());
        file.is_some_and(|file| file.content().set_orphan(change))
    }
}

/// Changes the access control list of an entry whose mode was changed.
fn change_list(
    names: &Names<'_>,
    number: InodeNumber,
    inode: &Inode,
    mode: u32,
) -> Result<(), Failure> {
    if inode.extended == Extended::None {
        return Ok(());
    }
    let mut extended = names.extended_attributes(inode)?;
    if follow_mode(&mut extended, mode) {
        names.set_extended_attributes(number, &extended)?;
    }
    Ok(())
}

/// Changes the access control list among extended attributes. Returns whether there is one.
fn follow_mode(extended: &mut [ExtendedAttribute], mode: u32) -> bool {
    let list = extended.iter_mut().find(|attribute| attribute.name == access_lists::ACCESS);
    let changed = list.and_then(|list| Some((access_lists::with_mode(&list.value, mode)?, list)));
    changed.map(|(value, list)| list.value = value).is_some()
}

/// Sets or removes an extended attribute. The mode follows from an access control list.
fn set_list_in(
    extended: &mut Vec<ExtendedAttribute>,
    attributes: &mut Attributes,
    name: &[u8],
    setting: Setting<'_>,
    caller: Caller,
) -> Result<(), Errno> {
    set_in(extended, name, setting)?;
    let Setting::Set { value, .. } = setting else { return Ok(()) };
    if name != access_lists::ACCESS {
        return Ok(());
    }
    let followed = access_lists::mode_with(value, attributes.mode).ok_or(Errno::EINVAL)?;
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
