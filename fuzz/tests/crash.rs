//! x
use ar7_fuzz::crash::*;
#[test]
fn small() {
    let effort = Effort {
        every_cut_up_to: 64,
        sampled_cuts: 16,
        deaths: 3,
        recovery_one_in: 16,
        reopen_one_in: 1,
    };
    let length: usize = std::env::var("LEN").map_or(1, |x| x.parse().unwrap());
    let started = std::time::Instant::now();
    match explore_worlds(&small_worlds(length), effort, 1, &|_, _| {}) {
        Ok(totals) => println!("{totals} in {:?}", started.elapsed()),
        Err(failed) => panic!("{failed}"),
    }
}
