//! A reading process and a writing one use an archive at the same time.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::common::{Bench, spawn};

/// More bytes than a pipe holds, so that a `cat` without a reader of its output stays in the middle of them.
const LENGTH: usize = 8 << 20;

#[test]
fn a_reader_gets_its_commit_whatever_a_writer_does_meanwhile() {
    let bench = Bench::new();
    bench.write("first", "1".repeat(LENGTH));
    bench.write_key("second", "2".repeat(LENGTH));
    bench.ok("ingest a.ar7 first");
    let mut command = bench.command();
    command.args(["cat", "a.ar7", "first"]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut reader = spawn(&mut command);
    let mut output = reader.stdout.take().expect("a pipe");
    let mut begin = [0; 1];
    output.read_exact(&mut begin).expect("the program has begun");
    let commit = json(&bench, "commit");

    let mut command = bench.command();
    command.args(["put", "a.ar7", "first", "--force"]).stdin(Stdio::piped());
    let mut writer = spawn(&mut command);
    let mut input = writer.stdin.take().expect("a pipe");
    input.write_all(&vec![b'3'; LENGTH]).expect("written");
    drop(input);
    assert!(writer.wait().expect("the program ends").success());
    for round in 0..5 {
        bench.ok(&format!("ingest a.ar7 second --into {round}"));
        bench.ok(&format!("rm a.ar7 {round}/second"));
    }
    assert_eq!(json(&bench, "oldest_reader"), commit);
    assert!(bench.ok("info a.ar7").text().contains(&format!("by a reader of commit {commit}")));
    bench.ok("verify a.ar7");
    // What would have to change every block has to wait for the reader.
    bench.fails("wipe-free a.ar7", 9, &format!("readers of commit {commit} hold"));
    bench.fails("rekey a.ar7", 5, "in use by another process");
    bench.fails("shred a.ar7 --yes", 5, "in use by another process");

    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("the rest");
    assert!(reader.wait().expect("the program ends").success());
    assert_eq!(rest.len(), LENGTH - 1);
    assert!(begin == *b"1" && rest.iter().all(|&byte| byte == b'1'), "bytes of one commit");
    assert_eq!(bench.ok("cat a.ar7 first").stdout, vec![b'3'; LENGTH]);
    bench.ok("wipe-free a.ar7");
    bench.ok("verify a.ar7");
    bench.ok("rekey a.ar7");
}

#[test]
fn a_writer_waits_for_another_one_if_it_may() {
    let bench = Bench::new();
    bench.write("file", "1");
    bench.ok("ingest a.ar7 file");
    let mut command = bench.command();
    command.args(["put", "a.ar7", "slow"]).stdin(Stdio::piped());
    let mut first = spawn(&mut command);
    let mut input = first.stdin.take().expect("a pipe");
    input.write_all(&vec![0; LENGTH]).expect("written");
    bench.fails("rm a.ar7 file", 5, "in use by process");
    let mut command = bench.command();
    let mut second = spawn(command.args(["rm", "a.ar7", "file", "--wait", "60"]));
    drop(input);
    assert!(first.wait().expect("the program ends").success());
    assert!(second.wait().expect("the program ends").success());
    assert_eq!(bench.ok("ls a.ar7").text().trim(), "slow");
}

fn json(bench: &Bench, field: &str) -> u64 {
    let facts: serde_json::Value =
        serde_json::from_slice(&bench.ok("info a.ar7 --json").stdout).expect("JSON");
    facts[field].as_u64().unwrap_or_else(|| panic!("expected {field}, found {facts}"))
}
