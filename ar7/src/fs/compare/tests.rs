//! The rules of a comparison:
//!
//! - every difference is reported, with its path, and nothing else;
//! - an entry that cannot be compared is reported, and the rest is compared.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::sync::Mutex;

use ar7_registry::records::{Device, InodeNumber};
use rustix::io::Errno;

use super::*;
use crate::fs::Extract;
use crate::fs::world::{self, World, attributes};

/// An archive with an entry of every type, and a destination that has the same, except owners for normal users.
fn same(world: &World) -> (Snapshot, PathBuf) {
    let archive = world::archive(world::one_of_everything);
    let out = world.fresh_destination();
    Extract::new().to(&out).preserve_owner(true).preserve_special(true).run(&archive).unwrap();
    (archive, out)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the paths and names of the differences that every user can cause.
fn found(report: &CompareReport) -> Vec<(String, &'static str)> {
    let differences = report.differences.iter().filter(|(path, difference)| {
        // A normal user restores neither owners nor sockets, nor the special bits of somebody else's program.
        let is_restored = |name: &str| *path != Path::new(name);
        let of_owner = matches!(difference, Difference::Owner { .. });
        let of_mode = matches!(difference, Difference::Mode { .. }) && !is_restored("d/inner/f");
        is_root() || is_restored("d/socket") && !of_owner && !of_mode
    });
    differences.map(|(path, how)| (path.display().to_string(), how.name())).collect()
}

/// Works on a directory that its owner may not change.
fn within<R>(directory: &Path, work: impl FnOnce() -> R) -> R {
    let before = fs::metadata(directory).unwrap().permissions();
    fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    let value = work();
    fs::set_permissions(directory, before).unwrap();
    value
}

fn write_over(path: &Path, content: &str) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, content).unwrap();
    fs::File::open(path).unwrap().set_modified(modified).unwrap();
}

/// Changes a copy of the destination, and returns what is found different.
fn after(change: impl FnOnce(&Path)) -> Vec<(String, &'static str)> {
    let world = World::new();
    let (archive, out) = same(&world);
    // Entries may be added to any directory without changing its time.
    let times: Vec<_> = ["d", "d/inner", "other"]
        .map(|name| (out.join(name), fs::metadata(out.join(name)).unwrap().modified().unwrap()))
        .into();
    change(&out);
    for (path, modified) in times {
        if let Ok(directory) = fs::File::open(&path) {
            directory.set_modified(modified).unwrap();
        }
    }
    let report = Compare::new(&out).run(&archive).unwrap();
    assert_eq!(report.unreadable_count, 0, "{report:?}");
    assert_eq!(report.difference_count, report.differences.len() as u64);
    found(&report)
}

#[test]
fn a_tree_that_was_just_restored_is_the_same() {
    let world = World::new();
    let (archive, out) = same(&world);
    let report = Compare::new(&out).run(&archive).unwrap();
    assert_eq!(found(&report), []);
    assert_eq!(report.is_same(), is_root());
    let entries = if is_root() { 11 } else { 10 };
    assert_eq!((report.entries, report.bytes), (entries, 7 + 9 + 9 + 200_000));
}

#[test]
fn every_kind_of_difference_is_found() {
    assert_eq!(after(|out| fs::remove_file(out.join("z")).unwrap()), [("z".into(), "missing")]);
    let extra = after(|out| {
        fs::write(out.join("d/new"), "").unwrap();
        fs::write(out.join("another"), "").unwrap();
    });
    assert_eq!(extra, [("another".into(), "extra"), ("d/new".into(), "extra")]);
    let other_type = after(|out| {
        fs::remove_dir_all(out.join("other")).unwrap();
        fs::write(out.join("other"), "").unwrap();
    });
    assert_eq!(other_type, [("other".into(), "type")]);
    let size = after(|out| write_over(&out.join("d/inner/f"), "inner f!"));
    assert_eq!(size, [("d/inner/f".into(), "size")]);
    let content = after(|out| write_over(&out.join("d/inner/f"), "inner g"));
    assert_eq!(content, [("d/inner/f".into(), "content")]);
    let last = after(|out| write_over(&out.join("z"), &("\0".repeat(199_999) + "1")));
    assert_eq!(last, [("z".into(), "content")]);
    let mode =
        after(|out| fs::set_permissions(out.join("z"), PermissionsExt::from_mode(0o645)).unwrap());
    assert_eq!(mode, [("z".into(), "mode")]);
    let mode =
        after(|out| fs::set_permissions(out.join("d"), PermissionsExt::from_mode(0o750)).unwrap());
    assert_eq!(mode, [("d".into(), "mode")]);
    let time = after(|out| world::set_modified(&out.join("z"), world::MODIFIED + 1));
    assert_eq!(time, [("z".into(), "time")]);
    // Both names of the file.
    let attribute = after(|out| xattr::remove(out.join("d/linked"), "user.note").unwrap());
    assert_eq!(attribute, [("d/linked".into(), "attributes"), ("other/name".into(), "attributes")]);
    let attribute = after(|out| {
        let inner = out.join("d/inner");
        within(&inner, || xattr::set(&inner, "user.other", b"").unwrap());
    });
    assert_eq!(attribute, [("d/inner".into(), "attributes")]);
    let attribute = after(|out| xattr::set(out.join("d/linked"), "user.note", b"not").unwrap());
    assert_eq!(attribute.len(), 2, "{attribute:?}");
}

#[test]
fn links_are_compared_by_their_targets_and_never_followed() {
    let target = after(|out| {
        let time = fs::symlink_metadata(out.join("d/up")).unwrap().modified().unwrap();
        fs::remove_file(out.join("d/up")).unwrap();
        symlink("../z", out.join("d/up")).unwrap();
        if is_root() {
            lchown(out.join("d/up"), Some(world::OWNER.0), Some(world::OWNER.1)).unwrap();
        }
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: rustix::fs::Timespec {
                tv_sec: world::MODIFIED,
                tv_nsec: time.duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into(),
            },
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, out.join("d/up"), &times, flags).unwrap();
    });
    assert_eq!(target, [("d/up".into(), "target")]);
    let link = after(|out| {
        fs::rename(out.join("d"), out.join("moved")).unwrap();
        symlink("moved", out.join("d")).unwrap();
    });
    assert_eq!(link, [("moved".into(), "extra"), ("d".into(), "type")]);
}

#[test]
fn owners_and_devices_are_compared() {
    if !is_root() {
        return;
    }
    let (other, group) = (world::OWNER.0 + 1, world::OWNER.1 + 1);
    let owner = after(|out| lchown(out.join("d/up"), Some(other), None).unwrap());
    assert_eq!(owner, [("d/up".into(), "owner")]);
    let owner = after(|out| lchown(out.join("d/fifo"), None, Some(group)).unwrap());
    assert_eq!(owner, [("d/fifo".into(), "owner")]);
    let world = World::new();
    let archive = |minor| {
        world::archive(|names, _| {
            let (root, device) = (InodeNumber::ROOT, Some(Device { major: 1, minor }));
            let kind = EntryType::CharacterDevice;
            names.add_special(root, b"null", attributes(0o666), kind, device).map(drop)
        })
    };
    let out = world.fresh_destination();
    let extract = Extract::new().to(&out).preserve_owner(true).preserve_special(true);
    extract.run(&archive(3)).unwrap();
    for (minor, expected) in [(3, &[][..]), (5, &[("null".to_owned(), "device")])] {
        let report = Compare::new(&out).run(&archive(minor)).unwrap();
        assert_eq!(found(&report), expected);
    }
}

#[test]
fn one_directory_of_an_archive_is_compared_with_its_attributes() {
    let world = World::new();
    let (archive, out) = same(&world);
    let d = out.join("d");
    let report = Compare::new(&d).path("/d/").run(&archive).unwrap();
    assert_eq!(found(&report), []);
    assert_eq!(report.entries, if is_root() { 8 } else { 7 });
    let report = Compare::new(d.join("inner")).into("d").run(&archive).unwrap();
    assert_eq!((found(&report), report.entries), (vec![], 2));
    let report = Compare::new(d.join(".")).into("d").run(&archive).unwrap();
    assert_eq!((found(&report), report.entries), (vec![], if is_root() { 8 } else { 7 }));
    fs::set_permissions(&d, PermissionsExt::from_mode(0o750)).unwrap();
    within(&d.join("inner"), || fs::remove_file(d.join("inner/f")).unwrap());
    let report = Compare::new(&d).path("d").run(&archive).unwrap();
    let expected = [("d", "mode"), ("d/inner", "time"), ("d/inner/f", "missing")];
    assert_eq!(found(&report), expected.map(|(path, how)| (path.to_owned(), how)));

    let wrong = Compare::new(&out).path("z").run(&archive).unwrap_err();
    assert!(matches!(wrong, Error::WrongType { expected: "a directory", .. }), "{wrong:?}");
    let missing = Compare::new(&out).path("none").run(&archive).unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing:?}");
    let missing = Compare::new(out.join("none")).run(&archive).unwrap_err();
    assert!(matches!(missing, Error::Io { operation: "open", .. }), "{missing:?}");
}

#[test]
fn every_entry_and_every_difference_is_an_event_until_the_callback_breaks() {
    let world = World::new();
    let (archive, out) = same(&world);
    fs::remove_file(out.join("z")).unwrap();
    let run = |events_max: usize| {
        let (mut events, mut bytes_read) = (Vec::new(), 0);
        let compare = Compare::new(&out).on_event(|event| {
            match event {
                CompareEvent::Compared { path, bytes } => {
                    bytes_read += bytes;
                    events.push(path.to_owned());
                }
                CompareEvent::Differs { path, difference } => {
                    if *difference == Difference::Missing {
                        events.push(path.to_owned());
                    }
                }
                CompareEvent::Unreadable { .. } => panic!("{event:?}"),
            }
            if events.len() < events_max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        (compare.run(&archive), events, bytes_read)
    };
    let (report, events, bytes) = run(usize::MAX);
    let report = report.unwrap();
    let missing = 1 + usize::from(!is_root());
    assert_eq!(events.len() as u64, report.entries + missing as u64);
    assert_eq!(bytes, report.bytes);
    let (stopped, events, _) = run(3);
    assert!(matches!(stopped.unwrap_err(), Error::Stopped));
    assert_eq!(events.len(), 3);
}

#[test]
fn a_report_lists_a_bounded_number_of_differences_and_counts_all() {
    let world = World::new();
    let count = LISTED_MAX as u64 + 3;
    let archive = world::archive(|names, _| {
        let name = |number| format!("{number:08}").into_bytes();
        (0..count).try_for_each(|number| {
            names.add_file(InodeNumber::ROOT, &name(number), attributes(0o644), None).map(drop)
        })
    });
    let out = world.fresh_destination();
    fs::create_dir(&out).unwrap();
    let report = Compare::new(&out).run(&archive).unwrap();
    assert_eq!((report.differences.len(), report.difference_count), (LISTED_MAX, count));
    assert_eq!(report.differences[0].0, Path::new("00000000"));
    assert!(!report.is_same());
}

#[test]
fn a_call_that_fails_is_reported_and_the_rest_is_compared() {
    let world = World::new();
    let (archive, out) = same(&world);
    let whole = Compare::new(&out).run(&archive).unwrap();
    for call in 1.. {
        let calls = std::sync::Arc::new(Mutex::new(0));
        let counter = Arc::clone(&calls);
        let fail = move || {
            let mut calls = counter.lock().unwrap();
            *calls += 1;
            if *calls == call { Err(Errno::IO.into()) } else { Ok(()) }
        };
        let system = System { disturbance: Some(Arc::new(fail)), ..System::default() };
        let outcome = Compare::new(&out).run_on(&archive, &system);
        if *calls.lock().unwrap() < call {
            assert!(call > 40, "{call}");
            break;
        }
        // Without the destination there is nothing to compare.
        let Ok(report) = outcome else { continue };
        assert!(!report.is_same(), "call {call}");
        assert!(report.unreadable_count >= 1, "call {call}: {report:?}");
        assert_eq!(report.unreadable_count, report.unreadable.len() as u64);
        let (path, error) = &report.unreadable[0];
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        // What is in a directory that cannot be opened or listed is not compared.
        let (lost, is_directory) = (whole.entries - report.entries, out.join(path).is_dir());
        assert!(lost <= if is_directory { 8 } else { 1 }, "call {call}: {report:?}");
    }
}

#[test]
fn a_file_that_becomes_shorter_during_its_comparison_differs_in_content() {
    let world = World::new();
    let (archive, out) = same(&world);
    let file = out.join("z");
    let whole = fs::read(&file).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for call in 1.. {
        fs::write(&file, &whole).unwrap();
        let calls = std::sync::Arc::new(Mutex::new(0));
        let (counter, shortened) = (std::sync::Arc::clone(&calls), file.clone());
        let shorten = move || {
            let mut calls = counter.lock().unwrap();
            *calls += 1;
            if *calls == call { fs::write(&shortened, "shorter") } else { Ok(()) }
        };
        let system =
            System { disturbance: Some(std::sync::Arc::new(shorten)), ..System::default() };
        let report = Compare::new(&out).run_on(&archive, &system).unwrap();
        if *calls.lock().unwrap() < call {
            break;
        }
        assert_eq!(report.unreadable_count, 0, "call {call}: {report:?}");
        let of_file = found(&report).into_iter().filter(|(path, _)| path == "z");
        seen.extend(of_file.map(|(_, how)| how).filter(|name| *name != "time"));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["content", "size"]);
}
