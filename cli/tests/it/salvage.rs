//! `salvage`: what is left of a damaged archive is in the new one, and the exit code and the report say what is not.

use std::fs;

use serde_json::Value;

use crate::common::{Bench, tree};

/// Overwrites blocks of a file with zeros.
fn destroy(bench: &Bench, archive: &str, blocks: std::ops::Range<usize>) {
    let mut bytes = fs::read(bench.path(archive)).expect("an archive");
    let end = bytes.len().min(blocks.end * 4096);
    bytes[blocks.start * 4096..end].fill(0);
    fs::write(bench.path(archive), bytes).expect("an archive");
}

fn sample(bench: &Bench) {
    for number in 0..20_u8 {
        bench.write(&format!("src/file{number}"), vec![number; 500 * usize::from(number)]);
    }
    bench.write("src/log", vec![b'l'; 400_000]);
    bench.ok("ingest --compression none a.ar7 src --quiet");
    bench.ok("header export a.ar7 header");
}

#[test]
fn without_the_reserved_blocks_everything_is_salvaged_with_an_exported_header() {
    let bench = Bench::new();
    sample(&bench);
    destroy(&bench, "a.ar7", 0..8);
    bench.fails("salvage a.ar7 new.ar7", 4, "not an ar7 archive");
    assert!(!bench.path("new.ar7").exists());
    let ran = bench.ok("salvage a.ar7 new.ar7 --header header");
    assert!(ran.text().contains("22 entries complete, 0 with gaps"), "{}", ran.text());
    bench.ok("verify new.ar7 --quiet");
    bench.ok("extract new.ar7 --to out --quiet");
    assert_eq!(tree(&bench.path("out/src")), tree(&bench.path("src")));
    bench.fails("salvage a.ar7 new.ar7 --header header", 1, "File exists");
}

#[test]
fn a_gap_is_reported_and_filled_with_zeros() {
    let bench = Bench::new();
    sample(&bench);
    // Two blocks in the middle of the long file.
    destroy(&bench, "a.ar7", 80..82);
    bench.write_key("second", [9; 32]);
    let ran = bench.line("salvage a.ar7 new.ar7 --new-key-file second");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("entries and streams that are not as they were: 1\n"),
        "{}",
        ran.stderr
    );
    let stored = bench.ok("--key-file second cat new.ar7 src/log").stdout;
    let text = ran.text();
    let ran = bench.line("salvage a.ar7 other.ar7 --json");
    let document: Value = serde_json::from_slice(&ran.stdout).expect("a document");
    let entries = document["entries"].as_array().expect("entries");
    let log = entries.iter().find(|entry| entry["name"] == "src/log").expect("the log");
    assert_eq!(log["outcome"], "gaps");
    let [begin, end] = [0, 1].map(|at| log["gaps"][0][at].as_u64().expect("a range"));
    assert_eq!((begin % 4008, end), (0, begin + 2 * 4008));
    let line = format!("src/log: some of its bytes are lost; lost: bytes {begin} to {}\n", end - 1);
    assert!(text.starts_with(&line), "{text}");
    let mut expected = vec![b'l'; 400_000];
    let [begin, end] = [begin, end].map(|at| usize::try_from(at).expect("in memory"));
    expected[begin..end].fill(0);
    assert_eq!(stored, expected);
    assert_eq!(
        (&document["counts"]["complete"], &document["counts"]["gaps"]),
        (&21.into(), &1.into())
    );
}
