//! The program on a terminal.

use std::thread;
use std::time::Duration;

use rexpect::session::{PtySession, spawn_command};

use crate::common::{Bench, STARTING};

const PASSPHRASE: &str = "correct horse";

/// How long an answer of the program may take.
const TIMEOUT_MS: u64 = 60_000;

/// Longer than a bar waits between two drawings.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts a command on a terminal of its own, without any key.
fn start(bench: &Bench, line: &str) -> PtySession {
    let mut command = bench.command();
    command.env_remove("AR7_KEY_FILE").args(line.split_whitespace());
    let _starting = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    spawn_command(command, Some(TIMEOUT_MS)).expect("the program starts")
}

/// Waits for a question, and answers it as slowly as a user does. Returns what came before the question and what
/// came between it and the answer.
fn answer(terminal: &mut PtySession, question: &str) -> String {
    let before = terminal.exp_string(question).expect("the question");
    thread::sleep(PAUSE);
    let mut meanwhile = String::new();
    while let Some(character) = terminal.try_read() {
        meanwhile.push(character);
    }
    terminal.send_line(PASSPHRASE).expect("an answer");
    before + &meanwhile
}

/// Runs a command that asks these questions, and returns what it printed after them.
fn asked(bench: &Bench, line: &str, questions: &[&str]) -> String {
    let mut terminal = start(bench, line);
    for question in questions {
        let drawn = answer(&mut terminal, question);
        assert_eq!(drawn.trim(), "", "{line}: drawn around '{question}'");
    }
    terminal.exp_eof().expect("the program ends")
}

#[test]
fn no_bar_is_drawn_while_a_passphrase_is_asked_for() {
    let bench = Bench::new();
    bench.write("tree/file", "content");
    let created = "ingest a.ar7 tree --kdf-memory 64KiB --kdf-passes 1";
    let printed = asked(&bench, created, &["New passphrase: ", "Repeat new passphrase: "]);
    assert!(printed.contains("1 file"), "{printed:?}");
    let lines = [
        "ingest a.ar7 tree",
        "ingest --dry-run a.ar7 tree",
        "verify a.ar7",
        "extract a.ar7 --to out",
        "wipe-free a.ar7",
        "rm -r a.ar7 tree",
        "rekey a.ar7",
    ];
    for line in lines {
        let printed = asked(&bench, line, &["Passphrase: "]);
        assert!(!printed.contains("ar7: "), "{line}: {printed:?}");
    }
}
