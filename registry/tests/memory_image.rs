//! After an archive is closed, the process's memory contains neither its keys nor its plaintext.
//! The archive's file and other files in its directory never contain them.
//!
//! This program has only one test, because it searches the memory of the whole process.
#![cfg(target_os = "linux")]

mod memory;

use std::path::Path;

use ar7_engine::crypto::{KeyDerivation, Passphrase, RawKey, Secret};
use ar7_engine::format::{DATA_SIZE, DerivationCost};
use ar7_engine::store::{Access, ExportedHeader, NewKey, OpenOptions, RekeyOptions};
use ar7_registry::records::{Attributes, InodeNumber};
use ar7_registry::{Archive, CreateOptions, Stream};
use memory::{Found, Known, Needles};
use zeroize::Zeroize;

/// Names of the needles that are keys.
const KEYS: [&str; 7] =
    ["secret", "other secret", "master key", "extracted key", "padded", "ar7 v1", "wrapping key"];

const ATTRIBUTES: Attributes = Attributes {
    mode: 0o644,
    uid: 0,
    gid: 0,
    modified: ar7_engine::format::Timestamp { seconds: 0, nanoseconds: 0 },
    origin: None,
};

fn cheap() -> KeyDerivation {
    KeyDerivation::new(DerivationCost { memory_kib: 256, passes: 1, lanes: 1 }).unwrap()
}

fn raw_key(needles: &mut Needles, what: &str) -> Secret {
    let key = RawKey::generate().unwrap();
    let mask = needles.key_mask();
    let masked: [u8; 32] = std::array::from_fn(|at| key.as_bytes()[at] ^ mask[at]);
    needles.add_key(what, &masked);
    Secret::Key(key)
}

fn passphrase(needles: &mut Needles) -> Secret {
    let text = needles.add_name("secret passphrase", 48);
    Secret::Passphrase(text.with_plain(|plain| Passphrase::new(plain.to_vec())))
}

/// Adds the archive's current keys.
fn add_keys(needles: &mut Needles, archive: &Archive, secret: &Secret) {
    let exported = ExportedHeader::open(&archive.store().export_header()[..], secret).unwrap();
    for (what, masked) in exported.masked_keys(secret, &needles.key_mask()).unwrap() {
        needles.add_key(what, &masked);
    }
}

fn assert_reads(stream: &Stream, offset: usize, known: &Known) {
    let mut bytes = vec![0; known.len()];
    let read = stream.read_at(offset.try_into().unwrap(), &mut bytes).unwrap();
    assert!(read == known.len() && known.is(&bytes), "the stream has the written content");
    bytes[..].zeroize();
}

/// Checks that the keys of an open archive are found, and only in pages excluded from core dumps.
fn assert_keys_are_protected(found: &[Found]) {
    assert_found(found, "master key");
    assert_found(found, "ar7 v1 data");
    let plain = |found: &&Found| !found.is_protected && KEYS.iter().any(|key| found.is(key));
    let outside: Vec<&Found> = found.iter().filter(plain).collect();
    assert!(outside.is_empty(), "keys outside of their pages: {outside:?}");
}

fn assert_found(found: &[Found], what: &str) {
    assert!(found.iter().any(|found| found.is(what)), "the search finds no {what}");
}

fn open(path: &Path, secret: &Secret, access: Access) -> Archive {
    Archive::open(path, secret, OpenOptions { access, ..OpenOptions::default() }).unwrap()
}

/// Creates an archive. Checks that the search finds its plaintext and keys while it is open.
fn create(path: &Path, secret: &Secret, needles: &mut Needles) {
    let options = CreateOptions { derivation: cheap(), ..CreateOptions::default() };
    let archive = Archive::create(path, secret, &options).unwrap();
    add_keys(needles, &archive, secret);
    let small = needles.add_text("small stream", 3 * DATA_SIZE + 100, 16);
    let large = needles.add_text("large stream", 300 * DATA_SIZE + 1, 256);
    let name = needles.add_name("file name", 200);
    let directory = needles.add_name("directory name", 100);
    let target = needles.add_name("link target", 300);
    let names = archive.names();
    let mut stream = archive.new_stream().unwrap();
    small.with_plain(|plain| stream.append(plain)).unwrap();
    let identity = stream.identity();
    let mut long = archive.new_stream().unwrap();
    large.with_plain(|plain| long.append(plain)).unwrap();
    let inside = directory
        .with_plain(|plain| names.make_directory(InodeNumber::ROOT, plain, ATTRIBUTES))
        .unwrap();
    name.with_plain(|plain| names.add_file(inside, plain, ATTRIBUTES, Some(identity))).unwrap();
    target.with_plain(|plain| names.add_symlink(inside, b"link", ATTRIBUTES, plain)).unwrap();
    assert_reads(&stream, 0, &small);
    let found = needles.in_memory();
    for what in ["secret", "small stream", "file name"] {
        assert_found(&found, what);
    }
    assert_keys_are_protected(&found);
    stream.close().unwrap();
    archive.commit().unwrap();
    assert_reads(&long, 0, &large);
    long.close().unwrap();
    assert_reads(&archive.read_stream(identity).unwrap(), 0, &small);
    archive.close().unwrap();
}

/// Overwrites, appends, truncates and rolls back in an existing archive.
fn change(path: &Path, secret: &Secret, needles: &mut Needles) {
    let archive = open(path, secret, Access::Write);
    add_keys(needles, &archive, secret);
    let identity = archive.streams(None, 2).unwrap()[1].record.identity;
    let over = needles.add_text("overwritten", DATA_SIZE, 16);
    let tail = needles.add_text("appended", 100, 16);
    let lost = needles.add_text("dropped", DATA_SIZE + 50, 16);
    let name = needles.add_name("second name", 200);
    let mut stream = archive.open_stream(identity).unwrap();
    over.with_plain(|plain| stream.write_at(1000, plain)).unwrap();
    tail.with_plain(|plain| stream.append(plain)).unwrap();
    archive.commit().unwrap();
    assert_reads(&stream, 1000, &over);
    stream.wind(1).unwrap();
    assert!(stream.data().unwrap().is_some());
    let root = InodeNumber::ROOT;
    let names = archive.names();
    let mut listed = names.list(root, None, 10).unwrap();
    name.with_plain(|plain| names.rename((root, &listed[0].name), (root, plain), false)).unwrap();
    listed[0].name.zeroize();
    archive.commit().unwrap();
    lost.with_plain(|plain| stream.append(plain)).unwrap();
    drop(stream);
    archive.receipt().unwrap();
    assert_keys_are_protected(&needles.in_memory());
    archive.close().unwrap();
}

/// Reads all content in every way.
fn read(path: &Path, secret: &Secret) {
    let archive = open(path, secret, Access::Read);
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    for stored in archive.streams(None, 10).unwrap() {
        let mut stream = archive.read_stream(stored.record.identity).unwrap();
        let blocks: Result<Vec<_>, _> = stream.blocks().unwrap().collect();
        assert_eq!(blocks.unwrap().len(), usize::try_from(stored.record.count).unwrap());
    }
    let names = archive.names();
    let mut listed = names.list(InodeNumber::ROOT, None, 10).unwrap();
    let mut inside = names.list(listed[0].inode, None, 10).unwrap();
    assert_eq!((listed.len(), inside.len()), (1, 2));
    for entry in listed.iter_mut().chain(&mut inside) {
        entry.name.zeroize();
    }
}

/// Changes the secrets and the master key.
fn change_keys(path: &Path, secret: &Secret, needles: &mut Needles) {
    let other = raw_key(needles, "other secret");
    let archive = open(path, secret, Access::Write);
    let new = NewKey { secret: &other, derivation: &cheap(), label: "other" };
    let slot = archive.add_key(&new).unwrap();
    add_keys(needles, &archive, &other);
    archive.remove_key(slot).unwrap();
    archive.close().unwrap();
    Archive::rekey(path, secret, RekeyOptions::default(), &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let archive = open(path, secret, Access::Write);
    add_keys(needles, &archive, secret);
    archive.close().unwrap();
    assert!(Archive::open(path, &other, OpenOptions::default()).is_err());
}

fn exercise(directory: &Path, secret: Secret, needles: &mut Needles) {
    let path = directory.join("a.ar7");
    create(&path, &secret, needles);
    change(&path, &secret, needles);
    read(&path, &secret);
    change_keys(&path, &secret, needles);
    drop(secret);
}

#[test]
fn no_key_or_plaintext_remains_in_memory_or_in_files() {
    let mut needles = Needles::new(std::process::id().into());
    for round in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let secret = match round {
            0 => raw_key(&mut needles, "secret"),
            _ => passphrase(&mut needles),
        };
        exercise(directory.path(), secret, &mut needles);
        let mut found = needles.in_memory();
        // The caller receives inodes, which contain targets of symbolic links.
        found.retain(|what| !what.is("link target"));
        assert!(found.is_empty(), "in memory: {found:?}");
        assert_eq!(needles.in_files(directory.path()), Vec::<String>::new(), "in files");
    }
}
