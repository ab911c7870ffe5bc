//! `ls`, `find` and `du`: lists of entries, with a line or document for each, in bounded memory.

use std::ffi::OsStr;
use std::iter;
use std::path::{Path, PathBuf};

use ar7::{Device, Entry, ErrorClass, Filter, Metadata, NamePattern, PathText, Snapshot};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::arguments::{BLOCK_BYTES, Common, Du, Find, ListForm, Ls};
use crate::exit::Failure;
use crate::output::{self, List};

/// Lists the entries of a directory under their names, and other entries under their paths; or streams.
pub(super) fn ls(common: &Common, options: &Ls) -> Result<(), Failure> {
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let mut listing = Listing::begin(common, Some(&options.form), options.form.json_lines)?;
    if options.streams {
        listing.streams(&snapshot)?;
        return listing.end();
    }
    let typed = Path::new(options.path.as_deref().unwrap_or(OsStr::new("")));
    let is_pattern = !snapshot.exists(typed).map_err(|error| error.in_entry(typed))?;
    for path in listing.matching(&snapshot, typed)? {
        // A directory can be listed even if its own record is damaged.
        let is_opened = !is_pattern && snapshot.list(&path).is_ok();
        let found: Box<dyn Iterator<Item = ar7::Result<Entry>>> =
            match (is_pattern, options.recursive) {
                (false, true) if is_opened => Box::new(snapshot.walk(&path)?),
                (false, false) if is_opened => Box::new(snapshot.list(&path)?),
                (false, _) => {
                    let entry = snapshot.entry(&path).map_err(|error| error.in_entry(&path))?;
                    Box::new(iter::once(Ok(entry)))
                }
                (true, true) => snapshot.tree(&path)?,
                (true, false) => Box::new(iter::once(snapshot.entry(&path))),
            };
        let base = if is_opened { &path } else { Path::new("") };
        for entry in found {
            let Some(entry) = listing.readable(&path, entry)? else { continue };
            let name = entry.path.strip_prefix(base).unwrap_or(&entry.path).to_owned();
            listing.entry(&snapshot, &name, entry)?;
        }
    }
    listing.end()
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
    let mut listing = Listing::begin(common, Some(&options.form), options.form.json_lines)?;
    let everything = [OsStr::new("").to_owned()];
    let paths = if options.paths.is_empty() { &everything[..] } else { &options.paths };
    for typed in paths {
        for path in listing.matching(&snapshot, typed)? {
            for found in snapshot.tree(&path)? {
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
    let mut listing = Listing::begin(common, None, options.json_lines)?;
    let typed = options.path.as_deref().unwrap_or(OsStr::new(""));
    for path in listing.matching(&snapshot, typed)? {
        for usage in snapshot.usage(&path).map_err(|error| error.in_entry(&path))? {
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
                listing.line(&format!("{bytes:>12} {blocks:>12} "), &usage.path, None)?;
            } else {
                listing.line(&format!("{bytes:>14} {blocks:>10} "), &usage.path, None)?;
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
struct Listed<'a> {
    #[serde(flatten)]
    entry: Entry,
    #[serde(flatten)]
    target: Option<PathText<'a>>,
}

impl<'a> Listing<'a> {
    fn begin(
        common: &Common,
        form: Option<&'a ListForm>,
        json_lines: bool,
    ) -> Result<Listing<'a>, Failure> {
        Ok(Listing { list: List::begin(common, json_lines, "entries")?, form, bad: 0 })
    }

    /// Ends the list. Fails if entries were damaged.
    fn end(self) -> Result<(), Failure> {
        self.list.end()?;
        if self.bad > 0 { Err(Failure::findings(self.bad)) } else { Ok(()) }
    }

    /// Returns the paths that match a pattern. Reports directories of which names are damaged.
    fn matching(
        &mut self,
        snapshot: &Snapshot,
        typed: impl AsRef<Path>,
    ) -> Result<Vec<PathBuf>, Failure> {
        let mut damaged = Vec::new();
        let paths = snapshot.matching_readable(typed, |error| damaged.push(error))?;
        for error in damaged {
            self.unless_damaged::<()>(Err(error))?;
        }
        Ok(paths)
    }

    /// Returns an element of the list, or reports that it is damaged: the rest of the archive may still be readable.
    fn readable<T>(&mut self, path: &Path, found: ar7::Result<T>) -> Result<Option<T>, Failure> {
        self.unless_damaged(found.map_err(|error| error.in_entry(path)))
    }

    /// Returns a value, or reports that it is damaged.
    fn unless_damaged<T>(&mut self, found: ar7::Result<T>) -> Result<Option<T>, Failure> {
        match found {
            Err(error) if error.class() == ErrorClass::Damaged => {
                output::warn(&error);
                self.bad += 1;
                Ok(None)
            }
            found => Ok(Some(found?)),
        }
    }

    fn streams(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        for stream in snapshot.streams()? {
            let Some(stream) = self.unless_damaged(stream)? else { continue };
            let is_long = self.form.is_some_and(|form| form.long);
            let size = if is_long { format!("{:>12} ", stream.len) } else { String::new() };
            if self.list.is_text() {
                self.line(&size, Path::new(&stream.id.to_string()), None)?;
            } else {
                self.list.element(&stream)?;
            }
        }
        Ok(())
    }

    /// Prints an entry under a name.
    fn entry(&mut self, snapshot: &Snapshot, name: &Path, entry: Entry) -> Result<(), Failure> {
        let is_long = self.form.is_some_and(|form| form.long);
        let has_target = entry.metadata.is_symlink() && (is_long || !self.list.is_text());
        let target = has_target.then(|| snapshot.read_link(&entry.path)).transpose();
        let target = self.readable(&entry.path, target)?.flatten();
        if !self.list.is_text() {
            let target = target.as_ref().map(|target| PathText::new(target).field("target"));
            let mut entry = entry;
            name.clone_into(&mut entry.path);
            return self.list.element(&Listed { entry, target });
        }
        if self.form.is_some_and(|form| form.null) {
            self.list.output.write(name.as_os_str().as_encoded_bytes())?;
            return self.list.output.write(b"\0");
        }
        let before = if is_long { long_line(&entry.metadata) } else { String::new() };
        self.line(&before, name, target.as_deref())
    }

    /// Prints a line with text before a name, and the target of a symbolic link after it.
    fn line(&mut self, before: &str, name: &Path, target: Option<&Path>) -> Result<(), Failure> {
        let output = &mut self.list.output;
        output.write(before.as_bytes())?;
        output.name(name)?;
        if let Some(target) = target {
            output.write(b" -> ")?;
            output.name(target)?;
        }
        output.write(b"\n")
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
        metadata.mode_text(),
        if metadata.has_extended_attributes { '+' } else { ' ' },
        metadata.links,
        attributes.user,
        attributes.group,
        attributes.modified.to_local_minute(),
    )
}
