//! New files: complete before they get their name, and never in place of another file. What killed processes left is
//! removed, and nothing else.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use super::{pattern, refusal};
use crate::Error;
use crate::device::create::{
    lock_new, remove_abandoned, rename_over_placeholder, sync_file_system,
};
use crate::device::{Access, Device, FileDevice, MappedDevice, NewFile};
use crate::format::Position;

fn names_in(directory: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_new_file_appears_complete_and_locked() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("new");
    let (new, file) = NewFile::create(&target).unwrap();
    assert_eq!(file.path(), Some(&*target));

    let [temporary] = &*names_in(&directory) else { panic!("expected one file") };
    assert_ne!(temporary, &target);
    assert_eq!(fs::metadata(temporary).unwrap().permissions().mode() & 0o777, 0o600);
    let other = FileDevice::open(temporary, Access::ReadWrite).unwrap();
    assert!(matches!(other.lock_writer(), Err(Error::Locked { .. })));

    let device = MappedDevice::new(file);
    device.grow(2).unwrap();
    device.write(Position::at(0), &pattern(0, 2, 1)).unwrap();
    new.persist(&device).unwrap();
    assert_eq!(names_in(&directory), [target.as_path()]);
    assert_eq!(fs::read(&target).unwrap(), pattern(0, 2, 1));
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);

    let other = FileDevice::open(&target, Access::ReadWrite).unwrap();
    assert!(matches!(other.lock_writer(), Err(Error::Locked { .. })), "the lock stays");
    drop(device);
    other.lock_writer().unwrap();
}

#[test]
fn a_dropped_new_file_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (new, device) = NewFile::create(directory.path().join("new")).unwrap();
    device.grow(1).unwrap();
    drop(new);
    assert!(names_in(&directory).is_empty());
}

#[test]
fn create_never_replaces_an_existing_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let nowhere = directory.path().join("link to nowhere");
    symlink("nowhere", &nowhere).unwrap();
    for taken in [&*file, &*nowhere, directory.path()] {
        let error = NewFile::create(taken).unwrap_err();
        assert_eq!(refusal(&error, "create", taken), Some(io::ErrorKind::AlreadyExists));
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert_eq!(names_in(&directory).len(), 2);
}

#[test]
fn persist_never_replaces_a_file_created_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("new");
    let (new, device) = NewFile::create(&target).unwrap();
    fs::write(&target, "precious").unwrap();
    let error = new.persist(&device).unwrap_err();
    assert_eq!(refusal(&error, "create", &target), Some(io::ErrorKind::AlreadyExists));
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(names_in(&directory), [target]);
}

#[test]
fn a_failed_create_names_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let rows = [
        (directory.path().join("missing/new"), io::ErrorKind::NotFound),
        (file.join("new"), io::ErrorKind::NotADirectory),
        (PathBuf::from("/"), io::ErrorKind::IsADirectory),
        (PathBuf::new(), io::ErrorKind::InvalidInput),
    ];
    for (path, expected) in rows {
        let error = NewFile::create(&path).unwrap_err();
        assert_eq!(refusal(&error, "create", &path), Some(expected), "{error}");
    }
}

#[test]
fn without_links_a_placeholder_takes_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = || {
        let file = NamedTempFile::new_in(&directory).unwrap();
        fs::write(file.path(), "new").unwrap();
        file.into_temp_path()
    };
    let target = directory.path().join("target");
    rename_over_placeholder(temporary(), &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");

    fs::write(&target, "precious").unwrap();
    let error = rename_over_placeholder(temporary(), &target).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(names_in(&directory), [target.as_path()]);
}

#[test]
fn a_directory_that_cannot_be_read_is_synced_with_its_file_system() {
    let directory = tempfile::tempdir().unwrap();
    sync_file_system(&File::open(directory.path()).unwrap()).unwrap();

    let mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o300);
    let target: &Path = &directory.path().join("new");
    let (new, device) = NewFile::create(target).unwrap();
    device.grow(1).unwrap();
    new.persist(&device).unwrap();
    mode(0o700);
    assert_eq!(names_in(&directory), [target]);
}

#[test]
fn files_of_killed_processes_are_removed_and_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("new");
    let (live, device) = NewFile::create(&target).unwrap();
    let [temporary] = &*names_in(&directory) else { panic!("expected one file") };
    let name = temporary.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(".new.") && name.ends_with(".incomplete"), "{name}");
    let write = |name: &str| {
        let path = directory.path().join(name);
        fs::write(&path, "").unwrap();
        path
    };
    let abandoned = write(".new.aB3456.incomplete");
    let kept = [
        // Of other files, and not of this program.
        write(".newer.aB3456.incomplete"),
        write("new.aB3456.incomplete"),
        write(".new.aB345.incomplete"),
        write(".new.aB345_.incomplete"),
        write(".new.aB3456.incomplete.gz"),
    ];
    let link = directory.path().join(".new.link56.incomplete");
    symlink(&kept[0], &link).unwrap();
    remove_abandoned(&target);
    assert!(!abandoned.exists());
    assert!(kept.iter().all(|path| path.exists()) && link.is_symlink() && temporary.exists());
    // The name of a live process is free for it until the end.
    device.grow(1).unwrap();
    live.persist(&device).unwrap();
    assert!(target.exists());
}

#[test]
fn a_long_name_has_a_temporary_one_too() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x".repeat(255));
    let (new, device) = NewFile::create(&target).unwrap();
    let [temporary] = &*names_in(&directory) else { panic!("expected one file") };
    fs::write(directory.path().join(format!(".{}.aB3456.incomplete", "x".repeat(200))), "")
        .unwrap();
    remove_abandoned(&target);
    assert_eq!(names_in(&directory), [temporary.as_path()]);
    new.persist(&device).unwrap();
    assert_eq!(names_in(&directory), [target]);
}

/// Between the creation of a file and its lock, another process may take it for an abandoned one.
#[test]
fn a_new_file_without_its_name_is_noticed_once_it_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let lock = |removes: fn(&Path)| {
        let (file, temporary) = NamedTempFile::new_in(&directory).unwrap().into_parts();
        let device = FileDevice::from_file(file).unwrap();
        removes(&temporary);
        let is_locked = lock_new(&device, &temporary).unwrap();
        let other = temporary.exists().then(|| FileDevice::open(&temporary, Access::ReadWrite));
        (is_locked, other.map(|other| other.unwrap().lock_writer().is_ok()))
    };
    assert_eq!(lock(|_| {}), (true, Some(false)));
    assert_eq!(lock(|path| fs::remove_file(path).unwrap()), (false, None));
    let replace = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "of another process").unwrap();
    };
    assert_eq!(lock(replace), (false, Some(true)));
    // The other process has not removed it yet.
    let (file, temporary) = NamedTempFile::new_in(&directory).unwrap().into_parts();
    let other = FileDevice::open(&temporary, Access::ReadWrite).unwrap();
    other.lock_writer().unwrap();
    assert!(!lock_new(&FileDevice::from_file(file).unwrap(), &temporary).unwrap());
}
