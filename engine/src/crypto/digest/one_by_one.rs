//! The `sha1` crate, one message after the other.

use sha1::{Digest as _, Sha1};

use crate::format::Digest;

/// Hashes each message. Digests that are left over stay as they are.
pub(super) fn digest_equal(messages: &[&[u8]], digests: &mut [Digest]) {
    for (message, digest) in messages.iter().zip(digests) {
        *digest = Sha1::digest(message).into();
    }
}
