//! The program on a terminal.

use std::thread;
use std::time::Duration;

use rexpect::session::{PtySession, spawn_command};

use crate::common::{Bench, STARTING};

const PASSPHRASE: &str = "correct horse";

/// How long to wait for output of the program.
const TIMEOUT_MS: u64 = 60_000;

/// Longer than the interval at which a progress bar is drawn.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts a command on a new terminal, without a key.
fn start(bench: &Bench, line: &str) -> PtySession {
    let mut command = bench.command();
    command.env_remove("AR7_KEY_FILE").args(line.split_whitespace());
    let _starting = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    spawn_command(command, Some(TIMEOUT_MS)).expect("the program starts")
}

/// Waits for a prompt, and answers it as slowly as a user does. Returns the output before the prompt, and between the
/// prompt and the answer.
fn answer(terminal: &mut PtySession, prompt: &str) -> String {
    let before = terminal.exp_string(prompt).expect("the prompt");
    thread::sleep(PAUSE);
    let mut after = String::new();
    while let Some(character) = terminal.try_read() {
        after.push(character);
    }
    terminal.send_line(PASSPHRASE).expect("an answer");
    before + &after
}

/// Runs a command that shows these prompts, and returns what it printed after them.
fn run_with_prompts(bench: &Bench, line: &str, prompts: &[&str]) -> String {
    let mut terminal = start(bench, line);
    for prompt in prompts {
        let drawn = answer(&mut terminal, prompt);
        assert_eq!(drawn.trim(), "", "{line}: drawn around '{prompt}'");
    }
    terminal.exp_eof().expect("the program ends")
}

#[test]
fn no_progress_bar_is_drawn_during_a_passphrase_prompt() {
    let bench = Bench::new();
    bench.write("tree/file", "content");
    let created = "ingest a.ar7 tree --kdf-memory 64KiB --kdf-passes 1";
    let printed =
        run_with_prompts(&bench, created, &["New passphrase: ", "Repeat new passphrase: "]);
    assert!(printed.contains("1 file"), "{printed:?}");
    let lines = [
        "ingest a.ar7 tree",
        "ingest --dry-run a.ar7 tree",
        "verify a.ar7",
        "extract a.ar7 --to out",
        "compact a.ar7",
        "wipe-free a.ar7",
        "rm -r a.ar7 tree",
        "rekey a.ar7",
    ];
    for line in lines {
        let printed = run_with_prompts(&bench, line, &["Passphrase: "]);
        assert!(!printed.contains("ar7: "), "{line}: {printed:?}");
    }
}
