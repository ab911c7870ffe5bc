//! `ls`, `find` and `du`: lists of entries, with a line or document for each, in bounded memory.

use std::ffi::OsStr;
use std::iter;
use std::path::{Path, PathBuf};

use ar7::{Entry, Filter, NamePattern, PathText, Size, Snapshot};
use serde::Serialize;

use crate::arguments::{Common, Du, Find, ListForm, Ls};
use crate::damages::Damages;
use crate::exit::Failure;
use crate::output::Output;

/// Lists the entries of a directory under their names, and other entries under their paths; or streams.
pub(super) fn ls(common: &Common, archive: &Path, options: &Ls) -> Result<(), Failure> {
    let mut listing = Listing::begin(common, archive, &options.form)?;
    if options.streams {
        listing.streams()?;
        return listing.end();
    }
    let snapshot = listing.snapshot.clone();
    let typed = Path::new(options.path.as_deref().unwrap_or(OsStr::new("")));
    let is_pattern = !snapshot.exists(typed).map_err(|error| error.in_entry(typed))?;
    for path in listing.damages.matching(&snapshot, typed)? {
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
            listing.entry(&name, entry)?;
        }
    }
    listing.end()
}

/// Lists the entries that meet all conditions, each with its path.
pub(super) fn find(common: &Common, archive: &Path, options: &Find) -> Result<(), Failure> {
    let bytes = |size: Option<Size>| size.map(|size| size.0);
    let filter = Filter::new().larger(bytes(options.larger)).smaller(bytes(options.smaller));
    let filter = filter.newer(options.newer).older(options.older);
    let mut filter = options.kind.iter().copied().fold(filter, Filter::file_type);
    for name in &options.name {
        filter = filter.name(NamePattern::new(name)?);
    }
    let mut listing = Listing::begin(common, archive, &options.form)?;
    let snapshot = listing.snapshot.clone();
    let everything = options.paths.is_empty().then_some(Path::new(""));
    for typed in options.paths.iter().map(Path::new).chain(everything) {
        for path in listing.damages.matching(&snapshot, typed)? {
            for found in snapshot.tree(&path)? {
                let Some(entry) = listing.readable(&path, found)? else { continue };
                if filter.matches(&entry) {
                    listing.entry(&entry.path.clone(), entry)?;
                }
            }
        }
    }
    listing.end()
}

/// Prints the bytes and blocks below each directory, after those of the directories in it.
pub(super) fn du(common: &Common, archive: &Path, options: &Du) -> Result<(), Failure> {
    let form = ListForm { long: false, null: false, json_lines: options.json_lines };
    let mut listing = Listing::begin(common, archive, &form)?;
    let snapshot = listing.snapshot.clone();
    let typed = Path::new(options.path.as_deref().unwrap_or(OsStr::new("")));
    for path in listing.damages.matching(&snapshot, typed)? {
        for usage in snapshot.usage(&path).map_err(|error| error.in_entry(&path))? {
            let Some(mut usage) = listing.readable(&path, usage)? else { continue };
            if options.depth.is_some_and(|depth| usage.depth > depth) {
                continue;
            }
            if usage.path == Path::new("") {
                usage.path = PathBuf::from(".");
            }
            let (bytes, stored) = (usage.bytes, usage.stored_bytes);
            let columns = if options.human_readable {
                format!("{:>12} {:>12} ", Size(bytes), Size(stored))
            } else {
                format!("{bytes:>14} {stored:>14} ")
            };
            listing.line(&usage, &columns, &usage.path, None)?;
        }
    }
    listing.end()
}

/// Standard output with a list of entries of an archive.
struct Listing<'a> {
    snapshot: Snapshot,
    output: Output,
    form: &'a ListForm,
    damages: Damages,
}

/// An entry with the bytes that it takes in the archive, and the target of a symbolic link, which is represented like a
/// name.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    entry: Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
    #[serde(flatten)]
    target: Option<PathText<'a>>,
}

impl<'a> Listing<'a> {
    fn begin(common: &Common, archive: &Path, form: &'a ListForm) -> Result<Listing<'a>, Failure> {
        let snapshot = common.reader(archive)?.snapshot()?;
        let output = Output::list(common, form.json_lines, "entries")?;
        Ok(Listing { snapshot, output, form, damages: Damages::default() })
    }

    /// Ends the list. Fails if entries were damaged.
    fn end(self) -> Result<(), Failure> {
        self.output.end()?;
        self.damages.check()
    }

    /// Returns what was found below a path, or reports that it is damaged.
    fn readable<T>(&mut self, path: &Path, found: ar7::Result<T>) -> Result<Option<T>, Failure> {
        self.damages.readable(found.map_err(|error| error.in_entry(path)))
    }

    fn streams(&mut self) -> Result<(), Failure> {
        for stream in self.snapshot.clone().streams()? {
            let Some(stream) = self.damages.readable(stream)? else { continue };
            let size = if self.form.long { format!("{:>12} ", stream.len) } else { String::new() };
            self.line(&stream, &size, Path::new(&stream.id.to_string()), None)?;
        }
        Ok(())
    }

    /// Prints an entry under a name.
    fn entry(&mut self, name: &Path, mut entry: Entry) -> Result<(), Failure> {
        let is_long = self.form.long;
        let has_target = entry.metadata.is_symlink() && (is_long || !self.output.is_text());
        let target = has_target.then(|| self.snapshot.read_link(&entry.path)).transpose();
        let target = self.readable(&entry.path, target)?.flatten();
        if self.output.is_text() && self.form.null {
            self.output.write(name.as_os_str().as_encoded_bytes())?;
            return self.output.write(b"\0");
        }
        let is_file = entry.metadata.is_file() && (is_long || !self.output.is_text());
        let stored = is_file.then(|| self.snapshot.stored_bytes(&entry.metadata)).transpose();
        let stored_bytes = self.readable(&entry.path, stored)?.flatten();
        let columns = if is_long { entry.metadata.columns(stored_bytes) } else { String::new() };
        name.clone_into(&mut entry.path);
        let text = target.as_ref().map(PathText::new);
        let target_text = text.map(|text| text.field("target"));
        let listed = Listed { entry, stored_bytes, target: target_text };
        self.line(&listed, &columns, name, target.as_deref())
    }

    /// Prints a line with a name, or an element of a document.
    fn line(
        &mut self,
        element: &impl Serialize,
        columns: &str,
        name: &Path,
        target: Option<&Path>,
    ) -> Result<(), Failure> {
        if !self.output.is_text() {
            return self.output.element(element);
        }
        self.output.write(columns.as_bytes())?;
        self.output.name(name)?;
        if let Some(target) = target {
            self.output.write(b" -> ")?;
            self.output.name(target)?;
        }
        self.output.write(b"\n")
    }
}
