//! One thread overwrites, appends, truncates, deletes, creates, commits and rolls back while many
//! threads read.
//!
//! - A read returns the bytes of one commit that was the newest at some moment during the read. It
//!   never returns a mixture, an older commit or an error.
//! - A stream is missing only before the commit that creates it and after the commit that deletes
//!   it.
//! - Verification meanwhile finds nothing.
//! - No thread waits forever.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::store::{Io, OpenOptions};
use ar7_registry::{Archive, CreateOptions, Error, Stream};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

const STREAMS: usize = 8;
const READERS: u64 = 4;
const LENGTH_MAX: usize = 300_000;
const TIME: Duration = Duration::from_millis(1500);

/// A time far longer than any operation takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The content of a stream at each commit that changed it: the commit's number, and a hash of the
/// bytes or `None` if the stream did not exist.
struct History {
    identity: Uuid,
    changes: Mutex<Vec<(u64, Option<u64>)>>,
}

impl History {
    /// Returns whether the stream had this content at one of the commits from `first` to `last`.
    fn had(&self, found: Option<u64>, first: u64, last: u64) -> bool {
        let changes = self.changes.lock().unwrap();
        let at_first = changes.iter().rev().find(|(commit, _)| *commit <= first);
        let at_first = at_first.and_then(|(_, hash)| *hash);
        let between = changes.iter().filter(|(commit, _)| first < *commit && *commit <= last);
        found == at_first || between.map(|(_, hash)| *hash).any(|hash| hash == found)
    }
}

struct Scenario {
    archive: Archive,
    histories: RwLock<Vec<Arc<History>>>,
    /// The newest commit that has returned.
    committed: AtomicU64,
    /// The newest commit that has begun.
    begun: AtomicU64,
    done: AtomicBool,
    reads: AtomicUsize,
    missing: AtomicUsize,
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Scenario {
    /// Reads streams until the writer ends.
    fn read(&self, seed: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut kept: Vec<Option<(Arc<History>, Stream)>> = (0..STREAMS).map(|_| None).collect();
        let mut bytes = vec![0; LENGTH_MAX + 1];
        while !self.done.load(Ordering::SeqCst) {
            let slot = random.next_u32() as usize % STREAMS;
            let history = Arc::clone(&self.histories.read().unwrap()[slot]);
            let first = self.committed.load(Ordering::SeqCst);
            // Use an old handle or a new one.
            let handle = match kept[slot].take() {
                Some((known, stream)) if known.identity == history.identity => Ok(stream),
                _ => self.archive.read_stream(history.identity),
            };
            let found = handle.and_then(|stream| {
                let length = stream.read_at(0, &mut bytes)?;
                Ok((stream, length))
            });
            let last = self.begun.load(Ordering::SeqCst);
            let found = match found {
                Ok((stream, length)) => {
                    if !random.next_u32().is_multiple_of(4) {
                        kept[slot] = Some((Arc::clone(&history), stream));
                    }
                    Some(hash(&bytes[..length]))
                }
                Err(Error::NoStream { .. }) => None,
                Err(error) => panic!("between commits {first} and {last}: {error}"),
            };
            assert!(
                history.had(found, first, last),
                "the bytes read belong to no commit from {first} to {last}"
            );
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.missing.fetch_add(usize::from(found.is_none()), Ordering::SeqCst);
        }
    }

    /// Verifies until the writer ends.
    fn verify(&self) {
        while !self.done.load(Ordering::SeqCst) {
            assert_verified(&self.archive);
        }
    }

    /// Changes streams and commits until the time is up.
    fn write(&self, seed: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut model: Vec<Vec<u8>> = vec![Vec::new(); STREAMS];
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            let mut changed = Vec::new();
            for _ in 0..=random.next_u32() % 3 {
                let slot = random.next_u32() as usize % STREAMS;
                if !changed.contains(&slot) {
                    changed.push(slot);
                }
            }
            if random.next_u32().is_multiple_of(8) {
                self.change_and_drop(&changed, &mut random);
                continue;
            }
            let number = self.begun.load(Ordering::SeqCst) + 1;
            let mut deleted = Vec::new();
            for &slot in &changed {
                let history = Arc::clone(&self.histories.read().unwrap()[slot]);
                let bytes = &mut model[slot];
                let held = if random.next_u32().is_multiple_of(6) {
                    assert!(self.archive.delete_stream(history.identity).unwrap());
                    bytes.clear();
                    deleted.push(slot);
                    None
                } else {
                    let mut stream = self.archive.open_stream(history.identity).unwrap();
                    change(&mut stream, bytes, &mut random);
                    Some(hash(bytes))
                };
                history.changes.lock().unwrap().push((number, held));
            }
            self.commit();
            for slot in deleted {
                // A new stream replaces the deleted one.
                self.make(slot);
            }
        }
        self.done.store(true, Ordering::SeqCst);
    }

    fn change_and_drop(&self, changed: &[usize], random: &mut ChaCha8Rng) {
        for &slot in changed {
            let identity = self.histories.read().unwrap()[slot].identity;
            let mut stream = self.archive.open_stream(identity).unwrap();
            let mut bytes = vec![0; usize::try_from(stream.len().unwrap()).unwrap()];
            change(&mut stream, &mut bytes, random);
        }
        self.archive.rollback().unwrap();
    }

    fn make(&self, slot: usize) {
        let identity = self.archive.new_stream().unwrap().identity();
        let number = self.begun.load(Ordering::SeqCst) + 1;
        let changes = Mutex::new(vec![(number, Some(hash(&[])))]);
        let history = Arc::new(History { identity, changes });
        // Readers know its identity before the commit, but must not find it yet.
        self.histories.write().unwrap()[slot] = history;
        self.commit();
    }

    fn commit(&self) {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.archive.commit().unwrap();
        self.committed.store(number, Ordering::SeqCst);
    }
}

/// Overwrites, appends or truncates the stream and the model.
fn change(stream: &mut Stream, bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let mut new = vec![0; random.next_u32() as usize % 40_000 + 1];
    random.fill_bytes(&mut new);
    match random.next_u32() % 4 {
        0 => {
            let length = random.next_u32() as usize % (bytes.len() + 1);
            stream.set_len(length as u64).unwrap();
            bytes.truncate(length);
        }
        1 if bytes.len() + new.len() <= LENGTH_MAX => {
            stream.append(&new).unwrap();
            bytes.extend(new);
        }
        _ => {
            let offset = random.next_u32() as usize % (bytes.len() + 1);
            new.truncate(LENGTH_MAX - offset);
            stream.write_at(offset as u64, &new).unwrap();
            bytes.resize(bytes.len().max(offset + new.len()), 0);
            bytes[offset..offset + new.len()].copy_from_slice(&new);
        }
    }
}

fn assert_verified(archive: &Archive) {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
}

fn check_run(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("threads.ar7");
    let secret = Secret::Key(RawKey::from_bytes([4; 32]));
    let options = CreateOptions { io, ..CreateOptions::default() };
    let archive = Archive::create(&path, &secret, &options).unwrap();
    let unmade = || Arc::new(History { identity: Uuid::from_u128(99), changes: Mutex::default() });
    let scenario = Arc::new(Scenario {
        archive,
        histories: RwLock::new((0..STREAMS).map(|_| unmade()).collect()),
        committed: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        done: AtomicBool::new(false),
        reads: AtomicUsize::new(0),
        missing: AtomicUsize::new(0),
    });
    for slot in 0..STREAMS {
        scenario.make(slot);
    }
    let (ended, wait) = mpsc::channel();
    for seed in 0..=READERS + 1 {
        let (scenario, ended) = (Arc::clone(&scenario), ended.clone());
        thread::spawn(move || {
            match seed {
                0 => scenario.write(seed),
                1 => scenario.verify(),
                _ => scenario.read(seed),
            }
            drop(scenario);
            ended.send(()).unwrap();
        });
    }
    drop(ended);
    for _ in 0..=READERS + 1 {
        wait.recv_timeout(PATIENCE).expect("no thread panics or waits forever");
    }
    let scenario = Arc::into_inner(scenario).expect("every thread has ended");
    let (reads, missing) = (scenario.reads.into_inner(), scenario.missing.into_inner());
    println!("{reads} reads, {missing} of no stream, {} commits", scenario.begun.into_inner());
    assert!(reads > 50, "too few reads: {reads}");
    assert_verified(&scenario.archive);
    scenario.archive.close().unwrap();
    let archive = Archive::open(&path, &secret, OpenOptions::default()).unwrap();
    assert_verified(&archive);
}

#[test]
fn readers_of_a_mapped_file_see_complete_commits() {
    check_run(Io::Map);
}

#[test]
fn readers_of_a_plain_file_see_complete_commits() {
    check_run(Io::File);
}
