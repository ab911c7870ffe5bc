//! The copy-on-write B+tree with its pages on the heap: inserts in order and at random, lookups, a scan, and a flush
//! after a few changes.

#![allow(missing_docs)]

use std::hint::black_box;

use ar7_engine::format::Root;
use ar7_registry::tree::testing::HeapSpace;
use ar7_registry::tree::{Tree, TreeNumber, TreeReader};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Number of entries in the tree, which make some thousand pages.
const ENTRIES: u64 = 100_000;

/// A value as long as the record of a stream.
const VALUE: [u8; 51] = [7; 51];

/// Returns a key of 16 bytes: the number, or a scattered value that is different for every number.
fn key(number: u64, is_scattered: bool) -> [u8; 16] {
    let first = if is_scattered { number.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { number };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key
}

fn filled(is_scattered: bool) -> (HeapSpace, Tree) {
    let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TreeNumber(0), Root::default()));
    for number in 0..ENTRIES {
        tree.insert(&mut space, &key(number, is_scattered), &VALUE).expect("a page");
    }
    (space, tree)
}

fn inserts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    for (name, is_scattered) in [("in order", false), ("at random", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(filled(is_scattered)));
        });
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let (mut space, mut tree) = filled(true);
    let root = tree.flush(&mut space).expect("pages");
    let reader = TreeReader::new(TreeNumber(0), root, &space);
    let mut number = 0;
    criterion.bench_function("get at random, every page parsed", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % ENTRIES;
            reader.get(&key(number, true)).expect("a tree").expect("an entry")
        });
    });
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    group.bench_function("all", |bencher| {
        bencher.iter(|| reader.range(&[]).expect("a tree").count());
    });
    group.finish();
}

fn flushes(criterion: &mut Criterion) {
    let (mut space, mut tree) = filled(false);
    let root = tree.flush(&mut space).expect("pages");
    criterion.bench_function("change 100 entries and flush", |bencher| {
        bencher.iter_batched(
            || {
                let mut space = space.clone();
                space.raise_step();
                (space, Tree::open(TreeNumber(0), root))
            },
            |(mut space, mut tree)| {
                for number in 0..100 {
                    tree.insert(&mut space, &key(number * 997, false), &[8; 51]).expect("a page");
                }
                tree.flush(&mut space).expect("pages")
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, inserts, reads, flushes);
criterion_main!(benches);
