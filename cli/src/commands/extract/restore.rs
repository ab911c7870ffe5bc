//! Restoring entries: contents first, attributes when nothing changes them any more, directories last.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};

use ar7_registry::records::{EntryType, Inode, InodeNumber};

use super::destination::{Directory, FileId, set_mode};
use super::{below, worse};
use crate::arguments::Extract;
use crate::commands::content::CHUNK;
use crate::exit::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::names::parts;
use crate::progress::Progress;
use crate::session::Session;
use crate::walk::{Found, Step, Walk, target_of};

/// Bits that give a program its owner's rights.
const SPECIAL_BITS: u32 = 0o6000;

/// An extraction under way.
pub(super) struct Restoring<'a> {
    session: &'a Session,
    options: &'a Extract,
    progress: &'a Progress,
    interrupt: &'a Interrupt,
    destination: Directory,
    /// Files of several names that were restored: the path below the destination, and what it must be.
    linked: HashMap<InodeNumber, Linked>,
    buffer: Vec<u8>,
    entries: u64,
    bytes: u64,
    failed: u64,
    code: Option<Code>,
}

/// The first name of a file of several names.
struct Linked {
    path: Vec<u8>,
    id: FileId,
    /// Names that are still to come.
    left: u32,
}

/// A directory that is being filled.
struct Level {
    directory: Directory,
    /// How the directory is to be once it is full; none for the destination, which is the user's.
    own: Option<Own>,
    /// Path below the destination.
    path: Vec<u8>,
}

struct Own {
    parent: Directory,
    found: Found,
}

impl<'a> Restoring<'a> {
    pub(super) fn new(
        session: &'a Session,
        options: &'a Extract,
        progress: &'a Progress,
        interrupt: &'a Interrupt,
        destination: Directory,
    ) -> Restoring<'a> {
        Restoring {
            session,
            options,
            progress,
            interrupt,
            destination,
            linked: HashMap::new(),
            buffer: Vec::new(),
            entries: 0,
            bytes: 0,
            failed: 0,
            code: None,
        }
    }

    /// How many entries failed, and the exit code for it.
    pub(super) fn failures(&self) -> (u64, Code) {
        (self.failed, self.code.unwrap_or(Code::Other))
    }

    pub(super) fn summary(&self) -> String {
        format!("{} entries, {} bytes restored", self.entries, self.bytes)
    }

    /// Restores an entry, and what is below it.
    pub(super) fn all(&mut self, found: Found) -> Result<(), Failure> {
        let root = Level { directory: self.destination.clone(), own: None, path: Vec::new() };
        if found.inode.kind != EntryType::Directory {
            let outcome = self.entry(&root, &found);
            return self.note(outcome);
        }
        let mut walk = Walk::new(&self.session.archive, found.number, found.path.clone());
        match self.directory(&root, found) {
            Ok(level) => self.below(&mut walk, level),
            failed => self.note(failed.map(drop)),
        }
    }

    /// Restores what is in a directory, into the destination itself.
    pub(super) fn content(&mut self, found: &Found) -> Result<(), Failure> {
        let root = Level { directory: self.destination.clone(), own: None, path: Vec::new() };
        let mut walk = Walk::new(&self.session.archive, found.number, found.path.clone());
        self.below(&mut walk, root)
    }

    /// Follows the walk, with one open directory for each of its levels.
    fn below(&mut self, walk: &mut Walk<'_>, first: Level) -> Result<(), Failure> {
        let mut levels = vec![first];
        while let Some(step) = walk.next() {
            if self.interrupt.is_set() {
                let done = self.summary();
                let archive = self.session.path.clone();
                return Err(Failure::Interrupted { archive, done });
            }
            let outcome = match (step, levels.last()) {
                (Ok(Step::Left), _) => levels.pop().map_or(Ok(()), |level| self.complete(&level)),
                (Ok(Step::Entry(found)), Some(level)) => {
                    if found.inode.kind == EntryType::Directory {
                        self.enter(walk, level, found).map(|level| levels.push(level))
                    } else {
                        self.entry(level, &found)
                    }
                }
                (Ok(Step::Entry(_)), None) => Ok(()),
                (Err(failure), _) => Err(failure),
            };
            self.note(outcome)?;
            self.progress.entries(self.entries);
        }
        Ok(())
    }

    fn enter(
        &mut self,
        walk: &mut Walk<'_>,
        level: &Level,
        found: Found,
    ) -> Result<Level, Failure> {
        walk.enter(&found)?;
        self.directory(level, found).inspect_err(|_| walk.leave())
    }

    /// Counts and tells what failed; only what makes going on useless ends the extraction.
    fn note(&mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_fatal() => Err(failure),
            Err(failure) => {
                self.progress.warn(&failure);
                self.failed += 1;
                self.code = Some(worse(self.code, failure.code()));
                Ok(())
            }
        }
    }

    fn directory(&mut self, level: &Level, found: Found) -> Result<Level, Failure> {
        let made = level.directory.make_directory(&found.name, self.options.force);
        let directory = made.map_err(|error| self.failed(level, &found, "create", error))?;
        let path = crate::names::join(&level.path, &found.name);
        let parent = level.directory.clone();
        Ok(Level { directory, own: Some(Own { parent, found }), path })
    }

    /// A directory is full: what filling it changed is set last.
    fn complete(&mut self, level: &Level) -> Result<(), Failure> {
        let Some(own) = &level.own else { return Ok(()) };
        let (name, inode) = (&own.found.name, &own.found.inode);
        let set = || {
            if self.options.preserve_owner {
                own.parent.set_owner(name, inode.attributes.uid, inode.attributes.gid)?;
            }
            level.directory.set_mode(self.mode(inode))?;
            own.parent.set_time(name, inode.attributes.modified)
        };
        let path = || below(&self.options.to, &level.path);
        set().map_err(|error| Failure::file(path(), "set attributes", error))?;
        self.entries += 1;
        Ok(())
    }

    /// Restores a file or a symbolic link.
    fn entry(&mut self, level: &Level, found: &Found) -> Result<(), Failure> {
        if self.options.force {
            let removed = level.directory.remove_if_there(&found.name);
            removed.map_err(|error| self.failed(level, found, "replace", error))?;
        }
        match found.inode.kind {
            EntryType::Symlink => self.symlink(level, found)?,
            _ if self.linked.contains_key(&found.number) => self.link(level, found)?,
            _ => self.file(level, found)?,
        }
        self.entries += 1;
        Ok(())
    }

    fn symlink(&mut self, level: &Level, found: &Found) -> Result<(), Failure> {
        let target = target_of(&self.session.archive, found)?;
        let made = level.directory.make_symlink(&found.name, &target);
        made.map_err(|error| self.failed(level, found, "create", error))?;
        self.attributes(level, found)
    }

    fn link(&mut self, level: &Level, found: &Found) -> Result<(), Failure> {
        let failed = |error| self.failed(level, found, "link", error);
        let Some(linked) = self.linked.get(&found.number) else { return Ok(()) };
        let (directory, name) = self.walk_to(&linked.path).map_err(failed)?;
        // Somebody else may have changed the directory meanwhile.
        if directory.id(name).map_err(failed)? != linked.id {
            return Err(failed(io::Error::other("the file's first name was replaced")));
        }
        level.directory.make_link(&found.name, &directory, name).map_err(failed)?;
        if let Some(linked) = self.linked.get_mut(&found.number) {
            linked.left = linked.left.saturating_sub(1);
            if linked.left == 0 {
                self.linked.remove(&found.number);
            }
        }
        Ok(())
    }

    /// The directory of a path below the destination, one component after the other, and the last component.
    fn walk_to<'b>(&self, path: &'b [u8]) -> io::Result<(Directory, &'b [u8])> {
        let mut directory = self.destination.clone();
        let mut parts = parts(path).peekable();
        loop {
            match (parts.next(), parts.peek().is_some()) {
                (Some(part), true) => directory = directory.open(part)?,
                (Some(part), false) => return Ok((directory, part)),
                (None, _) => return Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn file(&mut self, level: &Level, found: &Found) -> Result<(), Failure> {
        let made = level.directory.make_file(&found.name);
        let mut file = made.map_err(|error| self.failed(level, found, "create", error))?;
        let written = self.write(level, found, &mut file).and_then(|()| {
            let mode = self.mode(&found.inode);
            self.attributes(level, found)?;
            set_mode(&file, mode).map_err(|error| self.failed(level, found, "set mode", error))
        });
        if let Err(failure) = written {
            // Half a file must not be taken for a whole one.
            let _ = level.directory.remove(&found.name);
            return Err(failure);
        }
        if found.inode.links > 1 {
            let id = level.directory.id(&found.name);
            let id = id.map_err(|error| self.failed(level, found, "look at", error))?;
            let path = crate::names::join(&level.path, &found.name);
            let left = found.inode.links - 1;
            self.linked.insert(found.number, Linked { path, id, left });
        }
        Ok(())
    }

    fn write(&mut self, level: &Level, found: &Found, file: &mut File) -> Result<(), Failure> {
        let inode = &found.inode;
        let entry_error = |error| Failure::Entry { path: found.path.clone(), error };
        let stream = inode.stream.map(|stream| self.session.archive.read_stream(stream));
        let stream = stream.transpose().map_err(entry_error)?;
        let stream_bytes =
            stream.as_ref().map_or(Ok(0), ar7_registry::Stream::len).map_err(entry_error)?;
        if stream_bytes != inode.size {
            let path = found.path.clone();
            return Err(Failure::EntryLength { path, inode_bytes: inode.size, stream_bytes });
        }
        let Some(stream) = stream else { return Ok(()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let wanted = CHUNK.min(usize::try_from(inode.size).unwrap_or(CHUNK));
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let mut offset = 0;
        while offset < inode.size {
            if self.interrupt.is_set() {
                let (archive, done) = (self.session.path.clone(), self.summary());
                return Err(Failure::Interrupted { archive, done });
            }
            let read = stream.read_at(offset, &mut buffer).map_err(entry_error)?;
            if read == 0 {
                break;
            }
            let written = file.write_all(&buffer[..read]);
            written.map_err(|error| self.failed(level, found, "write", error))?;
            offset += read as u64;
            self.bytes += read as u64;
            self.progress.advance(read as u64);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Owner and time of a file or link. The owner comes first, as changing it clears bits of the mode.
    fn attributes(&self, level: &Level, found: &Found) -> Result<(), Failure> {
        let inode = &found.inode;
        let set = || {
            if self.options.preserve_owner {
                level.directory.set_owner(
                    &found.name,
                    inode.attributes.uid,
                    inode.attributes.gid,
                )?;
            }
            level.directory.set_time(&found.name, inode.attributes.modified)
        };
        set().map_err(|error| self.failed(level, found, "set attributes", error))
    }

    fn mode(&self, inode: &Inode) -> u32 {
        let dropped = if self.options.preserve_special { 0 } else { SPECIAL_BITS };
        inode.attributes.mode & 0o7777 & !dropped
    }

    fn failed(
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
