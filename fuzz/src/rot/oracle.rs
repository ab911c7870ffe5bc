//! Which blocks each entry needs, as the format states it: independent of the code that reads, but for the decoders of
//! single records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use ar7::uuid::Uuid;
use ar7_engine::crypto::KeyKind;
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{
    ArchiveKind, BLOCK_SIZE, BlockRef, DATA_SIZE, DATA_SIZE_U64, DoubledRef, MetaSlot, Position,
    RedoBlock, StoredStream, StreamLayout, plain,
};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::Archive;
use ar7_registry::records::{
    EntryType, Extended, ExtentKey, Extents, Frames, Inode, InodeNumber, Inodes, NameKey,
    NameRecords, Record, Streams, TreeId,
};
use ar7_registry::tree::{Page, PageExpectation};

use super::specimen::{RAW_KEY, Specimen};
use crate::reference::{Keys, Plain, generation};

/// Blocks of a window of a change of the master key, and the first block of the first one.
const WINDOW_BLOCKS: u32 = 256;
const FIRST_WINDOW: u32 = 8;

/// Bytes of the head of a frame.
const FRAME_HEAD_BYTES: u32 = 24;

/// Positions with the same content: it is lost once all of them are destroyed.
pub(super) type Places = Vec<u32>;

/// What must be readable for something to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// Pages: all places of both copies of each.
    pub(super) pages: Vec<Places>,
    /// Blocks of a stream, in order.
    pub(super) blocks: Vec<Places>,
    /// The parts of packed content, in order.
    pub(super) pieces: Vec<Piece>,
    /// Blocks of a stream that its length does not reach.
    pub(super) unread: Vec<Places>,
    /// Whether the blocks were not all sealed in one step. Without their records, they are versions that nothing tells
    /// apart.
    pub(super) is_mixed: bool,
}

/// The part of a packed file that is in one frame.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
    /// The blocks that the frame touches.
    pub(super) blocks: Vec<Places>,
}

impl Piece {
    pub(super) fn survives(&self, destroyed: &BTreeSet<u32>) -> bool {
        self.blocks.iter().all(|places| !is_lost(places, destroyed))
    }
}

impl Needs {
    /// Returns whether all of it survives.
    pub(super) fn survive(&self, destroyed: &BTreeSet<u32>) -> bool {
        self.pages_survive(destroyed) && self.blocks_survive(destroyed)
    }

    /// Returns whether the blocks with the content survive.
    pub(super) fn blocks_survive(&self, destroyed: &BTreeSet<u32>) -> bool {
        self.blocks.iter().all(|places| !is_lost(places, destroyed))
            && self.pieces.iter().all(|piece| piece.survives(destroyed))
    }

    /// Returns whether the pages survive.
    pub(super) fn pages_survive(&self, destroyed: &BTreeSet<u32>) -> bool {
        self.pages.iter().all(|places| !is_lost(places, destroyed))
    }
}

/// An entry of a directory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) kind: EntryType,
    pub(super) inode: u64,
    /// The names of the entry and of the directories above it.
    pub(super) name: Needs,
    /// Its inode.
    pub(super) record: Needs,
    pub(super) content: Needs,
    pub(super) attributes: Needs,
}

/// A block that is opened by verification.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    /// Where faults are reported.
    pub(super) home: u32,
    pub(super) places: Places,
}

/// A page: where its copies are, and its keys.
#[derive(Debug, Clone)]
pub(super) struct FoundPage {
    pub(super) tree: TreeId,
    pub(super) copies: [Opened; 2],
    /// The least key, and the key below which all are.
    low: Vec<u8>,
    high: Option<Vec<u8>>,
    /// The pages from the root to this one.
    path: Vec<Places>,
    cells: Vec<(Vec<u8>, Vec<u8>)>,
    is_leaf: bool,
}

/// Everything that an archive refers to.
pub struct Oracle {
    pub(super) slot: MetaSlot,
    pub(super) kind: ArchiveKind,
    pub(super) is_rekeying: bool,
    pub(super) entries: Vec<Entry>,
    /// Streams without a name.
    pub(super) streams: BTreeMap<Uuid, Needs>,
    pub(super) pages: Vec<FoundPage>,
    /// Copies of the blocks of the redo list.
    pub(super) redo: Vec<[u32; 2]>,
    /// Blocks of streams.
    pub(super) data: Vec<Opened>,
    /// Shadow blocks of the redo list whose content is also in its home location: shadow block, home location.
    pub(super) copied_home: Vec<[u32; 2]>,
    shadows: HashMap<u32, BlockRef>,
}

/// Returns whether all places are destroyed.
pub(super) fn is_lost(places: &Places, destroyed: &BTreeSet<u32>) -> bool {
    places.iter().all(|place| destroyed.contains(place))
}

impl Oracle {
    /// Reads an archive.
    ///
    /// # Panics
    /// If one of its blocks does not open.
    pub fn new(specimen: &Specimen) -> Oracle {
        Oracle::of(&specimen.image, &specimen.keys)
    }

    /// Reads an archive whose blocks all open.
    ///
    /// # Panics
    /// If one does not.
    pub(super) fn of(image: &[u8], keys: &[Keys]) -> Oracle {
        let device = MemoryDevice::from_bytes(image);
        let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
        let secret =
            ar7_engine::crypto::Secret::Key(ar7_engine::crypto::RawKey::from_bytes(RAW_KEY));
        let archive = Archive::open_device(Box::new(device), &secret, options).expect("it opens");
        let slot = archive.snapshot().commit().slot.clone();
        let mut oracle = Oracle {
            kind: archive.kind(),
            is_rekeying: keys.len() > 1,
            entries: Vec::new(),
            streams: BTreeMap::new(),
            pages: Vec::new(),
            redo: Vec::new(),
            data: Vec::new(),
            copied_home: Vec::new(),
            shadows: HashMap::new(),
            slot,
        };
        let source = Source { image, keys };
        oracle.read_redo_list(&source);
        for tree in TreeId::ALL {
            let root = oracle.slot.roots[tree.index()];
            if let Some(block) = root.block {
                let page = Below { tree, level: root.depth - 1, low: Vec::new(), high: None };
                oracle.read_page(&source, block, page, &[]);
            }
        }
        oracle.read_entries(&source);
        oracle.read_streams(&source);
        oracle
    }

    /// Returns both copies of each page, of each block of the redo list, of each commit, and of the header.
    pub(super) fn doubled(&self) -> Vec<[u32; 2]> {
        let pages = self.pages.iter();
        let pages = pages.map(|page| [page.copies[0].home, page.copies[1].home]);
        let reserved = [[0, 7], [1, 3], [2, 4]];
        pages.chain(self.redo.iter().copied()).chain(reserved).collect()
    }

    /// Returns the positions of both copies of each page.
    pub fn both_copies(&self) -> Vec<BTreeSet<u32>> {
        TreeId::ALL.into_iter().flat_map(|tree| self.both_copies_of(tree)).collect()
    }

    /// Returns the positions of both copies of each page of a tree.
    pub fn both_copies_of(&self, tree: TreeId) -> Vec<BTreeSet<u32>> {
        let pages = self.pages.iter().filter(|page| page.tree == tree);
        pages.map(|page| page.copies.iter().map(|copy| copy.home).collect()).collect()
    }

    /// Returns the positions of the shadow blocks that the redo list names.
    pub fn shadow_blocks(&self) -> Vec<u32> {
        let mut shadows: Vec<u32> =
            self.shadows.values().map(|shadow| shadow.position.get()).collect();
        shadows.sort_unstable();
        shadows
    }

    /// Returns the positions of the blocks that hold extended attributes.
    pub fn attribute_blocks(&self) -> Vec<u32> {
        let blocks = self.entries.iter().flat_map(|entry| &entry.attributes.blocks);
        blocks.flatten().copied().collect()
    }

    /// Returns the home locations that the redo list names.
    pub(super) fn redo_homes(&self) -> Vec<u32> {
        let mut homes: Vec<u32> = self.shadows.keys().copied().collect();
        homes.sort_unstable();
        homes
    }

    fn read_redo_list(&mut self, source: &Source<'_>) {
        let mut next = self.slot.redo_head;
        while let Some(block) = next {
            self.redo.push(block.copies().map(|copy| copy.position.get()));
            let [first, _] = block.copies();
            let data = source.open(KeyKind::Meta, first, first.position.get()).expect("it opens");
            let data = plain::DATA.of(&data[..]).try_into().expect("the data of a block");
            let found = RedoBlock::decode(first.position, data, self.slot.block_count);
            let found = found.expect("a redo block");
            for entry in found.entries {
                // The newest entry of a place comes first.
                let shadow = entry.shadow.expect("no entry is removed here");
                self.shadows.entry(entry.home.get()).or_insert(shadow);
            }
            next = found.next;
        }
        for (&home, shadow) in &self.shadows {
            let block = BlockRef { position: Position::at(home), generation: shadow.generation };
            if source.open(KeyKind::Data, block, home).is_some() {
                self.copied_home.push([shadow.position.get(), home]);
            }
        }
    }

    /// Returns the shadow block of a block in the newest window of a change of the master key.
    fn newest_window(&self, home: u32) -> Option<u32> {
        let watermark = self.slot.rekey_watermark.checked_sub(FIRST_WINDOW + 1)?;
        let (window, within) = (watermark / WINDOW_BLOCKS, home.checked_sub(FIRST_WINDOW)?);
        let is_newest = within / WINDOW_BLOCKS == window;
        let turn = window % 2 * WINDOW_BLOCKS;
        is_newest.then_some(self.slot.block_count + turn + within % WINDOW_BLOCKS)
    }

    /// Returns where a version of a block is read: in its shadow block if the redo list names it.
    fn places(&self, source: &Source<'_>, kind: KeyKind, block: BlockRef) -> Places {
        let home = block.position.get();
        if let Some(shadow) = self.shadows.get(&home).filter(|of| of.generation == block.generation)
        {
            return vec![shadow.position.get()];
        }
        let mut candidates = vec![home];
        candidates.extend(self.newest_window(home));
        candidates.retain(|&place| source.open(kind, block, place).is_some());
        assert!(!candidates.is_empty(), "block {home} opens");
        candidates
    }

    /// Returns the copies of the whole redo list, if a block is only in a shadow block.
    fn listing_of(&self, source: &Source<'_>, block: BlockRef) -> Vec<Places> {
        let home = block.position.get();
        let is_listed = self.shadows.get(&home).is_some_and(|of| of.generation == block.generation);
        if !is_listed || source.open(KeyKind::Data, block, home).is_some() {
            return Vec::new();
        }
        self.redo.iter().map(|copies| copies.to_vec()).collect()
    }

    /// Returns whether both copies of a block of the redo list are destroyed.
    pub(super) fn is_redo_lost(&self, destroyed: &BTreeSet<u32>) -> bool {
        self.redo.iter().any(|copies| is_lost(&copies.to_vec(), destroyed))
    }

    fn read_page(
        &mut self,
        source: &Source<'_>,
        block: DoubledRef,
        below: Below,
        above: &[Places],
    ) {
        let Below { tree, level, low, high } = below;
        let copies = block.copies().map(|copy| Opened {
            home: copy.position.get(),
            places: self.places(source, KeyKind::Registry, copy),
        });
        let [first, _] = block.copies();
        let opened = source.open(KeyKind::Registry, first, copies[0].places[0]).expect("a page");
        let data = plain::DATA.of(&opened[..]).try_into().expect("the data of a block");
        let expect = PageExpectation { tree: tree.number(), level };
        let page = Page::parse(first.position, data, expect).expect("a page");
        let mut path = above.to_vec();
        path.push(copies.iter().flat_map(|copy| copy.places.clone()).collect());
        let cells: Vec<(Vec<u8>, Vec<u8>)> = (0..page.count())
            .map(|cell| (page.key(cell).to_vec(), page.value(cell).to_vec()))
            .collect();
        if page.is_branch() {
            for cell in 0..page.count() {
                let low = if cell == 0 { low.clone() } else { cells[cell].0.clone() };
                let high = cells.get(cell + 1).map(|(key, _)| key.clone()).or(high.clone());
                let below = Below { tree, level: level - 1, low, high };
                self.read_page(source, page.child_block(cell), below, &path);
            }
        }
        let is_leaf = !page.is_branch();
        self.pages.push(FoundPage { tree, copies, low, high, path, cells, is_leaf });
    }

    /// Returns the leaves of a tree, in order.
    fn leaves(&self, tree: TreeId) -> impl Iterator<Item = &FoundPage> {
        self.pages.iter().filter(move |page| page.tree == tree && page.is_leaf)
    }

    /// Returns the pages that a key needs.
    fn pages_for(&self, tree: TreeId, key: &[u8]) -> Vec<Places> {
        let is_of = |page: &&FoundPage| {
            *key >= page.low[..] && page.high.as_ref().is_none_or(|high| *key < high[..])
        };
        self.leaves(tree).find(is_of).map_or(Vec::new(), |page| page.path.clone())
    }

    fn records<R: Record>(&self) -> Vec<(R::Key, R::Value)> {
        let cells = self.leaves(R::TREE).flat_map(|page| &page.cells);
        let decoded = cells.map(|(key, value)| {
            let decoded = R::decode_key(key).expect("a key");
            (decoded, R::decode_value(key, value).expect("a record"))
        });
        decoded.collect()
    }

    fn read_entries(&mut self, source: &Source<'_>) {
        let inodes: BTreeMap<u64, Inode> =
            self.records::<Inodes>().into_iter().map(|(number, inode)| (number.0, inode)).collect();
        let mut names: BTreeMap<u64, Vec<(Vec<u8>, u64, EntryType)>> = BTreeMap::new();
        for (key, value) in self.records::<NameRecords>() {
            let name = (key.name.clone(), value.inode.0, value.kind);
            names.entry(key.directory.0).or_default().push(name);
        }
        let mut waiting = vec![(InodeNumber::ROOT.0, String::new(), Needs::default())];
        while let Some((directory, path, above)) = waiting.pop() {
            for (name, inode, kind) in names.get(&directory).into_iter().flatten() {
                let text = String::from_utf8_lossy(name);
                let path =
                    if path.is_empty() { text.to_string() } else { format!("{path}/{text}") };
                let key = NameKey { directory: InodeNumber(directory), name: name.clone() };
                let mut name = above.clone();
                name.pages.extend(self.pages_for(TreeId::Names, &NameRecords::encode_key(&key)));
                if *kind == EntryType::Directory {
                    waiting.push((*inode, path.clone(), name.clone()));
                }
                let entry = self.entry(source, path, (*inode, *kind), name, &inodes[inode]);
                self.entries.push(entry);
            }
        }
    }

    fn entry(
        &self,
        source: &Source<'_>,
        path: String,
        (number, kind): (u64, EntryType),
        name: Needs,
        inode: &Inode,
    ) -> Entry {
        let key = Inodes::encode_key(&InodeNumber(number));
        let record = Needs { pages: self.pages_for(TreeId::Inodes, &key), ..Needs::default() };
        let content = match (inode.stream, inode.slice) {
            (Some(stream), _) => self.stream(source, stream),
            (None, Some(first)) => self.packed(source, first..first + inode.size),
            (None, None) => Needs::default(),
        };
        let attributes = match inode.extended {
            Extended::Stream(stream) => self.stream(source, stream),
            _ => Needs::default(),
        };
        Entry { path, kind, inode: number, name, record, content, attributes }
    }

    /// Returns what the packed content at some addresses needs.
    fn packed(&self, source: &Source<'_>, addresses: Range<u64>) -> Needs {
        let mut needs = Needs::default();
        for (begin, frame) in self.records::<Frames>() {
            let end = begin + frame.length;
            if end <= addresses.start || begin >= addresses.end {
                continue;
            }
            needs.pages.extend(self.pages_for(TreeId::Frames, &Frames::encode_key(&begin)));
            let stored = frame.stored.expect("no hole is written here");
            let pack = self.stream(source, stored.pack);
            needs.pages.extend(pack.pages);
            let last = stored.offset + FRAME_HEAD_BYTES + stored.length - 1;
            let [first, last] = [stored.offset, last].map(|at| at as usize / DATA_SIZE);
            let within = |address: u64| {
                let address = address.clamp(addresses.start, addresses.end);
                usize::try_from(address - addresses.start).expect("a short file")
            };
            let range = within(begin)..within(end);
            needs.pieces.push(Piece { range, blocks: pack.blocks[first..=last].to_vec() });
        }
        needs
    }

    /// Returns the positions of the blocks of packs.
    pub fn pack_blocks(&self) -> BTreeSet<u32> {
        let pieces = self.entries.iter().flat_map(|entry| &entry.content.pieces);
        pieces.flat_map(|piece| piece.blocks.iter().flatten()).copied().collect()
    }

    fn record_of(&self, stream: Uuid) -> Option<StoredStream> {
        let index = usize::try_from(stream.as_u128()).ok();
        if let Some(reserved) = index.and_then(|index| self.slot.reserved_streams.get(index)) {
            return Some(reserved.clone());
        }
        let mut records = self.records::<Streams>().into_iter();
        records.find(|(identity, _)| *identity == stream).map(|(_, stored)| stored)
    }

    /// Returns what a stream needs.
    fn stream(&self, source: &Source<'_>, stream: Uuid) -> Needs {
        let stored = self.record_of(stream).expect("a record");
        let mut needs = Needs::default();
        if stream.as_u128() >= 8 {
            needs.pages = self.pages_for(TreeId::Streams, &Streams::encode_key(&stream));
        }
        let mut blocks = Vec::new();
        match (stored.layout, stored.record.begin) {
            (StreamLayout::OneRun(_), None) => {}
            (StreamLayout::OneRun(generation), Some(begin)) => {
                for position in (begin.get()..).take(stored.record.count as usize) {
                    blocks.push(BlockRef { position: Position::at(position), generation });
                }
            }
            (StreamLayout::Extents, _) => {
                for (key, extent) in self.records::<Extents>() {
                    if key.stream != stream {
                        continue;
                    }
                    let key = ExtentKey { stream, first: key.first };
                    let pages = self.pages_for(TreeId::Extents, &Extents::encode_key(&key));
                    needs.pages.extend(pages);
                    let generation = extent.generation;
                    let blocks_of = extent.run.positions();
                    blocks.extend(blocks_of.map(|position| BlockRef { position, generation }));
                }
            }
        }
        for block in &blocks {
            needs.pages.extend(self.listing_of(source, *block));
        }
        needs.is_mixed = blocks.windows(2).any(|pair| pair[0].generation != pair[1].generation);
        let read = usize::try_from(stored.record.length.div_ceil(DATA_SIZE_U64)).expect("short");
        let places = blocks.into_iter().map(|block| self.places(source, KeyKind::Data, block));
        needs.blocks = places.collect();
        needs.unread = needs.blocks.split_off(read.min(needs.blocks.len()));
        needs
    }

    fn read_streams(&mut self, source: &Source<'_>) {
        let reserved = (0..8_u128).map(Uuid::from_u128);
        let mut owned = BTreeSet::new();
        let mut all: Vec<Uuid> = reserved.collect();
        for (identity, stored) in self.records::<Streams>() {
            if stored.inode.is_some() {
                owned.insert(identity);
            }
            all.push(identity);
        }
        for stream in all {
            let needs = self.stream(source, stream);
            let stored = self.record_of(stream).expect("a record");
            let homes = self.homes(&stored);
            let places = needs.blocks.iter().chain(&needs.unread).cloned();
            self.data.extend(
                homes.into_iter().zip(places).map(|(home, places)| Opened { home, places }),
            );
            if !owned.contains(&stream) && stored.record.count > 0 {
                self.streams.insert(stream, needs);
            }
        }
    }

    /// Returns the home locations of the blocks of a stream, in order.
    fn homes(&self, stored: &StoredStream) -> Vec<u32> {
        match (stored.layout, stored.record.begin) {
            (StreamLayout::OneRun(_), begin) => {
                let begin = begin.map_or(0, Position::get);
                (begin..begin + stored.record.count).collect()
            }
            (StreamLayout::Extents, _) => {
                let extents = self.records::<Extents>().into_iter();
                let own = extents.filter(|(key, _)| key.stream == stored.record.identity);
                own.flat_map(|(_, extent)| extent.run.positions()).map(Position::get).collect()
            }
        }
    }

    /// Returns the directories in which names may be missing: by inode.
    pub(super) fn may_miss_names(&self, directory: u64, destroyed: &BTreeSet<u32>) -> bool {
        let begin = directory.to_be_bytes().to_vec();
        let end = (directory + 1).to_be_bytes().to_vec();
        self.leaves(TreeId::Names).any(|page| {
            let touches = page.low <= end && page.high.as_ref().is_none_or(|high| *high >= begin);
            touches && page.path.iter().any(|places| is_lost(places, destroyed))
        })
    }
}

/// A page that a page above refers to.
struct Below {
    tree: TreeId,
    level: u8,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

/// The bytes of an archive, and its keys.
struct Source<'a> {
    image: &'a [u8],
    keys: &'a [Keys],
}

impl Source<'_> {
    /// Opens a version of a block at a place.
    fn open(&self, kind: KeyKind, block: BlockRef, place: u32) -> Option<Plain> {
        let at = place as usize * BLOCK_SIZE;
        let sealed = self.image.get(at..at + BLOCK_SIZE)?.first_chunk()?;
        if generation(sealed) != block.generation {
            return None;
        }
        self.keys.iter().find_map(|keys| keys.open(kind, block.position, sealed))
    }
}
