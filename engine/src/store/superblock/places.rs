//! The reserved blocks that a file has room for.

use crate::device::Device;
use crate::error::Result;
use crate::format::{BLOCK_SIZE_U64, HEADERS, Position, THIRD_COPIES, THIRD_HEADER};

/// Returns whether a file is long enough for the third copies.
pub(in crate::store) fn has_room(device: &dyn Device) -> Result<bool> {
    Ok(device.length_bytes()? >= u64::from(THIRD_COPIES.end) * BLOCK_SIZE_U64)
}

/// Returns the positions of the copies of the header that a file has room for.
pub(in crate::store) fn header_positions(device: &dyn Device) -> Result<Vec<Position>> {
    let has_third = device.length_bytes()? > THIRD_HEADER.offset();
    Ok(HEADERS.into_iter().chain(has_third.then_some(THIRD_HEADER)).collect())
}
