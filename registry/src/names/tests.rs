//! Names behave like those of a file system: added names are found, listed in order and removed;
//! hard links are counted; no directory moves into itself.

mod damage;
mod extended;
mod model;
mod parents;
mod refused;

use ar7_engine::Class;
use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::Timestamp;

use super::lookup::TARGET_MAX;
use crate::archive::{Archive, CreateOptions};
use crate::error::Error;
use crate::records::{
    Attributes, Device, EntryType, INLINE_TARGET_MAX, InodeNumber, Origin, validate_name,
};

const ROOT: InodeNumber = InodeNumber::ROOT;

fn archive() -> Archive {
    let secret = Secret::Key(RawKey::from_bytes([1; 32]));
    let device = Box::new(MemoryDevice::new());
    Archive::create_device(device, &secret, &CreateOptions::default()).unwrap()
}

fn attributes() -> Attributes {
    let modified = Timestamp { seconds: -5, nanoseconds: 7 };
    Attributes { mode: 0o644, uid: 1, gid: 2, modified, origin: None }
}

#[test]
fn entries_are_found_and_listed_in_order() {
    let archive = archive();
    let names = archive.names();
    let directory = names.make_directories(b"/a//b/c", attributes()).unwrap();
    for name in [&b"zz"[..], b"\xff\xfe", b"a\nb", &[b'x'; 255]] {
        names.add_file(directory, name, attributes(), None).unwrap();
    }
    let entry = names.resolve(b"a/b/c/a\nb").unwrap();
    assert_eq!(entry.kind, EntryType::File);
    assert_eq!(names.inode(entry.inode).unwrap().unwrap().attributes, attributes());
    let mut listed = names.list(directory, None, 3).unwrap();
    let last = listed.last().unwrap().name.clone();
    listed.extend(names.list(directory, Some(&last), 10).unwrap());
    let listed: Vec<Vec<u8>> = listed.into_iter().map(|entry| entry.name).collect();
    assert_eq!(listed, [b"a\nb".to_vec(), vec![b'x'; 255], b"zz".to_vec(), b"\xff\xfe".to_vec()]);
    assert!(matches!(names.resolve(b"a/q/c"), Err(Error::NoEntry { path }) if path == b"a/q"));
}

#[test]
fn an_unresolved_path_ends_at_the_component_that_is_missing_or_not_a_directory() {
    let archive = archive();
    let names = archive.names();
    let directory = names.make_directories(b"a/b", attributes()).unwrap();
    names.add_file(directory, b"file", attributes(), None).unwrap();
    for (path, expected) in [
        (&b"a/none"[..], "no entry a/none"),
        (b"//a//none/below", "no entry //a//none"),
        (b"a/b/file/below", "entry a/b/file: expected a directory, found a file"),
        (b"a/b//file///below/deeper", "entry a/b//file: expected a directory, found a file"),
    ] {
        assert_eq!(names.resolve(path).unwrap_err().to_string(), expected);
    }
    assert_eq!(names.resolve(b"/a/b/file/").unwrap().kind, EntryType::File);
}

#[test]
fn an_invalid_name_is_refused() {
    let archive = archive();
    let too_long = [b'x'; 256];
    for (name, expected) in [
        (&b""[..], "expected 1 to 255 bytes, found 0"),
        (&too_long, "expected 1 to 255 bytes, found 256"),
        (b".", "the name is reserved"),
        (b"..", "the name is reserved"),
        (b"a/b", "it contains a slash"),
        (b"a\0b", "it contains a NUL byte"),
    ] {
        let refused = validate_name(name).unwrap_err();
        assert_eq!(refused.class(), Class::Usage, "{refused}");
        assert!(refused.to_string().ends_with(expected), "{refused}");
        let made = archive.names().make_directory(ROOT, name, attributes());
        assert_eq!(made.unwrap_err().to_string(), refused.to_string());
    }
}

#[test]
fn removing_the_last_name_deletes_the_content() {
    let archive = archive();
    let names = archive.names();
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"content").unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    let inode = names.add_file(ROOT, b"one", attributes(), Some(identity)).unwrap();
    names.add_link(ROOT, b"two", inode).unwrap();
    archive.commit().unwrap();
    names.remove(ROOT, b"one").unwrap();
    assert_eq!(names.inode(inode).unwrap().unwrap().links, 1);
    archive.commit().unwrap();
    assert!(archive.read_stream(identity).is_ok());
    names.remove(ROOT, b"two").unwrap();
    archive.commit().unwrap();
    assert!(matches!(archive.read_stream(identity), Err(Error::NoStream { .. })));
    assert_eq!(names.inode(inode).unwrap(), None);
}

#[test]
fn a_directory_moves_but_not_into_itself() {
    let archive = archive();
    let names = archive.names();
    let inner = names.make_directories(b"a/b", attributes()).unwrap();
    let outer = names.resolve(b"a").unwrap().inode;
    let into_itself = names.rename((ROOT, b"a"), (inner, b"x"), false);
    assert!(matches!(into_itself, Err(Error::IntoItself { .. })));
    assert!(matches!(names.remove(ROOT, b"a"), Err(Error::NotEmpty { .. })));
    names.rename((outer, b"b"), (ROOT, b"c"), false).unwrap();
    assert_eq!(names.resolve(b"c").unwrap().inode, inner);
    names.remove(ROOT, b"a").unwrap();
    names.add_file(ROOT, b"f", attributes(), None).unwrap();
    names.add_file(ROOT, b"g", attributes(), None).unwrap();
    let exists = names.rename((ROOT, b"f"), (ROOT, b"g"), false);
    assert!(matches!(exists, Err(Error::EntryExists { .. })));
    names.rename((ROOT, b"f"), (ROOT, b"g"), true).unwrap();
    assert!(names.lookup(ROOT, b"f").unwrap().is_none());
}

#[test]
fn a_rename_onto_another_name_of_the_same_file_changes_nothing() {
    let archive = archive();
    let names = archive.names();
    let directory = names.make_directory(ROOT, b"d", attributes()).unwrap();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    let link = names.add_symlink(ROOT, b"link", attributes(), b"target").unwrap();
    for (name, inode) in [(&b"file"[..], file), (b"link", link)] {
        for parent in [ROOT, directory] {
            names.add_link(parent, b"other", inode).unwrap();
            archive.commit().unwrap();
            let before = archive.statistics().unwrap();
            names.rename((ROOT, name), (parent, b"other"), true).unwrap();
            let refused = names.rename((ROOT, name), (parent, b"other"), false);
            assert!(matches!(refused, Err(Error::EntryExists { .. })), "{refused:?}");
            archive.commit().unwrap();
            assert_eq!(archive.statistics().unwrap(), before, "nothing to commit");
            assert_eq!(names.lookup(ROOT, name).unwrap().unwrap().inode, inode);
            assert_eq!(names.inode(inode).unwrap().unwrap().links, 2);
            names.remove(parent, b"other").unwrap();
        }
    }
}

#[test]
fn a_tree_is_removed_completely() {
    let archive = archive();
    let names = archive.names();
    for at in 0..300 {
        let path = format!("t/{}/{}", at % 7, at % 13);
        let directory = names.make_directories(path.as_bytes(), attributes()).unwrap();
        names.add_file(directory, format!("f{at}").as_bytes(), attributes(), None).unwrap();
    }
    names.make_directories(b"kept", attributes()).unwrap();
    archive.commit().unwrap();
    assert_eq!(names.remove_tree(ROOT, b"t", Some(50), &mut |_| true).unwrap(), 300 + 91 + 7 + 1);
    archive.commit().unwrap();
    assert_eq!(archive.statistics().unwrap().names, 1);
    assert_eq!(archive.statistics().unwrap().inodes, 2);
}

#[test]
fn a_symbolic_link_keeps_its_target_at_any_length() {
    let archive = archive();
    let names = archive.names();
    for length in [1, 512, 513, 4095] {
        let target = vec![b't'; length];
        let name = format!("link{length}");
        let inode = names.add_symlink(ROOT, name.as_bytes(), attributes(), &target).unwrap();
        archive.commit().unwrap();
        let inode = names.inode(inode).unwrap().unwrap();
        assert_eq!(names.read_target(&inode).unwrap(), target);
    }
}

#[test]
fn a_file_whose_content_is_replaced_by_its_own_stream_keeps_it() {
    let archive = archive();
    let names = archive.names();
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"content").unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    let file = names.add_file(ROOT, b"file", attributes(), Some(identity)).unwrap();
    names.replace_content(file, Some(identity), attributes()).unwrap();
    archive.commit().unwrap();
    assert_eq!(archive.read_stream(identity).unwrap().len().unwrap(), 7);
    assert_eq!(names.inode(file).unwrap().unwrap().size, 7);
}

#[test]
fn a_removal_in_batches_first_commits_earlier_changes() {
    let archive = archive();
    archive.names().make_directories(b"t/a", attributes()).unwrap();
    let before = archive.new_stream().unwrap().identity();
    let mut is_committed = false;
    let mut stop = |_| {
        is_committed = archive.read_stream(before).is_ok();
        false
    };
    archive.names().remove_tree(ROOT, b"t", Some(50), &mut stop).unwrap();
    assert!(is_committed);
}

#[test]
fn a_removal_in_batches_commits_after_each_batch() {
    // A batch of 0 names is a batch of 1.
    for (commit_every, most) in [(0, 1), (1, 1), (2, 2), (3, 3), (50, 50)] {
        let archive = archive();
        let names = archive.names();
        for number in 0..9 {
            names.make_directories(format!("t/{number}").as_bytes(), attributes()).unwrap();
        }
        let mut committed = Vec::new();
        let mut should_continue = |_| {
            committed.push(10 - archive.statistics().unwrap().names);
            committed.len() < 20
        };
        let removed =
            names.remove_tree(ROOT, b"t", Some(commit_every), &mut should_continue).unwrap();
        assert_eq!(removed, 10, "{commit_every}");
        let expected: Vec<u64> = (0..10).map(|before| before / most * most).collect();
        assert_eq!(committed, expected, "{commit_every}");
        assert_eq!(archive.statistics().unwrap().names, 0, "{commit_every}");
    }
}

#[test]
fn a_removal_stops_when_the_callback_returns_false() {
    for commit_every in [None, Some(2), Some(50)] {
        let archive = archive();
        let names = archive.names();
        for name in [&b"t/a"[..], b"t/b", b"t/c", b"t/d", b"t/e"] {
            names.make_directories(name, attributes()).unwrap();
        }
        let removed = names.remove_tree(ROOT, b"t", commit_every, &mut |gone| gone < 3).unwrap();
        assert_eq!(removed, 3, "{commit_every:?}");
        let directory = names.resolve(b"t").unwrap().inode;
        assert_eq!(names.list(directory, None, 10).unwrap().len(), 2, "{commit_every:?}");
    }
}

#[test]
fn a_symbolic_link_holds_a_short_target_and_refuses_one_over_the_limit() {
    let archive = archive();
    let names = archive.names();
    let add =
        |name: &[u8], length| names.add_symlink(ROOT, name, attributes(), &vec![b't'; length]);
    for (name, length, is_inline) in [
        (b"a", INLINE_TARGET_MAX, true),
        (b"b", INLINE_TARGET_MAX + 1, false),
        (b"c", TARGET_MAX, false),
    ] {
        let number = add(name, length).unwrap();
        let inode = names.inode(number).unwrap().unwrap();
        assert_eq!((inode.target.is_some(), inode.stream.is_none()), (is_inline, is_inline));
    }
    let refused = add(b"d", TARGET_MAX + 1);
    let expected = "length of a symbolic link's target in bytes: expected 0 to 65536, found 65537";
    assert_eq!(refused.unwrap_err().to_string(), expected);
}

#[test]
fn attributes_are_replaced_with_the_content_and_alone() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    let stored = || names.inode(file).unwrap().unwrap().attributes;
    let modified = Timestamp { seconds: -5, nanoseconds: 999_999_999 };
    let origin = Some(Origin { changed: modified, inode: 77 });
    let others = Attributes { mode: 0o600, uid: 7, gid: 8, modified, origin };
    names.replace_content(file, None, others).unwrap();
    assert_eq!(stored(), others);
    names.set_attributes(file, attributes()).unwrap();
    assert_eq!(stored(), attributes());
}

#[test]
fn directories_are_not_made_in_place_of_a_file_or_below_it() {
    let archive = archive();
    let names = archive.names();
    names.add_file(ROOT, b"file", attributes(), None).unwrap();
    for path in [&b"file"[..], b"file/x"] {
        let refused = names.make_directories(path, attributes()).unwrap_err();
        assert_eq!(refused.to_string(), "entry file: expected a directory, found a file");
    }
}

#[test]
fn a_list_holds_no_more_entries_than_asked_for() {
    let archive = archive();
    let names = archive.names();
    for name in [b"a", b"b", b"c"] {
        names.make_directory(ROOT, name, attributes()).unwrap();
    }
    for limit in 0..5 {
        assert_eq!(names.list(ROOT, None, limit).unwrap().len(), limit.min(3));
    }
}

#[test]
fn fifos_sockets_and_devices_are_entries_without_content() {
    let archive = archive();
    let names = archive.names();
    let device = Some(Device { major: 8, minor: u32::MAX });
    for (name, kind, device) in [
        (&b"fifo"[..], EntryType::Fifo, None),
        (b"socket", EntryType::Socket, None),
        (b"tty", EntryType::CharacterDevice, device),
        (b"disk", EntryType::BlockDevice, device),
    ] {
        let number = names.add_special(ROOT, name, attributes(), kind, device).unwrap();
        names.add_link(ROOT, &[name, b" again"].concat(), number).unwrap();
        let inode = names.inode(number).unwrap().unwrap();
        assert_eq!((inode.kind, inode.device, inode.size, inode.links), (kind, device, 0, 2));
        assert_eq!(names.lookup(ROOT, name).unwrap().unwrap().kind, kind);
        assert_eq!(names.read_target(&inode).unwrap(), b"");
        let other = if kind.is_device() { None } else { Some(Device { major: 1, minor: 3 }) };
        let refused = names.add_special(ROOT, b"other", attributes(), kind, other).unwrap_err();
        assert_eq!(refused.class(), Class::Usage);
        let end = if kind.is_device() { "needs a device number" } else { "has no device number" };
        assert_eq!(refused.to_string(), format!("{} {end}", kind.name()));
    }
    for kind in [EntryType::File, EntryType::Directory, EntryType::Symlink] {
        let refused = names.add_special(ROOT, b"other", attributes(), kind, None).unwrap_err();
        let expected = format!("expected a fifo, a socket or a device, found {}", kind.name());
        assert_eq!(refused.to_string(), format!("entry other: {expected}"));
    }
    archive.commit().unwrap();
    assert_eq!(archive.statistics().unwrap().names, 8);
    assert_verifies(&archive);
}

/// Checks that the committed state verifies clean.
fn assert_verifies(archive: &Archive) {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
}
