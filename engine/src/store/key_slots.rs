//! Changing key slots. The master key stays; what changes is who can unwrap it.
//!
//! A change is a header of the next revision, written to both copies, a sync each, and then a commit that
//! names it. After a crash in between, the newest header that is whole counts, and the next writer
//! completes the change: both copies hold it, and the slots it no longer has are gone from the file.

use std::sync::Arc;

use super::committed::Redirects;
use super::superblock::header::{KnownHeader, write_headers};
use super::writer::Writer;
use crate::crypto::{
    HeaderKey, KeyDerivation, Secret, check_derivation_costs, unwrap_master_key, wrap_master_key,
};
use crate::error::{Error, Result};
use crate::format::{Header, KEY_SLOTS, KeySlot, MetaSlot};

/// A key or passphrase that is to open the archive.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// What the user will hold.
    pub secret: &'a Secret,
    /// Cost of deriving a key from a passphrase; not used for a raw key.
    pub derivation: &'a KeyDerivation,
    /// Label of the slot, up to 64 bytes.
    pub label: &'a str,
}

impl Writer {
    /// Adds a key. Returns the number of its slot.
    ///
    /// This and the other changes of slots are commits of their own: [`Error::Uncommitted`] if there is anything
    /// else that is not committed.
    pub fn add_key(&mut self, new: &NewKey<'_>) -> Result<usize> {
        let mut slots = self.store.header().slots.clone();
        let free = slots.iter().position(|slot| *slot == KeySlot::Empty);
        let limit = u64::try_from(KEY_SLOTS).expect("a small constant");
        let number = free.ok_or(Error::Full { what: "number of key slots", limit })?;
        slots[number] = self.wrap(new, number)?;
        self.replace_slots(slots)?;
        Ok(number)
    }

    /// Removes a key. The last one stays.
    pub fn remove_key(&mut self, number: usize) -> Result<()> {
        let mut slots = self.used_slots(number)?;
        slots[number] = KeySlot::Empty;
        if slots.iter().all(|slot| *slot == KeySlot::Empty) {
            return Err(Error::LastKeySlot { number });
        }
        self.replace_slots(slots)
    }

    /// Replaces the key in a slot: at no time is the archive without either.
    pub fn change_key(&mut self, number: usize, new: &NewKey<'_>) -> Result<()> {
        let mut slots = self.used_slots(number)?;
        slots[number] = self.wrap(new, number)?;
        self.replace_slots(slots)
    }

    /// Gives the slot that a secret opens another label. The wrapping authenticates the label, so that the secret
    /// is needed. Returns the slot's number.
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

    /// Writes a header with these slots and commits it.
    fn replace_slots(&mut self, slots: [KeySlot; KEY_SLOTS]) -> Result<()> {
        self.check_no_transaction()?;
        // Refused before anything is written: the archive could not be opened any more.
        check_derivation_costs(&slots)?;
        let store = Arc::clone(&self.store);
        let before = store.header();
        let mut header = (*before).clone();
        header.slots = slots;
        self.replace_header(header).map_err(|error| {
            // Before the first write nothing has changed, and no such failure makes the store unusable.
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

        // One copy at a time: a torn write leaves the other whole. A crash after the first sync leaves a newer header
        // than the commit names, which is authentic, and which the next writer completes.
        store.poisoning(write_headers(&*store.device, &bytes))?;
        store.replace_header(KnownHeader::new(header, bytes));

        // From this commit on the older header is tampering. Nothing else changes: the redo list stays named until the
        // next commit, as its shadow blocks were copied home and may be copied again.
        let mut slot =
            MetaSlot { generation: self.transaction.generation(), number, ..current.slot.clone() };
        store.name_header(&mut slot);
        let commit = self.write_slot(slot, Redirects::default())?;
        let begun = self.begin(&commit);
        store.poisoning(begun)
    }
}
