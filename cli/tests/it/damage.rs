//! Commands on a damaged archive use everything that opens, list what does not, and exit with 4. `repair` restores what
//! has a good copy.

use std::fs;

use serde_json::Value;

use crate::common::Bench;

/// Overwrites a block of a file with zeros.
fn destroy(bench: &Bench, archive: &str, block: usize) {
    let mut bytes = fs::read(bench.path(archive)).expect("an archive");
    bytes[block * 4096..][..4096].fill(0);
    fs::write(bench.path(archive), bytes).expect("an archive");
}

/// Each block alone: every file is restored, or it is named.
#[test]
fn whatever_block_is_bad_the_rest_is_restored_and_losses_are_listed() {
    let bench = Bench::new();
    for number in 0..60_u8 {
        let name = format!("src/d{}/{number}{}", number % 3, "n".repeat(180));
        bench.write(&name, vec![number; 90 * usize::from(number)]);
    }
    bench.ok("ingest --compression none good.ar7 src --quiet");
    let files = bench.ok("find good.ar7 --kind file").text();
    let files: Vec<&str> = files.lines().collect();
    assert_eq!(files.len(), 60);
    let blocks = usize::try_from(fs::metadata(bench.path("good.ar7")).expect("a file").len())
        .expect("small")
        / 4096;
    let mut lossy = 0;
    for block in (8..blocks).step_by(3) {
        fs::copy(bench.path("good.ar7"), bench.path("a.ar7")).expect("a copy");
        destroy(&bench, "a.ar7", block);
        let ran = bench.line("extract a.ar7 --to out --quiet");
        let is_restored = |file: &&&str| {
            fs::read(bench.path("out").join(file)).ok() == fs::read(bench.path(file)).ok()
        };
        let lost: Vec<&&str> = files.iter().filter(|file| !is_restored(file)).collect();
        assert_eq!(ran.code, if lost.is_empty() { 0 } else { 4 }, "block {block}: {}", ran.stderr);
        // Every index page exists twice, so one block costs no name.
        for file in &lost {
            assert!(ran.stderr.contains(**file), "block {block}: {file} is not in {}", ran.stderr);
        }
        if !lost.is_empty() {
            lossy += 1;
            let verified = bench.line("verify a.ar7 --json");
            assert_eq!(verified.code, 4);
            let document: Value = serde_json::from_slice(&verified.stdout).expect("a document");
            let mut found = document["findings"].as_array().expect("findings").iter();
            assert!(found.any(|found| !found["affected"].is_null()), "block {block}");
        }
        let listed = bench.line("ls a.ar7 -R --long");
        assert!(matches!(listed.code, 0 | 4), "{}", listed.stderr);
        fs::remove_dir_all(bench.path("out")).expect("removed");
    }
    assert!(lossy > 10, "{lossy}");
}

#[test]
fn cat_goes_on_after_a_damaged_file_and_verify_names_it() {
    let bench = Bench::new();
    for number in 0..5_u8 {
        bench.write(&format!("src/{number}"), vec![b'0' + number; 4000]);
    }
    bench.ok("ingest --compression none a.ar7 src --quiet");
    let found = (8..30).find(|&block| {
        fs::copy(bench.path("a.ar7"), bench.path("b.ar7")).expect("a copy");
        destroy(&bench, "b.ar7", block);
        bench.line("cat b.ar7 src/2").code == 4
    });
    found.expect("a block of the file");
    let ran = bench.line("cat b.ar7 src/*");
    assert_eq!((ran.code, ran.stdout.len()), (4, 4 * 4000), "{}", ran.stderr);
    let ran = bench.line("verify b.ar7");
    assert!(ran.text().contains("\naffected: src/2\n"), "{}", ran.text());
    assert_eq!(ran.text().matches("affected").count(), 1);
}

#[test]
fn repair_restores_header_and_slots_and_says_what_has_no_copy() {
    let bench = Bench::new();
    bench.write("file", "content");
    bench.ok("ingest --compression none a.ar7 file --quiet");
    let whole = bench.ok("repair a.ar7").text();
    assert_eq!(whole, "0 blocks repaired, 0 without a good copy\n");
    let mut unrepaired = 0;
    for block in [0, 1, 2, 3, 4, 7] {
        fs::copy(bench.path("a.ar7"), bench.path("b.ar7")).expect("a copy");
        destroy(&bench, "b.ar7", block);
        assert_eq!(bench.line("verify b.ar7").code, 4, "{block}");
        let ran = bench.line("repair b.ar7");
        if ran.code == 4 {
            // It may have held a newer commit.
            unrepaired += 1;
            assert!(
                ran.text().starts_with(&format!("block {block}: no good copy\n")),
                "{}",
                ran.text()
            );
        } else {
            assert_eq!(
                ran.text(),
                format!(
                    "block {block}: written again from its copy\n1 block repaired, 0 without a good copy\n"
                )
            );
            bench.ok("verify b.ar7");
        }
    }
    assert_eq!(unrepaired, 2);
}

/// Each block alone: a bad copy of an index page is restored. If every copy is bad, nothing is.
#[test]
fn repair_restores_index_pages_from_their_copies() {
    let bench = Bench::new();
    for number in 0..60_u8 {
        bench.write(&format!("src/{number}{}", "n".repeat(180)), [number; 10]);
    }
    bench.ok("ingest --compression none good.ar7 src --quiet");
    let length = fs::metadata(bench.path("good.ar7")).expect("a file").len();
    let mut pages = Vec::new();
    for block in 8..usize::try_from(length / 4096).expect("small") {
        fs::copy(bench.path("good.ar7"), bench.path("a.ar7")).expect("a copy");
        destroy(&bench, "a.ar7", block);
        let report = bench.ok("repair a.ar7").text();
        if report.starts_with(&format!("block {block}: written again from its copy\n1 block ")) {
            bench.ok("verify a.ar7");
            pages.push(block);
        } else {
            assert_eq!(report, "0 blocks repaired, 0 without a good copy\n", "block {block}");
        }
    }
    assert!(pages.len() > 12 && pages.len() % 2 == 0, "{pages:?}");
    for &block in &pages {
        destroy(&bench, "good.ar7", block);
    }
    let ran = bench.line("repair good.ar7");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let report = ran.text();
    assert!(report.contains(": no good copy\n0 blocks repaired, "), "{report}");
}

/// The third copies of header and meta slots, each alone. A power cut can tear the one of the newest commit.
#[test]
fn a_third_copy_that_a_crash_may_have_torn_is_a_warning_and_any_other_is_damage() {
    let bench = Bench::new();
    bench.write("file", vec![7; 2 << 20]);
    bench.ok("ingest --compression none good.ar7 file --quiet");
    // The commit before the newest one has third copies, too.
    bench.ok("mkdir good.ar7 directory");
    let mut codes = Vec::new();
    for block in [256, 257, 258] {
        fs::copy(bench.path("good.ar7"), bench.path("a.ar7")).expect("a copy");
        destroy(&bench, "a.ar7", block);
        let ran = bench.line("verify a.ar7");
        let warning = format!("a copy is damaged at block {block}; nothing is lost");
        assert_eq!(ran.stderr.contains(&warning), ran.code == 0, "{}", ran.stderr);
        codes.push(ran.code);
        let report = bench.ok("repair a.ar7").text();
        let restored = format!("block {block}: written again from its copy\n1 block ");
        assert!(report.starts_with(&restored), "{report}");
        assert_eq!(bench.ok("verify a.ar7").stderr, "");
    }
    codes[1..].sort_unstable();
    assert_eq!(codes, [4, 0, 4]);
}
