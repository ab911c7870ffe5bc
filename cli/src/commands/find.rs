//! `find`: lists the entries that meet conditions.

use std::ffi::OsStr;
use std::path::Path;

use ar7::{Entry, NamePattern, Snapshot, Timestamp};

use super::listing::{Form, Listing, kind_of};
use super::ls::entry_at;
use super::paths::{expand, in_entry};
use crate::arguments::{Common, Find};
use crate::exit::Failure;
use crate::opened::{Opened, at};

/// Lists the entries that meet all conditions, each with its path.
pub(crate) fn run(common: &Common, options: &Find) -> Result<(), Failure> {
    let names = options.name.iter().map(NamePattern::new).collect::<ar7::Result<Vec<_>>>();
    let conditions = Conditions { options, names: names.map_err(at(&options.archive))? };
    let opened = Opened::read(common, &options.archive)?;
    let snapshot = opened.snapshot()?;
    let form = match options {
        _ if common.json => Form::Document,
        Find { json_lines: true, .. } => Form::Lines,
        Find { null: true, .. } => Form::Null,
        Find { long: true, .. } => Form::Long,
        _ => Form::Names,
    };
    let mut listing = Listing::begin(form)?;
    let everything = [OsStr::new("").to_owned()];
    let paths = if options.paths.is_empty() { &everything[..] } else { &options.paths };
    for typed in paths {
        for path in expand(&snapshot, typed)? {
            find(&snapshot, &path, &conditions, &mut listing)?;
        }
    }
    listing.end(&options.archive)
}

fn find(
    snapshot: &Snapshot,
    path: &Path,
    conditions: &Conditions<'_>,
    listing: &mut Listing,
) -> Result<(), Failure> {
    let entry = entry_at(snapshot, path)?;
    let is_directory = entry.metadata.is_directory();
    // The root directory has no name.
    if entry.path != Path::new("") && conditions.are_met(&entry) {
        listing.entry(snapshot, &entry.path, &entry)?;
    }
    if is_directory {
        for found in snapshot.walk(path).map_err(in_entry(path))? {
            let Some(entry) = listing.readable(path, found)? else { continue };
            if conditions.are_met(&entry) {
                listing.entry(snapshot, &entry.path, &entry)?;
            }
        }
    }
    Ok(())
}

struct Conditions<'a> {
    options: &'a Find,
    names: Vec<NamePattern>,
}

impl Conditions<'_> {
    fn are_met(&self, entry: &Entry) -> bool {
        let Find { kind, larger, smaller, newer, older, .. } = self.options;
        let metadata = &entry.metadata;
        let modified = metadata.attributes.modified;
        let is_after = |time: &Timestamp| modified > *time;
        (self.names.is_empty() || self.names.iter().any(|name| name.is_match(entry.name())))
            && (kind.is_empty()
                || kind.iter().any(|kind| kind.name() == kind_of(metadata.file_type).1))
            && larger.is_none_or(|size| metadata.is_file() && metadata.len > size)
            && smaller.is_none_or(|size| metadata.is_file() && metadata.len < size)
            && newer.as_ref().is_none_or(is_after)
            && older.as_ref().is_none_or(|time| modified < *time)
    }
}
