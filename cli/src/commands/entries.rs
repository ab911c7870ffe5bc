//! `mkdir`, `mv` and `rm`: names in the archive.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ar7::{Archive, Attributes, Error, PathText};
use serde::Serialize;
use serde_json::json;

use super::archive::{wipe, wiped_text};
use super::paths::{expand, in_entry, not_root};
use crate::arguments::{Common, MakeDirectory, Move, Remove};
use crate::exit::Failure;
use crate::opened::{change, finish};
use crate::output;
use crate::progress::Progress;

/// The permissions of a new directory.
const DIRECTORY_MODE: u32 = 0o755;

/// Creates all of the directories, which belong to the user, or none of them.
pub(super) fn mkdir(common: &Common, options: &MakeDirectory) -> Result<(), Failure> {
    change(common.writer(&options.archive)?, |transaction| {
        let create = |path: &Path| {
            transaction.create_directory(path)?;
            transaction.set_attributes(path, Attributes::of_process(DIRECTORY_MODE))
        };
        for path in &options.paths {
            if !options.parents {
                let path = not_root(path)?;
                create(path).map_err(in_entry(path))?;
                continue;
            }
            let above: Vec<&Path> = Path::new(path).ancestors().collect();
            for directory in above.into_iter().rev() {
                let made = match transaction.exists(directory) {
                    // Fails if it is not a directory.
                    Ok(true) => transaction.list(directory).map(drop),
                    Ok(false) => create(directory),
                    Err(error) => Err(error),
                };
                made.map_err(in_entry(path))?;
            }
        }
        Ok(())
    })
}

/// Moves an entry. `--force` replaces the new name, unless both are names of one file: then nothing changes, as with
/// rename(2).
pub(super) fn mv(common: &Common, options: &Move) -> Result<(), Failure> {
    let (from, to) = (not_root(&options.from)?, Path::new(&options.to));
    change(common.writer(&options.archive)?, |transaction| {
        // Like mv(1), move the entry into an existing directory.
        let to = match transaction.metadata(to) {
            Ok(found) if found.is_directory() => to.join(from.file_name().unwrap_or_default()),
            _ => not_root(&options.to)?.to_owned(),
        };
        if !options.force && transaction.exists(&to).map_err(in_entry(&to))? {
            transaction.metadata(from).map_err(in_entry(from))?;
            return Err(Error::AlreadyExists { path: to }.into());
        }
        transaction.rename(from, &to).map_err(in_entry(from))
    })
}

/// Removes entries and frees their blocks.
pub(super) fn rm(common: &Common, options: &Remove) -> Result<(), Failure> {
    let archive = common.writer(&options.archive)?;
    let progress = Progress::stoppable(common)?;
    let removed = Removal::new(&archive, options)
        .and_then(|removal| removal.run(&archive, options, &progress));
    progress.finish();
    let outcome = removed.and_then(|count| {
        Ok((count, if options.wipe { Some(wipe(common, &archive)?) } else { None }))
    });
    let (removed, wiped) = finish(archive, outcome)?;
    if options.json_lines {
        let summary = json!({ "event": "summary", "removed": removed, "wiped": wiped });
        return output::json_line(&summary);
    }
    output::report(common, &json!({ "removed": removed, "wiped": wiped }), wiped.map(wiped_text))
}

/// The line about an entry that was removed, with everything in it.
#[derive(Serialize)]
struct Removed<'a> {
    event: &'static str,
    #[serde(flatten)]
    name: PathText<'a>,
    names: u64,
}

/// The entries to remove: those that are not directories, and directories.
#[derive(Default)]
struct Removal {
    others: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Removal {
    /// Finds every entry before the first one is removed.
    fn new(archive: &Archive, options: &Remove) -> Result<Removal, Failure> {
        let snapshot = archive.snapshot()?;
        let found = |typed: &OsStr| expand(&snapshot, not_root(typed)?.as_os_str());
        let paths =
            options.paths.iter().map(|typed| found(typed)).collect::<Result<Vec<_>, _>>()?;
        let mut paths = paths.concat();
        paths.sort_unstable();
        paths.dedup();
        let mut removal = Removal::default();
        for path in paths {
            // What is below a directory comes after it.
            if removal.directories.last().is_some_and(|above| path.starts_with(above)) {
                continue;
            }
            if !snapshot.metadata(&path).map_err(in_entry(&path))?.is_directory() {
                removal.others.push(path);
            } else if options.recursive {
                removal.directories.push(path);
            } else {
                let (found, expected) =
                    ("a directory", "a file or symbolic link (-r removes directories)");
                return Err(Error::WrongType { path, expected, found }.into());
            }
        }
        Ok(removal)
    }

    /// Returns the number of names removed.
    fn run(self, archive: &Archive, options: &Remove, progress: &Progress) -> Result<u64, Failure> {
        let list = |path: &Path, names| {
            let removed = Removed { event: "removed", name: PathText::new(path), names };
            if options.json_lines { output::json_line(&removed) } else { Ok(()) }
        };
        let transaction = archive.begin()?;
        for path in &self.others {
            transaction.remove(path).map_err(in_entry(path))?;
        }
        transaction.commit()?;
        self.others.iter().try_for_each(|path| list(path, 1))?;
        let mut count = self.others.len() as u64;
        for path in self.directories {
            progress.set_activity(&path);
            let removed = archive.remove_all(&path, |removed| {
                progress.set_entries(count + removed);
                progress.flow()
            });
            let removed = removed.map_err(in_entry(&path))?;
            list(&path, removed)?;
            count += removed;
            if progress.is_stopped() {
                return Err(Failure::Interrupted { done: format!("{count} entries were removed") });
            }
        }
        Ok(count)
    }
}
