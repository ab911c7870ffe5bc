//! Large streams always read back as written, even while other threads seal their blocks.

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::{Archive, CreateOptions};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

const MIB: usize = 1 << 20;

/// Maximum length of a stream in bytes.
const LENGTH_MAX: usize = 24 * MIB;

/// Number of operations on each archive.
const STEPS: usize = 60;

/// Returns bytes that differ from block to block, and between values of `salt`.
fn pattern(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 7 + at / 4008 + salt) % 251).unwrap()).collect()
}

/// Streams and their expected content.
type Model = Vec<(Uuid, Vec<u8>)>;

struct Scenario {
    random: ChaCha8Rng,
    archive: Archive,
    now: Model,
    committed: Model,
}

impl Scenario {
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.next_u64() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn step(&mut self, salt: usize) {
        match self.below(16) {
            0..8 => self.write(salt),
            8..11 => self.read(),
            11 => self.truncate(),
            12 => self.delete(),
            13 => {
                self.archive.commit().unwrap();
                self.committed.clone_from(&self.now);
            }
            14 => {
                self.archive.rollback().unwrap();
                self.now.clone_from(&self.committed);
            }
            _ => self.now.push((self.archive.new_stream().unwrap().identity(), Vec::new())),
        }
    }

    /// Returns a random stream and a random offset in it.
    fn chosen(&mut self) -> (usize, usize) {
        if self.now.is_empty() {
            self.now.push((self.archive.new_stream().unwrap().identity(), Vec::new()));
        }
        let number = self.below(self.now.len());
        // Most writes append.
        let length = self.now[number].1.len();
        let at = if self.below(3) > 0 { length } else { self.below(length + 1) };
        (number, at)
    }

    fn write(&mut self, salt: usize) {
        let (number, at) = self.chosen();
        let length = self.below(6 * MIB).min(LENGTH_MAX - at);
        let bytes = pattern(length, salt);
        let (identity, expected) = &mut self.now[number];
        let mut stream = self.archive.open_stream(*identity).unwrap();
        stream.write_at(at as u64, &bytes).unwrap();
        expected.resize(expected.len().max(at + length), 0);
        expected[at..at + length].copy_from_slice(&bytes);
    }

    fn read(&mut self) {
        let (number, at) = self.chosen();
        let mut found = vec![0; self.below(MIB)];
        let (identity, expected) = &self.now[number];
        let stream = self.archive.open_stream(*identity).unwrap();
        let at = at.saturating_sub(found.len() / 2);
        let length = stream.read_at(at as u64, &mut found).unwrap();
        let end = expected.len().min(at + found.len());
        assert!(found[..length] == expected[at..end], "stream {number} at {at}");
    }

    fn truncate(&mut self) {
        let (number, at) = self.chosen();
        let (identity, expected) = &mut self.now[number];
        self.archive.open_stream(*identity).unwrap().set_len(at as u64).unwrap();
        expected.truncate(at);
    }

    fn delete(&mut self) {
        let (number, _) = self.chosen();
        let (identity, _) = self.now.remove(number);
        assert!(self.archive.delete_stream(identity).unwrap());
    }
}

#[track_caller]
fn check(archive: &Archive, model: &Model) {
    for (number, (identity, expected)) in model.iter().enumerate() {
        let stream = archive.open_stream(*identity).unwrap();
        let mut found = vec![0; expected.len() + 1];
        assert_eq!(stream.read_at(0, &mut found).unwrap(), expected.len(), "stream {number}");
        assert!(found[..expected.len()] == expected[..], "stream {number}");
    }
}

#[test]
fn large_streams_read_back_unchanged() {
    let secret = Secret::Key(RawKey::from_bytes([5; 32]));
    for seed in 1..=4 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("archive");
        let archive = Archive::create(&path, &secret, &CreateOptions::default()).unwrap();
        let random = ChaCha8Rng::seed_from_u64(seed);
        let mut scenario = Scenario { random, archive, now: Model::new(), committed: Model::new() };
        for step in 0..STEPS {
            scenario.step(step);
        }
        check(&scenario.archive, &scenario.now);
        let Scenario { archive, committed, .. } = scenario;
        drop(archive);
        let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
        let archive = Archive::open(&path, &secret, options).unwrap();
        check(&archive, &committed);
        let mut findings = Vec::new();
        archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(archive.statistics().unwrap().streams, committed.len() as u64);
    }
}
