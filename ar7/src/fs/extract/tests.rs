//! The rules of an extraction, even if calls fail and other processes change the destination meanwhile:
//!
//! - nothing outside of the destination changes;
//! - an entry that is reported as restored is, at that moment, as the archive has it, unless a directory above it is
//!   reported as not restored;
//! - every other selected entry is reported, or is in a directory that is reported;
//! - no temporary name is left;
//! - a stopped extraction closes existing directories again.
//!
//! A layer under the extraction fails one call after the other, or changes the tree before it. The extraction runs in
//! one thread, so that each seed gives the same calls.

mod attributes;
mod disturbed;
mod killed;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use ar7_engine::{Check, Error as EngineError};
use ar7_registry::records::{EntryType, InodeNumber};

use super::*;
use crate::fs::stored::find;
use crate::fs::world::{self, World, attributes};

#[test]
fn paths_with_the_same_last_component_are_restored_with_their_whole_paths() {
    let world = World::new();
    for (paths, expected) in [
        (&["x/f", "x/d/g"][..], &["f", "g"][..]),
        (&["x/f", "x/d/f"], &["x", "x/d", "x/d/f", "x/f"]),
        (&["./x/d/", "/x//d/f"], &["d", "d/f", "d/g", "f"]),
        (&["x/f", "./x/f"], &["f"]),
        (&["x/d/f", "x/f", "x"], &["x", "x/d", "x/d/f", "x/d/g", "x/f"]),
        (&["."], &["x", "x/d", "x/d/f", "x/d/g", "x/f", "y", "y/f"]),
        (&["x/f", "none", "x/f/none"], &["f"]),
    ] {
        let archive = world::archive(|names, file| {
            let x = names.make_directory(InodeNumber::ROOT, b"x", attributes(0o755))?;
            names.add_file(x, b"f", attributes(0o644), file(b"x/f"))?;
            let d = names.make_directory(x, b"d", attributes(0o555))?;
            names.add_file(d, b"f", attributes(0o644), file(b"x/d/f"))?;
            names.add_file(d, b"g", attributes(0o644), file(b"x/d/g"))?;
            let y = names.make_directory(InodeNumber::ROOT, b"y", attributes(0o755))?;
            names.add_file(y, b"f", attributes(0o644), file(b"y/f")).map(drop)
        });
        let out = world.fresh_destination();
        let mut extract = Extract::new().to(&out);
        for path in paths {
            extract = extract.path(path);
        }
        let report = extract.run(&archive).unwrap();
        let missing: Vec<PathBuf> =
            report.not_restored.iter().map(|failed| failed.path.clone()).collect();
        let named: Vec<PathBuf> =
            paths.iter().filter(|path| path.contains("none")).map(PathBuf::from).collect();
        assert_eq!(missing, named, "{paths:?}");
        assert_eq!(world::names(&out), expected, "{paths:?}");
        assert_eq!(report.entries, expected.len() as u64, "{paths:?}");
    }
}

#[test]
fn an_argument_is_a_path_if_it_exists_and_a_pattern_otherwise() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        for name in [&b"a*"[..], b"ab", b"b"] {
            names.add_file(InodeNumber::ROOT, name, attributes(0o644), file(name))?;
        }
        Ok(())
    });
    for (arguments, expected) in [
        (&["a*"][..], &["a*"][..]),
        (&["a?"], &["a*", "ab"]),
        (&["a*", "[b-c]"], &["a*", "b"]),
        (&["b"], &["b"]),
        (&[], &["a*", "ab", "b"]),
    ] {
        let out = world.fresh_destination();
        let extract = Extract::new().to(&out).select(&archive, arguments).unwrap();
        assert!(extract.run(&archive).unwrap().is_complete(), "{arguments:?}");
        assert_eq!(world::names(&out), expected, "{arguments:?}");
    }
}

#[test]
fn with_paths_and_patterns_what_the_paths_name_is_restored_as_far_as_a_pattern_selects_it() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        for directory in [&b"x"[..], b"y"] {
            let d = names.make_directory(InodeNumber::ROOT, directory, attributes(0o755))?;
            names.add_file(d, b"a.txt", attributes(0o644), file(b"a"))?;
            names.add_file(d, b"b", attributes(0o644), file(b"b"))?;
        }
        Ok(())
    });
    let out = world.fresh_destination();
    let patterns = Patterns::new(["*.txt"]).unwrap();
    let report = Extract::new().path("x").patterns(patterns).to(&out).run(&archive).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(world::names(&out), ["x", "x/a.txt"]);
}

#[test]
fn an_existing_entry_is_replaced_as_the_option_says() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        let d = names.make_directory(InodeNumber::ROOT, b"d", attributes(0o755))?;
        for (name, content) in [(b"newer", "archive"), (b"older", "archive"), (b"equal", "archive")]
        {
            names.add_file(d, name, attributes(0o644), file(content.as_bytes()))?;
        }
        names.add_file(d, b"fresh", attributes(0o644), file(b"archive")).map(drop)
    });
    let stored = world::MODIFIED;
    for (overwrite, replaced) in [
        (Overwrite::Always, &["newer", "older", "equal"][..]),
        (Overwrite::IfNewer, &["older"]),
        (Overwrite::IfChanged, &["newer", "older"]),
        (Overwrite::Never, &[]),
    ] {
        let out = world.fresh_destination();
        fs::create_dir_all(out.join("d")).unwrap();
        for (name, seconds) in [("newer", stored + 1), ("older", stored - 1), ("equal", stored)] {
            let path = out.join("d").join(name);
            fs::write(&path, "onefile").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            world::set_modified(&path, seconds);
        }
        fs::set_permissions(out.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
        let report = Extract::new().to(&out).overwrite(overwrite).run(&archive).unwrap();
        assert!(report.is_complete(), "{overwrite:?}: {report:?}");
        for name in ["newer", "older", "equal", "fresh"] {
            let is_replaced = name == "fresh" || replaced.contains(&name);
            let content = fs::read_to_string(out.join("d").join(name)).unwrap();
            let expected = if is_replaced { "archive" } else { "onefile" };
            assert_eq!(content, expected, "{overwrite:?}: {name}");
        }
        assert_eq!(report.kept, 3 - replaced.len() as u64, "{overwrite:?}");
        // The directory is newer than in the archive.
        let keeps = matches!(overwrite, Overwrite::Never | Overwrite::IfNewer);
        let mode = fs::metadata(out.join("d")).unwrap().mode() & 0o777;
        assert_eq!(mode, if keeps { 0o711 } else { 0o755 }, "{overwrite:?}");
    }
    let out = world.fresh_destination();
    fs::create_dir_all(out.join("d")).unwrap();
    let refused = Extract::new().to(&out).run(&archive).unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { path } if path == out.join("d")));
    assert_eq!(world::names(&out), ["d"]);
}

#[test]
fn every_type_is_restored_with_its_attributes_and_links() {
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    let out = world.fresh_destination();
    let report = Extract::new().to(&out).preserve_owner(true).run(&archive).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(report.is_complete(), is_root, "{report:?}");
    for (path, found) in world::entries(&archive) {
        if !is_root && found.inode.kind == EntryType::Socket {
            continue;
        }
        world::check(&archive, &out, &path, &found).unwrap();
    }
    let inode = |path: &str| fs::symlink_metadata(out.join(path)).unwrap().ino();
    assert_eq!(inode("d/linked"), inode("other/name"));
    assert_eq!(world::temporary_names(&out), Vec::<PathBuf>::new());
}

#[test]
fn a_stream_whose_length_differs_from_its_inode_is_damage_and_leaves_no_file() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        names.add_file(InodeNumber::ROOT, b"f", attributes(0o644), file(b"content")).map(drop)
    });
    let out = world.fresh_destination();
    let (options, reporter) = (Extract::new().to(&out).options, Reporter::new(None));
    let system = System::default();
    let files = Files::new(archive.registry(), &options, &reporter, &system, 1);
    let (level, descriptor) = files.destination(&out).unwrap();
    let at = files::At { level: &level, descriptor: descriptor.as_fd() };
    for size in [0, 6, 8] {
        let mut found = find(archive.registry(), b"f").unwrap();
        found.inode.size = size;
        let outcome = files.entry(at, &found, &mut Vec::new());
        let expected = EngineError::damaged(None, Check::Name, size, 7_u64).to_string();
        assert_eq!(outcome.err().unwrap().to_string(), expected);
        assert_eq!(world::names(&out), Vec::<String>::new());
    }
}

#[test]
fn a_callback_that_breaks_stops_the_extraction_and_nothing_half_is_left() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        let d = names.make_directory(InodeNumber::ROOT, b"d", attributes(0o755))?;
        (0..20_u32).try_for_each(|number| {
            let (name, content) = (format!("f{number}"), vec![1; 5 << 20]);
            names.add_file(d, name.as_bytes(), attributes(0o644), file(&content)).map(drop)
        })
    });
    for bytes_max in [0, 4 << 20, 30 << 20] {
        let out = world.fresh_destination();
        let mut bytes = 0;
        let extract = Extract::new().to(&out).on_event(|event| {
            if let ExtractEvent::Wrote { bytes: more } = event {
                bytes += more;
            }
            if bytes > bytes_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(extract.run(&archive).unwrap_err(), Error::Stopped));
        assert_eq!(world::temporary_names(&out), Vec::<PathBuf>::new());
        let names = world::names(&out.join("d"));
        assert!(names.len() < 20, "nothing follows after {bytes_max} bytes: {names:?}");
        for name in names {
            assert_eq!(fs::metadata(out.join("d").join(&name)).unwrap().len(), 5 << 20, "{name}");
        }
    }
}

#[test]
fn an_extraction_that_counts_tells_how_many_bytes_the_paths_have() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        let x = names.make_directory(InodeNumber::ROOT, b"x", attributes(0o755))?;
        let d = names.make_directory(x, b"d", attributes(0o755))?;
        for (directory, name, length) in
            [(x, b"f", 1), (x, b"g", 20), (d, b"f", 300), (d, b"g", 4000)]
        {
            names.add_file(directory, name, attributes(0o644), file(&vec![1; length]))?;
        }
        let many = names.make_directory(InodeNumber::ROOT, b"y", attributes(0o755))?;
        (0..100_u32).try_for_each(|number| {
            let name = number.to_string();
            names.add_file(many, name.as_bytes(), attributes(0o644), file(&[1; 1000])).map(drop)
        })
    });
    for (paths, expected) in [
        (&["x/d/f", "x/g"][..], 320),
        (&["x/d/f", "x/f"], 301),
        (&["x"], 4321),
        (&["x/d", "y/5"], 5300),
        (&[], 104_321),
    ] {
        let options = paths.iter().fold(Extract::new(), Extract::path).options;
        let sources = select::sources(archive.registry(), &options, &Reporter::new(None)).unwrap();
        assert_eq!(select::total(archive.registry(), sources, || false), Some(expected));
    }
    // As long as the first file takes, the walk is not at the end of the others.
    let none = || Patterns::new::<&str>([]).unwrap();
    for (counts, exclude, expected) in [
        (true, none(), Some(104_321)),
        (false, none(), None),
        (true, Patterns::new(["x"]).unwrap(), None),
    ] {
        let (mut counted, mut wrote) = (None, 0);
        let extract = Extract::new().to(world.fresh_destination()).count(counts).exclude(exclude);
        let extract = extract.on_event(|event| {
            match event {
                ExtractEvent::Counted { bytes } => counted = Some(bytes),
                ExtractEvent::Wrote { bytes } => {
                    if wrote == 0 {
                        std::thread::sleep(std::time::Duration::from_millis(50));
                    }
                    wrote += bytes;
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        let report = extract.run(&archive).unwrap();
        assert_eq!((counted, wrote), (expected, report.bytes));
    }
}

#[test]
fn an_entry_in_the_way_of_a_directory_is_replaced_and_a_directory_is_not() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        let d = names.make_directory(InodeNumber::ROOT, b"d", attributes(0o755))?;
        names.add_file(d, b"f", attributes(0o644), file(b"inside"))?;
        names.add_file(InodeNumber::ROOT, b"f", attributes(0o644), file(b"content")).map(drop)
    });
    let out = world.fresh_destination();
    fs::create_dir_all(out.join("f")).unwrap();
    symlink(world.outside(), out.join("d")).unwrap();
    let before = world.outside_state();
    let report = Extract::new().to(&out).overwrite(Overwrite::Always).run(&archive).unwrap();
    assert_eq!(report.not_restored.len(), 1, "{report:?}");
    assert_eq!(report.not_restored[0].path, out.join("f"));
    assert_eq!(fs::read(out.join("d/f")).unwrap(), b"inside");
    assert_eq!(world.outside_state(), before);
    // With `Never`, the link stays, and what is below the directory is not restored.
    let out = world.fresh_destination();
    fs::create_dir_all(&out).unwrap();
    symlink(world.outside(), out.join("d")).unwrap();
    let report = Extract::new().to(&out).overwrite(Overwrite::Never).run(&archive).unwrap();
    assert_eq!(report.not_restored[0].path, out.join("d"));
    assert_eq!(world::names(&out), ["d", "f"]);
    assert_eq!(world.outside_state(), before);
}

#[test]
fn a_tree_deeper_than_any_limit_is_restored_with_few_descriptors() {
    const DEPTH: usize = 3000;
    let world = World::new();
    let archive = world::archive(|names, file| {
        let mut directory = InodeNumber::ROOT;
        for _ in 0..DEPTH {
            names.add_file(directory, b"a", attributes(0o644), file(b"a"))?;
            let below = names.make_directory(directory, b"d", attributes(0o755))?;
            names.add_file(directory, b"z", attributes(0o600), file(b"z"))?;
            directory = below;
        }
        Ok(())
    });
    let out = world.fresh_destination();
    let report = Extract::new().to(&out).run(&archive).unwrap();
    assert!(report.is_complete(), "{:?}", report.not_restored.first());
    assert_eq!(report.entries, 3 * DEPTH as u64);
    let report = crate::fs::Compare::new(&out).run(&archive).unwrap();
    let owned = report
        .differences
        .iter()
        .all(|(_, one)| matches!(one, crate::fs::Difference::Owner { .. }));
    assert!(owned && report.unreadable.is_empty(), "{report:?}");
    assert_eq!(report.entries, 3 * DEPTH as u64);
    remove_deep(&out);
}

/// Removes a tree that is too deep for paths, from its top down.
fn remove_deep(top: &Path) {
    let above = top.with_extension("above");
    while let Ok(entries) = fs::read_dir(top) {
        let mut next = None;
        for entry in entries.map(io::Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                next = Some(entry.path());
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let Some(next) = next else { break };
        fs::rename(&next, &above).unwrap();
        fs::remove_dir(top).unwrap();
        fs::rename(&above, top).unwrap();
    }
}

/// An archive of two files `a` and `b` and two directories `c` and `d` in a directory, `in`, or in its root directory.
fn pairs(inside: bool) -> Snapshot {
    world::archive(|names, file| {
        let root = InodeNumber::ROOT;
        let parent =
            if inside { names.make_directory(root, b"in", attributes(0o755))? } else { root };
        names.add_file(parent, b"a", attributes(0o644), file(b"of a"))?;
        names.add_file(parent, b"b", attributes(0o644), file(b"of b"))?;
        for name in [b"c", b"d"] {
            let directory = names.make_directory(parent, name, attributes(0o755))?;
            names.add_file(directory, name, attributes(0o644), file(name))?;
        }
        Ok(())
    })
}

#[test]
fn names_that_the_file_system_does_not_distinguish_are_reported_and_nothing_is_overwritten() {
    let world = World::new();
    for (inside, there) in [(false, false), (false, true), (true, false)] {
        for overwrite in
            [Overwrite::Always, Overwrite::Never, Overwrite::IfNewer, Overwrite::IfChanged]
        {
            let archive = pairs(inside);
            let out = world.fresh_destination();
            fs::create_dir(&out).unwrap();
            let place = if inside { out.join("in") } else { out.clone() };
            if there {
                fs::write(place.join("a"), "before").unwrap();
                world::set_modified(&place.join("a"), world::MODIFIED - 1);
                fs::create_dir(place.join("c")).unwrap();
            }
            // As soon as one name of a pair is there, so is the other, as if they were the same to the file system.
            let to = place.clone();
            let event = move || {
                let has = |name: &str| fs::symlink_metadata(to.join(name)).is_ok();
                let is_new = |name: &str| fs::read(to.join(name)).is_ok_and(|a| a != b"before");
                if is_new("a") && !has("b") {
                    drop(fs::hard_link(to.join("a"), to.join("b")));
                }
                // A directory has one name, so it is moved when the first one is complete.
                let file = to.join("c/c");
                if file.exists() && !has("d") {
                    drop(fs::rename(to.join("c"), to.join("d")));
                }
                Ok(())
            };
            let system = System { disturbance: Some(Arc::new(event)), ..System::default() };
            let extract = Extract::new().to(&out).overwrite(overwrite);
            let report = extract.run_on(&archive, &system, 0).unwrap();
            let context = format!("{inside} {there} {overwrite:?} {report:?}");
            let keeps = there && overwrite == Overwrite::Never;
            if !keeps {
                assert_eq!(fs::read(place.join("a")).unwrap(), b"of a", "{context}");
                assert_eq!(fs::read(place.join("b")).unwrap(), b"of a", "{context}");
                let failed = |name: &str| {
                    report.not_restored.iter().any(|one| {
                        one.path == place.join(name)
                            && one.error.to_string().contains("does not distinguish")
                    })
                };
                assert!(failed("b"), "{context}");
                assert!(failed("d"), "{context}");
            }
            assert_eq!(fs::read(place.join("d/c")).unwrap(), b"c", "{context}");
            assert!(!place.join("d/d").exists(), "{context}");
            assert_eq!(world::temporary_names(&out), Vec::<PathBuf>::new(), "{context}");
        }
    }
}

#[test]
fn a_name_that_another_process_gave_to_the_same_file_is_kept() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        let linked =
            names.add_file(InodeNumber::ROOT, b"a", attributes(0o640), file(b"content"))?;
        names.add_link(InodeNumber::ROOT, b"b", linked)
    });
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        let out = world.fresh_destination();
        let to = out.clone();
        let event = move || {
            if to.join("a").exists() && !to.join("b").exists() {
                fs::hard_link(to.join("a"), to.join("b"))?;
            }
            Ok(())
        };
        let system = System { disturbance: Some(Arc::new(event)), ..System::default() };
        let report = Extract::new().to(&out).overwrite(overwrite).run_on(&archive, &system, 0);
        let report = report.unwrap();
        assert!(report.is_complete() && report.incomplete.is_empty(), "{report:?}");
        assert_eq!(world::names(&out), ["a", "b"], "{overwrite:?}");
    }
}

#[test]
fn a_link_that_points_elsewhere_and_another_device_are_changed() {
    let world = World::new();
    let is_root = rustix::process::geteuid().is_root();
    let archive = |target: &'static [u8], minor| {
        world::archive(|names, _| {
            let root = InodeNumber::ROOT;
            names.add_symlink(root, b"link", attributes(0o777), target)?;
            let (kind, device) =
                (EntryType::CharacterDevice, ar7_registry::records::Device { major: 1, minor });
            if is_root {
                names.add_special(root, b"null", attributes(0o666), kind, Some(device))?;
            }
            Ok(())
        })
    };
    let out = world.fresh_destination();
    let extract = |archive: &Snapshot| {
        let extract = Extract::new().to(&out).overwrite(Overwrite::IfChanged);
        extract.preserve_special(true).run(archive).unwrap()
    };
    assert_eq!(extract(&archive(b"one", 3)).kept, 0);
    assert_eq!(extract(&archive(b"one", 3)).kept, 1 + u64::from(is_root));
    let report = extract(&archive(b"two", 5));
    assert_eq!((report.kept, report.not_restored_count), (0, 0), "{report:?}");
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("two"));
    if is_root {
        let device = fs::symlink_metadata(out.join("null")).unwrap().rdev();
        assert_eq!(device, rustix::fs::makedev(1, 5));
    }
}

#[test]
fn a_name_that_cannot_be_linked_is_restored_as_a_copy_and_reported() {
    use rustix::io::Errno;
    let world = World::new();
    let archive = world::archive(|names, file| {
        let root = InodeNumber::ROOT;
        let linked = names.add_file(root, b"a", attributes(0o640), file(b"content"))?;
        names.add_link(root, b"b", linked)?;
        names.add_link(root, b"c", linked)
    });
    let mut copies = 0;
    for errno in [Errno::XDEV, Errno::MLINK, Errno::PERM] {
        for call in 1.. {
            let out = world.fresh_destination();
            let calls = std::sync::Mutex::new(0);
            let is_last = Arc::new(std::sync::atomic::AtomicBool::new(true));
            let reached = Arc::clone(&is_last);
            let event = move || {
                let mut calls = calls.lock().unwrap();
                *calls += 1;
                if *calls == call {
                    reached.store(false, std::sync::atomic::Ordering::Relaxed);
                    return Err(errno.into());
                }
                Ok(())
            };
            let system = System { disturbance: Some(Arc::new(event)), ..System::default() };
            let outcome = Extract::new().to(&out).run_on(&archive, &system, 0);
            if is_last.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            let Ok(report) = outcome else { continue };
            let lack = report.incomplete.iter().find(|one| one.aspect == Aspect::HardLink);
            if let (Some(lack), 0) = (lack, report.not_restored_count) {
                copies += 1;
                assert_eq!(lack.entries, 1, "{report:?}");
                let inode = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
                assert_eq!(lack.path == out.join("b"), inode("b") == inode("c"));
                assert_ne!(inode("a"), inode("c"));
                for name in ["a", "b", "c"] {
                    assert_eq!(fs::read(out.join(name)).unwrap(), b"content");
                    let mode = fs::metadata(out.join(name)).unwrap().mode();
                    assert_eq!(mode & 0o7777, 0o640);
                }
                assert_eq!(world::temporary_names(&out), Vec::<PathBuf>::new());
            }
        }
    }
    assert!(copies >= 6, "{copies}");
}
