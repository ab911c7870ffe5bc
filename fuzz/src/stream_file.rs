//! A stream as a file against a file: the same operations, the same results, and the same kinds of error.
//!
//! Where the two may differ is listed, and what a stream must say there is looked at too:
//! - What a file was not opened for: it says EBADF, for which there is no kind; a stream says `PermissionDenied`.
//! - Setting the length of a file that was opened for reading: EINVAL on Linux, which POSIX allows beside EBADF; a
//!   stream says `PermissionDenied` as it does of writing.
//! - Offsets that are none of a file, as their sum with a length is beyond 2^63 - 1: a file says EINVAL. A stream has no
//!   signed offsets: it reads nothing there, writes nothing there, and is too long (`FileTooLarge`) if bytes are written.
//! - Lengths from 2^31 blocks on: which a file can have depends on the file system; a stream says `FileTooLarge`.
//! - Seeking to where it depends on the file system whether a file has such an offset: a stream goes up to 2^63 - 1.
//!
//! Lengths between those that are written here and those that no stream has are not tried: a stream has no holes and
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

/// Length in bytes beyond which nothing is written to either: a stream has no holes.
const LENGTH_MAX: u64 = 100_000;

/// A length that no stream can have, as the file would have no room for its blocks.
const TOO_LONG: u64 = BLOCKS_MAX as u64 * DATA_SIZE_U64;

/// Offset beyond which Linux reads nothing from a file, not even nothing, and says EINVAL.
const OFFSET_MAX: u64 = i64::MAX.cast_unsigned() - LENGTH_MAX;

/// Offset from which on it depends on the file system whether a file has it.
const FILE_MAX: u64 = TOO_LONG + (1 << 20);

/// The number of EBADF, which is the same on every POSIX system that counts.
const EBADF: i32 = 9;

/// Operations at most.
const OPERATIONS: usize = 60;

/// A stream and a file that are to be the same.
struct Twins {
    device: MemoryDevice,
    archive: Archive,
    folder: TempDir,
    /// What the file held at the last commit.
    committed: Option<Vec<u8>>,
    open: Option<Open>,
}

struct Open {
    mode: &'static str,
    ours: StreamFile,
    theirs: File,
}

/// Does to a stream and to a file what `bytes` say.
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
            folder: tempfile::tempdir().expect("a folder for the file"),
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

    /// As Python's `open` does: appending begins at the end.
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

    /// Drops what was not committed: by a rollback, by closing, or by the end of the process.
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
        // The handle that is left cannot write to what the next one opens.
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

    /// Length and offset are the same.
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
                file.read_to_end(&mut bytes).expect("a stream that can be read");
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
        assert!(ours == theirs, "what was read differs");
    }

    fn read_at(&mut self, unstructured: &mut Unstructured<'_>) {
        let offset = any_offset(unstructured);
        let length = any_length(unstructured);
        let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
        let read = self.ours.read_at(offset, &mut ours).map_err(io::Error::from);
        if offset <= OFFSET_MAX {
            agreed_equal("read_at", read, self.theirs.read_at(&mut theirs, offset));
        } else if self.readable() {
            assert_eq!(read.expect("nothing to read"), 0, "what was read at {offset}");
        } else {
            refused_as(io::ErrorKind::PermissionDenied, "read_at", read);
        }
        assert!(ours == theirs, "what was read at {offset} differs");
    }

    fn write(&mut self, unstructured: &mut Unstructured<'_>) {
        let bytes = any_bytes(unstructured);
        let offset = self.theirs.stream_position().expect("a file has an offset");
        if self.goes(offset, &bytes, |ours| ours.write(&bytes).map(drop)) {
            agreed_equal("write", self.ours.write(&bytes), self.theirs.write(&bytes));
        }
    }

    fn write_at(&mut self, unstructured: &mut Unstructured<'_>) {
        let (offset, bytes) = (any_offset(unstructured), any_bytes(unstructured));
        let write = |ours: &mut StreamFile| ours.write_at(offset, &bytes).map_err(io::Error::from);
        if !self.goes(offset, &bytes, write) {
            return;
        }
        let ours = write(&mut self.ours).map(|()| bytes.len());
        if offset <= OFFSET_MAX || !self.writable() {
            // No offset makes a file writable that is not, but a file looks at the offset first.
            let offset = offset.min(OFFSET_MAX);
            agreed_equal("write_at", ours, self.theirs.write_at(&bytes, offset));
        } else {
            // Bytes are left only if they are appended, wherever that is; the file is asked with an offset that it has.
            assert!(bytes.is_empty() || self.appends(), "an offset that no stream has");
            agreed_equal("write_at", ours, self.theirs.write_at(&bytes, 0));
        }
    }

    /// Whether both can write there. A stream refuses what is too long for it, and changes nothing; what it would have
    /// to fill with many zeros is not tried.
    fn goes(
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
            refused_as(io::ErrorKind::FileTooLarge, "write", write(&mut self.ours));
        }
        false
    }

    fn set_length(&mut self, unstructured: &mut Unstructured<'_>) {
        let length = any_offset(unstructured);
        let set = |ours: &mut StreamFile| ours.set_len(length).map_err(io::Error::from);
        if !self.writable() {
            refused_as(io::ErrorKind::PermissionDenied, "set_len", set(&mut self.ours));
            let refused = self.theirs.set_len(length).expect_err("not open for writing");
            let is_listed = refused.kind() == io::ErrorKind::InvalidInput
                || refused.raw_os_error() == Some(EBADF);
            assert!(is_listed, "set_len: a file says {refused} ({:?})", refused.kind());
        } else if length >= TOO_LONG {
            refused_as(io::ErrorKind::FileTooLarge, "set_len", set(&mut self.ours));
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
            let reached = self.ours.seek(to).expect("a stream goes there");
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

/// Borders of blocks are where faults are.
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

/// Both did it, or neither, and then for the same reason.
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
        (Ok(_), Err(theirs)) => panic!("{what}: a stream does it, a file says {theirs}"),
        (Err(ours), Ok(_)) => panic!("{what}: a file does it, a stream says {ours}"),
    }
}

/// What a stream must say where a file says this: the same, but for the number that has no kind.
fn kind_of(theirs: &io::Error) -> io::ErrorKind {
    match theirs.raw_os_error() {
        Some(EBADF) => io::ErrorKind::PermissionDenied,
        _ => theirs.kind(),
    }
}

/// A stream refuses this, whatever a file does, and says why.
fn refused_as<T>(kind: io::ErrorKind, what: &str, ours: io::Result<T>) {
    match ours {
        Ok(_) => panic!("{what}: a stream does what it must refuse as {kind:?}"),
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

/// Inputs to begin with: each mode, and what is cut and grows again.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..8)
        .map(|mode| vec![0, 5, 6, 4, 40, 80, 7, 1, 1, 200, 3, 0, mode, 6, 1, 30, 9, 4, 2, 1, 12])
        .collect();
    seeds.push(vec![0, 5, 6, 3, 2, 9, 11, 0, 100, 9, 11, 31, 64, 9, 1, 2, 0, 0, 0, 4, 3, 2]);
    // What each mode does not allow: made with `w` and not read; then read with `r`, not written and not cut.
    let refused = [4, 1, 9, 12, 0, 0, 0, 1, 9, 6, 1, 9, 7, 13, 0, 0, 0, 1, 9, 7, 11, 0, 9, 0];
    seeds.push([&[0, 1][..], &refused, &[0, 0], &refused].concat());
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_operations_do_the_same_to_both() {
        let mut random = Random::new(0x6669_6c65);
        let mut bytes_done = 0;
        for _ in 0..400 {
            let mut bytes = [0; 240];
            random.fill(&mut bytes);
            // Most operations are of a file that can be written: the first opens one.
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
    #[should_panic(expected = "a stream does it")]
    fn a_difference_is_noticed() {
        let refused = Err::<(), _>(io::ErrorKind::NotFound.into());
        agreed("open", Ok(()), refused);
    }

    #[test]
    #[should_panic(expected = "a stream says")]
    fn another_kind_of_error_is_noticed() {
        agreed("write", Err::<(), _>(io::ErrorKind::Other.into()), bad_descriptor());
    }

    #[test]
    #[should_panic(expected = "a stream says")]
    fn a_refusal_of_another_kind_is_noticed() {
        let refused = Err::<(), _>(io::ErrorKind::Other.into());
        refused_as(io::ErrorKind::PermissionDenied, "set_len", refused);
    }

    #[test]
    fn what_has_no_kind_is_a_lack_of_permission() {
        let refused = Err::<(), _>(io::ErrorKind::PermissionDenied.into());
        assert!(agreed("write", refused, bad_descriptor()).is_none());
        let denied = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(kind_of(&denied), io::ErrorKind::NotFound, "every other kind is the same");
    }

    /// What a file says of what it was not opened for.
    fn bad_descriptor() -> io::Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "x").expect("a file");
        let mut file = File::open(path).expect("for reading");
        file.write(b"y").map(drop)
    }
}
