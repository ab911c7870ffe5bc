//! `put`: standard input, of any length, becomes one entry.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use ar7_engine::format::Timestamp;
use ar7_registry::Stream;
use ar7_registry::records::{Attributes, EntryType, InodeNumber};
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::content::{CHUNK, bare_stream};
use crate::arguments::{Common, Put};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::names::{join, split_last};
use crate::progress::{Counts, Progress};
use crate::session::Session;

/// How long a pause of standard input lasts before Ctrl-C is looked for.
const PAUSE: Duration = Duration::from_millis(100);

/// Permissions of a new entry: standard input has none.
const MODE: u32 = 0o644;

/// Stores standard input.
pub(crate) fn run(common: &Common, options: &Put) -> Result<(), Failure> {
    let session = Session::write(common, &options.archive)?;
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let input = Input { chunks: read_input(), interrupt, progress };
    let stored = match (&options.stream, &options.name) {
        (Some(text), _) => put_stream(&session, options, text, &input),
        (None, Some(name)) => put_entry(&session, options, name, &input),
        (None, None) => Ok(()),
    };
    input.progress.finish();
    match stored {
        Ok(()) => session.finish(),
        Err(failure) => {
            // Nothing was committed since the beginning, so the archive is as it was.
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
    let directory = names.resolve(&parent).map_err(entry_error)?;
    if directory.kind != EntryType::Directory {
        let found = directory.kind.name();
        return Err(Failure::EntryType { path: parent, found, needed: "a directory" });
    }
    let directory = directory.inode;
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
    let (identity, size) = (stream.identity(), stream.len().map_err(session.named())?);
    stream.close().map_err(session.named())?;
    let attributes = attributes_now();
    match before {
        Some(before)
            if before.kind == EntryType::File
                && is_single(session, before.inode).map_err(entry_error)? =>
        {
            names
                .replace_content(before.inode, Some(identity), size, attributes)
                .map_err(entry_error)
        }
        // Another name of the same file keeps the old content.
        Some(_) => names
            .remove(directory, last)
            .and_then(|()| names.add_file(directory, last, attributes, Some(identity), size))
            .map(drop)
            .map_err(entry_error),
        None => names
            .add_file(directory, last, attributes, Some(identity), size)
            .map(drop)
            .map_err(entry_error),
    }
}

fn is_single(session: &Session, number: InodeNumber) -> ar7_registry::Result<bool> {
    Ok(session.archive.names().inode(number)?.is_some_and(|inode| inode.links == 1))
}

/// Attributes of an entry that no file was the source of.
pub(super) fn attributes_now() -> Attributes {
    Attributes {
        mode: MODE,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: Timestamp::now(),
    }
}

/// Standard input, read ahead by a thread of its own, so that a pipe that pauses does not keep Ctrl-C waiting.
struct Input {
    chunks: Receiver<io::Result<Vec<u8>>>,
    interrupt: Interrupt,
    progress: Progress,
}

impl Input {
    fn copy_to(&self, session: &Session, stream: &mut Stream) -> Result<(), Failure> {
        loop {
            if self.interrupt.is_set() {
                let done = "the archive is as it was".to_owned();
                return Err(Failure::Interrupted { archive: session.path.clone(), done });
            }
            match self.chunks.recv_timeout(PAUSE) {
                Ok(chunk) => {
                    let chunk = chunk.map_err(Failure::Input)?;
                    stream.append(&chunk).map_err(session.named())?;
                    self.progress.advance(chunk.len() as u64);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

fn read_input() -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = bounded(2);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut chunk = Vec::new();
            let read = input.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            let outcome = match read {
                Ok(0) => return,
                Ok(_) => Ok(chunk),
                Err(error) => Err(error),
            };
            let failed = outcome.is_err();
            if sender.send(outcome).is_err() || failed {
                return;
            }
        }
    });
    receiver
}
