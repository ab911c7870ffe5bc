//! Free runs, pending deletions, and sessions.

use ar7_engine::format::{Position, Run, SessionRecord, StoredStream};
use ar7_engine::{Check, Error as EngineError};
use uuid::Uuid;

use super::{Record, Streams, TreeId, exactly};
use crate::error::Result;

/// The free list: position to free run. The specification calls it the trash.
#[doc(alias = "STREAM_TRASH")]
pub enum Free {}

impl Record for Free {
    const TREE: TreeId = TreeId::Free;
    type Key = Position;
    type Value = Run;

    fn encode_key(key: &Position) -> Vec<u8> {
        key.get().to_be_bytes().to_vec()
    }

    fn decode_key(bytes: &[u8]) -> Result<Position> {
        let raw = u32::from_be_bytes(exactly(bytes)?);
        let position = Position::new(raw);
        Ok(position.ok_or_else(|| EngineError::damaged(None, Check::FreeMap, "a position", raw))?)
    }

    fn encode_value(value: &Run) -> Vec<u8> {
        value.count().to_be_bytes().to_vec()
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<Run> {
        let start = Free::decode_key(key)?;
        let count = u32::from_be_bytes(exactly(bytes)?);
        let run = Run::new(start, count).filter(|run| !ar7_engine::format::has_reserved(*run));
        Ok(run.ok_or_else(|| EngineError::damaged(start, Check::FreeMap, "a run", count))?)
    }
}

/// Pending deletions: deleted streams whose blocks are not all free yet.
pub enum PendingDeletions {}

impl Record for PendingDeletions {
    const TREE: TreeId = TreeId::PendingDeletions;
    type Key = Uuid;
    type Value = StoredStream;

    fn encode_key(key: &Uuid) -> Vec<u8> {
        Streams::encode_key(key)
    }

    fn decode_key(bytes: &[u8]) -> Result<Uuid> {
        Streams::decode_key(bytes)
    }

    fn encode_value(value: &StoredStream) -> Vec<u8> {
        Streams::encode_value(value)
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<StoredStream> {
        Streams::decode_value(key, bytes)
    }
}

/// Ended sessions: number to salt and last step.
pub enum Sessions {}

/// An ended session.
pub type SessionEntry = SessionRecord;

impl Record for Sessions {
    const TREE: TreeId = TreeId::Sessions;
    type Key = u32;
    type Value = SessionRecord;

    fn encode_key(key: &u32) -> Vec<u8> {
        key.to_be_bytes().to_vec()
    }

    fn decode_key(bytes: &[u8]) -> Result<u32> {
        exactly(bytes).map(u32::from_be_bytes)
    }

    fn encode_value(value: &SessionRecord) -> Vec<u8> {
        [value.salt.to_be_bytes(), value.last_step.to_be_bytes()].concat()
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<SessionRecord> {
        let word = |bytes: &[u8]| exactly(bytes).map(u32::from_be_bytes);
        let bytes: [u8; 8] = exactly(bytes)?;
        let (salt, last_step) = (word(&bytes[..4])?, word(&bytes[4..])?);
        Ok(SessionRecord { session: Sessions::decode_key(key)?, salt, last_step })
    }
}
