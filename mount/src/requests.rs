//! The requests of the kernel, and the answers.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Device, EntryType};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::attributes::{file_type, status, status_of_removed};
use crate::changes::{Maker, New, Place};
use crate::content::Allocation;
use crate::errno::errno;
use crate::metadata::{Caller, Setting, Wanted};
use crate::server::{Outcome, Served, Server, number_of};
use crate::space::{BLOCK_BYTES, Space, space};

/// Requests that the kernel makes ahead of the programs, such as reads.
const BACKGROUND_REQUESTS: u16 = 64;

/// An inode has one life in an archive: its number is never used again.
const GENERATION: Generation = Generation(0);

/// Longest name in bytes.
const NAME_BYTES: u32 = 255;

/// The number of a handle that can write, and of one that cannot.
const WRITING: FileHandle = FileHandle(1);
const READING: FileHandle = FileHandle(0);

impl Server {
    /// Opens a file. Returns the handle, and whether the kernel may keep the content that it has.
    fn open_file(&self, number: INodeNo, flags: OpenFlags) -> Outcome<(FileHandle, FopenFlags)> {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        match &*self.served {
            Served::Transaction(writer) => {
                writer.open(number_of(number), writes)?;
                let handle = if writes { WRITING } else { READING };
                Ok((handle, FopenFlags::FOPEN_KEEP_CACHE))
            }
            Served::Commit(_) => {
                self.inode(number)?;
                Ok((READING, FopenFlags::FOPEN_KEEP_CACHE))
            }
            Served::Newest => {
                self.inode(number)?;
                Ok((READING, FopenFlags::empty()))
            }
        }
    }

    fn has_writers(&self, number: INodeNo) -> bool {
        let Ok(writer) = self.writer() else { return false };
        writer.file(number_of(number)).is_some_and(|file| file.has_writers())
    }

    fn add(
        &self,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        new: &New<'_>,
        (mode, umask): (u32, u32),
    ) -> Outcome<FileAttr> {
        let maker = Maker { mode, umask, uid: request.uid(), gid: request.gid() };
        let (number, inode) = self.writer()?.add(place(parent, name), new, maker)?;
        Ok(status(number, &inode))
    }

    fn set_extended(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        setting: Setting<'_>,
    ) -> Outcome<()> {
        let caller = Caller { uid: request.uid(), gid: request.gid() };
        self.writer()?.set_extended(number_of(number), name.as_bytes(), setting, caller)
    }

    fn answer_entry(&self, outcome: Outcome<FileAttr>, reply: ReplyEntry) {
        match outcome {
            Ok(status) => reply.entry(&self.lifetime(), &status, GENERATION),
            Err(error) => reply.error(error),
        }
    }

    /// Answers once everything that was changed so far is durable.
    fn commit(&self, reply: ReplyEmpty) {
        match self.writer() {
            Ok(writer) => writer.commits.ask(reply),
            Err(_) => reply.ok(),
        }
    }
}

fn place(parent: INodeNo, name: &OsStr) -> Place<'_> {
    (number_of(parent), name.as_bytes())
}

fn answer_empty(outcome: Outcome<()>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

/// Returns the entry that `mknod` makes.
fn new_of(mode: u32, device: u32) -> Outcome<New<'static>> {
    const TYPE: u32 = 0o170_000;
    let major = (device & 0xf_ff00) >> 8;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    let device = Some(Device { major, minor });
    match mode & TYPE {
        0o100_000 | 0 => Ok(New::File),
        0o010_000 => Ok(New::Special(EntryType::Fifo, None)),
        0o140_000 => Ok(New::Special(EntryType::Socket, None)),
        0o020_000 => Ok(New::Special(EntryType::CharacterDevice, device)),
        0o060_000 => Ok(New::Special(EntryType::BlockDevice, device)),
        _ => Err(Errno::EINVAL),
    }
}

/// Returns what `fallocate` asks for. A hole is zeros, because content in the open transaction has none.
fn allocation(offset: u64, length: u64, mode: i32) -> Outcome<Allocation> {
    const KEEP_SIZE: i32 = 1;
    const PUNCH_HOLE: i32 = 2;
    const ZERO_RANGE: i32 = 0x10;
    let (keeps_size, zeroes) = match mode {
        0 => (false, false),
        KEEP_SIZE => (true, false),
        ZERO_RANGE => (false, true),
        mode if mode == PUNCH_HOLE | KEEP_SIZE || mode == ZERO_RANGE | KEEP_SIZE => (true, true),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    Ok(Allocation { offset, length, keeps_size, zeroes })
}

/// Returns a time of a request. `fuser` subtracts the nanoseconds of a time before 1970 from its seconds instead of adding
/// them.
fn time_of_request(time: SystemTime) -> Timestamp {
    let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            (0_i64.saturating_sub_unsigned(before.as_secs()), before.subsec_nanos())
        }
    };
    Timestamp { seconds, nanoseconds }
}

/// Answers with bytes, or with their number if the program asks for that.
fn answer(reply: ReplyXattr, size: u32, outcome: Outcome<Vec<u8>>) {
    match outcome.map(|bytes| (u32::try_from(bytes.len()).unwrap_or(u32::MAX), bytes)) {
        Ok((length, _)) if size == 0 => reply.size(length),
        Ok((length, bytes)) if length <= size => reply.data(&bytes),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_background(BACKGROUND_REQUESTS);
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
        ];
        for flag in wanted {
            // An older kernel works without.
            let _ = config.add_capabilities(flag);
        }
        let more = match &*self.served {
            // The kernel drops content that it keeps when the time or the length of the file changes.
            Served::Newest => InitFlags::FUSE_AUTO_INVAL_DATA,
            // It gathers small writes, and does not ask for capabilities before each of them. It keeps the length and the
            // times of a file itself, and ignores those in answers.
            Served::Transaction(_) => {
                InitFlags::FUSE_WRITEBACK_CACHE | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            }
            Served::Commit(_) => InitFlags::empty(),
        };
        let _ = config.add_capabilities(more);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.answer_entry(self.find(parent, name), reply);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.status(number) {
            Ok(status) => reply.attr(&self.lifetime(), &status),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.read_target(number) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(number, flags) {
            Ok((handle, keep)) => reply.opened(handle, keep),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read_at(number, offset, size, |bytes| match bytes {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error),
        });
    }

    fn lseek(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let sought = u64::try_from(offset).map_err(|_| Errno::ENXIO);
        let server = self.clone();
        let answer = move || {
            let sought = sought.and_then(|offset| server.seek(number, offset, whence));
            match sought.and_then(|at| i64::try_from(at).map_err(|_| Errno::EOVERFLOW)) {
                Ok(at) => reply.offset(at),
                Err(error) => reply.error(error),
            }
        };
        // The kernel does not pass on what it has before it asks this. A search can read the record of each frame.
        self.flusher.then(number, self.has_writers(number), answer);
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_directory(number) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.list(handle, offset, |next, entry| {
            let name = OsStr::from_bytes(&entry.name);
            reply.add(INodeNo(entry.inode.0), next, file_type(entry.kind), name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        parent: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let lifetime = self.lifetime();
        let listed = self.list(handle, offset, |next, entry| {
            let name = OsStr::from_bytes(&entry.name);
            // One that was removed since it was listed is left out: the kernel would keep its name.
            let Ok(status) = self.listed_status(parent, entry) else { return false };
            reply.add(status.ino, next, name, &lifetime, &status, GENERATION)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.directories.remove(handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match space(&self.archive) {
            Ok(Space { blocks, free, inodes }) => {
                let block = u32::try_from(BLOCK_BYTES).unwrap_or(u32::MAX);
                let left = u64::from(u32::MAX);
                reply.statfs(blocks, free, free, inodes + left, left, block, NAME_BYTES, block);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer(reply, size, self.extended(number, Some(name)));
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        answer(reply, size, self.extended(number, None));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let added = self.add(request, (parent, name), &New::File, (mode, umask));
        let opened = added.and_then(|status| {
            let (handle, keep) = self.open_file(status.ino, OpenFlags(flags))?;
            Ok((status, handle, keep))
        });
        match opened {
            Ok((status, handle, keep)) => {
                reply.created(&self.lifetime(), &status, GENERATION, handle, keep);
            }
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let added = new_of(mode, device)
            .and_then(|new| self.add(request, (parent, name), &new, (mode, umask)));
        self.answer_entry(added, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let added = self.add(request, (parent, name), &New::Directory, (mode, umask));
        self.answer_entry(added, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let new = New::Symlink(target.as_os_str().as_bytes());
        self.answer_entry(self.add(request, (parent, name), &new, (0o777, 0)), reply);
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = number_of(number);
        let linked = self.writer().and_then(|writer| writer.link(number, place(parent, name)));
        self.answer_entry(linked.map(|inode| status(number, &inode)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.writer().and_then(|writer| writer.unlink(place(parent, name))), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.writer().and_then(|writer| writer.remove_directory(place(parent, name)));
        answer_empty(removed, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (place(parent, name), place(new_parent, new_name));
        answer_empty(self.writer().and_then(|writer| writer.rename(from, to, flags)), reply);
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kills = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let written =
            self.writer().and_then(|writer| writer.write(number_of(number), offset, bytes, kills));
        match (written, u32::try_from(bytes.len())) {
            (Ok(()), Ok(length)) => reply.written(length),
            (Ok(()), Err(_)) => reply.error(Errno::EINVAL),
            (Err(error), _) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Ok(writer) = self.writer() {
            writer.close_handle(number_of(number), handle == WRITING);
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // The kernel has passed on the content before, and asks no more.
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.commit(reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.commit(reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = allocation(offset, length, mode)
            .and_then(|wanted| self.writer()?.allocate(number_of(number), wanted));
        answer_empty(allocated, reply);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        changed: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let modified = modified.map(|time| match time {
            TimeOrNow::SpecificTime(time) => time_of_request(time),
            TimeOrNow::Now => Timestamp::now(),
        });
        let wanted = Wanted { mode, uid, gid, modified, changed: changed.map(time_of_request) };
        let number = number_of(number);
        let set = self.writer().and_then(|writer| {
            match size {
                // The kernel does not say whether this user keeps such rights, as root does.
                Some(size) => writer.set_length(number, size, request.uid() != 0, wanted),
                None if wanted.is_empty() => Ok(()),
                None => writer.set_attributes(number, wanted),
            }
        });
        match set.and_then(|()| self.status(INodeNo(number.0))) {
            Ok(status) => reply.attr(&self.lifetime(), &status),
            // The kernel passes on the times of a file that was removed since, and would report the failure to others.
            Err(Errno::ESTALE) if size.is_none() && wanted.is_of_times() => {
                reply.attr(&Duration::ZERO, &status_of_removed(number));
            }
            Err(error) => reply.error(error),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let (must_be_new, must_exist) = (flags & 1 != 0, flags & 2 != 0);
        let setting = Setting::Set { value, must_exist, must_be_new };
        answer_empty(self.set_extended(request, number, name, setting), reply);
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.set_extended(request, number, name, Setting::Remove), reply);
    }
}
