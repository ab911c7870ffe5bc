//! The record of each stream, and the unused reserved blocks.

use ar7_engine::format::{BLANK_BLOCKS, BlockHead, BlockIndex, Run, StoredStream, StreamLayout};
use ar7_engine::{Check, Error as EngineError};

use super::finding::Subject;
use super::verifier::Verifier;
use crate::blocks::{Expected, Neighbour, Segment};
use crate::records::{
    ExtentKey, Extents, Inode, InodeNumber, Inodes, PACK_OWNER, Packs, ReadRecords, Streams,
    reserved_index,
};

impl Verifier<'_> {
    /// Opens every block of every stream of one run, including the reserved streams. Streams with
    /// extents are opened by the walk over the extents.
    pub(super) fn check_streams(&mut self) {
        for stored in self.snapshot.commit().slot.reserved_streams.clone() {
            self.check_stream(&stored);
        }
        self.walk::<Streams>(&mut |verifier, identity, stored| {
            verifier.summary.streams += 1;
            if reserved_index(identity).is_some() {
                let subject = Subject::Stream(identity);
                verifier.disagree(
                    subject,
                    Check::Record,
                    "a record in the meta slot only",
                    "a second one",
                );
            }
            verifier.check_stream(&stored);
            verifier.check_inode_of(&stored);
        });
        self.open_queued();
    }

    fn check_stream(&mut self, stored: &StoredStream) {
        let record = &stored.record;
        self.summary.bytes += record.length;
        match (stored.layout, record.begin) {
            (StreamLayout::OneRun(_), None) => {}
            (StreamLayout::OneRun(generation), Some(begin)) => {
                let Some(run) = Run::new(begin, record.count) else {
                    let subject = Subject::Stream(record.identity);
                    return self.disagree(subject, Check::Record, "a run", record.count);
                };
                self.enqueue(Expected {
                    stream: record.identity,
                    segment: Segment { first: BlockIndex(0), run, generation },
                    before: Neighbour::None,
                    after: Neighbour::None,
                });
            }
            (StreamLayout::Extents, _) => self.check_has_extents(stored),
        }
    }

    /// Checks that the inode of a stream refers back to the stream, which would otherwise never be
    /// deleted.
    fn check_inode_of(&mut self, stored: &StoredStream) {
        let Some(number) = stored.inode.map(|inode| InodeNumber(inode.get())) else { return };
        if stored.inode == Some(PACK_OWNER) {
            return self.check_is_pack(stored);
        }
        if self.owners.remove(number.0) || self.extended_owners.remove(number.0) {
            // The inode has a stream that refers back to it. That is usually this one.
            return;
        }
        let stream = stored.record.identity;
        let has_it =
            |inode: &Inode| [inode.stream, inode.extended.stream()].contains(&Some(stream));
        match self.snapshot.get::<Inodes>(&number) {
            Ok(Some(inode)) if has_it(&inode) => {
                // The inode has this stream, so an earlier stream refers to the inode without
                // belonging to it.
                let subject = Subject::Inode(number.0);
                self.disagree(
                    subject,
                    Check::Name,
                    "one stream that refers to the inode",
                    "several",
                );
            }
            Ok(_) => {
                let expected = "an inode that refers back to the stream";
                self.disagree(Subject::Stream(stream), Check::Name, expected, number.0);
            }
            // The walk over the inodes reports the unreadable page.
            Err(_) => {}
        }
    }

    /// Checks that a stream that belongs to no inode as a pack is one.
    fn check_is_pack(&mut self, stored: &StoredStream) {
        let stream = stored.record.identity;
        if let Ok(None) = self.snapshot.get::<Packs>(&stream) {
            self.disagree(Subject::Stream(stream), Check::Frame, "the record of a pack", "none");
        }
    }

    /// Checks that a stream with extents has at least one. The walk over the extents checks the
    /// rest.
    fn check_has_extents(&mut self, stored: &StoredStream) {
        let stream = stored.record.identity;
        let last = ExtentKey { stream, first: BlockIndex(u32::MAX) };
        match self.snapshot.floor::<Extents>(&last) {
            Ok(Some((key, _))) if key.stream == stream => {}
            Ok(_) => {
                let count = stored.record.count;
                self.disagree(Subject::Stream(stream), Check::Extents, count, "no extent");
            }
            Err(error) => self.find(Subject::Stream(stream), error),
        }
    }

    /// Accounts for the blocks of a segment and queues them. A segment that overlaps another one or
    /// exceeds the file is not queued, so that each block is opened at most once.
    pub(super) fn enqueue(&mut self, expected: Expected) {
        let run = expected.segment.run;
        if !self.account(|| Subject::Stream(expected.stream), run) {
            return;
        }
        let mut offset = 0;
        while offset < run.count() {
            offset += self.queue.push(expected, offset);
            if self.queue.is_full() {
                self.open_queued();
            }
        }
    }

    /// Opens the queued blocks on all cores and reports findings in order.
    pub(super) fn open_queued(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        self.summary.data_blocks += u64::from(queue.blocks());
        let found = queue.open(self.snapshot);
        for (subject, error) in found {
            self.find(subject, error);
        }
    }

    /// Checks that the two unused reserved blocks open and are blank.
    pub(super) fn check_blanks(&mut self) {
        if self.snapshot.store().header().rekey.is_some() {
            // A rekey seals them again in place, and a crash may tear them. The rekey writes them
            // again at its end.
            return;
        }
        for position in BLANK_BLOCKS {
            let subject = Subject::Blocks(Run::single(position));
            match self.snapshot.store().reserved_block(position) {
                Err(error) => self.find(subject, error.at_block(position)),
                Ok(block) => {
                    let is_blank = block.head == BlockHead::default()
                        && block.data.iter().all(|&byte| byte == 0);
                    if !is_blank {
                        let error = EngineError::damaged(
                            position,
                            Check::Reserved,
                            "a blank block",
                            "other content",
                        );
                        self.find(subject, error);
                    }
                }
            }
        }
    }
}
