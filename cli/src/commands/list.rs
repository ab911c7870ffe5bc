//! `ls`, `find` and `du`: lists of entries, with a line or document for each, in bounded memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ar7::{Device, Entry, Filter, Metadata, NamePattern, PathText, Snapshot};
use indicatif::BinaryBytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::paths::{expand, in_entry};
use crate::arguments::{BLOCK_BYTES, Common, Du, Find, ListForm, Ls};
use crate::exit::{Code, Failure};
use crate::output::{self, List};
use crate::sizes::minute_text;

/// Lists the entries of a directory under their names, and other entries under their paths; or streams.
pub(super) fn ls(common: &Common, options: &Ls) -> Result<(), Failure> {
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let mut listing = Listing::begin(common, &options.form)?;
    if options.streams {
        streams(&snapshot, &mut listing)?;
        return listing.end();
    }
    let typed = options.path.as_deref().unwrap_or(OsStr::new(""));
    let is_pattern = !snapshot.exists(typed).map_err(in_entry(typed))?;
    for path in expand(&snapshot, typed)? {
        let entry = snapshot.entry(&path);
        let is_directory = is_directory(&snapshot, &path, &entry);
        let is_alone = !is_pattern && !is_directory;
        let entry = if is_alone {
            Some(entry.map_err(in_entry(&path))?)
        } else {
            listing.readable(&path, entry)?
        };
        if let Some(entry) = entry.filter(|_| is_pattern || !is_directory) {
            listing.entry(&snapshot, &path, entry)?;
        }
        let base = if is_pattern { Path::new("") } else { &path };
        let found: Box<dyn Iterator<Item = ar7::Result<Entry>>> = if !is_directory {
            continue;
        } else if options.recursive {
            Box::new(snapshot.walk(&path).map_err(in_entry(&path))?)
        } else if is_pattern {
            continue;
        } else {
            Box::new(snapshot.list(&path).map_err(in_entry(&path))?)
        };
        for entry in found {
            let Some(entry) = listing.readable(base, entry)? else { continue };
            let name = entry.path.strip_prefix(base).unwrap_or(&entry.path).to_owned();
            listing.entry(&snapshot, &name, entry)?;
        }
    }
    listing.end()
}

/// Returns whether an entry is a directory. Its names can be read even if its own record is damaged.
fn is_directory(snapshot: &Snapshot, path: &Path, entry: &ar7::Result<Entry>) -> bool {
    match entry {
        Ok(entry) => entry.metadata.is_directory(),
        Err(_) => snapshot.list(path).is_ok(),
    }
}

fn streams(snapshot: &Snapshot, listing: &mut Listing<'_>) -> Result<(), Failure> {
    for stream in snapshot.streams()? {
        let Some(stream) = listing.unless_damaged(stream.map_err(Failure::from))? else { continue };
        let name = PathBuf::from(stream.id.to_string());
        match listing.form {
            _ if !listing.list.is_text() => listing.list.element(&stream)?,
            Some(ListForm { long: true, .. }) => {
                listing.line(&format!("{:>12} ", stream.len), &name)?;
            }
            _ => listing.line("", &name)?,
        }
    }
    Ok(())
}

/// Lists the entries that meet all conditions, each with its path.
pub(super) fn find(common: &Common, options: &Find) -> Result<(), Failure> {
    let (size, time) = ((options.larger, options.smaller), (options.newer, options.older));
    let filter = Filter::new().larger(size.0).smaller(size.1).newer(time.0).older(time.1);
    let mut filter = options.kind.iter().copied().fold(filter, Filter::file_type);
    for name in &options.name {
        filter = filter.name(NamePattern::new(name)?);
    }
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let mut listing = Listing::begin(common, &options.form)?;
    let everything = [OsStr::new("").to_owned()];
    let paths = if options.paths.is_empty() { &everything[..] } else { &options.paths };
    for typed in paths {
        for path in expand(&snapshot, typed)? {
            let entry = snapshot.entry(&path);
            let is_directory = is_directory(&snapshot, &path, &entry);
            let walk = is_directory.then(|| snapshot.walk(&path)).transpose();
            let below = walk.map_err(in_entry(&path))?.into_iter().flatten();
            // The root directory has no name.
            let is_root = entry.as_ref().is_ok_and(|entry| entry.path == Path::new(""));
            let itself = (!is_root).then_some(entry);
            for found in itself.into_iter().chain(below) {
                let Some(entry) = listing.readable(&path, found)? else { continue };
                if filter.matches(&entry) {
                    listing.entry(&snapshot, &entry.path.clone(), entry)?;
                }
            }
        }
    }
    listing.end()
}

/// Prints the bytes and blocks below each directory, after those of the directories in it.
pub(super) fn du(common: &Common, options: &Du) -> Result<(), Failure> {
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let mut listing =
        Listing { list: List::begin(common, options.json_lines, "entries")?, form: None, bad: 0 };
    for path in expand(&snapshot, options.path.as_deref().unwrap_or(OsStr::new("")))? {
        for usage in snapshot.usage(&path).map_err(in_entry(&path))? {
            let Some(mut usage) = listing.readable(&path, usage)? else { continue };
            if options.depth.is_some_and(|depth| usage.depth > depth) {
                continue;
            }
            if usage.path == Path::new("") {
                usage.path = PathBuf::from(".");
            }
            let (bytes, blocks) = (usage.bytes, usage.blocks);
            if !listing.list.is_text() {
                listing.list.element(&usage)?;
            } else if options.human_readable {
                // An alignment needs the text.
                let size = |bytes| BinaryBytes(bytes).to_string();
                let (bytes, blocks) = (size(bytes), size(blocks * BLOCK_BYTES));
                listing.line(&format!("{bytes:>12} {blocks:>12} "), &usage.path)?;
            } else {
                listing.line(&format!("{bytes:>14} {blocks:>10} "), &usage.path)?;
            }
        }
    }
    listing.end()
}

/// Standard output with a list of entries.
struct Listing<'a> {
    list: List,
    /// How entries are printed as text.
    form: Option<&'a ListForm>,
    /// The number of damaged entries, each of which was reported.
    bad: u64,
}

/// An entry with the target of a symbolic link, which is represented like a name.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    entry: Entry,
    #[serde(flatten)]
    target: Option<Map<String, Value>>,
}

impl<'a> Listing<'a> {
    fn begin(common: &Common, form: &'a ListForm) -> Result<Listing<'a>, Failure> {
        let list = List::begin(common, form.json_lines, "entries")?;
        Ok(Listing { list, form: Some(form), bad: 0 })
    }

    /// Ends the list. Fails if entries were damaged.
    fn end(self) -> Result<(), Failure> {
        self.list.end()?;
        if self.bad > 0 { Err(Failure::Findings { count: self.bad }) } else { Ok(()) }
    }

    /// Returns an element of the list, or reports that it is damaged: the rest of the archive may still be readable.
    fn readable<T>(&mut self, path: &Path, found: ar7::Result<T>) -> Result<Option<T>, Failure> {
        self.unless_damaged(found.map_err(in_entry(path)))
    }

    /// Returns a value, or reports that it is damaged.
    fn unless_damaged<T>(&mut self, found: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.code() == Code::Damaged => {
                output::warn(&failure);
                self.bad += 1;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Prints an entry under a name.
    fn entry(&mut self, snapshot: &Snapshot, name: &Path, entry: Entry) -> Result<(), Failure> {
        let is_long = self.form.is_some_and(|form| form.long);
        let has_target = entry.metadata.is_symlink() && (is_long || !self.list.is_text());
        let target = has_target.then(|| snapshot.read_link(&entry.path)).transpose();
        let target = self.readable(&entry.path, target)?.flatten();
        if !self.list.is_text() {
            let target = target.map(|target| fields_of("target", &target)).transpose()?;
            let mut entry = entry;
            name.clone_into(&mut entry.path);
            return self.list.element(&Listed { entry, target });
        }
        let output = &mut self.list.output;
        match self.form {
            Some(ListForm { null: true, .. }) => {
                output.write(name.as_os_str().as_encoded_bytes())?;
                output.write(b"\0")
            }
            Some(ListForm { long: true, .. }) => {
                output.write(long_line(&entry.metadata).as_bytes())?;
                output.name(name)?;
                if let Some(target) = target {
                    output.write(b" -> ")?;
                    output.name(&target)?;
                }
                output.write(b"\n")
            }
            _ => self.line("", name),
        }
    }

    /// Prints a line before a name.
    fn line(&mut self, before: &str, name: &Path) -> Result<(), Failure> {
        self.list.output.write(before.as_bytes())?;
        self.list.output.name(name)?;
        self.list.output.write(b"\n")
    }
}

/// Returns the fields that represent a path, with another name.
fn fields_of(field: &str, path: &Path) -> Result<Map<String, Value>, Failure> {
    let fields = serde_json::to_value(PathText::new(path));
    let fields = fields.map_err(|error| Failure::Output(error.into()))?;
    let fields = fields.as_object().cloned().unwrap_or_default();
    Ok(fields.into_iter().map(|(name, value)| (name.replace("name", field), value)).collect())
}

fn long_line(metadata: &Metadata) -> String {
    let attributes = metadata.attributes;
    let size = match metadata.device {
        Some(Device { major, minor, .. }) => format!("{major}, {minor}"),
        None => metadata.len.to_string(),
    };
    format!(
        "{}{}{:>3} {:>5} {:>5} {size:>12} {} ",
        metadata.mode_text(),
        if metadata.has_extended_attributes { '+' } else { ' ' },
        metadata.links,
        attributes.user,
        attributes.group,
        minute_text(attributes.modified),
    )
}
