//! Streams in an archive in memory: a random read of 4 KiB, and a small append with its commit.

#![allow(missing_docs)]

use ar7_benches::archive_in_memory;
use criterion::{Criterion, criterion_group, criterion_main};

const LENGTH: u64 = 64 << 20;

fn streams(criterion: &mut Criterion) {
    let archive = archive_in_memory().expect("an archive");
    let mut stream = archive.new_stream().expect("a stream");
    stream.set_len(LENGTH).expect("space");
    let identity = stream.identity();
    stream.close().expect("saved");
    archive.commit().expect("a commit");
    let reader = archive.read_stream(identity).expect("the stream");
    let (mut bytes, mut at) = ([0; 4096], 0_u64);
    criterion.bench_function("read 4 KiB at random", |bencher| {
        bencher.iter(|| {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            reader.read_at(at % (LENGTH - 4096), &mut bytes).expect("read")
        });
    });
    criterion.bench_function("append 100 bytes and commit", |bencher| {
        let mut stream = archive.new_stream().expect("a stream");
        bencher.iter(|| {
            stream.append(&[1; 100]).expect("appended");
            archive.commit().expect("a commit");
        });
    });
}

criterion_group!(benches, streams);
criterion_main!(benches);
