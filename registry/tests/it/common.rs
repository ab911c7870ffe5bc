//! Archives in memory, and their content.

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::ArchiveKind;
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::{Archive, CreateOptions, Stream};

pub(crate) fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([5; 32]))
}

/// Makes a new archive. Returns it with its device.
pub(crate) fn create(kind: ArchiveKind, fixed_streams: u32) -> (MemoryDevice, Archive) {
    let device = MemoryDevice::new();
    let options = CreateOptions { kind, fixed_streams, ..CreateOptions::default() };
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    (device, archive)
}

/// Makes a new dynamic archive.
pub(crate) fn dynamic() -> Archive {
    create(ArchiveKind::Dynamic, 0).1
}

pub(crate) fn open(device: &MemoryDevice, access: Access) -> Archive {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options).unwrap()
}

/// Returns bytes that differ from block to block, and between values of `salt`.
pub(crate) fn pattern(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 7 + at / 4008 + salt) % 251).unwrap()).collect()
}

/// Returns the whole content of a stream.
pub(crate) fn read_all(stream: &Stream) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(stream.len().unwrap()).unwrap()];
    assert_eq!(stream.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// Checks that verification has no findings.
pub(crate) fn assert_verified(archive: &Archive) {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
}
