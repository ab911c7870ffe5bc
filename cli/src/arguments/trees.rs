//! The options of `ingest`, `extract` and `diff`.

use std::ffi::OsString;
use std::path::PathBuf;

use ar7::fs::{Overwrite, Sparse};
use ar7::{Compression, Size};
use clap::{ArgMatches, Args, FromArgMatches};

use super::{NewSlot, one_of};

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent flag")]
pub(crate) struct Ingest {
    /// The archive; created if it does not exist
    pub(crate) archive: PathBuf,
    /// Files and directories to store, each under its last path component; PATH/. stores the contents of PATH
    #[arg(required_unless_present = "files_from", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Also store the paths listed in FILE, one a line, or each ended by a NUL; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) files_from: Vec<PathBuf>,
    /// Directory in the archive to store into; created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub(crate) into: Option<OsString>,
    /// Remove entries from the archive that the source no longer has
    #[arg(long)]
    pub(crate) delete: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Skip the contents of directories that have a CACHEDIR.TAG
    #[arg(long, help_heading = "Selection")]
    pub(crate) exclude_caches: bool,
    /// Skip what is on another file system than PATH
    #[arg(long, short = 'x', help_heading = "Selection")]
    pub(crate) one_file_system: bool,
    /// Compare the content of every file with what is stored
    #[arg(long, help_heading = "Changes")]
    pub(crate) checksum: bool,
    /// Do not take a different change time for a change
    #[arg(long, help_heading = "Changes")]
    pub(crate) ignore_ctime: bool,
    /// Do not take a different inode number for a change
    #[arg(long, help_heading = "Changes")]
    pub(crate) ignore_inode: bool,
    /// Number of reader threads [default: number of processors, at most 8]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// How to compress, now and later: auto, none, fast, best, or zstd:N with a level N from 1 to 19 [default: as before]
    #[arg(long, value_name = "METHOD")]
    pub(crate) compression: Option<Compression>,
    /// Commit after every SIZE bytes
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) checkpoint: Size,
    /// Print what would be stored without storing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print a JSON document for each entry, one a line
    #[arg(long)]
    pub(crate) json_lines: bool,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// The patterns of `ingest` in the order of the command line. The last one that matches decides.
#[derive(Debug)]
pub(crate) struct Selection(pub(crate) Vec<Selected>);

/// A pattern, or a file with patterns.
#[derive(Debug)]
pub(crate) enum Selected {
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

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent flag")]
pub(crate) struct Extract {
    /// Entries to restore, each under its last path component, or globs for their paths [default: all]
    #[arg(value_name = "PATH|GLOB")]
    pub(crate) paths: Vec<OsString>,
    /// Directory to restore into; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Skip matching entries
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<OsString>,
    /// Restore each entry under its whole path
    #[arg(long)]
    pub(crate) whole_paths: bool,
    /// Which existing files and links to replace; directories are merged, but refuse stops if anything exists
    #[arg(long, value_name = "WHEN", default_value = "refuse",
        value_parser = one_of(Overwrite::ALL, Overwrite::name))]
    pub(crate) overwrite: Overwrite,
    /// Replace existing files and links, and merge directories; the same as --overwrite always
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) force: bool,
    /// Also restore set-user-id and set-group-id bits where the owner is the stored one, and as root also capabilities,
    /// devices and system attributes
    #[arg(long)]
    pub(crate) preserve_special: bool,
    /// Also restore owner and group
    #[arg(long)]
    pub(crate) preserve_owner: bool,
    /// Where to leave holes: for 64 KiB of zeros or more, for each block of 4 KiB, or nowhere
    #[arg(long, value_name = "WHEN", default_value = "auto",
        value_parser = one_of(Sparse::ALL, Sparse::name))]
    pub(crate) sparse: Sparse,
    /// Print one JSON document a line: what happened to each entry, and a summary
    #[arg(long)]
    pub(crate) json_lines: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Directory to compare with the entry of the same name; DIR/. is compared with what contains that entry
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Directory in the archive that the entry is in, as for `ingest`
    #[arg(long, value_name = "NAME")]
    pub(crate) into: Option<OsString>,
    /// Print one JSON document a line: each difference, and a summary
    #[arg(long)]
    pub(crate) json_lines: bool,
}
