//! `rm --wipe`, `wipe-free` and `shred`.

use std::collections::HashSet;
use std::fs;

use crate::common::Bench;

fn blocks(bench: &Bench) -> HashSet<Vec<u8>> {
    let bytes = fs::read(bench.path("a.ar7")).expect("the archive");
    bytes.chunks(4096).skip(8).map(<[u8]>::to_vec).collect()
}

#[test]
fn removed_entries_are_overwritten_on_request() {
    let bench = Bench::new();
    bench.write("kept", vec![b'k'; 100_000]);
    bench.ok("ingest --compression none a.ar7 kept");
    let before = blocks(&bench);
    bench.write("gone", vec![b'g'; 1_000_000]);
    bench.ok("ingest --compression none a.ar7 gone");
    let gone: HashSet<Vec<u8>> = blocks(&bench).difference(&before).cloned().collect();
    let remaining = |bench: &Bench| blocks(bench).intersection(&gone).count();
    assert!(remaining(&bench) >= 250);
    fs::copy(bench.path("a.ar7"), bench.path("b.ar7")).expect("a copy");
    let wiped = bench.ok("rm a.ar7 gone --wipe").text();
    assert!(wiped.ends_with(" free blocks wiped\n"), "{wiped}");
    assert_eq!(remaining(&bench), 0);
    fs::rename(bench.path("b.ar7"), bench.path("a.ar7")).expect("the copy");
    bench.ok("rm a.ar7 gone");
    bench.ok("wipe-free a.ar7 --quiet");
    assert_eq!(remaining(&bench), 0);
    bench.ok("verify a.ar7");
    assert_eq!(bench.ok("cat a.ar7 kept").stdout, vec![b'k'; 100_000]);
}

#[test]
fn shred_needs_a_confirmation_and_destroys_only_the_headers() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    bench.ok("header export a.ar7 header");
    let before = fs::read(bench.path("a.ar7")).expect("the archive");
    bench.fails("shred a.ar7", 2, "not confirmed");
    let ran = bench.with_input("shred a.ar7", b"yes\n");
    assert_eq!(ran.code, 2, "an answer from a pipe is no confirmation");
    assert!(fs::read(bench.path("a.ar7")).expect("the archive") == before);
    bench.fails("shred key --yes", 4, "not an ar7 archive");
    assert_eq!(fs::read(bench.path("key")).expect("the key"), [7; 32]);
    bench.fails("shred missing --yes", 1, "missing: open");
    bench.ok("shred a.ar7 --yes");
    bench.fails("ls a.ar7", 4, "not an ar7 archive");
    let after = fs::read(bench.path("a.ar7")).expect("the archive");
    let same = |block: usize| after[block * 4096..][..4096] == before[block * 4096..][..4096];
    let changed: Vec<usize> = (0..after.len() / 4096).filter(|&block| !same(block)).collect();
    assert_eq!(changed, [0, 7]);
}
