//! `compact` makes the file as short as a new one with the same content, also after an interruption, and reports what
//! prevents that.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Bench, spawn};

const FILES: u32 = 120;

/// An archive of which nine of ten files were removed, and the files that are left. The last one is above the others.
fn mostly_removed(bench: &Bench) -> Vec<String> {
    for number in 0..FILES {
        let length = usize::try_from(number * 7919 % 90_000).expect("small") + 1;
        bench.write(
            &format!("src/{number:03}"),
            &number.to_string().repeat(length).as_bytes()[..length],
        );
    }
    bench.ok("ingest --compression none a.ar7 src --quiet");
    let mut left = Vec::new();
    for number in 0..FILES {
        let name = format!("src/{number:03}");
        if number % 10 == 9 {
            left.push(name);
        } else {
            bench.ok(&format!("rm a.ar7 {name} --quiet"));
            fs::remove_file(bench.path(&name)).expect("removed");
        }
    }
    // The directory has changed too.
    bench.ok("ingest --compression none a.ar7 src --quiet");
    left
}

fn length(bench: &Bench, name: &str) -> u64 {
    fs::metadata(bench.path(name)).expect("an archive").len()
}

fn check_content(bench: &Bench) {
    bench.ok("verify a.ar7 --quiet");
    bench.ok("diff a.ar7 src");
}

fn is_as_short_as_a_new_one(bench: &Bench) {
    bench.ok("ingest --compression none new.ar7 src --quiet");
    let (after, new) = (length(bench, "a.ar7"), length(bench, "new.ar7"));
    assert!(after <= new + new / 20 + 65_536, "{after}, new {new}");
}

#[test]
fn a_compacted_archive_is_as_short_as_a_new_one() {
    let bench = Bench::new();
    mostly_removed(&bench);
    let before = length(&bench, "a.ar7");
    let said = bench.ok("compact a.ar7").text();
    assert!(said.contains("bytes given back, ") && said.contains(" blocks moved"), "{said}");
    assert!(length(&bench, "a.ar7") < before / 2);
    check_content(&bench);
    is_as_short_as_a_new_one(&bench);
    assert_eq!(bench.ok("compact a.ar7 --quiet").text(), "");
    let document = bench.ok("compact a.ar7 --json").stdout;
    let document: serde_json::Value = serde_json::from_slice(&document).expect("a document");
    assert_eq!(document["counts"]["moved"], 0);
    assert_eq!(document["findings"], serde_json::json!([]));
}

#[test]
fn a_reader_holds_it_up_until_it_has_left() {
    let bench = Bench::new();
    bench.with_input("put a.ar7 big --compression none", &vec![7; 8 << 20]);
    mostly_removed(&bench);
    let before = length(&bench, "a.ar7");
    let mut command = bench.command();
    command.args(["cat", "a.ar7", "big"]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut reader = spawn(&mut command);
    let mut output = reader.stdout.take().expect("a pipe");
    output.read_exact(&mut [0; 1]).expect("the program has begun");
    bench.fails("compact a.ar7", 9, "another process reads commit");
    assert_eq!(length(&bench, "a.ar7"), before);
    let mut command = bench.command();
    let mut waiting = spawn(command.args(["compact", "a.ar7", "--wait", "600"]));
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("the rest");
    assert_eq!(rest, vec![7; (8 << 20) - 1]);
    assert!(reader.wait().expect("the program ends").success());
    assert!(waiting.wait().expect("the program ends").success());
    assert!(length(&bench, "a.ar7") < before);
    bench.ok("rm a.ar7 big");
    check_content(&bench);
}

#[test]
fn a_bad_block_is_reported_and_everything_else_is_moved() {
    let bench = Bench::new();
    let left = mostly_removed(&bench);
    // A large file behind the middle.
    let bad_file = &left[7];
    let good = fs::read(bench.path("a.ar7")).expect("an archive");
    let blocks = good.len() / 4096;
    let is_bad = |block: usize| {
        let mut bytes = good.clone();
        bytes[block * 4096..][..4096].fill(0);
        fs::write(bench.path("a.ar7"), bytes).expect("an archive");
        bench.line(&format!("cat a.ar7 {bad_file}")).code == 4
    };
    let bad =
        (blocks / 4..blocks).step_by(9).find(|&block| is_bad(block)).expect("a block of the file");
    let ran = bench.line("compact a.ar7");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let said = ran.text();
    assert!(said.contains(&format!("at block {bad} of the file")), "{said}");
    assert!(said.contains(&format!("affected: {bad_file}")), "{said}");
    let after = length(&bench, "a.ar7");
    assert!(after < good.len() as u64 && after >= (bad as u64 + 1) * 4096, "{after}");
    for name in left.iter().filter(|name| *name != bad_file) {
        assert_eq!(
            bench.ok(&format!("cat a.ar7 {name}")).stdout,
            fs::read(bench.path(name)).unwrap()
        );
    }
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_continues() {
    let bench = Bench::new();
    mostly_removed(&bench);
    fs::copy(bench.path("a.ar7"), bench.path("kept.ar7")).expect("a copy");
    let mut killed = 0;
    for round in 0..24_u64 {
        if round % 6 == 0 {
            fs::copy(bench.path("kept.ar7"), bench.path("a.ar7")).expect("a copy");
        }
        let mut command = bench.command();
        command.args(["compact", "a.ar7", "--quiet"]).stdout(Stdio::null());
        let mut child = spawn(&mut command);
        std::thread::sleep(Duration::from_micros(round * 1500));
        child.kill().expect("a signal");
        killed += u32::from(!child.wait().expect("the program ends").success());
        if round % 3 == 2 {
            check_content(&bench);
        }
    }
    assert!(killed > 0, "no run was killed");
    bench.ok("compact a.ar7");
    check_content(&bench);
    is_as_short_as_a_new_one(&bench);
}

#[test]
fn a_copy_is_as_short_as_a_new_one_and_has_its_own_key() {
    let bench = Bench::new();
    mostly_removed(&bench);
    let before = fs::read(bench.path("a.ar7")).expect("an archive");
    bench.write_key("second", [9; 32]);
    let said = bench.ok("compact a.ar7 --to b.ar7 --new-key-file second --label copy").text();
    let length_of = |name: &str| length(&bench, name);
    let expected =
        format!("{} bytes, of {} bytes before\n", length_of("b.ar7"), length_of("a.ar7"));
    assert_eq!(said, expected);
    assert!(fs::read(bench.path("a.ar7")).expect("an archive") == before, "it is only read");
    bench.fails("verify b.ar7", 3, "wrong key");
    bench.ok("--key-file second verify b.ar7 --quiet");
    bench.ok("--key-file second diff b.ar7 src");
    assert!(bench.ok("--key-file second key list b.ar7").text().contains("copy"));
    // By default, the key that opened the archive opens the copy.
    let document = bench.ok("compact a.ar7 --to c.ar7 --json").stdout;
    let document: serde_json::Value = serde_json::from_slice(&document).expect("a document");
    assert_eq!(document["bytes_before"], length_of("a.ar7"));
    assert_eq!(document["bytes_after"], length_of("c.ar7"));
    bench.ok("diff c.ar7 src");
    assert_eq!(bench.ok("compact c.ar7 --to d.ar7 --quiet").text(), "");
    bench.ok("ingest --compression none new.ar7 src --quiet");
    let new = length_of("new.ar7");
    assert!(length_of("c.ar7") <= new + new / 20 + 65_536, "{}, new {new}", length_of("c.ar7"));
    // Nothing is overwritten, and the options of a new archive need one.
    bench.fails("compact a.ar7 --to c.ar7", 1, "File exists");
    let missing = bench.fails("compact a.ar7 --to none/c.ar7", 1, "No such file");
    assert!(!missing.stderr.contains("salvage"), "{}", missing.stderr);
    for line in ["--new-key-file second", "--label copy", "--kdf-passes 4"] {
        assert_eq!(bench.line(&format!("compact a.ar7 {line}")).code, 2, "{line}");
    }
}

#[test]
fn without_a_block_there_is_no_copy() {
    let bench = Bench::new();
    bench.with_input("put a.ar7 big --compression none", &vec![7; 400_000]);
    let mut bytes = fs::read(bench.path("a.ar7")).expect("an archive");
    // In the middle of the file.
    bytes[50 * 4096..][..4096].fill(0);
    fs::write(bench.path("a.ar7"), bytes).expect("an archive");
    assert_eq!(bench.line("cat a.ar7 big").code, 4);
    bench.fails("compact a.ar7 --to new.ar7", 4, "`ar7 salvage` copies what is left");
    let names = fs::read_dir(bench.path("")).expect("a directory");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("new.ar7")));
}

#[test]
fn a_choice_of_compression_packs_what_becomes_smaller_in_place_and_in_a_copy() {
    let bench = Bench::new();
    for number in 0..40 {
        bench.write(&format!("src/{number}"), format!("line {number}\n").repeat(3000).as_bytes());
    }
    bench.ok("ingest --compression none a.ar7 src --quiet");
    bench.ok("ingest --compression best new.ar7 src --quiet");
    let [plain, new] = ["a.ar7", "new.ar7"].map(|name| length(&bench, name));
    assert!(new < plain / 4, "{new} {plain}");
    bench.ok("compact a.ar7 --compression none");
    assert!(length(&bench, "a.ar7") > new * 4, "what is there stays as it is");
    bench.ok("compact a.ar7 --to copy.ar7 --compression best --quiet");
    let said = bench.ok("compact a.ar7 --compression best").text();
    assert!(said.contains(" blocks compressed"), "{said}");
    for name in ["a.ar7", "copy.ar7"] {
        let compacted = length(&bench, name);
        assert!(compacted <= new + new / 20 + 65_536, "{name}: {compacted}, new {new}");
        bench.ok(&format!("verify {name} --quiet"));
        bench.ok(&format!("diff {name} src"));
    }
    // The archive remembers the choice.
    bench.write("src/later", "more lines\n".repeat(100_000).as_bytes());
    bench.ok("ingest a.ar7 src --quiet");
    assert!(length(&bench, "a.ar7") < new + 200_000, "{}", length(&bench, "a.ar7"));
}

/// The library and a mount give each file whole blocks, in an archive that compresses.
#[test]
fn without_a_choice_short_files_are_compressed_as_the_archive_remembers() {
    let bench = Bench::new();
    for number in 0..20 {
        bench.write(&format!("src/{number}"), b"twenty bytes of text".repeat(3000));
    }
    bench.ok("ingest --compression none a.ar7 src --quiet");
    let plain = length(&bench, "a.ar7");
    bench.ok("compact a.ar7 --quiet");
    assert!(length(&bench, "a.ar7") > plain / 2, "without compression, it stays as it is");
    bench.with_input("put a.ar7 last --compression auto --quiet", b"the archive remembers this");
    bench.ok("compact a.ar7 --to copy.ar7 --quiet");
    bench.ok("compact a.ar7 --quiet");
    for name in ["a.ar7", "copy.ar7"] {
        assert!(length(&bench, name) < plain / 4, "{name}: {}", length(&bench, name));
        bench.ok(&format!("verify {name} --quiet"));
        bench.ok(&format!("diff {name} src"));
    }
}
