//! The content of an archive as plain values.

use std::collections::BTreeMap;
use std::fmt;

use ar7_engine::format::{DATA_SIZE_U64, RESERVED_BLOCKS, Timestamp};
use ar7_registry::names::Entry;
use ar7_registry::records::{Attributes, EntryType, Inode, InodeNumber};
use ar7_registry::{Archive, Error, Finding, RESERVED_STREAMS, Snapshot, Stream, Subject};
use uuid::Uuid;

/// The complete content of an archive.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The bytes of each stream.
    pub streams: BTreeMap<Uuid, Vec<u8>>,
    /// The data of whole blocks beyond the end of a stream, for each stream that has any.
    pub beyond: BTreeMap<Uuid, Vec<u8>>,
    /// The inode of each path.
    pub names: BTreeMap<Vec<u8>, InodeNumber>,
    /// The inodes that have names. The root has none.
    pub nodes: BTreeMap<InodeNumber, Node>,
    /// The application's metadata.
    pub metadata: Vec<u8>,
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The type.
    pub kind: EntryType,
    /// The number of names.
    pub links: u32,
    /// The length in bytes as stated in the inode.
    pub size: u64,
    /// The stream of a file or of a long target; `None` for a directory or an empty file.
    pub stream: Option<Uuid>,
    /// The target of a symbolic link, if it is short.
    pub target: Option<Vec<u8>>,
    /// The content of a file, if it is packed.
    pub packed: Option<Vec<u8>>,
}

impl Node {
    /// Creates a new inode with one name.
    pub(super) fn new(kind: EntryType) -> Node {
        Node { kind, links: 1, size: 0, stream: None, target: None, packed: None }
    }

    fn of(snapshot: &Snapshot, inode: Inode) -> Result<Node, Error> {
        let content = inode.slice.and_then(|_| snapshot.read_file(&inode).transpose());
        let packed = content.transpose()?.map(|content| {
            let mut bytes = vec![0; usize::try_from(content.len()).expect("a small file")];
            content.read_at(0, &mut bytes)?;
            Ok::<_, Error>(bytes)
        });
        let Inode { kind, links, size, stream, target, .. } = inode;
        Ok(Node { kind, links, size, stream, target, packed: packed.transpose()? })
    }
}

/// Shows runs of one byte as their length and the byte.
impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (map, place) in [(&self.streams, ""), (&self.beyond, " beyond its end")] {
            for (identity, bytes) in map {
                write!(formatter, "{identity}{place}:")?;
                for run in bytes.chunk_by(|a, b| a == b) {
                    write!(formatter, " {}x{}", run.len(), run[0])?;
                }
                formatter.write_str("; ")?;
            }
        }
        for (path, number) in &self.names {
            write!(formatter, "{} -> {}", path.escape_ascii(), number.0)?;
            if let Some(Node { kind, links, size, stream, target, packed }) = self.nodes.get(number)
            {
                if let Some(packed) = packed {
                    write!(formatter, " packed")?;
                    for run in packed.chunk_by(|a, b| a == b) {
                        write!(formatter, " {}x{}", run.len(), run[0])?;
                    }
                }
                write!(formatter, " {kind:?} links {links} size {size}")?;
                if let Some(stream) = stream {
                    write!(formatter, " in {stream}")?;
                }
                if let Some(target) = target {
                    write!(formatter, " to {}", target.escape_ascii())?;
                }
            }
            formatter.write_str("; ")?;
        }
        write!(formatter, "metadata {:?}", self.metadata)
    }
}

/// The reason why the content could not be read.
#[derive(Debug)]
pub enum Unreadable {
    /// Reading failed.
    Error(Error),
    /// Everything was readable, but verification found inconsistencies.
    Findings(Vec<Finding>),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Error(error) => error.fmt(formatter),
            Unreadable::Findings(findings) => {
                let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
                formatter.write_str(&lines.join("; "))
            }
        }
    }
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Unreadable {
        Unreadable::Error(error)
    }
}

impl Content {
    /// Verifies the archive and reads all of it. One bad copy of a meta slot or of the header in front is allowed, because
    /// the other copy is good, and it may be torn. A fault in a third copy is not: no crash leaves one.
    pub fn verified(archive: &Archive) -> Result<Content, Unreadable> {
        let mut findings = Vec::new();
        let mut note = |finding: Finding| match finding.subject {
            Subject::MetaSlot(at) | Subject::Header(at) if at.get() < RESERVED_BLOCKS => {}
            _ => findings.push(finding),
        };
        archive.verify(&mut note, &mut |_| {})?;
        if !findings.is_empty() {
            return Err(Unreadable::Findings(findings));
        }
        Ok(Content::read(archive)?)
    }

    /// Reads the committed content.
    pub fn read(archive: &Archive) -> Result<Content, Error> {
        let mut content = Content { metadata: archive.metadata()?, ..Content::default() };
        for stored in archive.streams(None, usize::MAX)? {
            content.note_stream(&mut archive.read_stream(stored.record.identity)?)?;
        }
        let snapshot = archive.snapshot();
        let reserved = &snapshot.commit().slot.reserved_streams;
        for index in (0..RESERVED_STREAMS).filter(|&index| reserved[index].record.count > 0) {
            match archive.reserved_stream(index) {
                Ok(mut stream) if stream.len()? > 0 => content.note_stream(&mut stream)?,
                // A stream that the archive reserves for itself, or an empty one.
                Ok(_) | Err(Error::NoReservedStream { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        content.note_names(archive, &snapshot)?;
        Ok(content)
    }

    fn note_stream(&mut self, stream: &mut Stream) -> Result<(), Error> {
        let identity = stream.identity();
        self.streams.insert(identity, bytes_of(stream)?);
        let needed = u32::try_from(stream.len()?.div_ceil(DATA_SIZE_U64)).unwrap_or(u32::MAX);
        for index in needed..stream.count()? {
            stream.wind(index)?;
            if let Some(data) = stream.data()? {
                self.beyond.entry(identity).or_default().extend_from_slice(&data[..]);
            }
        }
        Ok(())
    }

    fn note_names(&mut self, archive: &Archive, snapshot: &Snapshot) -> Result<(), Error> {
        let names = archive.names();
        let mut waiting = vec![(InodeNumber::ROOT, Vec::new())];
        while let Some((directory, path)) = waiting.pop() {
            for Entry { name, inode: number, kind } in names.list(directory, None, usize::MAX)? {
                let path = [&path[..], b"/", &name[..]].concat();
                if let Some(inode) = names.inode(number)? {
                    self.nodes.insert(number, Node::of(snapshot, inode)?);
                }
                self.names.insert(path.clone(), number);
                if kind == EntryType::Directory {
                    waiting.push((number, path));
                }
            }
        }
        Ok(())
    }
}

fn bytes_of(stream: &Stream) -> Result<Vec<u8>, Error> {
    let length = usize::try_from(stream.len()?).expect("a small stream");
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        let offset = u64::try_from(done).expect("an offset in memory");
        match stream.read_at(offset, &mut bytes[done..])? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Returns the stream with this number. The target of a symbolic link is not chosen, because it is written only once.
pub(super) fn chosen(model: &Content, number: u32) -> Option<Uuid> {
    let links = model.nodes.values().filter(|node| node.kind == EntryType::Symlink);
    let targets: Vec<Uuid> = links.filter_map(|node| node.stream).collect();
    let all: Vec<Uuid> =
        model.streams.keys().filter(|identity| !targets.contains(identity)).copied().collect();
    nth(&all, number).copied()
}

/// Returns the item with this number, modulo the number of items.
pub(super) fn nth<T>(all: &[T], number: u32) -> Option<&T> {
    usize_of(number).checked_rem(all.len()).map(|at| &all[at])
}

/// Returns the attributes of every new file, directory and link.
pub(crate) fn attributes() -> Attributes {
    let modified = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    Attributes { mode: 0o644, uid: 1, gid: 2, modified, origin: None }
}

pub(super) fn usize_of(number: u32) -> usize {
    usize::try_from(number).expect("a number of 32 bits fits")
}
