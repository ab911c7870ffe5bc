//! Changes of attributes in the open transaction.

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, EntryType, ExtendedAttribute, InodeNumber, Origin};
use fuser::Errno;

use crate::inodes::{changed_now, drop_capabilities, existing, without_privileges};
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
            };
            if self.change_orphan(number, apply) {
                return Ok(());
            }
            self.mark(number);
            let inode = existing(names, number)?;
            let attributes = wanted.apply(number, inode.kind, inode.attributes);
            names.set_attributes(number, attributes)?;
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
    ) -> Result<(), Errno> {
        let bytes = if let Setting::Set { value, .. } = setting { value.len() } else { 0 };
        self.change(Need::Room(bytes), |names| {
            let mut outcome = Ok(());
            if self.change_orphan(number, |orphan| {
                outcome = set_in(&mut orphan.extended, name, setting);
            }) {
                return Ok(outcome?);
            }
            self.mark(number);
            let inode = existing(names, number)?;
            let mut extended = names.extended_attributes(&inode)?;
            set_in(&mut extended, name, setting)?;
            names.set_extended_attributes(number, &extended)?;
            let inode = existing(names, number)?;
            Ok(names.set_attributes(number, changed_now(number, inode.attributes))?)
        })
    }

    fn change_orphan(&self, number: InodeNumber, change: impl FnOnce(&mut Orphan)) -> bool {
        let file = self.file(number).filter(|file| file.is_orphan());
        file.is_some_and(|file| file.content().set_orphan(change))
    }
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
