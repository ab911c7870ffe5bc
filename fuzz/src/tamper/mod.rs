//! Tampering: every change that an attacker without the key can make to the bytes of an archive, with its expected
//! result, and hostile archives made by an attacker with the key.
//!
//! A [`Victim`] is an archive with a history: every state that was ever committed, a copy that was written to
//! separately, and another archive under the same key. A [`Case`] is one change of its bytes. The module `expect`
//! derives the expected result from which blocks differ from the committed ones, and [`run_matrix`] compares it with
//! the actual result.

mod canaries;
mod case;
mod expect;
mod forge;
mod hostile;
mod matrix;
mod named;
mod outcome;
mod third;
mod victim;

pub use canaries::{CaughtFault, caught_by_tampering, false_alarm, sample};
pub use case::{Case, Origin, Tail, cases};
pub use forge::{Forger, OpenBlock};
pub use hostile::{HostileTotals, Reach, exercise, random_hostile};

pub use matrix::{Counts, MatrixFailure, MatrixTotals, run_matrix};
pub use named::named_hostile;
pub use third::third_copies_put_back;
pub use victim::{Victim, VictimKind};
