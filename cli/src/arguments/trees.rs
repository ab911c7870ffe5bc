//! The options of `extract` and `diff`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `extract`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent flag")]
pub(crate) struct Extract {
    /// The archive
    pub(crate) archive: PathBuf,
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
    /// Which existing files and links to replace; directories are merged [default: refuse to replace any]
    #[arg(long, value_name = "WHEN")]
    pub(crate) overwrite: Option<OverwriteChoice>,
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
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) sparse: SparseChoice,
    /// Print one JSON document a line: what happened to each entry, and a summary
    #[arg(long)]
    pub(crate) json_lines: bool,
}

/// Which existing entries an extraction replaces.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OverwriteChoice {
    // All
    Always,
    // Those that are older than the archive's
    IfNewer,
    // Those whose type, length, mtime or mode differs
    IfChanged,
    // None
    Never,
}

/// Where an extraction leaves holes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SparseChoice {
    // Long runs of zeros
    Auto,
    // Every block of zeros
    Always,
    // Nowhere
    Never,
}

/// `diff`
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The archive
    pub(crate) archive: PathBuf,
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
