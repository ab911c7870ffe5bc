//! Feature sets: the features that a program must support to read or to write an archive.

use crate::error::{Error, Result};

/// The features that this program supports. The format has none yet.
const KNOWN: Features = Features { compatible: 0, readable: 0, required: 0 };

/// Three sets of features, one bit for each feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// A program without support for one of these may read and write.
    pub compatible: u64,
    /// A program without support for one of these may read but not write.
    pub readable: u64,
    /// A program without support for one of these may neither read nor write.
    pub required: u64,
}

impl Features {
    /// Length on disk in bytes: three u64, in the order of the fields.
    pub const SIZE: usize = 24;

    /// Encodes the sets.
    pub fn encode(&self) -> [u8; Features::SIZE] {
        let mut bytes = [0; Features::SIZE];
        bytes[..8].copy_from_slice(&self.compatible.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.readable.to_be_bytes());
        bytes[16..].copy_from_slice(&self.required.to_be_bytes());
        bytes
    }

    /// Decodes the sets; any bits are allowed.
    pub fn decode(bytes: [u8; Features::SIZE]) -> Features {
        let [compatible, readable, required] =
            [0, 8, 16].map(|at| u64::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte])));
        Features { compatible, readable, required }
    }

    /// Fails if this program cannot read the archive.
    pub fn check_readable(&self) -> Result<()> {
        check("required features", self.required, KNOWN.required)
    }

    /// Fails if this program cannot write the archive.
    pub fn check_writable(&self) -> Result<()> {
        self.check_readable()?;
        check("features for writing", self.readable, KNOWN.readable)
    }
}

fn check(what: &'static str, found: u64, known: u64) -> Result<()> {
    match found & !known {
        0 => Ok(()),
        unknown => Err(Error::NewerFormat { what, found: unknown.into(), supported: known.into() }),
    }
}
