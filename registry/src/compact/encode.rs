//! Encodes content again where that makes it smaller: files that have a stream of their own are packed, and packs are
//! written again. Like everything in a compaction, it is a sequence of ordinary commits.

use ar7_engine::Class;
use ar7_engine::format::{ArchiveKind, DATA_SIZE_U64, StoredStream};
use uuid::Uuid;

use super::Compaction;
use crate::archive::State;
use crate::blocks::is_damage;
use crate::error::{Error, Result};
use crate::names::pack_file;
use crate::packs::{Encoding, Packing, should_pack};
use crate::records::{COMPRESSION_COUNTER, Inode, InodeNumber, Inodes, Packs, ReadRecords};

/// Number of bytes after which a commit is made: of files that are packed, or of packs that are looked at.
const BYTES_PER_COMMIT: u64 = 16 << 20;

/// Number of inodes that one step looks at, and number of bytes that it reads to judge them.
const LOOKED_MAX: usize = 1 << 14;
const JUDGED_BYTES: u64 = 64 << 20;

/// The files that one commit packs.
struct Files {
    next: Option<InodeNumber>,
    /// The file that was looked at last.
    at: InodeNumber,
    /// Number of bytes after which nothing more is packed.
    most: u64,
    /// Number of inodes whose stream was looked at.
    read: u64,
    read_bytes: u64,
    packed_bytes: u64,
    looked_blocks: u64,
    packed_blocks: u64,
}

/// The packs that one commit writes again.
struct Again {
    next: Option<Uuid>,
    /// The last pack to look at.
    last: Uuid,
    looked_blocks: u64,
    written_blocks: u64,
}

impl Compaction<'_> {
    /// Encodes content again where that makes it smaller. What is damaged stays as it is, and so does what there is no room
    /// for.
    pub(super) fn encode(&mut self) -> Result<()> {
        if let Encoding::Choose(choice) = self.encoding {
            self.archive.finish_transaction(|state| state.choose_compression(choice))?;
        }
        if self.must_end()? {
            return Ok(());
        }
        let packing = self.encoding.packing(self.archive.compression()?);
        let Some(packing) = packing.filter(|_| self.archive.kind() == ArchiveKind::Dynamic) else {
            return Ok(());
        };
        let snapshot = self.archive.snapshot();
        let blocks = u64::from(snapshot.commit().slot.block_count);
        self.total = blocks.saturating_sub(snapshot.free_blocks());
        drop(snapshot);
        self.pack_files(packing)?;
        if let Some(level) = self.encoding.level() {
            self.encode_packs(level)?;
        }
        self.total = self.looked;
        Ok(())
    }

    fn pack_files(&mut self, packing: Packing) -> Result<()> {
        let (mut from, mut alone_until) = (Some(InodeNumber(0)), InodeNumber(0));
        while let Some(next) = from
            && !self.must_end()?
        {
            let most = if next <= alone_until { 0 } else { BYTES_PER_COMMIT };
            let mut files = Files::from(next, most);
            let packed =
                self.archive.finish_transaction(|state| state.pack_some(packing, &mut files));
            match packed {
                Ok(()) => self.summary.encoded += files.packed_blocks,
                Err(error) if can_stay(&error) && most > 0 && files.read > 1 => {
                    // Another attempt packs the files before it, each in its own commit.
                    alone_until = files.at;
                    continue;
                }
                // The last file that was read failed, or the commit of the only one that was packed.
                Err(error) if can_stay(&error) && files.read > 0 => {}
                // The index is damaged.
                Err(error) if can_stay(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            self.looked += files.looked_blocks;
            from = files.next;
        }
        Ok(())
    }

    fn encode_packs(&mut self, level: i32) -> Result<()> {
        let last = match self.archive.snapshot().floor::<Packs>(&Uuid::max()) {
            Ok(Some((last, _))) => last,
            Ok(None) => return Ok(()),
            Err(error) if can_stay(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut from = Some(Uuid::nil());
        while from.is_some() && !self.must_end()? {
            let mut again = Again { next: from, last, looked_blocks: 0, written_blocks: 0 };
            match self.archive.finish_transaction(|state| state.encode_some(level, &mut again)) {
                Ok(()) => self.summary.encoded += again.written_blocks,
                // These packs stay as they are. If no pack was found, the index is damaged.
                Err(error) if can_stay(&error) && again.next != from => {}
                Err(error) if can_stay(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            self.looked += again.looked_blocks;
            from = again.next;
        }
        Ok(())
    }
}

impl Files {
    fn from(next: InodeNumber, most: u64) -> Files {
        Files {
            next: Some(next),
            at: next,
            most,
            read: 0,
            read_bytes: 0,
            packed_bytes: 0,
            looked_blocks: 0,
            packed_blocks: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.read_bytes >= JUDGED_BYTES || self.packed_blocks > 0 && self.packed_bytes >= self.most
    }
}

impl State {
    fn choose_compression(&mut self, choice: u64) -> Result<()> {
        self.check_closed()?;
        *self.trees.counter_mut(COMPRESSION_COUNTER) = choice;
        self.commit()
    }

    /// Packs some files, and commits.
    fn pack_some(&mut self, packing: Packing, files: &mut Files) -> Result<()> {
        self.check_closed()?;
        for _ in 0..LOOKED_MAX {
            let Some(next) = files.next.filter(|_| !files.is_full()) else { break };
            let Some((number, inode)) = self.trees.ceiling::<Inodes>(&next)? else {
                files.next = None;
                break;
            };
            (files.at, files.next) = (number, number.0.checked_add(1).map(InodeNumber));
            if let Some(stream) = inode.stream {
                self.pack_one(packing, files, (number, inode, stream))?;
            }
        }
        if files.packed_blocks > 0 { self.commit() } else { Ok(()) }
    }

    fn pack_one(
        &mut self,
        packing: Packing,
        files: &mut Files,
        (number, inode, stream): (InodeNumber, Inode, Uuid),
    ) -> Result<()> {
        files.read += 1;
        let applies = |stored: &StoredStream| packing.applies_to(number, &inode, stored);
        let Some(stored) = self.stored(stream)?.filter(applies) else { return Ok(()) };
        let (size, blocks) = (inode.size, u64::from(stored.record.count));
        files.looked_blocks += blocks;
        let gains = should_pack(size, packing.level, |offset, sample| {
            let read = self.read_uncommitted(stream, offset, sample)?;
            files.read_bytes += read as u64;
            Ok(read)
        })?;
        if gains {
            pack_file(self, number, inode, stream)?;
            files.packed_bytes += size;
            files.packed_blocks += blocks;
        }
        Ok(())
    }

    /// Encodes some packs again, and commits those that become smaller.
    fn encode_some(&mut self, level: i32, again: &mut Again) -> Result<()> {
        self.check_closed()?;
        let (mut bytes, mut is_changed) = (0, false);
        while let Some(next) = again.next.filter(|_| bytes < BYTES_PER_COMMIT) {
            let found = self.trees.ceiling::<Packs>(&next)?;
            let Some((identity, pack)) = found.filter(|(found, _)| *found <= again.last) else {
                again.next = None;
                break;
            };
            again.next = identity.as_u128().checked_add(1).map(Uuid::from_u128);
            let blocks = u64::from(pack.used).div_ceil(DATA_SIZE_U64);
            (bytes, again.looked_blocks) =
                (bytes + u64::from(pack.used), again.looked_blocks + blocks);
            let frames = match self.encoded_again(identity, pack, level) {
                Ok(Some(frames)) => frames,
                Ok(None) => continue,
                // It stays as it is, for salvage.
                Err(error) if is_damage(&error) => continue,
                Err(error) => return Err(error),
            };
            for (encoded, live) in &frames {
                self.append_frame(encoded, *live)?;
            }
            (is_changed, again.written_blocks) = (true, again.written_blocks + blocks);
        }
        if is_changed { self.commit() } else { Ok(()) }
    }
}

/// Returns whether an error is about content that can stay as it is.
fn can_stay(error: &Error) -> bool {
    is_damage(error) || matches!(error.class(), Class::NoSpace | Class::HeldByReaders)
}
