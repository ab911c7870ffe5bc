//! Attributes of entries whose attributes do not matter.

use ar7_engine::format::Timestamp;
use ar7_registry::records::Attributes;

pub(crate) const ATTRIBUTES: Attributes = Attributes {
    mode: 0o644,
    uid: 0,
    gid: 0,
    modified: Timestamp { seconds: 0, nanoseconds: 0 },
    origin: None,
};
