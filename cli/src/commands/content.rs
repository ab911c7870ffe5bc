//! A bare stream as an argument of `put` and `cat`.

use ar7::uuid::Uuid;

use crate::exit::Failure;

/// The number of reserved streams, which have the UUIDs from 0.
const RESERVED_STREAMS: usize = 8;

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
