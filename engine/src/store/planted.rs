//! Deliberate faults in the commit protocol, so that a test can show that it would notice them.
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
}

impl PlantedFault {
    /// All of them.
    pub const ALL: [PlantedFault; 14] = [
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

    /// Whether this fault is planted in the calling thread.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    /// Whether this fault is planted: never.
    #[cfg(not(any(test, feature = "testing")))]
    pub(super) const fn is_planted(self) -> bool {
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
