//! Mounting and unmounting.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ar7::PathText;
use fuser::{BackgroundSession, Config, Session, SessionACL};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, getgid, getuid, pidfd_open};

use crate::ahead::ReadAhead;
use crate::commits::{self, Commits};
use crate::flusher::Flusher;
use crate::follower::Follower;
use crate::mounting::{Mounting, with_helper};
use crate::server::{PROCESS_ATTRIBUTE, Served, Server};
use crate::writer::Writer;

/// How long [`unmount`] waits for the process that served the directory.
const PROCESS_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// How long a mount waits for programs that still have files open.
const PROGRAMS_END_WITHIN: Duration = Duration::from_secs(2);

/// How long a lazy [`unmount`] waits for each answer of the process.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How often it looks for an answer.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Requests that are handled at the same time, at least. Some may wait for the disk.
const THREADS_MIN: usize = 8;

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Access {
    /// The archive, to read and to write. It must be open for writing.
    #[default]
    ReadWrite,
    /// The newest commit at the time of mounting.
    Snapshot,
    /// Always the newest commit, also of a writer in another process. What programs see is up to two seconds old.
    Follow,
}

/// How to mount an archive.
#[derive(Clone)]
pub struct Options {
    /// What the mount shows.
    pub access: Access,
    /// Whether other users may use the mount, as far as modes and access control lists allow. Without it, not even root can
    /// use the mount of another user.
    pub allow_other: bool,
    /// The time from a change to its commit, if no program asks for it earlier.
    pub commit_interval: Duration,
    /// The number of bytes of changed content after which there is a commit.
    pub commit_bytes: u64,
    /// Gets each line of the log: of a failed commit, of readers that hold back too many blocks, and of deleted content
    /// that takes space after the end.
    pub report: fn(&str),
}

impl Default for Options {
    fn default() -> Options {
        Options {
            access: Access::default(),
            allow_other: false,
            commit_interval: Duration::from_secs(5),
            commit_bytes: 256 << 20,
            report: |_| {},
        }
    }
}

/// What [`unmount`] left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unmounted {
    /// Nothing: the process has closed the archive.
    Closed,
    /// Programs that have files open. The process closes the archive when the last one is gone.
    InUse,
    /// A process that does not answer.
    NoAnswer,
}

impl Unmounted {
    /// Returns a warning for users, if something is left.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Unmounted::Closed => None,
            Unmounted::InUse => {
                Some("programs have files open there: the archive is closed when they are done")
            }
            Unmounted::NoAnswer => Some(
                "the process that serves the directory does not answer: it may still have the archive open",
            ),
        }
    }
}

/// A mounted archive. Dropping it unmounts the directory.
#[derive(Debug)]
pub struct Mount {
    directory: PathBuf,
    /// The number of the device that the kernel gave the mount.
    device: Option<(u32, u32)>,
    session: Option<BackgroundSession>,
    follower: Option<Follower>,
    committer: Option<(Arc<Writer>, JoinHandle<()>)>,
    ahead: Arc<ReadAhead>,
    _archive: ar7::Archive,
}

impl Mount {
    /// Mounts an archive on a directory. When this returns, programs can use it.
    ///
    /// Fails with the error of the system, for example of kind `NotFound` without `/dev/fuse` or without the directory,
    /// and of kind `PermissionDenied` if this user may not mount.
    pub fn new(archive: ar7::Archive, directory: &Path, options: &Options) -> io::Result<Mount> {
        let registry = archive.registry().clone();
        let (mut follower, mut committer) = (None, None);
        let flusher = Arc::new(Flusher::default());
        let served = match options.access {
            Access::Snapshot => Served::Commit(registry.snapshot()),
            Access::Follow => {
                follower = Some(Follower::start(registry.clone())?);
                Served::Newest
            }
            Access::ReadWrite if registry.is_writer() => {
                let commits = Commits::new(options.commit_interval, options.commit_bytes);
                let commits = Arc::new(commits);
                let shared = Arc::clone(&commits);
                let registry = registry.clone();
                let writer = Writer::new(registry, shared, Arc::clone(&flusher), options.report);
                let writer = Arc::new(writer);
                writer.take_root(getuid().as_raw(), getgid().as_raw());
                let committing = Arc::clone(&writer);
                let thread = commits::start(commits, move || committing.commit())?;
                committer = Some((Arc::clone(&writer), thread));
                Served::Transaction(writer)
            }
            Access::ReadWrite => return Err(Errno::ROFS.into()),
        };
        let directory = directory.canonicalize()?;
        let source = source(&registry);
        let server = Server::new(registry, served, Arc::clone(&flusher));
        let (device, session, ahead) = (None, None, Arc::clone(&server.ahead));
        let mut mount =
            Mount { directory, device, session, follower, committer, ahead, _archive: archive };
        let mounting = Mounting {
            directory: &mount.directory,
            source: &source,
            allow_other: options.allow_other,
            read_only: options.access != Access::ReadWrite,
        };
        let device = mounting.mount()?;
        // The kernel refuses other users by itself.
        let session = Session::from_fd(server, device, SessionACL::All, configuration())
            .and_then(Session::spawn)
            .inspect_err(|_| drop(detach(&mount.directory, UnmountFlags::DETACH)))?;
        flusher.set(session.notifier());
        mount.session = Some(session);
        mount.device = device_of(&mount.directory);
        Ok(mount)
    }

    /// Returns whether somebody unmounted the directory, and no program uses it any more.
    pub fn is_ended(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.guard.is_finished())
    }

    /// Unmounts the directory, commits, and closes the archive. Programs that have files open there can use them for two
    /// more seconds.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.follower.take());
        let session = self.session.take();
        let unmounted = session.map_or(Ok(()), |session| self.leave(&session));
        self.ahead.clear();
        let Some((writer, thread)) = self.committer.take() else { return unmounted };
        writer.commits.end();
        let _ = thread.join();
        let closed = writer.close().map_err(io::Error::from);
        unmounted.and(closed)
    }

    /// Unmounts the directory, and waits for the programs that use it.
    fn leave(&self, session: &BackgroundSession) -> io::Result<()> {
        // After a lazy unmount, the directory may show something else.
        let is_mounted = !session.guard.is_finished() && device_of(&self.directory) == self.device;
        if is_mounted {
            match detach(&self.directory, UnmountFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    // The kernel passes on what the programs have written, which it would not do now by itself.
                    let opened = File::open(&self.directory);
                    let _ = opened.map(|opened| rustix::fs::syncfs(&opened));
                    detach(&self.directory, UnmountFlags::DETACH)?;
                }
                outcome => outcome?,
            }
        }
        // Joining would wait for programs that have files open.
        let deadline = Instant::now() + PROGRAMS_END_WITHIN;
        while !session.guard.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Options").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Returns what the table of mounts shows.
fn source(archive: &ar7_registry::Archive) -> String {
    let path = archive.store().path().unwrap_or(Path::new("archive"));
    PathText::new(&path.canonicalize().unwrap_or_else(|_| path.to_owned())).to_string()
}

fn configuration() -> Config {
    let mut config = Config::default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    config.n_threads = Some(THREADS_MIN.max(2 * cores));
    config.clone_fd = true;
    config
}

/// Returns the number of the device that a directory is on, without asking the process that serves it.
fn device_of(directory: &Path) -> Option<(u32, u32)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let status = statx(CWD, directory, flags, StatxFlags::TYPE).ok()?;
    Some((status.stx_dev_major, status.stx_dev_minor))
}

/// Unmounts a directory that this process or another one has mounted, and waits until that process has closed the
/// archive. What was written is committed.
///
/// With `lazy`, a directory that programs use is unmounted too. They keep what they have open, and the process closes the
/// archive when they are done. Also unmounts a directory whose process was killed, or does not answer.
pub fn unmount(directory: &Path, lazy: bool) -> io::Result<Unmounted> {
    if lazy && !answers(directory) {
        return detach(directory, UnmountFlags::DETACH).map(|()| Unmounted::NoAnswer);
    }
    let Some(process) = process_of(directory)? else {
        let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        return detach(directory, flags).map(|()| Unmounted::Closed);
    };
    let committed = if lazy { commit_within(ANSWERS_WITHIN, directory) } else { commit(directory) };
    let is_used = match detach(directory, UnmountFlags::empty()) {
        Err(error) if lazy && error.kind() == io::ErrorKind::ResourceBusy => {
            detach(directory, UnmountFlags::DETACH)?;
            true
        }
        outcome => outcome.map(|()| false)?,
    };
    let limit = if is_used { PROGRAMS_END_WITHIN } else { PROCESS_ENDS_WITHIN };
    let has_ended = wait_for(process, limit)?;
    // What the kernel could not pass on to the archive is an error, but no reason to stay mounted.
    committed.map_err(|error| {
        let text = format!("unmounted, but not everything that was written is stored: {error}");
        io::Error::new(error.kind(), text)
    })?;
    match (has_ended, is_used) {
        (true, _) => Ok(Unmounted::Closed),
        (false, true) => Ok(Unmounted::InUse),
        (false, false) => {
            let text = format!(
                "unmounted, but process {process} still writes to the archive, and ends by itself"
            );
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

/// Runs a program that asks the process that serves a directory. Returns `None` if it has no answer within the limit.
///
/// Once the other process has read a request, only its answer ends the wait, and not even SIGKILL does. So this process must
/// not wait itself: it could not end either.
fn within(limit: Duration, program: &mut Command) -> Option<io::Result<ExitStatus>> {
    let mut child =
        match program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) => return Some(Err(error)),
        };
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().transpose() {
            Some(ended) => return Some(ended),
            None if Instant::now() < deadline => thread::sleep(LOOK_EVERY),
            None => break,
        }
    }
    // It may end only with the other process. A thread that waits for a child can be ended at any time.
    let _ = child.kill();
    let _ = thread::Builder::new().spawn(move || child.wait());
    None
}

/// Returns whether the process that serves a directory answers. One that was killed does: the kernel answers for it.
fn answers(directory: &Path) -> bool {
    within(ANSWERS_WITHIN, Command::new("stat").arg("-f").arg("--").arg(directory)).is_some()
}

/// Commits what programs have written in a directory. A commit that takes longer goes on.
fn commit_within(limit: Duration, directory: &Path) -> io::Result<()> {
    for arguments in [&["-f", "--"][..], &["--"]] {
        match within(limit, Command::new("sync").args(arguments).arg(directory)) {
            Some(Ok(status)) if status.success() => {}
            // It has answered, so the same call of this process says why.
            Some(_) => return commit(directory),
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Commits what programs have written in a directory.
fn commit(directory: &Path) -> io::Result<()> {
    let opened = File::open(directory)?;
    rustix::fs::syncfs(&opened)?;
    opened.sync_all()
}

/// Returns the process that serves a directory; `None` if it was killed. Fails if no archive is mounted there.
fn process_of(directory: &Path) -> io::Result<Option<Pid>> {
    let mut text = [0; 20];
    let length = match rustix::fs::getxattr(directory, PROCESS_ATTRIBUTE, &mut text[..]) {
        Ok(length) => length,
        // The archive may be unreadable. That is no reason to stay mounted.
        Err(Errno::NOTCONN | Errno::IO) => return Ok(None),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOTTY) => {
            let text = "no archive is mounted there";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Err(error) => return Err(error.into()),
    };
    let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
    Ok(text.and_then(|text| text.parse().ok()).and_then(Pid::from_raw))
}

/// Waits for the end of another process. Returns whether it has ended.
fn wait_for(process: Pid, time: Duration) -> io::Result<bool> {
    if process == rustix::process::getpid() {
        return Ok(true);
    }
    // Without a handle, it has ended, or the kernel has no such handles.
    let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { return Ok(true) };
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit))? > 0)
}

/// Unmounts a directory, with the help of a privileged program if this user may not.
fn detach(directory: &Path, flags: UnmountFlags) -> io::Result<()> {
    match rustix::mount::unmount(directory, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {}
        outcome => return outcome.map_err(io::Error::from),
    }
    let (_, status) = with_helper("unmount", |helper| {
        let mut command = Command::new(helper);
        command.args(["-u", "-q"]);
        if flags.contains(UnmountFlags::DETACH) {
            command.arg("-z");
        }
        command.arg("--").arg(directory).status()
    })?;
    match status {
        status if status.success() => Ok(()),
        _ if is_in_use(directory) => Err(Errno::BUSY.into()),
        _ => Err(Errno::PERM.into()),
    }
}

/// Returns whether this user can still use a mount that the privileged program did not unmount, so that it must be busy.
fn is_in_use(directory: &Path) -> bool {
    File::open(directory).is_ok()
}
