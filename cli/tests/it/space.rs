//! A command that fails for lack of space, wherever it runs out, leaves the archive as it was, and the file as long as
//! it was.

use std::fs;
use std::process::Command;

use crate::common::{Bench, output};

/// Runs a line that can make a file at most this long. A longer one is refused as on a full disk.
fn limited(bench: &Bench, line: &str, most_bytes: u64) -> crate::common::Ran {
    let mut command = Command::new("prlimit");
    command.arg(format!("--fsize={most_bytes}:{most_bytes}")).arg(env!("CARGO_BIN_EXE_ar7"));
    command.env_remove("AR7_PASSPHRASE").env("AR7_KEY_FILE", "key");
    output(command.args(line.split(' ')).current_dir(bench.path("")))
}

/// Returns a source of content that does not compress.
fn noise() -> impl FnMut(usize) -> Vec<u8> {
    let mut state = 1_u64;
    move |length| {
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some(state.to_be_bytes()[0])
        };
        std::iter::from_fn(next).take(length).collect()
    }
}

/// A removal moves content that shares frames with what it removes. If there is no room for that, it succeeds, and says
/// what is left.
#[test]
#[cfg(target_os = "linux")]
fn a_removal_gives_back_space_or_says_how_much_deleted_content_is_left() {
    let bench = Bench::new();
    let mut noise = noise();
    for number in 0..40 {
        bench.write(&format!("many/{number}"), noise(30_000));
    }
    bench.ok("ingest a.ar7 many --quiet");
    let length = fs::metadata(bench.path("a.ar7")).expect("the archive").len();
    let paths: Vec<String> = (0..24).map(|number| format!("many/{number}")).collect();
    let line = format!("rm a.ar7 {}", paths.join(" "));
    let ran = limited(&bench, &line, length);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("a.ar7: warning: deleted content still takes 7"), "{}", ran.stderr);
    let dead = |bench: &Bench| {
        let text = bench.ok("info --json a.ar7").text();
        let document: serde_json::Value = serde_json::from_str(&text).expect("a document");
        let count = |field: &str| document[field].as_u64().expect("a count");
        (count("dead_bytes"), count("packed_bytes"))
    };
    let (left, packed) = dead(&bench);
    assert!(left * 4 > packed && ran.stderr.contains(&left.to_string()), "{left} of {packed}");
    // A command that fails changes nothing, so it says nothing about that.
    bench.fails("rm a.ar7 none", 1, "no entry none");
    assert_eq!(bench.ok("mkdir a.ar7 later").stderr, "");
    let (left, packed) = dead(&bench);
    assert!(left * 4 <= packed && packed < 600_000, "{left} of {packed}");
    bench.ok("verify -q a.ar7");
}

#[test]
#[cfg(target_os = "linux")]
fn a_command_that_runs_out_of_space_at_any_point_gives_back_what_it_took() {
    let bench = Bench::new();
    bench.write("small", "1");
    let mut noise = noise();
    bench.write("big", noise(600_000));
    for number in 0..40 {
        bench.write(&format!("many/{number}"), noise(3000));
    }
    bench.ok("ingest before.ar7 small");
    let before = fs::read(bench.path("before.ar7")).expect("the archive");
    let length = before.len() as u64;
    let (mut failures, mut successes) = (0, 0);
    for line in [
        "ingest a.ar7 big many",
        "ingest a.ar7 big many --checkpoint 100K",
        "ingest a.ar7 big many --compression none",
        "put a.ar7 x -- cat big",
        "put a.ar7 small --force -- cat big big",
        "mkdir -p a.ar7 a/b/c",
        "key label a.ar7 new",
    ] {
        for blocks in [0, 1, 2, 3, 5, 8, 13, 30, 60, 100, 150, 200, 300, 1000] {
            bench.write("a.ar7", &before);
            let ran = limited(&bench, line, length + blocks * 4096);
            let after = fs::metadata(bench.path("a.ar7")).expect("the archive").len();
            let names = bench.ok("ls a.ar7").text();
            match ran.code {
                0 => successes += 1,
                7 => {
                    failures += 1;
                    // A checkpoint keeps what came before it.
                    if !line.contains("--checkpoint") {
                        let case = format!("{line}, {blocks} blocks: {}", ran.stderr);
                        assert_eq!((after, names.as_str()), (length, "small\n"), "{case}");
                    }
                }
                code => panic!("{line}, {blocks} blocks: exit {code}: {}", ran.stderr),
            }
            bench.ok("verify -q a.ar7");
        }
    }
    assert!(failures > 20 && successes > 10, "{failures} failures, {successes} successes");
}
