//! The blocks of an old archive: opening one, and following the chain of a stream.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use ar7_engine::crypto::digest;
use ar7_engine::format::{DATA_SIZE, Position};
use ar7_engine::{Check, Value};
use crypto_secretbox::aead::{AeadInPlace as _, KeyInit as _};
use crypto_secretbox::{Nonce, Tag, XSalsa20Poly1305};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::damaged;
use super::fields::Fields;
use crate::error::{Error, Result};

/// Length of a block in the file.
const BLOCK_BYTES: usize = 4096;

/// Length of a nonce and of a tag, which come before the ciphertext.
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Length of the plaintext of a block: its head, and the data.
const PLAIN_BYTES: usize = 4056;

/// The plaintext of a block.
type Plain = Zeroizing<[u8; PLAIN_BYTES]>;

/// The file of an old archive.
pub(super) struct Blocks<R> {
    source: R,
    cipher: XSalsa20Poly1305,
    count: u32,
}

/// An open block. Its data has the right digest.
pub(super) struct Block {
    pub(super) position: Position,
    pub(super) previous: Option<Position>,
    pub(super) next: Option<Position>,
    pub(super) index: u32,
    pub(super) stream: Uuid,
    plain: Plain,
}

impl Block {
    pub(super) fn data(&self) -> &[u8; DATA_SIZE] {
        self.plain.last_chunk().expect("the data is the end of a block")
    }
}

impl<R: Read + Seek> Blocks<R> {
    /// Takes a file. Fails unless its length is a number of blocks.
    pub(super) fn new(mut source: R, key: &[u8; 32]) -> Result<Blocks<R>> {
        let length = source.seek(SeekFrom::End(0)).map_err(failed)?;
        let blocks = length / BLOCK_BYTES as u64;
        let count = u32::try_from(blocks).ok().filter(|count| Position::new(*count).is_some());
        match count {
            Some(count) if count > 0 && length.is_multiple_of(BLOCK_BYTES as u64) => {
                Ok(Blocks { source, cipher: XSalsa20Poly1305::new(key.into()), count })
            }
            _ => {
                Err(damaged(None, Check::Length, "a multiple of 4096 bytes, 4096 or more", length))
            }
        }
    }

    /// Returns the number of blocks.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Opens the first block. If it does not open, another block tells a wrong key from damage.
    pub(super) fn open_first(&mut self) -> Result<Block> {
        let position = Position::at(0);
        if self.unseal(position)?.is_some() {
            return self.open(position);
        }
        for other in 1..self.count {
            if self.unseal(Position::at(other))?.is_some() {
                return Err(tag(position));
            }
        }
        Err(Error::NoBlockOpens { blocks: self.count })
    }

    /// Opens a block and checks everything that does not depend on its chain.
    pub(super) fn open(&mut self, position: Position) -> Result<Block> {
        let plain = self.unseal(position)?.ok_or_else(|| tag(position))?;
        let mut fields = Fields::new(&plain[..]);
        let (previous, next) = (fields.i32(), fields.i32());
        let (index, stream) = (fields.u32(), fields.uuid());
        let expected: [u8; 20] = fields.array();
        let previous = self.link(position, Check::PreviousLink, previous)?;
        let next = self.link(position, Check::NextLink, next)?;
        let block = Block { position, previous, next, index, stream, plain };
        let found = digest(block.data());
        if found != expected {
            let (expected, found) = (expected.to_vec(), found.to_vec());
            let (expected, found) = (Value::Bytes(expected), Value::Bytes(found));
            return Err(damaged(position, Check::Digest, expected, found));
        }
        Ok(block)
    }

    /// Returns the position that a field names, if it is a block of the file other than the first.
    pub(super) fn position(&self, field: i32) -> Option<Position> {
        let position = Position::from_link(field).ok().flatten()?;
        (1..self.count).contains(&position.get()).then_some(position)
    }

    fn link(&self, position: Position, check: Check, field: i32) -> Result<Option<Position>> {
        match self.position(field) {
            _ if field == -1 => Ok(None),
            Some(linked) if linked != position => Ok(Some(linked)),
            _ => Err(damaged(position, check, "-1 or another block of the file", field)),
        }
    }

    /// Decrypts a block. Returns `None` if its tag is wrong.
    fn unseal(&mut self, position: Position) -> Result<Option<Plain>> {
        let mut sealed = [0; BLOCK_BYTES];
        let read = self.source.seek(SeekFrom::Start(position.offset()));
        read.and_then(|_| self.source.read_exact(&mut sealed)).map_err(failed)?;
        let (nonce, rest) = sealed.split_at(NONCE_BYTES);
        let (tag, ciphertext) = rest.split_at(TAG_BYTES);
        let mut plain = Zeroizing::new([0; PLAIN_BYTES]);
        plain.copy_from_slice(ciphertext);
        let (nonce, tag) = (Nonce::from_slice(nonce), Tag::from_slice(tag));
        let opened = self.cipher.decrypt_in_place_detached(nonce, b"", &mut plain[..], tag);
        Ok(opened.is_ok().then_some(plain))
    }
}

fn tag(position: Position) -> Error {
    damaged(position, Check::Tag, "the tag of its content", "another one")
}

fn failed(error: io::Error) -> Error {
    Error::Io { operation: "read", path: None, source: Arc::new(error) }
}

/// The blocks of one stream, from the first on. Every block has to know its place, so that the chain
/// cannot run in a circle.
pub(super) struct Chain {
    stream: Uuid,
    /// Whether the first block may belong to no stream: that of a stream that was never written.
    may_be_blank: bool,
    previous: Option<Position>,
    next: Option<Position>,
    index: u32,
}

impl Chain {
    pub(super) fn new(stream: Uuid, begin: Position, may_be_blank: bool) -> Chain {
        Chain { stream, may_be_blank, previous: None, next: Some(begin), index: 0 }
    }

    /// Opens the next block. Returns `None` after the last one.
    pub(super) fn next<R: Read + Seek>(&mut self, blocks: &mut Blocks<R>) -> Result<Option<Block>> {
        let Some(position) = self.next else { return Ok(None) };
        let block = blocks.open(position)?;
        if block.index != self.index {
            return Err(damaged(position, Check::Index, self.index, block.index));
        }
        let is_blank = self.may_be_blank && block.stream.is_nil() && block.next.is_none();
        if block.stream != self.stream && !is_blank {
            return Err(damaged(position, Check::Stream, self.stream, block.stream));
        }
        if block.previous != self.previous {
            return Err(damaged(position, Check::PreviousLink, self.previous, block.previous));
        }
        (self.previous, self.next) = (Some(position), block.next);
        // The index of a block is below the number of blocks, which is below 2^31.
        self.index += 1;
        Ok(Some(block))
    }
}
