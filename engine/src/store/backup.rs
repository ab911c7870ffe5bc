//! Exports and imports the header. Without a header no key opens anything, and a short archive has all copies in its
//! first 32 KiB.

use std::path::Path;
use std::time::Duration;

use super::handle::Store;
use super::open::open_locked;
use super::superblock::choose::choose;
use super::superblock::copy::{only_copy, read_copies};
use super::superblock::header::{check_length, parse, write_header_copies};
use super::superblock::places::header_positions;
use crate::crypto::{HeaderKey, MasterKey, Sealer, Secret, unwrap_master_key, unwrap_old_key};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, HEADERS, Header, META_SLOTS, Position, RESERVED_BLOCKS, Rekey, UncheckedHeader,
    header_digest,
};

/// An exported header, authenticated with a key of its slots.
#[derive(Debug)]
pub struct ExportedHeader {
    master: MasterKey,
    header: Header,
    bytes: Box<[u8; BLOCK_SIZE]>,
}

/// The result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderImport {
    /// Revision of the header in every copy now.
    pub revision: u64,
    /// Whether the header is an older one, restored under a new revision.
    pub is_older: bool,
    /// A meta slot that does not open and may have held a newer commit, as in
    /// [`Recovery::may_have_held_newer`](super::Recovery::may_have_held_newer).
    pub may_have_held_newer: Option<Position>,
    /// The meta slot with which the newest commit would be lost, as in
    /// [`Recovery::only_copy`](super::Recovery::only_copy).
    pub only_copy: Option<Position>,
}

impl ExportedHeader {
    /// Parses the bytes that [`Store::export_header`] returned, and authenticates them.
    pub fn open(bytes: &[u8], secret: &Secret) -> Result<ExportedHeader> {
        let bytes: &[u8; BLOCK_SIZE] = bytes.try_into().map_err(|_| Error::OutOfBounds {
            what: "length of an exported header",
            found: bytes.len().into(),
            allowed: BLOCK_SIZE.into(),
        })?;
        let unchecked = UncheckedHeader::parse(HEADERS[0], bytes)?;
        unchecked.check_writable()?;
        let archive = unchecked.archive();
        let (master, _) = unwrap_master_key(unchecked.slots(), secret, archive)?;
        let header = unchecked.authenticate(&HeaderKey::derive(&master, archive))?;
        Ok(ExportedHeader { master, header, bytes: Box::new(*bytes) })
    }
}

impl ExportedHeader {
    fn sealer(&self) -> Result<Sealer> {
        let sealer = Sealer::new(&self.master, self.header.archive);
        let Some(rekey) = &self.header.rekey else { return Ok(sealer) };
        let old = unwrap_old_key(&self.master, rekey, self.header.archive)?;
        Ok(sealer.with_old(&Sealer::new(&old, self.header.archive), RESERVED_BLOCKS))
    }
}

#[cfg(any(test, feature = "testing"))]
impl ExportedHeader {
    /// Returns every key of the archive, masked by exclusive or, for a test that searches memory for keys.
    pub fn masked_keys(
        &self,
        secret: &Secret,
        mask: &[u8; 32],
    ) -> Result<Vec<crate::crypto::MaskedKey>> {
        let slots = (secret, &self.header.slots);
        crate::crypto::masked_keys(&self.master, self.header.archive, slots, mask)
    }
}

/// Refuses to replace the header of a rekey in progress: it holds the only copy of the new master key. Anyone can
/// write a header that claims a rekey, so only one with the code of the old master key counts.
fn refuse_while_rekeying(device: &dyn Device, exported: &ExportedHeader) -> Result<()> {
    let (header, master) = (&exported.header, &exported.master);
    let before = header.rekey.as_ref().map(|rekey| unwrap_old_key(master, rekey, header.archive));
    let before = before.transpose()?;
    let old = HeaderKey::derive(before.as_ref().unwrap_or(master), header.archive);
    let positions = header_positions(device)?.into_iter();
    let mut found = positions.filter_map(|position| parse(device, position).2.ok());
    let is_other =
        |found: &UncheckedHeader| found.is_rekey_of(&old) && found.rekey() != header.rekey.as_ref();
    if found.any(|found| is_other(&found)) { Err(Error::RekeyInProgress) } else { Ok(()) }
}

impl Store {
    /// Returns the header as one block, to be stored outside of the archive.
    pub fn export_header(&self) -> Box<[u8; BLOCK_SIZE]> {
        self.header_bytes()
    }

    /// Writes an exported header back to the file, which must be of the same archive.
    ///
    /// A header older than the one that the newest commit names is refused: it would restore keys that were removed
    /// since. With `accept_older` it is written all the same, under a new revision. Waits up to `wait` for another
    /// writer.
    pub fn import_header(
        path: &Path,
        exported: &ExportedHeader,
        accept_older: bool,
        wait: Duration,
    ) -> Result<HeaderImport> {
        let import = || {
            let file = open_locked(path, wait)?;
            Store::import_header_device(&file, exported, accept_older)
        };
        import().map_err(|error: Error| error.at_path(path))
    }

    /// Does the same on a device.
    pub fn import_header_device(
        device: &dyn Device,
        exported: &ExportedHeader,
        accept_older: bool,
    ) -> Result<HeaderImport> {
        check_length(device)?;
        let archive = exported.header.archive;
        refuse_while_rekeying(device, exported)?;
        let sealer = exported.sealer()?;
        let copies = read_copies(device, &sealer)?;
        if copies.slots.iter().chain(&copies.third).all(|copy| copy.outcome.is_err()) {
            // The archive id is in every key derivation and in the associated data of every tag. So a meta slot that
            // opens proves that the header belongs to this archive. Nothing else does: anyone may have written the
            // header in the file.
            let expected = "a meta slot that the keys of the header open";
            return Err(Error::damaged(META_SLOTS[0], Check::MetaSlot, expected, "none"));
        }
        let chosen = choose(&copies, true)?;
        let only_copy = only_copy(device, &sealer, &chosen)?;
        let slot = chosen.slot;
        let record = exported.header.rekey.as_ref();
        if let (Some(head), true) = (slot.redo_head, record.is_some()) {
            // The blocks of the list would have to be resealed under the new key, and nothing can do that.
            let expected = "no redo list during a change of the master key";
            return Err(Error::damaged(head.position, Check::RedoList, expected, slot.redo_length));
        }
        let is_ended =
            |rekey: &Rekey| rekey.number == slot.master_key_number && slot.rekey_watermark == 0;
        let found = authentic_headers(device, exported)?;
        let newest = found.iter().map(|(_, revision, _)| *revision).max();
        let known = newest.unwrap_or(0).max(slot.header_revision);
        let same_as_found = found.iter().any(|(_, _, bytes)| *bytes == exported.bytes);
        let named = header_digest(&exported.bytes) == slot.header_digest;
        let revision = exported.header.revision;
        let is_current = revision > known || (revision == known && (same_as_found || named));
        let (bytes, revision) = if is_current {
            (exported.bytes.clone(), revision)
        } else if accept_older && record.is_none_or(is_ended) {
            let full = Error::Full { what: "revision of the header", limit: u64::MAX };
            let revision = known.checked_add(1).ok_or(full)?;
            let mut header = exported.header.clone();
            header.revision = revision;
            header.rekey = None;
            (header.encode(&HeaderKey::derive(&exported.master, archive)), revision)
        } else {
            return Err(Error::tampered(None, Check::HeaderRevision, known, revision));
        };
        // The unusable copy is written first, so that a torn write never costs a good copy while the other is bad.
        let is_found = |position: &Position| found.iter().any(|(at, ..)| at == position);
        let mut positions = HEADERS;
        positions.sort_by_key(is_found);
        write_header_copies(device, &bytes, &positions, slot.block_count)?;
        let may_have_held_newer = chosen.may_have_held_newer;
        Ok(HeaderImport { revision, is_older: !is_current, may_have_held_newer, only_copy })
    }
}

type Found = (Position, u64, Box<[u8; BLOCK_SIZE]>);

/// Returns the copies in the file that the exported header's key authenticates.
fn authentic_headers(device: &dyn Device, exported: &ExportedHeader) -> Result<Vec<Found>> {
    let key = HeaderKey::derive(&exported.master, exported.header.archive);
    let authentic = |position: Position| {
        let (_, bytes, parsed) = parse(device, position);
        let header = parsed.ok()?.authenticate(&key).ok()?;
        Some((position, header.revision, bytes))
    };
    Ok(header_positions(device)?.into_iter().filter_map(authentic).collect())
}
