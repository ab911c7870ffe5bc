//! `rekey`, alone and after a kill.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Bench, spawn};

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("tree/file", vec![b'x'; 12_000_000]);
    bench.write("tree/other", "other");
    bench.ok("ingest a.ar7 tree");
    bench
}

fn assert_whole(bench: &Bench) {
    bench.ok("verify a.ar7 -q --io map");
    assert_eq!(bench.ok("cat a.ar7 tree/file").stdout, vec![b'x'; 12_000_000]);
}

#[test]
fn rekey_seals_every_block_under_the_new_master_key() {
    let bench = bench();
    bench.ok("header export a.ar7 header");
    bench.write("receipt", bench.ok("receipt a.ar7").stdout);
    bench.write_key("second", [8; 32]);
    bench.ok("key add a.ar7 --new-key-file second");
    bench.fails("rekey a.ar7", 2, "a rekey would remove the archive's other keys (1)");
    let before = fs::read(bench.path("a.ar7")).expect("the archive");
    let summary = bench.ok("rekey a.ar7 --drop-other-keys").text();
    assert!(
        summary.ends_with(
            "blocks are sealed under the new master key; the old one opens none of them\n"
        ),
        "{summary}"
    );
    let after = fs::read(bench.path("a.ar7")).expect("the archive");
    let same = |block: usize| after[block * 4096..][..4096] == before[block * 4096..][..4096];
    assert_eq!((0..after.len().min(before.len()) / 4096).filter(|&block| same(block)).count(), 0);
    assert_whole(&bench);
    bench.ok("verify a.ar7 --receipt receipt");
    bench.fails("--key-file second ls a.ar7", 3, "wrong key");
    bench.fails("header import a.ar7 header --older", 4, "meta slot");
    assert!(!bench.ok("info a.ar7").text().contains("rekey"));
    assert_whole(&bench);
}

#[test]
fn rekey_continues_after_a_kill() {
    let bench = bench();
    let mut interrupted = 0;
    for milliseconds in [60, 90, 120, 150, 200, 300, 400] {
        let mut command = bench.command();
        command.args(["rekey", "a.ar7", "-q"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn(&mut command);
        std::thread::sleep(Duration::from_millis(milliseconds));
        // The program may already have ended.
        let _ = child.kill();
        child.wait().expect("the program ends");
        assert_whole(&bench);
        let info = bench.ok("info a.ar7").text();
        if info.contains("rekey          in progress: ") {
            interrupted += 1;
            bench.fails("mkdir a.ar7 new", 1, "a rekey is in progress");
            bench.fails("key label a.ar7 new", 1, "a rekey is in progress");
        }
    }
    println!("{interrupted} kills left a rekey in progress");
    bench.ok("rekey a.ar7");
    assert!(!bench.ok("info a.ar7").text().contains("in progress"));
    assert_whole(&bench);
    bench.ok("mkdir a.ar7 new");
}
