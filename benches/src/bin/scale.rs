//! Measures one point of the curves of cost against size: an archive of a given number of streams, or with one stream
//! of a given length. Prints JSON for `cargo xtask bench scale`.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ar7_benches::print::{Measure, document};
use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::{Archive, CreateOptions};
use clap::{Parser, ValueEnum};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use uuid::Uuid;

/// Number of streams created between two commits.
const PER_COMMIT: u64 = 100_000;

/// Content of each of many streams.
const SMALL: [u8; 100] = [7; 100];

/// Number of bytes of a long stream to write at a time.
const PIECE: usize = 4 << 20;

/// Number of repetitions of the fast operations: opening, a small commit, a read.
const OPENINGS: u64 = 50;
const COMMITS: u64 = 100;
const READS: u64 = 20_000;

#[derive(Parser)]
struct Options {
    what: What,
    /// Number of streams, or of MiB
    size: u64,
    /// Number of processors to use
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Directory for the archive
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// Streams of 100 bytes
    Streams,
    /// One stream
    Mebibytes,
}

struct Point {
    options: Options,
    path: PathBuf,
    secret: Secret,
    measures: Vec<Measure>,
}

fn main() {
    let options = Options::parse();
    // Limit the processors before any thread starts: all threads inherit the limit, and their number depends on it.
    limit_processors(options.threads);
    let anonymous = watch();
    let folder = tempfile::tempdir_in(&options.directory).expect("a directory");
    let secret = Secret::Key(RawKey::generate().expect("random bytes"));
    let path = folder.path().join("scale.ar7");
    let mut point = Point { options, path, secret, measures: Vec::new() };
    let identities = point.write();
    point.warm();
    point.open();
    point.read(&identities);
    point.commit();
    for measure in &mut point.measures {
        measure.anonymous_bytes = Some(anonymous.load(Ordering::Relaxed));
    }
    document(&point.measures);
}

impl Point {
    fn add(&mut self, case: &str, count: u64, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        let (subject, size) = match self.options.what {
            What::Streams => ("streams", self.options.size),
            What::Mebibytes => ("bytes", self.options.size << 20),
        };
        self.measures.push(Measure {
            subject: subject.to_owned(),
            case: case.to_owned(),
            threads: self.options.threads.try_into().expect("few"),
            count,
            seconds,
            size: Some(size),
            output_bytes: fs::metadata(&self.path).ok().map(|status| status.len()),
            ..Measure::default()
        });
    }

    /// Creates the archive. Returns some of its streams, spread over the whole archive.
    fn write(&mut self) -> Vec<Uuid> {
        let started = Instant::now();
        let archive = Archive::create(&self.path, &self.secret, &CreateOptions::default());
        let archive = archive.expect("an archive");
        let identities = match self.options.what {
            What::Streams => many(&archive, self.options.size),
            What::Mebibytes => vec![long(&archive, self.options.size << 20)],
        };
        archive.commit().expect("a commit");
        archive.close().expect("closed");
        let count = self.options.size;
        self.add("write", count, started);
        identities
    }

    /// Reads the file once, because blocks written directly are not in the page cache.
    fn warm(&self) {
        let mut file = fs::File::open(&self.path).expect("the archive");
        std::io::copy(&mut file, &mut std::io::sink()).expect("read");
    }

    fn open(&mut self) {
        let started = Instant::now();
        for _ in 0..OPENINGS {
            black_box(reader(&self.path, &self.secret));
        }
        self.add("open", OPENINGS, started);
    }

    /// Reads 100 bytes of a random stream, found by its identity.
    fn read(&mut self, identities: &[Uuid]) {
        let archive = reader(&self.path, &self.secret);
        let mut bytes = [0; SMALL.len()];
        let mut random: u64 = 1;
        let started = Instant::now();
        for _ in 0..READS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = usize::try_from(random >> 33).expect("small") % identities.len();
            let stream = archive.read_stream(identities[place]).expect("the stream");
            let length = stream.len().expect("its length");
            let offset = (random >> 8) % (length - SMALL.len() as u64 + 1);
            stream.read_at(offset, &mut bytes).expect("a read");
            black_box(&bytes);
        }
        self.add("read", READS, started);
    }

    /// Appends 100 bytes to one stream and commits.
    fn commit(&mut self) {
        let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
        let archive = Archive::open(&self.path, &self.secret, options).expect("opens");
        let mut stream = archive.new_stream().expect("a stream");
        let started = Instant::now();
        for _ in 0..COMMITS {
            stream.append(&SMALL).expect("appended");
            archive.commit().expect("a commit");
        }
        self.add("commit", COMMITS, started);
        stream.close().expect("saved");
        archive.close().expect("closed");
    }
}

fn limit_processors(count: usize) {
    let allowed = sched_getaffinity(None).expect("the processors");
    let mut fewer = CpuSet::new();
    let processors = (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor));
    processors.take(count).for_each(|processor| fewer.set(processor));
    sched_setaffinity(None, &fewer).expect("fewer processors");
}

fn reader(path: &Path, secret: &Secret) -> Archive {
    Archive::open(path, secret, OpenOptions::default()).expect("opens")
}

fn many(archive: &Archive, count: u64) -> Vec<Uuid> {
    let mut kept = Vec::new();
    let every = count.div_ceil(10_000);
    for number in 0..count {
        let mut stream = archive.new_stream().expect("a stream");
        stream.append(&SMALL).expect("appended");
        if number % every == 0 {
            kept.push(stream.identity());
        }
        stream.close().expect("saved");
        if number % PER_COMMIT == PER_COMMIT - 1 {
            archive.commit().expect("a commit");
        }
    }
    kept
}

fn long(archive: &Archive, length: u64) -> Uuid {
    let mut stream = archive.new_stream().expect("a stream");
    let piece = vec![7; PIECE];
    let mut written = 0;
    while written < length {
        let left = usize::try_from(length - written).unwrap_or(usize::MAX);
        stream.append(&piece[..left.min(PIECE)]).expect("appended");
        written = stream.len().expect("its length");
    }
    let identity = stream.identity();
    stream.close().expect("saved");
    identity
}

/// Samples the anonymous memory of this process until it ends, and keeps the maximum.
fn watch() -> Arc<AtomicU64> {
    let most = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&most);
    thread::spawn(move || {
        loop {
            seen.fetch_max(anonymous_bytes(), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(10));
        }
    });
    most
}

fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    let kibibytes = line.trim().split(' ').next().and_then(|word| word.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}
