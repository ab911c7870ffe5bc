//! Standard output, and lines on standard error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ar7::PathText;
use ar7_arguments::Common;
use serde::Serialize;

use crate::exit::Failure;

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
    Output::new(common, false).end_with_lines(document, lines)
}

/// Writes a failure or a warning on standard error, as one line after the program's name.
pub(crate) fn warn(message: &impl Display) {
    let message = message.to_string();
    tell(&format!("ar7: {}\n", PathText::new(&message)));
}

/// Warns of something about an archive or a file.
pub(crate) fn warn_of(path: &Path, warning: &impl Display) {
    warn(&format_args!("{}: warning: {warning}", PathText::new(path)));
}

/// Writes text on standard error. If that is not possible the work continues, because a lost message must not cost a
/// backup.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// One JSON document.
    Document,
    /// A JSON document in each line.
    Lines,
}

/// Standard output, buffered: text, a list of elements, or events.
pub(crate) struct Output {
    writer: BufWriter<Stdout>,
    /// Whether it is a terminal.
    pub(crate) is_terminal: bool,
    form: Form,
    /// The number of elements of the list in a document.
    count: u64,
    /// The first failure of what is printed during the work.
    outcome: Result<(), Failure>,
}

impl Output {
    /// Opens standard output.
    pub(crate) fn new(common: &Common, json_lines: bool) -> Output {
        let form = match (json_lines, common.json) {
            (true, _) => Form::Lines,
            (false, true) => Form::Document,
            (false, false) => Form::Text,
        };
        let (stdout, outcome) = (io::stdout(), Ok(()));
        let is_terminal = stdout.is_terminal();
        let writer = BufWriter::with_capacity(64 << 10, stdout);
        Output { writer, is_terminal, form, count: 0, outcome }
    }

    /// Begins a list, which has a name in a document.
    pub(crate) fn list(common: &Common, json_lines: bool, name: &str) -> Result<Output, Failure> {
        let mut output = Output::new(common, json_lines);
        if output.form == Form::Document {
            output.write(format!("{{\"{name}\":[").as_bytes())?;
        }
        Ok(output)
    }

    /// Returns whether elements are printed as text, by the caller.
    pub(crate) fn is_text(&self) -> bool {
        self.form == Form::Text
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

    fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, value)
            .map_err(|error| Failure::Output(error.into()))
    }

    fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.json(value)?;
        self.write(b"\n")
    }

    /// Prints an element of a list in a document.
    pub(crate) fn element(&mut self, element: &impl Serialize) -> Result<(), Failure> {
        if self.form == Form::Lines {
            return self.json_line(element);
        }
        self.write(if self.count == 0 { b"\n" } else { b",\n" })?;
        self.count += 1;
        self.json(element)
    }

    /// Prints an element of a list during the work, as text if it has any. A failure is reported only at the end,
    /// because the work matters more.
    pub(crate) fn add<T: Serialize>(&mut self, element: &T, text: impl Fn(&T) -> Option<String>) {
        self.attempt(|output| match output.form {
            Form::Text => text(element).map_or(Ok(()), |text| output.line(&text)),
            _ => output.element(element),
        });
    }

    /// Prints an event during the work, as a document in a line, if the user wants these.
    pub(crate) fn event(&mut self, event: &impl Serialize) {
        if self.form == Form::Lines {
            self.attempt(|output| {
                output.json_line(event)?;
                output.flush()
            });
        }
    }

    /// Prints something during the work, unless that failed before.
    pub(crate) fn attempt(&mut self, write: impl FnOnce(&mut Output) -> Result<(), Failure>) {
        if self.outcome.is_ok() {
            self.outcome = write(self);
        }
    }

    /// Returns whether something could not be printed.
    pub(crate) fn has_failed(&self) -> bool {
        self.outcome.is_err()
    }

    /// Returns the first failure during the work, if there was one.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        std::mem::replace(&mut self.outcome, Ok(()))
    }

    /// Ends a list.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.check()?;
        if self.form == Form::Document {
            self.write(b"]}\n")?;
        }
        self.flush()
    }

    /// Ends a list with a further field, or with text.
    pub(crate) fn end_with(
        mut self,
        name: &str,
        value: &impl Serialize,
        text: Option<String>,
    ) -> Result<(), Failure> {
        self.check()?;
        match self.form {
            Form::Text => text.into_iter().try_for_each(|text| self.line(&text))?,
            Form::Document => {
                self.write(format!("],\n\"{name}\":").as_bytes())?;
                self.json(value)?;
                self.write(b"}\n")?;
            }
            Form::Lines => self.json_line(&BTreeMap::from([(name, value)]))?,
        }
        self.flush()
    }

    /// Ends events with a summary as the last line, and everything else with a document or a line of text.
    pub(crate) fn end_events(
        mut self,
        summary: &impl Serialize,
        document: &impl Serialize,
        line: Option<String>,
    ) -> Result<(), Failure> {
        if self.form == Form::Lines {
            self.json_line(summary)?;
            return self.flush();
        }
        self.end_with_lines(document, line)
    }

    fn end_with_lines(
        mut self,
        document: &impl Serialize,
        lines: impl IntoIterator<Item = impl Display>,
    ) -> Result<(), Failure> {
        if self.form == Form::Document {
            serde_json::to_writer_pretty(&mut self.writer, document)
                .map_err(|error| Failure::Output(error.into()))?;
            self.write(b"\n")?;
        } else {
            lines.into_iter().try_for_each(|line| self.line(&line))?;
        }
        self.flush()
    }

    /// Flushes the buffer. Dropping the output instead would lose an error.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(Failure::Output)
    }
}
