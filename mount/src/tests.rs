//! Changes that damage refuses.
//!
//! - A refused change leaves the open transaction as it was, whichever of its steps would have failed.
//! - The same change is refused the next time.
//! - A change that needs nothing damaged is made.

use std::sync::Arc;
use std::time::Duration;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::{Device as _, MemoryDevice, MemorySnapshot};
use ar7_engine::format::{BLOCK_SIZE, BLOCK_SIZE_U64, Position, Timestamp};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::records::{Attributes, ExtendedAttribute, Inode, InodeNumber};
use ar7_registry::{Archive, CreateOptions, Names};
use fuser::{Errno, RenameFlags};

use crate::changes::{Maker, New};
use crate::commits::Commits;
use crate::content::Allocation;
use crate::metadata::{Caller, Setting, Wanted};
use crate::writer::{Need, Writer};

const ROOT: InodeNumber = InodeNumber::ROOT;

/// A change, and its name.
type Change<'a> = (&'static str, &'a dyn Fn() -> Result<(), Errno>);

const ATTRIBUTES: Attributes = Attributes {
    mode: 0o4755,
    uid: 0,
    gid: 0,
    modified: Timestamp { seconds: 1, nanoseconds: 2 },
    origin: None,
};

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([1; 32]))
}

fn created(device: &MemoryDevice) -> Archive {
    let device = Box::new(device.clone());
    Archive::create_device(device, &secret(), &CreateOptions::default()).expect("created")
}

fn opened(device: &MemoryDevice, access: Access) -> Archive {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options).expect("opened")
}

fn writer(archive: Archive) -> Writer {
    let commits = Arc::new(Commits::new(Duration::from_secs(5), 1 << 20));
    Writer::new(archive, commits, Arc::default(), |_| {})
}

fn inode(writer: &Writer, number: InodeNumber) -> Inode {
    writer.archive.names().inode(number).expect("read").expect("an inode")
}

/// Adds a file with extended attributes in a stream, and damages that.
fn with_damaged_attributes(
    writer: &Writer,
    device: &MemoryDevice,
    add: impl FnOnce(&Names<'_>) -> InodeNumber,
) -> InodeNumber {
    let number = writer.change(Need::Room(0), |names| {
        let number = add(names);
        let extended = [ExtendedAttribute::new(b"user.a", vec![7; 1000])];
        names.set_extended_attributes(number, &extended)?;
        Ok(number)
    });
    let number = number.expect("a file");
    writer.commit().expect("committed");
    let stream = inode(writer, number).extended.stream().expect("a stream");
    let stream = writer.archive.read_stream(stream).expect("opened");
    let position = stream.position_of(0).expect("read").expect("a position");
    device.write(position, &[0; BLOCK_SIZE]).expect("damaged");
    number
}

#[test]
fn a_change_that_needs_damaged_extended_attributes_changes_nothing() {
    let device = MemoryDevice::new();
    let writer = writer(created(&device));
    let number = with_damaged_attributes(&writer, &device, |names| {
        names.add_file(ROOT, b"file", ATTRIBUTES, None).expect("added")
    });
    let before = inode(&writer, number);
    let set = |wanted: Wanted| writer.set_attributes(number, wanted);
    let caller = Caller { uid: 0, gid: 0 };
    let set_extended = |setting| writer.set_extended(number, b"user.a", setting, caller);
    let modified = Some(Timestamp { seconds: 9, nanoseconds: 9 });
    let value = Setting::Set { value: b"new", must_exist: false, must_be_new: false };
    let changes: [Change<'_>; 8] = [
        ("mode", &|| set(Wanted { mode: Some(0o600), ..Wanted::default() })),
        ("owner and time", &|| set(Wanted { uid: Some(7), modified, ..Wanted::default() })),
        ("set", &|| set_extended(value)),
        ("remove", &|| set_extended(Setting::Remove)),
        ("write", &|| writer.write(number, 0, b"new", false)),
        ("write as another user", &|| writer.write(number, 0, b"new", true)),
        ("length", &|| writer.set_length(number, 9, false, Wanted::default())),
        ("no content", &|| writer.set_length(number, 0, true, Wanted::default())),
    ];
    for (name, change) in changes {
        for time in ["first", "second"] {
            assert_eq!(change(), Err(Errno::EIO), "{name}, {time}");
            assert_eq!(inode(&writer, number), before, "{name}, {time}");
            assert!(!writer.is_changed(number), "{name}, {time}");
        }
    }
    assert_eq!(set(Wanted { modified, ..Wanted::default() }), Ok(()));
    assert_eq!(Some(inode(&writer, number).attributes.modified), modified);
    writer.close().expect("closed");
}

#[test]
fn an_open_file_with_damaged_extended_attributes_keeps_its_name_and_stays_packed() {
    let device = MemoryDevice::new();
    let writer = writer(created(&device));
    let number = with_damaged_attributes(&writer, &device, |names| {
        let mut packed = names.begin_packed(None).expect("begun");
        names.append_packed(&mut packed, &[7; 5000]).expect("packed");
        names.add_packed(ROOT, b"file", ATTRIBUTES, packed).expect("added")
    });
    let before = inode(&writer, number);
    assert!(before.slice.is_some());
    writer.open(number, false).expect("opened");
    assert_eq!(writer.unlink((ROOT, b"file")), Err(Errno::EIO));
    assert_eq!(inode(&writer, number), before);
    assert!(writer.archive.names().lookup(ROOT, b"file").expect("read").is_some());
    writer.close_handle(number, false);
    assert_eq!(writer.unlink((ROOT, b"file")), Ok(()));
    writer.close().expect("closed");
}

/// Returns the archive of `image` with damage that makes one of these inodes unreadable, and nothing that the other one
/// needs.
fn with_damaged_page(image: &MemorySnapshot, lost: InodeNumber, kept: InodeNumber) -> MemoryDevice {
    let length = image.to_device().length_bytes().expect("a length");
    let blocks = u32::try_from(length / BLOCK_SIZE_U64).expect("a small archive");
    let damaged = |positions: &[u32]| {
        let device = image.to_device();
        for &position in positions {
            device.write(Position::at(position), &[0; BLOCK_SIZE]).expect("damaged");
        }
        device
    };
    // Behind the headers and meta slots.
    for first in 6..blocks {
        let archive = opened(&damaged(&[first]), Access::Read);
        let found = archive.snapshot().inode(lost).expect("one copy is good");
        if found.is_none() || archive.damaged_copies().positions().is_empty() {
            continue;
        }
        for second in (6..blocks).filter(|&second| second != first) {
            let device = damaged(&[first, second]);
            let snapshot = opened(&device, Access::Read).snapshot();
            if snapshot.inode(lost).is_err() && snapshot.inode(kept).is_ok() {
                return device;
            }
        }
    }
    panic!("both inodes are on one page");
}

#[test]
fn a_change_of_names_that_cannot_note_its_times_changes_nothing() {
    const FILES: usize = 300;
    let device = MemoryDevice::new();
    let archive = created(&device);
    let name = |at: usize| format!("file{at:03}").into_bytes();
    let names = archive.names();
    let added = (0..FILES).map(|at| names.add_file(ROOT, &name(at), ATTRIBUTES, None));
    let numbers: Vec<InodeNumber> = added.map(|added| added.expect("added")).collect();
    archive.commit().expect("committed");
    archive.close().expect("closed");
    let image = device.snapshot();
    let listed = |writer: &Writer| writer.archive.names().list(ROOT, None, FILES + 1);
    let (first, last) = (name(0), name(FILES - 1));
    let new: &[u8] = b"new";
    for (lost, kept) in [(ROOT, numbers[FILES - 1]), (numbers[FILES - 1], ROOT)] {
        let device = with_damaged_page(&image, lost, kept);
        let writer = writer(opened(&device, Access::Write));
        let before = listed(&writer).expect("listed");
        let rename = |to, flags| writer.rename((ROOT, &last), (ROOT, to), flags);
        let changes: [Change<'_>; 4] = [
            ("rename", &|| rename(new, RenameFlags::empty())),
            ("exchange", &|| rename(&first, RenameFlags::RENAME_EXCHANGE)),
            ("exchanged", &|| {
                let flags = RenameFlags::RENAME_EXCHANGE;
                writer.rename((ROOT, &first), (ROOT, &last), flags)
            }),
            ("unlink", &|| writer.unlink((ROOT, &last))),
        ];
        for (name, change) in changes {
            assert_eq!(change(), Err(Errno::EIO), "{name}, {lost:?}");
            assert_eq!(writer.check_not_failed(), Ok(()), "{name}, {lost:?}");
            assert_eq!(listed(&writer).expect("listed"), before, "{name}, {lost:?}");
        }
        drop(writer);
    }
}

/// The transaction is as the last commit has it, so an fsync after it must not write a commit.
#[test]
fn after_a_refused_change_there_is_nothing_to_commit() {
    let device = MemoryDevice::new();
    let writer = writer(created(&device));
    let maker = Maker { mode: 0o644, umask: 0, uid: 0, gid: 0 };
    let (file, _) = writer.add((ROOT, b"file"), &New::File, maker).expect("a file");
    let (full, _) = writer.add((ROOT, b"full"), &New::Directory, maker).expect("a directory");
    writer.add((full, b"inside"), &New::File, maker).expect("a file");
    writer.write(file, 0, b"content", false).expect("written");
    writer.commit().expect("committed");
    let commit = || writer.archive.statistics().expect("statistics").commit;
    let before = commit();
    let rename = |from: &[u8], to: &[u8], flags| writer.rename((ROOT, from), (ROOT, to), flags);
    let no_flags = RenameFlags::empty();
    let caller = Caller { uid: 0, gid: 0 };
    let refused: [(Errno, Change<'_>); 12] = [
        (Errno::ENOENT, ("unlink", &|| writer.unlink((ROOT, b"missing")))),
        (Errno::EISDIR, ("unlink a directory", &|| writer.unlink((ROOT, b"full")))),
        (Errno::ENOTEMPTY, ("rmdir", &|| writer.remove_directory((ROOT, b"full")))),
        (Errno::ENOTDIR, ("rmdir a file", &|| writer.remove_directory((ROOT, b"file")))),
        (Errno::EEXIST, ("create", &|| writer.add((ROOT, b"file"), &New::File, maker).map(drop))),
        (Errno::EEXIST, ("link", &|| writer.link(file, (ROOT, b"full")).map(drop))),
        (Errno::EPERM, ("link a directory", &|| writer.link(full, (ROOT, b"new")).map(drop))),
        (Errno::ENOENT, ("rename", &|| rename(b"missing", b"new", no_flags))),
        (
            Errno::EEXIST,
            ("rename over", &|| rename(b"file", b"full", RenameFlags::RENAME_NOREPLACE)),
        ),
        (Errno::EISDIR, ("rename a file over a directory", &|| rename(b"file", b"full", no_flags))),
        (
            Errno::ENODATA,
            ("remove an attribute", &|| {
                writer.set_extended(file, b"user.a", Setting::Remove, caller)
            }),
        ),
        (
            Errno::ESTALE,
            ("write to what is gone", &|| writer.write(InodeNumber(99), 0, b"", false)),
        ),
    ];
    for (error, (name, change)) in refused {
        assert_eq!(change(), Err(error), "{name}");
        writer.commit().expect(name);
        assert_eq!(commit(), before, "{name}");
    }
}

/// A file has the times of its last change, not those of an attempt.
#[test]
fn a_refused_change_of_content_leaves_the_times() {
    let device = MemoryDevice::new();
    let writer = writer(created(&device));
    let names = writer.archive.names();
    let plain = names.add_file(ROOT, b"plain", ATTRIBUTES, None).expect("added");
    writer.write(plain, 0, &[1; 10_000], false).expect("written");
    let add_packed = |name: &[u8], hole: u64| {
        let mut packed = names.begin_packed(None).expect("begun");
        names.append_packed(&mut packed, &[7; 10_000]).expect("packed");
        names.append_hole(&mut packed, hole).expect("a hole");
        names.add_packed(ROOT, name, ATTRIBUTES, packed).expect("added")
    };
    let [packed, sparse] =
        [(b"packed", 0), (b"sparse", 8 << 40)].map(|(name, hole)| add_packed(name, hole));
    writer.commit().expect("committed");
    let blocks = device.length_bytes().expect("a length") / BLOCK_SIZE_U64;
    device.set_capacity(u32::try_from(blocks).expect("a small archive") + 200);
    let commit = || writer.archive.statistics().expect("statistics").commit;
    let before = commit();
    let far = 1 << 40;
    for number in [plain, packed, sparse] {
        let inode_before = inode(&writer, number);
        let allocation =
            |offset, length| Allocation { offset, length, keeps_size: false, zeroes: false };
        let length = inode_before.size;
        let changes: [Change<'_>; 3] = [
            ("write beyond the end", &|| writer.write(number, length + far, b"far", true)),
            ("truncate", &|| writer.set_length(number, length + far, false, Wanted::default())),
            ("allocate", &|| writer.allocate(number, allocation(length, far))),
        ];
        // The file with a hole becomes longer by a longer hole.
        let first = if number == sparse { 2 } else { 0 };
        for (name, change) in &changes[first..] {
            let refused = change().expect_err(name);
            assert!([Errno::ENOSPC, Errno::EFBIG].contains(&refused), "{name}: {refused:?}");
            assert_eq!(inode(&writer, number), inode_before, "{name}");
            writer.commit().expect(name);
            assert_eq!(commit(), before, "{name}");
        }
    }
    writer.write(packed, 0, b"changed", false).expect("written");
    assert_ne!(inode(&writer, packed).attributes.modified, ATTRIBUTES.modified);
    writer.commit().expect("committed");
    // Without room to set times alone, they are set with a length of 0, as part of one change.
    for blocks in [100, 10, 1] {
        let fill = || {
            writer.archive.new_stream()?.append(&vec![1; blocks * 4008])?;
            writer.archive.commit()
        };
        (0..1000).find_map(|_| fill().err()).expect("a full disk");
        writer.archive.rollback().expect("rolled back");
    }
    let modified = Some(Timestamp { seconds: 9, nanoseconds: 9 });
    let times = Wanted { modified, ..Wanted::default() };
    assert_eq!(writer.set_attributes(plain, times), Err(Errno::ENOSPC));
    assert_eq!(writer.set_length(plain, 0, false, times), Ok(()));
    let emptied = inode(&writer, plain);
    assert_eq!((emptied.size, Some(emptied.attributes.modified)), (0, modified));
}
