//! `put`: stores standard input, of any length, as one entry.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ar7_engine::format::Timestamp;
use ar7_registry::Stream;
use ar7_registry::records::{Attributes, EntryType, InodeNumber};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::content::{CHUNK, bare_stream};
use crate::arguments::{Common, Put};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::names::{join, split_last};
use crate::progress::{Counts, Progress};
use crate::read_ahead::read_ahead;
use crate::session::Session;
use crate::walk::find_directory;

/// How long to wait for standard input before checking for a signal.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The permissions of a new entry, because standard input has none.
const MODE: u32 = 0o644;

/// Stores standard input.
pub(crate) fn run(common: &Common, options: &Put) -> Result<(), Failure> {
    let session = Session::write(common, &options.archive)?;
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let input = Input { interrupt, progress };
    let stored = match (&options.stream, &options.name) {
        (Some(text), _) => put_stream(&session, options, text, &input),
        (None, Some(name)) => put_entry(&session, options, name, &input),
        (None, None) => Ok(()),
    };
    input.progress.finish();
    match stored {
        Ok(()) => session.finish(),
        Err(failure) => {
            // Nothing was committed, so the archive is unchanged.
            let _ = session.archive.close();
            Err(failure)
        }
    }
}

fn put_stream(session: &Session, options: &Put, text: &str, input: &Input) -> Result<(), Failure> {
    let mut stream = bare_stream(session, text)?;
    if !stream.is_empty().map_err(session.named())? {
        if !options.force {
            return Err(Failure::Exists { path: text.into() });
        }
        stream.set_len(0).map_err(session.named())?;
    }
    input.copy_to(session, &mut stream)?;
    stream.close().map_err(session.named())
}

fn put_entry(session: &Session, options: &Put, name: &OsStr, input: &Input) -> Result<(), Failure> {
    let (parent, last) = split_last(name)?;
    let path = join(&parent, last);
    let entry_error = |error| Failure::Entry { path: path.clone(), error };
    let names = session.archive.names();
    ar7_registry::records::validate_name(last).map_err(entry_error)?;
    let directory = find_directory(&names, &parent)?;
    let before = names.lookup(directory, last).map_err(entry_error)?;
    if let Some(before) = &before {
        if before.kind == EntryType::Directory {
            let found = before.kind.name();
            return Err(Failure::EntryType { path, found, needed: "a file" });
        }
        if !options.force {
            return Err(Failure::Exists { path: name.into() });
        }
    }
    let mut stream = session.archive.new_stream().map_err(session.named())?;
    input.copy_to(session, &mut stream)?;
    let identity = stream.identity();
    stream.close().map_err(session.named())?;
    let attributes = attributes_now();
    match before {
        Some(before)
            if before.kind == EntryType::File
                && is_single(session, before.inode).map_err(entry_error)? =>
        {
            names.replace_content(before.inode, Some(identity), attributes).map_err(entry_error)
        }
        // The other names of the file keep the old content.
        Some(_) => names
            .remove(directory, last)
            .and_then(|()| names.add_file(directory, last, attributes, Some(identity)))
            .map(drop)
            .map_err(entry_error),
        None => names
            .add_file(directory, last, attributes, Some(identity))
            .map(drop)
            .map_err(entry_error),
    }
}

fn is_single(session: &Session, number: InodeNumber) -> ar7_registry::Result<bool> {
    Ok(session.archive.names().inode(number)?.is_some_and(|inode| inode.links == 1))
}

/// Returns the attributes of an entry that has no source file.
pub(super) fn attributes_now() -> Attributes {
    Attributes {
        mode: MODE,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: Timestamp::now(),
    }
}

/// Standard input.
struct Input {
    interrupt: Interrupt,
    progress: Progress,
}

impl Input {
    fn copy_to(&self, session: &Session, stream: &mut Stream) -> Result<(), Failure> {
        let read = |buffer: &mut Vec<u8>| {
            let is_open = read_chunk(buffer, &self.interrupt).map_err(Failure::Input);
            if self.interrupt.is_set() {
                let done = "the archive is unchanged".to_owned();
                return Err(Failure::Interrupted { archive: session.path.clone(), done });
            }
            is_open
        };
        read_ahead(read, |chunk| {
            let chunk = chunk?;
            stream.append(chunk).map_err(session.named())?;
            self.progress.advance(chunk.len() as u64);
            Ok(())
        })
    }
}

/// Reads standard input until the buffer is full, the input ends or pauses, or a signal arrives. Returns `None` at the
/// end.
fn read_chunk(buffer: &mut Vec<u8>, interrupt: &Interrupt) -> io::Result<Option<usize>> {
    buffer.resize(CHUNK, 0);
    let input = io::stdin();
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        if interrupt.is_set() || !is_ready(input.as_fd())? {
            break;
        }
        match rustix::io::read(&input, free) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(filled))
}

/// Waits until the input has bytes or ends, at most for [`PAUSE`].
fn is_ready(input: BorrowedFd<'_>) -> io::Result<bool> {
    match poll(&mut [PollFd::from_borrowed_fd(input, PollFlags::IN)], Some(&PAUSE)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
