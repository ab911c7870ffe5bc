//! `put`: stores standard input, or the output of a command, as one entry.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ar7::{Attributes, CopyError, Error, File, Mode, Timestamp, Transaction};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;
use serde::Serialize;

use super::content::parse_bare_stream;
use super::paths::{in_entry, not_root};
use crate::arguments::{Common, Put};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::json::JsonName;
use crate::opened::{Opened, at};
use crate::output;
use crate::progress::{Counts, Progress};

/// How long to wait for input before checking for a signal.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

#[derive(Serialize)]
struct JsonStored<'a> {
    #[serde(flatten)]
    name: Option<JsonName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    bytes: u64,
}

/// Stores the input. If it fails, the archive is as before.
pub(crate) fn run(common: &Common, options: &Put) -> Result<(), Failure> {
    if options.command.is_empty() && is_closed(io::stdin()) {
        return Err(Failure::ClosedInput);
    }
    let opened = Opened::write_or_create(common, &options.archive, &options.slot)?;
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let input = Input { options, interrupt, progress: &progress };
    let stored = opened.change(|transaction| match (&options.stream, &options.name) {
        (Some(text), _) => {
            let id = parse_bare_stream(text)?.uuid();
            let named = at(&options.archive);
            let stream = transaction.stream(id, Mode::READ_WRITE).map_err(&named)?;
            if !stream.is_empty().map_err(&named)? && !options.force {
                return Err(Failure::Exists { path: text.into() });
            }
            input.store(stream)
        }
        (None, Some(name)) => put_entry(transaction, options, not_root(name)?, &input),
        (None, None) => Ok(0),
    });
    progress.finish();
    let bytes = stored?;
    if common.json {
        let name = options.name.as_ref().map(|name| JsonName::new(name.as_encoded_bytes()));
        output::report(common, &JsonStored { name, stream: options.stream.as_deref(), bytes }, "")?;
    }
    Ok(())
}

fn put_entry(
    transaction: &Transaction<'_>,
    options: &Put,
    path: &Path,
    input: &Input<'_>,
) -> Result<u64, Failure> {
    match transaction.metadata(path) {
        Ok(before) if before.is_directory() => {
            // Fails with the error for a directory.
            transaction.open(path, Mode::READ).map_err(in_entry(path))?;
        }
        Ok(_) if !options.force => return Err(Failure::Exists { path: path.into() }),
        // The other names of a file keep the old content, and so does the target of a link.
        Ok(before) if before.links > 1 || !before.is_file() => {
            transaction.remove(path).map_err(in_entry(path))?;
        }
        Ok(_) | Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(in_entry(path)(error)),
    }
    let bytes = input.store(transaction.open(path, Mode::WRITE).map_err(in_entry(path))?)?;
    let attributes = Attributes::default()
        .with_owner(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        .with_modified(Timestamp::now());
    transaction.set_attributes(path, attributes).map_err(in_entry(path))?;
    Ok(bytes)
}

/// Returns whether a standard stream was closed when the program started: the runtime opens `/dev/null` in its place,
/// for reading and writing, which no shell does.
fn is_closed(stream: impl AsFd) -> bool {
    let null = rustix::fs::stat("/dev/null").map(|null| null.st_rdev);
    let found = fstat(&stream).map(|found| (found.st_rdev, found.st_mode));
    let is_null = match (null, found) {
        (Ok(null), Ok((device, mode))) => {
            device == null
                && rustix::fs::FileType::from_raw_mode(mode)
                    == rustix::fs::FileType::CharacterDevice
        }
        _ => false,
    };
    is_null && fcntl_getfl(&stream).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// The content to store.
struct Input<'a> {
    options: &'a Put,
    interrupt: Interrupt,
    progress: &'a Progress,
}

impl Input<'_> {
    /// Replaces the content of a file or stream. Returns the number of bytes.
    fn store(&self, mut file: File<'_>) -> Result<u64, Failure> {
        let named = at(&self.options.archive);
        file.set_len(0).map_err(&named)?;
        let mut running = Running::start(&self.options.command)?;
        let input = match &mut running {
            Some(running) => running.output()?,
            None => io::stdin().as_fd().try_clone_to_owned().map_err(Failure::Input)?,
        };
        let reader = Interruptible { input, interrupt: &self.interrupt };
        let copied = ar7::copy(self.progress.wrap_read(reader), &mut file);
        if self.interrupt.is_set() {
            let (archive, done) = (self.options.archive.clone(), "the archive is unchanged".into());
            return Err(Failure::Interrupted { archive, done });
        }
        let bytes = copied.map_err(|error| match error {
            CopyError::Read(error) => Failure::Input(error),
            CopyError::Write(error) => named(error.into()),
        })?;
        if let Some(running) = running {
            running.finish()?;
        }
        Ok(bytes)
    }
}

/// A command whose output is stored. If it is dropped before its end, it is killed.
struct Running<'a> {
    command: &'a [std::ffi::OsString],
    child: Child,
}

impl<'a> Running<'a> {
    /// Starts the command, if there is one.
    fn start(command: &'a [std::ffi::OsString]) -> Result<Option<Running<'a>>, Failure> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        let started = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn();
        match started {
            Ok(child) => Ok(Some(Running { command, child })),
            Err(error) => Err(failed(command, &error)),
        }
    }

    fn output(&mut self) -> Result<OwnedFd, Failure> {
        let output = self.child.stdout.take();
        output.map(OwnedFd::from).ok_or_else(|| failed(self.command, &"no output"))
    }

    /// Waits for the end of the command. A failure of the command is a failure.
    fn finish(mut self) -> Result<(), Failure> {
        let status = self.child.wait().map_err(|error| failed(self.command, &error))?;
        if status.success() { Ok(()) } else { Err(failed(self.command, &status)) }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Both do nothing after the command has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(command: &[std::ffi::OsString], reason: &impl ToString) -> Failure {
    let command = command.first().cloned().unwrap_or_default();
    Failure::Command { command, reason: reason.to_string() }
}

/// An input whose reads end with an error when a signal arrives.
struct Interruptible<'a> {
    input: OwnedFd,
    interrupt: &'a Interrupt,
}

impl Read for Interruptible<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.is_set() {
            return Err(io::Error::other("interrupted"));
        }
        // After a pause, the copy notices a failure of its other side.
        match poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&PAUSE))? {
            0 => Err(io::ErrorKind::Interrupted.into()),
            _ => match rustix::io::read(&self.input, &mut *bytes) {
                Err(Errno::AGAIN) => Err(io::ErrorKind::Interrupted.into()),
                outcome => Ok(outcome?),
            },
        }
    }
}
