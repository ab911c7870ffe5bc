//! The options of the commands for entries.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use ar7::uuid::Uuid;
use ar7::{Compression, FileType, Filter, NamePattern, Result, Size, Timestamp};
use clap::Args;

use crate::{NewSlot, one_of};

/// The options of `put`.
#[derive(Debug, Args)]
pub struct Put {
    /// The archive; created if it does not exist
    pub archive: PathBuf,
    /// Path of the entry
    #[arg(required_unless_present = "stream")]
    pub name: Option<OsString>,
    /// Write a bare stream instead: a UUID, or 0 to 7 for a reserved stream
    #[arg(long, value_name = "UUID", conflicts_with = "name")]
    pub stream: Option<BareStream>,
    /// Replace an existing entry
    #[arg(long)]
    pub force: bool,
    /// How to compress, now and later: auto, none, fast, best, or zstd:N with a level N from 1 to 19 [default: as before]
    #[arg(long, value_name = "METHOD", conflicts_with = "stream")]
    pub compression: Option<Compression>,
    /// Command whose output is stored; if it fails, the archive stays as it was [default: standard input]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// The new key slot.
    #[command(flatten)]
    pub slot: NewSlot,
}

/// The options of `cat`.
#[derive(Debug, Args)]
pub struct Cat {
    /// Path of the entry, or a pattern such as 'logs/*.txt'
    #[arg(required_unless_present = "stream")]
    pub name: Option<OsString>,
    /// Read a bare stream instead: a UUID, or 0 to 7 for a reserved stream
    #[arg(long, value_name = "UUID", conflicts_with = "name")]
    pub stream: Option<BareStream>,
    /// Offset of the first byte, for example 4G
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub offset: Size,
    /// Number of bytes [default: to the end]
    #[arg(long, value_name = "SIZE")]
    pub length: Option<Size>,
}

/// The number of reserved streams, which have the UUIDs from 0.
const RESERVED_STREAMS: u128 = 8;

/// A stream without an entry, as the user wrote it: one digit from `0` to `7` for a reserved stream, otherwise a UUID.
/// Other spellings of a number, such as `+3` or `03`, are rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareStream {
    /// What the user wrote.
    pub text: String,
    /// The stream.
    pub id: Uuid,
}

impl FromStr for BareStream {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<BareStream, &'static str> {
        let id = match text.parse::<u128>() {
            Ok(index) if index < RESERVED_STREAMS && text.len() == 1 => Ok(Uuid::from_u128(index)),
            _ => Uuid::parse_str(text),
        };
        let id = id.map_err(|_| "expected a UUID or a number from 0 to 7")?;
        Ok(BareStream { text: text.to_owned(), id })
    }
}

/// The options of `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Directory to list, other entry, or a pattern such as '**/*.jpg' [default: the archive's root directory]
    pub path: Option<OsString>,
    /// List subdirectories recursively, each entry with its path
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// List streams instead of entries
    #[arg(long, conflicts_with_all = ["path", "recursive", "null"])]
    pub streams: bool,
    /// How entries are listed.
    #[command(flatten)]
    pub form: ListForm,
}

/// The options of `find`.
#[derive(Debug, Args)]
pub struct Find {
    /// Entries to search, with everything below them [default: everything]
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Only entries whose name matches the GLOB; repeat it for alternatives
    #[arg(long, value_name = "GLOB")]
    pub name: Vec<OsString>,
    /// Only entries of this kind; separate alternatives by commas
    #[arg(long, value_delimiter = ',', value_parser = one_of(FileType::ALL, FileType::name))]
    pub kind: Vec<FileType>,
    /// Only files with more bytes
    #[arg(long, value_name = "SIZE")]
    pub larger: Option<Size>,
    /// Only files with fewer bytes
    #[arg(long, value_name = "SIZE")]
    pub smaller: Option<Size>,
    /// Only entries modified after TIME: 2026-01-31, 2026-01-31T12:00, or an age such as '2 days'
    #[arg(long, value_name = "TIME")]
    pub newer: Option<Timestamp>,
    /// Only entries modified before TIME
    #[arg(long, value_name = "TIME")]
    pub older: Option<Timestamp>,
    /// How entries are listed.
    #[command(flatten)]
    pub form: ListForm,
}

impl Find {
    /// Returns the filter for the conditions.
    pub fn filter(&self) -> Result<Filter> {
        let bytes = |size: Option<Size>| size.map(|size| size.0);
        let filter = Filter::new().larger(bytes(self.larger)).smaller(bytes(self.smaller));
        let filter = filter.newer(self.newer).older(self.older);
        let filter = self.kind.iter().copied().fold(filter, Filter::file_type);
        self.name.iter().try_fold(filter, |filter, name| Ok(filter.name(NamePattern::new(name)?)))
    }
}

/// How entries are listed.
#[derive(Debug, Args)]
pub struct ListForm {
    /// Also print mode, links, owner, size and mtime
    #[arg(short, long)]
    pub long: bool,
    /// End each name with a byte of zero instead of a line break
    #[arg(short = '0', long)]
    pub null: bool,
    /// Print one JSON document for each entry, in a line
    #[arg(long)]
    pub json_lines: bool,
}

/// The options of `du`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Du {
    /// Directory or pattern [default: the archive's root directory]
    pub path: Option<OsString>,
    /// Print directories at most COUNT levels below PATH
    #[arg(long, value_name = "COUNT")]
    pub depth: Option<usize>,
    /// Print sizes such as 1.5 GiB
    #[arg(short, long)]
    pub human_readable: bool,
    /// Print one JSON document for each directory, in a line
    #[arg(long)]
    pub json_lines: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// The options of `mv`.
#[derive(Debug, Args)]
pub struct Move {
    /// Path of the entry
    pub from: OsString,
    /// New path, or an existing directory to move the entry into
    pub to: OsString,
    /// Replace an existing entry, unless it is another name of the same file
    #[arg(long)]
    pub force: bool,
}

/// The options of `rm`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Entries to remove, or patterns such as 'logs/*.txt'
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Remove directories and everything in them
    #[arg(short, long)]
    pub recursive: bool,
    /// Then overwrite every free block, so that no data of the entries remains in the file
    #[arg(long)]
    pub wipe: bool,
    /// Print one JSON document a line: each removed entry with the number of names, and a summary
    #[arg(long)]
    pub json_lines: bool,
}

/// The options of `mkdir`.
#[derive(Debug, Args)]
pub struct MakeDirectory {
    /// Directories to create
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Create missing parents, and accept existing directories
    #[arg(short, long)]
    pub parents: bool,
}
