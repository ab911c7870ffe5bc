//! Deliberate faults in the commit protocol and holes in the authentication, so that a test can show that it would
//! notice them.
//!
//! Without the feature `testing` nothing can be planted, and every question is answered by a constant.

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlantedFault {
    /// The sync before the slot is left out.
    SkipFirstSync,
    /// The sync after the slot, which is the commit, is left out.
    SkipSecondSync,
    /// The second copy of the slot is not written.
    OneCopyOfTheSlot,
    /// Freed blocks are allocated again before the commit.
    ReuseFreedBlocks,
    /// The slot does not name the redo list.
    ForgetTheRedoList,
    /// Images are copied to their places before the commit.
    RedoBeforeTheCommit,
    /// A failed write or sync does not make the handle unusable.
    DoNotPoison,
    /// The block count is taken from the length of the file.
    TrustTheLength,
    /// Recovery believes what it has read, and writes neither the slot nor the images again.
    BelieveWhatIsRead,
    /// The pair that is written follows from the parity of the step.
    PairByParity,
    /// A pair without a good copy is taken for a crash.
    FallBack,
    /// The file is cut while the current commit names spares at its end.
    TrimBeforeClearing,
    /// Spares of the current commit's list are allocated again before the next commit.
    ReuseSpares,
    /// Blocks that a reader of an earlier commit may read are allocated again.
    ForgetReaders,
    /// Nobody waits for the blocks that threads are writing.
    ForgetTheWrite,
    /// While the master key is changed, a watermark is committed before the images of its window are synced.
    SkipRekeySync,
    /// The images of all windows go to one place.
    OneRekeyRegion,
    /// The images of the newest window are not copied to their places again.
    ForgetRekeyImages,
    /// The position is left out of the associated data.
    DropThePosition,
    /// Whatever version of a block is found is taken for the one that was asked for.
    IgnoreTheGeneration,
    /// The stream that a block names, and its index, are not compared.
    IgnoreStreamAndIndex,
    /// A key slot that was tampered with is passed over.
    PassOverKeySlots,
    /// A meta slot is accepted though its twin is of another fork.
    AcceptForks,
    /// Blocks of all kinds are sealed with one key.
    OneKeyForAllKinds,
    /// The redo list may aim at any block.
    TrustRedoTargets,
    /// The meta slot's word for the header is not asked for.
    AcceptOldHeaders,
}

impl PlantedFault {
    /// Faults in the commit protocol.
    pub const PROTOCOL: [PlantedFault; 14] = [
        PlantedFault::SkipFirstSync,
        PlantedFault::SkipSecondSync,
        PlantedFault::OneCopyOfTheSlot,
        PlantedFault::ReuseFreedBlocks,
        PlantedFault::ForgetTheRedoList,
        PlantedFault::RedoBeforeTheCommit,
        PlantedFault::DoNotPoison,
        PlantedFault::TrustTheLength,
        PlantedFault::BelieveWhatIsRead,
        PlantedFault::PairByParity,
        PlantedFault::FallBack,
        PlantedFault::TrimBeforeClearing,
        PlantedFault::ReuseSpares,
        PlantedFault::ForgetReaders,
    ];

    /// Faults in a change of the master key.
    pub const REKEY: [PlantedFault; 3] = [
        PlantedFault::SkipRekeySync,
        PlantedFault::OneRekeyRegion,
        PlantedFault::ForgetRekeyImages,
    ];

    /// Holes in the authentication.
    pub const HOLES: [PlantedFault; 8] = [
        PlantedFault::DropThePosition,
        PlantedFault::IgnoreTheGeneration,
        PlantedFault::IgnoreStreamAndIndex,
        PlantedFault::PassOverKeySlots,
        PlantedFault::AcceptForks,
        PlantedFault::OneKeyForAllKinds,
        PlantedFault::TrustRedoTargets,
        PlantedFault::AcceptOldHeaders,
    ];

    /// Whether this fault is planted in the calling thread.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    /// Whether this fault is planted: never.
    #[cfg(not(any(test, feature = "testing")))]
    pub const fn is_planted(self) -> bool {
        let _ = self;
        false
    }
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static PLANTED: std::cell::Cell<Option<PlantedFault>> = const { std::cell::Cell::new(None) };
}

/// Does `work` with a fault in the protocol, as far as this thread carries it out.
#[cfg(any(test, feature = "testing"))]
pub fn with_planted_fault<T>(fault: PlantedFault, work: impl FnOnce() -> T) -> T {
    /// Takes the fault away also if the work panics.
    struct Uprooted;
    impl Drop for Uprooted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(Some(fault));
    let _uprooted = Uprooted;
    work()
}
