//! `ls`: lists entries or streams.

use std::os::unix::ffi::OsStrExt;

use ar7_engine::format::StoredStream;
use ar7_registry::records::{EntryType, Inode};
use serde::Serialize;

use crate::arguments::{Common, Ls};
use crate::exit::{Code, Failure};
use crate::json::{JsonName, JsonTarget};
use crate::output::Output;
use crate::session::Session;
use crate::shown::Shown;
use crate::sizes::{minute_text, time_text};
use crate::stderr;
use crate::walk::{Found, Step, Walk, find, target_of};

/// The number of streams to read at a time.
const STREAMS_PAGE: usize = 1024;

/// Lists the entries, using bounded memory.
pub(crate) fn run(common: &Common, options: &Ls) -> Result<(), Failure> {
    let session = Session::read(common, &options.archive)?;
    let mut list = List { session: &session, options, output: Output::new(), count: 0, bad: 0 };
    if options.json {
        list.output.write(b"{\"entries\":[")?;
    }
    if options.streams {
        list.streams()?;
    } else {
        list.names()?;
    }
    if options.json {
        list.output.write(b"]}\n")?;
    }
    let List { output, bad, .. } = list;
    output.finish()?;
    match bad {
        0 => Ok(()),
        count => Err(Failure::Findings { archive: session.path.clone(), count }),
    }
}

struct List<'a> {
    session: &'a Session,
    options: &'a Ls,
    output: Output,
    count: u64,
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
}

#[derive(Serialize)]
struct JsonStream {
    stream: String,
    blocks: u32,
    size: u64,
}

impl List<'_> {
    fn names(&mut self) -> Result<(), Failure> {
        let path = self.options.path.as_deref().unwrap_or_default().as_bytes();
        let found = find(&self.session.archive, path)?;
        if found.inode.kind != EntryType::Directory {
            return self.entry(&found);
        }
        let mut walk = Walk::new(&self.session.archive, found.number, Vec::new());
        while let Some(step) = walk.next() {
            let outcome = match step {
                Ok(Step::Left) => Ok(()),
                Ok(Step::Entry(found)) => {
                    self.entry(&found)?;
                    let enters = self.options.recursive && found.inode.kind == EntryType::Directory;
                    if enters { walk.enter(&found) } else { Ok(()) }
                }
                Err(failure) => Err(failure),
            };
            if let Err(failure) = outcome {
                // After damage, the rest of the archive may still be readable.
                if failure.code() != Code::Damaged {
                    return Err(failure);
                }
                stderr::failure(&failure);
                self.bad += 1;
            }
        }
        Ok(())
    }

    fn entry(&mut self, found: &Found) -> Result<(), Failure> {
        if self.options.json {
            let entry = self.json_entry(found)?;
            return self.json(&entry);
        }
        let line = if self.options.long { self.long_line(found)? } else { self.shown(&found.path) };
        self.output.write(&line)?;
        self.output.write(b"\n")
    }

    fn long_line(&self, found: &Found) -> Result<Vec<u8>, Failure> {
        let inode = &found.inode;
        let mut line = format!(
            "{} {:>3} {:>5} {:>5} {:>12} {} ",
            mode_text(inode),
            inode.links,
            inode.attributes.uid,
            inode.attributes.gid,
            inode.size,
            minute_text(inode.attributes.modified),
        )
        .into_bytes();
        line.extend(self.shown(&found.path));
        if inode.kind == EntryType::Symlink {
            line.extend(b" -> ");
            line.extend(self.shown(&target_of(&self.session.archive, found)?));
        }
        Ok(line)
    }

    /// Returns a name as it is, or escaped if it is printed on a terminal.
    fn shown(&self, name: &[u8]) -> Vec<u8> {
        if self.output.is_terminal { Shown(name).to_string().into_bytes() } else { name.to_vec() }
    }

    fn json_entry(&self, found: &Found) -> Result<JsonEntry, Failure> {
        let inode = &found.inode;
        let target = match inode.kind {
            EntryType::Symlink => Some(JsonTarget(target_of(&self.session.archive, found)?)),
            _ => None,
        };
        Ok(JsonEntry {
            name: JsonName::new(&found.path),
            kind: match inode.kind {
                EntryType::File => "file",
                EntryType::Directory => "directory",
                EntryType::Symlink => "symlink",
            },
            inode: found.number.0,
            mode: format!("{:04o}", inode.attributes.mode),
            links: inode.links,
            uid: inode.attributes.uid,
            gid: inode.attributes.gid,
            size: inode.size,
            modified: time_text(inode.attributes.modified),
            stream: inode.stream.map(|stream| stream.to_string()),
            target,
        })
    }

    fn streams(&mut self) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page = self.session.archive.streams(after, STREAMS_PAGE);
            let page = page.map_err(self.session.named())?;
            for stored in &page {
                self.stream(stored)?;
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.record.identity);
        }
    }

    fn stream(&mut self, stored: &StoredStream) -> Result<(), Failure> {
        let record = &stored.record;
        let stream = record.identity.to_string();
        if self.options.json {
            return self.json(&JsonStream { stream, blocks: record.count, size: record.length });
        }
        if self.options.long {
            self.output.write(format!("{:>12} ", record.length).as_bytes())?;
        }
        self.output.line(&stream)
    }

    /// Writes one element of the document's array.
    fn json<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        self.output.write(if self.count == 0 { b"\n" } else { b",\n" })?;
        self.count += 1;
        self.output.json(value)
    }
}

/// Formats the type and the permissions as `ls -l` does.
fn mode_text(inode: &Inode) -> String {
    let kind = match inode.kind {
        EntryType::File => '-',
        EntryType::Directory => 'd',
        EntryType::Symlink => 'l',
    };
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    let mut text = String::from(kind);
    for (place, (special, both, alone)) in [6, 3, 0].into_iter().zip(special) {
        let bits = inode.attributes.mode >> place;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (inode.attributes.mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => alone,
            (true, true) => both,
        });
    }
    text
}
