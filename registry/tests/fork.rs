//! A fork copies the handle's memory, with keys and nonce state, to the child. The child can
//! neither write with the handle, and so never repeats a nonce of the parent, nor read blocks.
//! Dropping the handle in the child does not affect the parent.

#[path = "it/common.rs"]
mod common;

use ar7_engine::Error as EngineError;
use ar7_engine::crypto::{KeyDerivation, RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::ArchiveKind;
use ar7_engine::store::{Access, NewKey, in_forked_process};
use ar7_registry::{Archive, Error};
use common::{assert_verified, create, dynamic, open, pattern, read_all};

#[track_caller]
fn assert_refused<T>(what: &str, outcome: Result<T, Error>) {
    match outcome {
        Err(Error::Engine(EngineError::OtherProcess { opened_by, used_by })) => {
            assert_eq!((opened_by, used_by), (std::process::id(), std::process::id() + 1));
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what} works"),
    }
}

/// Makes an archive with one committed stream.
fn archive() -> (MemoryDevice, Archive) {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&pattern(50_000, 1)).unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
    (device, archive)
}

#[test]
fn a_child_cannot_write() {
    let (device, archive) = archive();
    let mut stream = archive.new_stream().unwrap();
    stream.append(&pattern(9000, 2)).unwrap();
    let before = device.to_bytes();
    let secret = Secret::Key(RawKey::from_bytes([6; 32]));
    let new = NewKey { secret: &secret, derivation: &KeyDerivation::default(), label: "" };
    in_forked_process(|| {
        assert_refused("append", stream.append(b"more"));
        assert_refused("write", stream.write_at(3, b"more"));
        assert_refused("truncate", stream.set_len(1));
        assert_refused("flush", stream.flush().and_then(|()| stream.len()));
        assert_refused("create a stream", archive.new_stream());
        assert_refused("delete a stream", archive.delete_stream(stream.identity()));
        assert_refused("commit", archive.commit());
        assert_refused("rollback", archive.rollback());
        assert_refused("reclaim", archive.reclaim());
        assert_refused("set metadata", archive.set_metadata(b"more"));
        assert_refused("add a key", archive.add_key(&new));
        assert_refused("remove a key", archive.remove_key(0));
        assert_refused("wipe", archive.wipe_free(&mut |_| {}));
        assert_refused("close", archive.clone().close());
    });
    assert!(device.to_bytes() == before, "the child wrote");
}

#[test]
fn a_child_cannot_read_and_the_parent_continues() {
    let (device, archive) = archive();
    let identity = archive.streams(None, 1).unwrap()[0].record.identity;
    archive.close().unwrap();
    let reader = open(&device, Access::Read);
    let stream = reader.read_stream(identity).unwrap();
    let before = device.to_bytes();
    in_forked_process(|| {
        let mut bytes = [0; 100];
        assert_refused("read a stream", stream.read_at(0, &mut bytes));
        assert_eq!(bytes, [0; 100]);
        assert_refused("read a reserved block", reader.reserved_block(1));
        assert_refused("verify", reader.verify(&mut |_| {}, &mut |_| {}));
        assert_refused("make a receipt", reader.receipt());
        // The child can open its own handle.
        assert_eq!(
            read_all(&open(&device, Access::Read).read_stream(identity).unwrap()).len(),
            50_000
        );
    });
    assert!(read_all(&stream) == pattern(50_000, 1), "the parent can still read");
    let writer = open(&device, Access::Write);
    in_forked_process(|| drop(writer.clone()));
    writer.new_stream().unwrap().append(&pattern(10, 3)).unwrap();
    writer.commit().unwrap();
    assert_eq!(writer.statistics().unwrap().streams, 2);
    assert_verified(&writer);
    assert!(device.to_bytes() != before, "the parent can still write");
}

#[test]
fn a_handle_belongs_to_the_process_that_opened_it() {
    let archive = in_forked_process(|| {
        let archive = dynamic();
        archive.new_stream().unwrap().append(b"the child's").unwrap();
        archive.commit().unwrap();
        archive
    });
    let error = archive.commit().unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::OtherProcess { .. })), "{error}");
    assert_eq!(error.to_string().matches("process").count(), 2, "{error}");
}
