//! The layout of each structure in the file, byte by byte. No I/O and no keys.

mod block;
mod features;
mod header;
mod key_slot;
mod layout;
mod meta_slot;
mod redo;
mod reserved;
mod stream_record;
#[cfg(test)]
pub(crate) mod tests;
mod units;

pub use block::{
    Block, BlockHead, DATA_SIZE, DATA_SIZE_U64, Data, Digest, OwnedData, PLAIN_SIZE, plain, sealed,
};
pub use features::Features;
pub use header::{
    ArchiveKind, Header, MAGIC, Rekey, Timestamp, UncheckedHeader, VERSION, header_digest,
    header_layout, rekey_layout,
};
pub(crate) use header::{REKEY_CODE_OFFSET, header_checksum};
pub use key_slot::{
    DerivationCost, KEY_SLOTS, KeySlot, LABEL_MAX, Label, UsedSlot, key_slot_layout,
};
pub use layout::Field;
pub use meta_slot::{
    COMMITS_MAX, DEPTH_MAX, INLINE_FREE_RUNS_MAX, META_STREAM, METADATA_MAX, MetaSlot,
    PENDING_SESSIONS_MAX, ROOTS, Root, SessionRecord, inline_free_run, meta_slot_layout, root,
    session,
};
pub use redo::{REDO_PER_BLOCK, REDO_STREAM, RedoBlock, RedoEntry, redo_block, redo_entry};
pub use reserved::{
    BLANK_BLOCKS, HEADERS, META_SLOT_PAIRS, META_SLOTS, RESERVED_BLOCKS, RESERVED_STREAMS,
    THIRD_COPIES, THIRD_HEADER, THIRD_SLOTS, has_reserved, has_third_copies, is_reserved,
    third_slot,
};
pub use stream_record::{
    COMPRESSION_NONE, StoredStream, StreamLayout, StreamRecord, stored_stream, stream_record_layout,
};
pub use units::{
    BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, BlockIndex, BlockRef, DoubledRef, FAR_BLOCKS,
    Generation, Position, Run, runs_of,
};
