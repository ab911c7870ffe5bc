//! A walk visits what an ingest stores, reports what it cannot read, and ends when the callback says so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::*;
use crate::archive::Archive;
use crate::fs::{Compare, Extract, Ingest, LISTED_MAX};
use crate::key::Key;

/// Makes files at these paths, with what is in directories on the way.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    }
    folder
}

fn patterns() -> Patterns {
    Patterns::new(["*.o", "w/b/*/d", "!w/b/x/d", "nothing"]).unwrap()
}

#[test]
fn a_walk_visits_what_an_ingest_with_the_same_options_stores() {
    let folder = tree(&[
        "w/a/f",
        "w/a/f.o",
        "w/b/c/d",
        "w/b/x/d",
        "w/cache/CACHEDIR.TAG",
        "w/cache/below/f",
        "w/z",
    ]);
    std::os::unix::fs::symlink("a", folder.path().join("w/link")).unwrap();
    let typed = folder.path().join("w");
    let (mut visited, mut left_out) = (BTreeSet::new(), Vec::new());
    let walk = Walk::new().path(&typed).path(folder.path().join("missing"));
    let walk = walk.exclude(patterns()).exclude_caches(true).one_file_system(true);
    let report = walk.on_event(|event| {
        match event {
            WalkEvent::Entry { path, metadata } => {
                let found = path.to_path().symlink_metadata().unwrap();
                assert_eq!(found.is_file(), metadata.file_type == FileType::File);
                assert!(!found.is_file() || found.len() == metadata.len);
                assert_eq!((metadata.file_system, metadata.links), (found.dev(), found.nlink()));
                assert!(visited.insert(path.stored().unwrap()));
            }
            WalkEvent::LeftOut { path, reason } => left_out.push((path.stored().unwrap(), reason)),
            WalkEvent::Unread { path, .. } => assert!(path.to_path().ends_with("missing")),
        }
        ControlFlow::Continue(())
    });
    let report = report.run().unwrap();
    assert_eq!((report.entries, report.unread.len()), (visited.len() as u64, 1));
    assert_eq!(report.bytes, 4 * 43);
    assert_eq!(report.unmatched, ["nothing"]);
    let expected = [
        ("w/a/f.o", SkipReason::Excluded),
        ("w/b/c/d", SkipReason::Excluded),
        ("w/cache", SkipReason::Cache),
    ];
    assert_eq!(left_out, expected.map(|(path, reason)| (path.into(), reason)));
    assert_eq!(report.left_out.len(), 1);

    let archive = Archive::create(folder.path().join("a.ar7"), &Key::from([1; 32])).unwrap();
    let ingest = Ingest::new().path(&typed).exclude(patterns()).exclude_caches(true);
    assert!(ingest.run(&archive).unwrap().is_complete());
    let snapshot = archive.snapshot().unwrap();
    let stored = snapshot.walk("").unwrap().map(|entry| entry.unwrap().path);
    assert_eq!(stored.collect::<BTreeSet<PathBuf>>(), visited);
}

#[test]
fn an_entry_that_goes_away_is_reported_and_the_walk_continues() {
    let folder = tree(&["w/a", "w/b", "w/c/d"]);
    let removed = folder.path().join("w/b");
    let mut names = Vec::new();
    let walk = Walk::new().path(folder.path().join("w/.")).one_file_system(true);
    let walk = walk.on_event(|event| {
        if let WalkEvent::Entry { path, .. } = event {
            names.push(path.stored().unwrap());
            let _ = fs::remove_file(&removed);
        }
        ControlFlow::Continue(())
    });
    let report = walk.run().unwrap();
    assert!(!report.is_complete());
    assert_eq!(report.unread.len(), 1);
    assert_eq!(report.unread[0].path, folder.path().join("w/./b"));
    assert_eq!(names, ["a", "c", "c/d"].map(PathBuf::from));
}

#[test]
fn a_walk_ends_when_the_callback_breaks() {
    let folder = tree(&["w/a", "w/b"]);
    let mut events = 0;
    let walk = Walk::new().path(folder.path().join("w")).on_event(|_| {
        events += 1;
        ControlFlow::Break(())
    });
    let stopped = walk.run();
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert_eq!(events, 1);
    assert!(Path::new(&folder.path().join("w/b")).exists());
}

#[test]
fn a_report_lists_a_bounded_number_of_failures_and_counts_all() {
    let folder = tempfile::tempdir().unwrap();
    let paths = || (0..LISTED_MAX + 3).map(|number| folder.path().join(number.to_string()));
    let walk = paths().fold(Walk::new(), Walk::path).run().unwrap();
    let ingest = paths().fold(Ingest::new(), Ingest::path).preview(None).unwrap();
    assert!(!walk.is_complete() && !ingest.is_complete());
    for (listed, count) in [(walk.unread, walk.unread_count), (ingest.unread, ingest.unread_count)]
    {
        assert_eq!((listed.len(), count), (LISTED_MAX, LISTED_MAX as u64 + 3));
    }
}

#[test]
fn the_debug_text_of_a_run_names_its_paths() {
    let folder = tree(&["w/file"]);
    let exclude = Patterns::new(["*.o", "!keep.o"]).unwrap();
    assert_eq!(format!("{exclude:?}"), r#"["*.o", "!keep.o"]"#);
    for text in [
        format!("{:?}", Walk::new().path("some/where")),
        format!("{:?}", Ingest::new().path("some/where").into("a/b")),
        format!("{:?}", Extract::new().path("some/where").to("a/b")),
        format!("{:?}", Compare::new("some/where").path("a/b")),
    ] {
        assert!(text.contains("\"some/where\""), "{text}");
        assert!(text.starts_with("Walk") || text.contains("\"a/b\""), "{text}");
    }
    let (archive, file) = (folder.path().join("a.ar7"), folder.path().join("w/file"));
    let archive = Archive::create(archive, &Key::from([1; 32])).unwrap();
    let mut told = Vec::new();
    let ingest = Ingest::new().path(&file).on_event(|event| {
        told.push(format!("{event:?}"));
        ControlFlow::Continue(())
    });
    assert!(ingest.run(&archive).unwrap().is_complete());
    let out = folder.path().join("out");
    let extract = Extract::new().to(&out).on_event(|event| {
        let text = format!("{event:?}");
        assert!(!text.starts_with("Restored") || text.contains(&format!("{:?}", out.join("file"))));
        ControlFlow::Continue(())
    });
    assert_eq!(extract.run(&archive.snapshot().unwrap()).unwrap().entries, 1);
    let file = format!("{file:?}");
    assert!(told.iter().any(|text| text.starts_with("Entry") && text.contains(&file)), "{told:?}");
}
