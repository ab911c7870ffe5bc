//! Worked examples of frames in packs. They are laid out by hand, and compressed bytes are constants: a later version of
//! the library may compress otherwise.

use ar7_engine::format::Field;
use ar7_registry::packs::{frame_head_layout, slice_layout};
use ar7_registry::records::frame_layout;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Vector;

const FIRST: u64 = 1 << 40;

/// The inode, the offset and the length of each slice. Nothing has the 60 bytes before the last one.
const SLICES: [(u64, u32, u32); 3] = [(2, 0, 120), (3, 120, 60), (u64::MAX - 1, 240, 60)];
const LENGTH: usize = 300;

const TEXT: &[u8] = b"A frame holds the bytes at consecutive addresses, encoded together. A pack is a stream of frames. A \
    frame has a table of its slices, and each slice is of one file. ";

/// Content and table, compressed by `zstd -19 --no-check`.
const COMPRESSED: [u8; 161] = [
    0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x5c, 0x00, 0xbd, 0x04, 0x00, 0xe2, 0x89, 0x1d, 0x1d, 0xc0, 0xa7,
    0x03, 0x56, 0xff, 0xff, 0xff, 0x6f, 0x46, 0x4b, 0x88, 0x34, 0xa7, 0x25, 0x9d, 0x88, 0xdd, 0x6d,
    0xa7, 0xdd, 0xfc, 0x1a, 0x58, 0x5d, 0xe6, 0x16, 0x36, 0xbb, 0x03, 0x84, 0x52, 0x2a, 0x52, 0x4a,
    0x49, 0x13, 0x11, 0x3c, 0x80, 0xf2, 0x70, 0xf8, 0x9a, 0xaf, 0x44, 0xb7, 0x68, 0x7d, 0x76, 0x2b,
    0x6f, 0xa6, 0xa4, 0x05, 0xfd, 0x7a, 0x50, 0xad, 0xfb, 0xdc, 0xa2, 0x0f, 0x8d, 0x5c, 0xa7, 0x35,
    0x3d, 0x68, 0x8b, 0x4e, 0xf2, 0xcc, 0xaa, 0xd3, 0xfa, 0x8c, 0xac, 0x5c, 0x5c, 0x78, 0x60, 0xee,
    0xf6, 0x47, 0x5c, 0xb3, 0xb3, 0xb8, 0x94, 0x5b, 0xd0, 0xab, 0x9e, 0x61, 0x2c, 0x7d, 0xe7, 0x6d,
    0xb3, 0xae, 0x4a, 0x5c, 0xde, 0xb4, 0x7e, 0x21, 0xc3, 0x77, 0x6b, 0x65, 0x30, 0x3a, 0x3f, 0x49,
    0xa6, 0xb9, 0x08, 0x0b, 0x00, 0xb8, 0x81, 0x2f, 0x99, 0x81, 0x2c, 0xab, 0x7c, 0x46, 0x64, 0x91,
    0xb1, 0x91, 0x00, 0xb8, 0x74, 0x9f, 0x0c, 0x5a, 0xa2, 0x19, 0xaf, 0xc4, 0x32, 0xd9, 0x36, 0x60,
    0x33,
];

/// Methods of frames.
const RAW: u8 = 1;
const ZSTD: u8 = 2;

/// Returns every example.
pub(super) fn vectors() -> Vec<Vector> {
    let plain = plain();
    vec![
        frame("raw frame", RAW, &plain),
        frame("compressed frame", ZSTD, &COMPRESSED),
        frame("frame of uncompressed blocks", ZSTD, &uncompressed(&plain)),
        record(),
        hole(),
    ]
}

/// Returns content and table as they are.
fn plain() -> Vec<u8> {
    let mut plain: Vec<u8> = TEXT.iter().copied().cycle().take(240).collect();
    plain.splice(180..180, [0; 60]);
    for (inode, start, length) in SLICES {
        plain.extend_from_slice(&inode.to_be_bytes());
        plain.extend_from_slice(&start.to_be_bytes());
        plain.extend_from_slice(&length.to_be_bytes());
    }
    plain
}

/// Returns a frame of Zstandard with a block of one byte, repeated, in place of the zeros between slices.
fn uncompressed(plain: &[u8]) -> Vec<u8> {
    let block = |length: u8, kind: u8| (u16::from(length) << 3 | u16::from(kind)).to_le_bytes();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    let (before, after) = (&plain[..180], &plain[240..]);
    for (length, kind, bytes) in [(180, 0, before), (60, 2, &[0][..]), (108, 1, after)] {
        frame.extend_from_slice(&block(length, kind));
        frame.push(0);
        frame.extend_from_slice(bytes);
    }
    frame
}

fn frame(name: &'static str, method: u8, stored: &[u8]) -> Vector {
    use frame_head_layout as at;
    let mut frame = vec![0; at::SIZE];
    let number = |length: usize| u32::try_from(length).expect("a short frame").to_be_bytes();
    at::TAG.put(&mut frame, b"fram");
    at::FIRST.put(&mut frame, &FIRST.to_be_bytes());
    at::LENGTH.put(&mut frame, &number(LENGTH));
    at::STORED.put(&mut frame, &number(stored.len()));
    at::SLICES.put(&mut frame, &[0, 3]);
    at::METHOD.put(&mut frame, &[method]);
    frame.extend_from_slice(stored);
    let plain = plain();
    let slices = SLICES.map(|(inode, start, length)| json!([inode, start, length]));
    let mut vector = Vector::new(name)
        .value("first", FIRST)
        .bytes("frame", &frame)
        .bytes("content", &plain[..LENGTH])
        .bytes("table", &plain[LENGTH..])
        .value("slices", Value::from(slices.to_vec()))
        .fields("frame", &frame, 0, at::FIELDS);
    for slice in 0..SLICES.len() {
        vector = vector.fields(
            "table",
            &plain[LENGTH..],
            slice * slice_layout::SIZE,
            slice_layout::FIELDS,
        );
    }
    vector
}

/// Returns the record of the compressed frame, after the second file was deleted.
fn record() -> Vector {
    use frame_layout as at;
    let pack = Uuid::from_u128(0x0192_a000_0000_7000_8000_0000_0000_0003);
    let numbers = [
        (at::OFFSET, 4008),
        (at::STORED, 161),
        (at::LENGTH, 300),
        (at::WRITTEN, 240),
        (at::LIVE, 180),
        (at::METHOD, ZSTD.into()),
    ];
    record_of("record of a frame", FIRST, pack, &numbers)
}

/// Returns the record of a hole of a TiB behind the frame, of which the last byte was cut off later.
fn hole() -> Vector {
    use frame_layout as at;
    let length = 1 << 40;
    let numbers = [(at::LENGTH, length), (at::WRITTEN, length), (at::LIVE, length - 1)];
    record_of("record of a hole", FIRST + LENGTH as u64, Uuid::nil(), &numbers)
}

fn record_of(name: &'static str, first: u64, pack: Uuid, numbers: &[(Field, u64)]) -> Vector {
    use frame_layout as at;
    let mut value = vec![0; at::SIZE];
    at::PACK.put(&mut value, pack.as_bytes());
    for (field, number) in numbers {
        field.put(&mut value, &number.to_be_bytes()[8 - field.length..]);
    }
    Vector::new(name).bytes("key", &first.to_be_bytes()).bytes("value", &value).fields(
        "value",
        &value,
        0,
        at::FIELDS,
    )
}
