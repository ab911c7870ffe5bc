//! An archive in memory: a random read of 4 KiB, a small append with its commit, and opening, whose cost does not
//! depend on the content.

#![allow(missing_docs)]

use ar7_benches::archive_in_memory;
use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::store::OpenOptions;
use ar7_registry::{Archive, CreateOptions};
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

fn opening(criterion: &mut Criterion) {
    for mebibytes in [1, 64] {
        let device = MemoryDevice::new();
        let secret = Secret::Key(RawKey::generate().expect("random bytes"));
        let options = CreateOptions::default();
        let archive = Archive::create_device(Box::new(device.clone()), &secret, &options);
        let archive = archive.expect("an archive");
        archive.new_stream().expect("a stream").set_len(mebibytes << 20).expect("space");
        archive.commit().expect("a commit");
        archive.close().expect("closed");
        criterion.bench_function(&format!("open an archive of {mebibytes} MiB"), |bencher| {
            bencher.iter(|| {
                let device = Box::new(device.clone());
                Archive::open_device(device, &secret, OpenOptions::default()).expect("opens")
            });
        });
    }
}

criterion_group!(benches, streams, opening);
criterion_main!(benches);
