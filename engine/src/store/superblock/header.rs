//! Reads and writes the copies of the header, and decides which of them counts and which needs repair.

use std::sync::Arc;

use super::places::has_room;
use crate::crypto::{HeaderKey, MasterKey, Sealer, Secret, unwrap_master_key, unwrap_old_key};
use crate::device::Device;
use crate::error::{Check, Error, Result, Value};
use crate::format::{
    BLOCK_SIZE, BLOCK_SIZE_U64, HEADERS, Header, MAGIC, MetaSlot, Position, RESERVED_BLOCKS,
    THIRD_HEADER, UncheckedHeader, has_third_copies, header_digest,
};

/// The header of the file, with its bytes and their digest.
#[derive(Debug, Clone)]
pub(in crate::store) struct KnownHeader {
    pub(in crate::store) header: Arc<Header>,
    pub(in crate::store) bytes: Box<[u8; BLOCK_SIZE]>,
    pub(in crate::store) digest: [u8; 32],
}

impl KnownHeader {
    pub(in crate::store) fn new(header: Header, bytes: Box<[u8; BLOCK_SIZE]>) -> KnownHeader {
        KnownHeader { header: Arc::new(header), digest: header_digest(&bytes), bytes }
    }
}

/// The newest header, authenticated.
#[derive(Debug)]
pub(in crate::store) struct OpenedHeader {
    pub(in crate::store) master: MasterKey,
    /// The old master key, during a rekey.
    pub(in crate::store) old: Option<MasterKey>,
    /// The key slot that the secret opened.
    pub(in crate::store) slot: usize,
    pub(in crate::store) header: Header,
    pub(in crate::store) bytes: Box<[u8; BLOCK_SIZE]>,
    /// Copies that equal it.
    pub(in crate::store) good: Vec<Position>,
    /// Copies that are damaged or older.
    pub(in crate::store) repair: Vec<Position>,
    /// Those copies in `repair` that are authentic but older.
    pub(in crate::store) older: Vec<Position>,
    /// Each copy that was looked at, as it was read.
    found: Vec<(Position, Box<[u8; BLOCK_SIZE]>)>,
}

pub(in crate::store) type Parsed = (Position, Box<[u8; BLOCK_SIZE]>, Result<UncheckedHeader>);

impl OpenedHeader {
    pub(in crate::store) fn known(&self) -> KnownHeader {
        KnownHeader::new(self.header.clone(), self.bytes.clone())
    }

    /// Returns whether the header's positions hold the same as when it was opened.
    pub(in crate::store) fn is_in(&self, device: &dyn Device) -> bool {
        self.found.iter().all(|(position, bytes)| parse(device, *position).1 == *bytes)
    }

    /// Returns a sealer for the reserved blocks. During a rekey it also tries the old master key.
    pub(in crate::store) fn sealer(&self) -> Sealer {
        let sealer = Sealer::new(&self.master, self.header.archive);
        match &self.old {
            Some(old) => sealer.with_old(&Sealer::new(old, self.header.archive), RESERVED_BLOCKS),
            None => sealer,
        }
    }
}

/// Reads both copies, unlocks the newer one, and authenticates both. If neither can be parsed, it takes the third copy.
pub(in crate::store) fn open_header(device: &dyn Device, secret: &Secret) -> Result<OpenedHeader> {
    check_length(device)?;
    let mut copies = Vec::with_capacity(HEADERS.len());
    for position in HEADERS {
        copies.push(parse(device, position));
    }
    let is_lost = |(_, _, parsed): &Parsed| match parsed {
        Ok(_) | Err(Error::NewerFormat { .. }) => false,
        Err(_) => true,
    };
    if copies.iter().all(is_lost) && has_room(device)? {
        copies.push(parse(device, THIRD_HEADER));
    }
    let newest = copies
        .iter()
        .filter_map(|(position, bytes, parsed)| Some((position, bytes, parsed.as_ref().ok()?)))
        .max_by_key(|(position, _, parsed)| (parsed.revision(), std::cmp::Reverse(*position)));
    let Some((_, bytes, unchecked)) = newest else {
        return Err(worst(copies));
    };
    let (master, slot) = unlock(unchecked, &copies, secret)?;
    let key = HeaderKey::derive(&master, unchecked.archive());
    let header = unchecked.clone().authenticate(&key)?;
    let old = header.rekey.as_ref().map(|rekey| unwrap_old_key(&master, rekey, header.archive));
    let old = old.transpose()?;
    let old_key = old.as_ref().map(|old| HeaderKey::derive(old, header.archive));
    let (mut good, mut repair, mut older) = (Vec::new(), Vec::new(), Vec::new());
    for (position, other, parsed) in &copies {
        match parsed {
            // Its checksum is valid. If its code is not, someone without the key wrote it.
            Ok(parsed) if parsed.archive() == unchecked.archive() => {
                let is_old = |key: &HeaderKey| parsed.clone().authenticate(key).is_ok();
                // If a change of the master key has reached only one copy, the other is under the old key.
                if !old_key.as_ref().is_some_and(is_old) {
                    parsed.clone().authenticate(&key)?;
                }
                if other == bytes {
                    good.push(*position);
                } else {
                    repair.push(*position);
                    older.push(*position);
                }
            }
            Ok(parsed) => {
                let (expected, found) = (unchecked.archive(), parsed.archive());
                return Err(Error::tampered(*position, Check::HeaderMac, expected, found));
            }
            Err(_) => repair.push(*position),
        }
    }
    let bytes = bytes.clone();
    let found = copies.into_iter().map(|(position, bytes, _)| (position, bytes)).collect();
    Ok(OpenedHeader { master, old, slot, header, bytes, good, repair, older, found })
}

/// Unlocks the newest copy. The secret may open no slot of the newest copy but one of the other. Then either a holder
/// of the master key removed that slot, and the newest copy is authentic, or the newest copy was tampered with.
fn unlock(
    newest: &UncheckedHeader,
    copies: &[Parsed],
    secret: &Secret,
) -> Result<(MasterKey, usize)> {
    let archive = newest.archive();
    let wrong = match unwrap_master_key(newest.slots(), secret, archive) {
        Err(error @ Error::WrongKey { .. }) => error,
        outcome => return outcome,
    };
    let others = copies.iter().filter_map(|(_, _, parsed)| parsed.as_ref().ok());
    for other in others.filter(|other| other.slots() != newest.slots()) {
        if let Ok((master, _)) = unwrap_master_key(other.slots(), secret, other.archive()) {
            let key = HeaderKey::derive(&master, archive);
            if !newest.is_rekey_of(&key) {
                newest.clone().authenticate(&key)?;
            }
        }
    }
    Err(wrong)
}

/// Compares the header with the one that the meta slot names. An older header is tampering, and a newer authentic one
/// is an unfinished change.
pub(in crate::store) fn check_revision(opened: &OpenedHeader, slot: &MetaSlot) -> Result<()> {
    let found = opened.header.revision;
    let same = found == slot.header_revision && header_digest(&opened.bytes) == slot.header_digest;
    if found > slot.header_revision || same || crate::fault!(AcceptOldHeaders) {
        return Ok(());
    }
    let position = opened.good.first().copied();
    Err(Error::tampered(position, Check::HeaderRevision, slot.header_revision, found))
}

/// Checks that the file holds the reserved blocks. A shorter file is either no archive or a truncated one, which are
/// different errors.
pub(in crate::store) fn check_length(device: &dyn Device) -> Result<()> {
    let found_bytes = device.length_bytes()?;
    let expected_bytes = u64::from(RESERVED_BLOCKS) * BLOCK_SIZE_U64;
    if found_bytes >= expected_bytes {
        return Ok(());
    }
    if found_bytes == 0 {
        return Err(Error::NotAnArchive { found: Value::Text("an empty file") });
    }
    let begin = device.read_beginning(MAGIC.len())?;
    if crate::fault!(ShortFileUnchecked) {
        return Err(Error::NotAnArchive { found: Value::Bytes(begin[..MAGIC.len()].to_vec()) });
    }
    if begin.is_empty() || !MAGIC.starts_with(&begin) {
        return Err(Error::NotAnArchive { found: Value::Bytes(begin) });
    }
    Err(Error::Truncated { expected_bytes, found_bytes })
}

pub(in crate::store) fn parse(device: &dyn Device, position: Position) -> Parsed {
    let mut bytes = Box::new([0; BLOCK_SIZE]);
    let parsed = device
        .read(position, &mut bytes[..])
        .and_then(|()| UncheckedHeader::parse(position, &bytes));
    (position, bytes, parsed)
}

/// Returns the error when no copy parses: that of the first copy that starts like a header. If none does, the file is
/// not an archive.
fn worst(copies: Vec<Parsed>) -> Error {
    let mut errors: Vec<Error> =
        copies.into_iter().filter_map(|(_, _, parsed)| parsed.err()).collect();
    let begun = errors.iter().position(|error| !matches!(error, Error::NotAnArchive { .. }));
    errors.swap_remove(begun.unwrap_or(0))
}

/// Writes every copy of the header, with a sync after the first and one after the others, so that a crash never tears
/// all. Once it returns, no copy has a key slot of an older header.
pub(in crate::store) fn write_headers(
    device: &dyn Device,
    bytes: &[u8; BLOCK_SIZE],
    block_count: u32,
) -> Result<()> {
    write_header_copies(device, bytes, &HEADERS, block_count)
}

/// Writes the copies of the header at `positions`, with a sync after each. The third copy is written before the last
/// sync, if the archive has it.
pub(in crate::store) fn write_header_copies(
    device: &dyn Device,
    bytes: &[u8; BLOCK_SIZE],
    positions: &[Position],
    block_count: u32,
) -> Result<()> {
    for (left, position) in (0..positions.len()).rev().zip(positions) {
        device.write(*position, &bytes[..])?;
        if left == 0 && has_third_copies(block_count) && !crate::fault!(StaleThirdHeader) {
            device.write(THIRD_HEADER, &bytes[..])?;
        }
        device.sync()?;
    }
    Ok(())
}
