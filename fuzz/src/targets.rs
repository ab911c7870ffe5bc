//! The fuzz targets: what each promises, and what to begin with.

use crate::crash;

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the program in `fuzz/targets`, and of the folders of its inputs.
    pub name: &'static str,
    /// What it promises, in one line.
    pub promise: &'static str,
    /// Takes any bytes, and panics if the promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with: few, small, and always the same.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Length of an input in bytes beyond which more says nothing new.
    pub length_max: usize,
}
