//! A command that makes a new archive out of another one is killed at any moment: the new archive does not exist, or it
//! is whole. The next run removes what the killed one left.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use crate::common::{Bench, spawn};

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vectors/archive7");

/// Kills of each command.
const KILLS: u32 = 10;

/// Returns the names of temporary files for `new.ar7`.
fn temporary(bench: &Bench) -> Vec<String> {
    let names = fs::read_dir(bench.path("")).expect("a directory");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name"));
    names.filter(|name| name.starts_with(".new.ar7.") && name.ends_with(".incomplete")).collect()
}

/// Runs `line`, which makes `new.ar7`, with a kill at one moment after another. `check` checks the new archive.
/// Returns the number of kills that came in time.
fn kill(bench: &Bench, line: &str, check: impl Fn()) -> u32 {
    let new = bench.path("new.ar7");
    let began = Instant::now();
    bench.ok(line);
    let time = began.elapsed();
    check();
    fs::remove_file(&new).expect("removed");
    let mut killed = 0;
    for moment in 0..KILLS {
        let mut command = bench.command();
        command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn(&mut command);
        std::thread::sleep(time * moment / KILLS);
        child.kill().expect("a signal");
        let is_killed = !child.wait().expect("the program ends").success();
        killed += u32::from(is_killed);
        assert!(temporary(bench).len() <= 1, "{:?}", temporary(bench));
        assert!(is_killed || new.exists());
        if new.exists() {
            bench.ok("verify new.ar7 --quiet");
            check();
            fs::remove_file(&new).expect("removed");
        }
    }
    fs::write(bench.path(".new.ar7.aB3456.incomplete"), "left by another run").expect("a file");
    bench.ok(line);
    assert_eq!(temporary(bench), [""; 0]);
    check();
    killed
}

fn stored_tree(bench: &Bench) {
    for number in 0..40_u8 {
        bench.write(&format!("src/{number}"), vec![number; 90_000 - 1000 * usize::from(number)]);
    }
    bench.ok("ingest a.ar7 src --quiet");
}

#[test]
fn a_killed_salvage_leaves_a_whole_archive_or_none() {
    let bench = Bench::new();
    stored_tree(&bench);
    let killed = kill(&bench, "salvage a.ar7 new.ar7 --quiet", || {
        bench.ok("diff new.ar7 src");
    });
    assert!(killed > 0, "no run was killed");
}

#[test]
fn a_killed_import_leaves_a_whole_archive_or_none() {
    let bench = Bench::new();
    fs::copy(format!("{MODULE}/multi.ar7"), bench.path("old.ar7")).expect("an archive");
    bench.write_key("old.key", [7; 32]);
    let stream = "cat new.ar7 --stream 00f06b88-fc17-4742-8dde-d4ea4f6aab44";
    let killed =
        kill(&bench, "import-archive7 old.ar7 new.ar7 --old-key-file old.key --quiet", || {
            assert_eq!(bench.ok(stream).stdout.len(), 300_000);
        });
    assert!(killed > 0, "no run was killed");
}

#[test]
fn a_killed_copy_leaves_a_whole_archive_or_none() {
    let bench = Bench::new();
    stored_tree(&bench);
    let killed = kill(&bench, "compact a.ar7 --to new.ar7 --quiet", || {
        bench.ok("diff new.ar7 src");
    });
    assert!(killed > 0, "no run was killed");
}
