//! A file system that passes a directory through, and fails, shortens or delays one call, or tells lies about files.
//!
//! The kernel caches nothing of it, so that each call of the program under test arrives here.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use rustix::fs::{AtFlags, CWD, RenameFlags as SystemRenameFlags, Timespec, Timestamps};

/// Nothing is cached.
const TTL: Duration = Duration::ZERO;

/// How long a delayed call takes.
const DELAY: Duration = Duration::from_millis(30);

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Lookup,
    Getattr,
    Setattr,
    Readlink,
    Mkdir,
    Unlink,
    Rmdir,
    Symlink,
    Rename,
    Link,
    Open,
    Read,
    Write,
    Flush,
    Fsync,
    Opendir,
    Readdir,
    Setxattr,
    Getxattr,
    Listxattr,
    Create,
}

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It fails with this error of the system.
    Fail(i32),
    /// It reads or writes half of the bytes.
    Short,
    /// It takes longer.
    Delay,
}

/// A wrong statement about all files, or files that never stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Files are as they are.
    None,
    /// The status of each file has this length.
    Length(u64),
    /// Each read finds other bytes, and each status another time.
    Changing,
}

/// The fault of a run, and whether the run came to it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) call: Call,
    /// The number of the call, among those of its kind, from 1.
    pub(super) at: u64,
    pub(super) effect: Effect,
    pub(super) lie: Lie,
    seen: u64,
    pub(super) is_hit: bool,
}

impl Plan {
    pub(super) fn new(call: Call, at: u64, effect: Effect) -> Plan {
        Plan { call, at, effect, lie: Lie::None, seen: 0, is_hit: false }
    }

    /// Returns a run without a failing call.
    pub(super) fn lie(lie: Lie) -> Plan {
        Plan { lie, ..Plan::new(Call::Lookup, 0, Effect::Delay) }
    }
}

/// The plan that the campaign and the file system share.
pub(super) type Shared = Arc<Mutex<Plan>>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file system.
pub(super) struct Passthrough {
    root: PathBuf,
    plan: Shared,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// A path of each inode that was looked up.
    paths: HashMap<u64, PathBuf>,
    handles: HashMap<u64, Arc<File>>,
    last_handle: u64,
    /// The number of reads and status calls, for files that change.
    version: u64,
}

impl Passthrough {
    pub(super) fn new(root: PathBuf, plan: Shared) -> Passthrough {
        Passthrough { root, plan, inner: Mutex::default() }
    }

    /// Counts a call. Fails, waits, or returns whether the call is to be shortened.
    fn gate(&self, call: Call) -> Result<bool, Errno> {
        let mut plan = lock(&self.plan);
        if plan.call != call {
            return Ok(false);
        }
        plan.seen += 1;
        if plan.seen != plan.at {
            return Ok(false);
        }
        plan.is_hit = true;
        match plan.effect {
            Effect::Fail(error) => Err(Errno::from_i32(error)),
            Effect::Short => Ok(true),
            Effect::Delay => {
                drop(plan);
                thread::sleep(DELAY);
                Ok(false)
            }
        }
    }

    fn path(&self, inode: INodeNo) -> Result<PathBuf, Errno> {
        if inode == INodeNo::ROOT {
            return Ok(self.root.clone());
        }
        lock(&self.inner).paths.get(&inode.0).cloned().ok_or(Errno::ENOENT)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<PathBuf, Errno> {
        Ok(self.path(parent)?.join(name))
    }

    fn handle(&self, handle: FileHandle) -> Result<Arc<File>, Errno> {
        lock(&self.inner).handles.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn keep(&self, file: File) -> FileHandle {
        let mut inner = lock(&self.inner);
        inner.last_handle += 1;
        let handle = inner.last_handle;
        inner.handles.insert(handle, Arc::new(file));
        FileHandle(handle)
    }

    /// Returns the status of a path, and remembers the path of its inode.
    fn entry(&self, path: PathBuf) -> Result<FileAttr, Errno> {
        let found = path.symlink_metadata()?;
        let attributes = self.attributes(&found)?;
        lock(&self.inner).paths.insert(found.ino(), path);
        Ok(attributes)
    }

    fn attributes(&self, found: &Metadata) -> Result<FileAttr, Errno> {
        let time = |seconds: i64, nanoseconds: i64| {
            let whole = Duration::from_secs(seconds.unsigned_abs());
            let nanoseconds = Duration::from_nanos(nanoseconds.unsigned_abs());
            (if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole }) + nanoseconds
        };
        let kind = FileType::from_std(found.file_type()).ok_or(Errno::EIO)?;
        let (mut size, mut mtime) = (found.len(), time(found.mtime(), found.mtime_nsec()));
        let lie = lock(&self.plan).lie;
        if kind == FileType::RegularFile {
            match lie {
                Lie::Length(length) => size = length,
                Lie::Changing => mtime += Duration::from_secs(self.next_version()),
                Lie::None => {}
            }
        }
        Ok(FileAttr {
            ino: self.number(found),
            size,
            blocks: found.blocks(),
            atime: time(found.atime(), found.atime_nsec()),
            mtime,
            ctime: time(found.ctime(), found.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind,
            perm: u16::try_from(found.mode() & 0o7777).unwrap_or_default(),
            nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn number(&self, found: &Metadata) -> INodeNo {
        let root = self.root.symlink_metadata().map_or(0, |root| root.ino());
        if found.ino() == root { INodeNo::ROOT } else { INodeNo(found.ino()) }
    }

    fn next_version(&self) -> u64 {
        let mut inner = lock(&self.inner);
        inner.version += 1;
        inner.version
    }

    fn read_at(&self, handle: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let is_short = self.gate(Call::Read)?;
        let file = self.handle(handle)?;
        let size = usize::try_from(size).unwrap_or(0);
        let mut bytes = vec![0; if is_short { size.div_ceil(2) } else { size }];
        let length = file.read_at(&mut bytes, offset)?;
        bytes.truncate(length);
        if lock(&self.plan).lie == Lie::Changing {
            bytes.fill(u8::try_from(self.next_version() % 251).unwrap_or(0));
        }
        Ok(bytes)
    }

    fn listing(&self, inode: INodeNo) -> Result<Vec<(INodeNo, FileType, PathBuf)>, Errno> {
        self.gate(Call::Readdir)?;
        let mut entries = vec![
            (inode, FileType::Directory, PathBuf::from(".")),
            (inode, FileType::Directory, PathBuf::from("..")),
        ];
        let mut names: Vec<_> = fs::read_dir(self.path(inode)?)?.collect::<io::Result<_>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let kind = FileType::from_std(entry.file_type()?).ok_or(Errno::EIO)?;
            entries.push((INodeNo(entry.metadata()?.ino()), kind, entry.file_name().into()));
        }
        Ok(entries)
    }

    fn renamed(&self, from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
        self.gate(Call::Rename)?;
        let flags = SystemRenameFlags::from_bits_retain(flags.bits());
        rustix::fs::renameat_with(CWD, from, CWD, to, flags).map_err(io::Error::from)?;
        for path in lock(&self.inner).paths.values_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                *path = if below == Path::new("") { to.to_owned() } else { to.join(below) };
            }
        }
        Ok(())
    }
}

/// Sets what a call changes of the status of a path.
fn set(
    path: &Path,
    mode: Option<u32>,
    owner: (Option<u32>, Option<u32>),
    size: Option<u64>,
    times: (Option<TimeOrNow>, Option<TimeOrNow>),
) -> io::Result<()> {
    if owner.0.is_some() || owner.1.is_some() {
        std::os::unix::fs::lchown(path, owner.0, owner.1)?;
    }
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(size) = size {
        OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if times.0.is_some() || times.1.is_some() {
        let last_access = timespec(times.0);
        let last_modification = timespec(times.1);
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    let time = match time {
        None => return Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(TimeOrNow::Now) => SystemTime::now(),
        Some(TimeOrNow::SpecificTime(time)) => time,
    };
    let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(_) => (0, 0),
    };
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
}

/// Runs the work of a call, in which `?` is allowed.
fn attempt<T>(work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    work()
}

/// Passes an outcome to the kernel.
macro_rules! answer {
    ($reply:ident, $outcome:expr, $value:pat => $success:expr) => {
        match attempt(|| $outcome) {
            Ok($value) => $success,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Passthrough {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, {
            self.gate(Call::Lookup)?;
            self.entry(self.child(parent, name)?)
        }, found => reply.entry(&TTL, &found, Generation(0)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, {
            self.gate(Call::Getattr)?;
            self.attributes(&self.path(inode)?.symlink_metadata()?)
        }, found => reply.attr(&TTL, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer!(reply, {
            self.gate(Call::Setattr)?;
            let path = self.path(inode)?;
            set(&path, mode, (uid, gid), size, (atime, mtime))?;
            self.attributes(&path.symlink_metadata()?)
        }, found => reply.attr(&TTL, &found));
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        answer!(reply, {
            self.gate(Call::Readlink)?;
            Ok(fs::read_link(self.path(inode)?)?)
        }, target => reply.data(target.as_os_str().as_encoded_bytes()));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        answer!(reply, {
            self.gate(Call::Mkdir)?;
            let path = self.child(parent, name)?;
            fs::create_dir(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(mode & !umask & 0o7777))?;
            self.entry(path)
        }, found => reply.entry(&TTL, &found, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, {
            self.gate(Call::Unlink)?;
            Ok(fs::remove_file(self.child(parent, name)?)?)
        }, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, {
            self.gate(Call::Rmdir)?;
            Ok(fs::remove_dir(self.child(parent, name)?)?)
        }, () => reply.ok());
    }

    fn symlink(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        answer!(reply, {
            self.gate(Call::Symlink)?;
            let path = self.child(parent, name)?;
            std::os::unix::fs::symlink(target, &path)?;
            self.entry(path)
        }, found => reply.entry(&TTL, &found, Generation(0)));
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
        answer!(reply, {
            let (from, to) = (self.child(parent, name)?, self.child(new_parent, new_name)?);
            self.renamed(&from, &to, flags)
        }, () => reply.ok());
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, {
            self.gate(Call::Link)?;
            let path = self.child(parent, name)?;
            fs::hard_link(self.path(inode)?, &path)?;
            self.entry(path)
        }, found => reply.entry(&TTL, &found, Generation(0)));
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(reply, {
            self.gate(Call::Open)?;
            let mode = flags.acc_mode();
            let file = OpenOptions::new()
                .read(mode != OpenAccMode::O_WRONLY)
                .write(mode != OpenAccMode::O_RDONLY)
                .open(self.path(inode)?)?;
            Ok(self.keep(file))
        }, handle => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        answer!(reply, {
            self.gate(Call::Create)?;
            let path = self.child(parent, name)?;
            let mut made = OpenOptions::new();
            made.read(true).write(true).create_new(true).mode(mode & !umask & 0o7777);
            let file = made.open(&path)?;
            Ok((self.entry(path)?, self.keep(file)))
        }, (found, handle) => {
            reply.created(&TTL, &found, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.read_at(handle, offset, size), bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(reply, {
            let is_short = self.gate(Call::Write)?;
            let length = if is_short { data.len().div_ceil(2) } else { data.len() };
            let data = data.get(..length).unwrap_or_default();
            self.handle(handle)?.write_all_at(data, offset)?;
            Ok(u32::try_from(length).unwrap_or(0))
        }, written => reply.written(written));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer!(reply, self.gate(Call::Flush), _ => reply.ok());
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.inner).handles.remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.gate(Call::Fsync), _ => reply.ok());
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.gate(Call::Opendir), _ => {
            reply.opened(FileHandle(0), FopenFlags::empty());
        });
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        answer!(reply, self.listing(inode), entries => {
            for (at, (inode, kind, name)) in (1..).zip(entries).skip_while(|(at, _)| *at <= offset) {
                if reply.add(inode, at, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn setxattr(
        &self,
        _: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        answer!(reply, {
            self.gate(Call::Setxattr)?;
            Ok(xattr::set(self.path(inode)?, name, value)?)
        }, () => reply.ok());
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer!(reply, {
            self.gate(Call::Getxattr)?;
            xattr::get(self.path(inode)?, name)?.ok_or(Errno::ENODATA)
        }, value => answer_bytes(reply, &value, size));
    }

    fn listxattr(&self, _: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        answer!(reply, {
            self.gate(Call::Listxattr)?;
            let names = xattr::list(self.path(inode)?)?;
            Ok(names.flat_map(|name| [name.as_encoded_bytes(), b"\0"].concat()).collect::<Vec<u8>>())
        }, names => answer_bytes(reply, &names, size));
    }
}

/// Answers with the length of a value if the caller has no room yet, otherwise with the value.
fn answer_bytes(reply: ReplyXattr, bytes: &[u8], size: u32) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    match size {
        0 => reply.size(length),
        size if size < length => reply.error(Errno::ERANGE),
        _ => reply.data(bytes),
    }
}
