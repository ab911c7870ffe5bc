//! An archive of the maximum size: streams can use blocks up to position 2^31 - 2, and no further
//! one. A full archive can still be read and closed, and streams can be deleted from it.

use ar7_engine::Error as EngineError;
use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{BLOCKS_MAX, Block, DATA_SIZE, Position, THIRD_COPIES};
use ar7_engine::store::{Access, OpenOptions, SlotUpdate, Store, Urgency};
use ar7_registry::{Archive, CreateOptions, Error};

/// Number of free blocks before the last block of the format.
const LEFT: u32 = 200;

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([5; 32]))
}

fn open(device: &MemoryDevice, access: Access) -> Archive {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options).unwrap()
}

/// Makes an archive in which all blocks except the last ones are allocated, without an owner.
fn nearly_full() -> MemoryDevice {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap().close().unwrap();
    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    let (store, writer) = Store::open_device(Box::new(device.clone()), &secret(), options).unwrap();
    let mut writer = writer.unwrap();
    // The third copies lie between two runs.
    for _ in 0..2 {
        let most = BLOCKS_MAX - LEFT - writer.block_count().max(THIRD_COPIES.end);
        writer.allocate(most, Urgency::Ordinary).unwrap();
    }
    assert_eq!(writer.block_count(), BLOCKS_MAX - LEFT);
    let redo = writer.write_redo_list().unwrap();
    let slot = store.current().slot.clone();
    let update = SlotUpdate {
        roots: slot.roots,
        inline_free: slot.inline_free,
        reserved_streams: slot.reserved_streams,
        counters: slot.counters,
        metadata: slot.metadata,
        sessions_recorded: false,
        redo,
    };
    writer.commit(update).unwrap();
    writer.finish().unwrap();
    device
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Engine(EngineError::Full { limit, .. }) if *limit == u64::from(BLOCKS_MAX))
}

#[test]
fn streams_can_use_every_block_of_the_format() {
    let device = nearly_full();
    let archive = open(&device, Access::Write);
    let mut stream = archive.new_stream().unwrap();
    let identity = stream.identity();
    let bytes: Vec<u8> = (0..100 * DATA_SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect();
    stream.append(&bytes).unwrap();
    archive.commit().unwrap();
    let record = stream.stored().unwrap().record;
    assert!(record.begin.unwrap() >= Position::at(BLOCKS_MAX - LEFT));
    // It exceeds the free blocks, so the append or the commit fails.
    let error = stream.set_len(300 * 4008).unwrap_err();
    assert!(is_full(&error), "{error}");
    assert_eq!(stream.len().unwrap(), bytes.len() as u64);
    // Overwrite and append block by block until no block is free.
    let mut length = bytes.len();
    let error = loop {
        let added = stream.append(&[7; DATA_SIZE]).and_then(|()| archive.commit());
        match added {
            Ok(()) => length += DATA_SIZE,
            Err(error) => break error,
        }
    };
    assert!(is_full(&error), "{error}");
    assert!(length > bytes.len());
    drop(stream);
    archive.close().unwrap();

    let archive = open(&device, Access::Write);
    let mut stream = archive.open_stream(identity).unwrap();
    assert_eq!(stream.len().unwrap(), length as u64, "every returned commit is durable");
    let mut found = vec![0; bytes.len()];
    stream.read_at(0, &mut found).unwrap();
    assert!(found == bytes);
    let blocks: Vec<Block> = stream.blocks().unwrap().map(Result::unwrap).collect();
    assert!(blocks.windows(2).all(|pair| pair[0].head.next.is_some()));
    drop(stream);
    // Deleting frees blocks, which can be allocated again.
    assert!(archive.delete_stream(identity).unwrap());
    archive.commit().unwrap();
    archive.reclaim().unwrap();
    let mut stream = archive.new_stream().unwrap();
    stream.append(&bytes[..50 * DATA_SIZE]).unwrap();
    archive.commit().unwrap();
    let identity = stream.identity();
    drop(stream);
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    let stream = archive.read_stream(identity).unwrap();
    assert_eq!(stream.count().unwrap(), 50);
    stream.read_at(0, &mut found[..50 * DATA_SIZE]).unwrap();
    assert!(found[..50 * DATA_SIZE] == bytes[..50 * DATA_SIZE]);
}
