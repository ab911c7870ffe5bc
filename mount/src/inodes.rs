//! Inodes of the open transaction, and what changes note in them.

use ar7_engine::format::Timestamp;
use ar7_registry::Names;
use ar7_registry::records::{Attributes, ExtendedAttribute, Inode, InodeNumber, Origin};
use fuser::Errno;

use crate::errno::Failure;

/// The extended attribute with the capabilities of a program. A change of content, owner or group removes it.
pub(crate) const CAPABILITIES: &[u8] = b"security.capability";

/// The bit of a mode that gives a program the rights of its group. A directory passes on its group with it.
pub(crate) const SET_GID: u32 = 0o2000;

/// Returns an inode of the open transaction.
pub(crate) fn existing(names: &Names<'_>, number: InodeNumber) -> Result<Inode, Failure> {
    Ok(names.inode(number)?.ok_or(Errno::ESTALE)?)
}

/// Returns the attributes of an entry that is changed now. Its origin is the mount, so that no later ingest takes it for
/// the unchanged copy of a source.
pub(crate) fn changed_now(number: InodeNumber, attributes: Attributes) -> Attributes {
    let origin = Some(Origin { changed: Timestamp::now(), inode: number.0 });
    Attributes { origin, ..attributes }
}

/// Returns the attributes of an entry whose content is modified now.
pub(crate) fn modified_now(number: InodeNumber, attributes: Attributes) -> Attributes {
    let attributes = changed_now(number, attributes);
    let now = attributes.origin.map_or(attributes.modified, |origin| origin.changed);
    Attributes { modified: now, ..attributes }
}

/// Returns a mode without the bits that give a program the rights of the file's owner or group.
pub(crate) fn without_privileges(mode: u32) -> u32 {
    const SET_UID: u32 = 0o4000;
    const GROUP_EXECUTES: u32 = 0o010;
    let group = if mode & GROUP_EXECUTES == 0 { 0 } else { SET_GID };
    mode & !(SET_UID | group)
}

/// A change of what is stored about an inode.
///
/// What it needs is read before: extended attributes can be damaged, and a change that is refused changes nothing.
pub(crate) struct Change {
    pub(crate) attributes: Attributes,
    /// All extended attributes, if any of them changes.
    pub(crate) extended: Option<Vec<ExtendedAttribute>>,
}

impl Change {
    /// Returns the number of bytes of all extended attributes, if any of them changes.
    pub(crate) fn bytes(&self) -> usize {
        let length = |attribute: &ExtendedAttribute| attribute.name.len() + attribute.value.len();
        self.extended.iter().flatten().map(length).sum()
    }

    /// Makes the change.
    pub(crate) fn make(self, names: &Names<'_>, number: InodeNumber) -> Result<(), Failure> {
        // First, because a long set needs space for a new stream.
        if let Some(extended) = self.extended {
            names.set_extended_attributes(number, &extended)?;
        }
        Ok(names.set_attributes(number, self.attributes)?)
    }
}

/// Returns the extended attributes of an inode as `change` leaves them; `None` if it returns that it changed none.
pub(crate) fn changed_extended(
    names: &Names<'_>,
    inode: &Inode,
    change: impl FnOnce(&mut Vec<ExtendedAttribute>) -> bool,
) -> Result<Option<Vec<ExtendedAttribute>>, Failure> {
    let mut extended = names.extended_attributes(inode)?;
    Ok(change(&mut extended).then_some(extended))
}

/// Removes the capabilities of a program. Returns whether it had any.
pub(crate) fn drop_capabilities(extended: &mut Vec<ExtendedAttribute>) -> bool {
    let before = extended.len();
    extended.retain(|attribute| attribute.name != CAPABILITIES);
    extended.len() < before
}
