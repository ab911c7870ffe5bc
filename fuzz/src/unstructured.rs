//! Converts arbitrary bytes from a fuzzer into meaningful operations.

use arbitrary::Arbitrary;

/// [`arbitrary::Unstructured`] without its errors: it reads zeros after the last byte, so every read succeeds.
#[derive(Debug)]
pub(crate) struct Unstructured<'a>(arbitrary::Unstructured<'a>);

impl<'a> Unstructured<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Unstructured<'a> {
        Unstructured(arbitrary::Unstructured::new(bytes))
    }

    /// Returns whether every byte has been read.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the unread bytes.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0.peek_bytes(self.0.len()).unwrap_or_default()
    }

    /// Returns the next value of a type of fixed size for which every bit pattern is valid.
    fn value<T: Arbitrary<'a>>(&mut self) -> T {
        self.0.arbitrary().expect("zeros follow the last byte")
    }

    /// Returns the next byte.
    pub(crate) fn octet(&mut self) -> u8 {
        self.value()
    }

    /// Returns the next byte as a number.
    pub(crate) fn byte(&mut self) -> usize {
        usize::from(self.octet())
    }

    /// Returns the next two bytes as a number.
    pub(crate) fn word(&mut self) -> usize {
        usize::from(u16::from_be_bytes(self.array()))
    }

    /// Returns the next four bytes as a number.
    pub(crate) fn quad(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// Returns the next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        self.value()
    }

    /// Returns the next bytes, at most `length`.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        self.0.bytes(length.min(self.0.len())).unwrap_or_default()
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.choose_index(bound).unwrap_or(0)
    }

    /// Returns one of `items`, or `None` if it is empty.
    pub(crate) fn choose<'b, T>(&mut self, items: &'b [T]) -> Option<&'b T> {
        self.0.choose(items).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Unstructured;

    #[test]
    fn zeros_follow_the_last_byte() {
        let mut unstructured = Unstructured::new(&[1, 2, 3, 7, 1]);
        assert_eq!((unstructured.word(), unstructured.below(3)), (0x0102, 0));
        assert_eq!(unstructured.choose(&[4, 5]), Some(&5));
        assert_eq!(unstructured.rest(), [1]);
        assert_eq!(unstructured.array(), [1, 0, 0], "zeros follow the last byte");
        assert!(
            unstructured.is_over()
                && unstructured.rest().is_empty()
                && unstructured.take(4).is_empty()
        );
        assert_eq!(
            (unstructured.quad(), unstructured.below(0), unstructured.choose::<u8>(&[])),
            (0, 0, None)
        );
    }

    #[test]
    fn a_number_uses_as_many_bytes_as_its_bound_needs() {
        let mut unstructured = Unstructured::new(&[1, 2, 3, 4, 5]);
        assert_eq!(
            (unstructured.below(1), unstructured.below(256), unstructured.below(257)),
            (0, 1, 0x0203 % 257)
        );
        assert_eq!(unstructured.take(1), [4]);
        assert_eq!(unstructured.take(9), [5]);
    }
}
