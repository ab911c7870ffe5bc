//! `ls`, `find` and `du`: lists of entries, with a line or document for each, in bounded memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ar7::{Listed, Listing, Snapshot};
use ar7_arguments::{Common, Du, Find, ListForm, Ls};
use serde::Serialize;

use crate::damages::Damages;
use crate::exit::Failure;
use crate::opened;
use crate::output::Output;

/// Lists the entries of a directory under their names, and other entries under their paths; or streams.
pub(super) fn ls(common: &Common, archive: &Path, options: &Ls) -> Result<(), Failure> {
    let mut printed = Printed::begin(common, archive, &options.form)?;
    if options.streams {
        printed.streams()?;
    } else {
        let listing = Listing::new().recursive(options.recursive);
        printed.list(&listing, options.path.as_deref().unwrap_or_default())?;
    }
    printed.end()
}

/// Lists the entries that meet all conditions, each with its path.
pub(super) fn find(common: &Common, archive: &Path, options: &Find) -> Result<(), Failure> {
    let listing = Listing::new().trees().filter(options.filter()?);
    let mut printed = Printed::begin(common, archive, &options.form)?;
    let everything = options.paths.is_empty().then_some(OsStr::new(""));
    for path in options.paths.iter().map(AsRef::as_ref).chain(everything) {
        printed.list(&listing, path)?;
    }
    printed.end()
}

/// Prints the bytes and blocks below each directory, after those of the directories in it.
pub(super) fn du(common: &Common, archive: &Path, options: &Du) -> Result<(), Failure> {
    let form = ListForm { long: false, null: false, json_lines: options.json_lines };
    let mut printed = Printed::begin(common, archive, &form)?;
    let snapshot = printed.snapshot.clone();
    let pattern = Path::new(options.path.as_deref().unwrap_or_default());
    for path in printed.damages.matching(&snapshot, pattern)? {
        for usage in snapshot.usage(&path).map_err(|error| error.in_entry(&path))? {
            let usage = usage.map_err(|error| error.in_entry(&path));
            let Some(mut usage) = printed.damages.readable(usage)? else { continue };
            if options.depth.is_some_and(|depth| usage.depth > depth) {
                continue;
            }
            if usage.path == Path::new("") {
                usage.path = PathBuf::from(".");
            }
            printed.line(&usage, &usage.columns(options.human_readable), &usage.path, None)?;
        }
    }
    printed.end()
}

/// Standard output with a list of what an archive holds.
struct Printed<'a> {
    snapshot: Snapshot,
    output: Output,
    form: &'a ListForm,
    damages: Damages,
}

impl<'a> Printed<'a> {
    fn begin(common: &Common, archive: &Path, form: &'a ListForm) -> Result<Printed<'a>, Failure> {
        let snapshot = opened::reader(common, archive)?.snapshot()?;
        let output = Output::list(common, form.json_lines, "entries")?;
        Ok(Printed { snapshot, output, form, damages: Damages::default() })
    }

    /// Ends the list. Fails if entries were damaged.
    fn end(self) -> Result<(), Failure> {
        self.output.end()?;
        self.damages.check()
    }

    fn streams(&mut self) -> Result<(), Failure> {
        for stream in self.snapshot.clone().streams()? {
            let Some(stream) = self.damages.readable(stream)? else { continue };
            let size = if self.form.long { format!("{:>12} ", stream.len) } else { String::new() };
            self.line(&stream, &size, Path::new(&stream.id.to_string()), None)?;
        }
        Ok(())
    }

    /// Prints the entries of a list.
    fn list(&mut self, listing: &Listing, pattern: &OsStr) -> Result<(), Failure> {
        let snapshot = self.snapshot.clone();
        let has_details = !self.output.is_text() || (self.form.long && !self.form.null);
        let listing = listing.clone().details(has_details);
        for listed in listing.entries(&snapshot, pattern)? {
            if let Some(listed) = self.damages.readable(listed)? {
                self.entry(&listed)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, listed: &Listed) -> Result<(), Failure> {
        let name = &listed.entry.path;
        if self.output.is_text() && self.form.null {
            self.output.write(name.as_os_str().as_encoded_bytes())?;
            return self.output.write(b"\0");
        }
        let columns = if self.form.long { listed.columns() } else { String::new() };
        self.line(listed, &columns, name, listed.target.as_deref())
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
