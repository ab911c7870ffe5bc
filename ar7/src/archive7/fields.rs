//! The fields of a structure of fixed length, in big-endian order.

use uuid::Uuid;

/// Reads fields one after another.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Begins at the first byte of a structure.
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    /// Returns the next bytes.
    ///
    /// # Panics
    /// If the structure is shorter. The caller passes all of its bytes.
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the structure has this field");
        self.0 = rest;
        *field
    }

    pub(super) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(super) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        Uuid::from_bytes(self.array())
    }

    /// Returns a text without the NUL bytes that pad it to `N` bytes.
    pub(super) fn text<const N: usize>(&mut self) -> Vec<u8> {
        let text: [u8; N] = self.array();
        text.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
    }
}
