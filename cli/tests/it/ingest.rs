//! What `ingest` selects, removes and reports. Each line of `--json-lines` is one document.

use serde_json::Value;

use crate::common::Bench;

fn lines(text: &str) -> Vec<(String, String)> {
    let parsed = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a document"));
    let field =
        |document: &Value, name: &str| document[name].as_str().unwrap_or_default().to_owned();
    parsed.map(|document| (field(&document, "event"), field(&document, "name"))).collect()
}

#[test]
fn each_entry_has_a_line_that_says_what_happened_to_it() {
    let bench = Bench::new();
    for name in ["src/changed", "src/gone", "src/same"] {
        bench.write(name, "1");
    }
    bench.ok("ingest a.ar7 src");
    bench.write("src/changed", "22");
    bench.write("src/new", "3");
    bench.write("src/left.tmp", "4");
    std::fs::remove_file(bench.path("src/gone")).expect("removed");
    let planned = bench.ok("ingest --dry-run --delete --exclude *.tmp a.ar7 src").stderr;
    for line in ["would store src/changed\n", "would remove src/gone\n", "would store src/new\n"] {
        assert!(planned.contains(line), "{planned}");
    }
    let ran = bench.ok("ingest --json-lines --delete --exclude *.tmp a.ar7 src");
    let pair = |event: &str, name: &str| (event.to_owned(), name.to_owned());
    let expected = [
        pair("changed", "src"),
        pair("changed", "src/changed"),
        pair("removed", "src/gone"),
        pair("left out", "src/left.tmp"),
        pair("added", "src/new"),
        pair("unchanged", "src/same"),
        pair("summary", ""),
    ];
    assert_eq!(lines(&ran.text()), expected);
    assert_eq!(bench.ok("ls -R a.ar7").text(), "src\nsrc/changed\nsrc/new\nsrc/same\n");
}

#[test]
fn a_list_of_paths_has_lines_or_ends_each_path_with_a_nul() {
    let bench = Bench::new();
    bench.write("one", "1");
    bench.write("with\nbreak", "2");
    bench.write("lines", "one\n\n");
    bench.write("nuls", "one\0with\nbreak\0");
    bench.ok("ingest a.ar7 --files-from lines");
    assert_eq!(bench.ok("ls a.ar7").text(), "one\n");
    bench.ok("ingest a.ar7 --files-from nuls");
    assert_eq!(bench.ok("ls --json a.ar7").text().matches("\"name\"").count(), 2);
}

#[test]
fn patterns_of_a_file_exclude_and_what_is_included_is_stored_all_the_same() {
    let bench = Bench::new();
    for name in ["src/a.log", "src/keep.log", "src/build/x", "src/sub/build", "src/b"] {
        bench.write(name, "1");
    }
    bench.write("patterns", "# a comment\n*.log\nbuild/\n");
    bench.ok("ingest a.ar7 src --exclude-from patterns --include keep.log --exclude none-such");
    assert_eq!(
        bench.ok("ls -R a.ar7").text(),
        "src\nsrc/b\nsrc/keep.log\nsrc/sub\nsrc/sub/build\n"
    );
    let ran = bench.ok("ingest a.ar7 src --exclude none-such");
    assert!(ran.stderr.contains("ar7: none-such: warning: matches nothing"), "{}", ran.stderr);
}

#[test]
fn of_the_options_with_patterns_the_last_one_that_matches_counts() {
    let bench = Bench::new();
    for name in ["src/a.log", "src/keep.log"] {
        bench.write(name, "1");
    }
    bench.write("logs", "*.log  \r\n");
    let keep_last = "src\nsrc/keep.log\n";
    for (archive, options, expected) in [
        ("1.ar7", "--exclude *.log --include keep.log", keep_last),
        ("2.ar7", "--include keep.log --exclude *.log", "src\n"),
        ("3.ar7", "--exclude-from logs --include keep.log", keep_last),
        ("4.ar7", "--include keep.log --exclude-from logs", "src\n"),
        ("5.ar7", "--include keep.log --exclude *.log --include keep.log", keep_last),
    ] {
        bench.ok(&format!("ingest {archive} src {options}"));
        assert_eq!(bench.ok(&format!("ls -R {archive}")).text(), expected, "{options}");
    }
}
