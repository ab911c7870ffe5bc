//! `ls`: lists entries or streams.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ar7::{Entry, Snapshot};
use serde_json::json;

use super::listing::{Form, Listing};
use super::paths::{expand, in_entry, metadata};
use crate::arguments::{Common, Ls};
use crate::exit::Failure;
use crate::opened::Opened;

/// Lists the entries, using bounded memory.
pub(crate) fn run(common: &Common, options: &Ls) -> Result<(), Failure> {
    let opened = Opened::read(common, &options.archive)?;
    let snapshot = opened.snapshot()?;
    let form = match options {
        _ if common.json => Form::Document,
        Ls { json_lines: true, .. } => Form::Lines,
        Ls { null: true, .. } => Form::Null,
        Ls { long: true, .. } => Form::Long,
        _ => Form::Names,
    };
    let mut listing = Listing::begin(form)?;
    if options.streams {
        streams(&opened, &snapshot, &mut listing)?;
    } else {
        entries(&snapshot, options, &mut listing)?;
    }
    listing.end(&options.archive)
}

/// Lists the entries of a directory under their names, and other entries under their paths.
fn entries(snapshot: &Snapshot, options: &Ls, listing: &mut Listing) -> Result<(), Failure> {
    let typed = options.path.as_deref().unwrap_or(OsStr::new(""));
    let is_pattern = !snapshot.exists(typed).map_err(in_entry(Path::new(typed)))?;
    for path in expand(snapshot, typed)? {
        let metadata = metadata(snapshot, &path)?;
        let is_directory = metadata.is_directory();
        if is_pattern || !is_directory {
            let entry = entry_at(snapshot, &path)?;
            listing.entry(snapshot, &path, &entry)?;
        }
        let base = if is_pattern { Path::new("") } else { &path };
        if is_directory && options.recursive {
            for entry in snapshot.walk(&path).map_err(in_entry(&path))? {
                list(snapshot, base, entry, listing)?;
            }
        } else if is_directory && !is_pattern {
            for entry in snapshot.list(&path).map_err(in_entry(&path))? {
                list(snapshot, base, entry, listing)?;
            }
        }
    }
    Ok(())
}

fn list(
    snapshot: &Snapshot,
    base: &Path,
    entry: ar7::Result<Entry>,
    listing: &mut Listing,
) -> Result<(), Failure> {
    let Some(entry) = listing.readable(base, entry)? else { return Ok(()) };
    let name = entry.path.strip_prefix(base).unwrap_or(&entry.path).to_owned();
    listing.entry(snapshot, &name, &entry)
}

/// Returns the entry at a path.
pub(crate) fn entry_at(snapshot: &Snapshot, path: &Path) -> Result<Entry, Failure> {
    snapshot.entry(path).map_err(in_entry(path))
}

fn streams(opened: &Opened, snapshot: &Snapshot, listing: &mut Listing) -> Result<(), Failure> {
    for stream in snapshot.streams().map_err(opened.named())? {
        let stream = stream.map_err(opened.named())?;
        let name = stream.id.to_string();
        match listing.form() {
            Form::Document | Form::Lines => listing.document(
                &json!({ "stream": name, "blocks": stream.blocks, "size": stream.len }),
            )?,
            Form::Long => {
                listing.line(&format!("{:>12} ", stream.len), &PathBuf::from(name))?;
            }
            Form::Names | Form::Null => listing.line("", &PathBuf::from(name))?,
        }
    }
    Ok(())
}
