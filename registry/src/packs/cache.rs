//! Frames that were decoded lately.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use uuid::Uuid;

use super::frame::Content;

/// Maximum number of bytes in the cache.
const CACHED_BYTES: u64 = 16 << 20;

/// A frame that was decoded.
pub(crate) type DecodedFrame = Arc<Content>;

/// Decoded frames. The key names one frame of a pack, which never changes.
pub(crate) struct FrameCache(Cache<(Uuid, u32), DecodedFrame, Bytes>);

#[derive(Clone)]
struct Bytes;

impl Weighter<(Uuid, u32), DecodedFrame> for Bytes {
    fn weight(&self, _: &(Uuid, u32), frame: &DecodedFrame) -> u64 {
        frame.weight()
    }
}

impl FrameCache {
    pub(crate) fn new() -> FrameCache {
        let likely = usize::try_from(CACHED_BYTES).unwrap_or(usize::MAX) / super::FRAME_MAX;
        FrameCache(Cache::with_weighter(likely, CACHED_BYTES, Bytes))
    }

    pub(crate) fn get(&self, pack: Uuid, offset: u32) -> Option<DecodedFrame> {
        self.0.get(&(pack, offset))
    }

    pub(crate) fn insert(&self, pack: Uuid, offset: u32, frame: &DecodedFrame) {
        self.0.insert((pack, offset), Arc::clone(frame));
    }
}
