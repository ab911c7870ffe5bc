//! Every later version opens the golden archives of docs/vectors/golden:
//!
//! - each contains exactly the streams and names of its list, and verifies clean;
//! - the same holds after a writer has opened and closed it, which recovers the archive of a killed
//!   writer, or has continued a change of the master key;
//! - each is in the state that its name says.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ar7_engine::crypto::{Passphrase, RawKey, Secret};
use ar7_engine::format::{
    BLOCK_SIZE, Position, RESERVED_BLOCKS, THIRD_COPIES, Timestamp, UncheckedHeader,
};
use ar7_engine::store::{Access, OpenOptions, RekeyOptions};
use ar7_registry::records::{Device, EntryType, ExtendedAttribute, InodeNumber, Origin, TreeId};
use ar7_registry::{Archive, RESERVED_STREAMS, Stream};
use sha2::{Digest as _, Sha256};

const ARCHIVES: [&str; 5] = ["single", "fixed", "dynamic", "killed", "passphrase"];

/// Archives in which a change of the master key was interrupted, with the number of the master key, the watermark, and
/// the copies of the header that hold the record of the change.
const REKEYING: [(&str, u32, Watermark, [bool; 2]); 6] = [
    ("rekey-header", 0, Watermark::None, [true, false]),
    ("rekey-begun", 0, Watermark::None, [true, true]),
    ("rekey-first", 1, Watermark::First, [true, true]),
    ("rekey-window", 1, Watermark::End, [true, true]),
    ("rekey-done", 1, Watermark::None, [true, true]),
    ("rekey-ending", 1, Watermark::None, [false, true]),
];

/// Archives in other states.
const STATES: [&str; 6] = ["key-change", "deletion", "redo-chain", "sessions", "long", "holes"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watermark {
    None,
    First,
    End,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors/golden").join(name)
}

fn secret(name: &str) -> Secret {
    if name == "passphrase" {
        return Secret::Passphrase(Passphrase::new(
            fs::read(golden(name)).expect("the passphrase"),
        ));
    }
    let key = fs::read(golden("key")).expect("the key");
    Secret::Key(RawKey::from_bytes(key.try_into().expect("32 bytes")))
}

fn base16(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string");
        text
    })
}

fn content(stream: &Stream) -> Vec<u8> {
    let length = usize::try_from(stream.len().expect("a length")).expect("small");
    let mut content = vec![0; length];
    assert_eq!(stream.read_at(0, &mut content).expect("the content"), length);
    content
}

fn digest(content: &[u8]) -> String {
    format!("{} {}", content.len(), base16(&Sha256::digest(content)))
}

/// Returns the streams and names of an archive in the format of its list.
fn lines(archive: &Archive) -> Vec<String> {
    let mut lines = Vec::new();
    let reserved = (0..RESERVED_STREAMS).filter_map(|index| archive.reserved_stream(index).ok());
    let listed = archive.streams(None, 1000).expect("streams");
    let others =
        listed.iter().map(|stored| archive.read_stream(stored.record.identity).expect("a stream"));
    for stream in reserved.chain(others).filter(|stream| !stream.is_empty().expect("a length")) {
        lines.push(format!("stream {} {}", stream.identity(), digest(&content(&stream))));
    }
    let mut directories = vec![(InodeNumber::ROOT, Vec::new())];
    while let Some((directory, path)) = directories.pop() {
        for entry in archive.names().list(directory, None, 1000).expect("a directory") {
            let path = [&path[..], &entry.name].concat();
            let name = base16(&path);
            let inode = archive.names().inode(entry.inode).expect("a page").expect("an inode");
            let attributes = archive.names().extended_attributes(&inode).expect("attributes");
            lines.extend(attributes.iter().map(|ExtendedAttribute { name: attribute, value }| {
                format!("attribute {name} {} {}", base16(attribute), digest(value))
            }));
            if let Some(Origin { changed, inode }) = inode.attributes.origin {
                let Timestamp { seconds, nanoseconds } = changed;
                lines.push(format!("origin {name} {seconds} {nanoseconds} {inode}"));
            }
            lines.push(match entry.kind {
                EntryType::Directory => {
                    assert_eq!(inode.parent, Some(directory));
                    directories.push((entry.inode, [&path[..], b"/"].concat()));
                    format!("directory {name}")
                }
                EntryType::Fifo => format!("fifo {name} {}", inode.links),
                EntryType::Socket => format!("socket {name} {}", inode.links),
                EntryType::CharacterDevice | EntryType::BlockDevice => {
                    let Device { major, minor } = inode.device.expect("a device number");
                    let kind =
                        if entry.kind == EntryType::BlockDevice { "block" } else { "character" };
                    format!("{kind} {name} {} {major} {minor}", inode.links)
                }
                EntryType::Symlink => {
                    let target = archive.names().read_target(&inode).expect("a target");
                    format!("symlink {name} {}", base16(&target))
                }
                EntryType::File => {
                    let found = archive.snapshot().read_file(&inode).expect("the content");
                    let content = found.map_or(Vec::new(), |found| {
                        let mut content = vec![0; usize::try_from(found.len()).expect("small")];
                        assert_eq!(
                            found.read_at(0, &mut content).expect("readable"),
                            content.len()
                        );
                        content
                    });
                    format!("file {name} {} {}", inode.links, digest(&content))
                }
            });
        }
    }
    lines.sort();
    lines
}

fn check(archive: &Archive, name: &str) {
    let listed = fs::read_to_string(golden(&format!("{name}.txt"))).expect("the list");
    assert_eq!(lines(archive), listed.lines().collect::<Vec<_>>(), "{name}");
    let mut findings = Vec::new();
    let summary = archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {});
    assert_eq!(summary.expect("a summary").findings, 0, "{name}: {findings:?}");
}

#[test]
fn golden_archives_hold_exactly_their_lists() {
    for name in ARCHIVES {
        let path = golden(&format!("{name}.ar7"));
        let archive = Archive::open(&path, &secret(name), OpenOptions::default()).expect(name);
        check(&archive, name);
        let redo_length = archive.store().current().slot.redo_length;
        assert_eq!(redo_length > 0, name == "killed", "{name}: {redo_length}");
    }
}

#[test]
fn a_writer_session_keeps_golden_archives_unchanged() {
    let folder = tempfile::tempdir().expect("a directory");
    for name in ARCHIVES {
        let path = folder.path().join(name);
        fs::copy(golden(&format!("{name}.ar7")), &path).expect("a copy");
        let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
        Archive::open(&path, &secret(name), options).and_then(Archive::close).expect(name);
        let archive = Archive::open(&path, &secret(name), OpenOptions::default()).expect(name);
        check(&archive, name);
        assert_eq!(archive.store().current().slot.redo_length, 0, "{name}");
    }
}

/// Returns an archive that a writer has opened and closed.
fn after_a_writer(folder: &Path, name: &str) -> Archive {
    let path = folder.join(name);
    fs::copy(golden(&format!("{name}.ar7")), &path).expect("a copy");
    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    Archive::open(&path, &secret(name), options).and_then(Archive::close).expect(name);
    Archive::open(&path, &secret(name), OpenOptions::default()).expect(name)
}

fn open(name: &str) -> Archive {
    let path = golden(&format!("{name}.ar7"));
    Archive::open(&path, &secret(name), OpenOptions::default()).expect(name)
}

#[test]
fn each_state_of_a_golden_archive_holds_its_list_before_and_after_a_writer() {
    let folder = tempfile::tempdir().expect("a directory");
    for name in STATES {
        check(&open(name), name);
        let archive = after_a_writer(folder.path(), name);
        check(&archive, name);
        let slot = &archive.store().current().slot;
        assert_eq!(slot.redo_length, 0, "{name}");
        assert_eq!(slot.header_revision, archive.store().header().revision, "{name}");
    }
    let entries =
        |name, tree: TreeId| open(name).store().current().slot.roots[tree.index()].entries;
    assert_eq!(entries("deletion", TreeId::PendingDeletions), 1);
    assert!(entries("sessions", TreeId::Sessions) >= 16);
    let archive = open("key-change");
    assert!(archive.store().header().revision > archive.store().current().slot.header_revision);
    let slot = open("redo-chain").store().current().slot.clone();
    assert!(slot.redo_length > 4, "one of the four blocks is listed twice");
    assert!(open("long").store().current().slot.block_count > THIRD_COPIES.end);
    let archive = open("holes");
    let files = archive.names().list(InodeNumber::ROOT, None, 10).expect("a directory");
    let all = files
        .iter()
        .map(|entry| archive.names().inode(entry.inode).expect("a page").expect("an inode").size);
    let length: u64 = all.sum();
    let stored = archive.statistics().expect("statistics").packed_bytes;
    assert!(length > 100 * stored, "holes take no space: {length} bytes in {stored}");
}

#[test]
fn a_long_golden_archive_opens_without_its_first_blocks() {
    let mut bytes = fs::read(golden("long.ar7")).expect("the archive");
    bytes[..usize::try_from(RESERVED_BLOCKS).expect("small") * BLOCK_SIZE].fill(0);
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("long");
    fs::write(&path, bytes).expect("a copy");
    let archive =
        Archive::open(&path, &secret("long"), OpenOptions::default()).expect("third copies");
    let listed = fs::read_to_string(golden("long.txt")).expect("the list");
    assert_eq!(lines(&archive), listed.lines().collect::<Vec<_>>());
}

#[test]
fn a_golden_archive_in_each_stage_of_a_change_of_the_master_key_is_read_and_continued() {
    let folder = tempfile::tempdir().expect("a directory");
    for (name, number, watermark, records) in REKEYING {
        let bytes = fs::read(golden(&format!("{name}.ar7"))).expect("the archive");
        let has_record = |position: u32| {
            let at = usize::try_from(position).expect("small") * BLOCK_SIZE;
            let block = bytes[at..].first_chunk().expect("a block");
            let header = UncheckedHeader::parse(Position::at(position), block).expect("a header");
            header.rekey().is_some()
        };
        assert_eq!([has_record(0), has_record(7)], records, "{name}");
        let archive = open(name);
        let slot = archive.store().current().slot.clone();
        let found = match slot.rekey_watermark {
            0 => Watermark::None,
            RESERVED_BLOCKS => Watermark::First,
            end if end == slot.block_count => Watermark::End,
            other => panic!("{name}: the watermark {other}"),
        };
        assert_eq!((slot.master_key_number, found), (number, watermark), "{name}");
        check(&archive, name);
        drop(archive);

        let path = folder.path().join(name);
        fs::write(&path, &bytes).expect("a copy");
        let go_on = &mut |_, _| ControlFlow::Continue(());
        Archive::rekey(&path, &secret(name), RekeyOptions::default(), go_on).expect(name);
        let archive = Archive::open(&path, &secret(name), OpenOptions::default()).expect(name);
        check(&archive, name);
        assert_eq!(archive.store().header().rekey, None, "{name}");
    }
}
