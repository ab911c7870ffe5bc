//! Finds the blocks of streams that lie at or above the ceiling, in order of stream and index.

use std::ops::Range;
use std::sync::Arc;

use ar7_engine::format::{BlockIndex, StoredStream};
use uuid::Uuid;

use crate::archive::State;
use crate::blocks::{is_damage, locate};
use crate::committed::Committed;
use crate::error::{Error, Result};
use crate::records::{ExtentKey, Extents, ReadRecords, Streams, TreeId, reserved_index};
use crate::verify::{Finding, Subject};

/// Maximum number of segments that one step looks at.
const LOOKED_MAX: usize = 1 << 16;

/// Maximum number of segments that one part has, which bounds the pages that moving it changes.
const SEGMENTS_MAX: usize = 512;

/// A block: all before it were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stream: Uuid,
    pub(super) index: u32,
}

impl Place {
    pub(super) fn first() -> Place {
        Place { stream: Uuid::nil(), index: 0 }
    }

    /// Returns the place before all streams after this one.
    fn next_stream(self) -> Option<Place> {
        let stream = Uuid::from_u128(self.stream.as_u128().checked_add(1)?);
        Some(Place { stream, index: 0 })
    }
}

/// A search for blocks to move, for one step.
pub(super) struct Search {
    /// The place after the last block that was looked at.
    pub(super) at: Place,
    ceiling: u32,
    /// Number of segments that were looked at.
    looked: usize,
    pub(super) damaged: Vec<Finding>,
    /// Whether everything was looked at.
    pub(super) is_at_end: bool,
}

/// Consecutive blocks of a stream that lie at or above the ceiling.
pub(super) struct Part {
    pub(super) stored: StoredStream,
    pub(super) range: Range<u32>,
}

impl Part {
    pub(super) fn place(&self) -> Place {
        Place { stream: self.stored.record.identity, index: self.range.start }
    }
}

impl State {
    /// Finds the next part of at most `most` blocks. Returns none at the end, and once the search has looked at enough.
    pub(super) fn next_part(
        &self,
        committed: &Arc<Committed>,
        search: &mut Search,
        most: u32,
    ) -> Result<Option<Part>> {
        while search.looked < LOOKED_MAX && !search.is_at_end {
            search.looked += 1;
            let stored = match self.stream_from(search.at.stream) {
                Ok(Some(stored)) => stored,
                Ok(None) => {
                    search.is_at_end = true;
                    break;
                }
                Err(error) if is_damage(&error) => {
                    let snapshot = committed.snapshot();
                    let next = snapshot.past_damaged_record::<Streams>(&search.at.stream);
                    search.damaged.push(Finding { subject: Subject::Tree(TreeId::Streams), error });
                    search.go_to(
                        next.and_then(|key| Some(Place { stream: first_16(&key)?, index: 0 })),
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            if stored.record.identity != search.at.stream {
                search.at = Place { stream: stored.record.identity, index: 0 };
            }
            if let Some(range) = self.part_of(committed, search, &stored, most)? {
                search.at.index = range.end;
                return Ok(Some(Part { stored, range }));
            }
            if search.looked < LOOKED_MAX && search.at.index >= stored.record.count {
                search.go_to(search.at.next_stream());
            }
        }
        Ok(None)
    }

    /// Returns the first stream from `identity` on.
    fn stream_from(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        match reserved_index(identity) {
            Some(index) => Ok(Some(self.reserved[index].clone())),
            None => Ok(self.trees.ceiling::<Streams>(&identity)?.map(|(_, stored)| stored)),
        }
    }

    /// Finds the next part of a stream, from the place of the search on.
    fn part_of(
        &self,
        committed: &Arc<Committed>,
        search: &mut Search,
        stored: &StoredStream,
        most: u32,
    ) -> Result<Option<Range<u32>>> {
        let mut found: Option<Range<u32>> = None;
        let mut segments = 0;
        while search.at.index < stored.record.count && search.looked < LOOKED_MAX {
            search.looked += 1;
            let segment = match locate(&self.trees, stored, search.at.index) {
                Ok(segment) => segment,
                Err(error) if is_damage(&error) => {
                    if found.is_none() {
                        search.skip_damage(committed, stored, error);
                        continue;
                    }
                    break;
                }
                Err(error) => return Err(error),
            };
            let below = search.ceiling.saturating_sub(segment.run.start().get());
            let begin = segment.first.get().saturating_add(below).max(search.at.index);
            if begin >= segment.end() || found.as_ref().is_some_and(|part| part.end != begin) {
                if found.is_some() {
                    break;
                }
                search.at.index = segment.end();
                continue;
            }
            let start = found.map_or(begin, |part| part.start);
            let end = segment.end().min(start.saturating_add(most));
            found = Some(start..end);
            search.at.index = end;
            segments += 1;
            if end - start >= most || segments >= SEGMENTS_MAX {
                break;
            }
        }
        Ok(found)
    }
}

/// Returns the stream with which a key begins.
fn first_16(key: &[u8]) -> Option<Uuid> {
    let stream: [u8; 16] = key.get(..16)?.try_into().ok()?;
    Some(Uuid::from_bytes(stream))
}

impl Search {
    pub(super) fn begin(at: Place, ceiling: u32) -> Search {
        Search { at, ceiling, looked: 0, damaged: Vec::new(), is_at_end: false }
    }

    /// Goes on after an unreadable page of extents.
    fn skip_damage(&mut self, committed: &Arc<Committed>, stored: &StoredStream, error: Error) {
        let stream = stored.record.identity;
        let key = ExtentKey { stream, first: BlockIndex(self.at.index) };
        let next = committed.snapshot().past_damaged_record::<Extents>(&key);
        let next = next.filter(|next| first_16(next) == Some(stream));
        let next = next.and_then(|next| next.get(16..20)?.try_into().ok()).map(u32::from_be_bytes);
        let after = self.at.index.saturating_add(1);
        self.at.index = next.unwrap_or(stored.record.count).max(after);
        self.damaged.push(Finding { subject: Subject::Stream(stream), error });
    }

    /// Goes on at a place in a later stream. `None` ends the search.
    fn go_to(&mut self, place: Option<Place>) {
        match place {
            Some(place) if place.stream > self.at.stream => self.at = place,
            // The rest of this stream's records.
            Some(_) => match self.at.next_stream() {
                Some(place) => self.at = place,
                None => self.is_at_end = true,
            },
            None => self.is_at_end = true,
        }
    }
}
