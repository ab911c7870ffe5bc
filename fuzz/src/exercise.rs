//! All operations on an archive that may be hostile: list, read, verify, extract, write, commit and reopen.

use std::collections::HashSet;
use std::fs;

use ar7::Snapshot;
use ar7::fs::{Compare, Extract, Overwrite};
use ar7_engine::Error as EngineError;
use ar7_engine::format::{BLOCK_SIZE, Position, Timestamp, UncheckedHeader};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::names::Entry;
use ar7_registry::records::{Attributes, EntryType, InodeNumber};
use ar7_registry::{Archive, Error, FileContent, Result, Stream};
use uuid::Uuid;

use crate::golden::secret;
use crate::meter::MeteredDevice;

/// The number of blocks that all operations together may read and write: many times what an honest archive of this size
/// needs.
const BUDGET: u64 = 60_000;

/// Maximum number of streams, and of entries, to examine.
const MANY: usize = 300;

/// What the operations found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Exercised {
    /// The archive opened for reading.
    pub(crate) is_read: bool,
    /// A commit succeeded, and the archive reopened afterwards.
    pub(crate) is_written: bool,
    /// The number of blocks read and written.
    pub(crate) blocks: u64,
}

/// Which of the expensive operations to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exercises {
    /// Extract into a directory.
    pub(crate) extracts: bool,
    /// Also open for writing.
    pub(crate) writes: bool,
}

/// Runs all operations on an archive of these bytes.
///
/// # Panics
/// If an operation panics, exceeds the budget, returns an error that no file can cause, writes outside of the directory
/// on extraction, or overwrites the header.
pub(crate) fn exercise(bytes: &[u8], exercises: Exercises) -> Exercised {
    let device = MeteredDevice::new(bytes, BUDGET);
    let mut found = Exercised::default();
    if let Some(archive) = judge(open(&device, Access::Read)) {
        found.is_read = true;
        read_everything(&archive);
        if exercises.extracts {
            check_extraction(&archive);
        }
    }
    if exercises.writes {
        found.is_written = write(&device);
    }
    found.blocks = device.spent();
    found
}

fn open(device: &MeteredDevice, access: Access) -> Result<Archive> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options)
}

/// Returns the result of a call, or `None` if it failed with an error that a hostile file can cause.
pub(crate) fn judge<T>(outcome: Result<T>) -> Option<T> {
    use EngineError::{
        Damaged, Full, NewerFormat, NoSpace, NotAnArchive, OutOfBounds, RekeyInProgress, Tampered,
        Truncated, WrongKey,
    };
    match outcome {
        Ok(value) => Some(value),
        Err(Error::Engine(
            Damaged(_)
            | Tampered(_)
            | Truncated { .. }
            | NewerFormat { .. }
            | NotAnArchive { .. }
            | WrongKey { .. }
            | Full { .. }
            | NoSpace { .. }
            | OutOfBounds { .. }
            | RekeyInProgress,
        )) => None,
        Err(error @ (Error::Engine(_) | Error::Panicked | Error::Closed | Error::Stale)) => {
            panic!("a hostile archive is reported as: {error}")
        }
        Err(_) => None,
    }
}

fn read_everything(archive: &Archive) {
    judge(archive.statistics());
    judge(archive.metadata());
    for block in 0..8 {
        judge(archive.reserved_block(block));
    }
    for index in 0..8 {
        if let Some(mut stream) = judge(archive.reserved_stream(index)) {
            read_stream(&mut stream);
        }
    }
    for stored in judge(archive.streams(None, MANY)).unwrap_or_default() {
        if let Some(mut stream) = judge(archive.read_stream(stored.record.identity)) {
            read_stream(&mut stream);
        }
    }
    read_names(archive);
    judge(archive.receipt().and_then(|receipt| archive.check_receipt(&receipt)));
    let mut findings = 0_u64;
    judge(archive.verify(&mut |_| findings += 1, &mut |_| {}));
}

/// Reads the start, the end and some blocks, because a record may claim eight tebibytes.
fn read_stream(stream: &mut Stream) {
    let mut bytes = vec![0; 20_000];
    judge(stream.read_at(0, &mut bytes));
    if let Some(length) = judge(stream.len()) {
        judge(stream.read_at(length.saturating_sub(5000), &mut bytes));
        judge(stream.read_at(length / 2, &mut bytes[..100]));
    }
    judge(stream.end());
    judge(stream.block());
    judge(stream.previous_block());
    judge(stream.data().map(|data| data.is_some()));
    if let Some(blocks) = judge(stream.blocks()) {
        blocks.take(8).for_each(|block| drop(judge(block)));
    }
}

fn read_content(content: &FileContent) {
    let mut bytes = vec![0; 20_000];
    judge(content.read_at(0, &mut bytes));
    judge(content.read_at(content.len().saturating_sub(5000), &mut bytes));
    judge(content.read_at(content.len() / 2, &mut bytes[..100]));
}

fn read_names(archive: &Archive) {
    let mut waiting = vec![InodeNumber::ROOT];
    let mut seen = HashSet::from([InodeNumber::ROOT]);
    let mut count = 0;
    while let Some(directory) = waiting.pop() {
        let names = archive.names();
        for Entry { inode: number, kind, .. } in
            judge(names.list(directory, None, MANY)).unwrap_or_default()
        {
            count += 1;
            if count > MANY {
                return;
            }
            let Some(inode) = judge(names.inode(number)).flatten() else { continue };
            if kind == EntryType::Directory && seen.insert(number) {
                waiting.push(number);
            }
            if let Some(content) = judge(archive.snapshot().read_file(&inode)).flatten() {
                read_content(&content);
            }
            judge(names.read_target(&inode));
        }
    }
}

/// Extracts next to a victim, which must stay unchanged.
fn check_extraction(archive: &Archive) {
    let folder = tempfile::tempdir().expect("a directory to extract into");
    let victim = folder.path().join("victim");
    fs::write(&victim, "unharmed").expect("a victim");
    let inside = folder.path().join("inside");
    let snapshot = Snapshot::of(archive);
    for overwrite in [Overwrite::Refuse, Overwrite::Always] {
        let extract = Extract::new().to(&inside).overwrite(overwrite).preserve_special(true);
        match extract.run(&snapshot) {
            Ok(report) => {
                report.not_restored.iter().for_each(|failed| check_of_the_file(&failed.error));
            }
            Err(error) => check_of_the_file(&error),
        }
        // Any difference is possible, because what was refused is not there.
        if let Err(error) = Compare::new(&inside).run(&snapshot) {
            check_of_the_file(&error);
        }
    }
    assert_eq!(
        fs::read(&victim).expect("the victim exists"),
        b"unharmed",
        "the victim is unchanged"
    );
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert!(names == ["inside", "victim"] || names == ["victim"], "outside: {names:?}");
}

/// Checks that an error of an extraction comes from the file or from the file system.
fn check_of_the_file(error: &ar7::Error) {
    use ar7::Error::{
        AlreadyExists, Damaged, InvalidName, Io, MissingInode, NewerFormat, NoStream, NotFound,
        Tampered, Truncated, WrongType,
    };
    if let ar7::Error::AttributesLost { cause } = error {
        return check_of_the_file(cause);
    }
    assert!(
        matches!(
            error,
            AlreadyExists { .. }
                | Damaged(_)
                | InvalidName { .. }
                | Io { .. }
                | MissingInode { .. }
                | NewerFormat { .. }
                | NoStream { .. }
                | NotFound { .. }
                | Tampered(_)
                | Truncated { .. }
                | WrongType { .. }
        ),
        "{error:?}"
    );
}

/// Changes the archive and commits. Returns whether that succeeded and the archive reopens.
fn write(device: &MeteredDevice) -> bool {
    let Some(archive) = judge(open(device, Access::Write)) else { return false };
    check_headers(device);
    let mut committed = judge(archive.set_metadata(b"exercise").and_then(|()| archive.commit()));
    for change in [change_streams, change_names, make_streams] {
        // Like a caller, roll back a failed change.
        if judge(change(&archive)).is_none() {
            judge(archive.rollback());
        }
        committed = judge(archive.commit()).or(committed);
    }
    judge(archive.reclaim());
    let closed = judge(archive.close());
    check_headers(device);
    // Free runs that include blocks in use let a writer destroy the archive, but cause nothing worse.
    let reopened = judge(open(device, Access::Read));
    closed.is_some() && committed.is_some() && reopened.is_some()
}

/// Checks that the header's positions hold only headers after a writer opened the archive.
fn check_headers(device: &MeteredDevice) {
    let bytes = device.to_bytes();
    let (blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
    for position in [0, 7] {
        let at = usize::try_from(position).expect("a small position");
        let parsed = UncheckedHeader::parse(Position::at(position), &blocks[at]);
        assert!(parsed.is_ok(), "the header at {position}: {:?}", parsed.err());
    }
}

fn make_streams(archive: &Archive) -> Result<()> {
    let mut stream = archive.new_stream()?;
    stream.append(&[7; 9000])?;
    stream.close()
}

fn change_streams(archive: &Archive) -> Result<()> {
    let identities: Vec<Uuid> =
        archive.streams(None, 6)?.into_iter().map(|stored| stored.record.identity).collect();
    for (number, identity) in identities.into_iter().enumerate() {
        if number % 3 == 2 {
            match archive.delete_stream(identity) {
                Ok(_) | Err(Error::StreamIsNamed { .. }) => continue,
                Err(error) => return Err(error),
            }
        }
        let mut stream = match archive.open_stream(identity) {
            // The target of a symbolic link cannot be opened as a stream.
            Err(Error::StreamIsNamed { .. }) => continue,
            opened => opened?,
        };
        stream.write_at(100, &[8; 100])?;
        if stream.len()? < 1 << 20 {
            stream.append(&[9; 5000])?;
        }
        if number % 3 == 1 {
            stream.truncate(4100)?;
        }
        stream.close()?;
    }
    Ok(())
}

fn change_names(archive: &Archive) -> Result<()> {
    let modified = Timestamp { seconds: 1, nanoseconds: 2 };
    let attributes = Attributes { mode: 0o600, uid: 0, gid: 0, modified, origin: None };
    let names = archive.names();
    let root = InodeNumber::ROOT;
    let made = names.make_directory(root, b"exercise", attributes)?;
    names.add_file(made, b"empty", attributes, None)?;
    for (number, entry) in names.list(root, None, 6)?.into_iter().enumerate() {
        match (number % 3, entry.kind) {
            (0, EntryType::Directory) => {
                names.remove_tree(root, &entry.name, None, &mut |gone| gone < 200)?;
            }
            (0, _) => names.remove(root, &entry.name)?,
            (1, EntryType::Directory) => {
                names.rename((root, &entry.name), (made, b"moved"), true)?;
            }
            _ => {
                names.add_link(made, b"link", entry.inode).or_else(|error| match error {
                    Error::WrongEntryType { .. } | Error::EntryExists { .. } => Ok(()),
                    other => Err(other),
                })?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::goldens;

    #[test]
    fn honest_archives_need_a_fraction_of_the_budget() {
        for golden in goldens() {
            let found = exercise(golden.bytes, Exercises { extracts: true, writes: true });
            assert!(found.is_read && found.is_written, "{found:?}");
            assert!(found.blocks < BUDGET / 10, "{found:?}");
        }
    }
}
