//! The frames that content is collected in before it is compressed.

use std::collections::{BTreeSet, HashSet, VecDeque};

use uuid::Uuid;

use crate::packs::{Content, FRAME_MAX, SLICES_MAX, Slice, Wiped};
use crate::records::InodeNumber;

/// The packed content that is not in a pack yet.
#[derive(Default)]
pub(super) struct Packing {
    /// The frame that is being filled.
    pub(super) filling: Option<Content>,
    /// Frames to compress.
    pub(super) full: VecDeque<Content>,
    /// The pack that frames are appended to.
    pub(super) open: Option<OpenPack>,
    /// Packs whose content cannot be moved, because they are damaged.
    pub(super) stuck: HashSet<Uuid>,
    /// The first addresses of dead slices that cannot be freed, because their frames are damaged.
    pub(super) stuck_slices: BTreeSet<u64>,
    /// Whether the last commit left no dead slice that it could free.
    pub(super) is_purged: bool,
}

/// A pack that frames are appended to.
pub(super) struct OpenPack {
    pub(super) identity: Uuid,
    pub(super) epoch: u64,
    pub(super) length: u32,
}

impl Packing {
    pub(super) fn is_empty(&self) -> bool {
        self.filling.is_none() && self.full.is_empty()
    }

    /// Adds a frame that is moved from another pack.
    pub(super) fn add_moved(&mut self, content: Content) {
        self.full.push_back(content);
    }

    /// Returns the number of frames to compress.
    pub(super) fn full_len(&self) -> usize {
        self.full.len()
    }

    /// Returns the lowest address that is not in a pack yet.
    pub(super) fn first(&self) -> Option<u64> {
        self.full.front().or(self.filling.as_ref()).map(|content| content.first)
    }

    fn all(&self) -> impl Iterator<Item = &Content> {
        self.full.iter().chain(&self.filling)
    }

    /// Returns the bytes of a frame from an address on, if that is not in a pack yet.
    pub(super) fn from(&self, address: u64) -> Option<&[u8]> {
        self.all().find_map(|content| {
            let within = usize::try_from(address.checked_sub(content.first)?).ok()?;
            content.bytes.get(within..).filter(|bytes| !bytes.is_empty())
        })
    }

    /// Returns the first address of a frame that is not in a pack yet, behind an address.
    pub(super) fn next_after(&self, address: u64) -> Option<u64> {
        self.all().map(|content| content.first).filter(|&first| first > address).min()
    }

    /// Completes the frame that is being filled, if there is one.
    pub(super) fn complete(&mut self) {
        let filled = self.filling.take();
        self.full.extend(filled);
    }

    /// Forgets everything from an address on, where a slice begins.
    pub(super) fn take_back(&mut self, first: u64) {
        self.complete();
        while self.full.back().is_some_and(|content| content.first >= first) {
            self.full.pop_back();
        }
        if let Some(last) = self.full.back_mut() {
            let kept = usize::try_from(first - last.first).unwrap_or(usize::MAX);
            last.bytes.truncate(kept);
            last.slices.retain(|slice| slice.range().start < kept);
        }
    }

    /// Adds as many bytes as a frame of at most `most` bytes has room for. Returns the rest.
    pub(super) fn fill<'b>(
        &mut self,
        number: InodeNumber,
        at: u64,
        bytes: &'b [u8],
        continues: bool,
        most: usize,
    ) -> &'b [u8] {
        let filled = self.filling.as_ref().map_or(0, |filling| filling.bytes.len());
        let mut most = most;
        if filled >= most {
            if continues {
                // Salvage takes a slice to go on if its frame has a multiple of that length.
                most = (filled + 1).next_multiple_of(most);
            } else {
                self.complete();
            }
        }
        let filling = self.filling.get_or_insert_with(|| Content {
            first: at,
            // At full size, because a vector that grows leaves copies of the content in memory.
            bytes: Wiped::from(Vec::with_capacity(FRAME_MAX)),
            slices: Vec::new(),
            is_compressed: false,
        });
        let start = filling.bytes.len();
        let (part, rest) = bytes.split_at(bytes.len().min(most - start));
        filling.bytes.extend_from_slice(part);
        let number32 = |length: usize| u32::try_from(length).expect("a frame is short");
        let (start, length) = (number32(start), number32(part.len()));
        match filling.slices.last_mut() {
            Some(last) if continues => last.length += length,
            _ => filling.slices.push(Slice { inode: number.0, start, length }),
        }
        if filling.bytes.len() == most || filling.slices.len() == SLICES_MAX {
            self.complete();
        }
        rest
    }
}
