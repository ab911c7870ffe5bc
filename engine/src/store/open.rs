//! Opens an archive: locks the file, unlocks the header, chooses the current commit, checks and recovers it, and
//! begins a session.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::committed::Commit;
use super::handle::{Parts, Store};
use super::listed::Listed;
use super::look::{Look, look_steadily};
use super::readers::{ReaderLock, ReaderLocks};
use super::redo_list::RedoList;
use super::rekeying::Rekeying;
use super::space::pins::Pins;
use super::superblock::Superblock;
use super::superblock::choose::{Chosen, choose};
use super::superblock::copy::{only_copy, read_copies};
use super::superblock::header::{OpenedHeader, check_length, check_revision, open_header};
use super::superblock::recovery::Recovery;
use super::transaction::Transaction;
use super::writer::Writer;
use crate::crypto::{MasterKey, ReceiptKey, Sealer, Secret, random_u32};
use crate::device::{self, Device, FileDevice, MappedDevice};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_SIZE_U64, BLOCKS_MAX, Generation, MetaSlot, PENDING_SESSIONS_MAX, Position, SessionRecord,
};

/// Whether an archive is opened for reading or for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Reading, next to other readers and a writer. Nothing is written.
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

/// Opens the file of an archive as its only writer.
pub(super) fn open_locked(path: &Path, wait: Duration) -> Result<FileDevice> {
    let file = FileDevice::open(path, device::Access::ReadWrite)?;
    waiting(wait, || file.lock_writer())?;
    Ok(file)
}

/// Locks out readers, for an operation that changes every block in place.
pub(super) fn lock_out_readers(device: &dyn Device, wait: Duration) -> Result<()> {
    waiting(wait, || device.locks().lock_out_readers())
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
    /// How long to wait while another process has locked the archive.
    pub wait: Duration,
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
    /// Locks out readers of other processes. Waits up to `wait` until none is left.
    pub fn lock_out_readers(&self, wait: Duration) -> Result<()> {
        lock_out_readers(&*self.device, wait).map_err(|error| match self.path() {
            Some(path) => error.at_path(path),
            None => error,
        })
    }

    /// Opens the archive in a file. A writer excludes other writers. A reader locks the commit that it reads, so that no
    /// writer overwrites it.
    pub fn open(
        path: &Path,
        secret: &Secret,
        options: OpenOptions,
    ) -> Result<(Arc<Store>, Option<Writer>)> {
        let access = match options.access {
            Access::Read => device::Access::Read,
            Access::Write => device::Access::ReadWrite,
        };
        let opened = FileDevice::open(path, access)
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
        match options.access {
            Access::Read => {
                Store::open_reader(device, path, secret, options).map(|store| (store, None))
            }
            Access::Write => Store::open_writer(device, path, secret, (options, purpose))
                .map(|(store, writer)| (store, Some(writer))),
        }
    }

    /// Opens the newest commit, and locks it against writers of other processes.
    fn open_reader(
        device: Box<dyn Device>,
        path: Option<&Path>,
        secret: &Secret,
        options: OpenOptions,
    ) -> Result<Arc<Store>> {
        check_length(&*device)?;
        let readers = ReaderLocks::new(device.locks());
        // Deriving a key from a passphrase takes long, so the header is opened again only if it differs.
        let mut known: Option<OpenedHeader> = None;
        let mut examine = |look: &Look<'_>| {
            let header = match known.take() {
                Some(header) if header.is_in(look) => header,
                _ => open_header(look, secret)?,
            };
            let header = known.insert(header);
            header.header.features.check_readable()?;
            Examined::new(look, header, options.accept_lost_pair)
        };
        let (found, lock) =
            lock_newest(&*device, &readers, options.wait, &mut examine, |found| &found.chosen)?;
        let header = known.expect("a header was opened");
        let (store, _) = found.into_store(device, path, &header, Some((readers, lock)))?;
        Ok(store)
    }

    /// Opens the newest commit as the only writer, recovers it, and begins a session.
    fn open_writer(
        device: Box<dyn Device>,
        path: Option<&Path>,
        secret: &Secret,
        (options, purpose): (OpenOptions, Purpose),
    ) -> Result<(Arc<Store>, Writer)> {
        let locks = device.locks();
        waiting(options.wait, || locks.lock_writer())?;
        let header = open_header(&*device, secret)?;
        header.header.features.check_writable()?;
        if header.header.rekey.is_some() && purpose == Purpose::Ordinary {
            return Err(Error::RekeyInProgress);
        }
        let found = Examined::new(&*device, &header, false)?;
        found.chosen.slot.features.check_writable()?;
        if let Some(error) = &found.chosen.unreadable {
            // A newer commit may be readable later, but not once this writer has replaced it.
            return Err(error.clone());
        }
        let (chosen, rekeying) = (found.chosen.clone(), found.rekeying);
        let (store, list) = found.into_store(device, path, &header, None)?;
        if let Some((_, error)) = list.lost.as_ref().filter(|(_, error)| error.is_io()) {
            // The block may be readable later, but not once this writer has written a list without it.
            return Err(error.clone());
        }
        if Rekeying::has_not_begun(header.header.rekey.as_ref(), &chosen.slot) {
            store.check_can_rekey(&chosen.slot)?;
        }
        let mut pins = Pins::default();
        let number = chosen.slot.number;
        let file_blocks = store.device.length_bytes()? / BLOCK_SIZE_U64;
        pins.open(&*store.locks, number, u32::try_from(file_blocks).unwrap_or(BLOCKS_MAX))?;
        // A reader of an older commit reads the home locations, so then every image stays in its shadow block.
        let mut listed = Listed::opened(&list, number);
        let is_read = pins.any() && !crate::fault!(RecoverUnderReaders);
        let to_copy = if is_read { Vec::new() } else { listed.due(number, number + 1) };
        let bad = store.recover(&header, &chosen, &to_copy)?;
        store.copy_window(&rekeying)?;
        listed.copied(&to_copy, &bad);
        let writer = Writer::begin_session(&store, header.master, &chosen, (listed, pins))?;
        Ok((store, writer))
    }
}

/// The reserved blocks, decoded and checked.
pub(super) struct Examined {
    pub(super) chosen: Chosen,
    sealer: Sealer,
    rekeying: Rekeying,
}

impl Examined {
    /// Chooses the current commit from the reserved blocks on `device`, and checks what they say about the file.
    pub(super) fn new(
        device: &dyn Device,
        header: &OpenedHeader,
        accept_lost_pair: bool,
    ) -> Result<Examined> {
        let sealer = header.sealer();
        let chosen = choose(&read_copies(device, &sealer)?, accept_lost_pair)?;
        let record = header.header.rekey.as_ref();
        let rekeying = Rekeying::of(record, &chosen.slot)?;
        Rekeying::check_slot(record, &chosen, &sealer)?;
        chosen.slot.features.check_readable()?;
        check_revision(header, &chosen.slot)?;
        check_file_length(device, &chosen.slot)?;
        Ok(Examined { sealer: rekeying.sealer(sealer), chosen, rekeying })
    }

    /// Reads the redo list. It was durable before the slot was written, so a fault in it is damage and never a reason to
    /// fall back to an older commit. The same is true of the roots, which are opened when they are needed: a damaged
    /// tree costs only what it describes.
    pub(super) fn into_store(
        self,
        device: Box<dyn Device>,
        path: Option<&Path>,
        header: &OpenedHeader,
        reader: Option<(Arc<ReaderLocks>, ReaderLock)>,
    ) -> Result<(Arc<Store>, RedoList)> {
        let Examined { chosen, sealer, rekeying } = self;
        let images = rekeying.redirects(&*device, &sealer);
        let list = RedoList::read(&*device, &sealer, &chosen.slot)?;
        let redirects = list.redirects().and(images);
        let mut recovery = Recovery::new(header, &chosen, &list);
        if let Some((readers, _)) = &reader {
            recovery.only_copy = settled_only_copy(&*device, &sealer, readers, &chosen)?;
        }
        let (readers, lock) = reader.unzip();
        // A commit keeps its code when a rekey begins: the key is that of the commit, not of the header.
        let has_not_begun = Rekeying::has_not_begun(header.header.rekey.as_ref(), &chosen.slot);
        let master = header.old.as_ref().filter(|_| has_not_begun).unwrap_or(&header.master);
        let store = Store::new(Parts {
            recovery,
            header: header.known(),
            key_slot: header.slot,
            receipt_key: ReceiptKey::derive(master, header.header.archive),
            device,
            readers,
            sealer,
            commit: Commit { slot: chosen.slot, redirects, _lock: lock },
            path: path.map(Path::to_owned),
        });
        Ok((store, list))
    }
}

/// Chooses the newest commit, and locks it against writers of other processes. Before the lock was visible, the writer
/// may have moved on and reused blocks of this commit, so the choice is repeated until both agree.
pub(super) fn lock_newest<T>(
    device: &dyn Device,
    readers: &Arc<ReaderLocks>,
    wait: Duration,
    examine: &mut dyn FnMut(&Look<'_>) -> Result<T>,
    chosen: impl Fn(&T) -> &Chosen,
) -> Result<(T, ReaderLock)> {
    let is_whole = |found: &T| chosen(found).may_have_held_newer.is_none();
    let (mut found, mut look) = look_steadily(device, readers, &mut *examine, is_whole)?;
    loop {
        let lock = waiting(wait, || readers.lock(chosen(&found).slot.number))?;
        if crate::fault!(TrustTheFirstLook) {
            return Ok((found, lock));
        }
        // The same bytes lead to the same commit, so they are not opened again.
        if Look::take(device)?.is_same(&look) {
            return Ok((found, lock));
        }
        let (again, seen) = look_steadily(device, readers, &mut *examine, is_whole)?;
        if chosen(&again).slot == chosen(&found).slot {
            return Ok((again, lock));
        }
        (found, look) = (again, seen);
    }
}

/// Returns the copy with which a reader's commit would be lost, if nobody is about to write another one.
///
/// The order matters: a writer that ended before the query has written the other copy, which the second look finds.
fn settled_only_copy(
    device: &dyn Device,
    sealer: &Sealer,
    readers: &ReaderLocks,
    chosen: &Chosen,
) -> Result<Option<Position>> {
    if chosen.only_copy.is_none() || (readers.is_written()? && !crate::fault!(JudgeWhileWritten)) {
        return Ok(None);
    }
    let look = Look::take(device)?;
    match choose(&read_copies(&look, sealer)?, chosen.lost.is_some()) {
        Ok(again) if again.slot == chosen.slot => only_copy(&look, sealer, &again),
        _ => Ok(None),
    }
}

/// Checks that the file is as long as a commit says.
pub(super) fn check_file_length(device: &dyn Device, slot: &MetaSlot) -> Result<()> {
    let expected_bytes = u64::from(slot.block_count) * BLOCK_SIZE_U64;
    let found_bytes = device.length_bytes()?;
    match found_bytes.cmp(&expected_bytes) {
        Ordering::Equal => Ok(()),
        Ordering::Greater if !crate::fault!(GrownFileRefused) => Ok(()),
        Ordering::Less | Ordering::Greater => Err(Error::Truncated { expected_bytes, found_bytes }),
    }
}

/// Repeats `attempt` for up to `wait` while the archive is locked, with growing pauses.
pub(super) fn waiting<T>(wait: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let outcome = attempt();
        let left = wait.saturating_sub(begun.elapsed());
        if !matches!(outcome, Err(Error::Locked { .. })) || left.is_zero() {
            return outcome;
        }
        sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

impl Writer {
    /// Raises the session number durably, before anything is sealed in the session. This is a commit that changes
    /// nothing else. The meta slot keeps naming the redo list until the next commit: recovery may copy its images home
    /// again.
    fn begin_session(
        store: &Arc<Store>,
        master: MasterKey,
        chosen: &Chosen,
        (listed, pins): (Listed, Pins),
    ) -> Result<Writer> {
        let before = chosen.slot.generation;
        let full = Error::Full { what: "number of sessions", limit: u64::from(u32::MAX) };
        let session = before.session.checked_add(1).ok_or_else(|| full.clone())?;
        let generation = Generation { session, step: 0, salt: random_u32()? };
        let transaction = Transaction::new(generation, listed);
        let superblock = Superblock::new(chosen);
        let mut writer = Writer::new(store, master, (transaction, pins), superblock);
        let mut slot = chosen.slot.clone();
        slot.generation = generation;
        slot.number = slot.number.checked_add(1).ok_or(full)?;
        Rekeying::begin(store.header().rekey.as_ref(), &mut slot);
        store.name_header(&mut slot);
        note_session(&mut slot, before, store.header().rekey.is_some());
        let commit = writer.write_slot(slot)?;
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
