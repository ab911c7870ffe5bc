//! `import-archive7`: exit codes, and what is left after a failure.

use std::fs;

use crate::common::Bench;

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vectors/archive7");

/// Returns a bench with an archive of the Python module, and the key of these archives.
fn bench(name: &str) -> (Bench, Vec<u8>) {
    let bench = Bench::new();
    let file = fs::read(format!("{MODULE}/{name}")).expect("an archive of the module");
    fs::write(bench.path("old.ar7"), &file).expect("a writable folder");
    bench.write_key("old.key", [7; 32]);
    (bench, file)
}

const IMPORT: &str = "import-archive7 old.ar7 new.ar7 --old-key-file old.key";

#[test]
fn every_kind_is_imported_into_its_own_kind_and_the_old_file_is_not_written() {
    for (name, kind, stream, bytes) in [
        ("multi.ar7", "dynamic", "00f06b88-fc17-4742-8dde-d4ea4f6aab44", 300_000),
        ("empty.ar7", "dynamic", "", 0),
        ("single.ar7", "single", "0", 100_000),
        ("single-empty.ar7", "single", "0", 0),
    ] {
        let (bench, file) = bench(name);
        bench.ok(IMPORT);
        assert!(fs::read(bench.path("old.ar7")).unwrap() == file, "{name}");
        assert!(bench.ok("info new.ar7").text().contains(kind), "{name}");
        bench.ok("verify new.ar7");
        if !stream.is_empty() {
            let content = bench.ok(&format!("cat new.ar7 --stream {stream}")).stdout;
            assert_eq!(content.len(), bytes, "{name}");
        }
    }
}

#[test]
fn the_kind_of_an_archive_with_one_special_stream_is_an_option() {
    let (bench, _) = bench("single-empty.ar7");
    bench.ok(&format!("{IMPORT} --kind fixed"));
    assert!(bench.ok("info new.ar7").text().contains("fixed"));
}

#[test]
fn a_failed_import_leaves_no_archive() {
    let (bench, mut file) = bench("multi.ar7");
    bench.write_key("wrong.key", [8; 32]);
    let wrong = "import-archive7 old.ar7 new.ar7 --old-key-file wrong.key";
    bench.fails(wrong, 3, "old.ar7: wrong key: it opens none of the 112 blocks");
    // A block of a stream: opening the archive does not read it, only the import does.
    file[50 * 4096 + 100] ^= 1;
    fs::write(bench.path("old.ar7"), &file).unwrap();
    bench.fails(IMPORT, 4, "old.ar7: damaged: block 50: authentication tag");
    assert!(!bench.path("new.ar7").exists());
    fs::write(bench.path("new.ar7"), "content").unwrap();
    bench.fails(IMPORT, 1, "new.ar7: create");
    assert_eq!(fs::read(bench.path("new.ar7")).unwrap(), b"content");
}
