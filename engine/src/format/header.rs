//! The header, in plaintext, so that a reader can distinguish a newer format, a wrong key and damage.
//!
//! This file has no keys. `crypto/header_code.rs` computes and checks the header's authentication code.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::features::Features;
use super::key_slot::{KEY_SLOTS, KeySlot, key_slot_layout};
use super::{BLOCK_SIZE, Position};
use crate::error::{Check, Error, Result, Value};

crate::layout! {
    /// The header, at position 0, and its copy at position 7.
    pub mod header_layout, 4096 => {
        MAGIC: 16, "89 \"ar7 archive\" 0d 0a 1a 0a";
        VERSION: 4, "u32: version of the format, 1";
        LENGTH: 4, "u32: number of bytes in use from the start of the header, the tail included; at least 2136";
        FEATURES: 24, "three u64: compatible, readable, required";
        ARCHIVE: 16, "UUID of the archive";
        KIND: 1, "u8: 1 single, 2 fixed, 3 dynamic";
        RESERVED: 3, "0";
        CREATED_SECONDS: 8, "i64: time of creation, seconds since 1970";
        CREATED_NANOSECONDS: 4, "u32: and nanoseconds";
        REVISION: 8, "u64: raised by every change of the header";
        SLOTS: KEY_SLOTS * key_slot_layout::SIZE, "eight key slots";
        TAIL: 1788, "fields of later versions up to LENGTH, kept on rewriting; then zeros";
        REKEY: rekey_layout::SIZE, "the rekey in progress; zeros if there is none";
        MAC: 32, "HMAC-SHA256 of everything before, under the header key";
        CHECKSUM: 32, "SHA-256 of everything before";
    }
}

crate::layout! {
    /// The record of a rekey in progress.
    pub mod rekey_layout, 108 => {
        NUMBER: 4, "u32: number of the new master key, which the key slots wrap; 0 if no rekey is in progress";
        NONCE: 24, "nonce of the wrapping";
        WRAPPED: 48, "the old master key, sealed with XChaCha20-Poly1305 under a key of the new one";
        CODE: 32, "HMAC-SHA256 of everything before, under the header key of the old master key";
    }
}

/// The first bytes of an archive.
pub const MAGIC: [u8; 16] = *b"\x89ar7 archive\r\n\x1a\n";

/// Version of the format that this program writes.
pub const VERSION: u32 = 1;

const _: () = assert!(header_layout::TAIL.offset == 2136, "the smallest LENGTH, as documented");

/// Maximum nanoseconds of a time.
const NANOSECONDS_MAX: u32 = 999_999_999;

/// A time: seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Returns the current time.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        }
    }
}

/// How many streams an archive has, and whether they may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveKind {
    /// Exactly one stream.
    #[doc(alias = "STREAM_DATA")]
    Single = 1,
    /// A set of streams, fixed at creation.
    Fixed = 2,
    /// Streams can be created and deleted at any time.
    Dynamic = 3,
}

impl ArchiveKind {
    /// Returns the kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            ArchiveKind::Single => "single",
            ArchiveKind::Fixed => "fixed",
            ArchiveKind::Dynamic => "dynamic",
        }
    }
}

/// The header of an archive, in block 0 and copied to block 7.
#[doc(alias = "BLOCK_META")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Feature sets.
    pub features: Features,
    /// The archive's identity.
    pub archive: Uuid,
    /// The kind of archive.
    pub kind: ArchiveKind,
    /// Time of creation.
    pub created: Timestamp,
    /// Raised by every change of the header.
    pub revision: u64,
    /// The key slots.
    pub slots: [KeySlot; KEY_SLOTS],
    /// The rekey in progress.
    pub rekey: Option<Rekey>,
    /// Fields of later versions, of the length that the header gives.
    tail: Vec<u8>,
}

/// A rekey in progress: the key slots wrap the new master key, and the new master key opens the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rekey {
    /// Number of the new master key, from 1.
    pub number: u32,
    /// Nonce of the wrapping.
    pub nonce: [u8; 24],
    /// The sealed old master key.
    pub wrapped: [u8; 48],
    /// Code of the header under the old master key, which proves that its holder started the rekey.
    pub code: [u8; 32],
}

impl Header {
    /// Creates the header of a new archive, revision 1.
    pub fn new(
        archive: Uuid,
        kind: ArchiveKind,
        created: Timestamp,
        slots: [KeySlot; KEY_SLOTS],
    ) -> Header {
        let tail = Vec::new();
        let (features, rekey) = (Features::default(), None);
        Header { features, archive, kind, created, revision: 1, slots, rekey, tail }
    }

    /// Encodes every field except the last two, the authentication code and the checksum.
    pub(crate) fn encode_fields(&self) -> Box<[u8; BLOCK_SIZE]> {
        let mut bytes = Box::new([0; BLOCK_SIZE]);
        let all = &mut bytes[..];
        header_layout::MAGIC.put(all, &MAGIC);
        header_layout::VERSION.put(all, &VERSION.to_be_bytes());
        put_length(all, header_layout::TAIL.offset + self.tail.len());
        header_layout::FEATURES.put(all, &self.features.encode());
        header_layout::ARCHIVE.put(all, self.archive.as_bytes());
        header_layout::KIND.put(all, &[self.kind as u8]);
        header_layout::CREATED_SECONDS.put(all, &self.created.seconds.to_be_bytes());
        header_layout::CREATED_NANOSECONDS.put(all, &self.created.nanoseconds.to_be_bytes());
        header_layout::REVISION.put(all, &self.revision.to_be_bytes());
        let slots = header_layout::SLOTS.of_mut(all).chunks_exact_mut(key_slot_layout::SIZE);
        for (slot, bytes) in self.slots.iter().zip(slots) {
            bytes.copy_from_slice(&slot.encode());
        }
        header_layout::TAIL.of_mut(all)[..self.tail.len()].copy_from_slice(&self.tail);
        if let Some(rekey) = &self.rekey {
            let record = header_layout::REKEY.of_mut(all);
            rekey_layout::NUMBER.put(record, &rekey.number.to_be_bytes());
            rekey_layout::NONCE.put(record, &rekey.nonce);
            rekey_layout::WRAPPED.put(record, &rekey.wrapped);
            rekey_layout::CODE.put(record, &rekey.code);
        }
        bytes
    }
}

fn put_length(bytes: &mut [u8], length: usize) {
    let length = u32::try_from(length).expect("a header is one block");
    header_layout::LENGTH.put(bytes, &length.to_be_bytes());
}

/// Offset of [`Rekey::code`] in the header.
pub(crate) const REKEY_CODE_OFFSET: usize = header_layout::REKEY.offset + rekey_layout::CODE.offset;

/// Computes SHA-256 of everything before [`header_layout::CHECKSUM`].
pub(crate) fn header_checksum(bytes: &[u8; BLOCK_SIZE]) -> [u8; 32] {
    Sha256::digest(&bytes[..header_layout::CHECKSUM.offset]).into()
}

/// Computes the digest of a header, which the meta slot records.
pub fn header_digest(bytes: &[u8; BLOCK_SIZE]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A header with a valid checksum and fields within bounds, but not authenticated: anyone may have written it.
#[derive(Debug, Clone)]
pub struct UncheckedHeader {
    header: Header,
    bytes: Box<[u8; BLOCK_SIZE]>,
    position: Position,
}

impl UncheckedHeader {
    /// Parses a header. A file that is not an archive, a newer format and damage are distinct errors, checked in this
    /// order.
    pub fn parse(position: Position, bytes: &[u8; BLOCK_SIZE]) -> Result<UncheckedHeader> {
        if header_layout::MAGIC.of(bytes) != MAGIC {
            let found = Value::Bytes(header_layout::MAGIC.of(bytes).to_vec());
            return Err(Error::NotAnArchive { found });
        }
        let version = header_layout::VERSION.u32(bytes);
        if version > VERSION {
            return Err(Error::NewerFormat {
                what: "format version",
                found: version.into(),
                supported: VERSION.into(),
            });
        }
        let features = Features::decode(header_layout::FEATURES.array(bytes));
        features.check_readable()?;
        let checksum = header_checksum(bytes);
        if header_layout::CHECKSUM.of(bytes) != checksum {
            return Err(Error::damaged(
                position,
                Check::HeaderChecksum,
                Value::Bytes(checksum[..8].to_vec()),
                Value::Bytes(header_layout::CHECKSUM.of(bytes)[..8].to_vec()),
            ));
        }
        let header = parse_fields(position, features, bytes)?;
        Ok(UncheckedHeader { header, bytes: Box::new(*bytes), position })
    }

    /// Returns the archive's UUID, needed to unwrap the master key.
    pub fn archive(&self) -> Uuid {
        self.header.archive
    }

    /// Returns the key slots.
    pub fn slots(&self) -> &[KeySlot; KEY_SLOTS] {
        &self.header.slots
    }

    /// Fails if this program cannot write the archive.
    pub fn check_writable(&self) -> Result<()> {
        self.header.features.check_writable()
    }

    /// Returns the header's revision.
    pub fn revision(&self) -> u64 {
        self.header.revision
    }

    /// Returns the rekey in progress.
    pub fn rekey(&self) -> Option<&Rekey> {
        self.header.rekey.as_ref()
    }

    /// Returns the block that was parsed.
    pub(crate) fn bytes(&self) -> &[u8; BLOCK_SIZE] {
        &self.bytes
    }

    /// Returns the block's position.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Returns the header. The caller has checked the authentication code.
    pub(crate) fn into_authenticated(self) -> Header {
        self.header
    }
}

fn parse_fields(
    position: Position,
    features: Features,
    bytes: &[u8; BLOCK_SIZE],
) -> Result<Header> {
    if header_layout::VERSION.u32(bytes) == 0 {
        return Err(Error::damaged(position, Check::HeaderField, VERSION, 0_u32));
    }
    let tail = parse_tail(position, bytes)?;
    let kind = match header_layout::KIND.array(bytes) {
        [1] => ArchiveKind::Single,
        [2] => ArchiveKind::Fixed,
        [3] => ArchiveKind::Dynamic,
        [0] => return Err(Error::damaged(position, Check::HeaderField, "a kind of archive", 0_u8)),
        [kind] => {
            return Err(Error::NewerFormat {
                what: "kind of archive",
                found: kind.into(),
                supported: (ArchiveKind::Dynamic as u8).into(),
            });
        }
    };
    if header_layout::RESERVED.of(bytes).iter().any(|&byte| byte != 0) {
        return Err(Error::damaged(position, Check::Reserved, "zeros", "other bytes"));
    }
    let nanoseconds = header_layout::CREATED_NANOSECONDS.u32(bytes);
    if nanoseconds > NANOSECONDS_MAX {
        let expected = 0..=NANOSECONDS_MAX;
        return Err(Error::damaged(position, Check::HeaderField, expected, nanoseconds));
    }
    let mut slots = std::array::from_fn(|_| KeySlot::Empty);
    let encoded = header_layout::SLOTS.of(bytes).chunks_exact(key_slot_layout::SIZE);
    for (slot, encoded) in slots.iter_mut().zip(encoded) {
        let encoded = encoded.try_into().expect("a chunk of the length of a slot");
        *slot = KeySlot::decode(position, encoded)?;
    }
    Ok(Header {
        features,
        archive: Uuid::from_bytes(header_layout::ARCHIVE.array(bytes)),
        kind,
        created: Timestamp {
            seconds: i64::from_be_bytes(header_layout::CREATED_SECONDS.array(bytes)),
            nanoseconds,
        },
        revision: header_layout::REVISION.u64(bytes),
        slots,
        rekey: parse_rekey(position, bytes)?,
        tail,
    })
}

fn parse_rekey(position: Position, bytes: &[u8; BLOCK_SIZE]) -> Result<Option<Rekey>> {
    let record = header_layout::REKEY.of(bytes);
    let number = rekey_layout::NUMBER.u32(record);
    if number == 0 {
        if record.iter().any(|&byte| byte != 0) {
            return Err(Error::damaged(position, Check::Reserved, "zeros", "other bytes"));
        }
        return Ok(None);
    }
    Ok(Some(Rekey {
        number,
        nonce: rekey_layout::NONCE.array(record),
        wrapped: rekey_layout::WRAPPED.array(record),
        code: rekey_layout::CODE.array(record),
    }))
}

/// Returns the bytes in use after the known fields. Fails if the bytes after those are not zeros.
fn parse_tail(position: Position, bytes: &[u8; BLOCK_SIZE]) -> Result<Vec<u8>> {
    let found = header_layout::LENGTH.u32(bytes);
    let tail = header_layout::TAIL;
    let length = usize::try_from(found).ok().and_then(|length| length.checked_sub(tail.offset));
    let split = length.and_then(|length| tail.of(bytes).split_at_checked(length));
    let Some((used, unused)) = split else {
        return Err(Error::damaged(position, Check::Length, tail.offset..=tail.end(), found));
    };
    if unused.iter().any(|&byte| byte != 0) {
        return Err(Error::damaged(position, Check::Reserved, "zeros", "other bytes"));
    }
    Ok(used.to_vec())
}
