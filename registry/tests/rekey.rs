//! A power cut between any two writes of a change of the master key, with any part of the unsynced writes lost or
//! torn: the archive can be read, whole; the change goes on, also after a second cut; and afterwards the archive is as it
//! was, under another key.

mod power;

use std::collections::BTreeMap;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::Device;
use ar7_engine::store::{Access, OpenOptions, RekeyOptions, Store};
use ar7_registry::{Archive, CreateOptions, Error, Finding, Subject};
use power::{Disk, Event, Recorder, cut};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

type State = BTreeMap<Uuid, Vec<u8>>;

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([9; 32]))
}

fn open(disk: &Disk, access: Access) -> Result<Archive, Error> {
    let device = Box::new(Recorder::on(disk.clone()));
    Archive::open_device(device, &secret(), OpenOptions { access, ..OpenOptions::default() })
}

fn rekey(recorder: &Recorder) -> Result<(), Error> {
    let device = || Box::new(recorder.clone()) as Box<dyn Device>;
    Archive::rekey_device(&device, &secret(), RekeyOptions::default(), &mut |_, _| {}).map(drop)
}

/// Goes on with a change as it is, without the layer above.
fn rekey_blocks(recorder: &Recorder) {
    let device = Box::new(recorder.clone());
    Store::rekey_device(device, &secret(), RekeyOptions::default(), &mut |_, _| {}).unwrap();
}

fn is_under_way(archive: &Archive) -> bool {
    archive.store().header().rekey.is_some()
}

/// Everything that can be read. Copies of header and meta slot may be torn: that is why there are two; so may the two
/// blank blocks that are reserved, which hold nothing.
fn state(archive: &Archive) -> State {
    let mut findings = Vec::new();
    let mut note = |finding: Finding| match finding.subject {
        Subject::MetaSlot(_) | Subject::Header(_) => {}
        Subject::Blocks(run) if run.end() <= 8 => {}
        _ => findings.push(finding.to_string()),
    };
    archive.verify(&mut note, &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    let mut state = State::new();
    for stored in archive.streams(None, usize::MAX).unwrap() {
        let mut bytes = vec![0; usize::try_from(stored.record.length).unwrap()];
        let stream = archive.read_stream(stored.record.identity).unwrap();
        stream.read_at(0, &mut bytes).unwrap();
        state.insert(stored.record.identity, bytes);
    }
    state
}

/// Streams of one run and of several, blocks that were overwritten, and free blocks. The last writer was killed.
fn archive() -> (Disk, State) {
    let recorder = Recorder::default();
    let device = Box::new(recorder.clone());
    let archive = Archive::create_device(device, &secret(), &CreateOptions::default()).unwrap();
    let mut identities = Vec::new();
    for number in 0..12_u8 {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&vec![number; 150_000]).unwrap();
        identities.push(stream.identity());
    }
    archive.commit().unwrap();
    for &identity in &identities[..3] {
        assert!(archive.delete_stream(identity).unwrap());
    }
    archive.commit().unwrap();
    for &identity in &identities[4..8] {
        let mut stream = archive.open_stream(identity).unwrap();
        stream.write_at(70_000, &[0xcc; 9000]).unwrap();
        stream.append(&vec![0xdd; 20_000]).unwrap();
    }
    archive.commit().unwrap();
    let state = state(&archive);
    drop(archive);
    let disk = recorder.0.lock().unwrap().disk.clone();
    (disk, state)
}

fn check_left(left: &Disk, expected: &State, random: &mut ChaCha8Rng) -> bool {
    let reader = open(left, Access::Read).expect("a power cut leaves an archive that opens");
    assert_eq!(state(&reader), *expected);
    let under_way = is_under_way(&reader);
    if under_way {
        let refused = open(left, Access::Write).map(drop);
        let expected = ar7_engine::Error::RekeyUnderWay;
        assert_eq!(refused.unwrap_err().to_string(), expected.to_string());
    }
    // It goes on, is cut off again, and goes on.
    let recorder = Recorder::on(left.clone());
    rekey(&recorder).expect("it goes on");
    let events = recorder.events();
    let at = random.next_u32() as usize % (events.len() + 1);
    let again = cut(left, &events[..at], random);
    assert_eq!(state(&open(&again, Access::Read).unwrap()), *expected);
    let recorder = Recorder::on(again);
    rekey(&recorder).expect("it goes on again");
    let disk = recorder.0.lock().unwrap().disk.clone();
    let reader = open(&disk, Access::Read).unwrap();
    assert!(!is_under_way(&reader) && reader.store().recovery().is_clean());
    assert_eq!(state(&reader), *expected);
    under_way
}

#[test]
fn power_cuts_in_a_change_of_the_master_key_lose_nothing() {
    let (disk, expected) = archive();
    let recorder = Recorder::on(disk.clone());
    rekey(&recorder).unwrap();
    let events = recorder.events();
    assert!(events.len() > 1200, "{}", events.len());
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let cuts = std::env::var("AR7_REKEY_CUTS").map_or(80, |cuts| cuts.parse().unwrap());
    let mut under_way = 0;
    // Around every sync, where the protocol turns; and anywhere.
    let syncs: Vec<usize> = (0..events.len())
        .filter(|&at| matches!(events[at], Event::Sync))
        .flat_map(|at| [at, at + 1])
        .collect();
    for number in 0..cuts {
        let at = match number % 2 {
            0 => syncs[random.next_u32() as usize % syncs.len()],
            _ => random.next_u32() as usize % (events.len() + 1),
        };
        let left = cut(&disk, &events[..at], &mut random);
        under_way += u32::from(check_left(&left, &expected, &mut random));
    }
    assert!(under_way > cuts / 4, "{under_way} of {cuts}");
}

#[test]
fn change_of_the_master_key_leaves_an_archive_as_any() {
    let (disk, expected) = archive();
    let recorder = Recorder::on(disk);
    rekey(&recorder).unwrap();
    let disk = recorder.0.lock().unwrap().disk.clone();
    let writer = open(&disk, Access::Write).unwrap();
    assert_eq!(state(&writer), expected);
    writer.new_stream().unwrap().append(&vec![1; 100_000]).unwrap();
    writer.commit().unwrap();
    assert_eq!(state(&writer).len(), expected.len() + 1);
    writer.close().unwrap();
    // A change under way that nobody began: without one, the blocks alone are changed once more.
    rekey_blocks(&recorder);
    let disk = recorder.0.lock().unwrap().disk.clone();
    assert_eq!(state(&open(&disk, Access::Read).unwrap()), expected);
}

#[test]
fn kill_at_any_write_leaves_nothing_that_verification_finds() {
    let (disk, expected) = archive();
    let recorder = Recorder::on(disk.clone());
    rekey(&recorder).unwrap();
    let mut left = disk;
    let mut headers = 0;
    for event in recorder.events() {
        left.apply(&event);
        // Every write of header or meta slot: a kill loses nothing that was written.
        let Event::Write(0..8, _) = event else { continue };
        headers += 1;
        let reader = open(&left, Access::Read).unwrap();
        let mut findings = Vec::new();
        reader.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(state(&reader), expected);
    }
    assert!(headers > 12, "{headers}");
}
