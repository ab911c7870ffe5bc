//! A writer verifies one commit while another thread makes later ones. Blocks that these overwrite
//! in place are not findings; damaged blocks are.

use std::sync::mpsc;
use std::thread;

use super::*;

/// Blocks of the stream that the other thread changes.
const BLOCKS: u64 = 40;

fn archive() -> (MemoryDevice, Archive, Uuid) {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let mut stream = archive.new_stream().unwrap();
    stream.append(&vec![1; usize::try_from(BLOCKS * 4008).unwrap()]).unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    archive.commit().unwrap();
    (device, archive, identity)
}

/// Verifies. Another thread works after the verification has taken its snapshot and before it opens
/// the first block of a stream.
fn verify_during(archive: &Archive, work: impl FnOnce() + Send) -> Vec<Finding> {
    let (begin, begun) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let mut findings = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            begun.recv().unwrap();
            work();
            end.send(()).unwrap();
        });
        let mut begin = Some(begin);
        let mut progress = |_| {
            if let Some(begin) = begin.take() {
                begin.send(()).unwrap();
                ended.recv().unwrap();
            }
        };
        archive.verify(&mut |finding| findings.push(finding), &mut progress).unwrap();
    });
    findings
}

/// Overwrites blocks in place, each in a commit of its own.
fn overwrite(archive: &Archive, identity: Uuid, blocks: impl Iterator<Item = u64>) {
    for block in blocks {
        let mut stream = archive.open_stream(identity).unwrap();
        stream.write_at(block * 4008, b"newer").unwrap();
        stream.close().unwrap();
        archive.commit().unwrap();
    }
}

#[test]
fn blocks_that_later_commits_overwrite_are_no_findings() {
    let works: [fn(&Archive, Uuid); 5] = [
        |archive, identity| overwrite(archive, identity, (0..BLOCKS).step_by(3)),
        |archive, identity| overwrite(archive, identity, [5, 5, 5].into_iter()),
        |archive, identity| {
            overwrite(archive, identity, 0..BLOCKS);
            assert!(archive.delete_stream(identity).unwrap());
            archive.commit().unwrap();
        },
        |archive, identity| {
            overwrite(archive, identity, 0..3);
            archive.open_stream(identity).unwrap().set_len(4008 * 2 - 1).unwrap();
            archive.commit().unwrap();
            // The blocks that were cut are not reused for what is written next.
            archive.open_stream(identity).unwrap().append(&vec![2; 100_000]).unwrap();
            archive.commit().unwrap();
        },
        |archive, identity| {
            overwrite(archive, identity, 0..3);
            // Not committed: it overwrites nothing.
            archive.open_stream(identity).unwrap().write_at(0, &[3; 9000]).unwrap();
        },
    ];
    for (number, work) in works.into_iter().enumerate() {
        let (_, archive, identity) = archive();
        let findings = verify_during(&archive, || work(&archive, identity));
        assert!(findings.is_empty(), "{number}: {findings:?}");
    }
}

#[test]
fn damage_of_old_and_of_overwritten_blocks_is_found() {
    let (device, archive, identity) = archive();
    let position = |block: usize| {
        let snapshot = archive.snapshot();
        let stored = snapshot.stored(identity).unwrap().unwrap();
        let block = u32::try_from(block).unwrap();
        crate::blocks::locate(&snapshot, &stored, block).unwrap().position(block)
    };
    let bad = [position(7), position(9)];
    let findings = verify_during(&archive, || {
        overwrite(&archive, identity, [8, 9].into_iter());
        for position in bad {
            let mut bytes = [0; BLOCK_SIZE];
            device.read(position, &mut bytes).unwrap();
            bytes[1000] ^= 1;
            device.write(position, &bytes).unwrap();
        }
    });
    let found: Vec<Position> = findings
        .iter()
        .map(|finding| match finding.subject {
            Subject::Block { position, .. } => position,
            _ => panic!("{finding}"),
        })
        .collect();
    assert_eq!(found, bad);
}
