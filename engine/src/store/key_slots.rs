//! Changes key slots. The master key stays the same; a change determines which secrets unwrap it.
//!
//! A change writes a header of the next revision to its copies, with one sync after the first copy and one after the
//! rest, and then makes a commit that names it. After a crash in between, the newest whole header counts, and the next
//! writer completes the change: it writes the header to every copy, so that removed slots are gone from the file.

use std::sync::Arc;

use super::superblock::header::{KnownHeader, write_headers};
use super::writer::Writer;
use crate::crypto::{
    HeaderKey, KeyDerivation, Secret, check_derivation_costs, unwrap_master_key, wrap_master_key,
};
use crate::error::{Error, Result};
use crate::format::{Header, KEY_SLOTS, KeySlot, MetaSlot};

/// A new key or passphrase for the archive.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// The secret.
    pub secret: &'a Secret,
    /// Cost of deriving a key from a passphrase. A raw key does not use it.
    pub derivation: &'a KeyDerivation,
    /// Label of the slot, up to 64 bytes.
    pub label: &'a str,
}

impl Writer {
    /// Adds a key. Returns the number of its key slot.
    ///
    /// Every change of key slots is a commit of its own. It fails with [`Error::Uncommitted`] if the transaction has
    /// changes.
    pub fn add_key(&mut self, new: &NewKey<'_>) -> Result<usize> {
        let mut slots = self.store.header().slots.clone();
        let free = slots.iter().position(|slot| *slot == KeySlot::Empty);
        let limit = u64::try_from(KEY_SLOTS).expect("a small constant");
        let number = free.ok_or(Error::Full { what: "number of key slots", limit })?;
        slots[number] = self.wrap(new, number)?;
        self.replace_slots(slots)?;
        Ok(number)
    }

    /// Removes a key, but never the last one.
    pub fn remove_key(&mut self, number: usize) -> Result<()> {
        let mut slots = self.used_slots(number)?;
        slots[number] = KeySlot::Empty;
        if slots.iter().all(|slot| *slot == KeySlot::Empty) {
            return Err(Error::LastKeySlot { number });
        }
        self.replace_slots(slots)
    }

    /// Replaces the key in a key slot. At every moment the old key or the new one opens the archive.
    pub fn change_key(&mut self, number: usize, new: &NewKey<'_>) -> Result<()> {
        let mut slots = self.used_slots(number)?;
        slots[number] = self.wrap(new, number)?;
        self.replace_slots(slots)
    }

    /// Changes the label of the key slot that `secret` opens. The wrapping authenticates the label, so the master key
    /// must be wrapped again. Returns the slot's number.
    pub fn relabel_key(&mut self, secret: &Secret, label: &str) -> Result<usize> {
        let header = self.store.header();
        let (_, number) = unwrap_master_key(&header.slots, secret, header.archive)?;
        let mut slots = header.slots.clone();
        let derivation = match &slots[number] {
            KeySlot::Used(slot) => {
                slot.cost.map_or(Ok(KeyDerivation::default()), KeyDerivation::new)?
            }
            KeySlot::Empty => return Err(Error::NoKeySlot { number }),
        };
        slots[number] = self.wrap(&NewKey { secret, derivation: &derivation, label }, number)?;
        self.replace_slots(slots)?;
        Ok(number)
    }

    fn used_slots(&self, number: usize) -> Result<[KeySlot; KEY_SLOTS]> {
        let slots = self.store.header().slots.clone();
        match slots.get(number) {
            Some(KeySlot::Used(_)) => Ok(slots),
            Some(KeySlot::Empty) | None => Err(Error::NoKeySlot { number }),
        }
    }

    fn wrap(&self, new: &NewKey<'_>, number: usize) -> Result<KeySlot> {
        let archive = self.store.header().archive;
        wrap_master_key(&self.master, new.secret, new.derivation, archive, number, new.label)
    }

    /// Writes a header with these key slots, and commits it.
    fn replace_slots(&mut self, slots: [KeySlot; KEY_SLOTS]) -> Result<()> {
        self.check_no_transaction()?;
        // Checked before anything is written: with such costs, the archive could not be opened again.
        check_derivation_costs(&slots)?;
        let store = Arc::clone(&self.store);
        let before = store.header();
        let mut header = (*before).clone();
        header.slots = slots;
        self.replace_header(header).map_err(|error| {
            // An error before the first write changes nothing, and does not poison the store.
            if store.is_poisoned() {
                Error::KeyChangeUnfinished { cause: Arc::new(error) }
            } else {
                error
            }
        })
    }

    /// Writes this header under the next revision, and commits it. The caller has no open transaction.
    pub(super) fn replace_header(&mut self, mut header: Header) -> Result<()> {
        let store = Arc::clone(&self.store);
        let full = |what| Error::Full { what, limit: u64::MAX };
        header.revision = header.revision.checked_add(1).ok_or(full("revision of the header"))?;
        let current = store.current();
        let number = current.slot.number.checked_add(1).ok_or(full("number of commits"))?;
        let bytes = header.encode(&HeaderKey::derive(&self.master, header.archive));

        // One copy at a time: a torn write leaves the other whole. A crash after the first sync leaves a header that
        // is newer than the one the commit names. It is authentic, and the next writer completes the change.
        store.poisoning(write_headers(&*store.device, &bytes, current.slot.block_count))?;
        store.replace_header(KnownHeader::new(header, bytes));

        // From this commit on, an older header counts as tampering. Nothing else changes. The slot names the redo
        // list until the next commit: recovery may copy its images home again.
        let mut slot =
            MetaSlot { generation: self.transaction.generation(), number, ..current.slot.clone() };
        store.name_header(&mut slot);
        let commit = self.write_slot(slot)?;
        let begun = self.begin(&commit);
        store.poisoning(begun)
    }
}
