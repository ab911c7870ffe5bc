//! Standard output.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::arguments::Common;
use crate::exit::Failure;

/// The pipe capacity in bytes to ask for: the most that Linux grants without privileges.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PIPE_BYTES: usize = 1 << 20;

/// Prints the result of a command: one JSON document with `--json`, otherwise a line unless `--quiet` was given.
pub(crate) fn report(
    common: &Common,
    document: &impl Serialize,
    line: &str,
) -> Result<(), Failure> {
    if common.json {
        return Output::new().document(document);
    }
    if common.quiet {
        return Ok(());
    }
    let mut output = Output::new();
    output.line(line)?;
    output.finish()
}

/// Writes a JSON document as one line, at once.
pub(crate) fn json_line(document: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(document).map_err(|error| Failure::Output(error.into()))?;
    line.push(b'\n');
    io::stdout().lock().write_all(&line).map_err(Failure::Output)
}

/// Standard output, buffered and locked.
pub(crate) struct Output {
    writer: BufWriter<StdoutLock<'static>>,
    /// Whether it is a terminal.
    pub(crate) is_terminal: bool,
}

impl Output {
    /// Locks standard output for large content. If it is a pipe, enlarges its buffer so that it fills up less often.
    pub(crate) fn for_much() -> Output {
        // This fails if standard output is not a pipe or the limit is lower. The capacity then stays as it is.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = rustix::pipe::fcntl_setpipe_size(io::stdout(), PIPE_BYTES);
        Output::new()
    }

    /// Locks standard output.
    pub(crate) fn new() -> Output {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Output { writer: BufWriter::with_capacity(64 << 10, stdout.lock()), is_terminal }
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(Failure::Output)
    }

    /// Returns the buffer, for content. It reports the errors of standard output.
    pub(crate) fn writer(&mut self) -> &mut impl Write {
        &mut self.writer
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }

    /// Writes a JSON value.
    pub(crate) fn json<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, value)
            .map_err(|error| Failure::Output(error.into()))
    }

    /// Writes a JSON document and flushes the buffer.
    pub(crate) fn document<T: Serialize>(mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.writer, value)
            .map_err(|error| Failure::Output(error.into()))?;
        self.write(b"\n")?;
        self.finish()
    }

    /// Flushes the buffer. Dropping the output instead would lose an error.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(Failure::Output)
    }
}
