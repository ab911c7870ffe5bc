//! Frames decode as the worked examples of docs/vectors state, and no changed frame does.

use serde_json::Value;

use super::frame_head_layout;
use super::testing::{Decoded, decode};
use crate::records::{Frames, Record};

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vectors/vectors.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn vector<'v>(vectors: &'v Value, name: &str) -> &'v Value {
    vectors.as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap()
}

fn from_base16(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn slice(slice: &Value) -> (u64, u32, u32) {
    let [inode, start, length] = [0, 1, 2].map(|at| slice[at].as_u64().unwrap());
    (inode, u32::try_from(start).unwrap(), u32::try_from(length).unwrap())
}

#[test]
fn frames_decode_to_their_content_and_slices() {
    let vectors = vectors();
    for name in ["raw frame", "compressed frame", "frame of uncompressed blocks"] {
        let vector = vector(&vectors, name);
        let frame = from_base16(&vector["frame"]);
        let expected = Decoded {
            first: vector["first"].as_u64().unwrap(),
            bytes: from_base16(&vector["content"]),
            slices: vector["slices"].as_array().unwrap().iter().map(slice).collect(),
        };
        assert_eq!(decode(&frame).unwrap(), Some(expected), "{name}");
        for field in [frame_head_layout::LENGTH, frame_head_layout::STORED] {
            let mut changed = [&frame[..], &[0]].concat();
            let more = field.u32(&changed) + 1;
            field.put(&mut changed, &more.to_be_bytes());
            assert!(decode(&changed).is_err(), "{name}");
        }
    }
}

#[test]
fn the_record_of_a_frame_has_its_fields() {
    let vectors = vectors();
    let vector = vector(&vectors, "record of a frame");
    let [key, value] = ["key", "value"].map(|part| from_base16(&vector[part]));
    let record = Frames::decode_value(&key, &value).unwrap();
    assert_eq!(Frames::decode_key(&key).unwrap(), 1 << 40);
    assert_eq!((record.length, record.written, record.live), (300, 240, 180));
    assert_eq!(record.stored.map(|stored| (stored.offset, stored.length)), Some((4008, 161)));
    assert_eq!(Frames::encode_value(&record), value);
    let vector = self::vector(&vectors, "record of a hole");
    let [key, value] = ["key", "value"].map(|part| from_base16(&vector[part]));
    let record = Frames::decode_value(&key, &value).unwrap();
    assert_eq!(Frames::decode_key(&key).unwrap(), (1 << 40) + 300);
    assert_eq!((record.length, record.written, record.live), (1 << 40, 1 << 40, (1 << 40) - 1));
    assert_eq!((record.stored, Frames::encode_value(&record)), (None, value));
}
