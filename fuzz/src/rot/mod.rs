//! Rot: destroys parts of archives of every kind, and checks that it costs what rotted and nothing else.
//!
//! A [`Specimen`] is an archive with a history. [`Oracle`] states, from the format alone, which blocks each entry needs.
//! For every [`Damage`], [`Rot::check`] compares what reading, extraction, verification, repair and salvage do with
//! that:
//!
//! - every entry is read, listed and extracted, unless its own blocks were destroyed; the others are listed by path;
//! - verification ends, and reports exactly what is bad and which entries it affects;
//! - repair restores everything that has a copy, and changes nothing else;
//! - salvage returns all content that is left, marks the gaps, and never mixes versions.

mod check;
mod damage;
mod matrix;
mod oracle;
mod reading;
mod salvaged;
mod specimen;

pub use check::{Rot, Tally};
pub use damage::{Damage, How, damages};
pub use matrix::{RotFailure, rot_matrix};
pub use oracle::Oracle;
pub use specimen::{Specimen, SpecimenKind};
