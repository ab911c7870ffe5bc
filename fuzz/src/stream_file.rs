//! A stream used as a file, compared with a file of the operating system: the same operations must have the same
//! results and the same kinds of error.
//!
//! The two may differ in these cases, for which the stream's result is checked by itself:
//! - An operation that the mode does not allow: a file fails with EBADF, which has no `ErrorKind`; a stream fails with
//!   `PermissionDenied`.
//! - Setting the length of a file that is open for reading: EINVAL on Linux, which POSIX allows as well as EBADF; a
//!   stream fails with `PermissionDenied`, as it does for writing.
//! - Offsets that are invalid for a file, because offset plus length exceeds 2^63 - 1: a file fails with EINVAL. A
//!   stream has no signed offsets. There it reads nothing, accepts an empty write, and fails with `FileTooLarge`
//!   otherwise.
//! - Lengths of 2^31 blocks or more: whether a file can have them depends on the file system; a stream fails with
//!   `FileTooLarge`.
//! - Seeking to an offset that only some file systems allow: a stream accepts offsets up to 2^63 - 1.
//!
//! Lengths between the largest written here and the smallest impossible one are not tried: a stream has no holes and
//! would fill them with zeros.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{BLOCKS_MAX, DATA_SIZE_U64};
use ar7_engine::store::{self, Access};
use ar7_registry::{Archive, CreateOptions, Mode, StreamFile};
use tempfile::TempDir;
use uuid::Uuid;

use crate::unstructured::Unstructured;

const MODES: [&str; 8] = ["r", "w", "a", "x", "r+", "w+", "a+", "x+"];

const IDENTITY: Uuid = Uuid::from_u128(0x0192_a000_0000_7000_8000_0000_0000_0009);

/// The length in bytes up to which either is written: a stream has no holes.
const LENGTH_MAX: u64 = 100_000;

/// A length that no stream can have, because its blocks would exceed the maximum size of an archive.
const TOO_LONG: u64 = BLOCKS_MAX as u64 * DATA_SIZE_U64;

/// The offset beyond which every read of a file, even an empty one, fails with EINVAL on Linux.
const OFFSET_MAX: u64 = i64::MAX.cast_unsigned() - LENGTH_MAX;

/// The offset from which on the limit depends on the file system.
const FILE_MAX: u64 = TOO_LONG + (1 << 20);

/// The number of EBADF, which is the same on all relevant POSIX systems.
const EBADF: i32 = 9;

/// Maximum number of operations.
const OPERATIONS: usize = 60;

/// A stream and a file that must stay equal.
struct Twins {
    device: MemoryDevice,
    archive: Archive,
    folder: TempDir,
    /// The content of the file at the last commit.
    committed: Option<Vec<u8>>,
    open: Option<Open>,
}

struct Open {
    mode: &'static str,
    ours: StreamFile,
    theirs: File,
}

/// Applies operations to a stream and to a file as `bytes` direct.
///
/// # Panics
/// If they differ in a result, in their length, offset or content, or in the kind of an error.
pub fn stream_file(bytes: &[u8]) {
    let mut unstructured = Unstructured::new(bytes);
    let mut twins = Twins::new();
    for _ in 0..OPERATIONS {
        if unstructured.is_over() {
            break;
        }
        twins.operate(&mut unstructured);
        twins.check_place();
    }
    twins.check_content();
}

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([9; 32]))
}

impl Twins {
    fn new() -> Twins {
        let device = MemoryDevice::new();
        let create = CreateOptions::default();
        let archive = Archive::create_device(Box::new(device.clone()), &secret(), &create);
        Twins {
            device,
            archive: archive.expect("an archive in memory"),
            folder: tempfile::tempdir().expect("a directory for the file"),
            committed: None,
            open: None,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    fn operate(&mut self, unstructured: &mut Unstructured<'_>) {
        let operation = unstructured.byte() % 16;
        match (operation, &mut self.open) {
            (0, _) | (4..=15, None) => self.reopen_file(unstructured),
            (1, _) => self.commit(),
            (2, _) => self.roll_back(unstructured),
            (3, _) => self.delete(),
            (4 | 5, Some(open)) => open.read(unstructured),
            (6..=8, Some(open)) => open.write(unstructured),
            (9 | 10, Some(open)) => open.seek(unstructured),
            (11, Some(open)) => open.set_length(unstructured),
            (12, Some(open)) => open.read_at(unstructured),
            (13, Some(open)) => open.write_at(unstructured),
            (14, Some(open)) => open.flush(),
            (15, Some(_)) => self.close(),
            _ => unreachable!("a number below 16"),
        }
    }

    /// Closes the file if it is open, and opens it in some mode.
    fn reopen_file(&mut self, unstructured: &mut Unstructured<'_>) {
        self.close();
        let mode = MODES[unstructured.below(MODES.len())];
        let ours =
            Mode::parse(mode).and_then(|mode| StreamFile::open(&self.archive, IDENTITY, mode));
        let theirs = self.open_theirs(mode);
        match agreed(&format!("open {mode}"), ours.map_err(io::Error::from), theirs) {
            None => {}
            Some((ours, theirs)) => self.open = Some(Open { mode, ours, theirs }),
        }
    }

    /// Opens the file like Python's `open`: appending starts at the end.
    fn open_theirs(&self, mode: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let both = mode.ends_with('+');
        match mode.as_bytes()[0] {
            b'r' => options.read(true).write(both),
            b'w' => options.read(both).write(true).create(true).truncate(true),
            b'a' => options.read(both).append(true).create(true),
            _ => options.read(both).write(true).create_new(true),
        };
        let mut file = options.open(self.path())?;
        if mode.starts_with('a') {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(file)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.ours.close().expect("a stream that closes");
        }
    }

    fn content(&self) -> Option<Vec<u8>> {
        std::fs::read(self.path()).ok()
    }

    fn commit(&mut self) {
        self.archive.commit().expect("a commit in memory");
        self.committed = self.content();
    }

    /// Drops the uncommitted changes: by a rollback, by closing, or by ending the process.
    fn roll_back(&mut self, unstructured: &mut Unstructured<'_>) {
        self.close();
        match unstructured.below(3) {
            0 => self.archive.rollback().expect("a rollback"),
            1 => {
                self.archive.clone().close().expect("closed");
                self.reopen_archive();
            }
            _ => self.reopen_archive(),
        }
        let path = self.path();
        match &self.committed {
            Some(content) => std::fs::write(path, content).expect("a file"),
            None => drop(std::fs::remove_file(path)),
        }
        self.check_content();
    }

    fn reopen_archive(&mut self) {
        let options = store::OpenOptions { access: Access::Write, ..store::OpenOptions::default() };
        // The old handle cannot write to the device that the next one opens.
        self.device = self.device.snapshot().to_device();
        let opened = Archive::open_device(Box::new(self.device.clone()), &secret(), options);
        self.archive = opened.expect("the archive opens again");
    }

    fn delete(&mut self) {
        self.close();
        let ours = self.archive.delete_stream(IDENTITY).expect("a deletion");
        let theirs = std::fs::remove_file(self.path()).is_ok();
        assert_eq!(ours, theirs, "whether there was anything to delete");
    }

    /// Checks that length and offset are equal.
    fn check_place(&mut self) {
        let Some(Open { ours, theirs, .. }) = &mut self.open else { return };
        let length = theirs.metadata().expect("a file has a length").len();
        assert_eq!(ours.len().expect("a length"), length, "the length");
        let offset = theirs.stream_position().expect("a file has an offset");
        assert_eq!(ours.stream_position().expect("an offset"), offset, "the offset");
    }

    fn check_content(&mut self) {
        self.close();
        let found = match StreamFile::open(&self.archive, IDENTITY, Mode::READ) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).expect("a readable stream");
                Some(bytes)
            }
            Err(ar7_registry::Error::NoStream { .. }) => None,
            Err(other) => panic!("the stream does not open: {other}"),
        };
        assert!(found == self.content(), "the content differs");
    }
}

impl Open {
    fn readable(&self) -> bool {
        self.mode == "r" || self.mode.ends_with('+')
    }

    fn writable(&self) -> bool {
        self.mode != "r"
    }

    fn appends(&self) -> bool {
        self.mode.starts_with('a')
    }

    fn read(&mut self, unstructured: &mut Unstructured<'_>) {
        let length = any_length(unstructured);
        let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
        let outcomes = (self.ours.read(&mut ours), self.theirs.read(&mut theirs));
        agreed_equal("read", outcomes.0, outcomes.1);
        assert!(ours == theirs, "the bytes read differ");
    }

    fn read_at(&mut self, unstructured: &mut Unstructured<'_>) {
        let offset = any_offset(unstructured);
        let length = any_length(unstructured);
        let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
        let read = self.ours.read_at(offset, &mut ours).map_err(io::Error::from);
        if offset <= OFFSET_MAX {
            agreed_equal("read_at", read, self.theirs.read_at(&mut theirs, offset));
        } else if self.readable() {
            assert_eq!(read.expect("nothing to read"), 0, "the number of bytes read at {offset}");
        } else {
            fails_with(io::ErrorKind::PermissionDenied, "read_at", read);
        }
        assert!(ours == theirs, "the bytes read at {offset} differ");
    }

    fn write(&mut self, unstructured: &mut Unstructured<'_>) {
        let bytes = any_bytes(unstructured);
        let offset = self.theirs.stream_position().expect("a file has an offset");
        if self.is_tried(offset, &bytes, |ours| ours.write(&bytes).map(drop)) {
            agreed_equal("write", self.ours.write(&bytes), self.theirs.write(&bytes));
        }
    }

    fn write_at(&mut self, unstructured: &mut Unstructured<'_>) {
        let (offset, bytes) = (any_offset(unstructured), any_bytes(unstructured));
        let write = |ours: &mut StreamFile| ours.write_at(offset, &bytes).map_err(io::Error::from);
        if !self.is_tried(offset, &bytes, write) {
            return;
        }
        let ours = write(&mut self.ours).map(|()| bytes.len());
        if offset <= OFFSET_MAX || !self.writable() {
            // No offset makes a read-only file writable, but a file checks the offset first.
            let offset = offset.min(OFFSET_MAX);
            agreed_equal("write_at", ours, self.theirs.write_at(&bytes, offset));
        } else {
            // Only appended bytes get here, because their offset is ignored. The file gets an offset that is valid for
            // it.
            assert!(bytes.is_empty() || self.appends(), "an offset that no stream has");
            agreed_equal("write_at", ours, self.theirs.write_at(&bytes, 0));
        }
    }

    /// Returns whether both can write there. A stream rejects a write that is too far out, and changes nothing. Writes
    /// that would fill a long gap with zeros are not tried.
    fn is_tried(
        &mut self,
        offset: u64,
        bytes: &[u8],
        write: impl Fn(&mut StreamFile) -> io::Result<()>,
    ) -> bool {
        let offset = if self.appends() { 0 } else { offset };
        if bytes.is_empty() || !self.writable() || offset <= LENGTH_MAX {
            return true;
        }
        if offset >= TOO_LONG {
            fails_with(io::ErrorKind::FileTooLarge, "write", write(&mut self.ours));
        }
        false
    }

    fn set_length(&mut self, unstructured: &mut Unstructured<'_>) {
        let length = any_offset(unstructured);
        let set = |ours: &mut StreamFile| ours.set_len(length).map_err(io::Error::from);
        if !self.writable() {
            fails_with(io::ErrorKind::PermissionDenied, "set_len", set(&mut self.ours));
            let refused = self.theirs.set_len(length).expect_err("not open for writing");
            let is_listed = refused.kind() == io::ErrorKind::InvalidInput
                || refused.raw_os_error() == Some(EBADF);
            assert!(is_listed, "set_len: a file says {refused} ({:?})", refused.kind());
        } else if length >= TOO_LONG {
            fails_with(io::ErrorKind::FileTooLarge, "set_len", set(&mut self.ours));
        } else if length <= LENGTH_MAX {
            agreed_equal("set_len", set(&mut self.ours), self.theirs.set_len(length));
        }
    }

    fn seek(&mut self, unstructured: &mut Unstructured<'_>) {
        let offset = any_offset(unstructured);
        let length = self.theirs.metadata().expect("a file has a length").len();
        let current = self.theirs.stream_position().expect("a file has an offset");
        let (to, target) = match unstructured.below(3) {
            0 => (SeekFrom::Start(offset), i128::from(offset)),
            1 => (SeekFrom::End(offset.cast_signed()), from(length, offset.cast_signed())),
            _ => (SeekFrom::Current(offset.cast_signed()), from(current, offset.cast_signed())),
        };
        if (i128::from(FILE_MAX)..=i128::from(i64::MAX)).contains(&target) {
            let reached = self.ours.seek(to).expect("a stream accepts the offset");
            assert_eq!(i128::from(reached), target, "seek {to:?}");
            let back = self.ours.seek(SeekFrom::Start(current)).expect("and back");
            assert_eq!(back, current, "seek back from {target}");
            return;
        }
        agreed_equal(&format!("seek {to:?}"), self.ours.seek(to), self.theirs.seek(to));
    }

    fn flush(&mut self) {
        agreed_equal("flush", self.ours.flush(), self.theirs.flush());
    }
}

fn from(base: u64, change: i64) -> i128 {
    i128::from(base) + i128::from(change)
}

/// Faults are most likely at block boundaries.
fn any_length(unstructured: &mut Unstructured<'_>) -> usize {
    match unstructured.byte() % 5 {
        0 => 0,
        1 => unstructured.byte(),
        2 => 4000 + unstructured.byte() % 16,
        3 => 4008 * (unstructured.byte() % 5),
        _ => unstructured.word() % 12_000,
    }
}

fn any_bytes(unstructured: &mut Unstructured<'_>) -> Vec<u8> {
    let length = any_length(unstructured);
    vec![unstructured.octet() | 1; length]
}

fn any_offset(unstructured: &mut Unstructured<'_>) -> u64 {
    let small = u64::try_from(unstructured.word()).expect("two bytes");
    match unstructured.byte() % 10 {
        0 => 0,
        1 | 2 => small % 64,
        3 => 4008 * (small % 6) + small % 3,
        4 => (1 << 32) + small % 5000,
        5 => TOO_LONG + small,
        6 => u64::MAX - small % 300,
        7 => i64::MAX.cast_unsigned() - small % 2,
        8 => (1 << 63) + small,
        _ => small % 20_000,
    }
}

/// Checks that both succeeded, or that both failed for the same reason.
fn agreed<A, B>(what: &str, ours: io::Result<A>, theirs: io::Result<B>) -> Option<(A, B)> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Some((ours, theirs)),
        (Err(ours), Err(theirs)) => {
            assert!(
                ours.kind() == kind_of(&theirs),
                "{what}: a stream says {ours} ({:?}), a file {theirs} ({:?})",
                ours.kind(),
                theirs.kind()
            );
            None
        }
        (Ok(_), Err(theirs)) => panic!("{what}: a stream succeeds, a file says {theirs}"),
        (Err(ours), Ok(_)) => panic!("{what}: a file succeeds, a stream says {ours}"),
    }
}

/// Returns the error that a stream must return for this error of a file. It is the same, except for EBADF, which has no
/// kind.
fn kind_of(theirs: &io::Error) -> io::ErrorKind {
    match theirs.raw_os_error() {
        Some(EBADF) => io::ErrorKind::PermissionDenied,
        _ => theirs.kind(),
    }
}

/// Checks that a stream fails with this kind of error. The file of the system may behave differently.
fn fails_with<T>(kind: io::ErrorKind, what: &str, ours: io::Result<T>) {
    match ours {
        Ok(_) => panic!("{what}: a stream succeeds, expected {kind:?}"),
        Err(ours) => assert_eq!(ours.kind(), kind, "{what}: a stream says {ours}"),
    }
}

fn agreed_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    ours: io::Result<T>,
    theirs: io::Result<T>,
) {
    if let Some((ours, theirs)) = agreed(what, ours, theirs) {
        assert_eq!(ours, theirs, "{what}");
    }
}

/// Returns initial inputs: each mode, and content that is truncated and grows again.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..8)
        .map(|mode| vec![0, 5, 6, 4, 40, 80, 7, 1, 1, 200, 3, 0, mode, 6, 1, 30, 9, 4, 2, 1, 12])
        .collect();
    seeds.push(vec![0, 5, 6, 3, 2, 9, 11, 0, 100, 9, 11, 31, 64, 9, 1, 2, 0, 0, 0, 4, 3, 2]);
    // Operations that a mode does not allow: reading a file created with `w`; then writing and truncating one opened
    // with `r`.
    let refused = [4, 1, 9, 12, 0, 0, 0, 1, 9, 6, 1, 9, 7, 13, 0, 0, 0, 1, 9, 7, 11, 0, 9, 0];
    seeds.push([&[0, 1][..], &refused, &[0, 0], &refused].concat());
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_operations_match_a_file() {
        let mut random = Random::new(0x6669_6c65);
        let mut bytes_done = 0;
        for _ in 0..400 {
            let mut bytes = [0; 240];
            random.fill(&mut bytes);
            // Most operations need a writable file, so the first operation opens one.
            bytes[0] = 0;
            bytes[1] = [1, 2, 4, 5, 6][usize::from(bytes[1]) % 5];
            stream_file(&bytes);
            bytes_done += bytes.len();
        }
        for seed in seeds() {
            stream_file(&seed);
        }
        assert_eq!(bytes_done, 96_000);
    }

    #[test]
    #[should_panic(expected = "a stream succeeds")]
    fn a_difference_is_detected() {
        let refused = Err::<(), _>(io::ErrorKind::NotFound.into());
        agreed("open", Ok(()), refused);
    }

    #[test]
    #[should_panic(expected = "a stream says")]
    fn another_kind_of_error_is_detected() {
        agreed("write", Err::<(), _>(io::ErrorKind::Other.into()), bad_descriptor());
    }

    #[test]
    #[should_panic(expected = "a stream says")]
    fn another_kind_than_expected_is_detected() {
        let refused = Err::<(), _>(io::ErrorKind::Other.into());
        fails_with(io::ErrorKind::PermissionDenied, "set_len", refused);
    }

    #[test]
    fn an_error_without_a_kind_maps_to_permission_denied() {
        let refused = Err::<(), _>(io::ErrorKind::PermissionDenied.into());
        assert!(agreed("write", refused, bad_descriptor()).is_none());
        let denied = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(kind_of(&denied), io::ErrorKind::NotFound, "every other kind is unchanged");
    }

    /// Returns the error of a file for an operation that its mode does not allow.
    fn bad_descriptor() -> io::Result<()> {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("file");
        std::fs::write(&path, "x").expect("a file");
        let mut file = File::open(path).expect("for reading");
        file.write(b"y").map(drop)
    }
}
