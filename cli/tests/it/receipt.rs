//! `receipt` and `verify --receipt`.

use std::fs;

use ar7_engine::crypto::{Passphrase, Secret};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::Archive;

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

/// After a killed writer, the archive is opened to read it, and then to make sure that its commit is on the disk.
#[test]
fn a_receipt_after_a_killed_writer_asks_for_the_key_once() {
    let bench = Bench::new();
    let line = |command: &str| {
        let asked = "echo asked >>asked; echo secret";
        let words = command.split(' ').chain(["a.ar7", "--passphrase-command", asked]);
        let ran = bench.run(words);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let asked = fs::read_to_string(bench.path("asked")).expect("it asked");
        fs::remove_file(bench.path("asked")).expect("removed");
        asked.lines().count()
    };
    assert_eq!(line("create --kdf-memory 64K --kdf-passes 1"), 1);
    let secret = Secret::Passphrase(Passphrase::new(b"secret".to_vec()));
    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    let writer = Archive::open(&bench.path("a.ar7"), &secret, options).expect("a writer");
    let read = || fs::read(bench.path("a.ar7")).expect("the archive");
    let [earlier, _, newest] = [1, 2, 3].map(|change| {
        writer.set_metadata(&[change]).expect("changed");
        writer.commit().expect("committed");
        read()
    });
    // The second copy of the last meta slot was not written any more.
    let slot = if writer.store().current().slot.number % 2 == 1 { 3 } else { 4 };
    drop(writer);
    let mut killed = newest;
    let second = slot * 4096..(slot + 1) * 4096;
    killed[second.clone()].copy_from_slice(&earlier[second]);
    bench.write("a.ar7", &killed);
    assert_eq!(line("receipt"), 1);
    assert!(read() != killed, "a writer has opened it");
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
