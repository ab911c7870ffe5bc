//! The open transaction of a mount: changes, and what is not committed yet.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use ar7_engine::Class;
use ar7_registry::records::InodeNumber;
use ar7_registry::{Archive, Error, Names};
use fuser::Errno;

use crate::commits::Commits;
use crate::errno::{Failure, errno};
use crate::flusher::Flusher;
use crate::handles::lock;
use crate::open_file::OpenFile;
use crate::space::{BLOCKS_PER_CHANGE, CONTENT_BYTES};
use crate::view::View;

/// Most blocks for which room is made at a time, so that most changes need not ask. A transaction begins with few: a
/// commit puts those that are left back into the free list.
const BLOCKS_AHEAD: usize = 4096;

/// Number of commits that a change without room makes, each of which frees a part of what deleted files took.
const COMMITS_FOR_ROOM: usize = 64;

/// Bytes of changed content from which a commit writes them out before it excludes changes.
const EARLY_BYTES: u64 = 4 << 20;

/// Passes a line to the log.
pub(crate) type Report = fn(&str);

/// What a change needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// Room for this many bytes of content, and for its records.
    Room(usize),
    /// Nothing: it frees space, and has the reserve of the archive, or takes none.
    Nothing,
}

/// The open transaction.
pub(crate) struct Writer {
    pub(crate) archive: Archive,
    turn: Mutex<Turn>,
    /// Blocks for which there is room, apart from those that were changed. Only with the turn.
    room: AtomicUsize,
    /// The inodes that differ from the last commit: a request about any other one reads that commit.
    changed: RwLock<HashSet<InodeNumber>>,
    /// The names that were added since the last commit.
    added: Mutex<Vec<(InodeNumber, Vec<u8>)>>,
    flusher: Arc<Flusher>,
    pub(crate) files: Mutex<HashMap<InodeNumber, Arc<OpenFile>>>,
    /// The files of handles that were closed. The next change or commit takes them, so that closing never waits.
    closed: Mutex<Vec<(InodeNumber, bool)>>,
    pub(crate) commits: Arc<Commits>,
    /// Why the mount is read-only.
    failure: OnceLock<Error>,
    is_closed: AtomicBool,
    report: Report,
}

/// Held by each change, and by a commit: so a commit has whole changes.
#[derive(Default)]
pub(crate) struct Turn {
    is_changed: bool,
    /// Bytes of content that were written since the last commit.
    bytes: u64,
    /// Blocks for which room was made last.
    made: usize,
}

impl Writer {
    pub(crate) fn new(
        archive: Archive,
        commits: Arc<Commits>,
        flusher: Arc<Flusher>,
        report: Report,
    ) -> Writer {
        Writer {
            archive,
            turn: Mutex::default(),
            room: AtomicUsize::default(),
            changed: RwLock::default(),
            added: Mutex::default(),
            flusher,
            files: Mutex::default(),
            closed: Mutex::default(),
            commits,
            failure: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            report,
        }
    }

    /// Returns whether an inode differs from the last commit.
    pub(crate) fn is_changed(&self, number: InodeNumber) -> bool {
        self.changed.read().unwrap_or_else(PoisonError::into_inner).contains(&number)
    }

    /// Notes that an inode differs from the last commit, before it does.
    pub(crate) fn mark(&self, number: InodeNumber) {
        self.changed.write().unwrap_or_else(PoisonError::into_inner).insert(number);
    }

    /// Returns where an inode is read.
    pub(crate) fn view(&self, number: InodeNumber) -> View {
        // In this order: a commit in between has the inode as it is now.
        if self.is_changed(number) {
            View::Open(self.archive.clone())
        } else {
            View::Committed(self.archive.snapshot())
        }
    }

    /// Notes that a name is added to a directory.
    pub(crate) fn mark_name(&self, directory: InodeNumber, name: &[u8]) {
        self.mark(directory);
        lock(&self.added).push((directory, name.to_vec()));
    }

    /// Makes a change.
    pub(crate) fn change<T>(
        &self,
        need: Need,
        work: impl FnOnce(&Names<'_>) -> Result<T, Failure>,
    ) -> Result<T, Errno> {
        let mut turn = self.turn();
        self.guarded(|| {
            self.check_not_failed()?;
            self.take_closed(&mut turn);
            self.make_room(&mut turn, need)?;
            let outcome = work(&self.archive.names());
            turn.is_changed = true;
            if let Need::Room(bytes) = need {
                turn.bytes += bytes as u64;
            }
            self.commits.changed(turn.bytes);
            outcome.map_err(|failure| self.refused(&failure))
        })
    }

    /// Does what changes the open transaction. A panic can leave half of a change there, so the transaction is lost.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            self.fail(&Error::Panicked);
            Err(Errno::EIO)
        })
    }

    fn refused(&self, failure: &Failure) -> Errno {
        if let Failure::Archive(error) = failure {
            if self.archive.is_failed() {
                self.fail(error);
                return Errno::EIO;
            }
            if error.class() == Class::HeldByReaders {
                (self.report)(&error.to_string());
            }
        }
        failure.errno()
    }

    /// Makes room for a change. Without room, a change that frees space comes after a commit of what was changed before it,
    /// so that it needs little of the reserve.
    fn make_room(&self, turn: &mut Turn, need: Need) -> Result<(), Errno> {
        let bytes = if let Need::Room(bytes) = need { bytes } else { 0 };
        let blocks = BLOCKS_PER_CHANGE + bytes.div_ceil(CONTENT_BYTES as usize);
        let mut room = self.room.swap(0, Ordering::Relaxed);
        if room < blocks {
            let ahead = (4 * turn.made).min(BLOCKS_AHEAD).max(2 * blocks);
            let mut made = [ahead, blocks].into_iter();
            let made = made.find(|&blocks| self.archive.check_room(blocks).is_ok());
            match (made, need) {
                (Some(made), _) => (room, turn.made) = (made, made),
                (None, Need::Room(_)) => room = self.free_room(turn, blocks)?,
                // Without room to commit, only deletions can make some.
                (None, Need::Nothing) => {
                    return self.commit_in(turn).or_else(|error| match error {
                        Errno::ENOSPC => Ok(()),
                        error => Err(error),
                    });
                }
            }
        }
        self.room.store(room - blocks, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets for how many blocks there is room, because a change may take more than it needs by its kind. Only with the
    /// turn.
    pub(crate) fn forget_room(&self) {
        self.room.store(0, Ordering::Relaxed);
    }

    /// Makes room by commits, which free what deleted files took. Returns the number of blocks.
    fn free_room(&self, turn: &mut Turn, blocks: usize) -> Result<usize, Errno> {
        for _ in 0..COMMITS_FOR_ROOM {
            if !turn.is_changed && !self.archive.has_deletions() {
                break;
            }
            self.commit_in(turn)?;
            if self.archive.check_room(blocks).is_ok() {
                return Ok(blocks);
            }
        }
        self.archive.check_room(blocks).map(|()| blocks).map_err(|error| errno(&error))
    }

    /// Makes everything durable that was changed before the call.
    pub(crate) fn commit(&self) -> Result<(), Errno> {
        self.guarded(|| {
            self.check_not_failed()?;
            if self.turn().bytes >= EARLY_BYTES {
                // Changes go on meanwhile. If this fails, so does the commit, which reports it.
                let _ = self.archive.write_early();
            }
            Ok(())
        })?;
        let mut turn = self.turn();
        self.guarded(|| {
            self.take_closed(&mut turn);
            self.commit_in(&mut turn)
        })
    }

    fn commit_in(&self, turn: &mut Turn) -> Result<(), Errno> {
        self.check_not_failed()?;
        if !turn.is_changed && !self.archive.has_deletions() {
            return Ok(());
        }
        match self.archive.try_commit() {
            Ok(None) => {}
            Ok(Some(refused)) => return Err(errno(&refused)),
            Err(error) => {
                self.fail(&error);
                return Err(Errno::EIO);
            }
        }
        *turn = Turn::default();
        self.forget_room();
        lock(&self.added).clear();
        self.changed.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Makes the mount read-only: the open transaction is lost, and what is read from now on is the last commit.
    fn fail(&self, error: &Error) {
        if self.failure.set(error.clone()).is_err() {
            return;
        }
        (self.report)(&format!(
            "what was written since the last commit is lost, and the mount is read-only from now on: {error}"
        ));
        let _ = self.archive.rollback();
        for file in lock(&self.files).values() {
            file.fail();
        }
        let mut changed = self.changed.write().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::take(&mut *changed).into_iter().collect();
        // What the kernel keeps is as lost.
        self.flusher.forget(changed, std::mem::take(&mut *lock(&self.added)));
    }

    pub(crate) fn check_not_failed(&self) -> Result<(), Errno> {
        let is_over = self.failure.get().is_some() || self.is_closed.load(Ordering::SeqCst);
        if is_over { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Commits for the last time, frees what deleted files took, and closes the archive.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let mut turn = self.turn();
        // A refusal, for lack of space, is found again by the reclaim.
        let _ = self.guarded(|| self.commit_in(&mut turn));
        self.is_closed.store(true, Ordering::SeqCst);
        for (_, file) in lock(&self.files).drain() {
            file.fail();
        }
        if let Some(error) = self.failure.get() {
            let _ = self.archive.clone().close();
            return Err(error.clone());
        }
        let reclaimed = self.archive.reclaim();
        if reclaimed.is_ok() {
            let statistics = self.archive.statistics().map(ar7::Statistics::from);
            if let Some(warning) = statistics.ok().and_then(|found| found.dead_content()) {
                (self.report)(&format!("warning: {warning}"));
            }
        }
        let closed = self.archive.clone().close();
        reclaimed.and(closed)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        lock(&self.turn)
    }

    /// Notes that a handle was closed, and whether it could write.
    pub(crate) fn close_handle(&self, number: InodeNumber, writes: bool) {
        lock(&self.closed).push((number, writes));
    }

    /// Closes the files of handles that were closed.
    fn take_closed(&self, turn: &mut Turn) {
        let closed = std::mem::take(&mut *lock(&self.closed));
        if closed.is_empty() {
            return;
        }
        let mut files = lock(&self.files);
        for (number, writes) in closed {
            if files.get(&number).is_some_and(|file| file.release(writes)) {
                // The next commit frees the content of a file without a name.
                turn.is_changed |= files.remove(&number).is_some_and(|file| file.is_orphan());
            }
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("archive", &self.archive).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use ar7_engine::Error as EngineError;
    use ar7_engine::crypto::{RawKey, Secret};
    use ar7_engine::device::{Device, MemoryDevice};
    use ar7_engine::format::{DATA_SIZE_U64, Position, Timestamp};
    use ar7_engine::store::{Access, OpenOptions};
    use ar7_registry::CreateOptions;
    use ar7_registry::records::Attributes;

    use super::*;

    fn secret() -> Secret {
        Secret::Key(RawKey::from_bytes([1; 32]))
    }

    fn writer(device: impl Device + 'static, report: Report) -> Writer {
        let options = CreateOptions::default();
        let archive = Archive::create_device(Box::new(device), &secret(), &options);
        let commits = Arc::new(Commits::new(Duration::from_secs(5), 1 << 20));
        Writer::new(archive.expect("created"), commits, Arc::default(), report)
    }

    fn attributes() -> Attributes {
        Attributes { mode: 0o644, uid: 0, gid: 0, modified: Timestamp::default(), origin: None }
    }

    fn add(names: &Names<'_>, name: &[u8]) -> InodeNumber {
        names.add_file(InodeNumber::ROOT, name, attributes(), None).expect("added")
    }

    /// A device whose syncs fail while `fails` is set.
    #[derive(Debug, Clone, Default)]
    struct Failing {
        device: MemoryDevice,
        fails: Arc<AtomicBool>,
    }

    impl Device for Failing {
        fn read(&self, start: Position, bytes: &mut [u8]) -> Result<(), EngineError> {
            self.device.read(start, bytes)
        }

        fn write(&self, start: Position, bytes: &[u8]) -> Result<(), EngineError> {
            self.device.write(start, bytes)
        }

        fn sync(&self) -> Result<(), EngineError> {
            if !self.fails.load(Ordering::SeqCst) {
                return self.device.sync();
            }
            Err(EngineError::io("sync", std::io::Error::other("injected")))
        }

        fn grow(&self, blocks: u32) -> Result<(), EngineError> {
            self.device.grow(blocks)
        }

        fn shrink(&self, blocks: u32) -> Result<(), EngineError> {
            self.device.shrink(blocks)
        }

        fn length_bytes(&self) -> Result<u64, EngineError> {
            self.device.length_bytes()
        }
    }

    #[test]
    fn after_a_failed_commit_every_change_fails_and_the_last_commit_is_readable() {
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let device = Failing::default();
        let writer = writer(device.clone(), |line| lock(&LINES).push(line.to_owned()));
        let add = |name: &[u8]| writer.change(Need::Room(0), |names| Ok(add(names, name)));
        let kept = add(b"kept").expect("changed");
        writer.mark(InodeNumber::ROOT);
        writer.commit().expect("committed");
        writer.mark(InodeNumber::ROOT);
        add(b"lost").expect("changed");
        device.fails.store(true, Ordering::SeqCst);
        assert_eq!(writer.commit(), Err(Errno::EIO));
        device.fails.store(false, Ordering::SeqCst);
        assert_eq!(add(b"later"), Err(Errno::EIO));
        assert_eq!(writer.write(kept, 0, b"later", false), Err(Errno::EIO));
        assert_eq!(writer.unlink((InodeNumber::ROOT, b"kept")), Err(Errno::EIO));
        assert_eq!(writer.open(kept, true), Err(Errno::EIO));
        assert_eq!(writer.open(kept, false), Ok(()));
        assert_eq!(writer.commit(), Err(Errno::EIO));
        let listed = writer.view(InodeNumber::ROOT).list(InodeNumber::ROOT, None, 10);
        let listed = listed.expect("a list").into_iter().map(|entry| entry.name);
        assert_eq!(listed.collect::<Vec<_>>(), [b"kept"]);
        assert_eq!(lock(&LINES).len(), 1, "{:?}", lock(&LINES));
        assert!(lock(&LINES)[0].contains("read-only"), "{:?}", lock(&LINES));
        assert!(writer.close().is_err());
    }

    #[test]
    fn a_write_that_readers_hold_back_is_refused_with_a_line_and_loses_nothing() {
        /// Changed blocks that readers can hold back in an archive of this size.
        const LIMIT: u64 = 4096;
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let writer = writer(MemoryDevice::new(), |line| lock(&LINES).push(line.to_owned()));
        let add = |name: &[u8]| writer.change(Need::Room(0), |names| Ok(add(names, name)));
        let large = add(b"large").expect("changed");
        writer.commit().expect("committed");
        writer.open(large, true).expect("opened");
        let bytes = |blocks: u64| vec![7; usize::try_from(blocks * DATA_SIZE_U64).unwrap()];
        writer.write(large, 0, &bytes(LIMIT + 100), false).expect("written");
        writer.commit().expect("committed");
        let reader = writer.archive.snapshot();
        let number = reader.commit().slot.number;
        writer.write(large, 0, &bytes(LIMIT - 2), false).expect("written");
        writer.commit().expect("committed");
        assert!(lock(&LINES).is_empty(), "{:?}", lock(&LINES));
        let refused = writer.write(large, LIMIT * DATA_SIZE_U64, &bytes(50), false);
        assert_eq!(refused, Err(Errno::EBUSY));
        let line = lock(&LINES).join("\n");
        assert!(line.contains(&format!("readers of commit {number} hold")), "{line}");
        add(b"new").expect("a new file");
        writer.unlink((InodeNumber::ROOT, b"new")).expect("a removal");
        writer.commit().expect("committed");
        drop(reader);
        writer.commit().expect("committed");
        writer.write(large, LIMIT * DATA_SIZE_U64, &bytes(50), false).expect("written");
        writer.close().expect("closed");
    }

    #[test]
    fn closing_a_full_archive_reports_the_deleted_content_that_it_could_not_free() {
        const PACKS: u8 = 6;
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let left = |is_full: bool| {
            lock(&LINES).clear();
            let device = MemoryDevice::new();
            let writer = writer(device.clone(), |line| lock(&LINES).push(line.to_owned()));
            let mut state = 1_u64;
            let mut noise = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            };
            let root = InodeNumber::ROOT;
            for pack in 0..PACKS {
                for file in 0..4 {
                    let content: Vec<u8> = (0..30_000).map(|_| noise()).collect();
                    let names = writer.archive.names();
                    let mut packed = names.begin_packed(None).expect("begun");
                    names.append_packed(&mut packed, &content).expect("packed");
                    let name = [b'a' + pack, b'a' + file];
                    names.add_packed(root, &name, attributes(), packed).expect("added");
                }
                writer.archive.commit().expect("committed");
            }
            if is_full {
                let blocks = device.length_bytes().expect("a length") / 4096;
                device.set_capacity(u32::try_from(blocks).expect("a small file"));
            }
            for blocks in [100, 10].into_iter().filter(|_| is_full) {
                let fill = || {
                    writer.archive.new_stream()?.append(&vec![1; blocks * 4008])?;
                    writer.archive.commit()
                };
                (0..100).find_map(|_| fill().err()).expect("a full disk");
                writer.archive.rollback().expect("rolled back");
            }
            for (pack, file) in (0..PACKS).flat_map(|pack| (1..4).map(move |file| (pack, file))) {
                let removed = writer.unlink((root, &[b'a' + pack, b'a' + file]));
                removed.expect("removed");
                writer.commit().expect("committed");
            }
            writer.close().expect("closed");
            lock(&LINES).join("\n")
        };
        let line = left(true);
        assert!(line.starts_with("warning: deleted content still takes "), "{line}");
        assert_eq!(left(false), "");
    }

    /// As when another user changes the owner of a program with the set-user-ID bit: the kernel then changes the mode too.
    #[test]
    fn a_change_of_mode_and_owner_changes_the_list_and_ends_capabilities() {
        use ar7_registry::records::ExtendedAttribute;

        use crate::access_lists::{ACCESS, mode_with};
        use crate::inodes::CAPABILITIES;
        use crate::metadata::Wanted;

        let writer = writer(MemoryDevice::new(), |_| {});
        // Owner, another user, group, mask and others. A long attribute puts the whole set into a stream.
        let entries = [(1, 7), (2, 7), (4, 5), (16, 7), (32, 5)];
        let entry = |(tag, rights): (u8, u8)| [tag, 0, rights, 0, 0xff, 0xff, 0xff, 0xff];
        let list = [&[2, 0, 0, 0][..], entries.map(entry).as_flattened()].concat();
        for length in [1, 1000] {
            let number = writer.change(Need::Room(0), |names| {
                let number = add(names, format!("file{length}").as_bytes());
                let extended =
                    [(ACCESS, list.clone()), (CAPABILITIES, vec![1]), (b"user.a", vec![2; length])];
                let extended = extended.map(|(name, value)| ExtendedAttribute::new(name, value));
                names.set_extended_attributes(number, &extended)?;
                Ok(number)
            });
            let number = number.expect("a file");
            let wanted = Wanted { mode: Some(0o700), uid: Some(7), ..Wanted::default() };
            writer.set_attributes(number, wanted).expect("changed");
            let names = writer.archive.names();
            let inode = names.inode(number).expect("read").expect("an inode");
            let extended = names.extended_attributes(&inode).expect("attributes");
            let found: Vec<&[u8]> = extended.iter().map(|attribute| &attribute.name[..]).collect();
            assert_eq!(found, [ACCESS, b"user.a"]);
            assert_eq!(mode_with(&extended[0].value, 0), Some((0o700, true)));
        }
        writer.close().expect("closed");
    }

    #[test]
    fn a_change_that_panics_is_never_committed() {
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let device = MemoryDevice::new();
        let writer = writer(device.clone(), |line| lock(&LINES).push(line.to_owned()));
        let change = |name: &'static [u8], panics: bool| {
            writer.change(Need::Room(0), |names| {
                let _ = add(names, name);
                assert!(!panics, "injected");
                Ok(())
            })
        };
        change(b"committed", false).expect("changed");
        writer.commit().expect("committed");
        change(b"lost", false).expect("changed");
        let half = catch_unwind(AssertUnwindSafe(|| change(b"half", true)));
        assert_eq!(half.expect("an answer, so that the thread goes on"), Err(Errno::EIO));
        assert_eq!(change(b"later", false), Err(Errno::EIO));
        assert_eq!(writer.commit(), Err(Errno::EIO));
        assert_eq!(lock(&LINES).len(), 1, "{:?}", lock(&LINES));
        assert!(writer.close().is_err());
        drop(writer);
        let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
        let archive = Archive::open_device(Box::new(device), &secret(), options).expect("opened");
        let left = archive.snapshot().list(InodeNumber::ROOT, None, 10).expect("a list");
        assert_eq!(left.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), [b"committed"]);
    }
}
