//! Mounting and unmounting.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ar7::PathText;
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::commits::{self, Commits};
use crate::flusher::Flusher;
use crate::follower::Follower;
use crate::server::{PROCESS_ATTRIBUTE, Served, Server};
use crate::writer::Writer;

/// How long [`unmount`] waits for the process that served the directory.
const PROCESS_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// How long a mount waits for programs that still have files open.
const PROGRAMS_END_WITHIN: Duration = Duration::from_secs(2);

/// Requests that are handled at the same time, at least. Some may wait for the disk.
const THREADS_MIN: usize = 8;

/// The programs that unmount for a user without privileges.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

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
    /// Whether other users may use the mount, as far as modes allow. Without it, not even root can use the mount of
    /// another user.
    pub allow_other: bool,
    /// The time from a change to its commit, if no program asks for it earlier.
    pub commit_interval: Duration,
    /// The number of bytes of changed content after which there is a commit.
    pub commit_bytes: u64,
    /// Gets each line of the log: of a failed commit, and of readers that hold back too many blocks.
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

/// A mounted archive. Dropping it unmounts the directory.
#[derive(Debug)]
pub struct Mount {
    directory: PathBuf,
    session: Option<BackgroundSession>,
    follower: Option<Follower>,
    committer: Option<(Arc<Writer>, JoinHandle<()>)>,
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
                let committing = Arc::clone(&writer);
                let thread = commits::start(commits, move || committing.commit())?;
                committer = Some((Arc::clone(&writer), thread));
                Served::Transaction(writer)
            }
            Access::ReadWrite => return Err(Errno::ROFS.into()),
        };
        let directory = directory.canonicalize()?;
        let config = configuration(&registry, options);
        let server = Server::new(registry, served, Arc::clone(&flusher));
        let mut mount = Mount { directory, session: None, follower, committer, _archive: archive };
        let session = fuser::spawn_mount(server, &mount.directory, &config)?;
        flusher.set(session.notifier());
        mount.session = Some(session);
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
        let unmounted =
            self.session.take().map_or(Ok(()), |session| leave(&self.directory, session));
        let Some((writer, thread)) = self.committer.take() else { return unmounted };
        writer.commits.end();
        let _ = thread.join();
        let closed = writer.close().map_err(io::Error::from);
        unmounted.and(closed)
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

fn configuration(archive: &ar7_registry::Archive, options: &Options) -> Config {
    let path = archive.store().path().unwrap_or(Path::new("archive"));
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // A comma would end the option.
    let source = PathText::new(&path).to_string().replace(',', "\\054");
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(source),
        MountOption::Subtype("ar7".to_owned()),
        MountOption::DefaultPermissions,
    ];
    if options.access != Access::ReadWrite {
        config.mount_options.push(MountOption::RO);
    }
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    config.n_threads = Some(THREADS_MIN.max(2 * cores));
    config.clone_fd = true;
    config
}

/// Unmounts the directory that a session serves, and waits for the programs that use it.
fn leave(directory: &Path, session: BackgroundSession) -> io::Result<()> {
    if !session.guard.is_finished() {
        match detach(directory, UnmountFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                // The kernel passes on what the programs have written, which it would not do now by itself.
                let _ = File::open(directory).map(|opened| rustix::fs::syncfs(&opened));
                detach(directory, UnmountFlags::DETACH)?;
            }
            outcome => outcome?,
        }
    }
    let deadline = Instant::now() + PROGRAMS_END_WITHIN;
    while !session.guard.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    // Joining would wait for programs that have files open.
    if session.guard.is_finished() { session.join() } else { Ok(()) }
}

/// Unmounts a directory that this process or another one has mounted, and waits until that process has closed the
/// archive. What was written is committed. With `lazy`, a directory that programs use is unmounted too: they lose what
/// they have open.
///
/// Also unmounts a directory whose process was killed.
pub fn unmount(directory: &Path, lazy: bool) -> io::Result<()> {
    let process = process_of(directory)?;
    let committed = if process.is_some() { commit(directory) } else { Ok(()) };
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    detach(directory, flags)?;
    let ended = process.map_or(Ok(()), |process| wait_for(process, PROCESS_ENDS_WITHIN));
    // A failed commit is an error, but no reason to stay mounted.
    committed.and(ended)
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

/// Waits for the end of another process.
fn wait_for(process: Pid, time: Duration) -> io::Result<()> {
    if process == rustix::process::getpid() {
        return Ok(());
    }
    // Without a handle, it has ended, or the kernel has no such handles.
    let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { return Ok(()) };
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit))? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the process has not closed the archive")),
        _ => Ok(()),
    }
}

/// Unmounts a directory, with the help of a privileged program if this user may not.
fn detach(directory: &Path, flags: UnmountFlags) -> io::Result<()> {
    match rustix::mount::unmount(directory, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {}
        outcome => return outcome.map_err(io::Error::from),
    }
    for helper in HELPERS {
        let mut command = Command::new(helper);
        command.args(["-u", "-q"]);
        if flags.contains(UnmountFlags::DETACH) {
            command.arg("-z");
        }
        match command.arg("--").arg(directory).status() {
            Ok(status) if status.success() => return Ok(()),
            Ok(_) if is_in_use(directory) => return Err(Errno::BUSY.into()),
            Ok(_) => return Err(Errno::PERM.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::PERM.into())
}

/// Returns whether this user can still use a mount that the privileged program did not unmount, so that it must be busy.
fn is_in_use(directory: &Path) -> bool {
    File::open(directory).is_ok()
}
