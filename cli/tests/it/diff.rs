//! `diff` prints each difference between a directory and what is stored of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::common::Bench;

#[test]
fn every_difference_is_printed_with_both_values() {
    let bench = Bench::new();
    for name in ["changed", "longer", "mode", "missing", "kind", "same", "d/inner", "time"] {
        bench.write(&format!("src/{name}"), "content");
    }
    symlink("before", bench.path("src/link")).expect("a link");
    bench.ok("ingest a.ar7 src --into backup");
    bench.ok("diff a.ar7 src --into backup");
    bench.fails("diff a.ar7 src", 1, "no entry src");
    let keep_time = |name: &str, change: &dyn Fn(&Path)| {
        let path = bench.path(&format!("src/{name}"));
        let modified = fs::metadata(&path).expect("metadata").modified().expect("a time");
        change(&path);
        let file = fs::File::options().write(true).open(&path).expect("a file");
        file.set_modified(modified).expect("a time");
    };
    keep_time("changed", &|path| fs::write(path, "CONTENT").expect("written"));
    keep_time("longer", &|path| fs::write(path, "content and more").expect("written"));
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(bench.path("src/mode"), mode(0o600)).expect("a mode");
    fs::remove_file(bench.path("src/missing")).expect("removed");
    fs::remove_file(bench.path("src/kind")).expect("removed");
    fs::create_dir(bench.path("src/kind")).expect("a directory");
    bench.write("src/d/extra", "new");
    fs::remove_file(bench.path("src/link")).expect("removed");
    symlink("after", bench.path("src/link")).expect("a link");
    let time = std::time::UNIX_EPOCH;
    let file = fs::File::options().write(true).open(bench.path("src/time")).expect("a file");
    file.set_modified(time).expect("a time");

    let ran = bench.line("diff a.ar7 src --into backup");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let text = ran.text();
    let lines: Vec<&str> = text.lines().collect();
    for expected in [
        "backup/src/changed: content",
        "backup/src/longer: size: stored 7, found 16",
        "backup/src/missing: missing",
        "backup/src/kind: type: stored file, found directory",
        "backup/src/d/extra: extra",
        "backup/src/link: target: stored before, found after",
    ] {
        assert!(lines.contains(&expected), "{expected}: {text}");
    }
    let begins = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(begins("backup/src/mode: mode: stored 06"), 1, "{text}");
    assert_eq!(begins("backup/src/time: time: stored 2"), 1, "{text}");
    assert_eq!(begins("backup/src/same"), 0, "{text}");
    assert_eq!(begins("backup/src/d/inner"), 0, "{text}");
    let count = format!("ar7: a.ar7: {} differences\n", lines.len());
    assert_eq!(ran.stderr, count);

    let json = bench.line("diff a.ar7 src --into backup --json-lines");
    assert_eq!(json.code, 1);
    let documents: Vec<serde_json::Value> =
        json.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(documents.len(), lines.len() + 1);
    let size = documents.iter().find(|one| one["difference"] == "size").expect("a size");
    assert_eq!((&size["stored"], &size["found"]), (&"7".into(), &"16".into()));
    assert_eq!(documents.last().expect("a summary")["differences"], lines.len());
}

#[test]
fn the_content_of_a_directory_is_compared_with_what_contains_it() {
    let bench = Bench::new();
    bench.write("src/f", "content");
    bench.ok("ingest a.ar7 src/.");
    bench.ok("diff a.ar7 src/.");
    bench.write("src/g", "new");
    let ran = bench.line("diff a.ar7 src/.");
    assert_eq!((ran.code, ran.text().as_str()), (1, "g: extra\n"));
    // What cannot be read outweighs a difference: the comparison is not complete.
    fs::set_permissions(bench.path("src/f"), fs::Permissions::from_mode(0o000)).expect("a mode");
    let mut command = bench.without_privileges();
    let ran = crate::common::output(command.args(["diff", "a.ar7", "src/."]));
    assert_eq!(ran.code, 8, "{}", ran.stderr);
    assert!(ran.stderr.contains("f: open: Permission denied"), "{}", ran.stderr);
}
