//! Extracted entries equal the stored ones:
//!
//! - every kind of entry and every unusual name keeps its content, mode, mtime and links;
//! - a second ingest stores only entries that changed;
//! - `mv`, `rm` and `mkdir` change names as documented.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::common::{Bench, set_time, tree};

fn odd_tree(bench: &Bench) {
    let root = bench.path("src");
    fs::create_dir_all(root.join("deep/er/empty")).expect("directories");
    for (name, content) in [
        (&b"plain"[..], &b"content"[..]),
        (b"empty", b""),
        (b"not utf-8 \xff\xfe", b"1"),
        (b"new\nline", b"2"),
        (b" blanks\t", b"3"),
        (b"-rf", b"4"),
        (b"\\x1b[31m\x1b[31m", b"5"),
        (b"deep/er/file", &[0xa5; 10_000]),
        (b"deep/exactly", &[1; 4008]),
        (b"deep/exactly2", &[2; 8016]),
        (b"deep/one more", &[3; 4009]),
        (&[b'n'; 255], b"6"),
    ] {
        fs::write(root.join(OsStr::from_bytes(name)), content).expect("a file");
    }
    fs::hard_link(root.join("plain"), root.join("deep/hard")).expect("a hard link");
    for (target, name) in [("plain", "link"), ("/no/where", "dangling"), ("..", "up")] {
        symlink(target, root.join(name)).expect("a link");
        set_time(&root.join(name), 1_000_000_000, 5);
    }
    symlink(OsStr::from_bytes(&[b't'; 2000]), root.join("long")).expect("a link");
    symlink(OsStr::from_bytes(b"\xf0\x9f"), root.join("odd target")).expect("a link");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode("plain", 0o640);
    mode("empty", 0o000);
    mode("deep/er", 0o1755);
    mode("deep/er/file", 0o555);
    set_time(&root.join("plain"), -1, 999_999_999);
    set_time(&root.join("empty"), 1 << 33, 1);
    set_time(&root.join("deep/er/empty"), 0, 0);
    set_time(&root.join("deep/er"), 86_400, 123_456_789);
    set_time(&root, 1_234_567_890, 0);
}

#[test]
fn every_kind_of_entry_is_restored_as_it_was() {
    let bench = Bench::new();
    odd_tree(&bench);
    bench.ok("ingest a.ar7 src");
    bench.ok("extract a.ar7 --to out");
    let before = tree(&bench.path("src"));
    assert!(before.len() >= 20);
    assert_eq!(before, tree(&bench.path("out/src")));
    assert!(bench.ok("verify a.ar7").text().contains("0 findings"));
}

#[test]
fn an_unchanged_tree_is_not_copied_again() {
    let bench = Bench::new();
    odd_tree(&bench);
    bench.ok("ingest a.ar7 src");
    let before = fs::metadata(bench.path("a.ar7")).expect("the archive").len();
    let again = bench.ok("ingest a.ar7 src");
    assert!(again.stderr.contains(": 0 files of 0 bytes stored"), "{}", again.stderr);
    assert_eq!(before, fs::metadata(bench.path("a.ar7")).expect("the archive").len());
}

#[test]
fn a_second_ingest_stores_every_kind_of_change() {
    let bench = Bench::new();
    bench.write("src/grows", "1");
    bench.write("src/same size", "1");
    bench.write("src/mode", "1");
    bench.write("src/becomes directory", "1");
    bench.write("src/becomes file/with/content", "1");
    bench.write("src/linked", "1");
    bench.write("src/unlinked", "1");
    fs::hard_link(bench.path("src/unlinked"), bench.path("src/twin")).expect("a hard link");
    symlink("one", bench.path("src/link")).expect("a link");
    bench.ok("ingest a.ar7 src");

    bench.write("src/grows", "12");
    bench.write("src/same size", "2");
    set_time(&bench.path("src/same size"), 1, 1);
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(bench.path("src/mode"), mode).expect("a mode");
    fs::remove_file(bench.path("src/becomes directory")).expect("removed");
    bench.write("src/becomes directory/inside", "1");
    fs::remove_dir_all(bench.path("src/becomes file")).expect("removed");
    bench.write("src/becomes file", "2");
    fs::hard_link(bench.path("src/linked"), bench.path("src/z")).expect("a hard link");
    fs::remove_file(bench.path("src/twin")).expect("removed");
    fs::copy(bench.path("src/unlinked"), bench.path("src/twin")).expect("a copy");
    fs::remove_file(bench.path("src/link")).expect("removed");
    symlink("two", bench.path("src/link")).expect("a link");

    bench.ok("ingest a.ar7 src");
    bench.ok("extract a.ar7 --to out");
    assert_eq!(tree(&bench.path("src")), tree(&bench.path("out/src")));
    bench.ok("verify a.ar7");
}

#[test]
fn checkpoints_are_reported_and_bound_the_loss() {
    let bench = Bench::new();
    for number in 0..40 {
        bench.write(&format!("src/{number:02}"), vec![number; 20_000]);
    }
    let ran = bench.ok("ingest --checkpoint 100KB a.ar7 src");
    let first = ran.stderr.lines().next().expect("a checkpoint");
    assert_eq!(first, "checkpoint 1: 6 entries, 100000 bytes");
    assert!(ran.stderr.lines().filter(|line| line.starts_with("checkpoint ")).count() >= 6);
    bench.ok("extract a.ar7 --to out");
    assert_eq!(tree(&bench.path("src")), tree(&bench.path("out/src")));
    let quiet = bench.ok("ingest -q a.ar7 src");
    assert_eq!(quiet.stderr, "");
}

#[test]
fn paths_are_stored_under_their_last_component() {
    let bench = Bench::new();
    bench.write("x/src/f", "1");
    bench.write("y/g", "2");
    bench.ok("ingest a.ar7 x/src/ y/g");
    bench.ok("ingest a.ar7 --into deep/er x/src");
    bench.ok("ingest a.ar7 --into flat x/src/.");
    let listed = bench.ok("ls -R a.ar7").text();
    let expected = "deep\ndeep/er\ndeep/er/src\ndeep/er/src/f\nflat\nflat/f\ng\nsrc\nsrc/f\n";
    assert_eq!(listed, expected);
    bench.fails("ingest a.ar7 x/src y/../x/src", 2, "the same last component as");
}

#[test]
fn excluded_entries_and_dry_runs_store_nothing() {
    let bench = Bench::new();
    bench.write("src/keep", "1");
    bench.write("src/a.o", "1");
    bench.write("src/target/deep", "1");
    bench.write("src/sub/target", "1");
    bench.write("src/sub/b.o", "1");
    let dry = bench.ok("ingest --dry-run a.ar7 src");
    assert_eq!(dry.stderr.lines().filter(|line| line.starts_with("would store ")).count(), 8);
    assert!(!bench.path("a.ar7").exists());
    bench.ok("ingest a.ar7 src --exclude *.o --exclude src/target");
    assert_eq!(bench.ok("ls -R a.ar7").text(), "src\nsrc/keep\nsrc/sub\nsrc/sub/target\n");
    let length = fs::metadata(bench.path("a.ar7")).expect("the archive").len();
    bench.ok("ingest --dry-run a.ar7 src");
    assert_eq!(length, fs::metadata(bench.path("a.ar7")).expect("the archive").len());
    bench.fails("ingest a.ar7 src --exclude [", 2, "[");
}

#[test]
fn the_archive_itself_is_skipped_and_a_fifo_is_an_entry() {
    let bench = Bench::new();
    bench.write("src/file", "1");
    let made = std::process::Command::new("mkfifo").arg(bench.path("src/fifo")).status();
    assert!(made.expect("mkfifo runs").success());
    let ran = bench.ok("ingest src/a.ar7 src");
    assert!(ran.stderr.contains("skipped src/a.ar7: is the archive itself\n"));
    assert_eq!(bench.ok("ls -R src/a.ar7").text(), "src\nsrc/fifo\nsrc/file\n");
}

#[test]
fn standard_input_becomes_an_entry() {
    let bench = Bench::new();
    let content: Vec<u8> = (0..9_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    bench.ok("create a.ar7");
    bench.ok("mkdir a.ar7 d");
    assert_eq!(bench.with_input("put a.ar7 d/x", &content).code, 0);
    assert!(bench.ok("cat a.ar7 d/x").stdout == content);
    let part = bench.ok("cat a.ar7 d/x --offset 8M --length 5K").stdout;
    assert!(part == content[8 << 20..][..5 << 10]);
    assert_eq!(bench.ok("cat a.ar7 d/x --offset 8T").stdout, b"");

    let refused = bench.with_input("put a.ar7 d/x", b"other");
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (1, "ar7: d/x: already exists; --force replaces it\n")
    );
    assert_eq!(bench.with_input("put --force a.ar7 d/x", b"other").code, 0);
    assert_eq!(bench.ok("cat a.ar7 d/x").stdout, b"other");
    assert_eq!(bench.with_input("put --force a.ar7 d/x", b"").code, 0);
    assert_eq!(bench.ok("cat a.ar7 d/x").stdout, b"");
    assert_eq!(bench.with_input("put --force a.ar7 d", b"").code, 1);
    assert_eq!(bench.with_input("put a.ar7 none/x", b"").code, 1);
    bench.ok("verify a.ar7");
}

#[test]
fn bare_streams_are_read_and_written() {
    let bench = Bench::new();
    bench.ok("create --kind single s.ar7");
    assert_eq!(bench.with_input("put s.ar7 --stream 0", b"alone").code, 0);
    assert_eq!(bench.ok("cat s.ar7 --stream 0").stdout, b"alone");
    assert_eq!(bench.with_input("put s.ar7 --stream 0", b"x").code, 1);
    assert_eq!(bench.with_input("put s.ar7 --stream 0 --force", b"x").code, 0);
    assert_eq!(bench.ok("cat s.ar7 --stream 0").stdout, b"x");

    bench.ok("create --kind fixed --streams 3 f.ar7");
    let listed = bench.ok("ls --streams f.ar7").text();
    let streams: Vec<&str> = listed.lines().collect();
    assert_eq!(streams.len(), 3);
    let (first, last) = (streams[0], streams[2]);
    assert_eq!(bench.with_input(&format!("put f.ar7 --stream {first}"), b"one").code, 0);
    assert_eq!(bench.ok(&format!("cat f.ar7 --stream {first}")).stdout, b"one");
    assert_eq!(bench.ok(&format!("cat f.ar7 --stream {last}")).stdout, b"");
    for text in ["x", "8", "+0", "00"] {
        let refused = bench.line(&format!("cat f.ar7 --stream {text}"));
        assert_eq!(refused.code, 2, "{text}: {}", refused.stderr);
        let says =
            format!("'{text}' for '--stream <UUID>': expected a UUID or a number from 0 to 7");
        assert!(refused.stderr.contains(&says), "{text}: {}", refused.stderr);
    }
    for archive in ["s.ar7", "f.ar7"] {
        bench.ok(&format!("verify {archive}"));
    }
}

#[test]
fn mv_rm_and_mkdir_change_only_the_given_names() {
    let bench = Bench::new();
    bench.write("t/a/x", "1");
    bench.write("t/b", "2");
    bench.ok("ingest a.ar7 t");
    bench.ok("mkdir a.ar7 new");
    bench.ok("mkdir -p a.ar7 new/p/q new/p");
    bench.fails("mkdir a.ar7 new", 1, "exists");
    bench.ok("mv a.ar7 t/b t/c");
    bench.ok("mv a.ar7 t/c new");
    bench.fails("mv a.ar7 new new/p", 1, "itself");
    bench.fails("mv a.ar7 new/c t/a/x", 1, "exists");
    bench.ok("mv --force a.ar7 new/c t/a/x");
    assert_eq!(bench.ok("cat a.ar7 t/a/x").stdout, b"2");
    bench.fails("rm a.ar7 t", 1, "a directory");
    bench.fails("rm a.ar7 t/none", 1, "no entry");
    bench.fails("rm -r a.ar7 /", 2, "root");
    bench.ok("rm -r a.ar7 t/a");
    assert_eq!(bench.ok("ls -R a.ar7").text(), "new\nnew/p\nnew/p/q\nt\n");
    bench.ok("rm -r a.ar7 new t");
    assert_eq!(bench.ok("ls -R a.ar7").text(), "");
    bench.ok("verify a.ar7");
}

#[test]
fn single_paths_are_extracted_under_their_last_component() {
    let bench = Bench::new();
    bench.write("t/a/x", "1");
    bench.write("t/b", "2");
    bench.ok("ingest a.ar7 t");
    bench.ok("extract a.ar7 t/a t/b --to out");
    assert_eq!(fs::read(bench.path("out/a/x")).expect("a file"), b"1");
    assert_eq!(fs::read(bench.path("out/b")).expect("a file"), b"2");
    let ran = bench.line("extract a.ar7 t/none --to out");
    assert_eq!((ran.code, ran.stderr.lines().next()), (1, Some("ar7: no entry t/none")));
    bench.fails("extract a.ar7 t/b --to out", 1, "out/b: already exists; --force replaces it");
    fs::write(bench.path("out/b"), "changed").expect("a file");
    fs::write(bench.path("out/a/mine"), "kept").expect("a file");
    bench.ok("extract --force a.ar7 t/a t/b --to out");
    assert_eq!(fs::read(bench.path("out/b")).expect("a file"), b"2");
    assert_eq!(fs::read(bench.path("out/a/mine")).expect("a file"), b"kept");
}

#[test]
fn json_output_is_one_document() {
    let bench = Bench::new();
    odd_tree(&bench);
    let ingested = bench.ok("ingest --json a.ar7 src");
    for (line, field) in [
        ("ls -R --json a.ar7", "entries"),
        ("ls --json a.ar7 src", "entries"),
        ("ls --streams --json a.ar7", "entries"),
        ("verify --json a.ar7", "findings"),
        ("info --json a.ar7", "key_slots"),
    ] {
        let text = bench.ok(line).text();
        let document: serde_json::Value = serde_json::from_str(&text).expect("a document");
        assert!(document[field].is_array(), "{line}: {text}");
    }
    let tally: serde_json::Value = serde_json::from_slice(&ingested.stdout).expect("a document");
    assert_eq!(tally["stored_files"], 17);
    let listed = bench.ok("ls -R --json a.ar7").text();
    assert!(listed.contains("\"name_bytes\":\"7372632f6e6f74207574662d3820fffe\""), "{listed}");
}

#[test]
fn put_compresses_as_the_archive_or_the_option_says() {
    let bench = Bench::new();
    let text = b"a line of text\n".repeat(10_000);
    let stored = |name: &str| {
        let listed = bench.ok(&format!("ls --json a.ar7 {name}")).stdout;
        let listed: serde_json::Value = serde_json::from_slice(&listed).expect("a document");
        listed["entries"][0]["stored_bytes"].as_u64().expect("a length")
    };
    let put = |line: &str| {
        let written = bench.with_input(&format!("put a.ar7 {line}"), &text);
        assert_eq!(written.code, 0, "{}", written.stderr);
    };
    put("small");
    put("large --compression none");
    put("as-before");
    put("noise --compression best");
    let noise: Vec<u8> = (0..20_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    bench.with_input("put a.ar7 noise --force", &noise);
    assert!(stored("small") < 2000 && stored("large") >= 150_000 && stored("as-before") >= 150_000);
    assert!(stored("noise") >= 80_000);
    for name in ["small", "large", "as-before"] {
        assert!(bench.ok(&format!("cat a.ar7 {name}")).stdout == text);
    }
    assert!(bench.ok("cat a.ar7 noise").stdout == noise);
    bench.ok("verify a.ar7");
}

#[test]
fn put_stream_on_the_content_of_a_file_keeps_the_inode_correct() {
    let bench = Bench::new();
    bench.write("tree/f1", vec![1; 3000]);
    bench.ok("ingest --compression none a.ar7 tree");
    let listed: serde_json::Value =
        serde_json::from_slice(&bench.ok("ls --json a.ar7 tree").stdout).expect("a document");
    let stream = listed["entries"][0]["stream"].as_str().expect("a stream").to_owned();
    let written = bench.with_input(&format!("put a.ar7 --stream {stream} --force"), b"hi\n");
    bench.ok("verify a.ar7");
    let content = bench.ok("cat a.ar7 tree/f1").stdout;
    let expected = if written.code == 0 { b"hi\n".to_vec() } else { vec![1; 3000] };
    assert_eq!(content, expected, "{}", written.stderr);
    bench.ok("extract a.ar7 --to out");
    assert_eq!(fs::read(bench.path("out/tree/f1")).expect("a file"), expected);
}

/// Only the superuser can give a file to another user.
#[test]
fn owners_are_restored_only_on_request() {
    use std::os::unix::fs::{MetadataExt, lchown};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    bench.write("src/file", "content");
    symlink("file", bench.path("src/link")).expect("a link");
    let names = ["src", "src/file", "src/link"];
    for (name, owner) in names.iter().zip(5000..) {
        lchown(bench.path(name), Some(owner), Some(owner + 10)).expect("another owner");
    }
    bench.ok("ingest a.ar7 src");
    bench.ok("extract a.ar7 --to kept --preserve-owner");
    bench.ok("extract a.ar7 --to own");
    for (name, owner) in names.iter().zip(5000..) {
        let owner_in = |folder: &str| {
            let path = bench.path(folder).join(name);
            let metadata = fs::symlink_metadata(path).expect("restored");
            (metadata.uid(), metadata.gid())
        };
        assert_eq!(owner_in("kept"), (owner, owner + 10), "{name}");
        assert_eq!(owner_in("own"), (0, 0), "{name}");
    }
}

#[test]
fn a_new_directory_has_mode_755_and_put_does_not_change_other_names_of_a_file() {
    let bench = Bench::new();
    bench.write("src/one", "old");
    fs::hard_link(bench.path("src/one"), bench.path("src/two")).expect("a hard link");
    bench.ok("ingest a.ar7 src");
    bench.ok("mkdir a.ar7 made");
    let listed = bench.ok("ls a.ar7 --long").text();
    let made = listed.lines().find(|line| line.contains("made")).expect("listed");
    assert!(made.starts_with("drwxr-xr-x"), "{made}");
    let put = |name: &str| {
        let ran = bench.with_input(&format!("put a.ar7 {name} --force"), b"new");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    put("src/one");
    assert_eq!(bench.ok("cat a.ar7 src/one").text(), "new");
    assert_eq!(bench.ok("cat a.ar7 src/two").text(), "old");
    // A file with one name keeps its inode.
    let inode = || {
        let listed = bench.ok("ls a.ar7 src/two --json").text();
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("one document");
        listed["entries"][0]["inode"].as_u64().expect("a number")
    };
    let before = inode();
    put("src/two");
    assert_eq!(inode(), before);
    assert_eq!(bench.ok("cat a.ar7 src/two").text(), "new");
}

#[test]
fn ls_prints_modes_like_ls_of_the_system() {
    let bench = Bench::new();
    let expected = [
        ("a", 0o640, "-rw-r-----"),
        ("b", 0o4755, "-rwsr-xr-x"),
        ("c", 0o2604, "-rw---Sr--"),
        ("d", 0o1771, "drwxrwx--t"),
        ("e", 0o1770, "drwxrwx--T"),
    ];
    for (name, mode, text) in expected {
        let path = bench.path(&format!("src/{name}"));
        if text.starts_with('d') {
            fs::create_dir_all(&path).expect("a directory");
        } else {
            bench.write(&format!("src/{name}"), "content");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
    }
    bench.ok("ingest a.ar7 src");
    let listed = bench.ok("ls a.ar7 src --long").text();
    let found: Vec<&str> = listed.lines().map(|line| line.get(..10).unwrap_or(line)).collect();
    assert_eq!(found, expected.map(|(_, _, text)| text), "{listed}");
}

#[test]
fn a_hard_link_replaced_by_another_file_is_stored_as_another_file() {
    let bench = Bench::new();
    bench.write("src/one", "content");
    fs::hard_link(bench.path("src/one"), bench.path("src/two")).expect("a hard link");
    set_time(&bench.path("src/one"), 1_000_000, 0);
    bench.ok("ingest a.ar7 src");
    let links = || {
        let listed = bench.ok("ls a.ar7 src/two --json").text();
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("one document");
        listed["entries"][0]["links"].as_u64().expect("a number")
    };
    assert_eq!(links(), 2);
    // The size and mtime are the same, but the file is a separate one.
    fs::remove_file(bench.path("src/two")).expect("removed");
    bench.write("src/two", "CONTENT");
    set_time(&bench.path("src/two"), 1_000_000, 0);
    bench.ok("ingest a.ar7 src --ignore-ctime --ignore-inode");
    assert_eq!(links(), 1);
    assert_eq!(bench.ok("cat a.ar7 src/one").text(), "content");
    assert_eq!(bench.ok("cat a.ar7 src/two").text(), "CONTENT");
}

#[test]
fn a_hard_link_replaced_by_a_hard_link_of_another_file_is_stored_as_another_file() {
    let bench = Bench::new();
    bench.write("src/one", "content");
    fs::hard_link(bench.path("src/one"), bench.path("src/two")).expect("a hard link");
    set_time(&bench.path("src/one"), 1_000_000, 0);
    bench.ok("ingest a.ar7 src");
    // The size and mtime are the same, and each file has a second name outside of the source.
    fs::remove_file(bench.path("src/two")).expect("removed");
    bench.write("src/two", "CONTENT");
    set_time(&bench.path("src/two"), 1_000_000, 0);
    for name in ["one", "two"] {
        let (file, outside) = (bench.path(&format!("src/{name}")), bench.path(name));
        fs::hard_link(file, outside).expect("a hard link");
    }
    bench.ok("ingest a.ar7 src");
    assert_eq!(bench.ok("cat a.ar7 src/one").text(), "content");
    assert_eq!(bench.ok("cat a.ar7 src/two").text(), "CONTENT");
}

#[test]
fn a_changed_file_keeps_its_inode() {
    let bench = Bench::new();
    bench.write("src/file", "old");
    bench.ok("ingest a.ar7 src");
    let inode = || {
        let listed = bench.ok("ls a.ar7 src/file --json").text();
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("one document");
        listed["entries"][0]["inode"].as_u64().expect("a number")
    };
    let before = inode();
    bench.write("src/file", "newer");
    bench.ok("ingest a.ar7 src");
    assert_eq!(bench.ok("cat a.ar7 src/file").text(), "newer");
    assert_eq!(inode(), before);
}

#[test]
fn extract_prints_how_much_it_restored() {
    let bench = Bench::new();
    bench.write("src/one", [1; 5000]);
    bench.write("src/two", [2; 70]);
    bench.ok("ingest a.ar7 src");
    let ran = bench.ok("extract a.ar7 --to out");
    assert_eq!(ran.stderr, "3 entries, 5070 bytes restored\n");
}
