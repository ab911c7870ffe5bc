//! The options of `ingest`, `extract` and `diff`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ar7::fs::{Overwrite, Patterns, Sparse, read_list, read_patterns};
use ar7::{Compression, Error, Size, Snapshot};
use clap::{ArgMatches, Args, FromArgMatches};

use crate::{NewSlot, one_of};

/// The options of `ingest`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent flag")]
pub struct Ingest {
    /// The archive; created if it does not exist
    pub archive: PathBuf,
    /// Files and directories to store, each under its last path component; PATH/. stores the contents of PATH
    #[arg(required_unless_present = "files_from", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also store the paths listed in FILE, one a line, or each ended by a NUL; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub files_from: Vec<PathBuf>,
    /// Directory in the archive to store into; created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub into: Option<OsString>,
    /// Remove entries from the archive that the source no longer has
    #[arg(long)]
    pub delete: bool,
    /// The patterns.
    #[command(flatten)]
    pub selection: Selection,
    /// Skip the contents of directories that have a CACHEDIR.TAG
    #[arg(long, help_heading = "Selection")]
    pub exclude_caches: bool,
    /// Skip what is on another file system than PATH
    #[arg(long, short = 'x', help_heading = "Selection")]
    pub one_file_system: bool,
    /// Compare the content of every file with what is stored
    #[arg(long, help_heading = "Changes")]
    pub checksum: bool,
    /// Do not take a different change time for a change
    #[arg(long, help_heading = "Changes")]
    pub ignore_ctime: bool,
    /// Do not take a different inode number for a change
    #[arg(long, help_heading = "Changes")]
    pub ignore_inode: bool,
    /// Number of reader threads [default: number of processors, at most 8]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// How to compress, now and later: auto, none, fast, best, or zstd:N with a level N from 1 to 19 [default: as before]
    #[arg(long, value_name = "METHOD")]
    pub compression: Option<Compression>,
    /// Commit after every SIZE bytes
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub checkpoint: Size,
    /// Print what would be stored without storing it
    #[arg(long)]
    pub dry_run: bool,
    /// Print a JSON document for each entry, one a line
    #[arg(long)]
    pub json_lines: bool,
    /// The new key slot.
    #[command(flatten)]
    pub slot: NewSlot,
}

impl Ingest {
    /// Returns the ingest that the options ask for. Reads the lists in files.
    pub fn builder(&self) -> ar7::Result<ar7::fs::Ingest<'static>> {
        let ingest = ar7::fs::Ingest::new()
            .into(self.into.clone().unwrap_or_default())
            .exclude(self.selection.patterns()?)
            .one_file_system(self.one_file_system)
            .exclude_caches(self.exclude_caches)
            .ignore_ctime(self.ignore_ctime)
            .ignore_inode(self.ignore_inode)
            .checksum(self.checksum)
            .delete(self.delete)
            .jobs(self.jobs.map(usize::from))
            .checkpoint(self.checkpoint.0)
            .compression(self.compression);
        let mut ingest = self.paths.iter().fold(ingest, ar7::fs::Ingest::path);
        for file in &self.files_from {
            ingest = read_from(file, read_list)?.into_iter().fold(ingest, ar7::fs::Ingest::path);
        }
        Ok(ingest)
    }
}

/// Reads the list in a file. `-` is standard input.
fn read_from(
    file: &Path,
    read: impl FnOnce(Box<dyn io::Read>) -> io::Result<Vec<OsString>>,
) -> ar7::Result<Vec<OsString>> {
    if file == Path::new("-") {
        let list = read(Box::new(io::stdin().lock()));
        return list.map_err(|error| Error::Input { name: "standard input", source: error.into() });
    }
    File::open(file).and_then(|file| read(Box::new(file))).map_err(|error| Error::Io {
        operation: "read",
        path: Some(file.to_owned()),
        source: error.into(),
    })
}

/// The patterns of `ingest` in the order of the command line. The last one that matches decides.
#[derive(Debug)]
pub struct Selection(Vec<Selected>);

impl Selection {
    /// Returns the patterns. Reads those in files.
    pub fn patterns(&self) -> ar7::Result<Patterns> {
        let mut patterns = Vec::new();
        for selected in &self.0 {
            match selected {
                Selected::Exclude(pattern) => patterns.push(pattern.clone()),
                Selected::ExcludeFrom(file) => patterns.extend(read_from(file, read_patterns)?),
                Selected::Include(pattern) => {
                    let mut negated = OsString::from("!");
                    negated.push(pattern);
                    patterns.push(negated);
                }
            }
        }
        Patterns::new(patterns)
    }
}

/// A pattern, or a file with patterns.
#[derive(Debug)]
enum Selected {
    Exclude(OsString),
    ExcludeFrom(PathBuf),
    Include(OsString),
}

/// The flags for a selection, without their order.
#[derive(Debug, Args)]
struct SelectionFlags {
    /// Skip matching entries, as .gitignore does: *, **, a / at the end for directories, ! to negate
    #[arg(long, value_name = "PATTERN", help_heading = "Selection")]
    exclude: Vec<OsString>,
    /// Skip entries that match a pattern in FILE, one a line as in .gitignore
    #[arg(long, value_name = "FILE", help_heading = "Selection")]
    exclude_from: Vec<PathBuf>,
    /// Store matching entries although an earlier pattern skips them: in all three options, the last match counts
    #[arg(long, value_name = "PATTERN", help_heading = "Selection")]
    include: Vec<OsString>,
}

impl FromArgMatches for Selection {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Selection, clap::Error> {
        let SelectionFlags { exclude, exclude_from, include } =
            SelectionFlags::from_arg_matches(matches)?;
        let places = |flag| matches.indices_of(flag).into_iter().flatten();
        let exclude = places("exclude").zip(exclude.into_iter().map(Selected::Exclude));
        let files = places("exclude_from").zip(exclude_from.into_iter().map(Selected::ExcludeFrom));
        let include = places("include").zip(include.into_iter().map(Selected::Include));
        let mut selected: Vec<(usize, Selected)> = exclude.chain(files).chain(include).collect();
        selected.sort_by_key(|(place, _)| *place);
        Ok(Selection(selected.into_iter().map(|(_, selected)| selected).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Selection::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Selection {
    fn augment_args(command: clap::Command) -> clap::Command {
        SelectionFlags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        SelectionFlags::augment_args_for_update(command)
    }
}

/// The options of `extract`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent flag")]
pub struct Extract {
    /// Entries to restore, each under its last path component, or globs for their paths [default: all]
    #[arg(value_name = "PATH|GLOB")]
    pub paths: Vec<OsString>,
    /// Directory to restore into; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Skip matching entries
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<OsString>,
    /// Restore each entry under its whole path
    #[arg(long)]
    pub whole_paths: bool,
    /// Which existing files and links to replace; directories are merged, but refuse stops if anything exists
    #[arg(long, value_name = "WHEN", default_value = "refuse",
        value_parser = one_of(Overwrite::ALL, Overwrite::name))]
    pub overwrite: Overwrite,
    /// Replace existing files and links, and merge directories; the same as --overwrite always
    #[arg(long, conflicts_with = "overwrite")]
    pub force: bool,
    /// Also restore set-user-id and set-group-id bits where the owner is the stored one, and as root also capabilities,
    /// devices and system attributes
    #[arg(long)]
    pub preserve_special: bool,
    /// Also restore owner and group
    #[arg(long)]
    pub preserve_owner: bool,
    /// Where to leave holes: for 64 KiB of zeros or more, for each block of 4 KiB, or nowhere
    #[arg(long, value_name = "WHEN", default_value = "auto",
        value_parser = one_of(Sparse::ALL, Sparse::name))]
    pub sparse: Sparse,
    /// Print one JSON document a line: what happened to each entry, and a summary
    #[arg(long)]
    pub json_lines: bool,
}

impl Extract {
    /// Returns the extraction from a snapshot that the options ask for.
    pub fn builder<'a>(&self, snapshot: &Snapshot) -> ar7::Result<ar7::fs::Extract<'a>> {
        let extract = ar7::fs::Extract::new()
            .to(&self.to)
            .exclude(Patterns::new(&self.exclude)?)
            .overwrite(if self.force { Overwrite::Always } else { self.overwrite })
            .sparse(self.sparse)
            .whole_paths(self.whole_paths)
            .preserve_owner(self.preserve_owner)
            .preserve_special(self.preserve_special);
        extract.select(snapshot, &self.paths)
    }
}

/// The options of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// Directory to compare with the entry of the same name; DIR/. is compared with what contains that entry
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Directory in the archive that the entry is in, as for `ingest`
    #[arg(long, value_name = "NAME")]
    pub into: Option<OsString>,
    /// Print one JSON document a line: each difference, and a summary
    #[arg(long)]
    pub json_lines: bool,
}
