//! The third copies of header and meta slots. They lie beyond the first MiB, so that one bad erase block, or a program
//! that overwrites the beginning of the file, does not destroy all copies.

use super::copy::write_copy;
use super::header::KnownHeader;
use crate::crypto::Sealer;
use crate::device::Device;
use crate::error::Result;
use crate::format::{
    BLOCK_SIZE, BLOCK_SIZE_U64, MetaSlot, Position, THIRD_COPIES, THIRD_HEADER, has_third_copies,
    third_slot,
};

/// What a writer knows of the third copies in the file.
#[derive(Debug, Default)]
pub(super) struct ThirdCopies {
    /// Whether block 256 has the header, written in this session.
    has_header: bool,
    /// Whether this session has made sure that no copies lie behind the end of the archive.
    is_cleared: bool,
}

impl ThirdCopies {
    /// Writes the copy of a commit's meta slot, and the copy of the header unless this session has written it. It is
    /// not synced here: the copy of the previous commit is durable, and this commit does not overwrite it.
    pub(super) fn write(
        &mut self,
        device: &dyn Device,
        sealer: &Sealer,
        header: &KnownHeader,
        slot: &MetaSlot,
    ) -> Result<()> {
        if !has_third_copies(slot.block_count) {
            return self.clear(device, header);
        }
        if !self.has_header {
            device.write(THIRD_HEADER, &header.bytes[..])?;
        }
        (self.has_header, self.is_cleared) = (true, false);
        write_copy(device, sealer, slot, third_slot(slot.number))
    }

    /// Overwrites copies that an archive left behind its end when it became shorter. No later change of the header
    /// would reach them, so they would keep removed key slots. During a rekey, shadow blocks may be there instead.
    fn clear(&mut self, device: &dyn Device, header: &KnownHeader) -> Result<()> {
        self.has_header = false;
        if self.is_cleared || header.header.rekey.is_some() {
            return Ok(());
        }
        for position in THIRD_COPIES.filter_map(Position::new) {
            if is_in_use(device, position)? {
                device.write(position, &[0; BLOCK_SIZE])?;
            }
        }
        self.is_cleared = true;
        Ok(())
    }
}

/// Returns whether the file has a block here that can be read and has other bytes than zeros.
fn is_in_use(device: &dyn Device, position: Position) -> Result<bool> {
    if device.length_bytes()? < position.offset() + BLOCK_SIZE_U64 {
        return Ok(false);
    }
    let mut bytes = [0; BLOCK_SIZE];
    Ok(device.read_unmapped(position, &mut bytes).is_ok() && bytes != [0; BLOCK_SIZE])
}
