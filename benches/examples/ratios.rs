//! Compares the speed of batches with that of one block at a time: `cargo run --release -p ar7-benches --example
//! ratios`.
//!
//! Every round runs each step once with each method, so that other load affects all of them equally. The output has
//! medians over the rounds: of the speed, counting data rather than whole blocks, and of the ratio within a round. The
//! number of rounds is an optional argument.

use std::time::Instant;

use ar7_benches::blocks::{Blocks, Step, Way};

/// 16 MiB.
const BLOCKS: usize = 4096;

const THREADS: [usize; 2] = [1, 2];

fn main() {
    let rounds: usize =
        std::env::args().nth(1).map_or(15, |text| text.parse().expect("a number of rounds"));
    let blocks = Blocks::new(BLOCKS);
    let bytes = f64::from(u32::try_from(blocks.data_bytes()).expect("a few MiB"));
    let cases: Vec<(Step, usize)> =
        Step::ALL.into_iter().flat_map(|step| THREADS.map(|threads| (step, threads))).collect();
    // Seconds of the reference and of the batches, one pair for each round.
    let mut times: Vec<Vec<[f64; 2]>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds.max(1) {
        for (&(step, threads), times) in cases.iter().zip(&mut times) {
            times.push(Way::ALL.map(|way| {
                let start = Instant::now();
                blocks.run(step, way, threads);
                start.elapsed().as_secs_f64()
            }));
        }
    }
    println!("step    threads  reference GB/s  batch GB/s  ratio  (medians of {rounds} rounds)");
    let gigabytes = |seconds: f64| bytes / seconds / 1e9;
    for ((step, threads), times) in cases.iter().zip(&times) {
        println!(
            "{:7} {threads:7} {:15.2} {:11.2} {:6.2}",
            format!("{step:?}").to_lowercase(),
            gigabytes(median(times.iter().map(|[reference, _]| *reference))),
            gigabytes(median(times.iter().map(|[_, batch]| *batch))),
            median(times.iter().map(|[reference, batch]| reference / batch)),
        );
    }
    for (pair, step) in times.chunks_exact(THREADS.len()).zip(Step::ALL) {
        let scaling = pair[0].iter().zip(&pair[1]).map(|(one, two)| one[1] / two[1]);
        println!("batch {step:?}: 2 threads against 1: {:.2}", median(scaling));
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
