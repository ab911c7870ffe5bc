//! The meta slot: the state of the archive at one commit.

use uuid::Uuid;

use super::reserved::{META_SLOTS, RESERVED_BLOCKS, RESERVED_STREAMS, has_reserved, is_reserved};
use super::stream_record::{StoredStream, stored_stream};
use super::units::{DoubledRef, Generation, Position, Run};
use super::{BLOCKS_MAX, DATA_SIZE, Data, Features, Field, OwnedData};
use crate::error::{Check, Error, Result, Value};

/// Number of roots in a slot.
pub const ROOTS: usize = 16;

/// Largest number of inline free runs in a slot.
pub const INLINE_FREE_RUNS_MAX: usize = 16;

/// Largest number of finished sessions in a slot.
pub const PENDING_SESSIONS_MAX: usize = 32;

/// Largest length of the application's metadata in bytes.
pub const METADATA_MAX: usize = 2048;

/// Largest number of a commit: a reader's lock is at a byte of this number above 2^62.
pub const COMMITS_MAX: u64 = (1 << 62) - 1;

/// Largest depth of a tree.
pub const DEPTH_MAX: u8 = 16;

/// The stream UUID in the head of a meta slot's block.
pub const META_STREAM: Uuid = Uuid::from_u128(0x6172_3700_0000_0000_8000_0000_0000_0101);

crate::layout! {
    /// A root in the meta slot.
    pub mod root, 32 => {
        BLOCK: 20, "both copies of the root page; positions -1 for an empty tree";
        DEPTH: 1, "u8: number of levels, 0 for an empty tree, at most 16";
        RESERVED: 3, "0";
        ENTRIES: 8, "u64: number of entries";
    }
}

crate::layout! {
    /// An inline free run in the meta slot.
    pub mod inline_free_run, 8 => {
        START: 4, "u32: first position";
        COUNT: 4, "u32: number of blocks, at least 1";
    }
}

crate::layout! {
    /// A finished session in the meta slot.
    pub mod session, 12 => {
        SESSION: 4, "u32: number of the session";
        SALT: 4, "u32: its salt";
        LAST_STEP: 4, "u32: its last committed step";
    }
}

crate::layout! {
    /// The data of a meta slot.
    pub mod meta_slot_layout, 4008 => {
        TAG: 4, "\"meta\"";
        VERSION: 2, "u16: 1";
        LENGTH: 2, "u16: number of bytes in use, the tail included";
        FEATURES: 24, "three u64: compatible, readable, required";
        GENERATION: 12, "generation of the commit, the same as the block's own";
        NUMBER: 8, "u64: number of the commit, one more each time, below 2^62";
        BLOCK_COUNT: 4, "u32: blocks in use or free; the file may be longer";
        ROOTS: super::ROOTS * root::SIZE, "16 roots";
        REDO_HEAD: 20, "both copies of the newest block of the redo list, positions -1 for none";
        REDO_LENGTH: 4, "u32: number of entries of the redo list, superseded ones included";
        INLINE_FREE_COUNT: 1, "u8: number of inline free runs, at most 16";
        PENDING_COUNT: 1, "u8: number of finished sessions, at most 32";
        RESERVED: 2, "0";
        INLINE_FREE: INLINE_FREE_RUNS_MAX * inline_free_run::SIZE, "inline free runs in order, then zeros";
        STREAMS: RESERVED_STREAMS * stored_stream::SIZE, "records of the reserved streams 0 to 7";
        HEADER_REVISION: 8, "u64: revision of the header";
        HEADER_DIGEST: 32, "SHA-256 of the header";
        MASTER_KEY_NUMBER: 4, "u32: number of the master key";
        REKEY_WATERMARK: 4, "u32: blocks below it are sealed under the new master key; 0 if no rekey is in progress";
        COUNTERS: 64, "eight u64, whose meaning is the registry's";
        PENDING: PENDING_SESSIONS_MAX * session::SIZE, "finished sessions that no tree records, then zeros";
        METADATA_LENGTH: 2, "u16: length of the application's metadata, at most 2048";
        METADATA: METADATA_MAX, "the application's metadata, then zeros";
        TAIL: 266, "fields of later versions up to LENGTH, kept on rewriting; then zeros";
    }
}

const TAG: [u8; 4] = *b"meta";
const VERSION: u16 = 1;

/// Root of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Root {
    /// The root page; `None` for an empty tree.
    pub block: Option<DoubledRef>,
    /// Number of levels; 0 for an empty tree.
    pub depth: u8,
    /// Number of entries.
    pub entries: u64,
}

/// A finished session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRecord {
    /// Number of the session.
    pub session: u32,
    /// Its salt.
    pub salt: u32,
    /// Its last committed step.
    pub last_step: u32,
}

/// The state of the archive at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaSlot {
    /// Feature sets.
    pub features: Features,
    /// Generation of the commit.
    pub generation: Generation,
    /// Number of the commit.
    pub number: u64,
    /// Blocks in use or free.
    pub block_count: u32,
    /// Roots of the trees.
    pub roots: [Root; ROOTS],
    /// Newest block of the redo list.
    pub redo_head: Option<DoubledRef>,
    /// Number of entries of the redo list, superseded ones included.
    pub redo_length: u32,
    /// Inline free runs, which no tree records, in order.
    pub inline_free: Vec<Run>,
    /// Records of the reserved streams.
    pub reserved_streams: [StoredStream; RESERVED_STREAMS],
    /// Revision of the header.
    pub header_revision: u64,
    /// Digest of the header.
    pub header_digest: [u8; 32],
    /// Number of the master key.
    pub master_key_number: u32,
    /// Blocks below it are sealed under the new master key.
    pub rekey_watermark: u32,
    /// Counters of the layer above.
    pub counters: [u64; 8],
    /// Finished sessions that no tree records yet.
    pub pending_sessions: Vec<SessionRecord>,
    /// The application's own metadata.
    pub metadata: Vec<u8>,
    /// Fields of later versions.
    pub tail: Vec<u8>,
}

impl MetaSlot {
    /// Creates the first slot of a new archive.
    pub fn first(
        generation: Generation,
        header_revision: u64,
        header_digest: [u8; 32],
    ) -> MetaSlot {
        MetaSlot {
            features: Features::default(),
            generation,
            number: 0,
            block_count: RESERVED_BLOCKS,
            roots: [Root::default(); ROOTS],
            redo_head: None,
            redo_length: 0,
            inline_free: Vec::new(),
            reserved_streams: std::array::from_fn(|index| StoredStream::empty(reserved(index))),
            header_revision,
            header_digest,
            master_key_number: 0,
            rekey_watermark: 0,
            counters: [0; 8],
            pending_sessions: Vec::new(),
            metadata: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// Encodes the slot. A list that is too long is an error; nothing is cut.
    ///
    /// Also fails if the slot would not decode to itself: a commit of it would leave an archive that does not open.
    pub fn encode(&self) -> Result<OwnedData> {
        use meta_slot_layout as at;
        check_bound("number of inline free runs", self.inline_free.len(), INLINE_FREE_RUNS_MAX)?;
        check_bound("number of sessions", self.pending_sessions.len(), PENDING_SESSIONS_MAX)?;
        check_bound("length of the metadata", self.metadata.len(), METADATA_MAX)?;
        check_bound("length of the tail", self.tail.len(), at::TAIL.length)?;
        let mut data = OwnedData::zeroed();
        let all = &mut data[..];
        at::TAG.put(all, &TAG);
        at::VERSION.put(all, &VERSION.to_be_bytes());
        put_u16(at::LENGTH, all, at::TAIL.offset + self.tail.len());
        at::FEATURES.put(all, &self.features.encode());
        at::GENERATION.put(all, &self.generation.encode());
        at::NUMBER.put(all, &self.number.to_be_bytes());
        at::BLOCK_COUNT.put(all, &self.block_count.to_be_bytes());
        put_list(at::ROOTS, all, root::SIZE, &self.roots, |root, bytes| {
            root::BLOCK.put(bytes, &DoubledRef::encode(root.block));
            root::DEPTH.put(bytes, &[root.depth]);
            root::ENTRIES.put(bytes, &root.entries.to_be_bytes());
        });
        at::REDO_HEAD.put(all, &DoubledRef::encode(self.redo_head));
        at::REDO_LENGTH.put(all, &self.redo_length.to_be_bytes());
        put_u8(at::INLINE_FREE_COUNT, all, self.inline_free.len());
        put_u8(at::PENDING_COUNT, all, self.pending_sessions.len());
        put_list(at::INLINE_FREE, all, inline_free_run::SIZE, &self.inline_free, |run, bytes| {
            inline_free_run::START.put(bytes, &run.start().get().to_be_bytes());
            inline_free_run::COUNT.put(bytes, &run.count().to_be_bytes());
        });
        put_list(at::STREAMS, all, stored_stream::SIZE, &self.reserved_streams, |stored, bytes| {
            bytes.copy_from_slice(&stored.encode());
        });
        at::HEADER_REVISION.put(all, &self.header_revision.to_be_bytes());
        at::HEADER_DIGEST.put(all, &self.header_digest);
        at::MASTER_KEY_NUMBER.put(all, &self.master_key_number.to_be_bytes());
        at::REKEY_WATERMARK.put(all, &self.rekey_watermark.to_be_bytes());
        put_list(at::COUNTERS, all, 8, &self.counters, |counter, bytes| {
            bytes.copy_from_slice(&counter.to_be_bytes());
        });
        put_list(at::PENDING, all, session::SIZE, &self.pending_sessions, |record, bytes| {
            session::SESSION.put(bytes, &record.session.to_be_bytes());
            session::SALT.put(bytes, &record.salt.to_be_bytes());
            session::LAST_STEP.put(bytes, &record.last_step.to_be_bytes());
        });
        put_u16(at::METADATA_LENGTH, all, self.metadata.len());
        at::METADATA.of_mut(all)[..self.metadata.len()].copy_from_slice(&self.metadata);
        at::TAIL.of_mut(all)[..self.tail.len()].copy_from_slice(&self.tail);
        let decoded = MetaSlot::decode(META_SLOTS[0], self.generation, &data);
        if decoded? != *self {
            let expected = "a slot that decodes to itself";
            return Err(Error::damaged(None, Check::MetaSlot, expected, "another"));
        }
        Ok(data)
    }

    /// Decodes the slot that was sealed at `position` in this generation.
    pub fn decode(position: Position, sealed: Generation, data: &Data) -> Result<MetaSlot> {
        Decoder { position, data }.decode(sealed)
    }
}

/// Returns the UUID of a reserved stream.
fn reserved(index: usize) -> Uuid {
    Uuid::from_u128(index as u128)
}

struct Decoder<'a> {
    position: Position,
    data: &'a Data,
}

impl Decoder<'_> {
    fn decode(&self, sealed: Generation) -> Result<MetaSlot> {
        use meta_slot_layout as at;
        let data = self.data;
        let generation = Generation::decode(at::GENERATION.array(data));
        let tail = self.check_frame(sealed, generation)?;
        let block_count = at::BLOCK_COUNT.u32(data);
        if !(RESERVED_BLOCKS..=BLOCKS_MAX).contains(&block_count) {
            return Err(self.damaged(BLOCKS_MAX, block_count));
        }
        let number = at::NUMBER.u64(data);
        if number > COMMITS_MAX {
            return Err(self.damaged(COMMITS_MAX, number));
        }
        let redo_head = self.doubled(at::REDO_HEAD.array(data), block_count)?;
        let redo_length = at::REDO_LENGTH.u32(data);
        // Each live entry needs two blocks, a home location and a shadow block, and at most half of the list is
        // superseded.
        let most = if redo_head.is_some() { block_count - RESERVED_BLOCKS } else { 0 };
        if redo_head.is_some() != (redo_length > 0) || redo_length > most {
            return Err(Error::damaged(self.position, Check::RedoList, most, redo_length));
        }
        let rekey_watermark = at::REKEY_WATERMARK.u32(data);
        if rekey_watermark > BLOCKS_MAX {
            return Err(self.damaged(BLOCKS_MAX, rekey_watermark));
        }
        let metadata = self.counted(at::METADATA, 1, usize::from(at::METADATA_LENGTH.u16(data)))?;
        let mut reserved_streams = Vec::with_capacity(RESERVED_STREAMS);
        for (index, bytes) in at::STREAMS.of(data).chunks_exact(stored_stream::SIZE).enumerate() {
            reserved_streams.push(self.stream(index, bytes, block_count)?);
        }
        let mut roots = [Root::default(); ROOTS];
        for (root, bytes) in roots.iter_mut().zip(at::ROOTS.of(data).chunks_exact(root::SIZE)) {
            *root = self.root(bytes, block_count)?;
        }
        let mut counters = [0; 8];
        for (counter, bytes) in counters.iter_mut().zip(at::COUNTERS.of(data).chunks_exact(8)) {
            *counter = u64::from_be_bytes(bytes.try_into().expect("a chunk of eight"));
        }
        Ok(MetaSlot {
            features: Features::decode(at::FEATURES.array(data)),
            generation,
            number,
            block_count,
            roots,
            redo_head,
            redo_length,
            inline_free: self.inline_free(block_count)?,
            reserved_streams: reserved_streams.try_into().expect("eight records"),
            header_revision: at::HEADER_REVISION.u64(data),
            header_digest: at::HEADER_DIGEST.array(data),
            master_key_number: at::MASTER_KEY_NUMBER.u32(data),
            rekey_watermark,
            counters,
            pending_sessions: self.pending()?,
            metadata: metadata.to_vec(),
            tail,
        })
    }

    /// Checks tag, version, features, generation and length. Returns the tail.
    fn check_frame(&self, sealed: Generation, generation: Generation) -> Result<Vec<u8>> {
        use meta_slot_layout as at;
        let data = self.data;
        if at::TAG.of(data) != TAG {
            return Err(self.damaged("a meta slot", "another tag"));
        }
        let version = at::VERSION.u16(data);
        if version == 0 {
            return Err(self.damaged(VERSION, version));
        }
        if version > VERSION {
            return Err(Error::NewerFormat {
                what: "version of the meta slot",
                found: version.into(),
                supported: VERSION.into(),
            });
        }
        Features::decode(at::FEATURES.array(data)).check_readable()?;
        if generation != sealed {
            return Err(Error::tampered(self.position, Check::MetaSlot, sealed, generation));
        }
        let length = usize::from(at::LENGTH.u16(data));
        if !(at::TAIL.offset..=DATA_SIZE).contains(&length) {
            return Err(self.damaged(DATA_SIZE, length));
        }
        self.check_zeros(&data[length..])?;
        self.check_zeros(at::RESERVED.of(data))?;
        Ok(data[at::TAIL.offset..length].to_vec())
    }

    fn root(&self, bytes: &[u8], block_count: u32) -> Result<Root> {
        let block = self.doubled(root::BLOCK.array(bytes), block_count)?;
        let [depth] = root::DEPTH.array(bytes);
        let entries = root::ENTRIES.u64(bytes);
        self.check_zeros(root::RESERVED.of(bytes))?;
        let some = (block.is_some(), depth > 0, entries > 0);
        if depth > DEPTH_MAX || (some != (true, true, true) && some != (false, false, false)) {
            return Err(Error::damaged(self.position, Check::Root, DEPTH_MAX, depth));
        }
        Ok(Root { block, depth, entries })
    }

    fn inline_free(&self, block_count: u32) -> Result<Vec<Run>> {
        use meta_slot_layout as at;
        let [count] = at::INLINE_FREE_COUNT.array(self.data);
        let used = self.counted(at::INLINE_FREE, inline_free_run::SIZE, usize::from(count))?;
        let mut runs: Vec<Run> = Vec::with_capacity(usize::from(count));
        for bytes in used.chunks_exact(inline_free_run::SIZE) {
            let (start, count) =
                (inline_free_run::START.u32(bytes), inline_free_run::COUNT.u32(bytes));
            let least = runs.last().map_or(RESERVED_BLOCKS, |run| run.end());
            let run = Position::new(start).and_then(|start| Run::new(start, count));
            match run.filter(|run| !has_reserved(*run)) {
                Some(run) if start >= least && run.end() <= block_count => runs.push(run),
                _ => return Err(self.damaged(least, start)),
            }
        }
        Ok(runs)
    }

    fn pending(&self) -> Result<Vec<SessionRecord>> {
        use meta_slot_layout as at;
        let [count] = at::PENDING_COUNT.array(self.data);
        let used = self.counted(at::PENDING, session::SIZE, usize::from(count))?;
        let record = |bytes: &[u8]| SessionRecord {
            session: session::SESSION.u32(bytes),
            salt: session::SALT.u32(bytes),
            last_step: session::LAST_STEP.u32(bytes),
        };
        Ok(used.chunks_exact(session::SIZE).map(record).collect())
    }

    fn stream(&self, index: usize, bytes: &[u8], block_count: u32) -> Result<StoredStream> {
        let bytes = bytes.try_into().expect("a chunk of the length of a record");
        let stored = StoredStream::decode(bytes).map_err(|error| error.at_block(self.position))?;
        let record = &stored.record;
        let (expected, found) = (reserved(index), record.identity);
        if expected != found {
            return Err(Error::damaged(self.position, Check::Record, expected, found));
        }
        if let Some(found) = stored.inode {
            return Err(Error::damaged(self.position, Check::Record, "no inode", found.get()));
        }
        let beyond = |end: &Position| end.get() >= block_count;
        if let Some(found) = [record.begin, record.end].into_iter().flatten().find(beyond) {
            return Err(Error::damaged(self.position, Check::Record, block_count - 1, found));
        }
        Ok(stored)
    }

    /// Decodes a reference to a doubled block of the commit.
    fn doubled(
        &self,
        bytes: [u8; DoubledRef::SIZE],
        block_count: u32,
    ) -> Result<Option<DoubledRef>> {
        let damaged = |found: i32| {
            self.damaged("-1 or two positions from 8 up, below the block count", found)
        };
        let found = DoubledRef::decode(bytes).map_err(damaged)?;
        let is_outside = |copy: &Position| copy.get() >= block_count || is_reserved(*copy);
        match found.and_then(|block| [block.position, block.copy].into_iter().find(is_outside)) {
            Some(outside) => Err(damaged(Position::to_link(Some(outside)))),
            None => Ok(found),
        }
    }

    /// Returns the first `count` items of a field. The rest must be zeros.
    fn counted(&self, field: Field, size: usize, count: usize) -> Result<&[u8]> {
        let bytes = field.of(self.data);
        let most = bytes.len() / size;
        if count > most {
            return Err(self.damaged(most, count));
        }
        let (used, unused) = bytes.split_at(count * size);
        self.check_zeros(unused)?;
        Ok(used)
    }

    fn check_zeros(&self, bytes: &[u8]) -> Result<()> {
        match bytes.iter().find(|&&byte| byte != 0) {
            Some(&found) => Err(Error::damaged(self.position, Check::Reserved, 0_u8, found)),
            None => Ok(()),
        }
    }

    fn damaged(&self, expected: impl Into<Value>, found: impl Into<Value>) -> Error {
        Error::damaged(self.position, Check::MetaSlot, expected, found)
    }
}

fn check_bound(what: &'static str, found: usize, allowed: usize) -> Result<()> {
    if found > allowed {
        return Err(Error::OutOfBounds { what, found: found.into(), allowed: allowed.into() });
    }
    Ok(())
}

fn put_u8(field: Field, bytes: &mut [u8], value: usize) {
    field.put(bytes, &[u8::try_from(value).expect("bounded before")]);
}

fn put_u16(field: Field, bytes: &mut [u8], value: usize) {
    field.put(bytes, &u16::try_from(value).expect("bounded before").to_be_bytes());
}

fn put_list<T>(
    field: Field,
    bytes: &mut [u8],
    size: usize,
    items: &[T],
    put: impl Fn(&T, &mut [u8]),
) {
    for (item, bytes) in items.iter().zip(field.of_mut(bytes).chunks_exact_mut(size)) {
        put(item, bytes);
    }
}
