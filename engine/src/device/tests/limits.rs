//! Full disks and limits. Tests that change the whole process, or mount a file system, run in their own process.

use std::env;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{file_with, open_any, pattern, read_blocks};
use crate::Error;
use crate::device::{Device, FileDevice, MappedDevice, MemoryDevice, NewFile, Sharing};
use crate::format::{BLOCK_SIZE_U64, Position};

/// Environment variable that marks the process a test starts for itself.
const OWN_PROCESS: &str = "AR7_TEST_IN_OWN_PROCESS";

/// Runs the test with this name again in its own process, started by `wrapper`.
fn run_again(test: &str, wrapper: &[&str]) {
    let program = env::current_exe().unwrap();
    let arguments = [test, "--exact", "--nocapture"];
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    // A program built for coverage writes a profile at its end, which must not exceed the limit.
    command.env(OWN_PROCESS, "1").env("LLVM_PROFILE_FILE", "/dev/null");
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{errors}", output.status);
    assert!(text.contains("1 passed"), "expected the test to run, found {text}");
}

fn in_own_process() -> bool {
    env::var_os(OWN_PROCESS).is_some()
}

fn assert_no_space<T>(answer: crate::Result<T>, blocks: u64) {
    match answer {
        Err(Error::NoSpace { needed_blocks, .. }) => assert_eq!(needed_blocks, blocks),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("expected no space, found some"),
    }
}

/// Asserts that a device of 10 blocks without space for 1000 refuses to grow, and stays unchanged.
fn assert_growth_is_refused(device: &dyn Device) {
    let before = pattern(0, 10, 1);
    device.write(Position::at(0), &before).unwrap();
    assert_no_space(device.grow(1000), 990);
    assert_eq!(device.length_bytes().unwrap(), 10 * BLOCK_SIZE_U64);
    assert_eq!(read_blocks(device, 0, 10).unwrap(), before);
    assert!(matches!(read_blocks(device, 10, 1), Err(Error::Truncated { .. })));

    // The refusal released its space, and the device still works.
    device.grow(20).unwrap();
    device.write(Position::at(10), &pattern(10, 10, 2)).unwrap();
    device.sync().unwrap();
    assert_eq!(read_blocks(device, 10, 10).unwrap(), pattern(10, 10, 2));
    device.shrink(10).unwrap();
}

#[test]
fn a_full_memory_device_is_an_error() {
    let device = MemoryDevice::new();
    device.set_capacity(100);
    device.grow(10).unwrap();
    assert_growth_is_refused(&device);
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_not_a_signal() {
    if !in_own_process() {
        run_again("device::tests::limits::a_limit_on_file_sizes_is_an_error_and_not_a_signal", &[]);
        return;
    }
    let (_directory, path) = file_with(&pattern(0, 10, 1));
    let long = file_with(&pattern(0, 200, 1));
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(100 * BLOCK_SIZE_U64), maximum }).unwrap();

    assert_growth_is_refused(&open_any(&path));
    assert_growth_is_refused(&open_any(&path).without_reserving());
    assert_growth_is_refused(&MappedDevice::new(open_any(&path)));

    // A file already longer than the limit can be written only below it.
    let device = open_any(&long.1);
    device.write(Position::at(99), &pattern(99, 1, 2)).unwrap();
    assert_no_space(device.write(Position::at(99), &pattern(99, 2, 3)), 2);
    assert_eq!(read_blocks(&device, 99, 1).unwrap(), pattern(99, 1, 2));
}

#[test]
fn a_limit_on_open_files_does_not_change_the_kind_of_locks() {
    if !in_own_process() {
        run_again(
            "device::tests::limits::a_limit_on_open_files_does_not_change_the_kind_of_locks",
            &[],
        );
        return;
    }
    let (_directory, path) = file_with(&pattern(0, 10, 1));
    let (first, second) = (open_any(&path), open_any(&path));
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1), ..before }).unwrap();
    // Whether the file system has byte-range locks cannot be tested now.
    for outcome in [first.lock_writer(), first.locks().lock_reader(1)] {
        assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
    }
    setrlimit(Resource::Nofile, before).unwrap();
    first.lock_writer().unwrap();
    assert_eq!(first.locks().sharing().unwrap(), Sharing::ReadersAndWriter);
    assert!(matches!(second.lock_writer(), Err(Error::Locked { .. })));
}

#[test]
fn a_full_disk_is_an_error() {
    let name = "device::tests::limits::a_full_disk_is_an_error";
    if in_own_process() {
        assert_a_small_disk_refuses_growth();
        return;
    }
    // A separate mount namespace unmounts the file system when the process ends. Without privileges it also needs a
    // user namespace, which some systems forbid.
    let wrappers: [&[&str]; 2] =
        [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
    match wrappers.iter().find(|wrapper| can_mount(wrapper)) {
        Some(wrapper) => run_again(name, wrapper),
        None => eprintln!("skipped {name}: no file system can be mounted here"),
    }
}

fn can_mount(wrapper: &[&str]) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let answer = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args(["mount", "-t", "tmpfs", "none"])
        .arg(directory.path())
        .output();
    answer.is_ok_and(|output| output.status.success())
}

fn assert_a_small_disk_refuses_growth() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(directory.path())
        .status()
        .unwrap();
    assert!(mounted.success());

    fill(&directory.path().join("archive"));
    assert!(Command::new("umount").arg(directory.path()).status().unwrap().success());
}

fn fill(path: &Path) {
    let (new, device) = NewFile::create(path).unwrap();
    device.grow(10).unwrap();
    new.persist(&device).unwrap();
    assert_growth_is_refused(&device);
    assert_growth_is_refused(&open_any(path).without_reserving());
    assert_growth_is_refused(&MappedDevice::with_segments(open_any(path), 4, 100));
    assert_a_write_to_holes_fails(path, &device);
}

/// In a file with holes, the write itself fails. Growth by this program never leaves holes.
fn assert_a_write_to_holes_fails(path: &Path, device: &FileDevice) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(1000 * BLOCK_SIZE_U64).unwrap();
    assert_eq!(device.length_bytes().unwrap(), 1000 * BLOCK_SIZE_U64);
    assert_no_space(device.write(Position::at(10), &pattern(10, 990, 4)), 990);
    assert_eq!(read_blocks(device, 0, 10).unwrap(), pattern(0, 10, 1));
}
