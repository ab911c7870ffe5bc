//! Deliberate mistakes, so that a test can show that the fuzz targets would notice them.
//!
//! The faults in the commit protocol are in `planted.rs`: those are looked for by every
//! death of small worlds, these by a seeded search that hands inputs to one target. Without the feature `testing`
//! nothing can be planted, and every question is answered by a constant.

/// A deliberate mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// The cells of a page may begin outside of it.
    CellsUnbounded,
    /// Any bytes are a name.
    NamesUnchecked,
    /// A name that is taken is given again.
    DuplicateNames,
    /// A further name of a file is not counted.
    LinksUncounted,
    /// Writing nothing to a stream adds a block.
    EmptyWriteAddsABlock,
    /// The root of a tree splits and loses the key in the middle.
    KeyLostAtRootSplit,
    /// A walk through a tree leaves out the first entry.
    WalkSkipsTheFirst,
    /// A walk over the blocks of a stream leaves out the first.
    BlocksSkipTheFirst,
    /// Taking the last block from a stream leaves its length as it was.
    PopKeepsTheLength,
    /// Growing a stream shows again what was cut off before.
    StaleTail,
    /// Appending writes where the offset is.
    AppendAtTheOffset,
    /// Offsets are counted modulo 4 GiB.
    OffsetsWrap,
    /// A block may name itself as its neighbour: a chain without an end.
    SelfLinks,
    /// A link out of all bounds is no link.
    LinksBeyondTheEnd,
    /// A stream may be longer than its blocks.
    StreamLengthUnchecked,
    /// What a stream record says of a layout that nobody knows is passed over.
    StreamFlagsIgnored,
    /// Indexes of the blocks of an extent wrap around.
    ExtentsWrap,
    /// An extent of no blocks is one of one block.
    EmptyExtents,
    /// The header's fields of later versions are not kept.
    HeaderTailDropped,
    /// A header may say that it is longer than a block.
    HeaderLengthUnchecked,
    /// Fields of an inode that nobody knows are not kept.
    InodeFieldsDropped,
    /// A field of an inode may come twice.
    InodeFieldsTwice,
    /// A label may be longer than its field.
    LabelLengthUnchecked,
    /// What a raw key would have cost is not looked at.
    CostsOfRawKeys,
    /// A list of a meta slot may say that it is longer than its field.
    SlotCountsUnchecked,
    /// Free runs of a meta slot may overlap, and lie anywhere.
    LooseRunsOverlap,
    /// An entry of a type that nobody knows is a file.
    EntryTypesUnchecked,
    /// The keys of a page need not ascend.
    KeysInAnyOrder,
    /// A block of the redo list may say that it holds more than it does.
    RedoCountUnchecked,
    /// Truncating a stream leaves the offset of its end as it was.
    TruncateKeepsTheLength,
    /// A size with a suffix wraps around.
    SizesWrap,
    /// What a file object was not opened for is refused as any other failure is.
    RefusalsUnnamed,
    /// All white space around a receipt in a file is dropped.
    ReceiptsTrimmed,
    /// A reserved stream may be named by any spelling of its number.
    LooseNumbers,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Mistake; 34] = [
        Mistake::CellsUnbounded,
        Mistake::NamesUnchecked,
        Mistake::DuplicateNames,
        Mistake::LinksUncounted,
        Mistake::EmptyWriteAddsABlock,
        Mistake::KeyLostAtRootSplit,
        Mistake::WalkSkipsTheFirst,
        Mistake::BlocksSkipTheFirst,
        Mistake::PopKeepsTheLength,
        Mistake::StaleTail,
        Mistake::AppendAtTheOffset,
        Mistake::OffsetsWrap,
        Mistake::SelfLinks,
        Mistake::LinksBeyondTheEnd,
        Mistake::StreamLengthUnchecked,
        Mistake::StreamFlagsIgnored,
        Mistake::ExtentsWrap,
        Mistake::EmptyExtents,
        Mistake::HeaderTailDropped,
        Mistake::HeaderLengthUnchecked,
        Mistake::InodeFieldsDropped,
        Mistake::InodeFieldsTwice,
        Mistake::LabelLengthUnchecked,
        Mistake::CostsOfRawKeys,
        Mistake::SlotCountsUnchecked,
        Mistake::LooseRunsOverlap,
        Mistake::EntryTypesUnchecked,
        Mistake::KeysInAnyOrder,
        Mistake::RedoCountUnchecked,
        Mistake::TruncateKeepsTheLength,
        Mistake::SizesWrap,
        Mistake::RefusalsUnnamed,
        Mistake::ReceiptsTrimmed,
        Mistake::LooseNumbers,
    ];

    /// Whether this mistake is planted in the calling thread.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    /// Whether this mistake is planted: never.
    #[cfg(not(any(test, feature = "testing")))]
    #[inline]
    pub const fn is_planted(self) -> bool {
        let _ = self;
        false
    }
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// Does `work` with a mistake in the code, as far as this thread runs it.
#[cfg(any(test, feature = "testing"))]
pub fn with_mistake<T>(mistake: Mistake, work: impl FnOnce() -> T) -> T {
    /// Takes the mistake away also if the work panics.
    struct Uprooted;
    impl Drop for Uprooted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(Some(mistake));
    let _uprooted = Uprooted;
    work()
}
