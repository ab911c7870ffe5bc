//! The two copies of the header: which counts, and whether the other needs mending.

use crate::crypto::{HeaderKey, MasterKey, Secret, unwrap_master_key};
use crate::device::Device;
use crate::error::{Check, Error, Result, Value};
use crate::format::{
    BLOCK_SIZE, BLOCK_SIZE_U64, Header, MAGIC, MetaSlot, Position, RESERVED_BLOCKS,
    UncheckedHeader, header_digest,
};

/// Positions of the header and of its copy.
pub(super) const HEADERS: [Position; 2] = [Position::at(0), Position::at(7)];

/// The header that counts, authenticated.
#[derive(Debug)]
pub(super) struct OpenedHeader {
    pub(super) master: MasterKey,
    pub(super) header: Header,
    pub(super) bytes: Box<[u8; BLOCK_SIZE]>,
    /// Copies that are damaged or older.
    pub(super) mend: Vec<Position>,
}

type Parsed = (Position, Box<[u8; BLOCK_SIZE]>, Result<UncheckedHeader>);

/// Reads both copies, unlocks the newer, and authenticates both.
pub(super) fn open_header(device: &dyn Device, secret: &Secret) -> Result<OpenedHeader> {
    check_length(device)?;
    let mut copies = Vec::with_capacity(HEADERS.len());
    for position in HEADERS {
        copies.push(parse(device, position));
    }
    let newest = copies
        .iter()
        .filter_map(|(position, bytes, parsed)| Some((position, bytes, parsed.as_ref().ok()?)))
        .max_by_key(|(position, _, parsed)| (parsed.revision(), std::cmp::Reverse(*position)));
    let Some((_, bytes, unchecked)) = newest else {
        return Err(worst(copies));
    };
    let (master, _) = unwrap_master_key(unchecked.slots(), secret, unchecked.archive())?;
    let key = HeaderKey::derive(&master, unchecked.archive());
    let mut mend = Vec::new();
    for (position, other, parsed) in &copies {
        match parsed {
            // Its checksum holds and its code does not: somebody without the key wrote it.
            Ok(parsed) if parsed.archive() == unchecked.archive() => {
                parsed.clone().authenticate(&key)?;
                if other != bytes {
                    mend.push(*position);
                }
            }
            Ok(parsed) => {
                let (expected, found) = (unchecked.archive(), parsed.archive());
                return Err(Error::tampered(*position, Check::HeaderMac, expected, found));
            }
            Err(_) => mend.push(*position),
        }
    }
    let header = unchecked.clone().authenticate(&key)?;
    Ok(OpenedHeader { master, header, bytes: bytes.clone(), mend })
}

/// The meta slot names the header that was there when it was written: an older one put back is tampering,
/// a newer valid one is a change under way.
pub(super) fn check_revision(opened: &OpenedHeader, slot: &MetaSlot) -> Result<()> {
    let found = opened.header.revision;
    let same = found == slot.header_revision && header_digest(&opened.bytes) == slot.header_digest;
    if found > slot.header_revision || same {
        return Ok(());
    }
    Err(Error::tampered(HEADERS[0], Check::HeaderRevision, slot.header_revision, found))
}

/// A file too short for a header is told apart: no archive at all, or the beginning of one.
fn check_length(device: &dyn Device) -> Result<()> {
    let found_bytes = device.length_bytes()?;
    let expected_bytes = u64::from(RESERVED_BLOCKS) * BLOCK_SIZE_U64;
    if found_bytes >= expected_bytes {
        return Ok(());
    }
    if found_bytes == 0 {
        return Err(Error::NotAnArchive { found: Value::Text("an empty file") });
    }
    let begin = device.read_beginning(MAGIC.len())?;
    if begin.is_empty() || !MAGIC.starts_with(&begin) {
        return Err(Error::NotAnArchive { found: Value::Bytes(begin) });
    }
    Err(Error::Truncated { expected_bytes, found_bytes })
}

fn parse(device: &dyn Device, position: Position) -> Parsed {
    let mut bytes = Box::new([0; BLOCK_SIZE]);
    let parsed = device
        .read(position, &mut bytes[..])
        .and_then(|()| UncheckedHeader::parse(position, &bytes));
    (position, bytes, parsed)
}

/// When no copy parses: a newer format if both say so, no archive if the first is none, else damage.
fn worst(copies: Vec<Parsed>) -> Error {
    let mut errors: Vec<Error> =
        copies.into_iter().filter_map(|(_, _, parsed)| parsed.err()).collect();
    let all_of = |kind: fn(&Error) -> bool| errors.iter().all(kind);
    if all_of(|error| matches!(error, Error::NotAnArchive { .. }))
        || all_of(|error| matches!(error, Error::NewerFormat { .. }))
    {
        return errors.swap_remove(0);
    }
    let damage = errors.iter().position(|error| !matches!(error, Error::NotAnArchive { .. }));
    errors.swap_remove(damage.unwrap_or(0))
}
