//! Choices taken from any bytes: the way from what a fuzzer invents to operations that mean something.

/// Numbers taken from bytes, one after another; zeros after the last.
#[derive(Debug, Clone)]
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes)
    }

    /// Whether all bytes are taken.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next byte.
    pub(crate) fn octet(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// The next byte, as a number.
    pub(crate) fn byte(&mut self) -> usize {
        usize::from(self.octet())
    }

    /// The next two bytes, as a number.
    pub(crate) fn word(&mut self) -> usize {
        self.byte() << 8 | self.byte()
    }

    /// The next four bytes, as a number.
    pub(crate) fn quad(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.octet())
    }

    /// The next bytes, at most so many.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let chosen = if bound > 256 { self.word() } else { self.byte() };
        chosen.checked_rem(bound).unwrap_or(0)
    }

    /// One of `items`, or none of no items.
    pub(crate) fn choose<'b, T>(&mut self, items: &'b [T]) -> Option<&'b T> {
        items.get(self.below(items.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::Choices;

    #[test]
    fn after_the_last_byte_all_is_zero() {
        let mut choices = Choices::new(&[1, 2, 3, 7]);
        assert_eq!((choices.word(), choices.below(3)), (0x0102, 0));
        assert_eq!(choices.choose(&[4, 5]), Some(&5));
        assert!(choices.is_over() && choices.take(4).is_empty());
        assert_eq!((choices.quad(), choices.below(0), choices.choose::<u8>(&[])), (0, 0, None));
    }
}
