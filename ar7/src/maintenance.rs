//! Checking an archive, wiping free space, keys, and receipts.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ar7_engine::crypto::KeyDerivation;
use ar7_engine::device::Sharing;
use ar7_engine::format::{BLOCK_SIZE, Header, KeySlot as FormatSlot, Position};
use ar7_engine::store::{ExportedHeader, NewKey, RekeyOptions, Store};
use ar7_registry::records::InodeNumber;
use ar7_registry::verify;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::archive::Archive;
use crate::count::Count;
use crate::durable::{failed, write_new};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::options::{Derivation, Options};
use crate::path::split;
use crate::receipt::Receipt;
use crate::records::{FileType, KeySlot, Metadata};
use crate::recovery::{lost_commit, only_slot};
use crate::snapshot::Snapshot;

/// The number of names that [`Archive::remove_all`] removes in one transaction.
const REMOVED_AT_ONCE: usize = 10_000;

/// Something that [`Archive::verify`] found wrong.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// The part of the archive, for example "stream 019a..., block 3 at block 17 of the file".
    pub subject: String,
    /// What is wrong with it: [`Error::Damaged`] or [`Error::Tampered`].
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialized::text"))]
    pub error: Error,
    /// The entries that it affects.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) affects: Affected,
}

/// What a finding affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affected {
    /// No entry.
    Nothing,
    /// The entries with a stream, or with packed content in it.
    Stream(Uuid),
    /// Of these, the ones with content in a block.
    Block(Uuid, u32),
    /// The names of an inode.
    Inode(u64),
    /// Any entry: a page of the index is unreadable.
    Any,
}

/// The entries that findings of [`Archive::verify`] affect. See [`Damage::paths`].
#[derive(Debug, Clone, Default)]
pub struct Damage {
    streams: HashSet<Uuid>,
    blocks: BTreeSet<(Uuid, u32)>,
    inodes: RoaringTreemap,
    may_affect_any: bool,
}

impl Damage {
    /// Adds what a finding affects.
    pub fn add(&mut self, finding: &Finding) {
        match finding.affects {
            Affected::Nothing => {}
            Affected::Stream(stream) => {
                self.streams.insert(stream);
            }
            Affected::Block(stream, index) => {
                self.blocks.insert((stream, index));
            }
            Affected::Inode(inode) => {
                self.inodes.insert(inode);
            }
            Affected::Any => self.may_affect_any = true,
        }
    }

    /// Returns whether a stream or one of these blocks of it is damaged.
    fn affects_blocks(&self, stream: Uuid, blocks: RangeInclusive<u32>) -> bool {
        let (first, last) = ((stream, *blocks.start()), (stream, *blocks.end()));
        self.streams.contains(&stream) || self.blocks.range(first..=last).next().is_some()
    }

    /// Returns whether packed content of an entry is damaged, or cannot be found.
    fn affects_packed(&self, snapshot: &Snapshot, metadata: &Metadata) -> bool {
        if metadata.file_type != FileType::File || metadata.stream.is_some() || metadata.len == 0 {
            return false;
        }
        let registry = snapshot.registry();
        let Ok(Some(inode)) = registry.inode(InodeNumber(metadata.inode)) else { return false };
        registry.packed_blocks(&inode).any(|found| match found {
            Ok((pack, blocks)) => {
                self.affects_blocks(pack, blocks)
                    || (self.may_affect_any && !registry.is_located(pack))
            }
            Err(_) => true,
        })
    }

    /// Returns the paths of the entries in a snapshot whose content or record is damaged, and of the
    /// directories that miss names.
    pub fn paths<'a>(
        &'a self,
        snapshot: &'a Snapshot,
    ) -> Result<impl Iterator<Item = PathBuf> + 'a> {
        let is_clean = self.streams.is_empty()
            && self.blocks.is_empty()
            && self.inodes.is_empty()
            && !self.may_affect_any;
        let entries = (!is_clean).then(|| snapshot.walk("")).transpose()?;
        Ok(entries.into_iter().flatten().filter_map(|entry| match entry {
            Ok(entry) => {
                let metadata = &entry.metadata;
                let is_damaged = |stream: Uuid| {
                    self.affects_blocks(stream, 0..=u32::MAX)
                        || (self.may_affect_any && !snapshot.registry().is_located(stream))
                };
                let is_affected = self.inodes.contains(metadata.inode)
                    || metadata.stream.is_some_and(is_damaged)
                    || extended_stream(snapshot, metadata.inode).is_some_and(is_damaged)
                    || self.affects_packed(snapshot, metadata);
                is_affected.then_some(entry.path)
            }
            Err(Error::InEntry { path, .. }) => Some(path),
            Err(_) => None,
        }))
    }
}

/// Returns the stream with the extended attributes of an inode, if they are in one.
fn extended_stream(snapshot: &Snapshot, inode: u64) -> Option<Uuid> {
    let inode = snapshot.registry().inode(InodeNumber(inode)).ok().flatten()?;
    inode.extended.stream()
}

fn affected(subject: &verify::Subject) -> Affected {
    match subject {
        verify::Subject::Block { stream, index, .. } => Affected::Block(*stream, *index),
        verify::Subject::Stream(stream) => Affected::Stream(*stream),
        verify::Subject::Inode(inode) => Affected::Inode(*inode),
        verify::Subject::Page { .. } | verify::Subject::Tree(_) | verify::Subject::Name { .. } => {
            Affected::Any
        }
        _ => Affected::Nothing,
    }
}

/// The result of [`Options::repair`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Repaired {
    /// Blocks that were written again from their other copy.
    pub healed: Vec<u32>,
    /// Bad blocks without a good copy, which stay as they are.
    pub lost: Vec<u32>,
}

impl Repaired {
    /// Returns a line for users about each bad block.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let healed = self.healed.iter().map(|block| (block, "written again from its copy"));
        let lost = self.lost.iter().map(|block| (block, "no good copy"));
        healed.chain(lost).map(|(block, what)| format!("block {block}: {what}"))
    }
}

/// The counts in one line.
impl fmt::Display for Repaired {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let healed = Count(self.healed.len() as u64, "block");
        write!(formatter, "{healed} repaired, {} without a good copy", self.lost.len())
    }
}

impl From<verify::Finding> for Finding {
    fn from(found: verify::Finding) -> Finding {
        let affects = affected(&found.subject);
        let (subject, error) = (found.subject.to_string(), found.error.into());
        Finding { subject, error, affects }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.subject, self.error)
    }
}

/// How far a verification or another long operation is, in blocks of 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Progress {
    /// Blocks that are done.
    pub blocks: u64,
    /// All blocks.
    pub total: u64,
}

/// The result of [`Options::import_header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ImportedHeader {
    /// Revision of the header now. Each change of the keys raises it.
    pub revision: u64,
    /// Whether it is an older header, imported under a new revision.
    pub is_older: bool,
    /// A damaged meta slot that may have held a newer commit, as in [`crate::Recovery`].
    pub may_have_held_newer: Option<u32>,
    /// The one meta slot of the newest commit that is known to be good, as in [`crate::Recovery`]. `None` for an older
    /// header, because the commit that names it writes the other ones again.
    pub only_copy: Option<u32>,
}

impl ImportedHeader {
    /// Returns the warnings if the newest commit may be lost, or is in one good copy, for users.
    pub fn losses(&self) -> Vec<String> {
        let commit = self.may_have_held_newer.map(lost_commit);
        commit.into_iter().chain(self.only_copy.map(only_slot)).collect()
    }
}

/// The result of a rekey. `Display` gives it in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rekeyed {
    /// Blocks that this call sealed again.
    pub blocks: u64,
    /// Blocks that did not open under the old key, and were left as they are.
    pub left: u64,
    /// Whether the end of the file could not be cut off. It may then still hold blocks under the old
    /// key.
    pub trim_failed: bool,
}

impl fmt::Display for Rekeyed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} blocks are sealed under the new master key; ", self.blocks)?;
        match self.left {
            0 => formatter.write_str("the old one opens none of them"),
            left => write!(formatter, "lost: {}", Count(left, "damaged block")),
        }
    }
}

impl Archive {
    /// Frees all blocks of deleted content and overwrites every free block. Returns the number of
    /// overwritten blocks. Afterwards the file holds no content that was deleted before.
    ///
    /// Waits for a transaction in progress. `progress` gets the number of blocks overwritten so far.
    /// It may use the archive and begin transactions, which must have ended when it returns.
    ///
    /// Fails with [`Error::HeldByReaders`] if a snapshot, in this process or another one, still reads
    /// an older commit whose blocks would be overwritten.
    pub fn wipe_free(&self, mut progress: impl FnMut(u64)) -> Result<u64> {
        self.check_writable()?;
        let mut turn = Some(self.turn.take());
        let wiped = self.registry.wipe_free(&mut |wiped| {
            turn.take();
            progress(wiped);
            turn = Some(self.turn.take());
        });
        Ok(wiped?)
    }

    /// Returns the key slots in use.
    pub fn keys(&self) -> Vec<KeySlot> {
        let header: &Header = &self.registry.store().header();
        let used = header.slots.iter().enumerate().filter_map(|(number, slot)| match slot {
            FormatSlot::Empty => None,
            FormatSlot::Used(used) => Some(KeySlot {
                number,
                label: used.label.to_string(),
                is_passphrase: used.cost.is_some(),
                memory_kib: used.cost.map(|cost| cost.memory_kib),
                passes: used.cost.map(|cost| cost.passes),
                lanes: used.cost.map(|cost| cost.lanes),
            }),
        });
        used.collect()
    }

    /// Returns the number of the key slot that the key opened.
    pub fn key_slot(&self) -> usize {
        self.registry.store().key_slot()
    }

    /// Returns the revision of the header. Each change of the keys raises it.
    pub fn header_revision(&self) -> u64 {
        self.registry.store().header().revision
    }

    /// During a rekey, returns the number of blocks that are sealed under the new master key.
    pub fn rekeyed_blocks(&self) -> Option<u32> {
        let store = self.registry.store();
        store.header().rekey.is_some().then(|| store.current().slot.rekey_watermark)
    }

    /// Returns the number of the oldest commit that another process reads, if there is a newer one. Its
    /// blocks cannot be reused yet.
    pub fn oldest_reader(&self) -> Result<Option<u64>> {
        Ok(self.registry.store().oldest_reader()?)
    }

    /// Returns whether other processes can read the archive while one writes to it. On a file system without
    /// locks of byte ranges, one process can write, or several can read.
    pub fn has_readers_and_writer(&self) -> Result<bool> {
        Ok(self.registry.store().sharing()? == Sharing::ReadersAndWriter)
    }

    /// Frees all blocks of deleted content, in commits of their own. Otherwise each commit frees some of
    /// them. Waits for a transaction in progress.
    pub fn reclaim(&self) -> Result<()> {
        let _turn = self.take_turn()?;
        Ok(self.registry.reclaim()?)
    }

    /// Removes an entry and everything below it, in transactions of up to 10,000 names. So a huge tree
    /// needs little memory, and little free space. After a crash, part of the tree may be left.
    ///
    /// `progress` gets the number of names removed so far. If it breaks, the rest stays. Returns the
    /// number of removed names. Waits for a transaction in progress.
    pub fn remove_all(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<u64> {
        let _turn = self.take_turn()?;
        let path = path.as_ref();
        let (parent, name) = split(path)?;
        let names = self.registry.names();
        let removed = names.resolve(parent).and_then(|directory| {
            let mut progress = |removed| progress(removed).is_continue();
            names.remove_tree(directory.inode, name, Some(REMOVED_AT_ONCE), &mut progress)
        });
        removed.map_err(|error| Error::from(error).at(path))
    }

    /// Adds a key or passphrase. Returns the number of its key slot. An archive has up to eight.
    ///
    /// Each change of keys is a commit of its own. It waits for a transaction in progress.
    pub fn add_key(&self, key: &Key, derivation: Derivation, label: &str) -> Result<usize> {
        let _turn = self.take_turn()?;
        Ok(self.registry.add_key(&new_key(key, &derivation.0, label))?)
    }

    /// Replaces the key in a key slot.
    pub fn change_key(
        &self,
        slot: usize,
        key: &Key,
        derivation: Derivation,
        label: &str,
    ) -> Result<()> {
        let _turn = self.take_turn()?;
        Ok(self.registry.change_key(slot, &new_key(key, &derivation.0, label))?)
    }

    /// Changes the label of the key slot that a key opens. Returns the number of the slot.
    pub fn relabel_key(&self, key: &Key, label: &str) -> Result<usize> {
        let _turn = self.take_turn()?;
        Ok(self.registry.relabel_key(&key.0, label)?)
    }

    /// Removes the key in a key slot. Fails with [`Error::OnlyKey`] for the last one.
    ///
    /// Anyone with the old key and an older copy of the file can still read that copy:
    /// [`Options::rekey`] changes the key of the content.
    pub fn remove_key(&self, slot: usize) -> Result<()> {
        let _turn = self.take_turn()?;
        Ok(self.registry.remove_key(slot)?)
    }

    /// Returns the header of the archive, 4096 bytes, to be kept outside of the file. It holds the key
    /// slots, still protected by their keys: without a header, no key opens the archive.
    pub fn export_header(&self) -> Vec<u8> {
        self.registry.store().export_header().to_vec()
    }

    /// Writes the header to a new file, which is on stable storage when this returns. An existing file is
    /// never overwritten.
    pub fn export_header_to(&self, path: impl AsRef<Path>) -> Result<()> {
        write_new(path.as_ref(), &self.export_header())
    }

    /// Returns a receipt of the newest commit: a line of text to keep outside of the file. With it,
    /// [`Archive::check_receipt`] detects that the whole file was replaced by an older copy.
    pub fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt(self.registry.receipt()?))
    }

    /// Fails with [`Error::NotInHistory`] unless the newest commit is that of the receipt or
    /// descends from it.
    pub fn check_receipt(&self, receipt: &Receipt) -> Result<()> {
        Ok(self.registry.check_receipt(&receipt.0)?)
    }

    pub(crate) fn take_turn(&self) -> Result<crate::archive::Taken<'_>> {
        self.check_writable()?;
        Ok(self.turn.take())
    }
}

impl Options {
    /// Changes the master key of the archive in a file: seals every block again, in its place. If
    /// this stops, for example because the process ends, calling it again continues, and until it is
    /// finished the archive can only be read.
    ///
    /// The key that is passed stays. Other keys are removed, which [`Options::drop_other_keys`] must
    /// allow. `progress` may break; this then fails with [`Error::Stopped`].
    pub fn rekey(
        &self,
        path: impl AsRef<Path>,
        key: &Key,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Rekeyed> {
        let options = RekeyOptions {
            drop_other_keys: self.drop_other_keys,
            io: self.engine_io(),
            wait: self.wait,
        };
        let mut progress = |done: u32, total: u32| {
            progress(Progress { blocks: u64::from(done), total: u64::from(total) })
        };
        let rekeyed = ar7_registry::Archive::rekey(path.as_ref(), &key.0, options, &mut progress)?;
        Ok(Rekeyed { blocks: rekeyed.blocks, left: rekeyed.left, trim_failed: rekeyed.trim_failed })
    }
}

impl Options {
    /// Writes an exported header back to the file of its archive, of which every copy of the header
    /// may be damaged. `key` must open a key slot of the exported header.
    ///
    /// Fails if the header is older than the one that the newest commit names, because it would restore
    /// keys that were removed since. [`Options::accept_older_header`] allows that, and then also makes a commit that
    /// names the header. If this commit fails, for example because a pair of meta slots is damaged, the header is in
    /// place all the same, and the next writer makes the commit. Until then, nothing detects that someone puts the header
    /// before it back.
    pub fn import_header(
        &self,
        path: impl AsRef<Path>,
        key: &Key,
        header: &[u8],
    ) -> Result<ImportedHeader> {
        let exported = ExportedHeader::open(header, &key.0)?;
        let accept_older = self.accept_older_header;
        let imported = Store::import_header(path.as_ref(), &exported, accept_older, self.wait)?;
        if imported.is_older {
            // Only once a commit names the header, another one put back in its place is tampering.
            let options = self.clone().write(true).accept_lost_commit(false);
            options.open(path.as_ref(), key)?.close()?;
        }
        Ok(ImportedHeader {
            revision: imported.revision,
            is_older: imported.is_older,
            may_have_held_newer: imported.may_have_held_newer.map(Position::get),
            only_copy: imported.only_copy.filter(|_| !imported.is_older).map(Position::get),
        })
    }

    /// Does the same with a header in a file. Errors of the header, unlike those of the archive, are
    /// [`Error::InFile`].
    pub fn import_header_from(
        &self,
        path: impl AsRef<Path>,
        key: &Key,
        header: impl AsRef<Path>,
    ) -> Result<ImportedHeader> {
        let file = header.as_ref();
        self.import_header(path, key, &read_header(file)?).map_err(|error| match error {
            Error::WrongKey { .. } | Error::OutOfBounds { .. } => {
                Error::InFile { path: file.to_owned(), cause: Arc::new(error) }
            }
            error => error,
        })
    }

    /// Writes good copies of the header, of meta slots, of index pages and of redo blocks over bad ones, in
    /// their places. It changes nothing else, and never trusts an older copy. Excludes every other process.
    ///
    /// Fails with [`Error::Damaged`] if the archive does not open: see [`crate::Salvage`].
    pub fn repair(&self, path: impl AsRef<Path>, key: &Key) -> Result<Repaired> {
        let repaired = ar7_registry::Archive::repair(path.as_ref(), &key.0, self.wait)?;
        let numbers = |positions: Vec<Position>| positions.into_iter().map(Position::get).collect();
        Ok(Repaired { healed: numbers(repaired.healed), lost: numbers(repaired.lost) })
    }

    /// Destroys every key slot of the archive in a file, which makes its content unreadable for good. It
    /// needs no key. Exported headers and other copies of the file still open.
    pub fn shred(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(Store::shred(path.as_ref(), self.wait)?)
    }
}

/// Reads the header in a file that [`Archive::export_header_to`] wrote. It reads no more of the file than a header needs
/// and one byte, so that a longer file is refused.
pub fn read_header(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| failed("open", path, error))?;
    let mut bytes = Vec::new();
    let read = file.take(BLOCK_SIZE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed("read", path, error))?;
    Ok(bytes)
}

fn new_key<'a>(key: &'a Key, derivation: &'a KeyDerivation, label: &'a str) -> NewKey<'a> {
    NewKey { secret: &key.0, derivation, label }
}
