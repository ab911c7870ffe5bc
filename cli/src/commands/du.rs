//! `du`: the bytes and blocks below each directory.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ar7::{Metadata, Snapshot};
use indicatif::BinaryBytes;
use serde::Serialize;

use super::listing::{Form, Listing};
use super::ls::entry_at;
use super::paths::{expand, in_entry};
use crate::arguments::{BLOCK_BYTES, Common, Du};
use crate::exit::Failure;
use crate::json::JsonName;
use crate::opened::Opened;

/// A directory, and what is in it so far.
struct Sum {
    path: PathBuf,
    bytes: u64,
    blocks: u64,
}

#[derive(Serialize)]
struct JsonSum {
    #[serde(flatten)]
    name: JsonName,
    bytes: u64,
    blocks: u64,
}

/// Prints a line for each directory, after those below it.
pub(crate) fn run(common: &Common, options: &Du) -> Result<(), Failure> {
    let opened = Opened::read(common, &options.archive)?;
    let snapshot = opened.snapshot()?;
    let form = match options {
        _ if common.json => Form::Document,
        Du { json_lines: true, .. } => Form::Lines,
        _ => Form::Names,
    };
    let mut usage = Usage { options, listing: Listing::begin(form)?, counted: HashSet::new() };
    let typed = options.path.as_deref().unwrap_or(OsStr::new(""));
    for path in expand(&snapshot, typed)? {
        usage.add_up(&snapshot, &path)?;
    }
    usage.listing.end(&options.archive)
}

struct Usage<'a> {
    options: &'a Du,
    listing: Listing,
    /// Inodes of files with several names, whose content counts once.
    counted: HashSet<u64>,
}

impl Usage<'_> {
    fn add_up(&mut self, snapshot: &Snapshot, root: &Path) -> Result<(), Failure> {
        let entry = entry_at(snapshot, root)?;
        let mut sums = vec![self.sum(entry.path, &entry.metadata)];
        if entry.metadata.is_directory() {
            for found in snapshot.walk(root).map_err(in_entry(root))? {
                let Some(entry) = self.listing.readable(root, found)? else { continue };
                // A walk returns everything in a directory before it leaves the directory.
                while sums.len() > 1
                    && sums.last().is_some_and(|sum| !entry.path.starts_with(&sum.path))
                {
                    self.leave(&mut sums)?;
                }
                let sum = self.sum(entry.path, &entry.metadata);
                if entry.metadata.is_directory() {
                    sums.push(sum);
                } else if let Some(above) = sums.last_mut() {
                    above.bytes += sum.bytes;
                    above.blocks += sum.blocks;
                }
            }
        }
        while !sums.is_empty() {
            self.leave(&mut sums)?;
        }
        Ok(())
    }

    fn sum(&mut self, path: PathBuf, metadata: &Metadata) -> Sum {
        let is_new =
            metadata.links < 2 || metadata.is_directory() || self.counted.insert(metadata.inode);
        let (bytes, blocks) = if is_new { (metadata.len, metadata.blocks()) } else { (0, 0) };
        Sum { path, bytes, blocks }
    }

    /// Prints the innermost directory, and adds it to the one above.
    fn leave(&mut self, sums: &mut Vec<Sum>) -> Result<(), Failure> {
        let Some(sum) = sums.pop() else { return Ok(()) };
        if let Some(above) = sums.last_mut() {
            above.bytes += sum.bytes;
            above.blocks += sum.blocks;
        }
        if self.options.depth.is_some_and(|depth| sums.len() > depth) {
            return Ok(());
        }
        let Sum { path, bytes, blocks } = sum;
        let path = if path == Path::new("") { PathBuf::from(".") } else { path };
        match self.listing.form() {
            Form::Document | Form::Lines => {
                let name = JsonName::new(path.as_os_str().as_bytes());
                self.listing.document(&JsonSum { name, bytes, blocks })
            }
            _ if self.options.human_readable => {
                let (bytes, blocks) = (BinaryBytes(bytes), BinaryBytes(blocks * BLOCK_BYTES));
                // An alignment needs the text.
                let (bytes, blocks) = (bytes.to_string(), blocks.to_string());
                self.listing.line(&format!("{bytes:>12} {blocks:>12} "), &path)
            }
            _ => self.listing.line(&format!("{bytes:>14} {blocks:>10} "), &path),
        }
    }
}
