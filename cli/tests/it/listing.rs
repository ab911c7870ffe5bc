//! `ls`, `find`, `du`, `cat` and `rm` with patterns.

use std::fs;
use std::sync::PoisonError;

use ar7::Special;

use crate::common::{Bench, STARTING, set_time};

fn bench() -> Bench {
    let bench = Bench::new();
    for (path, bytes, day) in
        [("d/a.txt", 10, 10), ("d/b.jpg", 5000, 20), ("d/e/c.txt", 3, 3), ("top.txt", 1, 1)]
    {
        bench.write(&format!("src/{path}"), vec![b'x'; bytes]);
        set_time(&bench.path(&format!("src/{path}")), 1_000_000_000 + day * 86_400, 0);
    }
    std::os::unix::fs::symlink("a.txt", bench.path("src/d/link")).expect("a link");
    bench.ok("ingest --compression none a.ar7 src/.");
    bench
}

fn lines(bench: &Bench, line: &str) -> String {
    bench.ok(line).text().lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_pattern_names_whole_paths() {
    let bench = bench();
    assert_eq!(lines(&bench, "ls a.ar7 *.txt"), "top.txt");
    assert_eq!(lines(&bench, "ls a.ar7 **/*.txt"), "d/a.txt d/e/c.txt top.txt");
    assert_eq!(lines(&bench, "ls a.ar7 ./d"), "a.txt b.jpg e link");
    assert_eq!(lines(&bench, "ls a.ar7 d*"), "d");
    assert_eq!(lines(&bench, "ls -R a.ar7 ?"), "d d/a.txt d/b.jpg d/e d/e/c.txt d/link");
    assert_eq!(bench.ok("cat a.ar7 **/[ac].txt").stdout, [b'x'; 13]);
    bench.fails("ls a.ar7 *.png", 1, "no entry *.png");
    bench.fails("cat a.ar7 *.png", 1, "no entry *.png");
    bench.fails("cat a.ar7 [a", 2, "ar7: [a: ");
    bench.fails("cat a.ar7 **/*.txt --length 1", 2, "matches 3 entries");
}

#[test]
fn an_entry_whose_name_looks_like_a_pattern_is_named_as_it_is_typed() {
    let bench = bench();
    bench.with_input("put a.ar7 d/*.txt", b"star");
    assert_eq!(bench.ok("cat a.ar7 d/*.txt").text(), "star");
    bench.ok("rm a.ar7 d/*.txt");
    assert_eq!(lines(&bench, "ls a.ar7 d/*.txt"), "d/a.txt");
}

#[test]
fn removal_by_pattern_removes_each_match_once_and_nothing_if_one_pattern_has_none() {
    let bench = bench();
    bench.fails("rm a.ar7 *.txt *.png", 1, "no entry *.png");
    bench.fails("rm a.ar7 *", 1, "expected a file or symbolic link (-r removes directories)");
    assert_eq!(lines(&bench, "ls a.ar7"), "d top.txt");
    bench.ok("rm a.ar7 d/*.jpg d/b.*");
    let removed = bench.ok("rm -r a.ar7 d/e/* d/* d/e --json").text();
    let removed: serde_json::Value = serde_json::from_str(&removed).expect("a document");
    assert_eq!(removed["removed"], 4);
    assert_eq!(lines(&bench, "ls -R a.ar7"), "d top.txt");
    bench.ok("verify a.ar7");
}

#[test]
fn find_lists_the_entries_that_meet_every_condition() {
    let bench = bench();
    for (conditions, expected) in [
        ("", "d d/a.txt d/b.jpg d/e d/e/c.txt d/link top.txt"),
        ("--name *.txt", "d/a.txt d/e/c.txt top.txt"),
        ("--name *.jpg --name e", "d/b.jpg d/e"),
        ("--kind directory", "d d/e"),
        ("--kind file,symlink --name [bl]*", "d/b.jpg d/link"),
        ("--larger 9", "d/a.txt d/b.jpg"),
        ("--larger 9 --smaller 1K", "d/a.txt"),
        ("--kind file --older 2001-09-13", "d/e/c.txt top.txt"),
        ("--kind file --newer 2001-09-13", "d/a.txt d/b.jpg"),
        ("--kind file --newer 1d", ""),
    ] {
        let found = lines(&bench, &format!("find a.ar7 {conditions}"));
        assert_eq!(found, expected, "{conditions}");
    }
    assert_eq!(lines(&bench, "find a.ar7 d/e top.txt"), "d/e d/e/c.txt top.txt");
    assert_eq!(lines(&bench, "find a.ar7 d/[a-b]*"), "d/a.txt d/b.jpg");
    assert!(bench.ok("find -l a.ar7 --kind symlink").text().ends_with(" d/link -> a.txt\n"));
    bench.fails("find a.ar7 none", 1, "no entry none");
    bench.fails("find a.ar7 --name [", 2, "[: ");
    assert_eq!(bench.line("find a.ar7 --newer tomorrow").code, 2);
}

#[test]
fn a_list_is_separated_by_zero_bytes_or_consists_of_documents() {
    let bench = bench();
    assert_eq!(bench.run(["mkdir", "a.ar7", "line\nbreak"]).code, 0);
    assert_eq!(bench.ok("ls -0 a.ar7").stdout, b"d\0line\nbreak\0top.txt\0");
    assert_eq!(bench.ok("find --null a.ar7 d/e").stdout, b"d/e\0d/e/c.txt\0");
    for line in ["ls -R a.ar7 --json-lines", "find a.ar7 --json-lines", "du a.ar7 --json-lines"] {
        let text = bench.ok(line).text();
        let documents = text.lines().map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("a document in a line")
        });
        assert!(documents.count() > 2, "{line}: {text}");
    }
    for line in ["ls a.ar7 --json", "find a.ar7 --json", "du a.ar7 --json"] {
        let document: serde_json::Value =
            serde_json::from_slice(&bench.ok(line).stdout).expect("one document");
        assert!(document["entries"].as_array().is_some_and(|entries| entries.len() > 2), "{line}");
    }
}

#[test]
fn du_adds_up_each_directory_and_counts_a_file_with_two_names_once() {
    let bench = bench();
    fs::hard_link(bench.path("src/d/b.jpg"), bench.path("src/d/e/again")).expect("a link");
    bench.ok("ingest a.ar7 src/.");
    let du = |line: &str| {
        let text = bench.ok(line).text();
        let fields = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(fields).collect::<Vec<_>>()
    };
    let link = 5;
    let (inner, outer) = (3, 10 + 5000 + 3 + link);
    let all = outer + 1;
    assert_eq!(
        du("du a.ar7"),
        [format!("{inner} 4096 d/e"), format!("{outer} 16384 d"), format!("{all} 20480 .")]
    );
    assert_eq!(du("du a.ar7 --depth 0"), [format!("{all} 20480 .")]);
    assert_eq!(du("du a.ar7 d --depth 0"), [format!("{outer} 16384 d")]);
    assert_eq!(du("du -h a.ar7 d/b.jpg"), ["4.88 KiB 8.00 KiB d/b.jpg"]);
    assert!(bench.ok("du --help").text().contains("--human-readable"));
}

#[test]
fn devices_and_other_special_entries_have_their_letters_numbers_and_kinds() {
    let bench = Bench::new();
    {
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let key = ar7::Key::from([7; 32]);
        let archive = ar7::Archive::create(bench.path("a.ar7"), &key).expect("an archive");
        let transaction = archive.begin().expect("a transaction");
        let device = ar7::Device { major: 8, minor: 17 };
        for (path, special) in [
            ("fifo", Special::Fifo),
            ("socket", Special::Socket),
            ("character", Special::CharacterDevice(device)),
            ("block", Special::BlockDevice(device)),
        ] {
            transaction.create_special(path, special).expect("an entry");
        }
        let (name, value) = (b"user.note".to_vec(), b"1".to_vec());
        let attributes = [ar7::ExtendedAttribute { name, value }];
        transaction.set_extended_attributes("fifo", &attributes).expect("attributes");
        transaction.commit().expect("a commit");
        archive.close().expect("closed");
    }
    let listed = bench.ok("ls -l a.ar7").text();
    let mode = |line: &str| line.split_whitespace().next().expect("a mode").to_owned();
    let modes: Vec<String> = listed.lines().map(mode).collect();
    assert_eq!(modes.iter().map(|mode| &mode[..1]).collect::<String>(), "bcps", "{listed}");
    assert_eq!(listed.matches("8, 17").count(), 2, "{listed}");
    let has_attributes = |line: &&str| line.contains("fifo");
    let marked: Vec<&str> = listed.lines().filter(|line| line.as_bytes()[10] == b'+').collect();
    assert!(marked.len() == 1 && marked.iter().all(has_attributes), "{listed}");
    for (kind, name) in [
        ("fifo", "fifo"),
        ("socket", "socket"),
        ("character-device", "character"),
        ("block-device", "block"),
    ] {
        assert_eq!(lines(&bench, &format!("find a.ar7 --kind {kind}")), name);
    }
    let documents: serde_json::Value =
        serde_json::from_str(&bench.ok("ls a.ar7 --json").text()).expect("a document");
    assert_eq!(documents["entries"][0]["device"]["minor"], 17);
    assert_eq!(documents["entries"][2]["has_extended_attributes"], true);
    bench.fails("cat a.ar7 fifo", 1, "entry fifo: expected a file, found a fifo");
}
