//! Hostile archives, made by an attacker with the key. Whatever they contain:
//!
//! - extraction ends, writes only below its destination, and restores every entry that is not forged;
//! - listing and verification end, and exit with the code for damage if they find a forged entry.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::common::Bench;
use crate::forge::{Forge, directory, file, link};
use ar7_registry::records::{EntryType, InodeNumber};

/// Creates a directory next to the destination, which extraction must not change. Returns a listing of it.
fn outside(bench: &Bench) -> Vec<String> {
    bench.write("outside/victim", "unharmed");
    crate::common::tree(&bench.path("outside"))
}

#[test]
fn extract_refuses_malformed_names() {
    let vectors: [&[u8]; 7] =
        [b"", b".", b"..", b"../victim", b"/tmp/ar7-victim", b"zero\0byte", &[b'n'; 256]];
    for name in vectors {
        let bench = Bench::new();
        let before = outside(&bench);
        let mut forge = Forge::new(&bench.path("a.ar7"));
        forge.inode(2, &file(0));
        forge.name(1, name, 2, EntryType::File);
        forge.inode(3, &directory(1));
        forge.name(1, b"\x01good", 3, EntryType::Directory);
        forge.finish();
        fs::create_dir(bench.path("out")).expect("a directory");
        for line in ["extract a.ar7 --to outside/../out", "ls -R a.ar7", "verify a.ar7"] {
            let ran = bench.line(line);
            assert_eq!(ran.code, 4, "{name:?}: {line}: {}", ran.stderr);
        }
        assert_eq!(crate::common::tree(&bench.path("outside")), before, "{name:?}");
        let restored = crate::common::tree(&bench.path("out"));
        assert!(restored.iter().all(|line| line.starts_with(r"\x01good ")), "{restored:?}");
    }
}

#[test]
fn a_cycle_of_directories_is_damage_and_every_command_ends() {
    for (directory_inode, name) in [(1, &b"loop"[..]), (2, b"self"), (2, b"twin")] {
        let bench = Bench::new();
        let mut forge = Forge::new(&bench.path("a.ar7"));
        forge.inode(2, &directory(1));
        forge.name(1, b"d", 2, EntryType::Directory);
        forge.name(2, name, directory_inode, EntryType::Directory);
        forge.inode(3, &directory(1));
        forge.name(1, b"e", 3, EntryType::Directory);
        forge.finish();
        for line in ["extract a.ar7 --to out", "ls -R a.ar7", "verify a.ar7", "rm -r a.ar7 d"] {
            let ran = bench.line(line);
            assert_eq!(ran.code, 4, "{line}: {}", ran.stderr);
        }
        assert!(bench.path("out/e").is_dir());
    }
}

#[test]
fn missing_and_contradictory_inodes_are_damage() {
    let bench = Bench::new();
    let mut forge = Forge::new(&bench.path("a.ar7"));
    forge.name(1, b"missing", 9, EntryType::File);
    forge.inode(2, &file(10));
    forge.name(1, b"no stream", 2, EntryType::File);
    forge.inode(3, &link(b"../outside"));
    forge.name(1, b"link as directory", 3, EntryType::Directory);
    forge.inode(4, &file(0));
    forge.name(1, b"ok", 4, EntryType::File);
    forge.name(3, b"victim", 4, EntryType::File);
    forge.inode(5, &link(b"zero\0byte"));
    forge.name(1, b"zero", 5, EntryType::Symlink);
    forge.finish();
    let before = outside(&bench);
    let ran = bench.line("extract a.ar7 --to out");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(bench.path("out/ok").is_file());
    assert!(!bench.path("out/no stream").exists());
    bench.line("extract a.ar7 --force --to out");
    let ran = bench.line("extract --to out2 a.ar7 link\\ as\\ directory/victim");
    assert_ne!(ran.code, 0);
    assert_eq!(crate::common::tree(&bench.path("outside")), before);
    assert_eq!(bench.line("verify a.ar7").code, 4);
}

#[test]
fn a_name_without_an_inode_is_damage_and_every_other_entry_stays_usable() {
    let bench = Bench::new();
    let mut forge = Forge::new(&bench.path("a.ar7"));
    forge.inode(2, &directory(1));
    forge.name(1, b"d", 2, EntryType::Directory);
    forge.name(2, b"bad", 9, EntryType::File);
    forge.inode(3, &file(0));
    forge.name(2, b"before", 3, EntryType::File);
    forge.inode(4, &file(0));
    forge.name(2, b"after", 4, EntryType::File);
    forge.finish();
    let says = "entry d/bad: damaged: inode 9 is missing";
    for line in ["ls a.ar7 d/bad", "cat a.ar7 d/bad"] {
        bench.fails(line, 4, says);
    }
    for line in
        ["extract a.ar7 --to alone d/bad", "extract a.ar7 --to out", "ls -R a.ar7", "ls -lR a.ar7"]
    {
        let ran = bench.line(line);
        assert_eq!(ran.code, 4, "{line}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("ar7: {says}\n")), "{line}: {}", ran.stderr);
    }
    assert!(!bench.path("alone/bad").exists());
    assert_eq!(bench.line("ls -R a.ar7").text(), "d\nd/after\nd/before\n");
    assert_eq!(fs::read_dir(bench.path("out/d")).expect("a directory").count(), 2);
    bench.write("d/bad", "new");
    bench.fails("ingest a.ar7 d", 4, says);
    for line in ["ls a.ar7 d/before", "cat a.ar7 d/after", "extract a.ar7 --to alone d/after"] {
        bench.ok(line);
    }
}

#[test]
fn extract_never_follows_a_symbolic_link() {
    let bench = Bench::new();
    let before = outside(&bench);
    // First a link named `d` to a directory outside, then a directory `d` with a file in it.
    fs::create_dir(bench.path("one")).expect("a directory");
    symlink("../outside", bench.path("one/d")).expect("a link");
    symlink("../outside/victim", bench.path("one/f")).expect("a link");
    bench.write("two/d/victim", "harm");
    bench.write("two/f", "harm");
    bench.ok("ingest one.ar7 one/.");
    bench.ok("ingest two.ar7 two/.");
    bench.ok("extract one.ar7 --to out");
    bench.fails("extract two.ar7 --to out", 1, "out/d: already exists");
    assert_eq!(crate::common::tree(&bench.path("outside")), before);
    bench.ok("extract two.ar7 --to out --force");
    assert_eq!(crate::common::tree(&bench.path("outside")), before);
    assert_eq!(fs::read(bench.path("out/d/victim")).expect("a file"), b"harm");
    assert!(!bench.path("out/d").is_symlink() && !bench.path("out/f").is_symlink());
    // The reverse fails: the directory is not empty, so the link cannot replace it.
    let refused = bench.line("extract one.ar7 --to out --force");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert_eq!(crate::common::tree(&bench.path("outside")), before);
}

#[test]
fn hard_links_are_never_made_through_a_symbolic_link() {
    let bench = Bench::new();
    let before = outside(&bench);
    let mut forge = Forge::new(&bench.path("a.ar7"));
    let mut twice = file(0);
    twice.links = 2;
    forge.inode(2, &twice);
    // A symbolic link with two names, followed by a file with several names.
    let mut link_twice = link(b"../outside/victim");
    link_twice.links = 2;
    forge.inode(3, &link_twice);
    forge.name(1, b"a", 3, EntryType::Symlink);
    forge.name(1, b"b", 3, EntryType::Symlink);
    forge.name(1, b"c", 2, EntryType::File);
    forge.name(1, b"d", 2, EntryType::File);
    forge.name(1, b"e", 2, EntryType::File);
    forge.finish();
    let ran = bench.line("extract a.ar7 --to out");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(crate::common::tree(&bench.path("out")).len(), 5);
    assert_eq!(crate::common::tree(&bench.path("outside")), before);
}

#[test]
fn a_tree_nested_deeper_than_a_listing_allows_is_extracted() {
    let bench = Bench::new();
    let mut forge = Forge::new(&bench.path("a.ar7"));
    for inode in 1..3000 {
        forge.inode(inode + 1, &directory(inode));
        forge.name(inode, b"d", inode + 1, EntryType::Directory);
    }
    forge.finish();
    bench.ok("extract a.ar7 --to out");
    bench.ok("diff a.ar7 out/.");
    assert_eq!(bench.ok("ls -R a.ar7").text().lines().count(), 2999);
    // The tree is too deep for the recursive removal of the temporary directory.
    let removed = std::process::Command::new("rm").arg("-rf").arg(bench.path("out")).status();
    assert!(removed.expect("rm runs").success());
}

#[test]
fn extract_drops_special_bits_unless_asked_to_keep_them() {
    let bench = Bench::new();
    let mut forge = Forge::new(&bench.path("a.ar7"));
    let mut special = file(0);
    special.attributes.mode = 0o6755;
    forge.inode(2, &special);
    forge.name(1, b"s", 2, EntryType::File);
    forge.finish();
    bench.ok("extract a.ar7 --to out");
    let mode = |path: &str| fs::metadata(bench.path(path)).expect("a file").permissions().mode();
    assert_eq!(mode("out/s") & 0o7777, 0o755);
    bench.ok("extract a.ar7 --to out2 --preserve-special");
    assert_eq!(mode("out2/s") & 0o7777, 0o6755);
}

#[test]
fn the_forge_can_make_a_valid_archive() {
    let bench = Bench::new();
    let mut forge = Forge::new(&bench.path("a.ar7"));
    forge.inode(2, &file(0));
    forge.name(InodeNumber::ROOT.0, b"good", 2, EntryType::File);
    forge.finish();
    bench.ok("verify a.ar7");
    assert_eq!(bench.ok("ls a.ar7").text(), "good\n");
}

#[test]
fn verify_prints_each_finding_as_a_line_or_in_one_document() {
    let bench = Bench::new();
    let mut forge = Forge::new(&bench.path("a.ar7"));
    for (number, name) in [(2, &b"one"[..]), (3, b"two")] {
        // The type in the inode differs from the type in the name.
        forge.inode(number, &directory(1));
        forge.name(1, name, number, EntryType::File);
    }
    forge.finish();
    let listed = bench.line("verify a.ar7");
    assert_eq!(listed.code, 4, "{}", listed.stderr);
    let lines = listed.text();
    assert!(lines.lines().all(|line| !line.starts_with(['{', '['])), "{lines}");
    assert!(lines.contains("name \"one\"") && lines.contains("name \"two\""), "{lines}");
    let json = bench.line("verify a.ar7 --json");
    assert_eq!(json.code, 4, "{}", json.stderr);
    let json: serde_json::Value = serde_json::from_str(&json.text()).expect("one document");
    let findings = json["findings"].as_array().expect("a list");
    assert!(findings.len() >= 2, "{findings:?}");
    assert!(findings[0]["subject"].as_str().expect("a text").contains("one"), "{findings:?}");
}
