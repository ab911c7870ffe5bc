//! A rekey changes the master key and no content. After a kill during a rekey, the archive verifies
//! clean. Power cuts are simulated in `fuzz/tests/it/crash.rs`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::Device;
use ar7_engine::format::{BLOCK_SIZE, BLOCK_SIZE_U64, Position};
use ar7_engine::store::{Access, OpenOptions, RekeyOptions, Store};
use ar7_registry::records::InodeNumber;
use ar7_registry::{Archive, CreateOptions, Error};
use uuid::Uuid;

use crate::attributes::ATTRIBUTES;

/// The content of each stream and of each file. The number of an inode stands for a stream.
type State = BTreeMap<Uuid, Vec<u8>>;

/// An operation on the disk.
#[derive(Clone)]
enum Event {
    Write(u32, Arc<[u8; BLOCK_SIZE]>),
    Length(u32),
}

/// A disk that records every operation.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    disk: Disk,
    events: Vec<Event>,
}

#[derive(Clone, Default, PartialEq)]
struct Disk {
    blocks: BTreeMap<u32, Arc<[u8; BLOCK_SIZE]>>,
    length: u32,
}

impl Disk {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Write(at, bytes) => {
                self.blocks.insert(*at, Arc::clone(bytes));
            }
            Event::Length(length) => {
                self.length = *length;
                self.blocks.split_off(length);
            }
        }
    }
}

impl Recorder {
    fn on(disk: Disk) -> Recorder {
        Recorder(Arc::new(Mutex::new(Recorded { disk, events: Vec::new() })))
    }

    fn record(&self, event: Event) {
        let mut recorded = self.0.lock().unwrap();
        recorded.disk.apply(&event);
        recorded.events.push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().events.clone()
    }
}

impl Device for Recorder {
    fn read(&self, start: Position, bytes: &mut [u8]) -> ar7_engine::Result<()> {
        let recorded = self.0.lock().unwrap();
        for (at, block) in (start.get()..).zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            if at >= recorded.disk.length {
                let found_bytes = u64::from(recorded.disk.length) * BLOCK_SIZE_U64;
                let expected_bytes = (u64::from(at) + 1) * BLOCK_SIZE_U64;
                return Err(ar7_engine::Error::Truncated { expected_bytes, found_bytes });
            }
            match recorded.disk.blocks.get(&at) {
                Some(found) => block.copy_from_slice(&found[..]),
                None => block.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, start: Position, bytes: &[u8]) -> ar7_engine::Result<()> {
        for (at, block) in (start.get()..).zip(bytes.chunks_exact(BLOCK_SIZE)) {
            self.record(Event::Write(at, Arc::new(block.try_into().unwrap())));
        }
        Ok(())
    }

    fn sync(&self) -> ar7_engine::Result<()> {
        Ok(())
    }

    fn grow(&self, blocks: u32) -> ar7_engine::Result<()> {
        if blocks > self.0.lock().unwrap().disk.length {
            self.record(Event::Length(blocks));
        }
        Ok(())
    }

    fn shrink(&self, blocks: u32) -> ar7_engine::Result<()> {
        if blocks < self.0.lock().unwrap().disk.length {
            self.record(Event::Length(blocks));
        }
        Ok(())
    }

    fn length_bytes(&self) -> ar7_engine::Result<u64> {
        Ok(u64::from(self.0.lock().unwrap().disk.length) * BLOCK_SIZE_U64)
    }
}

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([9; 32]))
}

fn open(disk: &Disk, access: Access) -> Result<Archive, Error> {
    let device = Box::new(Recorder::on(disk.clone()));
    Archive::open_device(device, &secret(), OpenOptions { access, ..OpenOptions::default() })
}

fn rekey(recorder: &Recorder) -> Result<(), Error> {
    let device = || Box::new(recorder.clone()) as Box<dyn Device>;
    Archive::rekey_device(&device, &secret(), RekeyOptions::default(), &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })
    .map(drop)
}

/// Continues a rekey in the engine alone, without the registry.
fn rekey_blocks(recorder: &Recorder) {
    let device = Box::new(recorder.clone());
    Store::rekey_device(device, &secret(), RekeyOptions::default(), &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
}

/// Returns all readable content.
fn state(archive: &Archive) -> State {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    let mut state = State::new();
    for stored in archive.streams(None, usize::MAX).unwrap() {
        let mut bytes = vec![0; usize::try_from(stored.record.length).unwrap()];
        let stream = archive.read_stream(stored.record.identity).unwrap();
        stream.read_at(0, &mut bytes).unwrap();
        state.insert(stored.record.identity, bytes);
    }
    let snapshot = archive.snapshot();
    for entry in snapshot.list(InodeNumber::ROOT, None, 100).unwrap() {
        let inode = snapshot.inode(entry.inode).unwrap().unwrap();
        let mut bytes = vec![0; usize::try_from(inode.size).unwrap()];
        snapshot.read_file(&inode).unwrap().unwrap().read_at(0, &mut bytes).unwrap();
        state.insert(Uuid::from_u128(entry.inode.0.into()), bytes);
    }
    state
}

/// Adds packed files: small ones that share a frame, and a long one with a hole that takes several.
fn pack(archive: &Archive) {
    let names = archive.names();
    for (name, length) in (b'a'..).zip([300, 4000, 1, 400_000]) {
        let mut packed = names.begin_packed(None).unwrap();
        names.append_packed(&mut packed, &vec![name; length]).unwrap();
        if length > 4000 {
            names.append_hole(&mut packed, 1 << 20).unwrap();
            names.append_packed(&mut packed, b"end").unwrap();
        }
        names.add_packed(InodeNumber::ROOT, &[name], ATTRIBUTES, packed).unwrap();
    }
    archive.commit().unwrap();
    names.remove(InodeNumber::ROOT, b"b").unwrap();
}

/// Makes an archive with streams of one run and of several runs, packed files, overwritten blocks and free
/// blocks. Its last writer was killed.
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
    pack(&archive);
    archive.commit().unwrap();
    let state = state(&archive);
    drop(archive);
    let disk = recorder.0.lock().unwrap().disk.clone();
    (disk, state)
}

#[test]
fn a_rekey_keeps_the_content() {
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
    // No rekey is in progress, so the engine begins one.
    rekey_blocks(&recorder);
    let disk = recorder.0.lock().unwrap().disk.clone();
    assert_eq!(state(&open(&disk, Access::Read).unwrap()), expected);
}

#[test]
fn a_kill_at_any_write_of_a_rekey_leaves_no_finding() {
    let (disk, expected) = archive();
    let recorder = Recorder::on(disk.clone());
    rekey(&recorder).unwrap();
    let mut left = disk;
    let (mut headers, mut codes) = (0, BTreeMap::new());
    for event in recorder.events() {
        left.apply(&event);
        // Stop at every write of a header or meta slot. A kill loses no finished write.
        let Event::Write(0..8, _) = event else { continue };
        headers += 1;
        let reader = open(&left, Access::Read).unwrap();
        assert_eq!(state(&reader), expected);
        // A commit has one code, under whichever master key the header is.
        if let Ok(receipt) = reader.receipt() {
            let line = receipt.to_string();
            let fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let code = codes.entry(fields[2].clone()).or_insert_with(|| fields[3].clone());
            assert_eq!(*code, fields[3], "{}", fields[2]);
        }
    }
    assert!(headers > 12 && codes.len() > 3, "{headers} {codes:?}");
}

#[test]
fn a_rekey_waits_for_a_reader_that_held_back_a_redo_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let archive = Archive::create(&path, &secret(), &CreateOptions::default()).unwrap();
    let mut stream = archive.new_stream().unwrap();
    stream.append(&vec![1; 50_000]).unwrap();
    archive.commit().unwrap();
    let reader = Archive::open(&path, &secret(), OpenOptions::default()).unwrap();
    stream.write_at(0, &vec![2; 50_000]).unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    archive.commit().unwrap();
    archive.close().unwrap();
    let leaving = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        drop(reader);
    });
    let wait = std::time::Duration::from_secs(60);
    let options = RekeyOptions { wait, ..RekeyOptions::default() };
    let rekeyed = Archive::rekey(&path, &secret(), options, &mut |_, _| ControlFlow::Continue(()));
    rekeyed.unwrap();
    leaving.join().unwrap();
    let archive = Archive::open(&path, &secret(), OpenOptions::default()).unwrap();
    let stream = archive.read_stream(identity).unwrap();
    let mut bytes = vec![0; 50_000];
    stream.read_at(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 2));
}
