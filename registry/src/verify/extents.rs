//! Extents: each belongs to a stream with several runs or to a pending deletion. They follow one
//! another without gap or overlap, and their blocks belong to the stream.
//!
//! The tree is read from left to right, so that an unreadable page hides only its own extents.

use ar7_engine::Check;
use ar7_engine::format::{StoredStream, StreamLayout};
use uuid::Uuid;

use super::finding::Subject;
use super::verifier::Verifier;
use crate::blocks::{Expected, Neighbour, Segment};
use crate::records::{
    Extent, ExtentKey, Extents, PendingDeletions, ReadRecords, Streams, reserved_index,
};

/// The stream whose extents the walk is visiting.
struct Visited {
    stream: Uuid,
    owner: Owner,
    /// Expected block index of the next extent.
    next: u32,
    /// The last visited extent, whose successor is not known yet.
    last: Option<Expected>,
}

/// The owner of a stream's extents.
enum Owner {
    /// A live stream.
    Stream(StoredStream),
    /// The record is unreadable. The walk of its tree reports that.
    Unknown,
    /// A pending deletion. Purging frees the lowest extents first, so its first extent may have any
    /// index.
    PendingDeletions(StoredStream),
    /// No record; this was reported.
    Missing,
}

impl Verifier<'_> {
    pub(super) fn check_extents(&mut self) {
        let mut current: Option<Visited> = None;
        self.walk::<Extents>(&mut |verifier, key, extent| {
            let visited = match current.take() {
                Some(visited) if visited.stream == key.stream => visited,
                other => {
                    verifier.end_extents(other);
                    verifier.begin_extents(key)
                }
            };
            current = Some(verifier.check_extent(visited, key, extent));
        });
        self.end_extents(current);
        self.open_queued();
    }

    fn begin_extents(&mut self, key: ExtentKey) -> Visited {
        let owner = self.owner(key.stream);
        let next = if let Owner::PendingDeletions(_) = owner { key.first.get() } else { 0 };
        Visited { stream: key.stream, owner, next, last: None }
    }

    fn check_extent(&mut self, mut visited: Visited, key: ExtentKey, extent: Extent) -> Visited {
        match visited.owner {
            Owner::Missing => {}
            Owner::PendingDeletions(_) => {
                self.check_follows(&visited, key);
                self.account(|| Subject::Stream(key.stream), extent.run);
            }
            Owner::Stream(_) | Owner::Unknown => self.check_blocks(&mut visited, key, extent),
        }
        // Cannot overflow: decoding the extent has checked its end.
        visited.next = key.first.get() + extent.run.count();
        visited
    }

    /// Queues the previous extent, whose neighbours on both sides are now known.
    fn check_blocks(&mut self, visited: &mut Visited, key: ExtentKey, extent: Extent) {
        let segment = Segment { first: key.first, run: extent.run, generation: extent.generation };
        let follows = self.check_follows(visited, key);
        let before = match visited.last.take() {
            None if key.first.get() == 0 => Neighbour::None,
            None => Neighbour::Unknown,
            Some(last) if follows => {
                let after = Neighbour::At(extent.run.start());
                self.enqueue(Expected { after, ..last });
                Neighbour::At(last.segment.position(last.segment.end() - 1))
            }
            Some(last) => {
                self.enqueue(last);
                Neighbour::Unknown
            }
        };
        if let Owner::Stream(stored) = &visited.owner
            && key.first.get() == 0
            && stored.record.begin != Some(extent.run.start())
        {
            let found = Some(extent.run.start());
            self.disagree(Subject::Stream(key.stream), Check::Record, stored.record.begin, found);
        }
        let after = Neighbour::Unknown;
        visited.last = Some(Expected { stream: key.stream, segment, before, after });
    }

    fn check_follows(&mut self, visited: &Visited, key: ExtentKey) -> bool {
        let follows = key.first.get() == visited.next;
        if !follows {
            let (expected, found) = (visited.next, key.first.get());
            self.disagree(Subject::Stream(key.stream), Check::Extents, expected, found);
        }
        follows
    }

    /// Compares the end of a stream's last extent with the stream's record.
    fn end_extents(&mut self, visited: Option<Visited>) {
        let Some(visited) = visited else { return };
        let subject = Subject::Stream(visited.stream);
        let record = match &visited.owner {
            Owner::Stream(stored) | Owner::PendingDeletions(stored) => Some(&stored.record),
            Owner::Unknown | Owner::Missing => None,
        };
        let ends = record.is_some_and(|record| record.count == visited.next);
        if let Some(record) = record
            && !ends
        {
            self.disagree(subject.clone(), Check::Extents, record.count, visited.next);
        }
        let Some(last) = visited.last else { return };
        let end = Some(last.segment.position(last.segment.end() - 1));
        if let Some(record) = record
            && ends
            && record.end != end
        {
            self.disagree(subject, Check::Record, record.end, end);
        }
        let after = if ends { Neighbour::None } else { Neighbour::Unknown };
        self.enqueue(Expected { after, ..last });
    }

    fn owner(&mut self, stream: Uuid) -> Owner {
        let subject = Subject::Stream(stream);
        let stored = match reserved_index(stream) {
            Some(_) => self.snapshot.stored(stream),
            None => self.snapshot.get::<Streams>(&stream),
        };
        match (stored, self.snapshot.get::<PendingDeletions>(&stream)) {
            (Ok(Some(stored)), pending) => {
                if let Ok(Some(_)) = pending {
                    self.disagree(subject.clone(), Check::Record, "a stream", "a deleted stream");
                }
                if let StreamLayout::OneRun(_) = stored.layout {
                    self.disagree(subject, Check::Extents, "one run", "extents");
                    return Owner::Missing;
                }
                Owner::Stream(stored)
            }
            (Ok(None), Ok(Some(stored))) => Owner::PendingDeletions(stored),
            (Ok(None), Ok(None)) => {
                self.disagree(subject, Check::Extents, "a stream", "no record");
                Owner::Missing
            }
            // The walk of the record's tree reports the unreadable page.
            (Err(_), _) | (Ok(None), Err(_)) => Owner::Unknown,
        }
    }

    /// Checks pending deletions: they have extents, since a stream of one run is freed at once, and
    /// belong to no inode.
    pub(super) fn check_pending_deletions(&mut self) {
        self.walk::<PendingDeletions>(&mut |verifier, identity, stored| {
            if let StreamLayout::OneRun(_) = stored.layout {
                let subject = Subject::Stream(identity);
                verifier.disagree(subject, Check::Record, "extents", "one run");
            }
            if let Some(inode) = stored.inode {
                let subject = Subject::Stream(identity);
                verifier.disagree(subject, Check::Name, "no inode", inode.get());
            }
        });
    }
}
