//! Versions of a file: which changes an ingest notices, in this run or in the next one.

use std::ops::ControlFlow;

use super::*;
use crate::fs::IngestEvent;

/// Writes other content of the same length, and puts the mtime back.
fn rewrite(path: &Path, content: &str) -> io::Result<()> {
    let modified = path.metadata()?.modified()?;
    fs::write(path, content)?;
    File::options().write(true).open(path)?.set_modified(modified)
}

#[test]
fn a_change_whose_mtime_is_put_back_is_noticed() {
    let calls = calls_of(&Bench::new());
    for call in 0..calls {
        let bench = Bench::new();
        let path = bench.path("w/a/f");
        let event = bench.seen(move || rewrite(&path, "FIRST W/A/F"));
        let report = bench.ingest(&Disturbed::at(call, event)).unwrap();
        bench.check(&report, false, &format!("a/f changes at call {call}"));
        assert!(report.is_complete(), "call {call}: {report:?}");
    }
}

#[test]
fn a_change_within_a_tick_of_the_clock_is_noticed_by_the_next_run() {
    let bench = Bench::new();
    let source = Disturbed { counts_seconds: true, ..Disturbed::default() };
    bench.ingest(&source).unwrap();
    rewrite(&bench.path("w/b/f"), "other w/b/f").unwrap();
    let report = bench.ingest(&source).unwrap();
    assert_eq!((report.stored_files, report.unchanged), (1, ENTRIES as u64 - 1));
    assert_eq!(bench.stored()["w/b/f"], b"other w/b/f");
}

#[test]
fn an_entry_that_differs_only_in_its_change_time_is_unchanged() {
    let bench = Bench::new();
    bench.ingest(&Disturbed::later()).unwrap();
    for path in ["w/b", "w/b/f", "w/b/g"] {
        let permissions = bench.path(path).metadata().unwrap().permissions();
        fs::set_permissions(bench.path(path), permissions).unwrap();
    }
    let archive = bench.archive().unwrap();
    let mut outcomes = Vec::new();
    let ingest = Ingest::new().path(bench.path("w")).on_event(|event| {
        if let IngestEvent::Entry { path, outcome } = event {
            outcomes.push((path.to_path(), outcome.name()));
        }
        ControlFlow::Continue(())
    });
    ingest.run_on(&archive, &Disturbed::later()).unwrap();
    assert_eq!(outcomes.len(), ENTRIES + 1 + DIRECTORIES.len());
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == "unchanged"), "{outcomes:?}");
}

#[test]
fn a_file_is_opened_as_soon_as_no_process_has_a_lease_of_it() {
    let bench = Bench::new();
    let source = Disturbed { leases: Mutex::new(3), ..Disturbed::default() };
    let report = bench.ingest(&source).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((bench.stored().len(), *lock(&source.leases)), (ENTRIES, 0));
}

#[test]
fn each_name_of_a_file_that_keeps_changing_is_reported() {
    let bench = Bench::new();
    let source = Disturbed { flickers: Some(Mutex::new(0)), ..Disturbed::default() };
    let report = bench.ingest(&source).unwrap();
    assert_eq!(report.changed, [bench.path("w/a/f"), bench.path("w/c/linked")]);
    let archive = bench.archive().unwrap();
    let snapshot = archive.snapshot().unwrap();
    let inode = |path: &str| snapshot.metadata(path).unwrap().inode;
    assert_eq!(inode("w/a/f"), inode("w/c/linked"), "the second one is a link");
}

#[test]
fn a_file_that_grows_as_fast_as_it_is_read_is_read_up_to_its_length() {
    let bench = Bench::new();
    let path = bench.path("w/b/g");
    let source =
        Disturbed { grows: Some((path.clone(), Mutex::new(2000))), ..Disturbed::default() };
    let report = bench.ingest(&source).unwrap();
    assert_eq!(report.changed, std::slice::from_ref(&path));
    let (stored, now) = (&bench.stored()["w/b/g"], fs::read(&path).unwrap());
    assert!(stored.len() < 2000 && now.starts_with(stored), "{} bytes", stored.len());
    assert!(stored.starts_with(b"first w/b/g"), "{} bytes", stored.len());
}
