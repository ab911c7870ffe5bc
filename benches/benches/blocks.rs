//! Sealing and opening a batch of 64 blocks on one core.

#![allow(missing_docs)]

use std::hint::black_box;

use ar7_engine::crypto::{KeyKind, MasterKey, SealJob, Sealer};
use ar7_engine::format::{BLOCK_SIZE, BlockHead, DATA_SIZE, Generation, Position};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uuid::Uuid;

const BLOCKS: usize = 64;

fn sealing(criterion: &mut Criterion) {
    let archive = Uuid::from_u128(7);
    let sealer = Sealer::new(&MasterKey::generate().expect("random bytes"), archive);
    let data = [7; DATA_SIZE];
    let position = |at: usize| Position::at(u32::try_from(at + 8).expect("a small position"));
    let jobs: Vec<SealJob<'_>> = (0..BLOCKS)
        .map(|at| SealJob { position: position(at), head: BlockHead::default(), data: &data })
        .collect();
    let mut sealed = vec![0; BLOCKS * BLOCK_SIZE];
    let mut group = criterion.benchmark_group("blocks");
    group.throughput(Throughput::Bytes((BLOCKS * DATA_SIZE) as u64));
    group.bench_function("seal", |bencher| {
        bencher.iter(|| {
            let generation = Generation::default();
            sealer.seal_batch(KeyKind::Data, generation, &jobs, &mut sealed).expect("sealed");
        });
    });
    let mut scratch = [0; BLOCK_SIZE];
    group.bench_function("open", |bencher| {
        bencher.iter(|| {
            for (at, block) in sealed.chunks_exact(BLOCK_SIZE).enumerate() {
                scratch.copy_from_slice(block);
                let opened = sealer.open_in_place(KeyKind::Data, position(at), &mut scratch);
                black_box(opened.expect("opens").data[0]);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, sealing);
criterion_main!(benches);
