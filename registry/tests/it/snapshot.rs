//! A snapshot shows the names, records and bytes of its commit for as long as it is held.

use ar7_registry::records::{Attributes, InodeNumber};
use ar7_registry::{Archive, Content, Error, Snapshot};
use uuid::Uuid;

use crate::attributes::ATTRIBUTES;
use crate::common::{dynamic, pattern};

const ROOT: InodeNumber = InodeNumber::ROOT;
fn add(archive: &Archive, name: &[u8], content: &[u8]) -> Uuid {
    let mut stream = archive.new_stream().unwrap();
    stream.append(content).unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    archive.names().add_file(ROOT, name, ATTRIBUTES, Some(identity)).unwrap();
    identity
}

fn bytes(content: &impl Content) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(content.len()?).unwrap()];
    let length = content.read_at(0, &mut bytes)?;
    assert_eq!(length, bytes.len());
    Ok(bytes)
}

fn names_in(snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let listed = snapshot.list(ROOT, None, 100).unwrap();
    listed.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn names_and_records_of_a_snapshot_stay_as_they_were() {
    let archive = dynamic();
    let names = archive.names();
    add(&archive, b"a", b"first");
    let long = [b't'; 700];
    names.add_symlink(ROOT, b"link", ATTRIBUTES, &long).unwrap();
    names.make_directories(b"folder/below", ATTRIBUTES).unwrap();
    archive.commit().unwrap();
    let snapshot = archive.snapshot();
    names.rename((ROOT, b"a"), (ROOT, b"b"), false).unwrap();
    names.remove(ROOT, b"link").unwrap();
    names.remove_tree(ROOT, b"folder", None, &mut |_| true).unwrap();
    let renamed = names.resolve(b"b").unwrap().inode;
    let changed = Attributes { mode: 0o600, ..ATTRIBUTES };
    names.replace_content(renamed, None, changed).unwrap();
    archive.commit().unwrap();
    assert_eq!(names_in(&snapshot), [&b"a"[..], b"folder", b"link"]);
    assert_eq!(names_in(&archive.snapshot()), [b"b"]);
    assert!(snapshot.lookup(ROOT, b"b").unwrap().is_none());
    assert!(matches!(snapshot.resolve(b"b"), Err(Error::NoEntry { path }) if path == b"b"));
    let below = snapshot.resolve(b"folder/below").unwrap();
    assert_eq!(snapshot.list(below.inode, None, 10).unwrap(), []);
    let inode = snapshot.inode(renamed).unwrap().unwrap();
    assert_eq!((inode.size, inode.attributes), (5, ATTRIBUTES));
    let content = snapshot.read_file(&inode).unwrap().expect("a stream");
    assert_eq!(bytes(&content).unwrap(), b"first");
    let link = snapshot.lookup(ROOT, b"link").unwrap().unwrap().inode;
    let link = snapshot.inode(link).unwrap().unwrap();
    assert_eq!(snapshot.read_target(&link).unwrap(), long);
}

#[test]
fn a_deleted_stream_stays_readable_through_a_snapshot() {
    let archive = dynamic();
    let content = pattern(100_000, 1);
    let identity = add(&archive, b"a", &content);
    archive.commit().unwrap();
    let snapshot = archive.snapshot();
    let opened_before = snapshot.read_stream(identity).unwrap();
    archive.names().remove(ROOT, b"a").unwrap();
    archive.commit().unwrap();
    for salt in 2..12 {
        // Takes the freed blocks, if they are not held.
        add(&archive, format!("{salt}").as_bytes(), &pattern(100_000, salt));
        archive.commit().unwrap();
    }
    assert_eq!(bytes(&opened_before).unwrap(), content);
    assert_eq!(bytes(&snapshot.read_stream(identity).unwrap()).unwrap(), content);
    let gone = archive.snapshot().read_stream(identity).map(drop);
    assert!(matches!(gone, Err(Error::NoStream { stream }) if stream == identity));
}

#[test]
fn a_snapshot_keeps_bytes_that_later_commits_overwrite() {
    let archive = dynamic();
    let content = pattern(60_000, 1);
    let identity = add(&archive, b"a", &content);
    archive.commit().unwrap();
    let pinned = archive.snapshot().read_stream(identity).unwrap();
    let mut stream = archive.open_stream(identity).unwrap();
    for salt in 2..6 {
        stream.write_at(0, &pattern(60_000, salt)).unwrap();
        assert_eq!(bytes(&pinned).unwrap(), content, "before commit {salt}");
        archive.commit().unwrap();
        assert_eq!(bytes(&pinned).unwrap(), content, "after commit {salt}");
        assert_eq!(pinned.len(), 60_000);
        stream.set_len(30_000).unwrap();
        archive.commit().unwrap();
        assert_eq!(bytes(&pinned).unwrap(), content, "after commit {salt} was truncated");
        let newest = archive.snapshot().read_stream(identity).unwrap();
        assert_eq!(bytes(&newest).unwrap(), pattern(60_000, salt)[..30_000]);
    }
}

#[test]
fn a_long_target_is_read_before_it_is_committed() {
    let archive = dynamic();
    let names = archive.names();
    let target = [b't'; 1000];
    let link = names.add_symlink(ROOT, b"link", ATTRIBUTES, &target).unwrap();
    let inode = names.inode(link).unwrap().unwrap();
    assert_eq!(names.read_target(&inode).unwrap(), target);
    archive.commit().unwrap();
    assert_eq!(names.read_target(&inode).unwrap(), target);
}
