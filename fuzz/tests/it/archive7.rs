//! The archives in `docs/vectors/archive7`, which the Python module wrote: each has exactly the streams of its manifest,
//! with their lengths and digests. Damage and a wrong key are different errors.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::PathBuf;

use ar7::archive7::{OldArchive, Unrecorded};
use ar7::{Archive, Error, Key, Mode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 4096;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vectors/archive7"))
}

fn key() -> Key {
    Key::from([7; 32])
}

fn open(file: &[u8], key: &Key) -> Result<OldArchive<Cursor<Vec<u8>>>, Error> {
    OldArchive::new(Cursor::new(file.to_vec()), key, Unrecorded::Single)
}

/// Returns the description of each archive in the manifest, by the name of its file.
fn manifest() -> serde_json::Map<String, Value> {
    let text = fs::read_to_string(folder().join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("a document");
    manifest["archives"].as_object().expect("archives").clone()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).expect("below 16")).collect()
}

fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Returns length and digest of each live stream.
fn expected(archive: &Value) -> BTreeMap<String, (u64, String)> {
    let streams = archive["streams"].as_array().expect("streams").iter();
    let live = streams.filter(|stream| stream["state"] != "deleted");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    live.map(|stream| {
        let length = stream["length"].as_u64().expect("a length");
        (text(&stream["stream"]), (length, text(&stream["sha256"])))
    })
    .collect()
}

#[test]
fn every_archive_of_the_module_is_imported_with_every_length_and_digest() {
    let archives = manifest();
    assert_eq!(archives.len(), 4);
    for (name, archive) in archives {
        let expected = expected(&archive);
        let mut old = OldArchive::open(folder().join(&name), &key(), Unrecorded::Single).unwrap();
        let single = archive["manager"] == "SingleStreamManager";
        assert_eq!(old.kind().to_string(), if single { "single" } else { "dynamic" });

        let listed: Vec<_> = old.streams().collect();
        let mut read = BTreeMap::new();
        for stream in listed {
            let mut content = Vec::new();
            assert_eq!(old.read(stream.id, &mut content).unwrap(), stream.len);
            read.insert(stream.id.to_string(), (stream.len, digest(&content)));
        }
        assert_eq!(read, expected, "{name}");

        let new = tempfile::tempdir().unwrap();
        let kind = old.kind().new_kind();
        let options = Archive::options().create_new(true).kind(kind);
        let new = options.open(new.path().join("new.ar7"), &key()).unwrap();
        let transaction = new.begin().unwrap();
        let imported = old.import(&transaction, |_| ControlFlow::Continue(())).unwrap();
        let mut stored = BTreeMap::new();
        for id in expected.keys() {
            let mut content = Vec::new();
            let id = id.parse().unwrap();
            let mut file = transaction.stream(id, Mode::READ).unwrap();
            std::io::Read::read_to_end(&mut file, &mut content).unwrap();
            stored.insert(id.to_string(), (content.len() as u64, digest(&content)));
        }
        assert_eq!(stored, expected, "{name}");
        transaction.commit().unwrap();
        assert_eq!((imported.streams, imported.lost), (expected.len() as u64, 0));
        assert!(imported.is_closed, "{name}");
        if !single {
            assert_eq!(new.statistics().unwrap().streams, expected.len() as u64, "{name}");
        }
        let metadata = new.begin().unwrap().archive_metadata().unwrap();
        let prefix = archive["meta_prefix_hex"].as_str().unwrap_or_default();
        let found = hexadecimal(&metadata);
        assert_eq!(found, prefix, "{name}");
    }
}

#[test]
fn a_wrong_key_is_not_damage_and_damage_is_not_a_wrong_key() {
    let multi = fs::read(folder().join("multi.ar7")).unwrap();
    let refused = open(&multi, &Key::from([8; 32])).unwrap_err();
    let blocks = u32::try_from(multi.len() / BLOCK).unwrap();
    assert!(matches!(refused, Error::NoBlockOpens { blocks: found } if found == blocks));
    let mut first = multi.clone();
    first[100] ^= 1;
    for file in [&first[..], &multi[..multi.len() - 1], &multi[..multi.len() - BLOCK], &[]] {
        let refused = open(file, &key()).unwrap_err();
        assert!(matches!(refused, Error::Damaged(_)), "{refused}");
    }
    let passphrase = open(&multi, &Key::passphrase("phrase")).unwrap_err();
    assert!(matches!(passphrase, Error::OutOfBounds { .. }), "{passphrase}");
}
