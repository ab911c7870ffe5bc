//! Content that `put`, `cat` and `extract` transfer: the stream of an entry, or a bare stream.

use std::ops::Range;

use ar7_registry::{RESERVED_STREAMS, Stream};
use uuid::Uuid;

use crate::exit::Failure;
use crate::read_ahead::{by_turns, read_ahead};

/// Maximum size in bytes of one piece of content.
pub(crate) const CHUNK: usize = 4 << 20;

/// A stream that the user gives directly instead of by an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BareStream {
    /// One of the eight reserved streams.
    Reserved(usize),
    /// Any other stream, by its UUID.
    Identity(Uuid),
}

impl BareStream {
    /// Returns the UUID. A reserved stream has its number.
    pub(crate) fn uuid(self) -> Uuid {
        match self {
            BareStream::Reserved(index) => Uuid::from_u128(index as u128),
            BareStream::Identity(uuid) => uuid,
        }
    }
}

/// Parses the argument for a bare stream: one digit from `0` to `7` for a reserved stream, otherwise a UUID. Rejects
/// other spellings of a number, such as `+3` or `03`.
pub(crate) fn parse_bare_stream(text: &str) -> Result<BareStream, Failure> {
    match text.parse::<usize>() {
        Ok(index) if index < RESERVED_STREAMS && text.len() == 1 => Ok(BareStream::Reserved(index)),
        _ => {
            let unknown = |_| Failure::NotAStream { text: text.to_owned() };
            Ok(BareStream::Identity(Uuid::parse_str(text).map_err(unknown)?))
        }
    }
}

/// Passes a range of a stream to `take` in pieces of at most [`CHUNK`] bytes, and prefetches the next piece meanwhile.
/// Stops at the end of the stream. `failed` adds the name of the stream to an error.
pub(crate) fn copy(
    stream: &Stream,
    range: Range<u64>,
    buffer: &mut Vec<u8>,
    failed: impl Fn(ar7_registry::Error) -> Failure,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let is_short = range.end.saturating_sub(range.start) <= CHUNK as u64;
    let mut offset = range.start;
    let read = |buffer: &mut Vec<u8>| {
        if offset >= range.end {
            return Ok(None);
        }
        let read = piece(stream, offset..range.end, buffer)?;
        offset += read as u64;
        Ok((read > 0).then_some(read))
    };
    let take = |piece: ar7_registry::Result<&[u8]>| take(piece.map_err(&failed)?);
    if is_short { by_turns(buffer, read, take) } else { read_ahead(read, take) }
}

/// Reads the first piece of a range and returns its length.
fn piece(stream: &Stream, range: Range<u64>, buffer: &mut Vec<u8>) -> ar7_registry::Result<usize> {
    let wanted = CHUNK.min(usize::try_from(range.end - range.start).unwrap_or(CHUNK));
    if buffer.len() < wanted {
        buffer.resize(wanted, 0);
    }
    let wanted = buffer.get_mut(..wanted).unwrap_or_default();
    stream.read_at(range.start, wanted)
}
