//! Records in JSON, with the feature `serde`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ar7::{Attributes, Origin, Timestamp};
use serde_json::json;

use crate::common::create;

#[test]
fn an_entry_is_serialized_without_loss() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let odd = Path::new(OsStr::from_bytes(b"b\xff"));
    let origin = Origin::new(Timestamp::new(7, 8), 9);
    let attributes = Attributes::default().with_modified(Timestamp::new(5, 6)).with_origin(origin);
    for path in [Path::new("a"), odd] {
        transaction.write(path, &b"content"[..]).unwrap();
        transaction.set_attributes(path, attributes).unwrap();
    }
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    let entries: Vec<_> = snapshot.list("").unwrap().map(Result::unwrap).collect();
    let [plain, odd] = &entries[..] else { panic!("{entries:?}") };
    let stream = plain.metadata.stream.expect("a stream").to_string();
    let expected = json!({
        "name": "a",
        "type": "file",
        "size": 7,
        "mode": "0644",
        "uid": 0,
        "gid": 0,
        "modified": "1970-01-01T00:00:05.000000006Z",
        "origin": { "changed": "1970-01-01T00:00:07.000000008Z", "inode": 9 },
        "links": 1,
        "inode": plain.metadata.inode,
        "stream": stream,
    });
    assert_eq!(serde_json::to_value(plain).unwrap(), expected);
    let odd = serde_json::to_value(odd).unwrap();
    assert_eq!((&odd["name"], &odd["name_bytes"]), (&json!("b\u{fffd}"), &json!("62ff")));
    let field = |path| serde_json::to_value(ar7::PathText::new(path).field("target")).unwrap();
    assert_eq!(field("a"), json!({ "target": "a" }));
    let odd = OsStr::from_bytes(b"\xff");
    let fields = serde_json::to_value(ar7::PathText::new(odd).field("target")).unwrap();
    assert_eq!(fields, json!({ "target": "\u{fffd}", "target_bytes": "ff" }));
    let streams: Vec<_> = snapshot.streams().unwrap().map(Result::unwrap).collect();
    assert_eq!(serde_json::to_value(&streams[0]).unwrap()["stream"], json!(stream));
}
