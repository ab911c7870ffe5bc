//! `rm`: removes entries, and with `-r` directories and everything in them.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use serde_json::json;

use super::paths::{expand, in_entry, metadata, not_root};
use crate::arguments::{Common, Remove};
use crate::commands::wipe;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::opened::Opened;
use crate::output;
use crate::progress::{Counts, Progress};

/// Removes the entries and frees their blocks.
pub(crate) fn run(common: &Common, options: &Remove) -> Result<(), Failure> {
    let opened = Opened::write(common, &options.archive)?;
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Entries);
    let removed =
        check(&opened, options).and_then(|checked| remove(&opened, checked, &interrupt, &progress));
    progress.finish();
    let outcome = removed.and_then(|count| {
        let wiped = if options.wipe { Some(wipe::wipe(common, &opened)?) } else { None };
        Ok((count, wiped))
    });
    let (count, wiped) = opened.finish_after(outcome)?;
    if common.json {
        return output::report(common, &json!({ "removed": count, "wiped": wiped }), "");
    }
    wiped.map_or(Ok(()), |wiped| wipe::report(common, wiped))
}

/// The entries to remove: those that are not directories, and directories.
struct Checked {
    others: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

/// Finds every entry before the first one is removed.
fn check(opened: &Opened, options: &Remove) -> Result<Checked, Failure> {
    let snapshot = opened.snapshot()?;
    let mut paths = Vec::new();
    for typed in &options.paths {
        not_root(typed)?;
        paths.extend(expand(&snapshot, typed)?);
    }
    paths.sort_unstable();
    paths.dedup();
    let mut checked = Checked { others: Vec::new(), directories: Vec::new() };
    for path in paths {
        if !metadata(&snapshot, &path)?.is_directory() {
            checked.others.push(path);
        } else if options.recursive {
            // What is below it comes after it.
            if !checked.directories.last().is_some_and(|above| path.starts_with(above)) {
                checked.directories.push(path);
            }
        } else {
            let (found, needed) =
                ("a directory", "a file or symbolic link (-r removes directories)");
            return Err(Failure::EntryType {
                path: path.into_os_string().into_vec(),
                found,
                needed,
            });
        }
    }
    checked.others.retain(|path| !checked.directories.iter().any(|above| path.starts_with(above)));
    Ok(checked)
}

fn remove(
    opened: &Opened,
    checked: Checked,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<u64, Failure> {
    let transaction = opened.archive.begin().map_err(opened.named())?;
    for path in &checked.others {
        transaction.remove(path).map_err(in_entry(path))?;
    }
    transaction.commit().map_err(opened.named())?;
    let mut count = checked.others.len() as u64;
    for path in checked.directories {
        progress.activity(path.as_os_str().as_encoded_bytes());
        let removed = opened.archive.remove_all(&path, |removed| {
            progress.entries(count + removed);
            if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        count += removed.map_err(in_entry(&path))?;
        if interrupt.is_set() {
            let done = format!("{count} entries were removed");
            return Err(Failure::Interrupted { archive: opened.path.clone(), done });
        }
    }
    Ok(count)
}
