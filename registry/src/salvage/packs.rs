//! The frames that are left of packs, found by their heads, without any index.
//!
//! It takes 56 bytes for each frame, 24 for each slice, and the places of the blocks of each pack. No content stays in
//! memory.

use std::collections::HashSet;

use ar7_engine::format::{BlockIndex, DATA_SIZE_U64, Generation, Position, Run};
use uuid::Uuid;

use super::content::{Part, Source};
use super::versions::Version;
use crate::blocks::Segment;
use crate::error::Result;
use crate::packs::{
    BLOCK_BYTES, Content, FRAME_MAX, HEAD_SIZE, Head, LONG_FILE_FRAME_BYTES, PACK_BYTES,
    STORED_MAX, decode, frame_head_layout, read_head,
};
use crate::records::{Frame, Frames, InodeNumber, Inodes, PACK_OWNER, TreeId, reserved_index};

const HEAD: usize = frame_head_layout::SIZE;

/// Maximum number of blocks of a pack.
const PACK_BLOCKS: u32 = PACK_BYTES / BLOCK_BYTES + 1;

/// The length of a frame that ended because it was full is a multiple of this. Other ones end where something needed their
/// content.
const FULL_FRAME: u32 = LONG_FILE_FRAME_BYTES;

/// A pack of this length or more may have ended because the next frame had no room.
const FULL_PACK: u32 = PACK_BYTES - STORED_MAX - BLOCK_BYTES - HEAD_SIZE;

/// Bytes that heads without a frame may make a scan of one version decode. Content can be full of heads.
const WASTED_MAX: usize = 256 << 20;

/// A frame that decodes.
#[derive(Debug, Clone, Copy)]
struct FoundFrame {
    length: u32,
    /// Its place in the version.
    offset: u32,
    stored: u32,
    version: u32,
    /// Whether all of its content is of files, as the newest index has it.
    is_live: bool,
    trust: Trust,
}

/// How likely it is that a frame holds the bytes at its addresses, in ascending order. A transaction that did not commit
/// leaves frames whose addresses were used again, and content can look like a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Trust {
    /// Whether the newest index names it.
    is_indexed: bool,
    /// Whether frames lead to it from the begin of the pack.
    is_chained: bool,
    generation: Generation,
}

/// A part of a frame that the table of the frame assigns to an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundSlice {
    pub(super) inode: u64,
    /// Its first address.
    pub(super) first: u64,
    pub(super) length: u32,
    /// Offset of its first byte in the frame.
    start: u32,
    frame: u32,
}

impl FoundSlice {
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.length)
    }
}

/// A range of addresses that is one file, as far as the tables tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) first: u64,
    pub(super) length: u64,
}

/// Every frame that is left.
#[derive(Default)]
pub(super) struct Packs {
    identities: HashSet<Uuid>,
    versions: Vec<Version>,
    frames: Vec<FoundFrame>,
    /// In the order of inodes and of addresses. Those of one inode do not overlap.
    slices: Vec<FoundSlice>,
    /// The frame that was decoded last.
    decoded: Option<(u32, Content)>,
}

impl Packs {
    /// Scans all streams that may be packs. `proceed` is called before each of them.
    pub(super) fn scan(
        source: &Source<'_>,
        proceed: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Packs> {
        let mut packs = Packs::default();
        let named = unrecorded_streams_of_inodes(source);
        let mut last = None;
        for fragment in source.index.fragments() {
            let stream = fragment.stream;
            if last.replace(stream) == Some(stream) || reserved_index(stream).is_some() {
                continue;
            }
            let is_pack = match source.stored(stream) {
                Some(stored) => stored.value.inode == Some(PACK_OWNER),
                None => !named.contains(&stream) && may_be_pack(source, stream)?,
            };
            if is_pack {
                proceed()?;
                packs.add_stream(source, stream)?;
            }
        }
        packs.sort();
        Ok(packs)
    }

    /// Returns whether a stream is a pack.
    pub(super) fn has(&self, stream: Uuid) -> bool {
        self.identities.contains(&stream)
    }

    fn add_stream(&mut self, source: &Source<'_>, stream: Uuid) -> Result<()> {
        let is_recorded = source.stored(stream).is_some();
        let has_dead_slices = source.slot.is_none_or(|(slot, is_certain)| {
            !is_certain || slot.roots[TreeId::DeadSlices.index()].entries > 0
        });
        let mut versions = source.versions(stream, None);
        if versions.len() != 1 || !versions[0].is_proven {
            versions.extend(assembled(source, stream));
        }
        if is_recorded {
            self.identities.insert(stream);
        }
        for version in versions {
            let number = u32::try_from(self.versions.len()).unwrap_or(u32::MAX);
            let generation = version.generation();
            let mut scan = Scan::default();
            let mut found = |offset: u32, head: &Head, content: &Content, is_chained: bool| {
                let record = newest_record(source, stream, offset, content.first);
                let is_live = !has_dead_slices
                    && record.as_ref().is_some_and(|frame| frame.live == frame.written);
                let trust = Trust { is_indexed: record.is_some(), is_chained, generation };
                let (length, stored, version) = (head.length, head.stored, number);
                self.add(content, FoundFrame { length, offset, stored, version, is_live, trust });
            };
            source.read(&version, &mut |part| {
                match part {
                    Part::Bytes(bytes) => scan.add(bytes, &mut found),
                    Part::Gap(length) => scan.skip(length, &mut found),
                }
                Ok(())
            })?;
            scan.finish(&mut found);
            if scan.frames > 0 {
                self.identities.insert(stream);
                self.versions.push(version);
            }
        }
        Ok(())
    }

    fn add(&mut self, content: &Content, found: FoundFrame) {
        let Ok(frame) = u32::try_from(self.frames.len()) else { return };
        if content.first.checked_add(FRAME_MAX as u64).is_none() {
            return;
        }
        self.frames.push(found);
        self.slices.extend(content.slices.iter().map(|slice| FoundSlice {
            inode: slice.inode,
            first: content.first + u64::from(slice.start),
            length: slice.length,
            start: slice.start,
            frame,
        }));
    }

    /// Sorts the slices. Of those that overlap, the one of the most trusted frame stays.
    fn sort(&mut self) {
        let frames = &self.frames;
        let trust = |slice: &FoundSlice| frames[slice.frame as usize].trust;
        self.slices.sort_by(|one, other| {
            let order = (one.inode, one.first).cmp(&(other.inode, other.first));
            order.then_with(|| trust(other).cmp(&trust(one)))
        });
        let mut kept: Vec<FoundSlice> = Vec::with_capacity(self.slices.len());
        'slices: for slice in self.slices.drain(..) {
            let overlaps =
                |last: &FoundSlice| last.inode == slice.inode && last.end() > slice.first;
            while let Some(last) = kept.last().filter(|last| overlaps(last)) {
                if trust(last) >= trust(&slice) {
                    continue 'slices;
                }
                kept.pop();
            }
            kept.push(slice);
        }
        kept.shrink_to_fit();
        self.slices = kept;
    }

    /// Returns the slice of an inode that has an address, or the next one.
    pub(super) fn slice_from(&self, inode: InodeNumber, address: u64) -> Option<FoundSlice> {
        let at = self.slices.partition_point(|slice| {
            slice.inode < inode.0 || slice.inode == inode.0 && slice.end() <= address
        });
        self.slices.get(at).filter(|slice| slice.inode == inode.0).copied()
    }

    /// Returns the inodes that the tables name, each once.
    pub(super) fn inodes(&self) -> Vec<InodeNumber> {
        let mut inodes: Vec<InodeNumber> =
            self.slices.iter().map(|slice| InodeNumber(slice.inode)).collect();
        inodes.dedup();
        inodes
    }

    /// Returns what may be the content of an inode, in the order in which it was written. Slices of which a whole index
    /// no longer has the frame are left out.
    pub(super) fn candidates(&self, source: &Source<'_>, inode: InodeNumber) -> Vec<Candidate> {
        let begin = self.slices.partition_point(|slice| slice.inode < inode.0);
        let of_inode = self.slices[begin..].iter().take_while(|slice| slice.inode == inode.0);
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut last: Option<&FoundSlice> = None;
        for slice in of_inode {
            let frame = slice.first - u64::from(slice.start);
            if source.frames.is_whole && source.frames.get::<Frames>(source.pages, &frame).is_none()
            {
                continue;
            }
            let length = u64::from(slice.length);
            match candidates.last_mut().zip(last) {
                Some((candidate, last)) if self.continues(last, slice) => {
                    candidate.length += length;
                }
                _ => candidates.push(Candidate { first: slice.first, length }),
            }
            last = Some(slice);
        }
        candidates
    }

    /// Returns whether a slice continues the file of another one in the frame before. An inode has one slice, so it does if
    /// both are alive.
    ///
    /// Without an index that says so, a full frame leads on to the next one of the same transaction, which has its own packs:
    /// after any other frame, the slice may be what replaced the file. Content that was moved is in packs of other
    /// transactions, so then a long file stays in pieces.
    fn continues(&self, one: &FoundSlice, other: &FoundSlice) -> bool {
        let (before, after) = (self.frames[one.frame as usize], self.frames[other.frame as usize]);
        let is_full = other.start == 0
            && one.start + one.length == before.length
            && before.length.is_multiple_of(FULL_FRAME);
        let pack = |frame: FoundFrame| self.versions[frame.version as usize].stream;
        let is_same_pack = pack(before) == pack(after);
        let is_next_pack =
            before.offset.saturating_add(before.stored) >= FULL_PACK && after.offset == 0;
        let are_alive = before.is_live && after.is_live;
        one.end() == other.first && (are_alive || is_full && (is_same_pack || is_next_pack))
    }

    /// Returns whether the newest index names the frame of a slice.
    pub(super) fn is_indexed(&self, slice: &FoundSlice) -> bool {
        self.frames[slice.frame as usize].trust.is_indexed
    }

    /// Passes bytes of a slice, from an address on, to `write`. Returns `false` if they do not open any more.
    pub(super) fn read(
        &mut self,
        source: &Source<'_>,
        slice: &FoundSlice,
        (first, end): (u64, u64),
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        if self.decoded.as_ref().is_none_or(|(frame, _)| *frame != slice.frame) {
            self.decoded = self.decode(source, slice.frame)?.map(|content| (slice.frame, content));
        }
        let Some((_, content)) = &self.decoded else { return Ok(false) };
        let index = |address: u64| {
            usize::try_from(address.saturating_sub(content.first)).unwrap_or(usize::MAX)
        };
        let Some(bytes) = content.bytes.get(index(first)..index(end)) else { return Ok(false) };
        write(bytes)?;
        Ok(true)
    }

    fn decode(&self, source: &Source<'_>, frame: u32) -> Result<Option<Content>> {
        let frame = self.frames[frame as usize];
        let version = &self.versions[frame.version as usize];
        let begin = u64::from(frame.offset);
        let bytes =
            read_range(source, version, begin, begin + (HEAD as u64 + u64::from(frame.stored)))?;
        let Some((head, stored)) = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk())
        else {
            return Ok(None);
        };
        let content = read_head(head).and_then(|head| decode(&head, stored));
        Ok(content.ok())
    }
}

/// Returns the streams without a record that an inode names. They are no packs.
fn unrecorded_streams_of_inodes(source: &Source<'_>) -> HashSet<Uuid> {
    let inodes = source.inodes.records::<Inodes>(source.pages, &InodeNumber(0));
    let streams = inodes.filter_map(|found| found.value.1.stream);
    streams.filter(|&stream| source.stored(stream).is_none()).collect()
}

/// Returns whether a stream without a record may be a pack: it begins with the head of a frame, or its begin is lost.
fn may_be_pack(source: &Source<'_>, stream: Uuid) -> Result<bool> {
    let fragments = source.index.fragments_of(stream);
    if fragments.iter().any(|fragment| fragment.end() > PACK_BLOCKS) {
        return Ok(false);
    }
    for version in source.versions(stream, None) {
        if version.segments.first().is_none_or(|segment| segment.first.get() > 0) {
            continue;
        }
        let head = read_range(source, &version, 0, HEAD as u64)?;
        if let Some((head, _)) = head.as_deref().and_then(|head| head.split_first_chunk()) {
            return Ok(read_head(head).is_ok());
        }
    }
    Ok(true)
}

/// Returns the record of a frame, if the newest index has it at this place.
fn newest_record(source: &Source<'_>, pack: Uuid, offset: u32, first: u64) -> Option<Frame> {
    let found =
        source.frames.get::<Frames>(source.pages, &first).filter(|frame| frame.is_newest)?;
    let stored = found.value.stored?;
    (stored.pack == pack && stored.offset == offset).then_some(found.value)
}

/// Returns the newest block of each index together. This is no version in general, but a pack only grows, so a newer
/// block of it holds what an older one does.
fn assembled(source: &Source<'_>, stream: Uuid) -> Option<Version> {
    let mut blocks: Vec<Option<(Position, Generation)>> = Vec::new();
    let newest = source.slot.filter(|(_, is_certain)| *is_certain).map(|(slot, _)| slot.generation);
    for fragment in source.index.fragments_of(stream) {
        let is_committed = newest.is_none_or(|newest| fragment.generation <= newest);
        if fragment.end() > PACK_BLOCKS || !is_committed {
            continue;
        }
        let segment =
            Segment { first: fragment.first, run: fragment.run, generation: fragment.generation };
        for index in fragment.first.get()..fragment.end() {
            let at = index as usize;
            blocks.resize(blocks.len().max(at + 1), None);
            let is_newer = |(_, known): (Position, Generation)| known < fragment.generation;
            if blocks[at].is_none_or(is_newer) {
                blocks[at] = Some((segment.position(index), fragment.generation));
            }
        }
    }
    let length = blocks.len() as u64 * DATA_SIZE_U64;
    let segments = blocks.iter().zip(0_u32..).filter_map(|(block, index)| {
        let (position, generation) = (*block)?;
        Some(Segment { first: BlockIndex(index), run: Run::single(position), generation })
    });
    let segments: Vec<Segment> = segments.collect();
    (!segments.is_empty()).then_some(Version { stream, segments, length, is_proven: false })
}

/// Returns some bytes of a version, or `None` if any of them is lost.
fn read_range(
    source: &Source<'_>,
    version: &Version,
    begin: u64,
    end: u64,
) -> Result<Option<Vec<u8>>> {
    let block = |offset: u64| u32::try_from(offset / DATA_SIZE_U64).unwrap_or(u32::MAX);
    let (low, high) = (block(begin), block(end.saturating_add(DATA_SIZE_U64 - 1)));
    let segments = version.segments.iter().filter_map(|segment| {
        let (low, high) = (low.max(segment.first.get()), high.min(segment.end()));
        let count = high.checked_sub(low).filter(|&count| count > 0)?;
        let run = Run::new(segment.position(low), count)?;
        Some(Segment { first: BlockIndex(low), run, generation: segment.generation })
    });
    let (segments, length) = (segments.collect(), version.length.min(end));
    let part = Version { segments, length, ..version.clone() };
    let (mut bytes, mut at) = (Vec::new(), 0);
    source.read(&part, &mut |part| {
        match part {
            Part::Gap(length) => at += length,
            Part::Bytes(read) => {
                let skipped = usize::try_from(begin.saturating_sub(at)).unwrap_or(usize::MAX);
                bytes.extend_from_slice(read.get(skipped..).unwrap_or_default());
                at += read.len() as u64;
            }
        }
        Ok(())
    })?;
    Ok((bytes.len() as u64 == end - begin).then_some(bytes))
}

/// Receives the offset of a frame, its head and content, and whether frames lead to it from the begin.
type OnFrame<'f> = dyn FnMut(u32, &Head, &Content, bool) + 'f;

/// A scan for frames. It holds at most one frame and what was read last.
#[derive(Default)]
struct Scan {
    buffer: Vec<u8>,
    /// Offset of the buffer in the stream.
    base: u64,
    /// Where the next frame begins, if all before it decode.
    chain: Option<u64>,
    is_broken: bool,
    frames: usize,
    wasted: usize,
}

impl Scan {
    fn add(&mut self, bytes: &[u8], found: &mut OnFrame<'_>) {
        self.buffer.extend_from_slice(bytes);
        self.search(false, found);
    }

    fn skip(&mut self, length: u64, found: &mut OnFrame<'_>) {
        self.finish(found);
        self.base += length;
        self.is_broken = true;
    }

    fn finish(&mut self, found: &mut OnFrame<'_>) {
        self.search(true, found);
        self.base += self.buffer.len() as u64;
        self.buffer.clear();
    }

    fn search(&mut self, is_end: bool, found: &mut OnFrame<'_>) {
        let mut at = 0;
        while let Some(next) = self.buffer[at..].windows(4).position(|tag| tag == b"fram") {
            at += next;
            let Some((head, rest)) = self.buffer[at..].split_first_chunk::<HEAD>() else { break };
            let Some(head) = read_head(head).ok().filter(|_| self.wasted < WASTED_MAX) else {
                at += 1;
                continue;
            };
            let stored = usize::try_from(head.stored).expect("a u32 fits");
            if rest.len() < stored {
                if !is_end {
                    break;
                }
                at += 1;
                continue;
            }
            let offset = self.base + at as u64;
            let decoded = decode(&head, &rest[..stored]).ok().zip(u32::try_from(offset).ok());
            let Some((content, place)) = decoded else {
                self.wasted += HEAD + content_len(&head);
                at += 1;
                continue;
            };
            let chain = self.chain.unwrap_or(0);
            let block = chain.next_multiple_of(DATA_SIZE_U64);
            let is_next = [chain, block, block + DATA_SIZE_U64].contains(&offset);
            self.is_broken |= !is_next;
            found(place, &head, &content, !self.is_broken);
            self.frames += 1;
            at += HEAD + stored;
            self.chain = Some(self.base + at as u64);
        }
        // What may be the begin of a head stays.
        let tail = self.buffer.len().saturating_sub(3);
        let is_waiting = self.buffer[at..].starts_with(b"fram") && !is_end;
        let done = if is_waiting { at } else { at.max(tail) };
        self.buffer.drain(..done);
        self.base += done as u64;
    }
}

fn content_len(head: &Head) -> usize {
    usize::try_from(head.length.max(head.stored)).expect("a u32 fits")
}
