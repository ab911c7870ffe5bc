//! Changes of names, and the entries that paths and patterns name.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ar7::{Archive, Attributes, Error, Removal, Removed, Snapshot};

use crate::common::{assert_verified, create};

/// Commits files with their path as content.
fn store(archive: &Archive, paths: &[&str]) -> Snapshot {
    let transaction = archive.begin().unwrap();
    for path in paths {
        transaction.create_directories(Path::new(path).parent().unwrap()).unwrap();
        transaction.write(path, path.as_bytes()).unwrap();
    }
    transaction.commit().unwrap();
    archive.snapshot().unwrap()
}

fn walked(archive: &Archive) -> Vec<String> {
    let snapshot = archive.snapshot().unwrap();
    let entries = snapshot.walk("").unwrap();
    entries.map(|entry| entry.unwrap().path.display().to_string()).collect()
}

#[test]
fn a_replaced_name_gets_a_file_of_its_own() {
    let (_folder, _, archive) = create();
    store(&archive, &["file", "plain", "d/file"]);
    let transaction = archive.begin().unwrap();
    transaction.link("file", "other").unwrap();
    transaction.symlink("file", "link").unwrap();
    let plain = transaction.metadata("plain").unwrap().inode;
    for path in ["file", "link", "plain", "new"] {
        transaction.replace(path).unwrap().write_at(0, b"replaced").unwrap();
        assert_eq!(transaction.read(path).unwrap(), b"replaced", "{path}");
    }
    assert_eq!(transaction.read("other").unwrap(), b"file");
    assert_eq!(transaction.metadata("plain").unwrap().inode, plain);
    assert!(matches!(transaction.replace("d"), Err(Error::WrongType { .. })));
    assert!(matches!(transaction.replace("/"), Err(Error::RootDirectory)));
    transaction.commit().unwrap();
    assert_verified(&archive);
}

#[test]
fn a_new_name_replaces_nothing() {
    let (_folder, _, archive) = create();
    store(&archive, &["a", "b"]);
    let transaction = archive.begin().unwrap();
    for to in ["b", "a"] {
        let refused = transaction.rename_new("a", to);
        assert!(matches!(&refused, Err(Error::AlreadyExists { path }) if path == Path::new(to)));
    }
    let missing = transaction.rename_new("none", "b");
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    transaction.rename_new("a", "c").unwrap();
    transaction.rename("c", "b").unwrap();
    assert_eq!(transaction.read("b").unwrap(), b"a");
}

#[test]
fn missing_directories_get_the_attributes_and_existing_ones_keep_theirs() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.create_directory("a").unwrap();
    let attributes = Attributes::default().with_mode(0o700).with_owner(7, 8);
    transaction.create_directories_with("a/b/c", attributes).unwrap();
    let mode = |path: &str| transaction.metadata(path).unwrap().attributes.mode;
    assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o755, 0o700, 0o700));
    assert_eq!(transaction.metadata("a/b/c").unwrap().attributes.user, 7);
}

#[test]
fn a_removal_finds_every_entry_before_it_removes_the_first_one() {
    let (_folder, _, archive) = create();
    let snapshot = store(&archive, &["a.txt", "b.txt", "d/e/c.txt", "d/f", "g/h"]);
    let refused = |patterns: &[&str], recursive| {
        Removal::new(&snapshot, patterns, recursive).map(drop).unwrap_err()
    };
    assert!(matches!(refused(&["*.txt", "*.png"], true), Error::NotFound { .. }));
    assert!(matches!(refused(&["*.txt", "d"], false), Error::WrongType { .. }));
    assert!(matches!(refused(&["."], true), Error::RootDirectory));
    let removal = Removal::new(&snapshot, ["d/e/*", "?.txt", "d", "a.txt"], true).unwrap();
    let mut events = Vec::new();
    let names = removal.run(&archive, |event| {
        if let Removed::Entry { path, names } = event {
            events.push((path.display().to_string(), names));
        }
        ControlFlow::Continue(())
    });
    assert_eq!(names.unwrap(), 6);
    assert_eq!(
        events,
        [("a.txt", 1), ("b.txt", 1), ("d", 4)].map(|(path, names)| (path.to_owned(), names))
    );
    assert_eq!(walked(&archive), ["g", "g/h"]);
    assert_verified(&archive);
}

#[test]
fn a_removal_stops_after_the_entry_whose_event_breaks() {
    let (_folder, _, archive) = create();
    let snapshot = store(&archive, &["a", "b", "d/e", "f/g"]);
    let removal = Removal::new(&snapshot, ["a", "b", "d", "f"], true).unwrap();
    let stopped = removal.run(&archive, |event| match event {
        Removed::Names { path, total } if path == Path::new("d") => {
            assert!(total > 2);
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    let left = walked(&archive);
    assert!(left.ends_with(&["f".to_owned(), "f/g".to_owned()]), "{left:?}");
    assert!(!left.contains(&"a".to_owned()) && !left.contains(&"b".to_owned()), "{left:?}");
    assert_verified(&archive);
}

#[test]
fn a_tree_has_its_top_unless_that_is_the_root_directory() {
    let (_folder, _, archive) = create();
    let snapshot = store(&archive, &["a", "d/e/f"]);
    let tree = |path: &str| -> Vec<String> {
        let entries = snapshot.tree(path).unwrap();
        entries.map(|entry| entry.unwrap().path.display().to_string()).collect()
    };
    assert_eq!(tree("/"), ["a", "d", "d/e", "d/e/f"]);
    assert_eq!(tree("./d/e"), ["d/e", "d/e/f"]);
    assert_eq!(tree("a"), ["a"]);
    assert!(matches!(snapshot.tree("none").map(drop), Err(Error::NotFound { .. })));
    assert_eq!(snapshot.matching("d/*").unwrap(), [PathBuf::from("d/e")]);
    assert!(matches!(snapshot.matching("d/x*"), Err(Error::NotFound { .. })));
}
