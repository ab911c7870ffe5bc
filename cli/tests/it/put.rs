//! `put`: whatever fails, the old entry stays.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Bench, output, spawn};

#[test]
fn the_output_of_a_command_becomes_the_entry() {
    let bench = Bench::new();
    let put = |arguments: &[&str]| {
        let ran = bench.run([&["put", "a.ar7"], arguments].concat());
        assert_eq!((ran.code, ran.text().as_str()), (0, ""), "{arguments:?}: {}", ran.stderr);
    };
    // The archive does not exist yet.
    put(&["one", "--", "printf", "%s", "first"]);
    assert_eq!(bench.ok("cat a.ar7 one").text(), "first");
    put(&["one", "--force", "--", "sh", "-c", "head -c 9000000 /dev/zero; echo end"]);
    let content = bench.ok("cat a.ar7 one").stdout;
    assert_eq!((content.len(), content.ends_with(b"\0end\n")), (9_000_004, true));
    put(&["empty", "--", "true"]);
    assert_eq!(bench.ok("cat a.ar7 empty").text(), "");
    let document = bench.run(["put", "a.ar7", "two", "--json", "--", "echo", "2"]).text();
    let document: serde_json::Value = serde_json::from_str(&document).expect("a document");
    assert_eq!((&document["name"], &document["bytes"]), (&"two".into(), &2.into()));
    bench.ok("verify a.ar7");
}

#[test]
fn an_input_that_cannot_be_read_is_named_and_leaves_the_old_entry() {
    let bench = Bench::new();
    bench.write("old", "old");
    bench.ok("ingest a.ar7 old");
    let mut command = bench.command();
    command.stdin(fs::File::open(bench.path("")).expect("a directory"));
    let ran = output(command.args(["put", "a.ar7", "old", "--force"]));
    assert_eq!(ran.stderr, "ar7: standard input: Is a directory (os error 21)\n");
    assert_ne!(ran.code, 0);
    assert_eq!(bench.ok("cat a.ar7 old").text(), "old");
}

#[test]
fn a_command_that_fails_leaves_the_old_entry() {
    let bench = Bench::new();
    bench.write("old", "old");
    bench.ok("ingest a.ar7 old");
    let length = fs::metadata(bench.path("a.ar7")).expect("the archive").len();
    for (command, reason) in [
        ("head -c 30000000 /dev/urandom; exit 3", "sh: exit status: 3"),
        ("echo new; kill -9 $$", "sh: signal: 9"),
        ("exit 1", "sh: exit status: 1"),
    ] {
        let ran = bench.run(["put", "a.ar7", "old", "--force", "--", "sh", "-c", command]);
        assert_eq!(ran.code, 1, "{command}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("ar7: {reason}")), "{command}: {}", ran.stderr);
        assert_eq!(bench.ok("cat a.ar7 old").text(), "old", "{command}");
        let after = fs::metadata(bench.path("a.ar7")).expect("the archive").len();
        assert!(after <= length, "{command}: {length} bytes became {after}");
    }
    let ran = bench.run(["put", "a.ar7", "old", "--force", "--", "./missing"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("ar7: ./missing: No such file"), "{}", ran.stderr);
    let ran = bench.run(["put", "a.ar7", "old", "--", "touch", "was-run"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(!bench.path("was-run").exists(), "refused before the command runs");
    assert_eq!(bench.ok("cat a.ar7 old").text(), "old");
    bench.ok("verify a.ar7");
}

/// Otherwise a command that goes on in the background would keep the archive locked.
#[test]
#[cfg(target_os = "linux")]
fn a_command_gets_no_open_file_of_the_archive() {
    let bench = Bench::new();
    let ran = bench.run(["put", "a.ar7", "fds", "--", "ls", "-l", "/proc/self/fd"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let listed = bench.ok("cat a.ar7 fds").text();
    assert!(listed.contains("pipe:") && !listed.contains(".ar7"), "{listed}");
}

#[test]
fn a_signal_ends_the_command_and_leaves_the_archive_unchanged() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let mut command = bench.command();
    // The shell is replaced, so that the number is that of the program which runs.
    let script = "echo $$ > pid; exec cat /dev/zero";
    command.args(["put", "a.ar7", "x", "--", "sh", "-c", script]).stderr(Stdio::piped());
    let child = spawn(&mut command);
    while fs::read_to_string(bench.path("pid")).map_or(true, |text| !text.ends_with('\n')) {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
    let ended = child.wait_with_output().expect("the program ends");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr, "ar7: a.ar7: interrupted: the archive is unchanged\n");
    let pid = fs::read_to_string(bench.path("pid")).expect("a number");
    let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process");
    assert!(rustix::process::test_kill_process(pid).is_err(), "the command has ended");
    bench.fails("cat a.ar7 x", 1, "no entry x");
}

#[test]
fn a_closed_standard_input_is_an_error_and_an_empty_one_is_an_empty_entry() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let run = |redirection: &str| {
        let mut command = std::process::Command::new("sh");
        let script = format!("\"$AR7\" put a.ar7 x {redirection}");
        command.args(["-c", &script]).env("AR7", env!("CARGO_BIN_EXE_ar7"));
        output(command.env("AR7_KEY_FILE", "key").current_dir(bench.path("")))
    };
    let closed = run("<&-");
    assert_eq!(closed.code, 1, "{}", closed.stderr);
    assert!(closed.stderr.starts_with("ar7: standard input is closed"), "{}", closed.stderr);
    bench.fails("cat a.ar7 x", 1, "no entry x");
    assert_eq!(run("</dev/null").code, 0);
    assert_eq!(bench.ok("cat a.ar7 x").text(), "");
}

#[test]
fn an_entry_that_is_replaced_keeps_neither_links_nor_attributes() {
    let bench = Bench::new();
    bench.write("d/one", "old");
    fs::hard_link(bench.path("d/one"), bench.path("d/two")).expect("a link");
    std::os::unix::fs::symlink("one", bench.path("d/link")).expect("a link");
    bench.ok("ingest a.ar7 d");
    for name in ["one", "link"] {
        assert_eq!(bench.with_input(&format!("put a.ar7 d/{name} --force"), b"new").code, 0);
        assert_eq!(bench.ok(&format!("cat a.ar7 d/{name}")).text(), "new");
    }
    assert_eq!(bench.ok("cat a.ar7 d/two").text(), "old");
    bench.fails("put a.ar7 d --force", 1, "entry d: expected a file, found a directory");
    bench.ok("verify a.ar7");
}

/// A limit on the file size is like a full disk. The command then neither writes nor ends.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_a_command_that_waits() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let length = fs::metadata(bench.path("a.ar7")).expect("the archive").len();
    let mut command = std::process::Command::new("prlimit");
    command.arg(format!("--fsize={0}:{0}", length + (6 << 20))).arg(env!("CARGO_BIN_EXE_ar7"));
    command.env("AR7_KEY_FILE", "key").current_dir(bench.path(""));
    // Much output, and then none for as long as the command lives.
    let script = "head -c 64000000 /dev/zero; exec sleep 60";
    let begun = std::time::Instant::now();
    let ran = output(command.args(["put", "a.ar7", "x", "--", "sh", "-c", script]));
    assert!(begun.elapsed().as_secs() < 50, "the command was not ended");
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert_eq!(fs::metadata(bench.path("a.ar7")).expect("the archive").len(), length);
    bench.fails("cat a.ar7 x", 1, "no entry x");
}
