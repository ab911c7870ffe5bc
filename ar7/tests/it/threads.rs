//! Threads share an archive: reads of one snapshot belong to one commit, even while others are committed.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ar7::{Archive, Mode, Snapshot};

use crate::common::{assert_verified, create};

/// Fewest commits while pairs are read.
const COMMITS: u64 = 200;

/// Fewest pairs to read: in every run of the tests, and at full effort.
const PAIRS: u64 = 5000;
const PAIRS_AT_FULL_EFFORT: u64 = 1_000_000;

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

/// Replaces both files.
fn replace(archive: &Archive, number: u64) {
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

/// Changes the files in both ways in turn.
fn change(archive: &Archive, number: u64) {
    if number.is_multiple_of(2) { replace(archive, number) } else { overwrite(archive, number) }
}

#[test]
fn paired_reads_are_never_of_two_commits_while_files_are_replaced() {
    let (pairs, commits) = read_pairs(replace, PAIRS);
    assert!(pairs >= PAIRS && commits >= COMMITS);
}

#[test]
fn paired_reads_are_never_of_two_commits_while_files_are_overwritten() {
    let (pairs, commits) = read_pairs(overwrite, PAIRS);
    assert!(pairs >= PAIRS && commits >= COMMITS);
}

#[test]
#[ignore = "a million pairs; run by `cargo xtask proof`"]
fn a_million_paired_reads_are_never_of_two_commits() {
    let (pairs, commits) = read_pairs(change, PAIRS_AT_FULL_EFFORT);
    assert!(pairs >= PAIRS_AT_FULL_EFFORT);
    println!("{pairs} pairs during {commits} commits");
}

/// Commits changes while threads read both files from one snapshot, until they have read at least `least` pairs.
/// Returns the number of pairs and of commits.
fn read_pairs(change: fn(&Archive, u64), least: u64) -> (u64, u64) {
    let (_folder, _, archive) = create();
    replace(&archive, 0);
    let (pairs, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut commits = 0;
    thread::scope(|scope| {
        let read = || {
            let mut newest = 0;
            loop {
                let is_last = is_done.load(Ordering::Acquire);
                let snapshot = archive.snapshot().unwrap();
                let number = number_in(&snapshot, "one");
                assert_eq!(number_in(&snapshot, "two"), number);
                assert!(number >= newest, "never an older commit");
                newest = number;
                pairs.fetch_add(1, Ordering::Relaxed);
                if is_last {
                    return newest;
                }
            }
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        let is_reading = || readers.iter().all(|reader| !reader.is_finished());
        while is_reading() && (commits < COMMITS || pairs.load(Ordering::Relaxed) < least) {
            commits += 1;
            change(&archive, commits);
        }
        is_done.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), commits, "the last read is of the last commit");
        }
    });
    assert_verified(&archive);
    (pairs.into_inner(), commits)
}

#[test]
fn a_file_that_is_copied_across_commits_is_one_version() {
    const COPIES: usize = 60;
    let (_folder, _, archive) = create();
    let large = |number: u64| number.to_be_bytes().repeat(200_000);
    let write = |number: u64| {
        let transaction = archive.begin().unwrap();
        if number.is_multiple_of(3) {
            transaction.write("file", &large(number)[..]).unwrap();
        } else {
            let mut file = transaction.open("file", Mode::READ_WRITE).unwrap();
            file.write_at(0, &large(number)).unwrap();
            drop(file);
        }
        transaction.commit().unwrap();
    };
    write(0);
    let copy_all = || {
        let mut commits_during_copies = 0;
        for _ in 0..COPIES {
            let snapshot = archive.snapshot().unwrap();
            let (mut file, mut copy) = (snapshot.open("file").unwrap(), Vec::new());
            io::copy(&mut file, &mut copy).unwrap();
            commits_during_copies += archive.snapshot().unwrap().commit() - snapshot.commit();
            let number = u64::from_be_bytes(copy[..8].try_into().unwrap());
            assert!(copy == large(number), "one version");
        }
        commits_during_copies
    };
    thread::scope(|scope| {
        let copying = scope.spawn(copy_all);
        let mut number = 0;
        while !copying.is_finished() {
            number += 1;
            write(number);
        }
        assert!(copying.join().unwrap() > 0, "commits happened during copies");
    });
    assert_verified(&archive);
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
