//! Keys of an archive are added, listed, changed and removed; a header is exported and imported.

use std::fs;

use crate::common::{Bench, Ran, output};

/// The lowest costs, which take little time.
const CHEAP: &str = "--kdf-memory 64KiB --kdf-passes 1";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write_key("second", [8; 32]);
    bench.write_key("third", [9; 32]);
    bench.ok("create a.ar7 --label first");
    bench.write("file", "content");
    bench.ok("ingest a.ar7 file");
    bench
}

/// Runs a line with passphrases in the environment, and no key file.
fn with_passphrases(bench: &Bench, line: &str, present: &str, new: &str) -> Ran {
    let mut command = bench.command();
    command.env_remove("AR7_KEY_FILE");
    command.env("AR7_PASSPHRASE", present).env("AR7_NEW_PASSPHRASE", new);
    output(command.args(line.split_whitespace()))
}

fn assert_opens(bench: &Bench, key: &str, opens: bool) {
    let ran = bench.line(&format!("--key-file {key} cat a.ar7 file"));
    assert_eq!(ran.code, if opens { 0 } else { 3 }, "{key}: {}", ran.stderr);
    assert_eq!(ran.text() == "content", opens, "{key}");
}

#[test]
fn a_key_file_opens_from_its_addition_to_its_removal() {
    let bench = bench();
    let added = bench.ok("key add a.ar7 --new-key-file second --label laptop");
    assert_eq!(added.text(), "key slot 1 holds the new key\n");
    let listed = bench.ok("--key-file second key list a.ar7").text();
    assert_eq!(listed, "0: key file, \"first\"\n1: key file, \"laptop\" (in use)\n");
    assert_opens(&bench, "key", true);
    // Without a slot number, `key change` changes the key in use. Without --label, it keeps the label.
    bench.ok("--key-file second key change a.ar7 --new-key-file third");
    assert_opens(&bench, "second", false);
    assert_opens(&bench, "third", true);
    let listed = bench.ok("--key-file third key list a.ar7").text();
    assert_eq!(listed, "0: key file, \"first\"\n1: key file, \"laptop\" (in use)\n");
    bench.ok("--key-file third key change a.ar7 --new-key-file third --label lap");
    assert!(bench.ok("--key-file third key list a.ar7").text().contains("1: key file, \"lap\""));
    let renamed = bench.ok("--key-file third key label a.ar7 desk");
    assert_eq!(renamed.text(), "key slot 1 has the new label\n");
    bench.ok("--key-file third key remove a.ar7 0");
    assert_opens(&bench, "key", false);
    let listed = bench.ok("--key-file third key list a.ar7").text();
    assert_eq!(listed, "1: key file, \"desk\" (in use)\n");
    let json = bench.ok("--key-file third key list a.ar7 --json").text();
    let json: serde_json::Value = serde_json::from_str(&json).expect("one document");
    assert_eq!((&json["opened"], &json["revision"]), (&1.into(), &6.into()));
    assert_eq!(json["key_slots"][0]["label"], "desk");
    bench.ok("--key-file third verify a.ar7");
}

#[test]
fn a_passphrase_opens_from_its_addition_to_its_removal() {
    let bench = bench();
    let new = |line: &str| {
        let mut command = bench.command();
        command.env("AR7_NEW_PASSPHRASE", "one");
        output(command.args(line.split_whitespace()))
    };
    let added = new(&format!("key add a.ar7 {CHEAP} --label phrase"));
    assert_eq!((added.code, added.text().as_str()), (0, "key slot 1 holds the new key\n"));
    let opened = with_passphrases(&bench, "cat a.ar7 file", "one", "");
    assert_eq!((opened.code, opened.text().as_str()), (0, "content"));
    let changed = with_passphrases(&bench, &format!("key change a.ar7 {CHEAP}"), "one", "two");
    assert_eq!(changed.code, 0, "{}", changed.stderr);
    let codes = ["one", "two"].map(|text| with_passphrases(&bench, "ls a.ar7", text, "").code);
    assert_eq!(codes, [3, 0]);
    let listed = bench.ok("key list a.ar7").text();
    assert!(listed.contains("1: passphrase, Argon2id 64 KiB, 1 pass, 1 lane, \"phrase\"\n"));
    // The sum with the first passphrase exceeds the limit.
    let ran = new("key add a.ar7 --kdf-memory 1GiB --kdf-passes 1");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("expected 0 to 1048576, found 1048640"), "{}", ran.stderr);
}

#[test]
fn an_impossible_change_of_keys_is_an_error() {
    let bench = bench();
    bench.fails("key remove a.ar7 0", 2, "key slot 0 holds the only key");
    bench.fails("key remove a.ar7 3", 2, "key slot 3 holds no key");
    bench.fails("key change a.ar7 9 --new-key-file second", 2, "key slot 9 holds no key");
    bench.fails("--key-file second key list a.ar7", 3, "wrong key");
    bench.fails("key add a.ar7", 2, "no key");
    let label = "x".repeat(65);
    bench.fails(&format!("key add a.ar7 --new-key-file second --label {label}"), 2, "label");
    bench.fails("key add a.ar7 --new-key-file missing", 1, "missing: open");
    for _ in 1..8 {
        bench.ok("key add a.ar7 --new-key-file second -q");
    }
    bench.fails("key add a.ar7 --new-key-file second", 1, "number of key slots is at most 8");
    assert_eq!(bench.ok("key list a.ar7").text().lines().count(), 8);
}

/// A limit on the file size allows the write of the first copy of the header, but not of the second.
#[test]
#[cfg(target_os = "linux")]
fn a_key_change_that_fails_late_says_that_either_key_may_be_valid() {
    let bench = bench();
    let second_copy = 7 * 4096;
    let mut command = std::process::Command::new("prlimit");
    command.arg(format!("--fsize={second_copy}:{second_copy}"));
    command.arg(env!("CARGO_BIN_EXE_ar7")).current_dir(bench.path(""));
    command.env_remove("AR7_PASSPHRASE").env("AR7_KEY_FILE", "key");
    let ran = output(command.args(["key", "change", "a.ar7", "--new-key-file", "second"]));
    assert_eq!((ran.code, ran.text().as_str()), (7, ""), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let says = "ar7: a.ar7: the key change did not finish: keep the old key and the new one, \
                either may be valid (";
    assert!(ran.stderr.starts_with(says), "{}", ran.stderr);
    // The first copy is newer, so its keys are valid. The next writer completes the change.
    assert_opens(&bench, "key", false);
    assert_opens(&bench, "second", true);
    bench.ok("--key-file second mkdir a.ar7 new");
    bench.ok("--key-file second verify a.ar7");
}

#[test]
fn an_exported_header_opens_the_archive_after_its_import() {
    let bench = bench();
    bench.ok("header export a.ar7 header");
    assert_eq!(fs::read(bench.path("header")).expect("exported").len(), 4096);
    bench.fails("header export a.ar7 header", 1, "header: create");
    let good = fs::read(bench.path("a.ar7")).expect("the archive");
    let mut destroyed = good.clone();
    destroyed[..4096].fill(0);
    destroyed[7 * 4096..8 * 4096].fill(0);
    bench.write("a.ar7", &destroyed);
    bench.fails("ls a.ar7", 4, "not an ar7 archive");
    bench.fails("--key-file second header import a.ar7 header", 3, "header: wrong key");
    assert_eq!(fs::read(bench.path("a.ar7")).expect("the archive"), destroyed, "unchanged");
    let imported = bench.ok("header import a.ar7 header").text();
    assert_eq!(imported, "the header has revision 1\n");
    assert!(fs::read(bench.path("a.ar7")).expect("the archive") == good);
    bench.ok("verify a.ar7");
    // A key change makes the exported header an older one.
    bench.ok("key add a.ar7 --new-key-file second");
    bench.fails("header import a.ar7 header", 4, "header revision: expected 2, found 1");
    assert_opens(&bench, "second", true);
    let before = fs::read(bench.path("a.ar7")).expect("the archive");
    let imported = bench.ok("header import a.ar7 header --older").text();
    assert_eq!(imported, "the header has revision 3, with the keys of the older one\n");
    // A commit names it, so the header before it cannot be put back.
    let after = fs::read(bench.path("a.ar7")).expect("the archive");
    let mut put_back = after.clone();
    for block in [0, 7 * 4096] {
        put_back[block..block + 4096].copy_from_slice(&before[block..block + 4096]);
    }
    bench.write("a.ar7", &put_back);
    bench.fails("ls a.ar7", 4, "header revision: expected 3, found 2");
    bench.write("a.ar7", &after);
    assert!(bench.ok("info a.ar7").text().contains("none needed"));
    assert_opens(&bench, "second", false);
    assert_opens(&bench, "key", true);
    bench.ok("create b.ar7");
    bench.fails("header import b.ar7 header --older", 4, "meta slot");
    bench.fails("header import a.ar7 key", 2, "length of an exported header");
}
