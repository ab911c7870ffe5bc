//! Frames: how new content is compressed, and what no frame can make a reader do.

use std::fs;
use std::path::PathBuf;

use super::frame::compressed_len;
use super::testing::{Decoded, decode, encode};
use super::{AUTO_LEVEL, FRAME_MAX, frame_head_layout as head};

/// Returns source code: that of this crate.
fn source(length: usize) -> Vec<u8> {
    let (mut waiting, mut files) = (vec![PathBuf::from("src")], Vec::new());
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut source: Vec<u8> = files.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    assert!(source.len() > length, "{} bytes", source.len());
    source.truncate(length);
    source
}

/// The tables of level 2 for longer inputs are too large and too coarse for a frame.
#[test]
fn new_content_is_compressed_with_tables_of_the_size_of_a_frame() {
    let level = i32::from(AUTO_LEVEL);
    let plain_level = |bytes: &[u8]| zstd::bulk::compress(bytes, level).unwrap().len();
    let frame = source(FRAME_MAX);
    assert_eq!(compressed_len(&frame, level), plain_level(&frame), "Zstandard knows the length");
    // With its table of slices, a frame is longer.
    let with_table = source(FRAME_MAX + 16);
    let (found, plain) = (compressed_len(&with_table, level), plain_level(&with_table));
    assert!(found + plain / 100 < plain, "{found} and {plain} bytes");
    // The parameters are those of one level.
    for level in [1, 3] {
        let expected = zstd::bulk::compress(&with_table, level).unwrap().len();
        assert_eq!(compressed_len(&with_table, level), expected, "level {level}");
    }
}

/// A block of Zstandard that repeats a byte, and is the last one or not.
fn repeated(length: u32, is_last: bool) -> Vec<u8> {
    let head = (length << 3 | 1 << 1 | u32::from(is_last)).to_le_bytes();
    [&head[..3], b"a"].concat()
}

/// A frame of Zstandard that states a length, and has these blocks. It is one segment, or states the size of its window.
fn stating(stated: Option<u64>, window: Option<u8>, blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = 0xFD2F_B528_u32.to_le_bytes().to_vec();
    let sized = if stated.is_some() { 0b1100_0000 } else { 0 };
    frame.push(sized | if window.is_none() { 0b0010_0000 } else { 0 });
    frame.extend(window);
    frame.extend(stated.into_iter().flat_map(u64::to_le_bytes));
    frame.extend(blocks.concat());
    frame
}

/// A frame of a pack with one slice of all of its addresses.
fn in_pack(length: u32, compressed: &[u8]) -> Vec<u8> {
    let whole = Decoded { first: 7, bytes: vec![b'a'; 1000], slices: vec![(2, 0, 1000)] };
    let mut frame = encode(&whole, Some(1)).unwrap();
    frame.truncate(head::SIZE);
    head::LENGTH.put(&mut frame, &length.to_be_bytes());
    head::STORED.put(&mut frame, &u32::try_from(compressed.len()).unwrap().to_be_bytes());
    [&frame[..], compressed].concat()
}

/// What a decompression bomb states, in the head of a frame or in the frame of Zstandard, and what it holds.
#[test]
fn a_frame_never_yields_more_than_it_declares_and_never_more_than_the_limit() {
    const LENGTH: u32 = 100_000;
    // Content and table. The table is of the same byte, so it has no valid slice.
    let decoded = u64::from(LENGTH) + 16;
    let block = repeated(LENGTH + 16, true);
    let many = vec![repeated(128 << 10, false); 8000];
    let endless = [&many[..], &[repeated(1, true)]].concat();
    let one = |stated| stating(stated, None, std::slice::from_ref(&block));
    // So that each of the others fails for the reason that it is there for.
    let honest = decode(&in_pack(LENGTH, &one(Some(decoded)))).unwrap_err().to_string();
    assert!(honest.contains("100000"), "only the table is wrong: {honest}");
    for (what, length, compressed) in [
        ("a GiB", LENGTH, stating(Some(decoded), None, &endless)),
        ("a GiB, and says so", LENGTH, stating(Some(8000 * (128 << 10) + 1), None, &endless)),
        ("a GiB that it does not state", LENGTH, stating(None, Some(0), &endless)),
        ("less than it states", LENGTH, one(Some(decoded + 1))),
        ("more than it states", LENGTH, one(Some(decoded - 1))),
        ("2^64 - 1 bytes", LENGTH, one(Some(u64::MAX))),
        ("a second frame", LENGTH, [one(Some(decoded)), one(Some(decoded))].concat()),
        ("no last block", LENGTH, stating(Some(decoded), None, &[repeated(LENGTH + 16, false)])),
        ("a window of 2^41 bytes", LENGTH, stating(Some(decoded), Some(0xff), &many[..1])),
        ("more addresses than a frame has", 262_145, one(Some(262_145 + 16))),
        ("2^32 - 1 addresses", u32::MAX, one(Some(u64::from(u32::MAX) + 16))),
    ] {
        let refused = decode(&in_pack(length, &compressed)).unwrap_err().to_string();
        assert_ne!(refused, honest, "{what}");
    }
}
