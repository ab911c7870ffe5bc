//! Restores files and symbolic links in several threads that share a queue.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ar7_registry::Stream;
use ar7_registry::records::{EntryType, Inode};
use crossbeam::channel::Receiver;

use super::destination::{Directory, set_mode};
use crate::arguments::Extract;
use crate::commands::content::copy;
use crate::exit::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::session::Session;
use crate::walk::{Found, target_of};

/// The mode bits that run a program with the rights of its owner or group.
const SPECIAL_BITS: u32 = 0o6000;

/// A directory whose entries are being restored.
pub(super) struct Level {
    pub(super) directory: Directory,
    /// The attributes to set when the directory is complete; `None` for the destination, which belongs to the user.
    pub(super) own: Option<Own>,
    /// The path below the destination.
    pub(super) path: Vec<u8>,
    /// The number of entries in progress, including directories, plus one while the walk is in this directory.
    waiting: AtomicU64,
}

/// A directory's entry in its parent. The parent is completed later, because its final mode may deny access.
pub(super) struct Own {
    pub(super) parent: Arc<Level>,
    pub(super) found: Found,
}

impl Level {
    /// Creates the state of a directory that the walk enters.
    pub(super) fn new(directory: Directory, own: Option<Own>, path: Vec<u8>) -> Arc<Level> {
        Arc::new(Level { directory, own, path, waiting: AtomicU64::new(1) })
    }

    /// Counts one more entry in progress.
    pub(super) fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }
}

/// A file or symbolic link to restore.
pub(super) struct Job {
    pub(super) level: Arc<Level>,
    pub(super) found: Found,
}

/// The state that the threads of an extraction share.
pub(super) struct Files<'a> {
    pub(super) session: &'a Session,
    pub(super) options: &'a Extract,
    pub(super) progress: &'a Progress,
    pub(super) interrupt: &'a Interrupt,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Set by the first fatal failure.
    is_over: AtomicBool,
    failures: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    count: u64,
    code: Option<Code>,
    fatal: Option<Failure>,
}

impl<'a> Files<'a> {
    pub(super) fn new(
        session: &'a Session,
        options: &'a Extract,
        progress: &'a Progress,
        interrupt: &'a Interrupt,
    ) -> Files<'a> {
        Files {
            session,
            options,
            progress,
            interrupt,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    /// Returns the number of entries that failed, and the exit code.
    pub(super) fn failures(&self) -> (u64, Code) {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        (failures.count, failures.code.unwrap_or(Code::Other))
    }

    pub(super) fn summary(&self) -> String {
        let (entries, bytes) =
            (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        format!("{entries} entries, {bytes} bytes restored")
    }

    /// Counts and prints a failure. A fatal failure stops the extraction.
    pub(super) fn note(&self, outcome: Result<(), Failure>) {
        let Err(failure) = outcome else { return };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_fatal() {
            failures.fatal.get_or_insert(failure);
            self.is_over.store(true, Ordering::Relaxed);
            return;
        }
        self.progress.warn(&failure);
        failures.count += 1;
        failures.code = Some(worse(failures.code, failure.code()));
    }

    /// Returns an error if the extraction was stopped: the fatal failure, or the interruption.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.is_over.load(Ordering::Relaxed) {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(failure) = failures.fatal.take() {
                return Err(failure);
            }
        }
        if self.interrupt.is_set() { Err(self.interrupted()) } else { Ok(()) }
    }

    /// Restores entries from the queue until it is closed.
    pub(super) fn make_all(&self, jobs: &Receiver<Job>) {
        let mut buffer = Vec::new();
        for job in jobs {
            self.make(&job, &mut buffer);
        }
    }

    /// Restores one entry, unless the extraction was stopped.
    pub(super) fn make(&self, Job { level, found }: &Job, buffer: &mut Vec<u8>) {
        if !self.is_over.load(Ordering::Relaxed) {
            self.note(self.entry(level, found, buffer));
            self.done(level);
        }
    }

    /// Counts one entry of a directory as done, or the walk as having left it. After the last one, sets the directory's
    /// attributes and counts the directory as done in its parent.
    pub(super) fn done(&self, level: &Arc<Level>) {
        let mut level = level;
        while level.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.note(self.complete(level));
            match &level.own {
                Some(own) => level = &own.parent,
                None => return,
            }
        }
    }

    fn complete(&self, level: &Level) -> Result<(), Failure> {
        let Some(own) = &level.own else { return Ok(()) };
        let (name, inode) = (&own.found.name, &own.found.inode);
        let parent = &own.parent.directory;
        let set = || {
            if self.options.preserve_owner {
                parent.set_owner(name, inode.attributes.uid, inode.attributes.gid)?;
            }
            level.directory.set_mode(self.mode(inode))?;
            parent.set_time(name, inode.attributes.modified)
        };
        let path = || below(&self.options.to, &level.path);
        set().map_err(|error| Failure::file(path(), "set attributes", error))?;
        self.count_entry();
        Ok(())
    }

    /// Restores a file or symbolic link.
    pub(super) fn entry(
        &self,
        level: &Level,
        found: &Found,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        self.make_way(level, found)?;
        match found.inode.kind {
            EntryType::Symlink => self.symlink(level, found)?,
            EntryType::File => self.file(level, found, buffer)?,
            kind => {
                let (found_kind, needed) = (kind.name(), "a file, a directory or a symbolic link");
                let path = found.path.clone();
                return Err(Failure::EntryType { path, found: found_kind, needed });
            }
        }
        self.count_entry();
        Ok(())
    }

    /// Removes an existing entry if `--force` was given.
    pub(super) fn make_way(&self, level: &Level, found: &Found) -> Result<(), Failure> {
        if self.options.force {
            let removed = level.directory.remove_if_there(&found.name);
            removed.map_err(|error| self.failed(level, found, "replace", error))?;
        }
        Ok(())
    }

    pub(super) fn count_entry(&self) {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress.entries(entries);
    }

    fn symlink(&self, level: &Level, found: &Found) -> Result<(), Failure> {
        let target = target_of(&self.session.archive, found)?;
        let made = level.directory.make_symlink(&found.name, &target);
        made.map_err(|error| self.failed(level, found, "create", error))?;
        self.attributes(level, found)
    }

    fn file(&self, level: &Level, found: &Found, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let made = level.directory.make_file(&found.name);
        let mut file = made.map_err(|error| self.failed(level, found, "create", error))?;
        let written = self.write(level, found, &mut file, buffer).and_then(|()| {
            let mode = self.mode(&found.inode);
            self.attributes(level, found)?;
            set_mode(&file, mode).map_err(|error| self.failed(level, found, "set mode", error))
        });
        if let Err(failure) = written {
            // Do not leave a partial file that looks complete.
            let _ = level.directory.remove(&found.name);
            return Err(failure);
        }
        Ok(())
    }

    fn write(
        &self,
        level: &Level,
        found: &Found,
        file: &mut File,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let inode = &found.inode;
        let entry_error = |error| Failure::Entry { path: found.path.clone(), error };
        let stream = inode.stream.map(|stream| self.session.archive.read_stream(stream));
        let stream = stream.transpose().map_err(entry_error)?;
        let stream_bytes = stream.as_ref().map_or(Ok(0), Stream::len).map_err(entry_error)?;
        if stream_bytes != inode.size {
            let path = found.path.clone();
            return Err(Failure::EntryLength { path, inode_bytes: inode.size, stream_bytes });
        }
        let Some(stream) = stream else { return Ok(()) };
        copy(&stream, 0..inode.size, buffer, entry_error, |bytes| {
            if self.interrupt.is_set() {
                return Err(self.interrupted());
            }
            let written = file.write_all(bytes);
            written.map_err(|error| self.failed(level, found, "write", error))?;
            self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.progress.advance(bytes.len() as u64);
            Ok(())
        })
    }

    /// Sets the owner and mtime of a file or link. The owner comes first, because changing it clears mode bits.
    fn attributes(&self, level: &Level, found: &Found) -> Result<(), Failure> {
        let (directory, name) = (&level.directory, &found.name);
        let attributes = found.inode.attributes;
        let set = || {
            if self.options.preserve_owner {
                directory.set_owner(name, attributes.uid, attributes.gid)?;
            }
            directory.set_time(name, attributes.modified)
        };
        set().map_err(|error| self.failed(level, found, "set attributes", error))
    }

    fn mode(&self, inode: &Inode) -> u32 {
        let dropped = if self.options.preserve_special { 0 } else { SPECIAL_BITS };
        inode.attributes.mode & 0o7777 & !dropped
    }

    fn interrupted(&self) -> Failure {
        Failure::Interrupted { archive: self.session.path.clone(), done: self.summary() }
    }

    /// Returns a failure of an operation on the file system.
    pub(super) fn failed(
        &self,
        level: &Level,
        found: &Found,
        operation: &'static str,
        error: io::Error,
    ) -> Failure {
        let path = crate::names::join(&level.path, &found.name);
        Failure::file(below(&self.options.to, &path), operation, error)
    }
}

/// Returns the path of an entry in a directory.
pub(super) fn below(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(OsString::from_vec(name.to_vec()))
}

/// Returns the worse of two exit codes: damage outweighs everything else.
pub(super) fn worse(first: Option<Code>, second: Code) -> Code {
    match first {
        Some(Code::Damaged) => Code::Damaged,
        _ if second == Code::Damaged => Code::Damaged,
        Some(first) => first,
        None => second,
    }
}
