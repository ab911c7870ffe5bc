//! Decoding of frames and of the records of packed content from arbitrary bytes.

use ar7_engine::format::Field;
use ar7_registry::packs::testing::{Decoded, decode, encode};
use ar7_registry::packs::{FRAME_MAX, frame_head_layout};
use ar7_registry::records::{
    ADDRESS_MAX, DeadSlices, Frame, Frames, Packs, Record, frame_layout, pack_layout,
};

use crate::bytes::{check_decoded, engine_error, split};

/// A frame that a decoder of Zstandard skips (RFC 8878, section 3.1.2), without content.
const SKIPPABLE_FRAME: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];

/// Decodes the bytes after the first one as what that one says: a frame in a pack, or the key and value of a frame, a
/// pack or a dead slice. Returns whether they were accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn frame_parse(bytes: &[u8]) -> bool {
    let ([kind], bytes) = split(bytes);
    match kind % 4 {
        0 => check_frame(bytes),
        1 => check_record::<Frames, 8, { frame_layout::SIZE }>(bytes, |_, frame| {
            let Frame { length, written, live, .. } = *frame;
            assert!(1 <= live && live <= written && written <= length, "{frame:?}");
        }),
        2 => check_record::<Packs, 16, { pack_layout::SIZE }>(bytes, |_, pack| {
            assert!(1 <= pack.live && pack.live <= pack.used, "{pack:?}");
        }),
        _ => check_record::<DeadSlices, 8, 8>(bytes, |first, length| {
            let end = first.checked_add(*length);
            assert!(*length > 0 && end.is_some_and(|end| end <= ADDRESS_MAX), "{first}, {length}");
        }),
    }
}

/// A record that is accepted passes `check`, and encodes to the same bytes.
fn check_record<R: Record, const KEY: usize, const VALUE: usize>(
    bytes: &[u8],
    check: impl Fn(&R::Key, &R::Value),
) -> bool {
    let (key, bytes) = split::<KEY>(bytes);
    let (value, _) = split::<VALUE>(bytes);
    let decoded = R::decode_key(&key).and_then(|decoded| {
        let value = R::decode_value(&key, &value)?;
        check(&decoded, &value);
        Ok([R::encode_key(&decoded), R::encode_value(&value)].concat())
    });
    check_decoded(&[&key[..], &value].concat(), decoded.map_err(engine_error))
}

/// A frame holds what its head says, and nothing else decodes to it.
fn check_frame(bytes: &[u8]) -> bool {
    let Some(decoded) = decoded(bytes) else { return false };
    let head = &bytes[..frame_head_layout::SIZE];
    let length = frame_head_layout::LENGTH.u32(head);
    assert_eq!(decoded.bytes.len() as u64, u64::from(length), "another length than it declares");
    assert!(decoded.bytes.len() <= FRAME_MAX, "longer than a frame can be");
    let mut end = 0;
    for &(_, start, length) in &decoded.slices {
        assert!(start >= end && length > 0, "slices that overlap");
        end = start + length;
    }
    assert!(end <= length, "a slice beyond the end");
    for level in [None, Some(1)] {
        let again = encode(&decoded, level).expect("a frame that was decoded");
        assert_eq!(decoded_as(&again), decoded, "another frame than was encoded");
    }
    let stored = frame_head_layout::STORED.u32(head);
    let end = frame_head_layout::SIZE + usize::try_from(stored).expect("read before");
    for after in [&[0][..], &SKIPPABLE_FRAME] {
        let longer = [&bytes[..end], after].concat();
        let stored = stored + u32::try_from(after.len()).expect("a few bytes");
        assert!(!is_accepted_with(&longer, frame_head_layout::STORED, stored), "bytes too many");
    }
    assert!(!is_accepted_with(bytes, frame_head_layout::LENGTH, length + 1), "a byte too few");
    true
}

/// Returns whether a frame is accepted after a number in its head was changed.
fn is_accepted_with(frame: &[u8], field: Field, number: u32) -> bool {
    let mut frame = frame.to_vec();
    field.put(&mut frame, &number.to_be_bytes());
    decoded(&frame).is_some()
}

fn decoded(bytes: &[u8]) -> Option<Decoded> {
    match decode(bytes).map_err(engine_error) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(!check_decoded(&[], Err::<Vec<u8>, _>(error)));
            None
        }
    }
}

fn decoded_as(bytes: &[u8]) -> Decoded {
    decoded(bytes).expect("an encoded frame decodes")
}

/// Returns frames of each method, records, and a decompression bomb.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [valid(), vec![bomb_in_pack()]].concat()
}

/// Returns a frame of Zstandard of this length, which states one length, and holds up to 128 KiB for each four bytes.
pub(crate) fn bomb(stated: u64, length: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend_from_slice(&stated.to_le_bytes());
    // Blocks that repeat a byte; the last one has the rest of the bytes as they are.
    while frame.len() + 7 < length {
        frame.extend_from_slice(&[0x02, 0, 0x10, b'a']);
    }
    let rest = u8::try_from(length - frame.len() - 3).expect("a few bytes");
    frame.extend_from_slice(&[rest << 3 | 1, 0, 0]);
    frame.resize(length, b'a');
    frame
}

/// Returns a frame whose payload states what its head does, and holds more.
fn bomb_in_pack() -> Vec<u8> {
    const PAYLOAD: usize = 100;
    let content = Decoded { first: 0, bytes: vec![b'a'; 100_000], slices: vec![(2, 0, 100_000)] };
    let mut frame = encode(&content, Some(1)).expect("a frame");
    frame.truncate(frame_head_layout::SIZE);
    let stored = u32::try_from(PAYLOAD).expect("a few bytes").to_be_bytes();
    frame_head_layout::STORED.put(&mut frame, &stored);
    [&[0][..], &frame, &bomb(100_016, PAYLOAD)].concat()
}

/// Returns frames of each method, and records.
fn valid() -> Vec<Vec<u8>> {
    let slices = vec![(2, 0, 100), (u64::MAX - 1, 100, 50), (7, 200, 40)];
    let text: Vec<u8> =
        (0_u8..240).map(|number| b"frames of packed content "[usize::from(number) % 25]).collect();
    let noise: Vec<u8> =
        (0_u64..240).map(|number| (number * number * 2_654_435_761).to_be_bytes()[3]).collect();
    let frames = [(&text, Some(3)), (&noise, None)].map(|(bytes, level)| {
        let frame = Decoded { first: 1 << 40, bytes: bytes.clone(), slices: slices.clone() };
        [&[0][..], &encode(&frame, level).expect("a frame")].concat()
    });
    let mut frame = vec![1];
    frame.extend_from_slice(&(1_u64 << 40).to_be_bytes());
    frame.extend_from_slice(&[5; 16]);
    frame.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 90]);
    for number in [240_u64, 190, 40] {
        frame.extend_from_slice(&number.to_be_bytes());
    }
    frame.push(2);
    let pack = [&[2][..], &[5; 16], &[0, 0, 1, 0, 0, 0, 0, 90]].concat();
    let dead = [&[3][..], &77_u64.to_be_bytes(), &9_u64.to_be_bytes()].concat();
    [&frames[..], &[frame, pack, dead]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;

    #[test]
    fn a_decompression_bomb_is_rejected() {
        assert!(!frame_parse(&bomb_in_pack()));
    }

    #[test]
    fn any_frame_and_record_is_accepted_or_rejected() {
        for (seed, number) in valid().iter().zip(0x6672_616d_u64..) {
            // The first byte selects another decoder.
            check_mutations(seed, number, frame_parse);
        }
    }
}
