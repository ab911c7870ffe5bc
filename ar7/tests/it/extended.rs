//! Extended attributes, the origin of entries, and entries without content.

use ar7::{
    Archive, Attributes, Device, Error, ExtendedAttribute, FileType, Mode, Origin, Special,
    Timestamp,
};

use crate::common::{assert_verified, create, key};

fn one(name: &str, length: usize) -> ExtendedAttribute {
    ExtendedAttribute::new(name, vec![7; length])
}

#[test]
fn extended_attributes_are_sorted_and_survive_reopening() {
    let (_folder, path, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.create_directory("d").unwrap();
    transaction.write("d/file", &b"content"[..]).unwrap();
    let set = [one("user.b", 5000), one("user.a", 3), one("system.posix_acl_access", 44)];
    for path in ["", "d", "d/file"] {
        transaction.set_extended_attributes(path, &set).unwrap();
        assert!(transaction.metadata(path).unwrap().has_extended_attributes);
    }
    transaction.commit().unwrap();
    drop(archive);
    let archive = Archive::options().write(true).open(&path, &key()).unwrap();
    let snapshot = archive.snapshot().unwrap();
    let [b, a, acl] = set;
    for path in ["", "d", "d/file"] {
        let found = snapshot.extended_attributes(path).unwrap();
        assert_eq!(found, [acl.clone(), a.clone(), b.clone()], "{path}");
    }
    let transaction = archive.begin().unwrap();
    transaction.set_extended_attributes("d", &[]).unwrap();
    assert!(transaction.extended_attributes("d").unwrap().is_empty());
    transaction.rename("d", "moved").unwrap();
    transaction.write("moved/file", &b"other content"[..]).unwrap();
    assert_eq!(transaction.extended_attributes("moved/file").unwrap().len(), 3);
    transaction.commit().unwrap();
    assert_eq!(snapshot.extended_attributes("d").unwrap().len(), 3, "a snapshot stays as it was");
    assert_verified(&archive);
}

#[test]
fn invalid_extended_attributes_are_refused_and_change_nothing() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b""[..]).unwrap();
    transaction.set_extended_attributes("file", &[one("kept", 1)]).unwrap();
    let long = "n".repeat(256);
    for name in ["", "a\0b", &long] {
        let refused = transaction.set_extended_attributes("file", &[one(name, 1)]);
        assert!(matches!(refused, Err(Error::InvalidName { .. })), "{refused:?}");
    }
    let twice = transaction.set_extended_attributes("file", &[one("a", 1), one("a", 2)]);
    assert!(matches!(twice, Err(Error::InvalidName { .. })), "{twice:?}");
    let many: Vec<_> = (0..17).map(|at| one(&format!("user.{at}"), 65_536)).collect();
    for set in [&[one("a", 65_537)][..], &many] {
        let refused = transaction.set_extended_attributes("file", set);
        assert!(matches!(refused, Err(Error::OutOfBounds { .. })), "{refused:?}");
    }
    let missing = transaction.set_extended_attributes("none", &[one("a", 1)]);
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    assert_eq!(transaction.extended_attributes("file").unwrap(), [one("kept", 1)]);
    transaction.commit().unwrap();
    assert_verified(&archive);
}

#[test]
fn a_change_of_the_content_removes_the_origin() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b"content"[..]).unwrap();
    let origin = Origin::new(Timestamp::new(-5, 6), u64::MAX);
    let attributes = Attributes::default().with_origin(origin);
    let kept = |change: fn(&ar7::Transaction<'_>)| {
        transaction.set_attributes("file", attributes).unwrap();
        change(&transaction);
        transaction.metadata("file").unwrap().attributes.origin
    };
    assert_eq!(kept(|_| {}), Some(origin));
    assert_eq!(kept(|transaction| transaction.rename("file", "file").unwrap()), Some(origin));
    assert_eq!(
        kept(|transaction| drop(transaction.open("file", Mode::READ).unwrap())),
        Some(origin)
    );
    assert_eq!(
        kept(|transaction| assert_eq!(transaction.write("file", &b"new"[..]).unwrap(), 3)),
        None
    );
    assert_eq!(
        kept(|transaction| {
            transaction.open("file", Mode::READ_WRITE).unwrap().write_at(0, b"N").unwrap();
        }),
        None
    );
    transaction.commit().unwrap();
    assert_verified(&archive);
}

#[test]
fn special_entries_have_no_content() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let device = Device { major: 8, minor: 1 };
    for (path, special, file_type, device) in [
        ("fifo", Special::Fifo, FileType::Fifo, None),
        ("socket", Special::Socket, FileType::Socket, None),
        ("tty", Special::CharacterDevice(device), FileType::CharacterDevice, Some(device)),
        ("disk", Special::BlockDevice(device), FileType::BlockDevice, Some(device)),
    ] {
        transaction.create_special(path, special).unwrap();
        let again = transaction.create_special(path, special);
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        transaction.link(path, format!("{path} again")).unwrap();
        let found = transaction.metadata(path).unwrap();
        assert_eq!(
            (found.file_type, found.device, found.len, found.links),
            (file_type, device, 0, 2)
        );
        for mode in [Mode::READ, Mode::WRITE] {
            let refused = transaction.open(path, mode).unwrap_err();
            assert!(matches!(refused, Error::WrongType { .. }), "{refused}");
        }
    }
    transaction.remove("fifo").unwrap();
    transaction.commit().unwrap();
    assert_eq!(archive.snapshot().unwrap().walk("").unwrap().count(), 7);
    assert_verified(&archive);
}
