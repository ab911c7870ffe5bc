//! The options of the commands for entries.

use std::ffi::OsString;
use std::path::PathBuf;

use ar7::{Compression, FileType, Size, Timestamp};
use clap::Args;

use super::{NewSlot, one_of};

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The archive; created if it does not exist
    pub(crate) archive: PathBuf,
    /// Path of the entry
    #[arg(required_unless_present = "stream")]
    pub(crate) name: Option<OsString>,
    /// Write a bare stream instead: a UUID, or 0 to 7 for a reserved stream
    #[arg(long, value_name = "UUID", conflicts_with = "name")]
    pub(crate) stream: Option<String>,
    /// Replace an existing entry
    #[arg(long)]
    pub(crate) force: bool,
    /// How to compress, now and later: auto, none, fast, best, or zstd:N with a level N from 1 to 19 [default: as before]
    #[arg(long, value_name = "METHOD", conflicts_with = "stream")]
    pub(crate) compression: Option<Compression>,
    /// Command whose output is stored; if it fails, the archive stays as it was [default: standard input]
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// Path of the entry, or a pattern such as 'logs/*.txt'
    #[arg(required_unless_present = "stream")]
    pub(crate) name: Option<OsString>,
    /// Read a bare stream instead: a UUID, or 0 to 7 for a reserved stream
    #[arg(long, value_name = "UUID", conflicts_with = "name")]
    pub(crate) stream: Option<String>,
    /// Offset of the first byte, for example 4G
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub(crate) offset: Size,
    /// Number of bytes [default: to the end]
    #[arg(long, value_name = "SIZE")]
    pub(crate) length: Option<Size>,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Directory to list, other entry, or a pattern such as '**/*.jpg' [default: the archive's root directory]
    pub(crate) path: Option<OsString>,
    /// List subdirectories recursively, each entry with its path
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// List streams instead of entries
    #[arg(long, conflicts_with_all = ["path", "recursive", "null"])]
    pub(crate) streams: bool,
    #[command(flatten)]
    pub(crate) form: ListForm,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// Entries to search, with everything below them [default: everything]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Only entries whose name matches the GLOB; repeat it for alternatives
    #[arg(long, value_name = "GLOB")]
    pub(crate) name: Vec<OsString>,
    /// Only entries of this kind; separate alternatives by commas
    #[arg(long, value_delimiter = ',', value_parser = one_of(FileType::ALL, FileType::name))]
    pub(crate) kind: Vec<FileType>,
    /// Only files with more bytes
    #[arg(long, value_name = "SIZE")]
    pub(crate) larger: Option<Size>,
    /// Only files with fewer bytes
    #[arg(long, value_name = "SIZE")]
    pub(crate) smaller: Option<Size>,
    /// Only entries modified after TIME: 2026-01-31, 2026-01-31T12:00, or an age such as '2 days'
    #[arg(long, value_name = "TIME")]
    pub(crate) newer: Option<Timestamp>,
    /// Only entries modified before TIME
    #[arg(long, value_name = "TIME")]
    pub(crate) older: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) form: ListForm,
}

/// How entries are listed.
#[derive(Debug, Args)]
pub(crate) struct ListForm {
    /// Also print mode, links, owner, size and mtime
    #[arg(short, long)]
    pub(crate) long: bool,
    /// End each name with a byte of zero instead of a line break
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// Print one JSON document for each entry, in a line
    #[arg(long)]
    pub(crate) json_lines: bool,
}

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Du {
    /// Directory or pattern [default: the archive's root directory]
    pub(crate) path: Option<OsString>,
    /// Print directories at most COUNT levels below PATH
    #[arg(long, value_name = "COUNT")]
    pub(crate) depth: Option<usize>,
    /// Print sizes such as 1.5 GiB
    #[arg(short, long)]
    pub(crate) human_readable: bool,
    /// Print one JSON document for each directory, in a line
    #[arg(long)]
    pub(crate) json_lines: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    /// Path of the entry
    pub(crate) from: OsString,
    /// New path, or an existing directory to move the entry into
    pub(crate) to: OsString,
    /// Replace an existing entry, unless it is another name of the same file
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Entries to remove, or patterns such as 'logs/*.txt'
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Remove directories and everything in them
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Then overwrite every free block, so that no data of the entries remains in the file
    #[arg(long)]
    pub(crate) wipe: bool,
    /// Print one JSON document a line: each removed entry with the number of names, and a summary
    #[arg(long)]
    pub(crate) json_lines: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MakeDirectory {
    /// Directories to create
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Create missing parents, and accept existing directories
    #[arg(short, long)]
    pub(crate) parents: bool,
}
