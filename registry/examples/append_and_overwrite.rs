//! Appends to a stream, overwrites part of it, rolls a change back, truncates the stream and
//! deletes it.
//!
//! `cargo run -p ar7-registry --example append_and_overwrite`

use ar7_engine::crypto::{RawKey, Secret};
use ar7_registry::{Archive, CreateOptions, Error, Result};

fn main() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = directory.path().join("example.ar7");
    let secret = Secret::Key(RawKey::generate()?);
    let archive = Archive::create(&path, &secret, &CreateOptions::default())?;

    let mut log = archive.new_stream()?;
    let identity = log.identity();
    for entry in 0..1000 {
        log.append(format!("entry {entry:04}\n").as_bytes())?;
        if entry % 250 == 249 {
            archive.commit()?;
        }
    }
    println!("appended 1000 entries in 4 commits: {} bytes", log.len()?);
    assert_eq!(log.len()?, 11_000);

    log.write_at(11 * 7, b"ENTRY 0007\n")?;
    archive.commit()?;
    println!("overwrote entry 7");

    log.write_at(0, b"never to be seen")?;
    archive.rollback()?;
    // A handle from before the rollback is stale. A new one reads the last commit.
    assert!(matches!(log.len(), Err(Error::Stale)));
    let mut log = archive.open_stream(identity)?;
    let mut entries = [0; 88];
    log.read_at(0, &mut entries)?;
    assert_eq!(&entries[..11], b"entry 0000\n");
    assert_eq!(&entries[77..], b"ENTRY 0007\n");
    println!("rolled a change back: the stream equals the last commit");

    log.set_len(88)?;
    log.close()?;
    archive.commit()?;
    println!("truncated the stream to {} bytes", archive.read_stream(identity)?.len()?);
    assert_eq!(archive.read_stream(identity)?.len()?, 88);

    assert!(archive.delete_stream(identity)?);
    archive.commit()?;
    assert!(matches!(archive.read_stream(identity), Err(Error::NoStream { .. })));
    println!("deleted it: {} blocks are free", archive.statistics()?.free_blocks);
    archive.close()
}
