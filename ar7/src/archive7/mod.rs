//! Reads archives of the Python module `angelos.archive7`, and imports them.
//!
//! Their files are another format: blocks of 4096 bytes, each a `secretbox` of `NaCl` under a key of 32 bytes, in
//! linked lists. There are four kinds ([`OldKind`]). [`OldArchive::open`] reads the lists and trees of an
//! archive, [`OldArchive::entries`] and [`OldArchive::streams`] say what it holds, [`OldArchive::read`]
//! returns content, and [`OldArchive::import`] puts everything into a transaction. Nothing is ever written
//! to the old file.
//!
//! ```no_run
//! use ar7::archive7::{OldArchive, Unrecorded};
//! use ar7::{Archive, Key};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> ar7::Result<()> {
//! let mut old = OldArchive::open("old.ar7", &Key::read_file("old.key")?, Unrecorded::Single)?;
//! let kind = old.kind().new_kind();
//! let archive = Archive::options().create_new(true).kind(kind).open("new.ar7", &Key::generate()?)?;
//! let transaction = archive.begin()?;
//! old.import(&transaction, |_| ControlFlow::Continue(()))?;
//! transaction.commit()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked
//!
//! The old format ties no block to its position or version: a block that was moved, copied or restored
//! authenticates. What a reader can notice are links, indexes, identities and digests that do not fit, and
//! blocks that belong to no stream or to two. All of these are [`Error::Damaged`], as is everything that a
//! hostile archive could say. Each list is as long as the file at most; memory is proportional to the
//! number of streams and entries, and to a thousandth of the file.
//!
//! If the first block does not open, but another one does, the archive is damaged. If no block opens, the
//! key is wrong: [`Error::NoBlockOpens`].

mod blocks;
mod fields;
mod import;
mod placed;
mod records;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ar7_engine::format::{DATA_SIZE, DATA_SIZE_U64, Position};
use ar7_engine::{Check, Error as EngineError, Value};
use roaring::RoaringBitmap;
use uuid::Uuid;

use self::blocks::{Block, Blocks, Chain};
pub use self::import::{ImportEvent, Imported, Loss};
use self::placed::{Entries, Listings, Placed};
pub use self::records::Header;
use self::records::{Entry, EntryKind, HEADER_BYTES, STREAM_BYTES, StreamRecord, special};
use self::tree::{Shape, Tree};
use crate::durable::failed;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::named::named;
use crate::options::Kind;
use crate::records::{FileType, Timestamp};

/// The kind of an old archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OldKind {
    /// One stream.
    Single,
    /// No streams, only metadata.
    Fixed,
    /// Any number of streams, without names.
    Dynamic,
    /// Files, directories and links.
    FileSystem,
}

impl OldKind {
    /// Returns the kind of a new archive that can take everything of the old one.
    pub fn new_kind(self) -> Kind {
        match self {
            OldKind::Single => Kind::Single,
            OldKind::Fixed => Kind::Fixed,
            OldKind::Dynamic | OldKind::FileSystem => Kind::Dynamic,
        }
    }

    /// Returns the number of special streams.
    fn special_streams(self) -> usize {
        match self {
            OldKind::Single | OldKind::Fixed => 1,
            OldKind::Dynamic => 2,
            OldKind::FileSystem => 5,
        }
    }
}

named!(OldKind {
    Single => "single",
    Fixed => "fixed",
    Dynamic => "dynamic",
    FileSystem => "file system",
});

/// What an archive with one special stream is. The file does not record it. The other kinds are detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Unrecorded {
    /// The stream is the content.
    #[default]
    Single,
    /// The stream holds recycled blocks.
    Fixed,
}

named!(Unrecorded { Single => "single", Fixed => "fixed" });

/// A stream of an old archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OldStream {
    /// The identity.
    pub id: Uuid,
    /// Length in bytes.
    pub len: u64,
}

/// An entry of an old archive, at the path that an import gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OldEntry {
    /// The path from the root.
    pub path: PathBuf,
    /// A file, a directory or a symbolic link.
    pub file_type: FileType,
    /// The stream with the content of a file. A file that was never opened has none.
    pub stream: Option<Uuid>,
    /// Permission bits.
    pub mode: u16,
    /// Time of the last change of the content.
    pub modified: Timestamp,
}

/// What following the chain of a stream found.
struct Followed {
    /// Bytes of content.
    length: u64,
    /// Whether the chain ends where its record says.
    is_whole: bool,
}

/// An open archive of the Python module.
pub struct OldArchive<R> {
    /// Its file, if it was opened from one.
    path: Option<PathBuf>,
    blocks: Blocks<R>,
    kind: OldKind,
    metadata: Vec<u8>,
    /// The blocks that belong to no stream in `streams`.
    special_blocks: RoaringBitmap,
    is_closed: bool,
    streams: BTreeMap<Uuid, StreamRecord>,
    entries: Entries,
    placed: Placed,
}

impl OldArchive<BufReader<File>> {
    /// Opens an archive in a file. See [`OldArchive::new`]. What is wrong with the file is an [`Error::InFile`].
    pub fn open(path: impl AsRef<Path>, key: &Key, kind: Unrecorded) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| failed("open", path, error))?;
        let opened = OldArchive::new(BufReader::with_capacity(1 << 16, file), key, kind);
        let opened = opened.map_err(|error| in_file(Some(path), error))?;
        Ok(OldArchive { path: Some(path.to_owned()), ..opened })
    }
}

impl<R: Read + Seek> OldArchive<R> {
    /// Opens an archive, and reads its trees.
    ///
    /// Fails with [`Error::NoBlockOpens`] if the key is wrong, with [`Error::Damaged`], and with
    /// [`Error::OutOfBounds`] if the key is a passphrase: old archives have keys of 32 bytes only.
    pub fn new(source: R, key: &Key, kind: Unrecorded) -> Result<OldArchive<R>> {
        let key = key.as_bytes().ok_or_else(|| Error::OutOfBounds {
            what: "key of an old archive",
            expected: "32 bytes".into(),
            found: "a passphrase".into(),
        })?;
        let mut blocks = Blocks::new(source, key)?;
        let first = blocks.open_first()?;
        check_first(&first)?;
        let (kind, records) = detect(&blocks, first.data(), kind)?;
        let area = first.data().len() - STREAM_BYTES * kind.special_streams();
        let metadata = first.data()[..area].to_vec();
        let mut archive = OldArchive {
            path: None,
            blocks,
            kind,
            metadata,
            special_blocks: std::iter::once(0).collect(),
            is_closed: true,
            streams: BTreeMap::new(),
            entries: Entries::new(),
            placed: Placed::default(),
        };
        archive.read_trees(&records)?;
        Ok(archive)
    }

    /// Returns the kind.
    pub fn kind(&self) -> OldKind {
        self.kind
    }

    /// Returns whether the archive was closed after its last change. If not, changes of the last writer
    /// may be missing.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns the application's own metadata, without the zeros at its end.
    pub fn metadata(&self) -> &[u8] {
        let end = self.metadata.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let end = if self.header().is_some() { end.max(HEADER_BYTES) } else { end };
        &self.metadata[..end]
    }

    /// Returns the header of a file system, with which its metadata begins.
    pub fn header(&self) -> Option<Header> {
        if self.kind == OldKind::FileSystem { Header::parse(&self.metadata) } else { None }
    }

    /// Returns all streams in the order of their identities: also the content of files.
    pub fn streams(&self) -> impl Iterator<Item = OldStream> {
        self.streams.values().map(|record| OldStream { id: record.id, len: record.length })
    }

    /// Returns the entries of a file system, each directory before its entries. Those that no directory
    /// can take are below `lost+found`. Deleted ones are left out.
    pub fn entries(&self) -> impl Iterator<Item = OldEntry> {
        let nodes = self.placed.nodes.iter().enumerate();
        nodes.filter_map(|(number, node)| {
            let entry = &self.entries[&node.entry?];
            let (file_type, stream) = match entry.kind {
                EntryKind::File { stream } => (FileType::File, stream),
                EntryKind::Directory => (FileType::Directory, None),
                EntryKind::Link { .. } => (FileType::Symlink, None),
            };
            let path = self.placed.path(number);
            let (mode, modified) = (entry.mode, entry.modified);
            Some(OldEntry { path, file_type, stream, mode, modified })
        })
    }

    /// Writes the content of a stream. Returns the number of bytes.
    pub fn read(&mut self, stream: Uuid, writer: &mut impl Write) -> Result<u64> {
        let record = self.streams.get(&stream).copied().ok_or(Error::NoStream { stream })?;
        let followed = self.each_block(&record, None, &mut |bytes| Ok(writer.write_all(bytes)?))?;
        Ok(followed.length)
    }

    /// Follows the chain of a stream and passes the content of each block to `content`. Marks its blocks
    /// in `reached`.
    ///
    /// If the archive was not closed, the stream may have been changed after its record: then the chain counts as far as
    /// the record goes.
    fn each_block(
        &mut self,
        record: &StreamRecord,
        mut reached: Option<&mut RoaringBitmap>,
        content: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Followed> {
        let mut chain = Chain::new(record.id, record.begin, record.length == 0);
        let (mut left, mut count, mut end) = (record.length, 0_u32, record.begin);
        while let Some(block) = chain.next(&mut self.blocks)? {
            if let Some(reached) = &mut reached {
                reach(reached, block.position)?;
            }
            count += 1;
            if count <= record.count {
                end = block.position;
                let most = usize::try_from(left).unwrap_or(DATA_SIZE).min(DATA_SIZE);
                content(&block.data()[..most])?;
                left -= most as u64;
            }
        }
        let followed = Followed { length: record.length - left, is_whole: count == record.count };
        if !self.is_closed && count < record.count {
            return Ok(followed);
        }
        if end != record.end {
            return Err(damaged(end, Check::NextLink, record.end, end));
        }
        if count < record.count {
            return Err(damaged(end, Check::Record, record.count, count));
        }
        Ok(followed)
    }

    /// Reads what the special streams say: the index of streams, and the entries of a file system.
    fn read_trees(&mut self, records: &[StreamRecord]) -> Result<()> {
        if self.kind == OldKind::Single {
            self.streams.extend(records.iter().map(|record| (record.id, *record)));
            return Ok(());
        }
        let trees: [Option<&Shape>; 5] = [
            None,
            Some(&tree::INDEX),
            Some(&tree::ENTRIES),
            Some(&tree::PATHS),
            Some(&tree::LISTINGS),
        ];
        let mut listings = Listings::new();
        for (number, (record, shape)) in records.iter().zip(trees).enumerate() {
            let (places, length) = self.special_chain(record)?;
            let Some(shape) = shape else { continue };
            let mut tree = Tree::open(&mut self.blocks, shape, &places, length)?;
            self.read_tree(number, &mut tree, &mut listings)?;
        }
        if let Some(root) = self.entries.get(&Uuid::nil())
            && root.kind != EntryKind::Directory
        {
            let expected = "the root as a directory";
            return Err(damaged(None, Check::Name, expected, "another entry"));
        }
        self.placed = Placed::new(&self.entries, &listings);
        Ok(())
    }

    fn read_tree(
        &mut self,
        number: usize,
        tree: &mut Tree<'_>,
        listings: &mut Listings,
    ) -> Result<()> {
        let specials = special(self.kind.special_streams());
        let (streams, entries) = (&mut self.streams, &mut self.entries);
        let mut added = Vec::new();
        tree.each(&mut self.blocks, |blocks, record| {
            match number {
                1 if record.key < specials => {
                    let expected = "a stream that is not special";
                    return Err(damaged(record.position, Check::Stream, expected, record.key));
                }
                1 => added.push(StreamRecord::parse(
                    blocks,
                    record.position,
                    record.key,
                    record.value,
                )?),
                2 => {
                    let entry = Entry::parse(record.position, record.key, record.value)?;
                    entries.insert(record.key, entry);
                }
                4 => drop(listings.insert(record.key, record.items.clone())),
                // The paths of entries say nothing that the entries themselves do not.
                _ => {}
            }
            Ok(())
        })?;
        streams.extend(added.into_iter().map(|record| (record.id, record)));
        Ok(())
    }

    /// Follows the chain of a special stream. Returns its blocks and its length. The record is as of the
    /// last time that the archive was closed, so the chain is what counts.
    fn special_chain(&mut self, record: &StreamRecord) -> Result<(Vec<Position>, u64)> {
        let mut chain = Chain::new(record.id, record.begin, false);
        let mut places = Vec::new();
        while let Some(block) = chain.next(&mut self.blocks)? {
            reach(&mut self.special_blocks, block.position)?;
            places.push(block.position);
        }
        let is_recorded =
            places.last() == Some(&record.end) && places.len() == record.count as usize;
        self.is_closed &= is_recorded;
        // A page ends 21 bytes into the block after its own.
        let pages = places.len() as u64 - 1;
        let length = if is_recorded { record.length } else { 21 + DATA_SIZE_U64 * pages };
        Ok((places, length))
    }
}

/// Marks a block as part of a stream. It must not be part of another one.
fn reach(reached: &mut RoaringBitmap, position: Position) -> Result<()> {
    if reached.insert(position.get()) {
        return Ok(());
    }
    Err(damaged(position, Check::FreeMap, "a block of one stream", "a block of two streams"))
}

fn check_first(first: &Block) -> Result<()> {
    let at = Position::at(0);
    for (check, link) in [(Check::PreviousLink, first.previous), (Check::NextLink, first.next)] {
        if link.is_some() {
            return Err(damaged(at, check, None::<Position>, link));
        }
    }
    if first.index != 0 {
        return Err(damaged(at, Check::Index, 0, first.index));
    }
    if !first.stream.is_nil() {
        return Err(damaged(at, Check::Stream, Uuid::nil(), first.stream));
    }
    Ok(())
}

/// Finds the kind of the archive, and the records of its special streams at the end of the first block.
fn detect<R: Read + Seek>(
    blocks: &Blocks<R>,
    data: &[u8; DATA_SIZE],
    kind: Unrecorded,
) -> Result<(OldKind, Vec<StreamRecord>)> {
    let unrecorded = match kind {
        Unrecorded::Single => OldKind::Single,
        Unrecorded::Fixed => OldKind::Fixed,
    };
    let at = Position::at(0);
    for kind in [OldKind::FileSystem, OldKind::Dynamic, unrecorded] {
        let begin = data.len() - STREAM_BYTES * kind.special_streams();
        let records = || data[begin..].chunks_exact(STREAM_BYTES).enumerate();
        if records().all(|(number, bytes)| StreamRecord::fits(blocks, number, bytes)) {
            let parse = |(number, bytes)| StreamRecord::parse(blocks, at, special(number), bytes);
            let parsed: Result<Vec<StreamRecord>> = records().map(parse).collect();
            return Ok((kind, parsed?));
        }
    }
    Err(damaged(at, Check::Root, "records of one, two or five special streams", "none of these"))
}

/// Returns the error for a failed check.
/// Adds the path of the old archive to an error that only it can cause.
fn in_file(path: Option<&Path>, error: Error) -> Error {
    match (path, error) {
        (
            Some(path),
            error @ (Error::Damaged(_)
            | Error::NoBlockOpens { .. }
            | Error::Io { operation: "read", path: None, .. }),
        ) => Error::InFile { path: path.to_owned(), cause: Arc::new(error) },
        (_, error) => error,
    }
}

fn damaged(
    position: impl Into<Option<Position>>,
    check: Check,
    expected: impl Into<Value>,
    found: impl Into<Value>,
) -> Error {
    EngineError::damaged(position, check, expected, found).into()
}

impl<R> fmt::Debug for OldArchive<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OldArchive")
            .field("kind", &self.kind)
            .field("streams", &self.streams.len())
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}
