//! What an ingest enters and opens.

use std::thread;

use super::*;
use crate::fs::SkipReason;

#[test]
fn only_directories_are_left_out_as_another_file_system() {
    // On an overlay, files have the device numbers of the layers.
    for (foreign, left_out) in [("f", 0), ("inner", 2)] {
        let bench = Bench::new();
        let source = Disturbed { foreign: Some(foreign.into()), ..Disturbed::default() };
        let report = bench.ingest_with(&source, |ingest| ingest.one_file_system(true)).unwrap();
        let reasons: Vec<SkipReason> = report.left_out.iter().map(|left| left.reason).collect();
        assert_eq!(reasons, vec![SkipReason::OtherFileSystem; left_out], "{foreign}");
        assert_eq!(bench.stored().len(), ENTRIES - left_out * FILES.len(), "{foreign}");
    }
}

#[test]
fn an_entry_of_an_unknown_type_is_reported_as_unread() {
    let bench = Bench::new();
    let source = Disturbed { unknown: Some("g".into()), ..Disturbed::default() };
    let report = bench.ingest(&source).unwrap();
    assert_eq!((report.unread.len(), report.left_out.len()), (DIRECTORIES.len(), 0));
    assert!(!report.is_complete());
}

#[test]
fn a_fifo_with_the_name_of_a_cache_tag_is_not_opened() {
    let bench = Bench::new();
    let tag = bench.path("w/b/CACHEDIR.TAG");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &tag, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    thread::scope(|scope| {
        // Opening for writing waits until another process opens the fifo for reading.
        let writer = scope.spawn(|| File::options().write(true).open(&tag));
        let report = bench.ingest_with(&System, |ingest| ingest.exclude_caches(true)).unwrap();
        assert!(report.is_complete() && report.left_out.is_empty(), "{report:?}");
        assert!(!writer.is_finished(), "the fifo was opened");
        let reader = File::open(&tag).unwrap();
        writer.join().unwrap().unwrap();
        drop(reader);
    });
}

#[test]
fn a_directory_deeper_than_an_archive_can_hold_is_reported() {
    use super::super::DEPTH_MAX;
    let bench = Bench::new();
    let into = "d/".repeat(DEPTH_MAX - 3);
    let report = Ingest::new().path(bench.path("w")).into(into).preview(None).unwrap();
    let unread: Vec<&Path> = report.unread.iter().map(|unread| unread.path.as_path()).collect();
    assert_eq!(unread, [bench.path("w/a/inner"), bench.path("w/c/inner")]);
    let is_too_deep = |error: &Error| matches!(error, Error::TooDeep { .. });
    assert!(report.unread.iter().all(|unread| is_too_deep(&unread.error)), "{report:?}");
}
