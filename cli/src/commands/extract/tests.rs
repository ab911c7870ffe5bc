//! Faults of an extraction that only a race, or an archive from another program, can cause.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, InodeNumber};
use ar7_registry::{Archive, CreateOptions};
use clap::Parser;

use super::destination::Directory;
use super::files::{Files, Level, worse};
use super::restore::restore_all;
use crate::arguments::{Arguments, Command, Extract};
use crate::exit::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::progress::{Counts, Progress};
use crate::session::Session;
use crate::walk::find;

const CONTENT: &[u8] = b"content";

/// Returns an archive with a file that has two names, `a` and `b`.
fn session() -> Session {
    let secret = Secret::Key(RawKey::from_bytes([3; 32]));
    let (device, options) = (Box::new(MemoryDevice::new()), CreateOptions::default());
    let archive = Archive::create_device(device, &secret, &options).expect("an archive");
    let mut stream = archive.new_stream().expect("a stream");
    stream.append(CONTENT).expect("written");
    let identity = stream.identity();
    stream.close().expect("closed");
    let attributes =
        Attributes { mode: 0o644, uid: 0, gid: 0, modified: Timestamp::default(), origin: None };
    let names = archive.names();
    let added = names.add_file(InodeNumber::ROOT, b"a", attributes, Some(identity));
    names.add_link(InodeNumber::ROOT, b"b", added.expect("a file")).expect("a second name");
    archive.commit().expect("a commit");
    drop(names);
    Session { archive, path: "archive".into() }
}

fn arguments(to: &Path) -> (Arguments, Extract) {
    let line = ["ar7", "extract", "archive", "--quiet", "--to", to.to_str().expect("a plain path")];
    let parse = || Arguments::try_parse_from(line).expect("a command line");
    match parse().command {
        Command::Extract(options) => (parse(), options),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_name_is_not_linked_to_a_file_that_replaced_the_first() {
    let folder = tempfile::tempdir().expect("a directory");
    let (arguments, options) = arguments(folder.path());
    let (session, interrupt) = (session(), Interrupt::default());
    let progress = Progress::new(&arguments.common, Counts::Bytes);
    for is_replaced in [false, true] {
        let files = Files::new(&session, &options, &progress, &interrupt);
        let destination = Directory::make(folder.path()).expect("a destination");
        let outcome = restore_all(&files, destination, |restoring| {
            restoring.all(find(&session.archive, b"a")?)?;
            if is_replaced {
                // A file that exists at the same time has a different inode number.
                fs::rename(folder.path().join("a"), folder.path().join("moved")).expect("moved");
                fs::write(folder.path().join("a"), CONTENT).expect("replaced");
            }
            restoring.all(find(&session.archive, b"b")?)
        });
        outcome.expect("no fatal failure");
        assert_eq!(files.failures().0, u64::from(is_replaced));
        assert_eq!(folder.path().join("b").exists(), !is_replaced);
        for entry in fs::read_dir(folder.path()).expect("a directory") {
            fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
    }
}

#[test]
fn a_stream_whose_length_differs_from_its_inode_is_damage_and_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a directory");
    let (arguments, options) = arguments(folder.path());
    let (session, interrupt) = (session(), Interrupt::default());
    let progress = Progress::new(&arguments.common, Counts::Bytes);
    let files = Files::new(&session, &options, &progress, &interrupt);
    let destination = Directory::make(folder.path()).expect("a destination");
    let level = Level::new(destination, None, Vec::new());
    for inode_bytes in [0, CONTENT.len() as u64 - 1, CONTENT.len() as u64 + 1] {
        let mut found = find(&session.archive, b"a").expect("an entry");
        found.inode.size = inode_bytes;
        let failure = files.entry(&level, &found, &mut Vec::new()).expect_err("damage");
        assert!(matches!(failure, Failure::EntryLength { .. }), "{failure}");
        assert_eq!(failure.code(), Code::Damaged);
        assert!(!folder.path().join("a").exists());
    }
}

#[test]
fn a_symbolic_link_that_replaced_a_directory_is_not_followed() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::create_dir(folder.path().join("directory")).expect("a directory");
    symlink("directory", folder.path().join("link")).expect("a link");
    let destination = Directory::make(folder.path()).expect("a destination");
    assert!(destination.open(b"directory").is_ok());
    assert!(destination.open(b"link").is_err());
}

#[test]
fn damage_outweighs_every_other_failure() {
    for (first, second, expected) in [
        (None, Code::Other, Code::Other),
        (None, Code::Damaged, Code::Damaged),
        (Some(Code::Other), Code::Damaged, Code::Damaged),
        (Some(Code::Damaged), Code::Other, Code::Damaged),
        (Some(Code::NoSpace), Code::Other, Code::NoSpace),
    ] {
        assert_eq!(worse(first, second), expected, "{first:?}, {second:?}");
    }
}
