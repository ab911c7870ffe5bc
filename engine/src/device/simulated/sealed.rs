//! What was sealed on a disk, to see that nothing is ever sealed twice under one nonce or one generation.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::medium::Content;
use crate::format::{Generation, HEADERS, META_SLOTS, Position, sealed};

const NONCE_SIZE: usize = sealed::NONCE.length;

/// Every sealed block that a disk was handed, along one history of deaths and reopenings.
///
/// A block is known by its nonce, which must never come with other bytes, and by its position and generation, the
/// first part of the nonce, which must not either. Nothing here knows a key: that the keys of different
/// kinds differ makes the check stricter than need be.
#[derive(Debug, Clone, Default)]
pub struct SealedBlocks(Arc<Sealed>);

#[derive(Debug, Clone, Default)]
struct Sealed {
    before: Option<Arc<Sealed>>,
    nonces: HashMap<[u8; NONCE_SIZE], u64>,
    versions: HashMap<(u32, [u8; Generation::SIZE]), u64>,
    repeated: Option<Repeated>,
}

/// Something that was sealed twice with different content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    /// Where the second was written.
    pub position: Position,
    /// Whether the whole nonce is the same, and not only position and generation.
    pub nonce: bool,
}

impl fmt::Display for Repeated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.nonce { "a nonce" } else { "a position and generation" };
        write!(formatter, "block {}: {what} came again with other bytes", self.position)
    }
}

impl SealedBlocks {
    /// What was sealed twice, if anything was.
    pub fn repeated(&self) -> Option<Repeated> {
        self.0.repeated
    }

    /// Number of different nonces.
    pub fn nonces(&self) -> usize {
        let mut count = 0;
        let mut part = Some(&self.0);
        while let Some(sealed) = part {
            count += sealed.nonces.len();
            part = sealed.before.as_ref();
        }
        count
    }

    /// The same, to go on from without changing this.
    pub(super) fn continued(&self) -> SealedBlocks {
        if self.0.nonces.is_empty() {
            return self.clone();
        }
        let repeated = self.0.repeated;
        let before = Some(Arc::clone(&self.0));
        SealedBlocks(Arc::new(Sealed { before, repeated, ..Sealed::default() }))
    }

    /// Notes what is written at a position; `resealed` if its generation may be known there.
    pub(super) fn note(&mut self, position: u32, content: &Content, resealed: bool) {
        if HEADERS.contains(&Position::at(position)) {
            return;
        }
        // Recovery seals the copy of a meta slot again: same slot, same generation, another nonce.
        let resealed = resealed || META_SLOTS.contains(&Position::at(position));
        let nonce = *content.bytes.first_chunk().expect("a block is longer than a nonce");
        let generation = *content.bytes.first_chunk().expect("a block is longer than a generation");
        let number = content.number();
        let (mut nonce_known, mut version_known) = (None, None);
        let mut part = Some(&self.0);
        while let Some(sealed) = part {
            nonce_known = nonce_known.or(sealed.nonces.get(&nonce).copied());
            if !resealed {
                version_known =
                    version_known.or(sealed.versions.get(&(position, generation)).copied());
            }
            part = sealed.before.as_ref();
        }
        let sealed = Arc::make_mut(&mut self.0);
        let differs = |known: Option<u64>| known.is_some_and(|known| known != number);
        if differs(nonce_known) || differs(version_known) {
            let at = Position::at(position);
            let repeated = Repeated { position: at, nonce: differs(nonce_known) };
            sealed.repeated.get_or_insert(repeated);
        }
        sealed.nonces.insert(nonce, number);
        if !resealed {
            sealed.versions.insert((position, generation), number);
        }
    }
}
