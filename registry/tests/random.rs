//! If the random source fails, every operation that needs random bytes returns an error. It seals
//! nothing, and no commit is lost.
//!
//! This program has only one test, because the source fails for the whole process.

use std::collections::BTreeMap;
use std::path::Path;

use ar7_engine::Error as EngineError;
use ar7_engine::crypto::{RawKey, Secret, fail_random_after};
use ar7_engine::store::{Access, NewKey, OpenOptions, RekeyOptions};
use ar7_registry::{Archive, CreateOptions, Error};

/// A number of random draws that exceeds the need of any operation.
const DRAWS_MAX: u64 = 200;

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([5; 32]))
}

fn open(path: &Path, access: Access) -> Result<Archive, Error> {
    Archive::open(path, &secret(), OpenOptions { access, ..OpenOptions::default() })
}

/// A change of an archive, tried with a failing source.
type Change = fn(&Path) -> Result<(), Error>;

const CHANGES: [(&str, Change); 6] = [
    ("open", |path| open(path, Access::Write)?.close()),
    ("create a stream", |path| {
        let archive = open(path, Access::Write)?;
        let mut stream = archive.new_stream()?;
        stream.append(&vec![7; 300_000])?;
        stream.close()?;
        archive.commit()
    }),
    ("overwrite", |path| {
        let archive = open(path, Access::Write)?;
        let mut stream = archive.open_stream(archive.streams(None, 1)?[0].record.identity)?;
        stream.write_at(100, &[8; 5000])?;
        stream.close()?;
        archive.commit()
    }),
    ("add a key", |path| {
        let archive = open(path, Access::Write)?;
        let other = Secret::Key(RawKey::from_bytes([6; 32]));
        let derivation = ar7_engine::crypto::KeyDerivation::default();
        archive.add_key(&NewKey { secret: &other, derivation: &derivation, label: "" })?;
        archive.close()
    }),
    ("wipe", |path| {
        let archive = open(path, Access::Write)?;
        archive.wipe_free(&mut |_| {})?;
        archive.close()
    }),
    ("rekey", |path| {
        Archive::rekey(path, &secret(), RekeyOptions::default(), &mut |_, _| {
            std::ops::ControlFlow::Continue(())
        })
        .map(drop)
    }),
];

/// Returns the content of all streams of an archive, which must verify clean.
fn content(path: &Path) -> Vec<Vec<u8>> {
    let archive = open(path, Access::Read).expect("the archive opens");
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    let read = |stored: &ar7_engine::format::StoredStream| {
        let mut bytes = vec![0; usize::try_from(stored.record.length).unwrap()];
        archive.read_stream(stored.record.identity).unwrap().read_at(0, &mut bytes).unwrap();
        bytes
    };
    archive.streams(None, usize::MAX).unwrap().iter().map(read).collect()
}

fn assert_is_of_the_source(what: &str, draws: u64, error: &Error) {
    let mut error = match error {
        Error::Engine(error) => error,
        other => panic!("{what}, {draws} draws: {other}"),
    };
    while let EngineError::Poisoned { cause } = error {
        error = cause;
    }
    assert!(error.to_string().contains("read random bytes"), "{what}, {draws} draws: {error}");
}

/// Repeats `work` with a source that fails one draw later each time, until `work` succeeds. Returns
/// the number of failures.
fn with_failing_source(
    what: &str,
    work: impl Fn() -> Result<(), Error>,
    check: impl Fn(u64),
) -> u64 {
    for draws in 0..DRAWS_MAX {
        fail_random_after(Some(draws));
        let outcome = work();
        fail_random_after(None);
        match outcome {
            Ok(()) => return draws,
            Err(error) => assert_is_of_the_source(what, draws, &error),
        }
        check(draws);
    }
    panic!("{what} needs more than {DRAWS_MAX} draws");
}

fn make(path: &Path) -> Result<(), Error> {
    Archive::create(path, &secret(), &CreateOptions::default())?.close()
}

#[test]
fn a_failing_source_is_an_error_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ar7");
    let files = || std::fs::read_dir(directory.path()).unwrap().count();
    let mut needed = BTreeMap::new();
    let check_made = |_| {
        // There is either no file or a complete archive, because the file gets its name last.
        assert_eq!(files(), usize::from(path.exists()));
        if path.exists() {
            assert_eq!(content(&path), Vec::<Vec<u8>>::new());
            std::fs::remove_file(&path).unwrap();
        }
    };
    needed.insert("create", with_failing_source("create", || make(&path), check_made));
    let archive = open(&path, Access::Write).unwrap();
    let mut stream = archive.new_stream().unwrap();
    stream.append(&vec![1; 100_000]).unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
    archive.close().unwrap();
    let original = std::fs::read(&path).unwrap();
    for (what, change) in CHANGES {
        std::fs::write(&path, &original).unwrap();
        change(&path).unwrap();
        let after = content(&path);
        std::fs::write(&path, &original).unwrap();
        let before = content(&path);
        let draws = with_failing_source(
            what,
            || change(&path),
            |draws| {
                let now = content(&path);
                assert!(now == before || now == after, "{what}, {draws} draws");
                // The first draw comes before the first write that changes anything.
                let is_untouched = std::fs::read(&path).unwrap() == original;
                assert!(draws > 0 || is_untouched, "{what} wrote");
                std::fs::write(&path, &original).unwrap();
            },
        );
        needed.insert(what, draws);
        assert_eq!(content(&path), after, "{what}");
    }
    assert!(needed.values().all(|&draws| draws >= 2), "{needed:?}");
    println!("random draws of each operation: {needed:?}");
}
