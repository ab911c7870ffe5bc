//! What an archive holds, as plain values.

use std::collections::BTreeMap;
use std::fmt;

use ar7_registry::names::Entry;
use ar7_registry::records::{EntryType, InodeNumber};
use ar7_registry::{Archive, Error, Finding, RESERVED_STREAMS, Stream, Subject};
use uuid::Uuid;

/// Everything that an archive holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The bytes of each stream.
    pub streams: BTreeMap<Uuid, Vec<u8>>,
    /// The stream that each path names; none for a directory or an empty file.
    pub names: BTreeMap<Vec<u8>, Option<Uuid>>,
    /// The application's metadata.
    pub metadata: Vec<u8>,
}

/// Runs of one byte are shown as their length and the byte.
impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (identity, bytes) in &self.streams {
            write!(formatter, "{identity}:")?;
            for run in bytes.chunk_by(|a, b| a == b) {
                write!(formatter, " {}x{}", run.len(), run[0])?;
            }
            formatter.write_str("; ")?;
        }
        for (path, stream) in &self.names {
            write!(formatter, "{}", path.escape_ascii())?;
            if let Some(stream) = stream {
                write!(formatter, " -> {stream}")?;
            }
            formatter.write_str("; ")?;
        }
        write!(formatter, "metadata {:?}", self.metadata)
    }
}

/// Why the content could not be had.
#[derive(Debug)]
pub enum Unreadable {
    /// Reading failed.
    Error(Error),
    /// Everything was read, but something does not agree.
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
    /// Verifies the archive and reads all of it. One copy of a meta slot or of the header may be bad: that is why
    /// there are two.
    pub fn verified(archive: &Archive) -> Result<Content, Unreadable> {
        let mut findings = Vec::new();
        let mut note = |finding: Finding| {
            if !matches!(finding.subject, Subject::MetaSlot(_) | Subject::Header(_)) {
                findings.push(finding);
            }
        };
        archive.verify(&mut note, &mut |_| {})?;
        if !findings.is_empty() {
            return Err(Unreadable::Findings(findings));
        }
        Ok(Content::read(archive)?)
    }

    /// Reads everything that is committed.
    pub fn read(archive: &Archive) -> Result<Content, Error> {
        let mut content = Content { metadata: archive.metadata()?, ..Content::default() };
        for stored in archive.streams(None, usize::MAX)? {
            let identity = stored.record.identity;
            content.streams.insert(identity, bytes_of(&archive.read_stream(identity)?)?);
        }
        let snapshot = archive.snapshot();
        let reserved = &snapshot.commit().slot.reserved_streams;
        for index in (0..RESERVED_STREAMS).filter(|&index| reserved[index].record.count > 0) {
            match archive.reserved_stream(index) {
                Ok(stream) if stream.len()? > 0 => {
                    content.streams.insert(stream.identity(), bytes_of(&stream)?);
                }
                // The archive keeps it to itself, or nothing is in it.
                Ok(_) | Err(Error::NoReservedStream { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut waiting = vec![(InodeNumber::ROOT, Vec::new())];
        while let Some((directory, path)) = waiting.pop() {
            let names = archive.names();
            for Entry { name, inode, kind } in names.list(directory, None, usize::MAX)? {
                let path = [&path[..], b"/", &name[..]].concat();
                let stream = names.inode(inode)?.and_then(|inode| inode.stream);
                content.names.insert(path.clone(), stream);
                if kind == EntryType::Directory {
                    waiting.push((inode, path));
                }
            }
        }
        Ok(content)
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
