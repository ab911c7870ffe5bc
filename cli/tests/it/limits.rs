//! The program when it cannot start threads, write to standard error or standard output, or open many files.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::process::Command;

use crate::common::{Bench, output};

/// Returns the number of a user and group that no other process has, because the limit counts all processes of a user.
fn unused_user() -> u32 {
    10_000 + std::process::id() % 50_000
}

/// Returns a command that limits the program to this number of processes and threads. The superuser is exempt from the
/// limit, so the program runs as another user.
fn with_threads(bench: &Bench, most: u32) -> Command {
    let program = bench.path("ar7");
    if !program.exists() {
        // The other user may not have access to the build directory.
        fs::copy(env!("CARGO_BIN_EXE_ar7"), &program).expect("a copy of the program");
    }
    let limit = format!("--nproc={most}:{most}");
    let mut command;
    if rustix::process::geteuid().is_root() {
        for entry in walk(bench) {
            chown(entry, Some(unused_user()), Some(unused_user())).expect("another owner");
        }
        let user = unused_user().to_string();
        command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit"]);
    } else {
        command = Command::new("prlimit");
    }
    command.arg(limit).arg(program).env("AR7_KEY_FILE", "key").current_dir(bench.path(""));
    command
}

fn walk(bench: &Bench) -> Vec<std::path::PathBuf> {
    let mut found = vec![bench.path("")];
    let mut next = 0;
    while let Some(path) = found.get(next) {
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("a directory");
            found.extend(entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>());
        }
        next += 1;
    }
    found
}

#[test]
#[cfg(target_os = "linux")]
fn without_threads_a_command_succeeds_or_fails_with_one_line() {
    let bench = Bench::new();
    bench.write("src/large", vec![5; 9 << 20]);
    for number in 0..40 {
        bench.write(&format!("src/{number:02}"), [number; 5000]);
    }
    bench.ok("ingest whole.ar7 src");
    bench.ok("create a.ar7");
    for most in [1, 2, 3, 5] {
        for line in [
            format!("ingest a.ar7 src --jobs 8 --into {most}"),
            format!("put a.ar7 put{most}"),
            "verify whole.ar7".to_owned(),
            "cat whole.ar7 src/large".to_owned(),
            format!("extract whole.ar7 --to out{most}"),
        ] {
            let mut command = with_threads(&bench, most);
            let ran = output(command.args(line.split(' ')));
            match ran.code {
                0 => assert!(!ran.stderr.contains("ar7: "), "{line}: {}", ran.stderr),
                1 => assert_eq!(ran.stderr.lines().count(), 1, "{line}: {}", ran.stderr),
                code => panic!("{line}, {most} threads: exit {code}: {}", ran.stderr),
            }
            // An ordinary user who runs this test may already have more processes than that.
            if rustix::process::geteuid().is_root() && most >= 3 && line.starts_with("ingest") {
                assert_eq!(ran.code, 0, "{line}: a walk and one reader are enough: {}", ran.stderr);
            }
            if ran.code == 0 && line.starts_with("ingest") {
                let listed = bench.ok(&format!("ls a.ar7 {most}/src")).text();
                assert_eq!(listed.lines().count(), 41, "{line}");
            }
            if ran.code == 0 && line.starts_with("extract") {
                let large = fs::read(bench.path(&format!("out{most}/src/large")));
                assert_eq!(large.expect("restored").len(), 9 << 20);
            }
        }
        bench.ok("verify a.ar7");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_message_that_cannot_be_written_does_not_affect_the_work() {
    let bench = Bench::new();
    for number in 0..50 {
        bench.write(&format!("src/{number:02}"), [number; 500]);
    }
    let run = |line: &str| {
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let mut command = bench.command();
        command.args(line.split(' ')).stderr(full);
        let mut child = crate::common::spawn(&mut command);
        child.wait().expect("the program ends").code()
    };
    assert_eq!(run("ingest a.ar7 src"), Some(0));
    assert_eq!(bench.ok("ls a.ar7 src").text().lines().count(), 50);
    assert_eq!(run("extract a.ar7 --to out"), Some(0));
    assert_eq!(fs::read_dir(bench.path("out/src")).expect("a directory").count(), 50);
    // A failed command keeps its exit code.
    assert_eq!(run("cat a.ar7 none"), Some(1));
    assert_eq!(run("extract a.ar7 --to out"), Some(1));
    assert_eq!(run("--nothing"), Some(2));
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_a_failure() {
    let bench = Bench::new();
    bench.write("src/file", "1");
    bench.ok("ingest a.ar7 src");
    for line in ["--help", "--version", "ls --help", "ls a.ar7", "cat a.ar7 src/file", "info a.ar7"]
    {
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let mut command = bench.command();
        command.args(line.split(' ')).stdout(full).stderr(std::process::Stdio::piped());
        let child = crate::common::spawn(&mut command);
        let ran = child.wait_with_output().expect("the program ends");
        let message = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(7), "{line}: {message}");
        assert_eq!(
            message, "ar7: standard output: No space left on device (os error 28)\n",
            "{line}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_command_stops_as_soon_as_its_events_cannot_be_written() {
    let bench = Bench::new();
    for number in 0..300 {
        bench.write(&format!("src/{number}"), "1");
    }
    bench.ok("ingest a.ar7 src");
    let full = File::options().write(true).open("/dev/full").expect("a device");
    let mut command = bench.command();
    command.args("extract a.ar7 --to out --json-lines".split(' ')).stdout(full);
    command.stderr(std::process::Stdio::piped());
    let ran = crate::common::spawn(&mut command).wait_with_output().expect("the program ends");
    assert_eq!(ran.status.code(), Some(7), "{}", String::from_utf8_lossy(&ran.stderr));
    let restored = fs::read_dir(bench.path("out/src")).map_or(0, Iterator::count);
    assert!(restored < 100, "{restored} of 300");
}

/// Extraction raises the limit and keeps a directory open for each level. Ingest closes some at a low limit.
#[test]
#[cfg(target_os = "linux")]
fn a_deep_tree_is_stored_and_restored_under_a_low_limit_of_open_files() {
    let bench = Bench::new();
    let path = "d/".repeat(100);
    bench.write(&format!("src/{path}file"), "content");
    for (limit, line) in [("40:40", "ingest a.ar7 src"), ("40:1000", "extract a.ar7 --to out")] {
        let mut command = Command::new("prlimit");
        command.args([&format!("--nofile={limit}"), env!("CARGO_BIN_EXE_ar7")]);
        command.args(line.split(' ')).env("AR7_KEY_FILE", "key").current_dir(bench.path(""));
        let ran = output(&mut command);
        assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
    }
    let content = fs::read(bench.path(&format!("out/src/{path}file"))).expect("restored");
    assert_eq!(content, b"content");
}
