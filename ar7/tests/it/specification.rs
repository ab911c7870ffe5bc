//! `ar7::spec` does what the specification says.

use std::io::{BufRead, Read as _, Seek as _, SeekFrom, Write as _};

use ar7::spec::{
    BaseStream, DynamicMultiStreamManager, FixedMultiStreamManager, SingleStreamManager,
    StreamBlock, StreamManager, StreamRegistry, VirtualFileObject,
};
use ar7::{Archive, Error};
use tempfile::TempDir;

use crate::common::{assert_verified, key, pattern};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn positions(stream: &mut BaseStream) -> Vec<(i32, i32, i32)> {
    let blocks = stream.blocks().unwrap().map(Result::unwrap);
    blocks.map(|block| (block.previous(), block.position(), block.next())).collect()
}

#[test]
fn a_stream_is_a_cursor_over_linked_blocks() {
    let folder = folder();
    let path = folder.path().join("a.ar7");
    let manager = DynamicMultiStreamManager::new(&path, &key()).unwrap();
    assert!(manager.created());
    let mut stream = manager.new_stream().unwrap();
    assert_eq!((stream.count().unwrap(), stream.begin().unwrap()), (0, -1));
    for number in 0..3 {
        let mut block = StreamBlock::new(-1);
        block.data_mut().fill(number);
        stream.push(&block).unwrap();
    }
    assert_eq!(stream.length(3 * 4008 - 8).unwrap(), 12_016);
    let identity = stream.identity();
    stream.close().unwrap();
    manager.save_meta().unwrap();
    let mut stream = manager.open_stream(identity).unwrap();
    let found = positions(&mut stream);
    let [(before, first, next), (_, second, _), (_, third, after)] = found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((before, next, after), (-1, second, -1));
    assert_eq!(stream.begin().unwrap(), first);
    assert!(first >= 8 && third > second);
    assert_eq!(stream.wind(9).unwrap(), 2);
    assert!(!stream.next().unwrap());
    assert!(stream.previous().unwrap());
    let block = stream.block().unwrap().unwrap();
    assert_eq!((block.index(), block.stream(), block.position()), (1, identity, second));
    assert_eq!(stream.data().unwrap().unwrap(), &[1; 4008]);
    assert_eq!(stream.compression().unwrap(), BaseStream::COMP_NONE);
    let last = stream.pop().unwrap().unwrap();
    assert_eq!(last.data(), &[2; 4008]);
    assert_eq!(stream.len().unwrap(), 2 * 4008);
    assert_eq!(stream.truncate(10).unwrap(), 10);
    stream.data_mut().unwrap().unwrap()[0] = 9;
    manager.close_stream(stream).unwrap();
    manager.close().unwrap();
    let manager = DynamicMultiStreamManager::new(&path, &key()).unwrap();
    assert!(!manager.created());
    assert_eq!(manager.open_stream(identity).unwrap().data().unwrap().unwrap()[..2], [9, 0]);
    assert!(manager.del_stream(identity).unwrap());
    assert!(!manager.del_stream(identity).unwrap());
    manager.close().unwrap();
    assert_verified(&Archive::open(&path, &key()).unwrap());
}

#[test]
fn a_block_packs_and_unpacks_as_specified() {
    let mut block = StreamBlock::new(12);
    block.data_mut().copy_from_slice(&pattern(4008, 3));
    let bytes = block.to_bytes();
    assert_eq!(bytes.len(), 4056);
    assert_eq!((&bytes[..8], &bytes[28..48]), (&[0xff; 8][..], &block.digest()[..]));
    let mut loaded = StreamBlock::new(12);
    assert!(loaded.load_meta(&bytes));
    assert_eq!(loaded, block);
    for at in [30, 100, 4055] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(!loaded.load_meta(&bad), "byte {at}");
    }
    assert!(!loaded.load_meta(&bytes[1..]));
    assert_eq!(loaded, block);
    let unpacked = StreamBlock::meta_unpack(&bytes).unwrap();
    assert_eq!((unpacked.0, unpacked.1, unpacked.2), (-1, -1, 0));
}

#[test]
fn each_manager_has_its_kind_of_streams() {
    let folder = folder();
    let path = folder.path().join("single.ar7");
    let single = SingleStreamManager::new(&path, &key()).unwrap();
    let mut data = single.special_stream(SingleStreamManager::STREAM_DATA).unwrap();
    assert!(data.extend().unwrap());
    data.close().unwrap();
    single.set_meta(b"meta").unwrap();
    single.save_meta().unwrap();
    for reserved in 1..=6 {
        let block = single.special_block(reserved).unwrap();
        assert_eq!(block.position(), i32::try_from(reserved).unwrap());
    }
    single.special_block(0).unwrap_err();
    single.close().unwrap();
    let other = DynamicMultiStreamManager::new(&path, &key()).unwrap_err();
    assert!(matches!(other, Error::KindForbids { .. }));
    let single = SingleStreamManager::new(&path, &key()).unwrap();
    assert_eq!(single.meta().unwrap(), b"meta");
    let fixed = folder.path().join("fixed.ar7");
    let fixed = FixedMultiStreamManager::new(fixed, &key(), 3).unwrap();
    let streams = fixed.streams().unwrap();
    assert_eq!(streams.len(), 3);
    let mut stream = fixed.open_stream(streams[1]).unwrap();
    assert!(stream.extend().unwrap());
    fixed.special_stream(FixedMultiStreamManager::STREAM_TRASH).unwrap_err();
}

#[test]
fn a_registry_records_streams() {
    let folder = folder();
    let manager = DynamicMultiStreamManager::new(folder.path().join("a.ar7"), &key()).unwrap();
    let registry = StreamRegistry::new(&manager);
    let mut stream = manager.new_stream().unwrap();
    assert!(!registry.update(&stream).unwrap());
    let identity = registry.register(&stream).unwrap();
    assert!(matches!(registry.register(&stream), Err(Error::StreamExists { .. })));
    stream.extend().unwrap();
    assert!(registry.update(&stream).unwrap());
    assert_eq!(registry.search(identity).unwrap(), Some(stream.meta().unwrap()));
    registry.unregister(identity).unwrap_err();
    stream.pop().unwrap();
    stream.close().unwrap();
    manager.save_meta().unwrap();
    let found: Vec<ar7::uuid::Uuid> =
        registry.tree().unwrap().iter().map(|stream| stream.id).collect();
    assert_eq!(found, [identity]);
    assert!(registry.unregister(identity).unwrap().is_some());
    assert_eq!(registry.search(identity).unwrap(), None);
    registry.close().unwrap();
}

#[test]
fn a_file_object_has_lines_and_an_offset() {
    let folder = folder();
    let manager = DynamicMultiStreamManager::new(folder.path().join("a.ar7"), &key()).unwrap();
    let stream = manager.new_stream().unwrap();
    let mut file = VirtualFileObject::new(stream, "name", "w+").unwrap();
    assert!(file.readable() && file.writable() && file.seekable());
    file.write_all(b"one\ntwo\nthree").unwrap();
    assert_eq!(file.tell().unwrap(), 13);
    file.rewind().unwrap();
    assert_eq!(file.readline().unwrap(), b"one\n");
    let rest: Vec<String> = (&mut file as &mut dyn BufRead).lines().map(Result::unwrap).collect();
    assert_eq!(rest, ["two", "three"]);
    assert_eq!(file.readline().unwrap(), b"");
    file.seek(SeekFrom::Start(4)).unwrap();
    assert_eq!(file.truncate(None).unwrap(), 4);
    assert_eq!(file.truncate(Some(6)).unwrap(), 6);
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).unwrap();
    assert_eq!((rest, file.filename()), (vec![0, 0], "name"));
    file.close().unwrap();
}
