//! Each example runs, prints what it says, and leaves no file behind.

use std::env;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The longest one takes 2 s by itself.
const TIME_MAX: Duration = Duration::from_secs(90);

/// Returns the program that cargo builds for an example, next to the folder of the tests.
fn program(name: &str) -> PathBuf {
    let tests = env::current_exe().unwrap();
    let folder = tests.ancestors().nth(2).unwrap().join("examples");
    let program = folder.join(name).with_extension(env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is missing: run cargo build --examples", program.display());
    program
}

/// Runs an example. Returns the lines that it prints.
fn lines_of(name: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program(name));
    command.env("TMPDIR", folder.path()).current_dir(folder.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reading = thread::spawn(move || {
        let mut printed = String::new();
        stdout.read_to_string(&mut printed).unwrap();
        printed
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > TIME_MAX => {
                child.kill().unwrap();
                panic!("{name} is still running after {TIME_MAX:?}");
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    let printed = reading.join().unwrap();
    assert!(status.success(), "{name}: {status}: {printed}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{name} leaves files");
    printed.lines().map(str::to_owned).collect()
}

/// Returns the number at the beginning of a line, and the rest.
fn number_and_rest(line: &str) -> (u64, &str) {
    let (number, rest) = line.split_once(' ').unwrap();
    (number.parse().unwrap(), rest)
}

#[test]
fn quick_start_prints_the_committed_lines() {
    assert_eq!(lines_of("quick_start"), ["first line", "second line"]);
}

#[test]
fn append_log_stores_every_line() {
    let lines = lines_of("append_log");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let (stored, rest) = number_and_rest(line);
    let commits = rest.strip_prefix("lines in ").and_then(|rest| rest.strip_suffix(" commits"));
    let commits: u64 = commits.unwrap().parse().unwrap();
    assert!(stored == 2000 && (1..=stored).contains(&commits), "{line}");
}

#[test]
fn document_store_lists_its_documents() {
    let lines = lines_of("document_store");
    let expected = ["     5 bytes  one", "     5 bytes  three", "     6 bytes  two"];
    assert_eq!(lines, expected);
}

#[test]
fn the_readers_of_shared_check_sums_during_the_commits() {
    let lines = lines_of("shared");
    assert_eq!(lines.len(), 4);
    for line in lines {
        let (checks, rest) = number_and_rest(&line);
        assert!(checks > 0 && rest == "checks during 100 commits", "{line}");
    }
}

#[test]
fn the_readers_of_two_processes_see_commits_of_the_writer() {
    let lines = lines_of("two_processes");
    let number = |line: &String, before: &str| -> Option<u64> {
        line.strip_prefix(before)?.strip_suffix(" commits")?.parse().ok()
    };
    let made: Vec<u64> = lines.iter().filter_map(|line| number(line, "the writer made ")).collect();
    let seen: Vec<u64> = lines.iter().filter_map(|line| number(line, "a reader saw ")).collect();
    assert_eq!((lines.len(), made.len(), seen.len()), (3, 1, 2), "{lines:?}");
    assert!(seen.iter().all(|&seen| seen > 0 && seen <= made[0]), "{lines:?}");
}
