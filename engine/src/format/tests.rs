//! Invariants: a structure that decodes encodes to the same bytes; no bytes make a decoder panic; every field is
//! bounded, and the error names the check; reserved bytes are zero.

mod block;
mod key_slot;
mod meta_slot;
mod redo;
mod stream_record;
mod units;

use proptest::prelude::*;
use proptest::sample::Index;

use super::Field;
use crate::error::{Check, Error};

/// A changed byte: the field, the index within it, and the new value.
pub(crate) type Edit = (Field, Index, u8);

/// Generates up to three changed bytes in these fields. Small fields are hit as often as large ones.
pub(crate) fn edits(fields: &'static [Field]) -> impl Strategy<Value = Vec<Edit>> {
    let value = prop_oneof![0..=3_u8, any::<u8>()];
    let edit = (proptest::sample::select(fields), any::<Index>(), value);
    proptest::collection::vec(edit, 0..4)
}

pub(crate) fn apply(edits: &[Edit], bytes: &mut [u8]) {
    for (field, index, value) in edits {
        let field = field.of_mut(bytes);
        field[index.index(field.len())] = *value;
    }
}

/// Returns the failed check, if the error is damage.
pub(crate) fn damaged_check(error: &Error) -> Option<Check> {
    match error {
        Error::Damaged(fault) => Some(fault.check),
        _ => None,
    }
}
