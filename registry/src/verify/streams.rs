//! The blocks of every stream.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{BlockHead, BlockIndex, DATA_SIZE, StoredStream};
use ar7_engine::{Check, Error as EngineError};

use super::{Subject, Verifier};
use crate::records::Streams;
use crate::stream::{Expected, Neighbour, Segment, check_head, locate};

/// Blocks that are opened at a time: 4 MiB.
const BATCH_BLOCKS: u32 = 1024;

impl Verifier<'_> {
    /// Opens every block of every stream, the reserved ones included.
    pub(super) fn check_streams(&mut self) {
        for stored in self.snapshot.commit().slot.reserved_streams.clone() {
            self.check_stream(&stored);
        }
        self.walk::<Streams>(&mut |verifier, _, stored| {
            verifier.summary.streams += 1;
            verifier.check_stream(&stored);
        });
    }

    /// Follows the extents of a stream in order; chains by links, by extents and by positions must agree.
    fn check_stream(&mut self, stored: &StoredStream) {
        let record = &stored.record;
        let subject = Subject::Stream(record.identity);
        self.summary.bytes += record.length;
        let mut previous: Option<Segment> = None;
        let mut index = 0;
        while index < record.count {
            let segment = match locate(self.snapshot, stored, index) {
                Ok(segment) => segment,
                Err(error) => {
                    self.unreadable_pages += 1;
                    return self.find(subject, error);
                }
            };
            if segment.first != BlockIndex(index) {
                let found = segment.first.get();
                self.disagree(subject.clone(), Check::Extents, index, found);
            }
            let next = match segment.end() {
                end if end == record.count => Neighbour::None,
                end => locate(self.snapshot, stored, end)
                    .map_or(Neighbour::Unknown, |next| Neighbour::At(next.position(end))),
            };
            let before = previous.map_or(Neighbour::None, |previous| {
                Neighbour::At(previous.position(previous.end() - 1))
            });
            let expected = Expected { stream: record.identity, segment, before, after: next };
            self.account(|| subject.clone(), segment.run);
            self.check_segment(&expected);
            index = segment.end();
            previous = Some(segment);
        }
        let first = locate(self.snapshot, stored, 0).ok().map(|segment| segment.position(0));
        let last = previous.map(|segment| segment.position(segment.end() - 1));
        if record.count > 0 && (record.begin, record.end) != (first, last) {
            self.disagree(subject, Check::Record, last, record.end);
        }
    }

    fn check_segment(&mut self, expected: &Expected) {
        let mut data = Vec::new();
        let mut done = 0;
        let total = expected.segment.run.count();
        while done < total {
            let count = BATCH_BLOCKS.min(total - done);
            if self.open(expected, done, count, &mut data).is_err() {
                // One by one, so that each bad block is named.
                for place in done..done + count {
                    if let Err(error) = self.open(expected, place, 1, &mut data) {
                        let index = expected.segment.first.get() + place;
                        self.find(Subject::Block { stream: expected.stream, index }, error);
                    }
                }
            }
            self.summary.data_blocks += u64::from(count);
            done += count;
        }
    }

    /// Opens `count` blocks from the given place of a segment on.
    fn open(
        &self,
        expected: &Expected,
        place: u32,
        count: u32,
        data: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        let blocks = usize::try_from(count).expect("a batch fits memory");
        data.resize(blocks * DATA_SIZE, 0);
        let segment = expected.segment;
        let (_, rest) = segment.run.split(place);
        let run = rest.and_then(|rest| rest.split(count).0).expect("within the segment");
        let check = |within: u32, head: &BlockHead| check_head(expected, place + within, head);
        let commit = self.snapshot.commit();
        self.snapshot.store().read_run(
            &commit.redirects,
            KeyKind::Data,
            run,
            segment.generation,
            data,
            check,
        )
    }
}
