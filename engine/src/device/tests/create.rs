//! New files: complete before they get their name, and never in place of another file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use super::{pattern, refusal};
use crate::Error;
use crate::device::create::{rename_over_placeholder, sync_file_system};
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
