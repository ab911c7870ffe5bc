//! Opens an archive: locks the file, unlocks the header, chooses the current commit, checks and recovers it, and
//! begins a session.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use super::committed::{Commit, Redirects};
use super::handle::{Parts, Store};
use super::open_block::{BlockBuffer, read_one};
use super::redo::RedoList;
use super::rekeying::Rekeying;
use super::space::run_set::RunSet;
use super::superblock::Superblock;
use super::superblock::choose::{Chosen, choose};
use super::superblock::copy::read_copy;
use super::superblock::header::{OpenedHeader, check_revision, open_header};
use super::superblock::recovery::Recovery;
use super::transaction::Transaction;
use super::writer::Writer;
use crate::crypto::{KeyKind, MasterKey, ReceiptKey, Sealer, Secret, random_u32};
use crate::device::{self, Device, FileDevice, MappedDevice};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_SIZE_U64, Generation, META_SLOTS, MetaSlot, PENDING_SESSIONS_MAX, SessionRecord,
};

/// Whether an archive is opened for reading or for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Reading, next to any number of other readers. Nothing is written.
    #[default]
    Read,
    /// Writing, as the only writer.
    Write,
}

/// How the engine reads and writes the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// With a read-only memory map and positioned writes.
    #[default]
    Map,
    /// With positioned reads and writes. Without a map, no handler for SIGBUS is installed.
    File,
}

impl Io {
    /// Returns a device that accesses `file` this way.
    pub(super) fn device(self, file: FileDevice) -> Box<dyn Device> {
        match self {
            Io::File => Box::new(file),
            Io::Map => Box::new(MappedDevice::new(file)),
        }
    }
}

/// Opens and locks the file of an archive: a reader excludes writers, a writer excludes every other process.
pub(super) fn open_locked(path: &Path, access: Access) -> Result<FileDevice> {
    match access {
        Access::Read => {
            let file = FileDevice::open(path, device::Access::Read)?;
            file.lock_shared()?;
            Ok(file)
        }
        Access::Write => {
            let file = FileDevice::open(path, device::Access::ReadWrite)?;
            file.lock_exclusive()?;
            Ok(file)
        }
    }
}

/// Options for opening an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Reading or writing.
    pub access: Access,
    /// Memory map or plain file.
    pub io: Io,
    /// For reading only: if one pair of meta slots has no good copy, opens the commit of the other pair. The newest
    /// commit may then be lost.
    pub accept_lost_pair: bool,
}

/// The purpose of an open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To change the content.
    Ordinary,
    /// To change the master key.
    Rekey,
}

impl Store {
    /// Opens the archive in a file, locked against other processes.
    pub fn open(
        path: &Path,
        secret: &Secret,
        options: OpenOptions,
    ) -> Result<(Arc<Store>, Option<Writer>)> {
        let opened = open_locked(path, options.access)
            .and_then(|file| Store::open_at(options.io.device(file), Some(path), secret, options));
        opened.map_err(|error| error.at_path(path))
    }

    /// Opens the archive on a device.
    pub fn open_device(
        device: Box<dyn Device>,
        secret: &Secret,
        options: OpenOptions,
    ) -> Result<(Arc<Store>, Option<Writer>)> {
        Store::open_at(device, None, secret, options)
    }

    pub(super) fn open_at(
        device: Box<dyn Device>,
        path: Option<&Path>,
        secret: &Secret,
        options: OpenOptions,
    ) -> Result<(Arc<Store>, Option<Writer>)> {
        Store::open_for(device, path, secret, options, Purpose::Ordinary)
    }

    /// Opens an archive for ordinary use or to resume a rekey.
    pub(super) fn open_for(
        device: Box<dyn Device>,
        path: Option<&Path>,
        secret: &Secret,
        options: OpenOptions,
        purpose: Purpose,
    ) -> Result<(Arc<Store>, Option<Writer>)> {
        let reading = options.access == Access::Read;
        let header = open_header(&*device, secret)?;
        if reading {
            header.header.features.check_readable()?;
        } else {
            header.header.features.check_writable()?;
            if header.header.rekey.is_some() && purpose == Purpose::Ordinary {
                return Err(Error::RekeyInProgress);
            }
        }
        let sealer = header.sealer();
        let copies = META_SLOTS.map(|position| read_copy(&*device, &sealer, position));
        let chosen = choose(&copies, options.accept_lost_pair && reading)?;
        let record = header.header.rekey.as_ref();
        let rekeying = Rekeying::of(record, &chosen.slot)?;
        Rekeying::check_slot(record, &chosen, &sealer)?;
        let sealer = rekeying.sealer(sealer);
        let images = rekeying.redirects(&*device, &sealer);
        check_chosen(&*device, &sealer, &header, &chosen, (reading, &images))?;
        let list = RedoList::read(&*device, &sealer, &chosen.slot)?;
        // A reader never writes: it reads a listed block from its shadow block. A writer first copies shadow blocks home.
        let redirects = if reading { list.redirects().and(images) } else { Redirects::default() };
        let commit = Commit { slot: chosen.slot.clone(), redirects };
        let store = Store::new(Parts {
            recovery: Recovery::new(&header, &chosen, list.entries.len()),
            header: header.known(),
            key_slot: header.slot,
            receipt_key: ReceiptKey::derive(&header.master, header.header.archive),
            device,
            sealer,
            commit,
            path: path.map(Path::to_owned),
        });
        if reading {
            return Ok((store, None));
        }
        if Rekeying::has_not_begun(header.header.rekey.as_ref(), &chosen.slot) {
            store.check_can_rekey(&chosen.slot)?;
        }
        store.recover(&header, &chosen, &list)?;
        store.copy_window(&rekeying)?;
        let writer = Writer::begin_session(&store, header.master, &chosen, list.blocks)?;
        Ok((store, Some(writer)))
    }
}

impl Writer {
    /// Raises the session number durably, before anything is sealed in the session. This is a commit that changes
    /// nothing else. The meta slot keeps naming the redo list until the next commit: its shadow blocks are already
    /// home, and recovery may copy them again.
    fn begin_session(
        store: &Arc<Store>,
        master: MasterKey,
        chosen: &Chosen,
        listed: RunSet,
    ) -> Result<Writer> {
        let before = chosen.slot.generation;
        let full = Error::Full { what: "number of sessions", limit: u64::from(u32::MAX) };
        let session = before.session.checked_add(1).ok_or_else(|| full.clone())?;
        let generation = Generation { session, step: 0, salt: random_u32()? };
        let transaction = Transaction::new(generation, listed);
        let mut writer = Writer::new(store, master, transaction, Superblock::new(chosen));
        let mut slot = chosen.slot.clone();
        slot.generation = generation;
        slot.number = slot.number.checked_add(1).ok_or(full)?;
        Rekeying::begin(store.header().rekey.as_ref(), &mut slot);
        store.name_header(&mut slot);
        note_session(&mut slot, before, store.header().rekey.is_some());
        let commit = writer.write_slot(slot, Redirects::default())?;
        writer.begin(&commit)?;
        Ok(writer)
    }
}

/// Adds a finished session to the pending sessions, until the layer above records it in a tree. If the list is full,
/// a session that committed nothing makes room: a receipt could name only its opening commit. Otherwise the oldest
/// makes room. During a rekey the layer above records no sessions, so the newest makes room, and the rekey's sessions
/// replace each other.
fn note_session(slot: &mut MetaSlot, ended: Generation, is_rekeying: bool) {
    let pending = &mut slot.pending_sessions;
    if pending.len() >= PENDING_SESSIONS_MAX {
        let idle = pending.iter().position(|record| record.last_step == 0);
        let oldest_or_newest = if is_rekeying { pending.len() - 1 } else { 0 };
        pending.remove(idle.unwrap_or(oldest_or_newest));
    }
    pending.push(SessionRecord { session: ended.session, salt: ended.salt, last_step: ended.step });
}

/// Checks that everything the chosen slot names is there: it was durable before the slot was written. If it is
/// missing, that is damage and never a reason to fall back to an older commit.
fn check_chosen(
    device: &dyn Device,
    sealer: &Sealer,
    header: &OpenedHeader,
    chosen: &Chosen,
    (reading, images): (bool, &Redirects),
) -> Result<()> {
    let slot = &chosen.slot;
    if reading {
        slot.features.check_readable()?;
    } else {
        slot.features.check_writable()?;
    }
    check_revision(header, slot)?;
    let expected_bytes = u64::from(slot.block_count) * BLOCK_SIZE_U64;
    let found_bytes = device.length_bytes()?;
    match found_bytes.cmp(&expected_bytes) {
        Ordering::Equal => {}
        Ordering::Greater if !crate::fault!(GrownFileRefused) => {}
        Ordering::Less | Ordering::Greater => {
            return Err(Error::Truncated { expected_bytes, found_bytes });
        }
    }
    let mut bytes = BlockBuffer::new();
    for block in slot.roots.iter().filter_map(|root| root.block) {
        read_one(device, sealer, images, KeyKind::Registry, block, &mut bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(session: u32, step: u32) -> Generation {
        Generation { session, step, salt: 7 }
    }

    fn pending(slot: &MetaSlot) -> Vec<u32> {
        slot.pending_sessions.iter().map(|record| record.session).collect()
    }

    /// A slot whose list of sessions is full. `step_of` gives the last step of each; 0 means that it committed
    /// nothing.
    fn full(step_of: impl Fn(u32) -> u32) -> MetaSlot {
        let mut slot = MetaSlot::first(Generation::default(), 0, [0; 32]);
        for session in (0..).take(PENDING_SESSIONS_MAX) {
            note_session(&mut slot, ended(session, step_of(session)), false);
        }
        assert_eq!(slot.pending_sessions.len(), PENDING_SESSIONS_MAX);
        slot
    }

    #[test]
    fn a_full_list_of_sessions_drops_one_without_a_commit_first() {
        let mut slot = full(|session| u32::from(session != 5));
        note_session(&mut slot, ended(100, 9), false);
        let kept = (0..32).filter(|&session| session != 5).chain([100]);
        assert_eq!(pending(&slot), kept.collect::<Vec<u32>>());
        let last = slot.pending_sessions.last().expect("a session");
        assert_eq!((last.salt, last.last_step), (7, 9));
    }

    #[test]
    fn a_full_list_of_sessions_drops_the_oldest_and_during_a_rekey_the_newest() {
        let mut slot = full(|_| 1);
        note_session(&mut slot, ended(100, 1), false);
        assert_eq!(pending(&slot), (1..32).chain([100]).collect::<Vec<u32>>());
        note_session(&mut slot, ended(101, 1), true);
        assert_eq!(pending(&slot), (1..32).chain([101]).collect::<Vec<u32>>());
    }
}
