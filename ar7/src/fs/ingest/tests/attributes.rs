//! Extended attributes: one that cannot be read or stored costs neither its entry nor the others, and is reported.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// The directory `w`, those in it, the files, of which one has two names, and the symbolic link.
const ATTRIBUTED: usize = 1 + DIRECTORIES.len() + ENTRIES - 1;

fn attributes(values: &[(&str, usize)]) -> Vec<ExtendedAttribute> {
    let attribute = |&(name, length): &(&str, usize)| ExtendedAttribute::new(name, vec![1; length]);
    values.iter().map(attribute).collect()
}

/// Returns the attributes that the archive has of an entry.
fn stored(bench: &Bench, path: &str) -> Vec<ExtendedAttribute> {
    bench.archive().unwrap().snapshot().unwrap().extended_attributes(path).unwrap()
}

#[test]
fn an_attribute_that_cannot_be_read_costs_no_other_and_is_read_in_the_next_run() {
    let bench = Bench::new();
    let all = attributes(&[("user.a", 1), ("user.b", 2), ("user.c", 3)]);
    let source = Disturbed {
        extended: Some(all.clone()),
        unreadable: Some("user.b".into()),
        ..Disturbed::later()
    };
    for _ in 0..2 {
        let report = bench.ingest(&source).unwrap();
        assert_eq!((report.unread.len(), report.attributes.len()), (0, ATTRIBUTED), "{report:?}");
        assert!(!report.is_complete());
        let names_it = |unread: &crate::fs::Unread| matches!(&unread.error, Error::InAttribute { name, .. } if name == Path::new("user.b"));
        assert!(report.attributes.iter().all(names_it), "{report:?}");
        assert_eq!(stored(&bench, "w/b/f"), attributes(&[("user.a", 1), ("user.c", 3)]));
    }
    let report = bench.ingest(&Disturbed { extended: Some(all.clone()), ..Disturbed::later() });
    assert!(report.unwrap().is_complete());
    assert_eq!(stored(&bench, "w/b/f"), all);
}

#[test]
fn a_file_system_without_attributes_is_none_that_cannot_be_read() {
    for (errno, reported) in [(Errno::OPNOTSUPP, 0), (Errno::PERM, 0), (Errno::IO, ATTRIBUTED)] {
        let source = Disturbed { unlistable: Some(errno), ..Disturbed::default() };
        let report = Bench::new().ingest(&source).unwrap();
        assert_eq!((report.unread.len(), report.attributes.len()), (0, reported), "{errno}");
    }
}

#[test]
fn attributes_are_stored_up_to_the_limits_of_one_and_of_all() {
    let bench = Bench::new();
    let names: Vec<String> = (0..20).map(|number| format!("user.{number:02}")).collect();
    let mut all: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 60_000)).collect();
    all[3].1 = 65_537;
    let source = Disturbed { extended: Some(attributes(&all)), ..Disturbed::later() };
    let report = bench.ingest(&source).unwrap();
    assert_eq!((report.unread.len(), report.attributes.len()), (0, ATTRIBUTED), "{report:?}");
    all.remove(3);
    // 17 of them take less than 1 MiB, 18 take more.
    assert_eq!(stored(&bench, "w/b/f"), attributes(&all[..17]));
    let report = bench.ingest(&Disturbed::later()).unwrap();
    assert!(report.is_complete(), "{report:?}");
    let report = bench.ingest(&Disturbed::later()).unwrap();
    assert_eq!((report.unchanged, report.stored_files), (ENTRIES as u64, 0));
}

#[test]
fn damaged_attributes_of_the_archive_are_reported_and_replaced() {
    let bench = Bench::new();
    let (first, second) = (attributes(&[("user.a", 3000)]), attributes(&[("user.a", 2000)]));
    bench.ingest(&Disturbed { extended: Some(first), ..Disturbed::later() }).unwrap();
    let bytes = fs::read(bench.path("archive")).unwrap();
    let mut replaced = 0;
    for block in 8..bytes.len() / 4096 {
        let mut copy = bytes.clone();
        copy[block * 4096 + 2000] ^= 1;
        fs::write(bench.path("archive"), &copy).unwrap();
        bench.fill("w", "another version");
        let source = Disturbed { extended: Some(second.clone()), ..Disturbed::later() };
        let Ok(report) = bench.ingest(&source) else { continue };
        for unread in &report.attributes {
            replaced += 1;
            assert!(matches!(unread.error, Error::Damaged(_)), "block {block}: {unread:?}");
        }
        if !report.attributes.is_empty() {
            assert_eq!(stored(&bench, "w/b/f"), second, "block {block}");
        }
    }
    assert!(replaced >= DIRECTORIES.len() * FILES.len() - 1, "{replaced} replaced");
}

#[test]
fn what_is_not_read_keeps_the_origin_of_what_was_read() {
    let bench = Bench::new();
    let (first, second) = (attributes(&[("user.a", 1)]), attributes(&[("user.a", 2)]));
    bench.ingest(&Disturbed { extended: Some(first.clone()), ..Disturbed::later() }).unwrap();
    let file = bench.path("w/b/f");
    let modified = file.metadata().unwrap().modified().unwrap();
    fs::write(&file, "other w/b/f").unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    for path in ["w/b/f", "w/b"] {
        fs::set_permissions(bench.path(path), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let source = Disturbed { extended: Some(second.clone()), ..Disturbed::later() };
    let ignoring =
        bench.ingest_with(&source, |ingest| ingest.ignore_ctime(true).ignore_inode(true));
    assert_eq!(ignoring.unwrap().stored_files, 0);
    assert_eq!(stored(&bench, "w/b/f"), first);
    assert_eq!(bench.ingest(&source).unwrap().stored_files, 1);
    assert_eq!(stored(&bench, "w/b/f"), second);
    assert_eq!(stored(&bench, "w/b"), second);
    assert_eq!(bench.stored()["w/b/f"], b"other w/b/f");
}

#[test]
fn a_directory_of_another_file_system_is_read_by_a_later_run_that_does_not_leave_it_out() {
    let bench = Bench::new();
    let all = attributes(&[("user.a", 1)]);
    let without = || Disturbed { extended: Some(Vec::new()), ..Disturbed::later() };
    let foreign = Disturbed { foreign: Some("inner".into()), ..without() };
    bench.ingest_with(&foreign, |ingest| ingest.one_file_system(true)).unwrap();
    bench.ingest(&Disturbed { extended: Some(all.clone()), ..without() }).unwrap();
    assert_eq!(stored(&bench, "w/a/inner"), all);
    // This one was read by the first run and has not changed since.
    assert_eq!(stored(&bench, "w/b"), []);
}
