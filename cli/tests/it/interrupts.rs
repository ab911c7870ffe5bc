//! A signal that asks the program to end: the program reports what it completed, and the archive is intact.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Bench, Ran, spawn};

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("a signal");
}

/// Waits until the program has installed its handler for SIGINT.
#[cfg(target_os = "linux")]
fn wait_until_caught(child: &Child) {
    const INT: u64 = 1 << (2 - 1);
    let is_caught = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask of signals");
        Some(caught & INT != 0)
    };
    while !is_caught().expect("the program runs") {
        std::thread::yield_now();
    }
}

/// Runs a line, and interrupts it as soon as its signal handler is installed.
#[cfg(target_os = "linux")]
fn interrupted(bench: &Bench, line: &str) -> Ran {
    let mut command = bench.command();
    command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(&mut command);
    wait_until_caught(&child);
    interrupt(&child);
    Ran::new(child.wait_with_output().expect("the program ends"))
}

/// Repeats a line that changes nothing until the signal arrives before it ends. A busy machine may deliver it late.
#[cfg(target_os = "linux")]
fn interrupted_in_time(bench: &Bench, line: &str) -> Ran {
    let mut runs = (0..100).map(|_| interrupted(bench, line));
    runs.find(|ran| ran.code == 1).expect("a run that is interrupted before it ends")
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_verify_reports_how_much_it_checked() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    bench.with_input("put a.ar7 big", &vec![7; 32 << 20]);
    let ran = interrupted_in_time(&bench, "verify a.ar7");
    assert_eq!((ran.code, ran.text().as_str()), (1, ""), "{}", ran.stderr);
    let progress = ran.stderr.strip_prefix("ar7: a.ar7: interrupted: ").expect("the reason");
    assert!(progress.ends_with(" blocks checked, 0 findings so far\n"), "{progress}");
    let ran = interrupted_in_time(&bench, "verify a.ar7 --json");
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("a document");
    assert_eq!(document["interrupted"], true);
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_rekey_reports_its_progress_and_resumes_when_run_again() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    bench.with_input("put a.ar7 big", &vec![7; 32 << 20]);
    // Before the first block.
    let ran = interrupted(&bench, "rekey a.ar7");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "ar7: a.ar7: interrupted: the archive is unchanged\n")
    );
    bench.ok("mkdir a.ar7 before");
    // In the middle: a rekey begins by changing the key slots in the header.
    let header = || std::fs::read(bench.path("a.ar7")).map(|bytes| bytes[..4096].to_vec());
    let before = header().expect("the header");
    let mut command = bench.command();
    command.args(["rekey", "a.ar7"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(&mut command);
    while header().expect("the header") == before {
        std::thread::yield_now();
    }
    interrupt(&child);
    let ran = Ran::new(child.wait_with_output().expect("the program ends"));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let progress = ran.stderr.strip_prefix("ar7: a.ar7: interrupted: ").expect("the reason");
    assert!(
        progress.ends_with(" the archive is read-only until rekey is run again\n"),
        "{progress}"
    );
    bench.fails("mkdir a.ar7 new", 1, "rekey");
    bench.ok("verify -q a.ar7");
    bench.ok("rekey a.ar7");
    bench.ok("mkdir a.ar7 new");
    assert_eq!(bench.ok("cat a.ar7 big").stdout, vec![7; 32 << 20]);
}

#[test]
fn an_interrupted_ingest_keeps_its_last_checkpoint() {
    let bench = Bench::new();
    for number in 0..1500 {
        bench.write(&format!("src/{number:04}"), vec![5; 20_000]);
    }
    let mut command = bench.command();
    command.args(["ingest", "--checkpoint", "1M", "a.ar7", "src"]).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let first = lines.next().expect("a checkpoint").expect("text");
    assert!(first.starts_with("checkpoint 1: "), "{first}");
    interrupt(&child);
    let last = lines.map(|line| line.expect("text")).last().expect("the summary");
    assert_eq!(child.wait().expect("the program ends").code(), Some(1));
    let summary = last.strip_prefix("ar7: a.ar7: interrupted: ").expect("the reason");
    assert!(summary.contains(" bytes are in the archive, as of checkpoint "), "{summary}");
    let entries: usize =
        summary.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert_eq!(bench.ok("ls -R a.ar7").text().lines().count(), entries);
    bench.ok("verify a.ar7");
    bench.ok("ingest a.ar7 src");
    assert_eq!(bench.ok("ls -R a.ar7").text().lines().count(), 1501);
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_extraction_reports_how_much_it_restored() {
    let bench = Bench::new();
    for number in 0..300 {
        bench.write(&format!("src/{number}"), vec![5; 20_000]);
    }
    bench.ok("ingest a.ar7 src");
    // Interrupted as soon as there is a file. A busy machine may deliver the signal after the last one.
    let mut runs = (0..100).map(|number| {
        let mut command = bench.command();
        command.args(["extract", "a.ar7", "--to", &number.to_string()]);
        let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let (first, begin) = (bench.path(&format!("{number}/src/0")), Instant::now());
        while !first.exists() && begin.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        interrupt(&child);
        Ran::new(child.wait_with_output().expect("the program ends"))
    });
    let ran = runs.find(|ran| ran.code != 0).expect("a run that is interrupted before it ends");
    let progress = ran.stderr.strip_prefix("ar7: a.ar7: interrupted: ").expect("the reason");
    let words: Vec<&str> = progress.split_whitespace().collect();
    let [entries, _, bytes, "bytes", "restored"] = words[..] else { panic!("{progress}") };
    let (entries, bytes): (u64, u64) = (entries.parse().unwrap(), bytes.parse().unwrap());
    assert!(entries <= 300 && (20_000..=6_000_000).contains(&bytes), "{progress}");
}

#[test]
fn an_interrupted_put_leaves_the_archive_unchanged() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let mut command = bench.command();
    command.args(["put", "a.ar7", "x"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    let mut input = child.stdin.take().expect("a pipe");
    // The pipe cannot hold this, so once it is written, the program is storing it.
    input.write_all(&vec![0; 20 << 20]).expect("written");
    interrupt(&child);
    let ran = Ran::new(child.wait_with_output().expect("the program ends"));
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "ar7: a.ar7: interrupted: the archive is unchanged\n")
    );
    bench.fails("cat a.ar7 x", 1, "no entry x");
    bench.ok("verify a.ar7");
    drop(input);
}
