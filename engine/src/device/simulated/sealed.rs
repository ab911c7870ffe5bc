//! A record of every block that was sealed on a disk, to check that no nonce and no generation of a block repeats.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::medium::Content;
use crate::format::{Generation, HEADERS, META_SLOTS, Position, THIRD_HEADER, THIRD_SLOTS, sealed};

const NONCE_SIZE: usize = sealed::NONCE.length;

/// Every sealed block that was written to a disk, along one history of crashes and reopenings.
///
/// Two keys identify a block: its nonce, and its position with its generation, the first half of the nonce. Neither
/// may repeat with other bytes. The record knows no keys. The kinds of blocks have different keys, so the check is
/// stricter than necessary.
#[derive(Debug, Clone, Default)]
pub struct SealedBlocks(Arc<Sealed>);

#[derive(Debug, Clone, Default)]
struct Sealed {
    before: Option<Arc<Sealed>>,
    nonces: HashMap<[u8; NONCE_SIZE], u64>,
    versions: HashMap<(u32, [u8; Generation::SIZE]), u64>,
    repeated: Option<Repeated>,
}

/// A repetition: two blocks with different content under one nonce or one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    /// Position of the second block.
    pub position: Position,
    /// Whether the whole nonce repeats, and not only position and generation.
    pub nonce: bool,
}

impl fmt::Display for Repeated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.nonce { "a nonce" } else { "a position and generation" };
        write!(formatter, "block {}: {what} repeats with other bytes", self.position)
    }
}

impl SealedBlocks {
    /// Returns the first repetition.
    pub fn repeated(&self) -> Option<Repeated> {
        self.0.repeated
    }

    /// Returns the number of distinct nonces.
    pub fn nonces(&self) -> usize {
        let mut count = 0;
        let mut part = Some(&self.0);
        while let Some(sealed) = part {
            count += sealed.nonces.len();
            part = sealed.before.as_ref();
        }
        count
    }

    /// Returns a record that continues this one and leaves it unchanged.
    pub(super) fn continued(&self) -> SealedBlocks {
        if self.0.nonces.is_empty() {
            return self.clone();
        }
        let repeated = self.0.repeated;
        let before = Some(Arc::clone(&self.0));
        SealedBlocks(Arc::new(Sealed { before, repeated, ..Sealed::default() }))
    }

    /// Records a block written at a position. `resealed` allows it to repeat the generation of that position.
    pub(super) fn note(&mut self, position: u32, content: &Content, resealed: bool) {
        let at = Position::at(position);
        let is_zero = content.bytes.iter().all(|&byte| byte == 0);
        if HEADERS.contains(&at) || at == THIRD_HEADER || is_zero {
            return;
        }
        // Recovery seals a copy of a meta slot again: the same slot and generation, but another nonce.
        let resealed = resealed || META_SLOTS.contains(&at) || THIRD_SLOTS.contains(&at);
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
