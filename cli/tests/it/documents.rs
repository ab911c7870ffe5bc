//! JSON documents, completions, the manual, and lines of progress.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Bench, spawn};

#[test]
fn every_command_that_prints_text_prints_one_document_instead() {
    let bench = Bench::new();
    bench.write_key("second", [8; 32]);
    bench.write("src/file", "content");
    let document = |line: &str| -> Value {
        let ran = bench.ok(&format!("{line} --json"));
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    assert!(document("create a.ar7")["id"].is_string());
    bench.ok("ingest a.ar7 src");
    assert_eq!(document("key add a.ar7 --new-key-file second")["key_slot"], 1);
    assert_eq!(document("key change a.ar7 1 --new-key-file second")["key_slot"], 1);
    assert_eq!(document("key label a.ar7 desk")["key_slot"], 0);
    assert_eq!(document("key list a.ar7")["key_slots"][0]["label"], "desk");
    assert_eq!(document("key remove a.ar7 1")["key_slot"], 1);
    assert_eq!(document("header export a.ar7 header")["revision"], 5);
    assert_eq!(document("header import a.ar7 header")["revision"], 5);
    assert_eq!(document("info a.ar7")["names"], 2);
    assert_eq!(document("verify a.ar7")["counts"]["names"], 2);
    let receipt = document("receipt a.ar7")["receipt"].to_string();
    assert!(receipt.contains("ar7-receipt-1 "), "{receipt}");
    assert_eq!(document("compact a.ar7")["counts"]["damaged"], 0);
    assert!(document("wipe-free a.ar7")["wiped"].is_u64());
    assert_eq!(document("rekey a.ar7")["left"], 0);
    assert_eq!(document("rm a.ar7 src/file")["removed"], 1);
    assert_eq!(document("shred a.ar7 --yes")["shredded"], true);
    for line in ["cat a.ar7 src/file", "keygen new", "completions bash"] {
        bench.fails(&format!("{line} --json"), 2, "this command prints no document");
    }
    assert!(!bench.path("new").exists());
}

#[test]
fn the_document_of_a_tree_has_the_number_of_items_of_each_list() {
    let bench = Bench::new();
    bench.write("src/file", "content");
    let document = |line: &str, code: i32| -> Value {
        let ran = bench.line(&format!("{line} --json"));
        assert_eq!(ran.code, code, "{line}: {}", ran.stderr);
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    let check = |document: &Value, list: &str, count: usize| {
        assert_eq!(document[list].as_array().map(Vec::len), Some(count), "{document}");
        assert_eq!(document[format!("{list}_count")], count, "{document}");
    };
    let stored = document("ingest a.ar7 src none", 8);
    for (list, count) in [("skipped", 0), ("changed", 0), ("unread", 1), ("attributes", 0)] {
        check(&stored, list, count);
    }
    bench.write("src/file", "other");
    let compared = document("diff a.ar7 src", 1);
    check(&compared, "differences", 2);
    check(&compared, "unread", 0);
    check(&document("extract a.ar7 --to out src none", 1), "not_restored", 1);
}

#[test]
fn verify_prints_a_document_in_each_line() {
    let bench = Bench::new();
    bench.write("file", "content");
    bench.ok("ingest a.ar7 file");
    let text = bench.ok("verify a.ar7 --json-lines").text();
    let last: Value = serde_json::from_str(text.trim()).expect("one line");
    assert_eq!(last["counts"]["names"], 1);
}

#[test]
fn completions_and_manual_name_every_command() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.ok(&format!("completions {shell}")).text();
        assert!(script.contains("wipe-free") && script.contains("passphrase-file"), "{shell}");
    }
    bench.ok("man pages/man1");
    let pages = fs::read_dir(bench.path("pages/man1")).expect("a directory");
    let pages: Vec<String> = pages
        .map(|page| page.expect("a page").file_name().to_string_lossy().into_owned())
        .collect();
    for page in ["ar7.1", "ar7-ingest.1", "ar7-key-add.1", "ar7-find.1"] {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
    let page = fs::read_to_string(bench.path("pages/man1/ar7-put.1")).expect("a page");
    assert!(page.contains("pg_dump shop"), "{page}");
}

#[test]
fn without_a_terminal_a_line_of_progress_is_printed_at_every_interval() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    for (options, prints) in [(&["--progress", "1"][..], true), (&["--progress", "1", "-q"], false)]
    {
        let mut command = bench.command();
        command.args(["put", "a.ar7", "x", "--force"]).args(options);
        let mut child = spawn(command.stdin(Stdio::piped()).stderr(Stdio::piped()));
        let mut input = child.stdin.take().expect("a pipe");
        for _ in 0..4 {
            input.write_all(&[7; 1000]).expect("written");
            std::thread::sleep(Duration::from_millis(600));
        }
        drop(input);
        let ended = child.wait_with_output().expect("the program ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{stderr}");
        assert_eq!(stderr.starts_with("progress: "), prints, "{stderr}");
        assert_eq!(stderr.contains("/s, "), prints, "{stderr}");
    }
}
