//! Lists of entries, as `ls`, `find` and `du` print them: one line or document for each.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ar7::{Device, Entry, Error, FileType, Metadata, Snapshot};
use serde::Serialize;

use super::paths::in_entry;
use crate::exit::{Code, Failure};
use crate::json::{JsonName, JsonTarget};
use crate::output::Output;
use crate::shown::Shown;
use crate::sizes::{minute_text, time_text};
use crate::stderr;

/// How each entry is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line with the name.
    Names,
    /// A line with mode, links, owner, size, mtime and name.
    Long,
    /// The name with a byte of zero at its end.
    Null,
    /// One JSON document with all entries.
    Document,
    /// A JSON document in each line.
    Lines,
}

/// Standard output with a list.
pub(crate) struct Listing {
    output: Output,
    form: Form,
    count: u64,
    /// The number of damaged entries, each of which was reported.
    bad: u64,
}

#[derive(Serialize)]
struct JsonEntry {
    #[serde(flatten)]
    name: JsonName,
    #[serde(rename = "type")]
    kind: &'static str,
    inode: u64,
    mode: String,
    links: u32,
    uid: u32,
    gid: u32,
    size: u64,
    modified: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(flatten)]
    target: Option<JsonTarget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_extended_attributes: bool,
}

impl Listing {
    pub(crate) fn begin(form: Form) -> Result<Listing, Failure> {
        let mut output = Output::new();
        if form == Form::Document {
            output.write(b"{\"entries\":[")?;
        }
        Ok(Listing { output, form, count: 0, bad: 0 })
    }

    /// Ends the list. Fails if entries were damaged.
    pub(crate) fn end(mut self, archive: &Path) -> Result<(), Failure> {
        if self.form == Form::Document {
            self.output.write(b"]}\n")?;
        }
        self.output.finish()?;
        match self.bad {
            0 => Ok(()),
            count => Err(Failure::Findings { archive: archive.to_owned(), count }),
        }
    }

    /// Returns the entry of a list, or reports that it is damaged: the rest of the archive may still be readable.
    pub(crate) fn readable(
        &mut self,
        path: &Path,
        entry: Result<Entry, Error>,
    ) -> Result<Option<Entry>, Failure> {
        match entry.map_err(in_entry(path)) {
            Ok(entry) => Ok(Some(entry)),
            Err(failure) if failure.code() == Code::Damaged => {
                stderr::failure(&failure);
                self.bad += 1;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Prints an entry under a name.
    pub(crate) fn entry(
        &mut self,
        snapshot: &Snapshot,
        name: &Path,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let target = || {
            let is_link = entry.metadata.is_symlink();
            let target = is_link.then(|| snapshot.read_link(&entry.path)).transpose();
            target.map_err(in_entry(&entry.path))
        };
        let bytes = name.as_os_str().as_bytes();
        match self.form {
            Form::Document | Form::Lines => {
                let document = json_entry(bytes, &entry.metadata, target()?.as_deref());
                self.document(&document)
            }
            Form::Null => self.output.write(bytes).and_then(|()| self.output.write(b"\0")),
            Form::Names => {
                let line = self.shown(bytes);
                self.raw_line(&line)
            }
            Form::Long => {
                let mut line = long_line(&entry.metadata).into_bytes();
                line.extend(self.shown(bytes));
                if let Some(target) = target()? {
                    line.extend(b" -> ");
                    line.extend(self.shown(target.as_os_str().as_bytes()));
                }
                self.raw_line(&line)
            }
        }
    }

    /// Prints a line before a name.
    pub(crate) fn line(&mut self, before: &str, name: &Path) -> Result<(), Failure> {
        let mut line = before.as_bytes().to_vec();
        line.extend(self.shown(name.as_os_str().as_bytes()));
        self.raw_line(&line)
    }

    /// Prints a JSON document, as one element of the list.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        match (self.form, self.count) {
            (Form::Lines, _) => {}
            (_, 0) => self.output.write(b"\n")?,
            _ => self.output.write(b",\n")?,
        }
        self.count += 1;
        self.output.json(document)?;
        if self.form == Form::Lines { self.output.write(b"\n") } else { Ok(()) }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    fn raw_line(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.output.write(line)?;
        self.output.write(b"\n")
    }

    /// Returns a name as it is, or escaped if it is printed on a terminal.
    fn shown(&self, name: &[u8]) -> Vec<u8> {
        if self.output.is_terminal { Shown(name).to_string().into_bytes() } else { name.to_vec() }
    }
}

fn json_entry(name: &[u8], metadata: &Metadata, target: Option<&Path>) -> JsonEntry {
    let attributes = metadata.attributes;
    JsonEntry {
        name: JsonName::new(name),
        kind: kind_of(metadata.file_type).1,
        inode: metadata.inode,
        mode: format!("{:04o}", attributes.mode),
        links: metadata.links,
        uid: attributes.user,
        gid: attributes.group,
        size: metadata.len,
        modified: time_text(attributes.modified),
        stream: metadata.stream.map(|stream| stream.to_string()),
        target: target.map(|target| JsonTarget(target.as_os_str().as_bytes().to_vec())),
        device: metadata.device,
        has_extended_attributes: metadata.has_extended_attributes,
    }
}

fn long_line(metadata: &Metadata) -> String {
    let attributes = metadata.attributes;
    let size = match metadata.device {
        Some(Device { major, minor, .. }) => format!("{major}, {minor}"),
        None => metadata.len.to_string(),
    };
    format!(
        "{}{}{:>3} {:>5} {:>5} {size:>12} {} ",
        mode_text(metadata),
        if metadata.has_extended_attributes { '+' } else { ' ' },
        metadata.links,
        attributes.user,
        attributes.group,
        minute_text(attributes.modified),
    )
}

/// Returns the letter of a type in `ls -l` and `find --kind`, and its name in a document.
pub(crate) fn kind_of(file_type: FileType) -> (char, &'static str) {
    match file_type {
        FileType::File => ('-', "file"),
        FileType::Directory => ('d', "directory"),
        FileType::Symlink => ('l', "symlink"),
        FileType::Fifo => ('p', "fifo"),
        FileType::Socket => ('s', "socket"),
        FileType::CharacterDevice => ('c', "character_device"),
        FileType::BlockDevice => ('b', "block_device"),
        _ => ('?', "unknown"),
    }
}

/// Formats the type and the permissions as `ls -l` does.
fn mode_text(metadata: &Metadata) -> String {
    let mode = metadata.attributes.mode;
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    let mut text = String::from(kind_of(metadata.file_type).0);
    for (place, (special, both, alone)) in [6, 3, 0].into_iter().zip(special) {
        let bits = mode >> place;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => alone,
            (true, true) => both,
        });
    }
    text
}
