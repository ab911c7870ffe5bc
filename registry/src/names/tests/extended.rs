//! Extended attributes are what was set last, wherever they are stored; and whatever happens to them
//! or to their inode, no block is lost.

use uuid::Uuid;

use super::refused::{alter, assert_sound, plant};
use super::*;
use crate::records::{EXTENDED_MAX, Extended, ExtendedAttribute, INLINE_EXTENDED_MAX};

fn attribute(name: &str, length: usize) -> ExtendedAttribute {
    ExtendedAttribute::new(name, vec![name.as_bytes()[0]; length])
}

/// Sets of several sizes: none, in the inode up to its limit, and in a stream up to its limit.
fn sets() -> Vec<Vec<ExtendedAttribute>> {
    let most = INLINE_EXTENDED_MAX - 6;
    let whole: Vec<_> = ["a", "b", "c", "d"].map(|name| attribute(name, 65_536)).into();
    vec![
        vec![],
        vec![attribute("user.empty", 0)],
        vec![attribute("a", most)],
        vec![attribute("a", most + 1)],
        vec![attribute("b", 3), attribute("a", 5000), attribute("c", 0)],
        whole,
    ]
}

/// Returns the attributes and where they are, as the open transaction and as a reader has them.
fn stored(archive: &Archive, number: InodeNumber) -> (Vec<ExtendedAttribute>, Extended) {
    let names = archive.names();
    let inode = names.inode(number).unwrap().unwrap();
    let found = names.extended_attributes(&inode).unwrap();
    archive.commit().unwrap();
    let snapshot = archive.snapshot();
    let committed = snapshot.inode(number).unwrap().unwrap();
    assert_eq!(snapshot.extended_attributes(&committed).unwrap(), found);
    (found, inode.extended)
}

/// Returns the number of blocks that are not free, once all pending work is done.
fn used_blocks(archive: &Archive) -> u64 {
    // Blocks of a commit become free with the next one.
    for _ in 0..3 {
        archive.set_metadata(b"another").unwrap();
        archive.commit().unwrap();
        archive.set_metadata(b"commit").unwrap();
        archive.commit().unwrap();
    }
    let found = archive.statistics().unwrap();
    u64::from(found.blocks) - found.free_blocks
}

#[test]
fn a_set_replaces_the_one_before_wherever_both_are() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    for before in sets() {
        for after in sets() {
            names.set_extended_attributes(file, &before).unwrap();
            names.set_extended_attributes(file, &after).unwrap();
            let mut expected = after.clone();
            expected.sort_unstable();
            let (found, place) = stored(&archive, file);
            assert_eq!(found, expected);
            let length: usize = after.iter().map(|one| 5 + one.name.len() + one.value.len()).sum();
            match place {
                Extended::None => assert_eq!(length, 0),
                Extended::Inline(_) => assert!((1..=INLINE_EXTENDED_MAX).contains(&length)),
                Extended::Stream(_) => assert!(length > INLINE_EXTENDED_MAX),
            }
            assert_verifies(&archive);
        }
    }
}

#[test]
fn every_kind_of_entry_has_extended_attributes() {
    let archive = archive();
    let names = archive.names();
    let device = Some(Device { major: 1, minor: 3 });
    let numbers = [
        ROOT,
        names.make_directory(ROOT, b"directory", attributes()).unwrap(),
        names.add_file(ROOT, b"file", attributes(), None).unwrap(),
        names.add_symlink(ROOT, b"short", attributes(), &[b't'; INLINE_TARGET_MAX]).unwrap(),
        names.add_symlink(ROOT, b"long", attributes(), &[b't'; 600]).unwrap(),
        names.add_special(ROOT, b"fifo", attributes(), EntryType::Fifo, None).unwrap(),
        names.add_special(ROOT, b"disk", attributes(), EntryType::BlockDevice, device).unwrap(),
    ];
    for set in sets() {
        for number in numbers {
            let before = names.inode(number).unwrap().unwrap();
            names.set_extended_attributes(number, &set).unwrap();
            let after = names.inode(number).unwrap().unwrap();
            let (expected, found) = (before.extended.clone(), after.extended.clone());
            assert_eq!(crate::records::Inode { extended: expected, ..after }, before);
            assert_eq!(found == Extended::None, set.is_empty());
        }
        assert_sound(&archive);
        for number in numbers {
            let mut expected = set.clone();
            expected.sort_unstable();
            assert_eq!(stored(&archive, number).0, expected);
        }
    }
}

#[test]
fn a_replaced_set_and_a_deleted_inode_free_every_block() {
    let archive = archive();
    let names = archive.names();
    let directory = names.make_directory(ROOT, b"d", attributes()).unwrap();
    let before = used_blocks(&archive);
    for set in sets() {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&vec![7; 20_000]).unwrap();
        let identity = stream.identity();
        stream.close().unwrap();
        let file = names.add_file(directory, b"file", attributes(), Some(identity)).unwrap();
        let link = names.add_symlink(directory, b"link", attributes(), &[b't'; 9000]).unwrap();
        for number in [file, link] {
            names.set_extended_attributes(number, &sets()[5]).unwrap();
            names.set_extended_attributes(number, &set).unwrap();
        }
        archive.commit().unwrap();
        let streams =
            if set.len() > 2 || set.iter().any(|one| one.value.len() > 250) { 4 } else { 2 };
        assert_eq!(archive.statistics().unwrap().streams, streams);
        names.add_link(ROOT, b"again", file).unwrap();
        names.remove(directory, b"file").unwrap();
        let mut expected = set.clone();
        expected.sort_unstable();
        assert_eq!(stored(&archive, file).0, expected, "another name is left");
        names.remove(ROOT, b"again").unwrap();
        names.remove(directory, b"link").unwrap();
        assert_sound(&archive);
        assert_eq!(archive.statistics().unwrap().streams, 0);
        assert_eq!(used_blocks(&archive), before);
    }
    names.set_extended_attributes(directory, &sets()[5]).unwrap();
    names.remove_tree(ROOT, b"d", None, &mut |_| true).unwrap();
    assert_sound(&archive);
    assert_eq!(archive.statistics().unwrap().streams, 0);
}

#[test]
fn a_rollback_takes_back_a_set_and_its_stream() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    names.set_extended_attributes(file, &sets()[3]).unwrap();
    archive.commit().unwrap();
    let before = used_blocks(&archive);
    for set in [&sets()[1], &sets()[4]] {
        names.set_extended_attributes(file, set).unwrap();
        archive.rollback().unwrap();
        assert_eq!(stored(&archive, file).0, sets()[3]);
    }
    assert_eq!(archive.statistics().unwrap().streams, 1);
    assert_eq!(used_blocks(&archive), before);
    assert_sound(&archive);
}

#[test]
fn a_refused_set_changes_nothing() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    names.set_extended_attributes(file, &sets()[1]).unwrap();
    let too_many: Vec<_> = (0..17).map(|n| attribute(&format!("n{n}"), 65_000)).collect();
    assert!(too_many.iter().map(|one| one.value.len()).sum::<usize>() > EXTENDED_MAX);
    for (set, expected) in [
        (
            too_many,
            "length of all extended attributes in bytes: expected 0 to 1048576, found 1105126",
        ),
        (
            vec![attribute("n", 65_537)],
            "length of an extended attribute in bytes: expected 0 to 65536, found 65537",
        ),
        (
            vec![attribute("n", 1), attribute("n", 2)],
            "invalid name \"n\": two extended attributes have it",
        ),
        (vec![attribute("n\0", 1)], "invalid name \"n\\x00\": it contains a NUL byte"),
        (
            vec![ExtendedAttribute::new("", "")],
            "invalid name \"\": expected 1 to 255 bytes, found 0",
        ),
    ] {
        let refused = names.set_extended_attributes(file, &set).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    for set in sets() {
        let missing = names.set_extended_attributes(InodeNumber(99), &set);
        assert!(matches!(missing, Err(Error::NoInode { inode: 99 })), "{missing:?}");
    }
    assert_eq!(stored(&archive, file).0, sets()[1]);
    assert_eq!(archive.statistics().unwrap().streams, 0);
    assert_sound(&archive);
}

/// Otherwise a write through a handle could leave bytes that cannot be decoded.
#[test]
fn the_stream_of_a_set_is_neither_opened_for_writing_nor_deleted_nor_content() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    let other = names.add_file(ROOT, b"other", attributes(), None).unwrap();
    names.set_extended_attributes(file, &sets()[3]).unwrap();
    let stream = names.inode(file).unwrap().unwrap().extended.stream().unwrap();
    let is_refused = |outcome: Result<(), Error>| {
        assert!(matches!(outcome, Err(Error::StreamIsNamed { .. })), "{outcome:?}");
    };
    for _ in 0..2 {
        is_refused(archive.open_stream(stream).map(drop));
        is_refused(archive.delete_stream(stream).map(drop));
        for number in [file, other] {
            is_refused(names.replace_content(number, Some(stream), attributes()));
        }
        is_refused(names.add_file(ROOT, b"x", attributes(), Some(stream)).map(drop));
        archive.commit().unwrap();
    }
    assert_eq!(archive.read_stream(stream).unwrap().len().unwrap(), 257);
    names.replace_content(file, None, attributes()).unwrap();
    assert_eq!(stored(&archive, file).0, sets()[3]);
    assert_sound(&archive);
}

/// An inode with fields of a later version has less room, and keeps them.
#[test]
fn next_to_unknown_fields_a_set_goes_into_a_stream() {
    let archive = archive();
    let names = archive.names();
    let link = names.add_symlink(ROOT, b"link", attributes(), &[b't'; INLINE_TARGET_MAX]).unwrap();
    let unknown = vec![(50, vec![9; 200])];
    alter(&archive, link, |inode| inode.unknown = unknown.clone());
    for (set, is_inline) in [(&sets()[1], true), (&sets()[2], false)] {
        names.set_extended_attributes(link, set).unwrap();
        let origin = Some(Origin { changed: Timestamp::default(), inode: 5 });
        names.set_attributes(link, Attributes { origin, ..attributes() }).unwrap();
        let inode = names.inode(link).unwrap().unwrap();
        assert_eq!(
            (inode.unknown, inode.extended.stream().is_none()),
            (unknown.clone(), is_inline)
        );
        assert_eq!(stored(&archive, link).0, *set);
        assert_sound(&archive);
    }
}

#[test]
fn a_stream_that_is_no_set_of_extended_attributes_is_damage() {
    let archive = archive();
    let names = archive.names();
    let file = names.add_file(ROOT, b"file", attributes(), None).unwrap();
    archive.commit().unwrap();
    let one = crate::records::encode_extended(&[attribute("a", 10)]);
    for (bytes, expected) in [
        (Vec::new(), "expected a complete extended attribute, found a truncated one"),
        (
            one[..one.len() - 1].to_vec(),
            "expected a complete extended attribute, found a truncated one",
        ),
        ([&one[..], &one].concat(), "expected a higher name than the previous one, found \"a\""),
        (vec![0; EXTENDED_MAX + 1], "expected 0 to 1048576, found 1048577"),
    ] {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&bytes).unwrap();
        let identity = stream.identity();
        stream.close().unwrap();
        archive.commit().unwrap();
        plant(&archive, |state| state.take_content(identity, file).unwrap());
        alter(&archive, file, |inode| inode.extended = Extended::Stream(identity));
        let inode = names.inode(file).unwrap().unwrap();
        archive.commit().unwrap();
        let snapshot = archive.snapshot();
        for found in [names.extended_attributes(&inode), snapshot.extended_attributes(&inode)] {
            let damaged = found.unwrap_err();
            assert_eq!(damaged.class(), Class::Damaged);
            assert!(damaged.to_string().ends_with(expected), "{damaged}");
        }
        let mut findings = Vec::new();
        archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
        assert!(findings.len() == 1 && findings[0].ends_with(expected), "{findings:?}");
        // What is damaged can be replaced.
        names.set_extended_attributes(file, &sets()[1]).unwrap();
        assert_eq!(stored(&archive, file).0, sets()[1]);
        assert_sound(&archive);
    }
    alter(&archive, file, |inode| inode.extended = Extended::Stream(Uuid::from_u128(500)));
    let inode = names.inode(file).unwrap().unwrap();
    let missing = names.extended_attributes(&inode).unwrap_err();
    assert!(matches!(missing, Error::NoStream { .. }), "{missing:?}");
}
