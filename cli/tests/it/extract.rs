//! `extract` with each of its options, and into directories that do not allow changes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::common::{Bench, output, tree};

#[test]
fn directories_that_their_owner_may_not_change_are_restored_over() {
    let bench = Bench::new();
    for (name, mode) in [("read", 0o555), ("none", 0o000), ("write", 0o300)] {
        bench.write(&format!("src/{name}/f"), name);
        bench.write(&format!("src/{name}/below/f"), name);
        let path = bench.path(&format!("src/{name}"));
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }
    fs::set_permissions(bench.path("src"), fs::Permissions::from_mode(0o500)).expect("a mode");
    // As root, every directory can be read.
    bench.ok("ingest a.ar7 src");
    let extract = |arguments: &[&str]| {
        let line = ["extract", "a.ar7", "--to", "out"];
        output(bench.without_privileges().args(line).args(arguments))
    };
    let first = extract(&[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let whole = tree(&bench.path("src"));
    assert_eq!(tree(&bench.path("out/src")), whole);
    for name in ["read", "none", "write"] {
        fs::write(bench.path(&format!("out/src/{name}/f")), "changed").expect("written");
    }
    let second = extract(&["--force"]);
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert_eq!(tree(&bench.path("out/src")), whole);
    let third = extract(&["--overwrite", "never"]);
    assert_eq!(third.code, 0, "{}", third.stderr);
    assert_eq!(tree(&bench.path("out/src")), whole);
}

/// Only the superuser can give a directory to another user.
#[test]
fn a_directory_that_everybody_may_change_is_restored_into_though_it_belongs_to_another_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    bench.write("src/f", "content");
    bench.ok("ingest a.ar7 src");
    let there = bench.path("out/src");
    fs::create_dir_all(&there).expect("a directory");
    fs::set_permissions(&there, fs::Permissions::from_mode(0o577)).expect("a mode");
    std::os::unix::fs::chown(&there, Some(5000), Some(5000)).expect("another owner");
    let line = ["extract", "a.ar7", "--to", "out", "--overwrite", "never"];
    let ran = output(bench.without_privileges().args(line));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(fs::read(there.join("f")).expect("restored"), b"content");
    assert_eq!(fs::metadata(&there).expect("a directory").permissions().mode() & 0o7777, 0o577);
}

#[test]
fn overwrite_selects_which_files_are_replaced() {
    let bench = Bench::new();
    bench.write("src/older", "archive");
    bench.write("src/newer", "archive");
    bench.ok("ingest a.ar7 src");
    for (option, older, newer) in [
        ("always", "archive", "archive"),
        ("if-newer", "archive", "present"),
        ("if-changed", "archive", "archive"),
        ("never", "present", "present"),
    ] {
        for (name, seconds) in [("older", 0), ("newer", 4_000_000_000)] {
            bench.write(&format!("out/src/{name}"), "present");
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let file = fs::File::open(bench.path(&format!("out/src/{name}"))).expect("a file");
            file.set_modified(time).expect("a time");
        }
        bench.ok(&format!("extract a.ar7 --to out --overwrite {option}"));
        let content = |name: &str| fs::read_to_string(bench.path(name)).expect("a file");
        assert_eq!(content("out/src/older"), older, "{option}");
        assert_eq!(content("out/src/newer"), newer, "{option}");
    }
    bench.fails("extract a.ar7 --to out", 1, "out/src: already exists; --force replaces it");
    bench.ok("extract a.ar7 --to out --force");
}

#[test]
fn files_of_one_name_from_several_directories_keep_their_paths() {
    let bench = Bench::new();
    bench.write("src/f", "1");
    bench.write("src/d/f", "2");
    bench.write("src/d/g", "3");
    bench.ok("ingest a.ar7 src");
    bench.ok("extract a.ar7 src/f ./src/d/f --to clash");
    bench.ok("extract a.ar7 src/d/g --whole-paths --to whole");
    bench.ok("extract a.ar7 src/d/g --to last");
    for (path, content) in
        [("clash/src/f", "1"), ("clash/src/d/f", "2"), ("whole/src/d/g", "3"), ("last/g", "3")]
    {
        assert_eq!(fs::read_to_string(bench.path(path)).expect(path), content);
    }
    assert!(!bench.path("clash/src/d/g").exists());
}

#[test]
fn a_path_that_does_not_exist_is_reported_and_the_others_are_restored() {
    let bench = Bench::new();
    bench.write("src/f", "content");
    bench.ok("ingest a.ar7 src");
    let ran = bench.line("extract a.ar7 src/none src/f --to out");
    assert_eq!(ran.code, 1);
    let says = "ar7: no entry src/none\nar7: a.ar7: 1 entry could not be restored\n";
    assert_eq!(ran.stderr, says);
    assert_eq!(fs::read(bench.path("out/f")).expect("a file"), b"content");
}

#[test]
fn globs_select_and_exclude_entries() {
    let bench = Bench::new();
    for name in ["src/a.txt", "src/b.log", "src/d/c.txt", "src/d/[x].log", "src/cache/e.txt"] {
        bench.write(name, name);
    }
    fs::create_dir(bench.path("src/empty")).expect("a directory");
    bench.ok("ingest a.ar7 src");
    let names = |line: &str| -> Vec<String> {
        let to = format!("to{}", line.replace(['*', '/', ' ', '[', ']'], "_"));
        bench.ok(&format!("extract a.ar7 --to {to} {line}"));
        let lines = tree(&bench.path(&to));
        lines.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    assert_eq!(names("*.txt --exclude cache/").len(), 4);
    assert_eq!(names("src/d/*").len(), 4);
    // A path that exists is no glob.
    assert_eq!(names("src/d/[x].log").len(), 1);
    assert_eq!(names("./src/d *.log").len(), 5);
    assert_eq!(names("--exclude *.txt").len(), 6);
    let ran = bench.line("extract a.ar7 *.none *.log --to none --exclude *.nothing");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("ar7: no entry *.none\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ar7: *.nothing: warning: matches nothing\n"), "{}", ran.stderr);
    let says = "ar7: [a: unclosed character class; missing ']'";
    bench.fails("extract a.ar7 --to malformed --exclude [a", 2, says);
}

#[test]
fn json_lines_list_every_entry_and_a_summary() {
    let bench = Bench::new();
    bench.write("src/f", "content");
    bench.write("src/g", "content");
    bench.ok("ingest a.ar7 src");
    bench.write("out/src/f", "present");
    let line = "extract a.ar7 src none --to out --overwrite never --json-lines";
    let ran = bench.line(line);
    assert_eq!(ran.code, 1);
    let documents: Vec<serde_json::Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let event = |event: &str| documents.iter().find(|one| one["event"] == event).expect("an event");
    assert_eq!(event("restored")["name"], "out/src/g");
    assert_eq!(event("kept")["name"], "out/src/f");
    assert_eq!(event("not restored")["reason"], "no entry none");
    let summary = documents.last().expect("a summary");
    assert_eq!((&summary["entries"], &summary["kept"]), (&1.into(), &1.into()));
}

#[test]
fn holes_are_left_as_the_option_says() {
    let bench = Bench::new();
    let mut content = vec![0; 1 << 20];
    content.extend(b"end");
    bench.write("sparse", &content);
    bench.ok("ingest a.ar7 sparse");
    for (option, bytes_max) in [("auto", 64 << 10), ("always", 64 << 10), ("never", 2 << 20)] {
        bench.ok(&format!("extract a.ar7 --to {option} --sparse {option}"));
        let path = bench.path(&format!("{option}/sparse"));
        assert_eq!(fs::read(&path).expect("a file"), content, "{option}");
        let allocated = fs::metadata(&path).expect("metadata").blocks() * 512;
        assert!(allocated <= bytes_max, "{option}: {allocated}");
        assert!(option != "never" || allocated > 1 << 20, "{option}: {allocated}");
    }
}
