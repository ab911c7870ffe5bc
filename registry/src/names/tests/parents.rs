//! Every directory names its parent, also after it has moved, and nobody enters it from another one:
//! so a hostile archive leads no walk around in a circle.

use super::refused::{alter, assert_sound, plant};
use super::*;
use crate::records::{Inodes, NameKey, NameRecords, NameValue, ReadRecords};

fn parent_of(archive: &Archive, path: &[u8]) -> Option<InodeNumber> {
    let names = archive.names();
    let number = names.resolve(path).unwrap().inode;
    names.inode(number).unwrap().unwrap().parent
}

/// Gives a directory a name that a faulty program or an attacker with the key made.
fn forge_name(archive: &Archive, directory: InodeNumber, name: &[u8], inode: InodeNumber) {
    plant(archive, |state| {
        let key = NameKey { directory, name: name.to_vec() };
        let value = NameValue { inode, kind: EntryType::Directory };
        state.trees.put::<NameRecords>(&key, &value).unwrap();
    });
}

fn assert_damage<T: std::fmt::Debug>(outcome: &Result<T, Error>) {
    assert!(matches!(outcome.as_ref().map_err(Error::class), Err(Class::Damaged)), "{outcome:?}");
}

#[test]
fn a_directory_names_its_parent_wherever_it_moves() {
    let archive = archive();
    let names = archive.names();
    let b = names.make_directories(b"a/b", attributes()).unwrap();
    let a = names.resolve(b"a").unwrap().inode;
    names.make_directories(b"a/b/c/d", attributes()).unwrap();
    assert_eq!(parent_of(&archive, b""), None);
    assert_eq!(parent_of(&archive, b"a"), Some(ROOT));
    assert_eq!(parent_of(&archive, b"a/b"), Some(a));
    assert_eq!(parent_of(&archive, b"a/b/c"), Some(b));
    assert_sound(&archive);
    names.rename((b, b"c"), (a, b"c"), false).unwrap();
    assert_eq!(parent_of(&archive, b"a/c"), Some(a));
    assert_sound(&archive);
    names.rename((a, b"c"), (a, b"e"), false).unwrap();
    assert_eq!(parent_of(&archive, b"a/e"), Some(a));
    names.rename((a, b"e"), (ROOT, b"e"), false).unwrap();
    let e = names.resolve(b"e").unwrap().inode;
    assert_eq!((parent_of(&archive, b"e"), parent_of(&archive, b"e/d")), (Some(ROOT), Some(e)));
    // What was below the other way round is no longer so.
    let d = names.resolve(b"e/d").unwrap().inode;
    names.rename((ROOT, b"a"), (d, b"a"), false).unwrap();
    assert_eq!(parent_of(&archive, b"e/d/a"), Some(d));
    assert_sound(&archive);
    // A change of the attributes, and a file that moves, leave it alone.
    names.set_attributes(e, attributes()).unwrap();
    names.add_file(ROOT, b"file", attributes(), None).unwrap();
    names.rename((ROOT, b"file"), (d, b"file"), false).unwrap();
    assert_eq!(parent_of(&archive, b"e"), Some(ROOT));
    assert_sound(&archive);
}

#[test]
fn a_directory_is_not_entered_from_another_one_than_its_parent() {
    let archive = archive();
    let names = archive.names();
    let inner = names.make_directories(b"outer/inner", attributes()).unwrap();
    let outer = names.resolve(b"outer").unwrap().inode;
    names.make_directories(b"far", attributes()).unwrap();
    archive.commit().unwrap();
    for (directory, number) in [(inner, outer), (inner, ROOT), (ROOT, inner), (inner, inner)] {
        forge_name(&archive, directory, b"again", number);
        assert_damage(&names.lookup(directory, b"again"));
        let path: &[u8] = if directory == ROOT { b"again" } else { b"outer/inner/again" };
        for below in [&b""[..], b"/inner", b"/again/again"] {
            assert_damage(&names.resolve(&[path, below].concat()));
        }
        // The names are listed, and others are found.
        let listed = names.list(directory, Some(b"afar"), 1).unwrap();
        assert_eq!((listed[0].name.as_slice(), listed[0].inode), (&b"again"[..], number));
        assert!(names.resolve(b"outer/inner").is_ok());
        archive.rollback().unwrap();
    }
}

#[test]
fn a_cycle_of_directories_ends_the_removal_with_an_error() {
    let archive = archive();
    let names = archive.names();
    let inner = names.make_directories(b"outer/inner", attributes()).unwrap();
    let outer = names.resolve(b"outer").unwrap().inode;
    archive.commit().unwrap();
    forge_name(&archive, inner, b"again", outer);
    assert_damage(&names.remove_tree(ROOT, b"outer", None, &mut |_| true));
    // A cycle that is not connected with the root, by its inode numbers.
    alter(&archive, outer, |inode| inode.parent = Some(inner));
    plant(&archive, |state| {
        let key = NameKey { directory: outer, name: b"inner".to_vec() };
        assert!(state.trees.get::<NameRecords>(&key).unwrap().is_some());
    });
    let damage = names.remove_tree(ROOT, b"outer", Some(10), &mut |_| true);
    assert_damage(&damage);
    assert_eq!(archive.statistics().unwrap().names, 3);
}

#[test]
fn a_move_climbs_no_cycle_of_parents() {
    let archive = archive();
    let names = archive.names();
    let inner = names.make_directories(b"outer/inner", attributes()).unwrap();
    let outer = names.resolve(b"outer").unwrap().inode;
    let moved = names.make_directories(b"moved", attributes()).unwrap();
    names.add_file(ROOT, b"file", attributes(), None).unwrap();
    archive.commit().unwrap();
    // A cycle; a parent that is missing; one that is a file; and a directory that is not where its
    // inode says.
    let file = names.resolve(b"file").unwrap().inode;
    for (altered, parent) in
        [(outer, inner), (outer, InodeNumber(999)), (outer, file), (moved, outer)]
    {
        alter(&archive, altered, |inode| inode.parent = Some(parent));
        let refused = names.rename((ROOT, b"moved"), (inner, b"x"), false);
        assert!(refused.is_err(), "{altered:?} in {parent:?}");
        archive.rollback().unwrap();
    }
    names.rename((ROOT, b"moved"), (inner, b"x"), false).unwrap();
    assert_eq!(parent_of(&archive, b"outer/inner/x"), Some(inner));
    assert_sound(&archive);
}

/// The inode of a directory is on another page than its names, which are still readable.
#[test]
fn what_is_below_a_directory_without_an_inode_is_still_found() {
    let archive = archive();
    let names = archive.names();
    let inner = names.make_directories(b"outer/inner", attributes()).unwrap();
    let outer = names.resolve(b"outer").unwrap().inode;
    plant(&archive, |state| {
        state.trees.remove::<Inodes>(&outer).unwrap();
    });
    assert_eq!(names.resolve(b"outer/inner").unwrap().inode, inner);
    let refused = names.remove_tree(ROOT, b"outer", None, &mut |_| true);
    assert!(matches!(refused, Err(Error::NoInode { .. })), "{refused:?}");
}
