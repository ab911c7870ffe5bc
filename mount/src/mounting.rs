//! Mounting, by the system call or with the help of a privileged program.
//!
//! `fuser` could do it, but then it refuses the requests that the kernel makes on its own behalf, as when it passes on the
//! times of a file: without `allow_other` it answers only the user who mounted. The kernel checks that user itself.

use std::env;
use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ar7::PathText;
use rustix::fs::{Mode, OFlags, open, stat};
use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{getgid, getuid};

/// The programs that mount and unmount for a user without privileges.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// The variable that tells them where to send the opened device.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// What to mount, and how.
pub(crate) struct Mounting<'a> {
    pub(crate) directory: &'a Path,
    /// What the table of mounts shows.
    pub(crate) source: &'a str,
    pub(crate) allow_other: bool,
    pub(crate) read_only: bool,
}

impl Mounting<'_> {
    /// Mounts. Returns the device from which the requests are read.
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        match self.by_call() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.by_helper(),
            outcome => outcome,
        }
    }

    fn by_call(&self) -> io::Result<OwnedFd> {
        let device = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let mode = stat(self.directory)?.st_mode;
        let (user, group) = (getuid().as_raw(), getgid().as_raw());
        let number = device.as_raw_fd();
        let other = if self.allow_other { ",allow_other" } else { "" };
        let data = format!(
            "fd={number},rootmode={mode:o},user_id={user},group_id={group},default_permissions{other}"
        );
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
        if self.read_only {
            flags |= MountFlags::RDONLY;
        }
        let data = CString::new(data)?;
        rustix::mount::mount(self.source, self.directory, "fuse.ar7", flags, Some(&*data))?;
        Ok(device)
    }

    fn by_helper(&self) -> io::Result<OwnedFd> {
        let mode = if self.read_only { "ro" } else { "rw" };
        let other = if self.allow_other { ",allow_other" } else { "" };
        // In an option, a comma and a backslash are escaped.
        let source = self.source.replace('\\', "\\\\").replace(',', "\\,");
        let options =
            format!("{mode},nosuid,nodev,default_permissions{other},subtype=ar7,fsname={source}");
        let (helper, (ran, ours)) = with_helper("mount", |helper| {
            let (ours, theirs) = UnixStream::pair()?;
            let mut command = Command::new(helper);
            command.args(["-o", &options, "--"]).arg(self.directory);
            // It sends the device through its standard input.
            command.env(SOCKET_VARIABLE, "0").stdin(OwnedFd::from(theirs));
            let ran = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
            // It holds their end of the socket. While that is open, reading waits for a message.
            drop(command);
            Ok((ran, ours))
        })?;
        if ran.status.success() {
            return received(&ours);
        }
        let text = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        let text = if text.is_empty() { format!("{helper}: {}", ran.status) } else { text };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// Passes the helpers to `run` until one could be executed. Returns its name as well.
///
/// The system reports a missing program and a missing interpreter of a program in the same way. The two have different
/// remedies, so the message tells them apart.
pub(crate) fn with_helper<T>(
    purpose: &str,
    mut run: impl FnMut(&'static str) -> io::Result<T>,
) -> io::Result<(&'static str, T)> {
    let mut unusable = None;
    for helper in HELPERS {
        let error = match run(helper) {
            Ok(ran) => return Ok((helper, ran)),
            Err(error) => error,
        };
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "its interpreter is missing",
            io::ErrorKind::PermissionDenied => "this user has no permission to execute it",
            kind => return Err(io::Error::new(kind, format!("{helper}: {error}"))),
        };
        unusable = unusable.or_else(|| Some((find_program(helper)?, reason)));
    }
    let text = match unusable {
        Some((place, reason)) => {
            let place = PathText::new(&place);
            format!("not permitted: only root can {purpose} without {place}, and {reason}")
        }
        None => format!("not permitted: only root can {purpose} without the program fusermount3"),
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Returns where the system finds a program with this name.
fn find_program(name: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Returns the descriptor that came through a socket.
fn received(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let text = "no device came from the program that mounts";
    let none = || io::Error::new(io::ErrorKind::InvalidData, text);
    descriptors.flatten().next().ok_or_else(none)
}
