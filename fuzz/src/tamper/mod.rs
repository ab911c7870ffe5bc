//! Tampering: everything that somebody without the key can do to the bytes of an archive, and what must come of it; and
//! what somebody with the key can put into one.
//!
//! A [`Victim`] is an archive with a past: every state that it was ever committed in, a copy of it that was written
//! apart, and another archive under the same key. A [`Case`] is one change of its bytes. What a reader must find then
//! follows from which blocks differ from the committed ones, in `expect`; [`run_matrix`] compares.

mod case;
mod expect;
mod forge;
mod holes;
mod hostile;
mod matrix;
mod named;
mod outcome;
mod victim;

pub use case::{Case, Origin, Tail, cases};
pub use forge::{Forger, OpenBlock};
pub use holes::{CaughtHole, caught_hole, false_hole, sample};
pub use hostile::{HostileTotals, Reach, exercise, random_hostile};

pub use matrix::{Counts, MatrixFailure, MatrixTotals, run_matrix};
pub use named::named_hostile;
pub use victim::{Victim, VictimKind};
