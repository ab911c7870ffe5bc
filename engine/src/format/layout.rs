//! Declared layouts: where each field of an on-disk structure lies.
//!
//! A layout is declared once, with [`layout!`](crate::format::layout). The declaration gives the
//! offsets that the code uses, a compile-time check that the fields fill the structure
//! exactly, and the table in `docs/FORMAT.md`.

/// One field of an on-disk structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name of the field, as in the table of `docs/FORMAT.md`.
    pub name: &'static str,
    /// Offset of the first byte, from the start of the structure.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
    /// What the field holds, one line.
    pub meaning: &'static str,
}

impl Field {
    /// Returns the offset of the first byte after the field.
    pub const fn end(&self) -> usize {
        self.offset + self.length
    }

    /// Returns the bytes of this field in an encoded structure.
    ///
    /// # Panics
    /// If `bytes` is shorter than the structure, which is a bug of the caller.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.offset..self.end()]
    }

    /// Returns the bytes of this field as an array of its length.
    ///
    /// # Panics
    /// If `N` is not the field's length, which is a bug of the caller.
    pub fn array<const N: usize>(&self, bytes: &[u8]) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(self.of(bytes));
        array
    }

    /// Returns the bytes of this field, borrowed as an array of its length.
    ///
    /// # Panics
    /// If `N` is not the field's length, or `bytes` is shorter than the structure: bugs of the caller.
    pub fn array_ref<'a, const N: usize>(&self, bytes: &'a [u8]) -> &'a [u8; N] {
        self.of(bytes).try_into().expect("an array of the field's length")
    }

    /// Returns the bytes of this field, for writing.
    ///
    /// # Panics
    /// If `bytes` is shorter than the structure, which is a bug of the caller.
    pub fn of_mut<'a>(&self, bytes: &'a mut [u8]) -> &'a mut [u8] {
        &mut bytes[self.offset..self.end()]
    }

    /// Writes `value`, which has exactly the field's length.
    ///
    /// # Panics
    /// If the lengths differ, which is a bug of the caller.
    pub fn put(&self, bytes: &mut [u8], value: &[u8]) {
        self.of_mut(bytes).copy_from_slice(value);
    }

    /// Reads a big-endian unsigned 16-bit integer.
    pub fn u16(&self, bytes: &[u8]) -> u16 {
        u16::from_be_bytes(self.array(bytes))
    }

    /// Reads a big-endian unsigned 32-bit integer.
    pub fn u32(&self, bytes: &[u8]) -> u32 {
        u32::from_be_bytes(self.array(bytes))
    }

    /// Reads a big-endian unsigned 64-bit integer.
    pub fn u64(&self, bytes: &[u8]) -> u64 {
        u64::from_be_bytes(self.array(bytes))
    }
}

/// Declares the layout of one on-disk structure: a module with its fields, `SIZE` and `FIELDS`.
#[macro_export]
macro_rules! layout {
    ($(#[$attribute:meta])* $visibility:vis mod $name:ident, $size:expr => {
        $($field:ident: $length:expr, $meaning:literal;)*
    }) => {
        $(#[$attribute])*
        $visibility mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::format::Field;
            $crate::layout!(@fields 0; $($field: $length, $meaning;)*);
            /// Length of the structure in bytes.
            pub const SIZE: usize = $size;
            /// Every field, in order.
            pub const FIELDS: &[Field] = &[$($field),*];
            const _: () = assert!(FIELDS[FIELDS.len() - 1].end() == SIZE);
        }
    };
    (@fields $offset:expr;) => {};
    (@fields $offset:expr; $field:ident: $length:expr, $meaning:literal; $($rest:tt)*) => {
        #[doc = $meaning]
        pub const $field: Field = Field {
            name: stringify!($field),
            offset: $offset,
            length: $length,
            meaning: $meaning,
        };
        $crate::layout!(@fields $field.end(); $($rest)*);
    };
}
