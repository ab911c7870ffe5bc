//! Reads the blocks of an archive that may not open. It trusts only keys and tags: it tries every key on every block of
//! the file, and uses no reference to find one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::open::Io;
use super::open_block::{BlockBuffer, generation_in, reopened};
use super::rekeying::{pairs, window_of};
use super::superblock::choose::choose;
use super::superblock::copy::read_copies;
use super::superblock::header::parse;
use super::superblock::places::header_positions;
use crate::crypto::{
    BATCH_BLOCKS, HeaderKey, KeyKind, MasterKey, Opened, Sealer, Secret, unwrap_master_key,
    unwrap_old_key,
};
use crate::device::{self, Device, FileDevice};
use crate::error::{Class, Error, Result};
use crate::format::{
    ArchiveKind, BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, Block, BlockHead, BlockRef, Generation,
    HEADERS, Header, META_STREAM, MetaSlot, OwnedData, Position, REDO_STREAM, RESERVED_BLOCKS,
    RedoBlock, Run, UncheckedHeader, is_reserved,
};
use crate::parallel::in_pool;

/// Blocks that are scanned at a time: 4 MiB.
const SCANNED_BLOCKS: u32 = 1024;

/// A file whose blocks open with the keys of a header. Nothing else in it has to be whole.
pub struct Wreck {
    device: Box<dyn Device>,
    /// One for each master key: two during a rekey.
    sealers: Vec<Sealer>,
    header: Header,
    blocks: u32,
    /// Blocks whose sealed bytes lie elsewhere than at their home location.
    images: HashMap<BlockRef, Position>,
    slots: Vec<MetaSlot>,
}

/// A block that opened.
#[derive(Debug, Clone)]
pub struct FoundBlock {
    /// The position that it is sealed for.
    pub home: Position,
    /// Its kind.
    pub kind: KeyKind,
    /// Its version.
    pub generation: Generation,
    /// Neighbour links, index and stream.
    pub head: BlockHead,
    /// The data of a block of the meta kind.
    pub data: Option<OwnedData>,
}

/// Home locations with the position and, if it is known, the version of a shadow block. Only someone with the key can
/// name more of them than the file has blocks.
type Shadows = BTreeSet<(Position, Position, Option<Generation>)>;

/// Counts of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Blocks of the file.
    pub blocks: u64,
    /// Blocks that opened.
    pub opened: u64,
    /// Blocks that the system could not read.
    pub unreadable: u64,
}

impl Wreck {
    /// Opens the headers of a file, and the exported one if it is given. At least one of them must open with the
    /// secret. No process may write to the file meanwhile.
    pub fn open(path: &Path, secret: &Secret, exported: Option<&[u8]>) -> Result<Wreck> {
        let opened = FileDevice::open(path, device::Access::Read)
            .and_then(|file| Wreck::open_device(Io::File.device(file), secret, exported));
        opened.map_err(|error| error.at_path(path))
    }

    /// Does the same on a device.
    pub fn open_device(
        device: Box<dyn Device>,
        secret: &Secret,
        exported: Option<&[u8]>,
    ) -> Result<Wreck> {
        if device.locks().is_written()? {
            return Err(Error::Locked { path: None, holder: None });
        }
        let mut keys = Keys::default();
        let exported = exported.map(|bytes| {
            let bytes: &[u8; BLOCK_SIZE] = bytes.try_into().map_err(|_| Error::OutOfBounds {
                what: "length of an exported header",
                found: bytes.len().into(),
                allowed: BLOCK_SIZE.into(),
            })?;
            UncheckedHeader::parse(HEADERS[0], bytes)
        });
        let positions = header_positions(&*device)?.into_iter();
        let found = positions.map(|position| parse(&*device, position).2);
        let mut headers = Vec::new();
        for header in found.chain(exported) {
            headers.push(keys.noted(header));
        }
        let mut headers: Vec<UncheckedHeader> = headers.into_iter().flatten().collect();
        headers.sort_by_key(|header| Reverse(header.revision()));
        headers.dedup_by(|one, other| one.bytes() == other.bytes());
        for header in headers {
            keys.unlock(header, secret);
        }
        let (header, sealers) = keys.into_opened()?;
        let blocks = device.length_bytes()? / BLOCK_SIZE_U64;
        let blocks = u32::try_from(blocks).unwrap_or(BLOCKS_MAX).min(BLOCKS_MAX);
        let (images, slots) = (HashMap::new(), Vec::new());
        Ok(Wreck { device, sealers, header, blocks, images, slots })
    }

    /// Returns the kind of the archive.
    pub fn kind(&self) -> ArchiveKind {
        self.header.kind
    }

    /// Returns the number of blocks of the file.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Tries every block of the file, and passes those that open to `found`, in the order of their positions; at the
    /// end those whose newest version lies in a shadow block. `progress` gets the number of blocks tried so far; it
    /// returns false to stop.
    pub fn scan(
        &mut self,
        found: &mut dyn FnMut(FoundBlock),
        progress: &mut dyn FnMut(u32) -> bool,
    ) -> Result<Scanned> {
        let mut scanned = Scanned { blocks: self.blocks.into(), ..Scanned::default() };
        let mut shadows = Shadows::new();
        let mut rest = Position::new(0).and_then(|start| Run::new(start, self.blocks));
        let mut bytes = vec![0; SCANNED_BLOCKS as usize * BLOCK_SIZE];
        while let Some(run) = rest {
            let (part, after) = run.split(SCANNED_BLOCKS);
            let part = part.expect("a run is not empty");
            let blocks = &mut bytes[..part.count() as usize * BLOCK_SIZE];
            scanned.unreadable += self.read_part(part, blocks);
            for block in self.open_part(part, blocks) {
                scanned.opened += 1;
                if let Some(data) = &block.data {
                    self.note(&block, data, &mut shadows);
                }
                found(block);
            }
            if !progress(part.end()) {
                return Err(Error::Stopped);
            }
            rest = after;
        }
        for slot in &self.slots {
            if let Some(window) = window_of(self.header.rekey.as_ref(), slot) {
                shadows.extend(pairs(window).map(|(home, shadow)| (home, shadow, None)));
            }
        }
        for (home, shadow, generation) in shadows {
            self.add_image(home, shadow, generation, found);
        }
        Ok(scanned)
    }

    /// Reads consecutive blocks; one that the system cannot read is zeros, which open under no key. Returns the number
    /// of those.
    fn read_part(&self, part: Run, bytes: &mut [u8]) -> u64 {
        if self.device.read(part.start(), bytes).is_ok() {
            return 0;
        }
        let mut unreadable = 0;
        for (position, block) in part.positions().zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            if self.device.read(position, block).is_err() {
                block.fill(0);
                unreadable += 1;
            }
        }
        unreadable
    }

    fn open_part(&self, part: Run, bytes: &mut [u8]) -> Vec<FoundBlock> {
        let (blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
        let blocks: Vec<_> = part.positions().zip(blocks).collect();
        let opened: Vec<Vec<FoundBlock>> = in_pool(|| {
            blocks.par_chunks(BATCH_BLOCKS).map(|blocks| self.open_batch(blocks)).collect()
        });
        opened.into_iter().flatten().collect()
    }

    /// Opens blocks, all of them as blocks of streams first, because most are.
    fn open_batch(&self, blocks: &[(Position, &[u8; BLOCK_SIZE])]) -> Vec<FoundBlock> {
        let mut copy = Zeroizing::new(vec![0; blocks.len() * BLOCK_SIZE]);
        for ((_, block), copy) in blocks.iter().zip(copy.chunks_exact_mut(BLOCK_SIZE)) {
            copy.copy_from_slice(&block[..]);
        }
        let mut is_opened = [false; BATCH_BLOCKS];
        let is_opened = &mut is_opened[..blocks.len()];
        let positions = blocks.iter().map(|(position, _)| *position);
        self.sealers[0].open_batch(KeyKind::Data, positions, &mut copy, is_opened);
        let (copies, _) = copy.as_chunks::<BLOCK_SIZE>();
        let mut found = Vec::new();
        for ((&(position, block), copy), is_opened) in blocks.iter().zip(copies).zip(is_opened) {
            if !*is_opened {
                found.extend(self.open_as_any(position, block));
            } else if let Ok(opened) = reopened(position, copy) {
                if is_blank(&opened) {
                    continue;
                }
                let (generation, head) = (opened.generation, opened.head);
                found.push(FoundBlock {
                    home: position,
                    kind: KeyKind::Data,
                    generation,
                    head,
                    data: None,
                });
            }
        }
        found
    }

    /// Opens a block with each key, except the first key of streams.
    fn open_as_any(&self, position: Position, block: &[u8; BLOCK_SIZE]) -> Option<FoundBlock> {
        if block.iter().all(|&byte| byte == 0) {
            return None;
        }
        let kinds = [KeyKind::Registry, KeyKind::Meta, KeyKind::Data];
        let mut copy = BlockBuffer::new();
        kinds.into_iter().find_map(|kind| {
            let skipped = usize::from(kind == KeyKind::Data);
            self.sealers.iter().skip(skipped).find_map(|sealer| {
                copy.copy_from_slice(block);
                let opened = sealer.open_in_place(kind, position, &mut copy).ok()?;
                if kind == KeyKind::Data && is_blank(&opened) {
                    return None;
                }
                let data = (kind == KeyKind::Meta).then(|| OwnedData::copy_of(opened.data));
                let (generation, head) = (opened.generation, opened.head);
                Some(FoundBlock { home: position, kind, generation, head, data })
            })
        })
    }

    /// Notes what a meta slot or a block of a redo list says. All of it is checked again before it is used.
    fn note(&mut self, block: &FoundBlock, data: &OwnedData, shadows: &mut Shadows) {
        if block.head.stream == META_STREAM && is_reserved(block.home) {
            self.slots.extend(MetaSlot::decode(block.home, block.generation, data));
        } else if block.head.stream == REDO_STREAM {
            let decoded = RedoBlock::decode(block.home, data, self.blocks);
            for entry in decoded.into_iter().flat_map(|decoded| decoded.entries) {
                // A shadow block that was used again has another generation.
                if let Some(shadow) = entry.shadow
                    && shadows.len() < self.blocks as usize
                    && self.generation_at(shadow.position) == Some(shadow.generation)
                {
                    shadows.insert((entry.home, shadow.position, Some(shadow.generation)));
                }
            }
        }
    }

    fn generation_at(&self, position: Position) -> Option<Generation> {
        let mut bytes = BlockBuffer::new();
        self.device.read(position, &mut bytes[..]).ok()?;
        Some(generation_in(&bytes))
    }

    /// Notes a block in a shadow block, unless the same version is in its home location.
    fn add_image(
        &mut self,
        home: Position,
        shadow: Position,
        generation: Option<Generation>,
        found: &mut dyn FnMut(FoundBlock),
    ) {
        let Some(sealed) = self.generation_at(shadow) else { return };
        let block = BlockRef { position: home, generation: sealed };
        if generation.is_some_and(|generation| generation != sealed)
            || self.images.contains_key(&block)
        {
            return;
        }
        for kind in [KeyKind::Data, KeyKind::Registry] {
            if self.open_at(kind, block, home).is_some() {
                return;
            }
            if let Some(opened) = self.open_at(kind, block, shadow) {
                self.images.insert(block, shadow);
                let (generation, head) = (sealed, opened.head);
                found(FoundBlock { home, kind, generation, head, data: None });
                return;
            }
        }
    }

    /// Returns one version of a block, or `None` if it is lost.
    pub fn read(&self, kind: KeyKind, block: BlockRef) -> Option<Block> {
        self.open_at(kind, block, block.position).or_else(|| {
            let shadow = self.images.get(&block)?;
            self.open_at(kind, block, *shadow)
        })
    }

    /// Returns one version of each block of a run, in order, or `None` for those that are lost.
    pub fn read_run(&self, kind: KeyKind, run: Run, generation: Generation) -> Vec<Option<Block>> {
        let positions: Vec<Position> = run.positions().collect();
        let read = |&position: &Position| self.read(kind, BlockRef { position, generation });
        in_pool(|| positions.par_iter().map(read).collect())
    }

    fn open_at(&self, kind: KeyKind, block: BlockRef, source: Position) -> Option<Block> {
        let mut sealed = BlockBuffer::new();
        self.device.read(source, &mut sealed[..]).ok()?;
        if generation_in(&sealed) != block.generation {
            return None;
        }
        let mut copy = BlockBuffer::new();
        self.sealers.iter().find_map(|sealer| {
            copy.copy_from_slice(&sealed[..]);
            let opened = sealer.open_in_place(kind, block.position, &mut copy).ok()?;
            Some(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
        })
    }

    /// Returns the newest meta slot that the scan found, and whether no newer commit can have been lost with another
    /// slot.
    pub fn newest_slot(&self) -> Option<(&MetaSlot, bool)> {
        let newest = self.slots.iter().max_by_key(|slot| (slot.generation, slot.number))?;
        let is_certain = self.sealers.iter().any(|sealer| {
            let sealer = match self.sealers.get(1) {
                Some(old) => sealer.clone().with_old(old, RESERVED_BLOCKS),
                None => sealer.clone(),
            };
            read_copies(&*self.device, &sealer)
                .and_then(|copies| choose(&copies, false))
                .is_ok_and(|chosen| chosen.may_have_held_newer.is_none() && chosen.slot == *newest)
        });
        Some((newest, is_certain))
    }
}

/// Returns whether a block belongs to no stream. A wiped block has the same head as the only block of stream 0.
fn is_blank(opened: &Opened<'_>) -> bool {
    opened.head == BlockHead::default() && opened.data.iter().all(|&byte| byte == 0)
}

/// The keys of the headers that open.
#[derive(Default)]
struct Keys {
    masters: Vec<(MasterKey, Header)>,
    sealers: Vec<Sealer>,
    failure: Option<Error>,
}

impl Keys {
    /// Returns a header that could be parsed, or keeps the reason.
    fn noted(&mut self, header: Result<UncheckedHeader>) -> Option<UncheckedHeader> {
        header.map_err(|error| self.fail(error)).ok()
    }

    /// Keeps the failure that helps the user most: a newer format or a wrong key, before damage.
    fn fail(&mut self, error: Error) {
        let rank = |error: &Error| match error.class() {
            Class::NewerFormat => 2,
            Class::WrongKey => 1,
            _ => 0,
        };
        if self.failure.as_ref().is_none_or(|known| rank(&error) > rank(known)) {
            self.failure = Some(error);
        }
    }

    /// Unlocks a header, unless it is authentic under a key that is known.
    fn unlock(&mut self, header: UncheckedHeader, secret: &Secret) {
        let archive = header.archive();
        let is_known = |(master, known): &(MasterKey, Header)| {
            known.archive == archive
                && header.clone().authenticate(&HeaderKey::derive(master, archive)).is_ok()
        };
        if self.masters.iter().any(is_known) && header.rekey().is_none() {
            return;
        }
        let opened = unwrap_master_key(header.slots(), secret, archive).and_then(|(master, _)| {
            let header = header.authenticate(&HeaderKey::derive(&master, archive))?;
            Ok((master, header))
        });
        match opened {
            Ok((master, header)) => self.add(master, header),
            Err(error) => self.fail(error),
        }
    }

    fn add(&mut self, master: MasterKey, header: Header) {
        let archive = header.archive;
        let old = header.rekey.as_ref().map(|rekey| unwrap_old_key(&master, rekey, archive));
        self.sealers.push(Sealer::new(&master, archive));
        if let Some(Ok(old)) = old {
            self.sealers.push(Sealer::new(&old, archive));
            self.masters.push((old, header.clone()));
        }
        self.masters.push((master, header));
    }

    /// Returns the newest header and the sealers, those of the newest header first.
    fn into_opened(self) -> Result<(Header, Vec<Sealer>)> {
        let newest = self.masters.into_iter().map(|(_, header)| header).next();
        match newest {
            Some(header) => Ok((header, self.sealers)),
            None => Err(self.failure.expect("no header opened for a reason")),
        }
    }
}
