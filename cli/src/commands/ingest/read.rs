//! The readers: they open, look again, and read what is small enough to be held.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ar7_registry::records::EntryType;
use crossbeam::channel::{Receiver, Sender};
use rustix::fs::OFlags;

use super::WHOLE_MAX;
use super::status::{Kind, Status};
use crate::exit::Failure;

/// An entry to be read.
pub(super) struct Job {
    pub(super) path: PathBuf,
    /// As the walk saw it.
    pub(super) status: Status,
    /// Whether it is only looked at.
    pub(super) is_dry: bool,
    pub(super) answer: Sender<ReadOutcome>,
}

/// What came of a job.
pub(super) type ReadOutcome = Result<(Status, Content), Failure>;

/// What an entry holds.
pub(super) enum Content {
    /// A whole file.
    Whole(Vec<u8>),
    /// A file that is read while it is stored.
    Large(File),
    /// The target of a symbolic link.
    Target(Vec<u8>),
    /// Not read in a dry run.
    Unopened,
}

/// Takes jobs until there are no more.
pub(super) fn read_all(jobs: &Receiver<Job>) {
    for job in jobs {
        let outcome = read(&job);
        // Nobody waits for the answer if the writer has ended.
        let _ = job.answer.send(outcome);
    }
}

fn read(job: &Job) -> ReadOutcome {
    if job.is_dry {
        return Ok((job.status, Content::Unopened));
    }
    let failed = |error| Failure::file(&job.path, "read", error);
    if job.status.kind == Kind::Stored(EntryType::Symlink) {
        let target = std::fs::read_link(&job.path).map_err(failed)?;
        return Ok((job.status, Content::Target(target.into_os_string().into_vec())));
    }
    let mut file = open(&job.path).map_err(failed)?;
    let status = status_of(&file).map_err(failed)?;
    if status.kind != job.status.kind {
        return Err(failed(changed()));
    }
    if status.size > WHOLE_MAX {
        return Ok((status, Content::Large(file)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(status.size).unwrap_or_default());
    (&mut file).take(status.size).read_to_end(&mut bytes).map_err(failed)?;
    check_unchanged(&file, &status, bytes.len() as u64).map_err(failed)?;
    Ok((status, Content::Whole(bytes)))
}

/// Opens a file, and neither what a link planted meanwhile points to, nor a fifo to wait for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn status_of(file: &File) -> io::Result<Status> {
    Ok(Status::new(&file.metadata()?))
}

/// A file that was written to while it was read may be neither its old nor its new version.
pub(super) fn check_unchanged(file: &File, status: &Status, read_bytes: u64) -> io::Result<()> {
    if read_bytes == status.size && status_of(file)?.is_same_version(status) {
        Ok(())
    } else {
        Err(changed())
    }
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read")
}
