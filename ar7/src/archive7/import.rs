//! Importing an old archive into a transaction.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ar7_engine::Check;
use ar7_engine::format::{METADATA_MAX, Position};
use ar7_registry::Mode;
use ar7_registry::records::InodeNumber;
use nix::unistd::{Group, User};
use roaring::RoaringBitmap;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::records::{Entry, EntryKind, StreamRecord};
use super::{OldArchive, OldKind, damaged, in_file};
use crate::count::Count;
use crate::error::{Error, Result};
use crate::file::File;
use crate::key::Key;
use crate::options::Options;
use crate::path::to_path;
use crate::records::Attributes;
use crate::text::PathText;
use crate::transaction::Transaction;

/// Bytes of content that are written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The longest target of a symbolic link that Linux can create.
const TARGET_MAX: usize = 4095;

/// Something that happens during an import.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportEvent<'a> {
    /// Content was read.
    Read {
        /// Number of bytes.
        bytes: u64,
    },
    /// An entry or stream is not as it was.
    Lost {
        /// The path of the entry in the new archive, or the identity of the stream.
        path: &'a Path,
        /// What differs.
        loss: &'a Loss,
    },
}

/// What an entry or stream of an old archive lost in the import.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// The name cannot be a name in an archive. The entry is in `lost+found`.
    Name {
        /// The name.
        name: Vec<u8>,
    },
    /// Another entry of the directory has the same name. The entry is in `lost+found`.
    NameTaken {
        /// The name.
        name: Vec<u8>,
    },
    /// The entry is in too many directories. It is in `lost+found`.
    TooDeep {
        /// The name.
        name: Vec<u8>,
        /// The most directories.
        limit: u32,
    },
    /// No directory lists the entry. It is in `lost+found`.
    Unlisted {
        /// The name.
        name: Vec<u8>,
    },
    /// The entry that a link leads to does not exist. The link is not in the new archive.
    Target,
    /// The path to the entry that a link leads to is too long. The link is not in the new archive.
    TargetTooLong {
        /// The length of the path in bytes.
        length: usize,
        /// The greatest length of a target.
        limit: usize,
    },
    /// The stream was open when its writer crashed. What was written since it was last closed is missing, and so is what
    /// was cut off since then.
    OpenAtCrash,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, reason) = match self {
            Loss::Name { name } => (name, "this cannot be a name in an archive".to_owned()),
            Loss::NameTaken { name } => (name, "another entry has this name".to_owned()),
            Loss::TooDeep { name, limit } => (name, format!("it is below {limit} directories")),
            Loss::Unlisted { name } => (name, "no directory lists it".to_owned()),
            Loss::Target => {
                return formatter.write_str("link left out: its target does not exist");
            }
            Loss::TargetTooLong { length, limit } => {
                return write!(
                    formatter,
                    "link left out: expected a target of at most {limit} bytes, found {length}"
                );
            }
            Loss::OpenAtCrash => {
                return formatter.write_str("the last writer had it open and did not close it");
            }
        };
        write!(formatter, "was \"{}\": {reason}", name.escape_ascii())
    }
}

/// What an import stored, and what it could not carry over.
///
/// The time of creation, the identity and the owner's UUID of an entry have no counterpart, so that no
/// import carries them over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Imported {
    /// Number of files, directories and symbolic links, without the root.
    pub entries: u64,
    /// Number of streams without a name.
    pub streams: u64,
    /// Bytes in files and streams.
    pub bytes: u64,
    /// Number of entries that were marked as deleted, and left out.
    pub deleted: u64,
    /// Number of entries and streams that are not as they were. Each was an event.
    pub lost: u64,
    /// Names of users and groups that this system does not know. Their entries belong to user or group 0.
    pub unknown_owners: BTreeSet<String>,
    /// Number of bytes of the application's metadata beyond the 2048 that a new archive can take.
    pub metadata_cut: usize,
    /// Whether the old archive was closed after its last change.
    pub is_closed: bool,
    /// Number of blocks that belong to no stream. Only an archive that was not closed may have any.
    pub stray_blocks: u64,
}

/// What was imported, and what has no counterpart in an archive, in one line.
impl fmt::Display for Imported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { entries, streams, bytes, deleted, metadata_cut, stray_blocks, .. } = self;
        write!(
            formatter,
            "{}, {} without a name, {}",
            Count(*entries, "entry"),
            Count(*streams, "stream"),
            Count(*bytes, "byte"),
        )?;
        let mut lost = Vec::new();
        if *entries > 0 {
            lost.push("creation times, identities of entries, UUIDs of owners".to_owned());
        }
        if *deleted > 0 {
            lost.push(Count(*deleted, "deleted entry").to_string());
        }
        if *metadata_cut > 0 {
            let cut = Count(*metadata_cut as u64, "byte");
            lost.push(format!("{cut} at the end of the metadata"));
        }
        if !self.unknown_owners.is_empty() {
            let names = self.unknown_owners.iter().map(|name| PathText::new(name).to_string());
            let names = names.collect::<Vec<String>>().join(", ");
            lost.push(format!("owners that this system does not know ({names})"));
        }
        if *stray_blocks > 0 {
            lost.push(format!("{} of no stream", Count(*stray_blocks, "block")));
        }
        if lost.is_empty() {
            return Ok(());
        }
        write!(formatter, "; not carried over: {}", lost.join("; "))
    }
}

impl<R: Read + Seek> OldArchive<R> {
    /// Stores everything in a new archive. See [`OldArchive::import`].
    ///
    /// The new file gets its name once it is complete and durable. If this fails, no file is left; if the
    /// process is killed, a file `.NEW.XXXXXX.incomplete` stays, which the next attempt removes.
    ///
    /// The options need not say that the archive is created, nor its kind.
    pub fn import_to(
        &mut self,
        path: impl AsRef<Path>,
        key: &Key,
        options: Options,
        event: impl FnMut(&ImportEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Imported> {
        let options = options.kind(self.kind.new_kind());
        let (archive, unpublished) = options.create_unpublished(path.as_ref(), key)?;
        let imported = archive.begin().and_then(|transaction| {
            let imported = self.import(&transaction, event)?;
            transaction.commit()?;
            Ok(imported)
        });
        let imported = imported?;
        archive.close()?;
        unpublished.publish()?;
        Ok(imported)
    }

    /// Stores everything in a transaction: streams with their identities, entries with their names,
    /// permissions, owners, times and targets, and the application's metadata. Reads and checks every block
    /// of the old archive. If this fails, drop the transaction.
    ///
    /// If `event` breaks, this fails with [`Error::Stopped`]. The archive must be of kind
    /// [`OldKind::new_kind`].
    pub fn import(
        &mut self,
        transaction: &Transaction<'_>,
        event: impl FnMut(&ImportEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Imported> {
        let kind = transaction.open.archive.kind().into();
        if self.kind.new_kind() != kind {
            return Err(Error::KindForbids { kind, operation: "an import of this old archive" });
        }
        let mut run = Run {
            transaction,
            event,
            reached: self.special_blocks.clone(),
            done: HashSet::new(),
            users: HashMap::new(),
            groups: HashMap::new(),
            report: Imported { is_closed: self.is_closed, ..Imported::default() },
        };
        let imported = run.everything(self);
        imported.map_err(|error| in_file(self.path.as_deref(), error))?;
        Ok(run.report)
    }
}

/// An import in progress.
struct Run<'a, E> {
    transaction: &'a Transaction<'a>,
    event: E,
    /// The blocks of the old archive that were read.
    reached: RoaringBitmap,
    /// The streams that were read.
    done: HashSet<Uuid>,
    users: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
    report: Imported,
}

impl<E: FnMut(&ImportEvent<'_>) -> ControlFlow<()>> Run<'_, E> {
    fn everything<R: Read + Seek>(&mut self, old: &mut OldArchive<R>) -> Result<()> {
        self.metadata(old.metadata())?;
        self.entries(old)?;
        self.other_streams(old)?;
        self.check_reached(old.blocks.count())
    }

    fn metadata(&mut self, metadata: &[u8]) -> Result<()> {
        let kept = &metadata[..metadata.len().min(METADATA_MAX)];
        self.report.metadata_cut = metadata.len() - kept.len();
        if kept.is_empty() { Ok(()) } else { self.transaction.set_archive_metadata(kept) }
    }

    fn entries<R: Read + Seek>(&mut self, old: &mut OldArchive<R>) -> Result<()> {
        if let Some(root) = old.entries.get(&Uuid::nil()) {
            let attributes = self.attributes(root).of_registry();
            self.transaction.open.archive.names().set_attributes(InodeNumber::ROOT, attributes)?;
        }
        self.report.deleted = old.entries.values().filter(|entry| entry.is_deleted).count() as u64;
        let mut inodes: Vec<InodeNumber> = Vec::with_capacity(old.placed.nodes.len());
        for number in 0..old.placed.nodes.len() {
            let directory = old.placed.nodes[number].parent;
            let directory = directory.map_or(InodeNumber::ROOT, |parent| inodes[parent]);
            // An entry that is left out is no directory, so that no other entry asks for its number.
            inodes.push(self.entry(old, number, directory)?.unwrap_or(InodeNumber::ROOT));
        }
        for (number, loss) in &old.placed.lost {
            self.lost(&old.placed.path(*number), loss)?;
        }
        Ok(())
    }

    /// Stores one entry. Returns its inode, or `None` if it is left out.
    fn entry<R: Read + Seek>(
        &mut self,
        old: &mut OldArchive<R>,
        number: usize,
        directory: InodeNumber,
    ) -> Result<Option<InodeNumber>> {
        let names = self.transaction.open.archive.names();
        let node = &old.placed.nodes[number];
        let Some(id) = node.entry else {
            let attributes = Attributes::now(0o700).of_registry();
            return Ok(Some(names.make_directory(directory, &node.name, attributes)?));
        };
        let name = node.name.clone();
        let entry = &old.entries[&id];
        let (kind, attributes) = (entry.kind, self.attributes(entry).of_registry());
        let inode = match kind {
            EntryKind::Directory => names.make_directory(directory, &name, attributes)?,
            EntryKind::File { stream: None } => {
                names.add_file(directory, &name, attributes, None)?
            }
            EntryKind::File { stream: Some(stream) } => {
                self.content(old, stream)?;
                names.add_file(directory, &name, attributes, Some(stream))?
            }
            EntryKind::Link { target } => {
                let to = old.placed.number(target);
                let is_found = to.is_some() || target.is_nil();
                let path = if is_found { old.placed.relative(number, to) } else { Vec::new() };
                let (length, limit) = (path.len(), TARGET_MAX);
                let loss = match length {
                    0 => Some(Loss::Target),
                    _ => (length > limit).then_some(Loss::TargetTooLong { length, limit }),
                };
                if let Some(loss) = loss {
                    self.lost(&old.placed.path(number), &loss)?;
                    return Ok(None);
                }
                names.add_symlink(directory, &name, attributes, &path)?
            }
        };
        self.report.entries += 1;
        Ok(Some(inode))
    }

    /// Stores the content of a file, under the identity of its stream.
    fn content<R: Read + Seek>(&mut self, old: &mut OldArchive<R>, stream: Uuid) -> Result<()> {
        let record = old.streams.get(&stream).copied();
        let record = record.ok_or_else(|| {
            damaged(None, Check::Stream, stream, "no stream of this identity in the index")
        })?;
        if self.done.contains(&stream) {
            return Err(damaged(
                record.begin,
                Check::Name,
                "one file for each stream",
                "two files",
            ));
        }
        let file = self.transaction.stream(stream, Mode::parse("x+")?)?;
        self.copy(old, &record, Some(file))
    }

    /// Stores the streams without a name. Follows those of deleted entries, only to check their blocks.
    fn other_streams<R: Read + Seek>(&mut self, old: &mut OldArchive<R>) -> Result<()> {
        let deleted = old.entries.values().filter(|entry| entry.is_deleted);
        let deleted = deleted.filter_map(|entry| match entry.kind {
            EntryKind::File { stream } => stream,
            _ => None,
        });
        let deleted: HashSet<Uuid> = deleted.collect();
        let others = old.streams.values().filter(|record| !self.done.contains(&record.id));
        let others: Vec<StreamRecord> = others.copied().collect();
        for record in others {
            if deleted.contains(&record.id) {
                self.copy(old, &record, None)?;
                continue;
            }
            let mode = if old.kind == OldKind::Single { "r+" } else { "x+" };
            let file = self.transaction.stream(record.id, Mode::parse(mode)?)?;
            if !file.is_empty()? {
                return Err(Error::StreamExists { stream: record.id });
            }
            self.copy(old, &record, Some(file))?;
            self.report.streams += 1;
        }
        Ok(())
    }

    /// Reads a stream, and writes it to a file if there is one.
    fn copy<R: Read + Seek>(
        &mut self,
        old: &mut OldArchive<R>,
        record: &StreamRecord,
        mut file: Option<File<'_>>,
    ) -> Result<()> {
        self.done.insert(record.id);
        let mut piece = Zeroizing::new(Vec::with_capacity(PIECE_BYTES));
        let (event, mut offset) = (&mut self.event, 0);
        let mut write = |piece: &mut Vec<u8>| -> Result<()> {
            if let Some(file) = &mut file {
                file.write_at(offset, piece)?;
                offset += piece.len() as u64;
            }
            let bytes = piece.len() as u64;
            piece.clear();
            going_on(event(&ImportEvent::Read { bytes }))
        };
        let followed = old.each_block(record, Some(&mut self.reached), &mut |bytes| {
            if piece.len() + bytes.len() > PIECE_BYTES {
                write(&mut piece)?;
            }
            piece.extend_from_slice(bytes);
            Ok(())
        })?;
        write(&mut piece)?;
        if file.is_some() {
            self.report.bytes += followed.length;
        }
        if !followed.is_whole {
            self.report.is_closed = false;
            self.lost(&PathBuf::from(record.id.to_string()), &Loss::OpenAtCrash)?;
        }
        Ok(())
    }

    /// Checks that every block belongs to a stream. After a crash, some need not.
    fn check_reached(&mut self, blocks: u32) -> Result<()> {
        let stray = u64::from(blocks) - self.reached.len();
        if stray > 0 && self.report.is_closed {
            let position = (0..blocks).find(|position| !self.reached.contains(*position));
            let position = position.and_then(Position::new);
            return Err(damaged(position, Check::FreeMap, "a block of a stream", "a stray block"));
        }
        self.report.stray_blocks = stray;
        Ok(())
    }

    fn attributes(&mut self, entry: &Entry) -> Attributes {
        let unknown = &mut self.report.unknown_owners;
        let user = number_of(&mut self.users, unknown, &entry.user, |name| {
            Some(User::from_name(name).ok()??.uid.as_raw())
        });
        let group = number_of(&mut self.groups, unknown, &entry.group, |name| {
            Some(Group::from_name(name).ok()??.gid.as_raw())
        });
        let attributes = Attributes::default().with_mode(entry.mode.into());
        attributes.with_owner(user, group).with_modified(entry.modified)
    }

    fn lost(&mut self, path: &Path, loss: &Loss) -> Result<()> {
        self.report.lost += 1;
        going_on((self.event)(&ImportEvent::Lost { path, loss }))
    }
}

/// Returns the number that the system has for the name of a user or group, or 0.
fn number_of(
    known: &mut HashMap<Vec<u8>, Option<u32>>,
    unknown: &mut BTreeSet<String>,
    name: &[u8],
    look_up: impl FnOnce(&str) -> Option<u32>,
) -> u32 {
    if name.is_empty() {
        return 0;
    }
    let number = *known.entry(name.to_vec()).or_insert_with(|| {
        let number = std::str::from_utf8(name).ok().and_then(look_up);
        if number.is_none() {
            unknown.insert(to_path(name.to_vec()).display().to_string());
        }
        number
    });
    number.unwrap_or(0)
}

fn going_on(flow: ControlFlow<()>) -> Result<()> {
    if flow.is_break() { Err(Error::Stopped) } else { Ok(()) }
}
