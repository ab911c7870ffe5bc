//! `receipt` and `verify --receipt`.

use std::fs;

use crate::common::Bench;

#[test]
fn a_receipt_detects_older_and_forked_archives() {
    let bench = Bench::new();
    bench.write("file", "content");
    bench.ok("ingest a.ar7 file");
    let first = bench.ok("receipt a.ar7").text();
    assert!(first.starts_with("ar7-receipt-1 ") && first.lines().count() == 1, "{first}");
    bench.write("receipt", &first);
    fs::copy(bench.path("a.ar7"), bench.path("old.ar7")).expect("a copy");
    bench.ok("verify a.ar7 --receipt receipt");
    bench.ok("mkdir a.ar7 directory");
    let second = bench.ok("receipt a.ar7").text();
    for receipt in [first.trim(), second.trim()] {
        let ran = bench.run(["verify", "a.ar7", "--receipt", receipt]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let ran = bench.run(["verify", "old.ar7", "--receipt", second.trim()]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("the archive is older than the receipt"), "{}", ran.stderr);
    bench.ok("mkdir old.ar7 another");
    bench.ok("verify old.ar7 --receipt receipt");
    let ran = bench.run(["verify", "old.ar7", "--receipt", second.trim()]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("the archive forks from the receipt"), "{}", ran.stderr);
}

#[test]
fn a_malformed_receipt_is_an_error() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    bench.ok("create b.ar7");
    bench.write("receipt", bench.ok("receipt a.ar7").text().replace('\n', "\r\n"));
    bench.ok("verify a.ar7 --receipt receipt");
    bench.fails("verify b.ar7 --receipt receipt", 4, "the receipt is for another archive");
    bench.fails("verify a.ar7 --receipt ar7-receipt-1", 2, "not a receipt");
    bench.fails("verify a.ar7 --receipt missing", 1, "missing: open");
    bench.fails("verify a.ar7 --receipt key", 2, "not a receipt");
    let ran = bench.fails("verify a.ar7 --receipt a.ar7", 2, "not a receipt");
    assert!(ran.stdout.is_empty());
}
