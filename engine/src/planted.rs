//! Deliberate faults in the commit protocol and in the authentication of blocks, for tests that must detect them.
//!
//! The code asks `fault!(Name)` where a fault could sit. Without the feature `testing` that is the constant `false`, and
//! neither the names of the faults nor this module are compiled.

/// Whether the calling thread runs with this fault planted.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
#[macro_export]
macro_rules! fault {
    ($name:ident) => {
        $crate::PlantedFault::$name.is_planted()
    };
}

/// Whether this fault is planted. In a release it never is.
#[cfg(not(any(test, feature = "testing")))]
#[doc(hidden)]
#[macro_export]
macro_rules! fault {
    ($name:ident) => {
        false
    };
}

#[cfg(any(test, feature = "testing"))]
pub use faults::{PlantedFault, with_planted_fault};

#[cfg(any(test, feature = "testing"))]
mod faults {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<PlantedFault>> = const { Cell::new(None) };
    }

    /// Declares the faults, and the lists that tests enumerate.
    macro_rules! faults {
        ($($(#[$list_doc:meta])* $list:ident { $($(#[$fault_doc:meta])* $fault:ident,)* })*) => {
            /// A deliberate fault.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub enum PlantedFault {
                $($($(#[$fault_doc])* $fault,)*)*
            }

            impl PlantedFault {
                $($(#[$list_doc])* pub const $list: [PlantedFault; [$(PlantedFault::$fault,)*].len()] =
                    [$(PlantedFault::$fault,)*];)*

                /// All faults.
                pub const ALL: [PlantedFault; [$($(PlantedFault::$fault,)*)*].len()] =
                    [$($(PlantedFault::$fault,)*)*];
            }
        };
    }

    faults! {
        /// Faults in the commit protocol, found by enumerating the crashes of small scenarios.
        PROTOCOL {
            /// A commit leaves out the sync before the meta slot.
            SkipFirstSync,
            /// A commit leaves out the sync after the meta slot.
            SkipSecondSync,
            /// A commit writes only one copy of the meta slot.
            OneCopyOfTheSlot,
            /// Freed blocks are allocated again before the commit.
            ReuseFreedBlocks,
            /// The meta slot does not name the redo list.
            ForgetTheRedoList,
            /// Shadow blocks are copied home before the commit.
            RedoBeforeTheCommit,
            /// A failed write or sync leaves the handle usable.
            DoNotPoison,
            /// A commit takes the block count from the length of the file.
            TrustTheLength,
            /// Recovery trusts what it read, and rewrites neither the meta slot nor the shadow blocks.
            TrustWhatIsRead,
            /// The parity of the step chooses the pair to write.
            PairByParity,
            /// A pair without a good copy counts as the result of a crash.
            FallBack,
            /// The file is cut while the current commit names shadow blocks at its end.
            TrimBeforeClearing,
            /// Shadow blocks of the current redo list are reused before the next commit.
            ReuseShadowBlocks,
            /// Blocks that a pinned snapshot may read are allocated again.
            ForgetReaders,
        }

        /// Faults in the rules for readers next to a writer, found by readers at every event of the disk.
        READERS {
            /// Blocks that a reader of another process may read are allocated again.
            ForgetOtherProcesses,
            /// Shadow blocks are copied home although a snapshot of an older commit reads the home location.
            CopyUnderReaders,
            /// A changed block goes to the shadow block that the current commit names for it.
            OverwriteListedShadows,
            /// A commit drops shadow blocks that its predecessor listed and that were not copied home.
            DropCarriedImages,
            /// Recovery copies shadow blocks home although a snapshot of an older commit reads the home location.
            RecoverUnderReaders,
            /// A new writer uses blocks that are free in the commit that it opened but not in one that is still read.
            ForgetOlderReaders,
            /// A commit queries the readers before new readers can find it.
            AskTooEarly,
            /// Free blocks that a reader may read are wiped.
            WipeHeldBlocks,
            /// The redo list keeps naming home locations that were freed or that hold the newest version.
            ForgetRemovals,
            /// In the redo list, the oldest entry of a home location counts.
            OldestEntryCounts,
        }

        /// Faults in the redo list that matter only if a block of it does not open, found by tests of the store.
        REDO {
            /// The second copy of a block of the redo list is not written.
            OneRedoCopy,
            /// Shadow blocks are copied home although they do not open.
            CopyUnopened,
        }

        /// Faults in the two copies of an index page, found by tests of pages.
        COPIES {
            /// Both copies of a block are placed together.
            CopiesTogether,
            /// A read whose first copy is bad does not take the second.
            NoSecondCopy,
        }

        /// Faults in the third copies of header and meta slots, found by tests of the store and by crashes of long
        /// archives.
        THIRD {
            /// A commit writes the third copy before the first copy is durable.
            ThirdCopyTooEarly,
            /// An older third copy is taken although both pairs have good copies.
            PreferThirdCopies,
            /// The blocks of the third copies are allocated.
            AllocateThirdCopies,
            /// A change of the header leaves the third copy as it was.
            StaleThirdHeader,
        }

        /// Faults in packed content.
        PACKS {
            /// A frame is not compared with its record.
            AnyFrame,
            /// The number of live bytes of a pack stays when a file is deleted.
            KeepLiveBytes,
            /// The record of a moved frame refers to its old place.
            MovedFrameStays,
            /// A hole begins one address before it should, where there is data.
            HoleWithData,
            /// What follows the head of a frame begins with zeros.
            SpoiledFrame,
        }

        /// Faults in repair, found by tests of the store.
        REPAIR {
            /// Repair takes a copy for good although it is of another generation.
            RepairFromOldCopies,
        }

        /// Faults in salvage, found by destroying both copies of index pages.
        SALVAGE {
            /// Blocks of different generations are taken for one version.
            MixVersions,
        }

        /// Faults in what a reader does to open an archive next to a writer, and in what it relies on then, found by
        /// tests of the store.
        LOOKS {
            /// A reader does not look again once it has locked its commit.
            TrustTheFirstLook,
            /// A reader reports damage after only one look at an archive that a writer is changing.
            TrustOneLook,
            /// A reader reports damage although a writer is active.
            JudgeWhileWritten,
            /// Recovery seals good copies of the meta slot again, although a reader may be reading them.
            ResealGoodSlots,
            /// Closing cuts the file although a reader of an older commit may need its end.
            CutUnderReaders,
            /// A new writer next to a reader of an older commit allocates blocks between the end of the archive and the
            /// end of the file, which may have belonged to that commit.
            AllocateInTheTail,
        }

        /// Faults in compaction, found by tests of it.
        COMPACTION {
            /// Old places of moved blocks can be allocated before the new ones are committed.
            ReuseMovedBlocks,
            /// The neighbours of moved blocks keep their links to the old places.
            KeepOldLinks,
            /// A moved block keeps its link to the old place of a moved neighbour.
            MoveOldLinks,
            /// Blocks next to one that does not open are moved.
            MoveNextToDamage,
            /// Compaction goes on although another process reads.
            CompactUnderReaders,
        }

        /// Faults in savepoints, found by tests of the store.
        SAVEPOINTS {
            /// Returning to a savepoint does not raise the step: positions are sealed twice in it.
            RepeatTheStep,
            /// Blocks that a savepoint names are sealed again in place.
            OverwriteNamedBlocks,
        }

        /// Faults in writes on other threads, found by the crashes of large scenarios.
        IN_FLIGHT {
            /// Nothing waits for in-flight writes.
            ForgetTheWrite,
        }

        /// Faults in a change of the master key.
        REKEY {
            /// A watermark is committed before the shadow blocks of its window are synced.
            SkipRekeySync,
            /// The shadow blocks of all windows go to the same place.
            OneRekeyRegion,
            /// The shadow blocks of the newest window are not copied home again.
            ForgetRekeyShadowBlocks,
        }

        /// Faults in the authentication, found by tampering.
        AUTHENTICATION {
            /// The associated data leaves out the position.
            DropThePosition,
            /// A reference accepts a block of any generation.
            IgnoreTheGeneration,
            /// The stream and the index that a block names are not compared.
            IgnoreStreamAndIndex,
            /// Opening skips a key slot that was tampered with.
            PassOverKeySlots,
            /// A meta slot is accepted although its twin belongs to another fork.
            AcceptForks,
            /// The commit numbers of the meta slots are not compared.
            IgnoreCommitNumbers,
            /// One key seals blocks of all kinds.
            OneKeyForAllKinds,
            /// A redo list may name any block as a home location.
            TrustRedoTargets,
            /// The header's revision in the meta slot is not compared.
            AcceptOldHeaders,
        }

        /// Faults in sealing, opening and receipts, found by the search of a fuzz target.
        SEARCHED {
            /// The associated data contains only the low 16 bits of the position.
            PositionCutShort,
            /// The digest of an opened block is not compared.
            DigestUnchecked,
            /// The last block of an incomplete group gets the digest of the first.
            LastLane,
            /// Every part of a batch draws the same nonces.
            NoncesRepeat,
            /// A file shorter than a header is sliced as if it were longer.
            ShortFileUnchecked,
            /// A file longer than its commit, as a crash leaves it, is refused.
            GrownFileRefused,
            /// Reading a redo list follows next links without a bound.
            ChainWithoutEnd,
            /// The check field of a receipt is not compared.
            ReceiptUnchecked,
        }
    }

    impl PlantedFault {
        /// Returns whether the calling thread runs with this fault planted.
        pub fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }
    }

    /// Runs `work` with a fault planted in the calling thread. Worker threads run without it.
    pub fn with_planted_fault<T>(fault: PlantedFault, work: impl FnOnce() -> T) -> T {
        /// Removes the fault even if `work` panics.
        struct Planted;
        impl Drop for Planted {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        PLANTED.set(Some(fault));
        let _planted = Planted;
        work()
    }
}
