//! Standard output, and lines on standard error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ar7::PathText;
use serde::Serialize;

use crate::arguments::Common;
use crate::exit::Failure;

/// The pipe capacity in bytes to ask for: the most that Linux grants without privileges.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PIPE_BYTES: usize = 1 << 20;

/// Prints the result of a command, as [`print()`] does. A line is only a summary, which `--quiet` suppresses.
pub(crate) fn report(
    common: &Common,
    document: &impl Serialize,
    line: Option<String>,
) -> Result<(), Failure> {
    print(common, document, line.filter(|_| !common.quiet))
}

/// Prints one JSON document with `--json`, and lines of text otherwise.
pub(crate) fn print(
    common: &Common,
    document: &impl Serialize,
    lines: impl IntoIterator<Item = impl Display>,
) -> Result<(), Failure> {
    let mut output = Output::new();
    if common.json {
        return output.document(document);
    }
    lines.into_iter().try_for_each(|line| output.line(&line))?;
    output.finish()
}

/// Writes a JSON document as one line, at once.
pub(crate) fn json_line(document: &impl Serialize) -> Result<(), Failure> {
    let mut output = Output::new();
    output.json_line(document)?;
    output.finish()
}

/// Writes a failure or a warning on standard error, as one line after the program's name.
pub(crate) fn warn(message: &impl Display) {
    let message = message.to_string();
    tell(&format!("ar7: {}\n", PathText::new(&message)));
}

/// Writes text on standard error. If that is not possible the work continues, because a lost message must not cost a
/// backup.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
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
    pub(crate) fn line(&mut self, line: &impl Display) -> Result<(), Failure> {
        self.write(format!("{line}\n").as_bytes())
    }

    /// Writes a name, which is escaped on a terminal.
    pub(crate) fn name(&mut self, name: &Path) -> Result<(), Failure> {
        if self.is_terminal {
            return self.write(PathText::new(name).to_string().as_bytes());
        }
        self.write(name.as_os_str().as_bytes())
    }

    /// Writes a JSON value.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, value)
            .map_err(|error| Failure::Output(error.into()))
    }

    /// Writes a JSON value as a line.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.json(value)?;
        self.write(b"\n")
    }

    /// Writes a JSON document and flushes the buffer.
    pub(crate) fn document(mut self, value: &impl Serialize) -> Result<(), Failure> {
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

/// A list that is printed while its elements are found: as text, as one JSON document, or as a document in each line.
pub(crate) struct List {
    pub(crate) output: Output,
    form: Form,
    count: u64,
    /// The first failure of [`List::add`].
    outcome: Result<(), Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Document,
    Lines,
}

impl List {
    /// Begins a list, which has a name in a document.
    pub(crate) fn begin(common: &Common, json_lines: bool, name: &str) -> Result<List, Failure> {
        let form = match (json_lines, common.json) {
            (true, _) => Form::Lines,
            (false, true) => Form::Document,
            (false, false) => Form::Text,
        };
        let mut output = Output::new();
        if form == Form::Document {
            output.write(format!("{{\"{name}\":[").as_bytes())?;
        }
        Ok(List { output, form, count: 0, outcome: Ok(()) })
    }

    /// Returns whether elements are printed as text, by the caller.
    pub(crate) fn is_text(&self) -> bool {
        self.form == Form::Text
    }

    /// Prints an element of a document.
    pub(crate) fn element(&mut self, element: &impl Serialize) -> Result<(), Failure> {
        if self.form == Form::Lines {
            return self.output.json_line(element);
        }
        self.output.write(if self.count == 0 { b"\n" } else { b",\n" })?;
        self.count += 1;
        self.output.json(element)
    }

    /// Prints an element, as text if it has any. A failure of standard output is reported only at the end, because the
    /// work matters more.
    pub(crate) fn add<T: Serialize>(&mut self, element: &T, text: impl Fn(&T) -> Option<String>) {
        let written = match self.form {
            Form::Text => text(element).map_or(Ok(()), |text| self.output.line(&text)),
            _ => self.element(element),
        };
        if self.outcome.is_ok() {
            self.outcome = written;
        }
    }

    /// Ends the list.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.outcome?;
        if self.form == Form::Document {
            self.output.write(b"]}\n")?;
        }
        self.output.finish()
    }

    /// Ends the list with a further field, or with text.
    pub(crate) fn end_with(
        mut self,
        name: &str,
        value: &impl Serialize,
        text: Option<String>,
    ) -> Result<(), Failure> {
        self.outcome?;
        match self.form {
            Form::Text => text.into_iter().try_for_each(|text| self.output.line(&text))?,
            Form::Document => {
                self.output.write(format!("],\n\"{name}\":").as_bytes())?;
                self.output.json(value)?;
                self.output.write(b"}\n")?;
            }
            Form::Lines => self.output.json_line(&BTreeMap::from([(name, value)]))?,
        }
        self.output.finish()
    }
}
