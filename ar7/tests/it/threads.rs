//! Threads share an archive: reads of one snapshot belong to one commit, even while others are committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ar7::{Archive, Mode, Snapshot};

use crate::common::{assert_verified, create};

const COMMITS: u64 = 200;
const READERS: usize = 3;

/// Content of 12 KiB that states the number of its commit.
fn content(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(1500)
}

fn number_in(snapshot: &Snapshot, path: &str) -> u64 {
    let read = snapshot.read(path).unwrap();
    let number = u64::from_be_bytes(read[..8].try_into().unwrap());
    assert!(read == content(number), "one version of {path}");
    number
}

fn commit(archive: &Archive, number: u64) {
    let transaction = archive.begin().unwrap();
    transaction.write("one", &content(number)[..]).unwrap();
    transaction.write("two", &content(number)[..]).unwrap();
    transaction.commit().unwrap();
}

/// Overwrites both files in place.
fn overwrite(archive: &Archive, number: u64) {
    let transaction = archive.begin().unwrap();
    for path in ["one", "two"] {
        let mut file = transaction.open(path, Mode::READ_WRITE).unwrap();
        file.write_at(0, &content(number)).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn paired_reads_are_never_of_two_commits_while_files_are_replaced() {
    assert!(read_pairs(commit) >= READERS as u64);
}

#[test]
fn paired_reads_are_never_of_two_commits_while_files_are_overwritten() {
    assert!(read_pairs(overwrite) >= READERS as u64);
}

/// Commits changes while threads read both files from one snapshot. Returns the number of pairs.
fn read_pairs(change: fn(&Archive, u64)) -> u64 {
    let (_folder, _, archive) = create();
    commit(&archive, 0);
    let is_done = AtomicBool::new(false);
    let pairs: u64 = thread::scope(|scope| {
        let read = || {
            let (mut pairs, mut newest) = (0, 0);
            loop {
                let is_last = is_done.load(Ordering::Acquire);
                let snapshot = archive.snapshot().unwrap();
                let number = number_in(&snapshot, "one");
                assert_eq!(number_in(&snapshot, "two"), number);
                assert!(number >= newest, "never an older commit");
                newest = number;
                pairs += 1;
                if is_last {
                    assert_eq!(newest, COMMITS);
                    return pairs;
                }
            }
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        for number in 1..=COMMITS {
            change(&archive, number);
        }
        is_done.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert_verified(&archive);
    pairs
}

#[test]
fn transactions_of_many_threads_follow_each_other() {
    let (_folder, _, archive) = create();
    let write = |path: &str| {
        for _ in 0..50 {
            let transaction = archive.begin().unwrap();
            let number = if transaction.exists(path).unwrap() {
                let read = transaction.read(path).unwrap();
                u64::from_be_bytes(read[..].try_into().unwrap())
            } else {
                0
            };
            transaction.write(path, &(number + 1).to_be_bytes()[..]).unwrap();
            transaction.commit().unwrap();
        }
    };
    thread::scope(|scope| {
        for path in ["counter", "counter", "other"] {
            let write = &write;
            scope.spawn(move || write(path));
        }
    });
    let snapshot = archive.snapshot().unwrap();
    assert_eq!(snapshot.read("counter").unwrap(), 100_u64.to_be_bytes());
    assert_eq!(snapshot.read("other").unwrap(), 50_u64.to_be_bytes());
}
