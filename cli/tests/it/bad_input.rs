//! Bad input: the error is one line that names the file and what was found, the exit code is the documented one, and
//! the archive is unchanged.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::format::BlockRef;
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::Archive;

use crate::common::{Bench, Ran, spawn};

/// Makes an archive with one file.
fn archive(bench: &Bench) {
    bench.write("src/file", vec![5; 100_000]);
    bench.ok("ingest --compression none a.ar7 src");
}

#[test]
fn a_file_that_is_not_an_archive_is_an_error_and_stays_unchanged() {
    let bench = Bench::new();
    bench.write("text", "#!/bin/sh\n".repeat(1000));
    bench.write("short", "x");
    bench.write("empty", "");
    fs::create_dir(bench.path("directory")).expect("a directory");
    bench.fails("ls text", 4, "text: not an ar7 archive");
    bench.fails("ls short", 4, "short: ");
    bench.fails("ls empty", 4, "empty: ");
    bench.fails("ls directory", 1, "directory: open: Is a directory");
    bench.fails("ls missing", 1, "missing: open: No such file or directory");
    bench.fails("ingest text src", 4, "text: not an ar7 archive");
    bench.fails("create text", 1, "text: create: ");
    bench.fails("ls text --key-file directory", 1, "directory: read: Is a directory");
    assert_eq!(fs::read(bench.path("short")).expect("a file"), b"x");
}

/// A line for each command that opens an archive, and its exit code if a meta slot is damaged.
const OPENING: [(&str, i32); 26] = [
    ("ingest a.ar7 src", 0),
    ("ingest a.ar7 src --dry-run", 0),
    ("put a.ar7 new", 0),
    ("cat a.ar7 src/file", 0),
    ("ls a.ar7", 0),
    ("find a.ar7", 0),
    ("du a.ar7", 0),
    ("extract a.ar7 --to out --force", 0),
    ("diff a.ar7 src", 0),
    ("mv a.ar7 src moved", 0),
    ("rm -r a.ar7 src", 0),
    ("mkdir a.ar7 new", 0),
    ("verify a.ar7", 4),
    ("info a.ar7", 0),
    ("receipt a.ar7", 0),
    ("key add a.ar7 --new-key-file second", 0),
    // The archive has only one key, which cannot be removed.
    ("key remove a.ar7 0", 2),
    ("key list a.ar7", 0),
    ("key change a.ar7 --new-key-file second", 0),
    ("key label a.ar7 new", 0),
    ("compact a.ar7", 0),
    // There is no such directory.
    ("mount a.ar7 missing --foreground", 1),
    ("wipe-free a.ar7", 0),
    ("rekey a.ar7", 0),
    ("header export a.ar7 header", 0),
    ("header import a.ar7 header", 0),
];

/// Commands that open no archive. `salvage` and `shred` also work if none can be opened.
const NOT_OPENING: [&str; 9] = [
    "keygen",
    "create",
    "unmount",
    "repair",
    "salvage",
    "import-archive7",
    "shred",
    "completions",
    "help",
];

/// Returns the names of all commands as the help lists them, with the subcommands of those that have some.
fn commands(bench: &Bench) -> Vec<String> {
    let listed = |line: &str| -> Vec<String> {
        let help = bench.ok(line).text();
        let lines = help.lines().skip_while(|line| !line.starts_with("Usage:")).skip(1);
        let lines = lines.take_while(|line| *line != "Options:");
        let lines = lines.filter(|line| line.starts_with("  "));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let mut commands = Vec::new();
    for command in listed("--help") {
        if matches!(command.as_str(), "key" | "header") {
            let below = listed(&format!("{command} --help"));
            let below = below.iter().filter(|name| *name != "help");
            commands.extend(below.map(|name| format!("{command} {name}")));
        } else {
            commands.push(command);
        }
    }
    commands
}

#[test]
fn every_command_warns_if_a_damaged_slot_may_have_held_a_newer_commit() {
    let bench = Bench::new();
    bench.write_key("second", [8; 32]);
    archive(&bench);
    for command in commands(&bench) {
        let is_listed = OPENING.iter().any(|(line, _)| line.starts_with(&format!("{command} ")));
        assert!(is_listed != NOT_OPENING.contains(&command.as_str()), "{command}");
    }
    let whole = fs::read(bench.path("a.ar7")).expect("the archive");
    let mut warnings = 0;
    for slot in 1..=4 {
        let mut damaged = whole.clone();
        damaged[slot * 4096 + 100] ^= 1;
        let warning = format!(
            "ar7: a.ar7: warning: the meta slot at block {slot} is damaged or out of date, so the newest commit may be lost"
        );
        let warns = OPENING.map(|(line, code)| {
            bench.write("a.ar7", &damaged);
            if line.starts_with("header export") {
                let _ = fs::remove_file(bench.path("header"));
            }
            let ran = bench.line(line);
            assert_eq!(ran.code, code, "{line}: {}", ran.stderr);
            ran.stderr.starts_with(&warning)
        });
        // The newest commit has two of the four slots. Damage to one of those hides nothing newer.
        assert!(warns.iter().all(|warned| *warned == warns[0]), "slot {slot}: {warns:?}");
        warnings += usize::from(warns[0]);
        bench.write("a.ar7", &damaged);
        bench.ok("mkdir a.ar7 new");
        assert_eq!(bench.ok("ls a.ar7").stderr, "", "a writer repairs slot {slot}");
    }
    assert_eq!(warnings, 2);
}

/// One slot of the newest commit is replaced by that of the commit two before. Every command warns, or writes it again.
#[test]
fn every_command_warns_if_the_newest_commit_has_one_good_slot_or_writes_the_other_again() {
    let bench = Bench::new();
    bench.write_key("second", [8; 32]);
    archive(&bench);
    let key = Secret::Key(RawKey::from_bytes([7; 32]));
    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    let writer = Archive::open(&bench.path("a.ar7"), &key, options).expect("a writer");
    let [earlier, _, whole] = [1, 2, 3].map(|change| {
        writer.set_metadata(&[change]).expect("changed");
        writer.commit().expect("committed");
        fs::read(bench.path("a.ar7")).expect("the archive")
    });
    let newest = writer.store().current().slot.number;
    drop(writer);
    let first = if newest % 2 == 1 { 1 } else { 2 };
    for (slot, good) in [(first, first + 2), (first + 2, first)] {
        let range = slot * 4096..(slot + 1) * 4096;
        let mut replaced = whole.clone();
        replaced[range.clone()].copy_from_slice(&earlier[range.clone()]);
        let warning = format!(
            "ar7: a.ar7: warning: of the meta slots of the newest commit, only the one at block {good} is known to be good"
        );
        let mut silent = Vec::new();
        for (line, code) in OPENING {
            bench.write("a.ar7", &replaced);
            if line.starts_with("header export") {
                let _ = fs::remove_file(bench.path("header"));
            }
            let ran = bench.line(line);
            let is_verify = line.starts_with("verify");
            assert_eq!(ran.code, if is_verify { 0 } else { code }, "{line}: {}", ran.stderr);
            let after = fs::read(bench.path("a.ar7")).expect("the archive");
            let is_left = after[range.clone()] == replaced[range.clone()];
            // `receipt` and `rekey` open it to read first, and then to write.
            let warns = ran.stderr.starts_with(&warning);
            assert!(warns || !is_left, "{line}: {}", ran.stderr);
            if !warns {
                silent.push(line);
            }
            if !is_left {
                let key = if line.starts_with("key change") { "second" } else { "key" };
                let listed = bench.ok(&format!("ls a.ar7 --key-file {key}"));
                assert_eq!(listed.stderr, "", "{line}: both slots are good");
            }
        }
        assert!((10..18).contains(&silent.len()), "{silent:?}");
        bench.write("a.ar7", &replaced);
        let report = bench.ok("repair a.ar7").text();
        let expected = format!(
            "block {slot}: written again from its copy\n1 block repaired, 0 without a good copy\n"
        );
        assert_eq!(report, expected);
        assert_eq!(bench.ok("verify a.ar7").stderr, "");
    }
    bench.write("a.ar7", &whole);
    assert_eq!(bench.ok("ls a.ar7").stderr, "");
}

/// The archive of a killed writer: changed blocks are only in their shadow blocks.
const KILLED: &[u8] = include_bytes!("../../../docs/vectors/golden/killed.ar7");

#[test]
fn a_lost_redo_block_is_reported_and_costs_only_what_it_names() {
    let bench = Bench::new();
    bench.write_key("golden", b"ar7 golden archives, one raw key");
    bench.write("a.ar7", KILLED);
    let key = "--key-file golden";
    let secret = Secret::Key(RawKey::from_bytes(*b"ar7 golden archives, one raw key"));
    let opened = Archive::open(&bench.path("a.ar7"), &secret, OpenOptions::default());
    let commit = opened.expect("an archive").store().current();
    let [first, second] = commit.slot.redo_head.expect("a redo list").copies();
    let names = bench.ok(&format!("ls -R a.ar7 {key}")).text();
    let mut damaged = KILLED.to_vec();
    let within =
        |copy: BlockRef| usize::try_from(copy.position.offset()).expect("a small archive") + 100;
    damaged[within(first)] ^= 1;
    bench.write("a.ar7", &damaged);
    let ran = bench.ok(&format!("ls -R a.ar7 {key}"));
    assert_eq!((ran.text(), &ran.stderr[..]), (names.clone(), ""), "the other copy is good");
    let info = bench.ok(&format!("info a.ar7 {key}")).text();
    let copy = format!("damaged copies of redo blocks at [{}]", first.position);
    assert!(info.contains(&copy), "{info}");
    damaged[within(second)] ^= 1;
    bench.write("a.ar7", &damaged);
    let ran = bench.ok(&format!("ls -R a.ar7 {key}"));
    let warning =
        format!("ar7: a.ar7: warning: the redo block {} and its copy are", first.position);
    assert!(ran.stderr.starts_with(&warning), "{}", ran.stderr);
    assert_eq!(ran.text(), names, "every name is there");
    let info = bench.ok(&format!("info a.ar7 {key}")).text();
    assert!(
        info.contains(&format!("both copies of the redo block {} are damaged", first.position))
    );
    let verified = bench.line(&format!("verify a.ar7 {key}"));
    assert_eq!(verified.code, 4, "{}", verified.stderr);
}

#[test]
fn an_archive_cut_at_any_length_is_damaged() {
    let bench = Bench::new();
    archive(&bench);
    let whole = fs::read(bench.path("a.ar7")).expect("the archive");
    let mut lengths: Vec<usize> = (1..=10).map(|block| block * 4096).collect();
    lengths.extend([1, 16, 4095, 4097, 5000, 32_767, 40_000, 100_000]);
    for length in lengths.into_iter().filter(|&length| length < whole.len()) {
        fs::write(bench.path("cut.ar7"), &whole[..length]).expect("a file");
        for command in ["ls -R", "verify", "info", "rm -r"] {
            let path = if command == "rm -r" { " src" } else { "" };
            let ran = bench.line(&format!("{command} cut.ar7{path}"));
            assert_eq!(ran.code, 4, "{length} bytes, {command}: {}", ran.stderr);
            assert_eq!(ran.stderr.lines().count(), 1, "{length}: {}", ran.stderr);
        }
        let after = fs::read(bench.path("cut.ar7")).expect("the file");
        assert!(after == whole[..length], "{length} bytes: changed");
    }
}

#[test]
fn an_archive_cut_while_it_is_read_is_damaged() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    bench.with_input("put a.ar7 big", &vec![7; 24 << 20]);
    let mut command = bench.command();
    command.args(["cat", "a.ar7", "big"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    let mut output = child.stdout.take().expect("a pipe");
    // The pipe holds little, so the program blocks with most of the stream unread.
    output.read_exact(&mut [0; 1]).expect("a byte");
    let file = File::options().write(true).open(bench.path("a.ar7")).expect("the archive");
    file.set_len(1 << 20).expect("cut");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("the rest of the output");
    let ended = Ran::new(child.wait_with_output().expect("the program ends"));
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(ended.stderr.contains("a.ar7: truncated"), "{}", ended.stderr);
    assert!(rest.iter().all(|&byte| byte == 7) && rest.len() < 24 << 20);
}

#[test]
fn a_wrong_malformed_or_missing_key_is_an_error() {
    let bench = Bench::new();
    archive(&bench);
    bench.write_key("other", [8; 32]);
    bench.write("short", [7; 31]);
    bench.write("long", [7; 33]);
    bench.fails("ls a.ar7 --key-file other", 3, "a.ar7: wrong key");
    bench.fails(
        "ls a.ar7 --key-file short",
        3,
        "short: not a key file: expected 32 bytes, found 31",
    );
    bench.fails("ls a.ar7 --key-file long", 3, "long: not a key file");
    bench.fails("ls a.ar7 --key-file none", 1, "none: open: No such file");
    let mut without = bench.command();
    without.args(["ls", "a.ar7"]).env_remove("AR7_KEY_FILE");
    let ran = crate::common::output(&mut without);
    assert_eq!((ran.code, ran.stderr.contains("no key")), (2, true), "{}", ran.stderr);
}

#[test]
fn only_the_right_passphrase_opens_an_archive() {
    let bench = Bench::new();
    bench.write("src/file", "1");
    let run = |passphrase: &str, line: &str| {
        let mut command = bench.command();
        command.env_remove("AR7_KEY_FILE").env("AR7_PASSPHRASE", passphrase);
        crate::common::output(command.args(line.split(' ')))
    };
    let made = run("correct horse", "ingest p.ar7 src --kdf-memory 64K --kdf-passes 1 --label me");
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(run("correct horse", "cat p.ar7 src/file").stdout, b"1");
    let wrong = run("battery staple", "cat p.ar7 src/file");
    assert_eq!(wrong.code, 3, "{}", wrong.stderr);
    let info = run("correct horse", "info p.ar7");
    let text = info.text();
    assert!(text.contains("passphrase, Argon2id 64 KiB, 1 pass, 1 lane, \"me\""), "{text}");
    for costs in ["--kdf-memory 2G", "--kdf-passes 65", "--kdf-lanes 17", "--kdf-memory 1K"] {
        let refused = run("x", &format!("create q.ar7 {costs}"));
        assert_eq!(refused.code, 2, "{costs}: {}", refused.stderr);
        assert!(!bench.path("q.ar7").exists());
    }
    // The default costs.
    assert_eq!(run("x", "create d.ar7").code, 0);
    assert!(run("x", "info d.ar7").text().contains("Argon2id 65536 KiB, 3 passes, 1 lane"));
}

#[test]
fn a_newer_format_has_its_own_exit_code() {
    let bench = Bench::new();
    archive(&bench);
    for (offset, byte) in [(19, 2), (47, 1)] {
        fs::copy(bench.path("a.ar7"), bench.path("newer.ar7")).expect("a copy");
        let file = File::options().write(true).open(bench.path("newer.ar7")).expect("the copy");
        for header in [0, 7 * 4096] {
            file.write_all_at(&[byte], header + offset).expect("written");
        }
        bench.fails("ls newer.ar7", 6, "newer.ar7: the archive needs a newer program");
    }
}

#[test]
fn extract_reports_damage_and_restores_the_rest() {
    let bench = Bench::new();
    for number in 0..20 {
        bench.write(&format!("src/{number:02}"), [number; 5000]);
    }
    bench.ok("ingest --compression none a.ar7 src");
    let listed: serde_json::Value =
        serde_json::from_slice(&bench.ok("ls --json a.ar7 src").stdout).expect("a document");
    assert_eq!(listed["entries"].as_array().map(Vec::len), Some(20));
    // The first block after the reserved ones holds the content of one file.
    let file =
        File::options().read(true).write(true).open(bench.path("a.ar7")).expect("the archive");
    let offset = 8 * 4096 + 2000;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("written");
    let verified = bench.line("verify a.ar7");
    assert_eq!(verified.code, 4, "{}", verified.stderr);
    assert!(verified.text().contains("authentication tag"), "{}", verified.text());
    let extracted = bench.line("extract a.ar7 --to out");
    assert_eq!(extracted.code, 4, "{}", extracted.stderr);
    assert_eq!(fs::read_dir(bench.path("out/src")).expect("a directory").count(), 19);
    assert!(extracted.stderr.contains("1 entry could not be restored"), "{}", extracted.stderr);
}

#[test]
fn a_locked_archive_has_its_own_exit_code() {
    let bench = Bench::new();
    archive(&bench);
    let mut command = bench.command();
    command.args(["put", "a.ar7", "slow"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut writer = crate::common::spawn(&mut command);
    let mut input = writer.stdin.take().expect("a pipe");
    // The pipe cannot hold this, so once it is written, the program has opened the archive and is reading.
    input.write_all(&vec![0; 20 << 20]).expect("written");
    let holder = format!("a.ar7: in use by process {}", writer.id());
    for line in ["rm a.ar7 src/file", "rekey a.ar7", "shred a.ar7 --yes"] {
        bench.fails(line, 5, &holder);
    }
    // Readers still see the last commit.
    for line in ["ls a.ar7", "verify a.ar7", "extract a.ar7 --to out"] {
        bench.ok(line);
    }
    bench.fails("cat a.ar7 slow", 1, "no entry");
    drop(input);
    assert!(writer.wait().expect("the program ends").success());
    assert_eq!(bench.ok("cat a.ar7 slow").stdout.len(), 20 << 20);
}

#[test]
fn an_unreadable_input_is_reported_and_keeps_its_old_version() {
    let bench = Bench::new();
    bench.write("src/a", "1");
    bench.write("src/b", "2");
    bench.write("src/closed/c", "3");
    bench.ok("ingest a.ar7 src");
    bench.write("src/a", "changed");
    bench.write("src/b", "changed");
    for path in ["src/a", "src/closed"] {
        let none = fs::Permissions::from_mode(0o000);
        fs::set_permissions(bench.path(path), none).expect("a mode");
    }
    let mut command = bench.without_privileges();
    let ran = crate::common::output(command.args(["ingest", "a.ar7", "src"]));
    assert_eq!(ran.code, 8, "{}", ran.stderr);
    assert!(ran.stderr.contains("ar7: src/a: read: Permission denied"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ar7: src/closed: read: Permission denied"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ar7: a.ar7: 2 inputs could not be read"), "{}", ran.stderr);
    assert_eq!(bench.ok("cat a.ar7 src/a").stdout, b"1");
    assert_eq!(bench.ok("cat a.ar7 src/b").stdout, b"changed");
    assert_eq!(bench.ok("cat a.ar7 src/closed/c").stdout, b"3");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.path("src/closed"), open).expect("a mode");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_stored_as_it_was_read_and_reported() {
    let bench = Bench::new();
    bench.write("src/a", "1");
    bench.ok("ingest a.ar7 src");
    let path = bench.path("src/a");
    let done = AtomicBool::new(false);
    fs::write(&path, vec![1; 40 << 20]).expect("a file");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&path).expect("the file");
            while !done.load(Ordering::Relaxed) {
                file.write_all(b"more").expect("written");
            }
        });
        let ran = bench.line("ingest a.ar7 src");
        done.store(true, Ordering::Relaxed);
        assert_eq!(ran.code, 8, "{}", ran.stderr);
        assert!(ran.stderr.contains("ar7: src/a: changed while it was read"), "{}", ran.stderr);
        assert!(ran.stderr.contains("ar7: a.ar7: 1 changed while being read"));
    });
    let stored = bench.ok("cat a.ar7 src/a").stdout;
    let (begin, appended) = stored.split_at(40 << 20);
    assert!(begin.iter().all(|&byte| byte == 1));
    assert!(appended.chunks(4).all(|chunk| b"more".starts_with(chunk)));
    bench.ok("verify a.ar7");
}

#[test]
fn keygen_never_overwrites_a_file() {
    let bench = Bench::new();
    bench.ok("keygen new");
    let first = fs::read(bench.path("new")).expect("the key");
    let mode = fs::metadata(bench.path("new")).expect("metadata").permissions().mode();
    assert_eq!((first.len(), mode & 0o7777), (32, 0o600));
    bench.fails("keygen new", 1, "new: create: File exists");
    assert_eq!(fs::read(bench.path("new")).expect("the key"), first);
    bench.ok("keygen newer");
    assert_ne!(fs::read(bench.path("newer")).expect("the key"), first);
}

#[test]
fn a_wrong_command_line_has_its_own_exit_code() {
    let bench = Bench::new();
    archive(&bench);
    for line in ["", "nothing", "ls", "ls --no-flag a.ar7", "cat a.ar7", "cat a.ar7 x --offset 1X"]
    {
        assert_eq!(bench.line(line).code, 2, "{line}");
    }
    assert_eq!(bench.line("--help").code, 0);
    assert!(bench.ok("--version").text().starts_with("ar7 "));
}

#[test]
fn an_error_names_the_component_that_is_missing_or_not_a_directory() {
    let bench = Bench::new();
    archive(&bench);
    bench.fails("cat a.ar7 src", 1, "ar7: entry src: expected a file, found a directory\n");
    bench.fails("cat a.ar7 src/none/below", 1, "ar7: no entry src/none\n");
    let listed = bench.ok("ls -R a.ar7").text();
    for line in [
        "cat a.ar7 src/file/below",
        "put a.ar7 src/file/below",
        "mkdir a.ar7 src/file/below",
        "mkdir a.ar7 -p src/file/below/deeper",
        "mv a.ar7 src src/file/below",
        "ingest a.ar7 src --into src/file/below",
    ] {
        bench.fails(line, 1, "ar7: entry src/file: expected a directory, found a file\n");
        assert_eq!(bench.ok("ls -R a.ar7").text(), listed, "{line}");
    }
}

#[test]
fn a_dry_run_into_a_file_is_an_error_and_changes_nothing() {
    let bench = Bench::new();
    archive(&bench);
    let before = fs::read(bench.path("a.ar7")).expect("the archive");
    for into in ["src/file", "src/file/below"] {
        let says = "entry src/file: expected a directory, found a file";
        bench.fails(&format!("ingest a.ar7 src --dry-run --into {into}"), 1, says);
        assert!(fs::read(bench.path("a.ar7")).expect("the archive") == before, "{into}: changed");
    }
    // A real run would create a missing directory.
    bench.ok("ingest a.ar7 src --dry-run --into src/new");
    assert!(fs::read(bench.path("a.ar7")).expect("the archive") == before, "changed");
}

#[test]
fn a_name_over_255_bytes_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    archive(&bench);
    let listed = bench.ok("ls -R a.ar7").text();
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    let says = format!("invalid name \"{too_long}\": expected 1 to 255 bytes");
    for (line, entry) in [
        (format!("put a.ar7 src/{too_long}"), format!("src/{too_long}")),
        (format!("mkdir a.ar7 src/{too_long}"), format!("src/{too_long}")),
        (format!("mkdir -p a.ar7 made/{too_long}/below"), format!("made/{too_long}/below")),
        (format!("mv a.ar7 src/file src/{too_long}"), "src/file".to_owned()),
    ] {
        bench.fails(&line, 2, &format!("ar7: entry {entry}: {says}"));
        assert_eq!(bench.ok("ls -R a.ar7").text(), listed, "{line}");
    }
    bench.ok(&format!("put a.ar7 src/{longest}"));
    bench.ok(&format!("mkdir a.ar7 {longest}"));
    bench.ok(&format!("mv a.ar7 src/file {longest}/{longest}"));
    bench.ok("verify a.ar7");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let bench = Bench::new();
    bench.write("big", vec![3; 30 << 20]);
    bench.ok("ingest a.ar7 big");
    let mut command = bench.command();
    command.args(["cat", "a.ar7", "big"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = crate::common::spawn(&mut command);
    let mut pipe = child.stdout.take().expect("a pipe");
    pipe.read_exact(&mut [0; 10]).expect("the first bytes");
    drop(pipe);
    let ran = Ran::new(child.wait_with_output().expect("the program ends"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
