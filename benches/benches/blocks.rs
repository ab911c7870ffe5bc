//! Hashing, sealing and opening of blocks in memory: one block at a time with `chacha20poly1305` and `sha1`, and in the
//! engine's batches, on one thread and on two.

#![allow(missing_docs)]

use ar7_benches::blocks::{Blocks, Step, Way};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// 8 MiB: more than the caches of a core.
const BLOCKS: usize = 2048;

fn blocks(criterion: &mut Criterion) {
    let blocks = Blocks::new(BLOCKS);
    let bytes = u64::try_from(blocks.data_bytes()).expect("a length");
    for step in Step::ALL {
        let mut group = criterion.benchmark_group(format!("{step:?}").to_lowercase());
        group.throughput(Throughput::Bytes(bytes)).sample_size(20);
        for way in Way::ALL {
            for threads in [1, 2] {
                let name = format!("{way:?}").to_lowercase();
                group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                    bencher.iter(|| blocks.run(step, way, threads));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
