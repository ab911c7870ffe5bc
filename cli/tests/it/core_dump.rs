//! The program leaves no core dump when a signal kills it, even if other programs do.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::common::{Bench, spawn};
use rustix::process::{Pid, Signal, kill_process};

/// A shell line that raises the limit of core dumps as far as the system allows, then runs the program.
const ALLOWED: &str = "ulimit -c unlimited 2> /dev/null; exec \"$@\"";

fn start(bench: &Bench, program: &[&str]) -> Child {
    let mut command = Command::new("sh");
    command.current_dir(bench.path("")).env("AR7_KEY_FILE", "key");
    command.args(["-c", ALLOWED, "sh"]).args(program);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn(&mut command)
}

/// Kills a program after it has read its first input, so it is running. Returns its exit status.
fn killed_while_reading(mut child: Child, signal: Signal) -> ExitStatus {
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&vec![1; 1 << 20]).expect("the program reads");
    // The program may survive the first SIGSEGV: if it is not a stack overflow, the runtime resets the handler and
    // returns.
    let status = loop {
        kill_process(Pid::from_child(&child), signal).expect("the program was not waited for");
        sleep(Duration::from_millis(20));
        if let Some(status) = child.try_wait().expect("the program") {
            break status;
        }
    };
    assert_eq!(status.signal(), Some(signal.as_raw()));
    status
}

fn cores(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.path("")).expect("the directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("core")).collect()
}

#[test]
fn a_crash_leaves_no_core_dump() {
    let mut dumps_are_made = false;
    for signal in [Signal::ABORT, Signal::SEGV] {
        let other = Bench::new();
        dumps_are_made |= killed_while_reading(start(&other, &["cat"]), signal).core_dumped();
        let bench = Bench::new();
        bench.ok("create a.ar7");
        let program = env!("CARGO_BIN_EXE_ar7");
        let status =
            killed_while_reading(start(&bench, &[program, "put", "a.ar7", "name"]), signal);
        assert!(!status.core_dumped(), "{signal:?}");
        assert_eq!(cores(&bench), Vec::<String>::new(), "{signal:?}");
    }
    if !dumps_are_made {
        println!("this system writes no core dumps, so the test proves nothing");
    }
}

#[test]
fn another_process_of_the_user_cannot_inspect_the_program() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let mut command = bench.without_privileges();
    command.args(["put", "a.ar7", "name"]).env("AR7_KEY_FILE", "key");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawn(&mut command);
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&vec![1; 1 << 20]).expect("the program reads");
    let mut observer = Command::new("sh");
    if rustix::process::geteuid().is_root() {
        observer = Command::new("setpriv");
        observer.args(["--bounding-set=-all", "--inh-caps=-all", "sh"]);
    }
    observer.args(["-c", &format!("cat /proc/{}/environ", child.id())]);
    observer.stdout(Stdio::piped()).stderr(Stdio::null());
    let seen = spawn(&mut observer).wait_with_output().expect("the shell ends");
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "");
    assert!(!seen.status.success());
    drop(input);
    assert!(child.wait().expect("the program ends").success());
}
