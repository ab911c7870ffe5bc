//! Decoding of a header from an arbitrary block.

use std::sync::OnceLock;

use ar7_engine::Error;
use ar7_engine::crypto::{HeaderKey, MasterKey};
use ar7_engine::format::{BLOCK_SIZE, MAGIC, Position, UncheckedHeader, header_layout};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::bytes::{check_decoded, padded};

/// Decodes `bytes` as a header. The magic, checksum and authentication code are corrected so that the fields are
/// reached; an attacker with the key can do the same. Returns whether it was accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn header_parse(bytes: &[u8]) -> bool {
    let mut block = padded::<BLOCK_SIZE>(bytes);
    // Unmodified, no checksum matches. The result is not an archive, newer, or damaged.
    match UncheckedHeader::parse(Position::at(0), &block) {
        Ok(_) | Err(Error::NotAnArchive { .. } | Error::NewerFormat { .. } | Error::Damaged(_)) => {
        }
        Err(other) => panic!("a header is reported as: {other}"),
    }
    let all = &mut block[..];
    header_layout::MAGIC.put(all, &MAGIC);
    let mac = key().mac(&all[..header_layout::MAC.offset]);
    header_layout::MAC.put(all, &mac);
    let checksum = Sha256::digest(&all[..header_layout::CHECKSUM.offset]);
    header_layout::CHECKSUM.put(all, &checksum);
    let decoded = UncheckedHeader::parse(Position::at(0), &block)
        .and_then(|unchecked| unchecked.authenticate(key()))
        .map(|header| header.encode(key()));
    check_decoded(&block[..], decoded.map(|encoded| encoded.to_vec()))
}

fn key() -> &'static HeaderKey {
    static KEY: OnceLock<HeaderKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let master = MasterKey::generate().expect("the system has random bytes");
        HeaderKey::derive(&master, Uuid::nil())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{ArchiveKind, Header, KeySlot, Label, Timestamp, UsedSlot};

    #[test]
    fn any_header_is_accepted_or_rejected() {
        let used = UsedSlot {
            cost: None,
            salt: [1; 32],
            label: Label::new("first").expect("a label"),
            commitment: [2; 32],
            nonce: [3; 24],
            wrapped: [4; 48],
        };
        let mut slots = [const { KeySlot::Empty }; 8];
        slots[0] = KeySlot::Used(Box::new(used));
        let header =
            Header::new(Uuid::from_u128(7), ArchiveKind::Dynamic, Timestamp::default(), slots);
        let mut bytes = header.encode(key()).to_vec();
        check_mutations(&bytes, 0x6865_6164, header_parse);
        // A field of a later version is preserved.
        let tail = header_layout::TAIL;
        let length = u32::try_from(tail.offset + 5).unwrap();
        header_layout::LENGTH.put(&mut bytes, &length.to_be_bytes());
        bytes[tail.offset..tail.offset + 5].copy_from_slice(b"later");
        check_mutations(&bytes, 0x7461_696c, header_parse);
    }
}
