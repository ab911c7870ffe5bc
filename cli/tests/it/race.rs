//! Directories of the source are renamed during an ingest: no file is stored in another directory.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::Bench;

/// Number of directories in the source.
const DIRECTORIES: usize = 40;

/// How long the test repeats the ingest.
const DURATION: Duration = Duration::from_secs(3);

/// Minimum number of ingests on a slow machine.
const INGESTS_MIN: u32 = 3;

#[test]
fn directories_renamed_during_ingests_keep_their_own_files() {
    let bench = Bench::new();
    for number in 0..DIRECTORIES {
        for file in ["f", "g", "s/h"] {
            bench.write(&format!("swap/d{number}/{file}"), format!("d{number}"));
        }
    }
    let is_done = AtomicBool::new(false);
    let ingests = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                for number in 0..DIRECTORIES {
                    let (place, away) =
                        (bench.path(&format!("swap/d{number}")), bench.path("away"));
                    fs::rename(&place, &away).unwrap();
                    fs::rename(&away, &place).unwrap();
                }
            }
        });
        let (begun, mut ingests) = (Instant::now(), 0);
        while ingests < INGESTS_MIN || begun.elapsed() < DURATION {
            let ran = bench.line("ingest archive swap");
            // A directory that is away when the walk opens it is reported.
            assert!([0, 8].contains(&ran.code), "{}: {}", ran.code, ran.stderr);
            ingests += 1;
        }
        is_done.store(true, Ordering::Relaxed);
        ingests
    });
    println!("{ingests} ingests");
    bench.ok("verify archive");
    bench.ok("extract archive swap --to out");
    let mut restored = 0;
    for number in 0..DIRECTORIES {
        for file in ["f", "g", "s/h"] {
            if let Ok(content) =
                fs::read_to_string(bench.path(&format!("out/swap/d{number}/{file}")))
            {
                assert_eq!(content, format!("d{number}"), "d{number}/{file}");
                restored += 1;
            }
        }
    }
    assert!(restored > DIRECTORIES, "only {restored} files");
}
