//! A clean archive verifies clean; whatever block is damaged, verification says so and goes on.

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{BLOCK_SIZE, Position, Timestamp};
use ar7_engine::store::OpenOptions;

use super::*;
use crate::archive::CreateOptions;
use crate::records::{Attributes, InodeNumber};

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([3; 32]))
}

/// An archive with names, streams of one run and of several, overwritten blocks and free ones; not closed,
/// so that it has a redo list.
fn sample() -> MemoryDevice {
    let device = MemoryDevice::new();
    let archive =
        Archive::create_device(Box::new(device.clone()), &secret(), &CreateOptions::default())
            .unwrap();
    let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, modified: Timestamp::default() };
    let names = archive.names();
    let mut identities = Vec::new();
    for at in 0..6_u8 {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&vec![at; 10_000 + usize::from(at)]).unwrap();
        identities.push(stream.identity());
        let (name, size) = (format!("file{at}"), stream.len().unwrap());
        stream.close().unwrap();
        names
            .add_file(
                InodeNumber::ROOT,
                name.as_bytes(),
                attributes,
                identities.last().copied(),
                size,
            )
            .unwrap();
    }
    archive.commit().unwrap();
    names.remove(InodeNumber::ROOT, b"file2").unwrap();
    archive.commit().unwrap();
    let mut stream = archive.open_stream(identities[4]).unwrap();
    stream.write_at(5000, b"changed").unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
    device
}

fn verify(device: &MemoryDevice) -> Result<(VerifySummary, Vec<Finding>)> {
    let archive =
        Archive::open_device(Box::new(device.clone()), &secret(), OpenOptions::default())?;
    let mut findings = Vec::new();
    let summary = archive.verify(&mut |finding| findings.push(finding), &mut |_| {})?;
    Ok((summary, findings))
}

#[test]
fn a_clean_archive_has_no_findings() {
    let (summary, findings) = verify(&sample()).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((summary.streams, summary.names), (5, 5));
    assert!(summary.data_blocks >= 15 && summary.pages >= 5);
}

#[test]
fn every_used_block_that_is_damaged_is_found() {
    let device = sample();
    let (summary, _) = verify(&device).unwrap();
    let mut found = 0;
    for block in 8..summary.blocks {
        let copy = MemoryDevice::new();
        copy.restore(&device.snapshot());
        let position = Position::at(u32::try_from(block).unwrap());
        let mut bytes = [0; BLOCK_SIZE];
        copy.read(position, &mut bytes).unwrap();
        bytes[1000] ^= 1;
        copy.write(position, &bytes).unwrap();
        let outcome = verify(&copy);
        found += u64::from(outcome.map_or(true, |(_, findings)| !findings.is_empty()));
    }
    // Free blocks, and a block whose newest version lies at its spare, may hold anything.
    let redirected = 1;
    assert_eq!(found, summary.blocks - 8 - summary.free_blocks - redirected);
}
