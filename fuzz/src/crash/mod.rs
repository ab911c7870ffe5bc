//! Crashes: scenarios on a simulated disk, every way in which they may crash, and the states that must remain.
//!
//! A [`Scenario`] applies a sequence of [`Operation`]s to an archive on a simulated disk, and records the content of
//! each commit. An [`Explorer`] generates the states that its crashes leave, including crashes during the recovery. It
//! checks for each state: the archive opens, complete, at the last acknowledged commit or the one in progress; it
//! verifies; recovery changes nothing; it is writable again; and no nonce was used twice.

mod campaign;
mod canaries;
mod compact;
mod content;
mod copies;
mod cuts;
mod explore;
mod faults;
mod history;
mod large;
mod long;
mod naming;
mod operation;
mod packs;
mod parallel;
mod readers;
mod rekey;
mod repair;
mod scenario;
mod streams;
mod third;

pub use campaign::{FailedScenario, explore_scenario, explore_scenarios, small_scenarios};
pub use canaries::{Caught, caught, false_alarm};
pub use compact::{caught_in_compaction, explore_compactions};
pub(crate) use content::attributes;
pub use content::{Content, Node, Unreadable};
pub use explore::{Crash, Effort, Explorer, Failure, Totals};
pub use faults::{
    Broken, byzantine_write_is_detected, byzantine_writes_are_detected, corruption_is_detected,
    failure_poisons, failures_poison, full_disk_leaves_the_handle_usable,
    readers_keep_their_blocks, unreadable_blocks_are_errors,
};
pub use large::{caught_in_large_scenarios, explore_large_scenario};
pub use long::{FailedLongScenario, Step, explore_long_scenarios, long_scenario, run_steps};
pub(crate) use naming::{add_empty_file, make_directory};
pub use operation::{NAMED, Operation, SMALL};
pub use packs::{caught_in_packs, explore_packs};
pub(crate) use parallel::on_all_cores;
pub use parallel::single_threaded;
pub use readers::{FailedReaders, ReaderTotals, caught_by_readers, explore_readers, long_fixture};
pub use rekey::{caught_in_rekey, explore_windows, rekey_scenarios};
pub use repair::{caught_in_repairs, explore_repairs};
pub use scenario::{Fixture, Refused, Scenario};
pub(crate) use streams::set_size;
pub use third::{caught_in_third_copies, explore_third_copies};
