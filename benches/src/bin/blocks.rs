//! Digests, sealing and opening in memory, alternating between methods; random reads; and the cost of a sync, which is
//! the lower limit of a commit. Prints JSON for `cargo xtask bench blocks`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ar7_benches::blocks::{Blocks, Step, Way};
use ar7_benches::print::{Measure, document};
use ar7_benches::random::{LENGTH, LongFile, LongStream};
use clap::Parser;

/// 16 MiB.
const BLOCKS: u32 = 4096;

/// Number of durable writes in one measurement.
const WRITES: u64 = 100;

/// Number of reads in one measurement.
const READS: u64 = 20_000;

/// Number of reads of a compressed file in one measurement, and its length in MiB.
const PACKED_READS: u64 = 2000;
const PACKED_MEBIBYTES: u64 = 1024;

/// The part of it that is read in order.
const IN_ORDER_MEBIBYTES: u64 = 256;

#[derive(Parser)]
struct Options {
    /// Number of rounds
    #[arg(long, default_value_t = 15)]
    rounds: u32,
}

fn main() {
    let options = Options::parse();
    let blocks = Blocks::new(usize::try_from(BLOCKS).expect("a small number"));
    let folder = tempfile::tempdir_in(".").expect("a directory");
    let stream = LongStream::make(folder.path(), LENGTH);
    let file = LongFile::make(folder.path(), PACKED_MEBIBYTES);
    let mut measures = Vec::new();
    let mut add =
        |subject: &str, case: &str, round: u32, threads: u64, count: u64, seconds: f64| {
            let (subject, case) = (subject.to_owned(), case.to_owned());
            let measure =
                Measure { subject, case, round, threads, count, seconds, ..Measure::default() };
            measures.push(measure);
        };
    for round in 0..options.rounds.max(1) {
        for threads in [1, 2] {
            for step in Step::ALL {
                for way in Way::ALL {
                    let (subject, case) =
                        (format!("{way:?}").to_lowercase(), format!("{step:?}").to_lowercase());
                    let started = Instant::now();
                    blocks.run(step, way, usize::try_from(threads).expect("few"));
                    let seconds = started.elapsed().as_secs_f64();
                    add(&subject, &case, round, threads, BLOCKS.into(), seconds);
                }
            }
            let (read, opened) = (stream.read(READS, threads), stream.open_two(READS, threads));
            add("read_at", "4 KiB at random", round, threads, READS * threads, read);
            add("two blocks", "4 KiB at random", round, threads, READS * threads, opened);
            let packed = file.read(PACKED_READS, threads);
            add("packed", "4 KiB at random", round, threads, PACKED_READS * threads, packed);
        }
        let in_order = file.read_in_order(IN_ORDER_MEBIBYTES << 20);
        add("packed", "8 KiB in order", round, 1, IN_ORDER_MEBIBYTES << 7, in_order);
        for (subject, syncs) in [("one sync", 1), ("two syncs", 2)] {
            let seconds = synced_writes(&folder.path().join("syncs"), syncs);
            add(subject, "durable write", round, 1, WRITES, seconds);
        }
    }
    document(&measures);
}

/// Returns the seconds taken by [`WRITES`] durable writes to a file of fixed length, each of 4 KiB with `syncs` syncs.
fn synced_writes(path: &Path, syncs: u64) -> f64 {
    let file = File::create(path).expect("a file");
    file.write_all_at(&vec![1; 1 << 20], 0).expect("written");
    file.sync_all().expect("synced");
    let started = Instant::now();
    for number in 0..WRITES {
        for sync in 0..syncs {
            file.write_all_at(&[2; 4096], (2 * number + sync) * 4096).expect("written");
            file.sync_data().expect("synced");
        }
    }
    started.elapsed().as_secs_f64()
}
