//! Crashes: worlds on a simulated disk, every way in which they may die, and what must be left of them.
//!
//! A [`World`] does a sequence of [`Operation`]s to an archive on a simulated disk, and notes what each commit held.
//! An [`Explorer`] makes the states that its deaths leave, the deaths of the recovery after them included, and asks of
//! each: does it open at the last acknowledged commit or at the one under way, whole; does it verify; does recovery
//! change nothing; can it be written again; was no nonce used twice.

mod campaign;
mod canaries;
mod content;
mod cuts;
mod explore;
mod faults;
mod large;
mod long;
mod naming;
mod operation;
mod rekey;
mod streams;
mod world;

pub(crate) use campaign::on_all_cores;
pub use campaign::{FailedWorld, explore_world, explore_worlds, single_threaded, small_worlds};
pub use canaries::{Caught, caught, false_alarm};
pub use content::{Content, Node, Unreadable};
pub use explore::{Death, Effort, Explorer, Failure, Totals};
pub use faults::{
    Broken, failure_poisons, failures_poison, full_disk_is_no_end, lie_is_noticed,
    lies_are_noticed, readers_keep_their_blocks, rot_is_noticed, unreadable_blocks_are_errors,
};
pub use large::{caught_in_large_worlds, explore_large_world};
pub use long::{FailedLongWorld, Step, explore_long_worlds, long_world, run_steps};
pub(crate) use naming::{add_empty_file, make_directory};
pub(crate) use operation::attributes;
pub use operation::{NAMED, Operation, SMALL};
pub use rekey::{caught_in_rekey, explore_windows, rekey_worlds};
pub(crate) use streams::tell_size;
pub use world::{Beginning, Refused, World};
