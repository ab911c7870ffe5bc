//! A change that would leave unreadable names or lost blocks is refused, and a refused change has
//! no effect.

use uuid::Uuid;

use super::*;
use crate::archive::State;
use crate::records::{Inode, Inodes, ReadRecords, reserved_identity};

/// Commits, and checks that the archive verifies clean after the refused changes.
pub(super) fn assert_sound(archive: &Archive) {
    archive.commit().unwrap();
    assert_verifies(archive);
}

pub(super) fn plant(archive: &Archive, change: impl FnOnce(&mut State)) {
    change(archive.state().unwrap().writing().unwrap());
}

/// Changes a stored inode directly.
pub(super) fn alter(archive: &Archive, number: InodeNumber, change: impl FnOnce(&mut Inode)) {
    plant(archive, |state| {
        let mut inode = state.trees.get::<Inodes>(&number).unwrap().unwrap();
        change(&mut inode);
        state.trees.put::<Inodes>(&number, &inode).unwrap();
    });
}

#[test]
fn a_move_into_a_file_or_a_missing_directory_is_refused() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    names.add_file(ROOT, b"other", attributes(), None).unwrap();
    let into_a_file = names.rename((ROOT, b"other"), (file, b"x"), true);
    assert!(matches!(into_a_file, Err(Error::WrongEntryType { .. })), "{into_a_file:?}");
    let into_nothing = names.rename((ROOT, b"other"), (InodeNumber(99), b"x"), true);
    assert!(matches!(into_nothing, Err(Error::NoInode { inode: 99 })), "{into_nothing:?}");
    assert!(names.lookup(ROOT, b"other").unwrap().is_some());
    assert_sound(&archive);
}

#[test]
fn a_directory_does_not_replace_a_file_nor_a_file_a_directory() {
    let archive = archive();
    let names = archive.names();
    names.make_directory(ROOT, b"directory", attributes()).unwrap();
    names.add_file(ROOT, b"file", attributes(), None).unwrap();
    let over_a_file = names.rename((ROOT, b"directory"), (ROOT, b"file"), true);
    assert!(matches!(over_a_file, Err(Error::WrongEntryType { .. })), "{over_a_file:?}");
    let over_a_directory = names.rename((ROOT, b"file"), (ROOT, b"directory"), true);
    assert!(matches!(over_a_directory, Err(Error::EntryExists { .. })), "{over_a_directory:?}");
    assert_sound(&archive);
}

/// The directory that moves is not in the root, so that every parent but its own may be below it.
#[test]
fn a_directory_never_moves_below_itself() {
    let archive = archive();
    let names = archive.names();
    let deepest = format!("top/moving/child/below{}", "/d".repeat(40));
    for path in [deepest.as_str(), "top/beside", "moving/child"] {
        names.make_directories(path.as_bytes(), attributes()).unwrap();
    }
    archive.commit().unwrap();
    let before = archive.statistics().unwrap();
    for (from, to) in [
        ("top/moving", "top/moving/new"),
        ("top/moving", "top/moving/moving"),
        ("top/moving", "top/moving/child"),
        ("top/moving", "top/moving/child/new"),
        ("top/moving", "top/moving/child/below"),
        ("top/moving", "top/moving/child/below/moving"),
        ("top/moving", "top//moving/./../moving/new"),
        ("top/moving/child", "top/moving/child/below/new"),
        ("top/moving", &format!("{deepest}/new")),
        ("top", "top/moving/child/top"),
        ("top", "top/new"),
    ] {
        for replace in [false, true] {
            let renamed = rename(&archive, from, to, replace);
            let is_refused = match &renamed {
                Err(Error::IntoItself { path }) => from.as_bytes().ends_with(path),
                // `.` and `..` are no names, so that no path leads back through them.
                Err(Error::NoEntry { .. }) => to.contains(".."),
                _ => false,
            };
            assert!(is_refused, "{from} to {to}: {renamed:?}");
        }
    }
    assert_sound(&archive);
    assert_eq!(archive.statistics().unwrap(), before, "nothing to commit");
    assert!(names.resolve(deepest.as_bytes()).is_ok());
    // What is only named like something below is not below.
    rename(&archive, "top/moving", "moving/child/moving", false).unwrap();
    rename(&archive, "moving/child/moving", "top/beside/moving", false).unwrap();
    assert_sound(&archive);
}

fn rename(archive: &Archive, from: &str, to: &str, replace: bool) -> Result<(), Error> {
    let names = archive.names();
    let split = |path| str::rsplit_once(path, '/').unwrap_or(("", path));
    let ((from_parent, from_name), (to_parent, to_name)) = (split(from), split(to));
    let from_parent = names.resolve(from_parent.as_bytes())?.inode;
    let to_parent = names.resolve(to_parent.as_bytes())?.inode;
    names.rename((from_parent, from_name.as_bytes()), (to_parent, to_name.as_bytes()), replace)
}

#[test]
fn attributes_that_decoding_rejects_are_not_written() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    let loud = Attributes { mode: 0o100_644, ..attributes() };
    names.set_attributes(file, loud).unwrap();
    assert_eq!(names.inode(file).unwrap().unwrap().attributes.mode, 0o644);
    names.replace_content(file, None, loud).unwrap();
    assert_eq!(names.inode(file).unwrap().unwrap().attributes.mode, 0o644);
    let modified = Timestamp { seconds: 0, nanoseconds: 1_000_000_000 };
    let late = Attributes { modified, ..attributes() };
    assert!(names.set_attributes(file, late).is_err());
    assert!(names.replace_content(file, None, late).is_err());
    assert!(names.add_file(ROOT, b"late", late, None).is_err());
    assert!(names.make_directory(ROOT, b"late", late).is_err());
    assert!(names.add_symlink(ROOT, b"late", late, b"target").is_err());
    assert!(names.add_special(ROOT, b"late", late, EntryType::Fifo, None).is_err());
    let origin = Some(crate::records::Origin { changed: modified, inode: 5 });
    assert!(names.set_attributes(file, Attributes { origin, ..attributes() }).is_err());
    assert_eq!(names.inode(file).unwrap().unwrap().attributes, attributes());
    assert_sound(&archive);
}

#[test]
fn a_missing_or_reserved_stream_as_content_is_refused() {
    let archive = archive();
    let names = archive.names();
    let missing = Uuid::from_u128(77_777);
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    let added = names.add_file(ROOT, b"x", attributes(), Some(missing));
    assert!(matches!(added, Err(Error::NoStream { stream }) if stream == missing), "{added:?}");
    let replaced = names.replace_content(file, Some(missing), attributes());
    assert!(matches!(replaced, Err(Error::NoStream { .. })), "{replaced:?}");
    // A reserved stream cannot be content, because it cannot be deleted with the last name.
    let reserved = names.add_file(ROOT, b"x", attributes(), Some(reserved_identity(5)));
    assert!(matches!(reserved, Err(Error::NoStream { .. })), "{reserved:?}");
    assert_sound(&archive);
}

#[test]
fn a_refused_symbolic_link_leaves_no_stream() {
    let archive = archive();
    let names = archive.names();
    names.add_file(ROOT, b"taken", attributes(), None).unwrap();
    for name in [&b"taken"[..], b"a/b"] {
        assert!(names.add_symlink(ROOT, name, attributes(), &[b't'; 600]).is_err());
    }
    archive.commit().unwrap();
    assert_eq!(archive.statistics().unwrap().streams, 0);
    assert_sound(&archive);
}

#[test]
fn the_last_name_of_an_open_file_is_not_removed() {
    let archive = archive();
    let names = archive.names();
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"content").unwrap();
    let identity = stream.identity();
    let file = names.add_file(ROOT, b"file", attributes(), Some(identity)).unwrap();
    names.add_file(ROOT, b"other", attributes(), None).unwrap();
    let in_use = |outcome: Result<(), Error>| {
        assert!(matches!(outcome, Err(Error::AlreadyOpen { .. })), "{outcome:?}");
    };
    in_use(names.remove(ROOT, b"file"));
    in_use(names.rename((ROOT, b"other"), (ROOT, b"file"), true));
    in_use(names.replace_content(file, None, attributes()));
    stream.close().unwrap();
    assert_sound(&archive);
    names.remove(ROOT, b"file").unwrap();
    assert_sound(&archive);
    assert_eq!(archive.statistics().unwrap().streams, 0);
}

#[test]
fn numbers_from_a_hostile_archive_do_not_overflow() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    archive.commit().unwrap();
    alter(&archive, file, |inode| inode.links = u32::MAX);
    assert!(names.add_link(ROOT, b"link", file).is_err());
    archive.rollback().unwrap();
    plant(&archive, |state| *state.trees.counter_mut(0) = u64::MAX);
    assert!(names.add_file(ROOT, b"next", attributes(), None).is_err());
    archive.rollback().unwrap();
    // A counter that is too low would assign the number of an existing file.
    plant(&archive, |state| *state.trees.counter_mut(0) = 0);
    assert!(names.add_file(ROOT, b"next", attributes(), None).is_err());
    archive.rollback().unwrap();
    names.add_file(ROOT, b"next", attributes(), None).unwrap();
    assert_sound(&archive);
}

/// It is not deleted with the last name of a file either, to which an attacker with the key
/// assigned it.
#[test]
fn a_reserved_stream_is_not_deleted() {
    let archive = archive();
    let names = archive.names();
    let reserved = reserved_identity(3);
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    let append = |bytes: &[u8]| {
        let mut stream = archive.reserved_stream(3).unwrap();
        stream.append(bytes).unwrap();
        stream.close().unwrap();
    };
    append(&[7; 10_000]);
    assert!(matches!(archive.delete_stream(reserved), Err(Error::KindForbids { .. })));
    archive.commit().unwrap();
    // Closed but not flushed: the new record is still in memory.
    append(&[8; 10]);
    alter(&archive, file, |inode| inode.stream = Some(reserved));
    names.remove(ROOT, b"file").unwrap();
    assert_sound(&archive);
    assert_eq!(archive.read_stream(reserved).unwrap().len().unwrap(), 10_010);
}

/// A reader's names show the commit that was current at the call of `names`.
#[test]
fn a_reader_sees_one_commit_and_cannot_change_names() {
    let device = MemoryDevice::new();
    let secret = Secret::Key(RawKey::from_bytes([1; 32]));
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret, &options).unwrap();
    archive.names().add_file(ROOT, b"file", attributes(), None).unwrap();
    archive.commit().unwrap();
    drop(archive);
    let options = ar7_engine::store::OpenOptions::default();
    let reader = Archive::open_device(Box::new(device), &secret, options).unwrap();
    let names = reader.names();
    assert_eq!(names.resolve(b"file").unwrap().kind, EntryType::File);
    let refused = names.remove(ROOT, b"file");
    assert!(matches!(refused, Err(Error::Engine(ar7_engine::Error::ReadOnly))), "{refused:?}");
}

/// Rolling back would make the handle stale and lose what was written to it.
#[test]
fn a_removal_that_meets_an_open_file_keeps_what_was_written_to_it() {
    let archive = archive();
    let names = archive.names();
    let directory = names.make_directories(b"t", attributes()).unwrap();
    names.add_file(directory, b"a", attributes(), None).unwrap();
    let mut stream = archive.new_stream().unwrap();
    names.add_file(directory, b"b", attributes(), Some(stream.identity())).unwrap();
    archive.commit().unwrap();
    stream.append(b"content").unwrap();
    let refused = names.remove_tree(ROOT, b"t", Some(10), &mut |_| true);
    assert!(matches!(refused, Err(Error::AlreadyOpen { .. })), "{refused:?}");
    stream.append(b" and more").unwrap();
    assert_eq!(stream.len().unwrap(), 16);
    stream.close().unwrap();
    assert_sound(&archive);
}

/// Somebody with the key may have made an inode name the stream of another one.
#[test]
fn the_content_of_another_file_is_not_deleted() {
    let archive = archive();
    let names = archive.names();
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"content").unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    names.add_file(ROOT, b"owner", attributes(), Some(identity)).unwrap();
    let other = names.add_file(ROOT, b"other", attributes(), None).unwrap();
    archive.commit().unwrap();
    alter(&archive, other, |inode| inode.stream = Some(identity));
    names.remove(ROOT, b"other").unwrap();
    assert_sound(&archive);
    assert_eq!(archive.read_stream(identity).unwrap().len().unwrap(), 7);
}
