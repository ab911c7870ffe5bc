//! The records of an old archive: streams, entries, and the header of a file system.

use std::io::{Read, Seek};

use ar7_engine::Check;
use ar7_engine::format::{DATA_SIZE_U64, Position};
use uuid::Uuid;

use super::blocks::Blocks;
use super::damaged;
use super::fields::Fields;
use crate::error::Result;
use crate::records::Timestamp;

/// Length of a stream record.
pub(super) const STREAM_BYTES: usize = 38;

/// Length of the header of a file system.
pub(super) const HEADER_BYTES: usize = 344;

/// The record of a stream whose chain was not followed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamRecord {
    pub(super) id: Uuid,
    pub(super) begin: Position,
    pub(super) end: Position,
    pub(super) count: u32,
    pub(super) length: u64,
}

impl StreamRecord {
    /// Parses the record of the stream `id`, which is in the block at `position`.
    pub(super) fn parse<R: Read + Seek>(
        blocks: &Blocks<R>,
        position: Position,
        id: Uuid,
        bytes: &[u8],
    ) -> Result<StreamRecord> {
        let mut fields = Fields::new(bytes);
        let found = fields.uuid();
        if found != id {
            return Err(damaged(position, Check::Stream, id, found));
        }
        let mut place = || {
            let field = fields.i32();
            let place = blocks.position(field);
            let expected = "a block of the file other than the first";
            place.ok_or_else(|| damaged(position, Check::Record, expected, field))
        };
        let (begin, end) = (place()?, place()?);
        let (count, length, compression) = (fields.u32(), fields.u64(), fields.u16());
        if !(1..blocks.count()).contains(&count) {
            return Err(damaged(position, Check::Record, 1..=blocks.count() - 1, count));
        }
        let most = DATA_SIZE_U64 * u64::from(count);
        if length > most {
            return Err(damaged(position, Check::Length, 0..=most, length));
        }
        if compression != 0 {
            return Err(damaged(position, Check::Record, "no compression", compression));
        }
        Ok(StreamRecord { id, begin, end, count, length })
    }

    /// Returns whether a record in the first block can be that of special stream `number`.
    pub(super) fn fits<R: Read + Seek>(blocks: &Blocks<R>, number: usize, bytes: &[u8]) -> bool {
        let mut fields = Fields::new(bytes);
        fields.uuid() == special(number)
            && blocks.position(fields.i32()).is_some()
            && blocks.position(fields.i32()).is_some()
    }
}

/// Returns the identity of a special stream.
pub(super) fn special(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

/// All permission bits. The format has no others.
const MODE_MAX: u16 = 0o777;

/// An entry as it is stored.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    pub(super) parent: Uuid,
    pub(super) modified: Timestamp,
    pub(super) is_deleted: bool,
    pub(super) name: Vec<u8>,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
    pub(super) mode: u16,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A file that was never opened has no stream.
    File {
        stream: Option<Uuid>,
    },
    Directory,
    /// A link names the entry that it leads to.
    Link {
        target: Uuid,
    },
}

impl Entry {
    /// Parses the entry `id`. `position` is for errors.
    pub(super) fn parse(position: Position, id: Uuid, bytes: &[u8]) -> Result<Entry> {
        let mut fields = Fields::new(bytes);
        let [letter] = fields.array();
        let found = fields.uuid();
        if found != id {
            return Err(damaged(position, Check::Name, id, found));
        }
        let (parent, owner, stream) = (fields.uuid(), fields.uuid(), fields.uuid());
        let (_created, modified, _length) = (fields.i64(), fields.i64(), fields.u64());
        let kind = match letter {
            b'f' => EntryKind::File { stream: Some(stream).filter(|stream| !stream.is_nil()) },
            b'd' => EntryKind::Directory,
            b'l' => EntryKind::Link { target: owner },
            _ => return Err(damaged(position, Check::Name, "type f, d or l", letter)),
        };
        let [deleted] = fields.array();
        let (name, user, group) = (fields.text::<256>(), fields.text::<32>(), fields.text::<16>());
        let mode = fields.u16();
        // An entry whose owner is unknown becomes root's, so a set-user-ID bit must not get through.
        if mode > MODE_MAX {
            return Err(damaged(position, Check::Name, 0..=MODE_MAX, mode));
        }
        let (modified, is_deleted) = (Timestamp::new(modified, 0), deleted != 0);
        Ok(Entry { kind, parent, modified, is_deleted, name, user, group, mode })
    }
}

/// The header of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// Version of the format: major and minor number.
    pub version: (u16, u16),
    /// Identity of the archive.
    pub id: Uuid,
    /// Identity of the owner.
    pub owner: Uuid,
    /// Identity of the domain.
    pub domain: Uuid,
    /// Identity of the node.
    pub node: Uuid,
    /// Time of the creation.
    pub created: Timestamp,
    /// The title. It should be UTF-8.
    pub title: Vec<u8>,
}

impl Header {
    /// Parses the begin of the metadata. Returns `None` if there is no header.
    pub(super) fn parse(metadata: &[u8]) -> Option<Header> {
        let mut fields = Fields::new(metadata.first_chunk::<HEADER_BYTES>()?);
        if &fields.array() != b"archive7a" {
            return None;
        }
        let version = (fields.u16(), fields.u16());
        let _type_role_use: [u8; 3] = fields.array();
        let (id, owner, domain, node) =
            (fields.uuid(), fields.uuid(), fields.uuid(), fields.uuid());
        let created = i64::try_from(fields.u64()).unwrap_or(i64::MAX);
        let created = Timestamp::new(created, 0);
        Some(Header { version, id, owner, domain, node, created, title: fields.text::<256>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// Length of the value of an entry.
    const ENTRY_BYTES: usize = 396;

    #[test]
    fn an_entry_has_permission_bits_and_no_others() {
        let parse = |mode: u16| {
            let mut bytes = [0; ENTRY_BYTES];
            bytes[0] = b'f';
            bytes[ENTRY_BYTES - 2..].copy_from_slice(&mode.to_be_bytes());
            Entry::parse(Position::at(3), Uuid::nil(), &bytes)
        };
        assert_eq!(parse(0o777).unwrap().mode, 0o777);
        for mode in [0o1000, 0o4755, u16::MAX] {
            assert!(matches!(parse(mode), Err(Error::Damaged(_))), "{mode:o}");
        }
    }
}
