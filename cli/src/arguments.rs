//! The table of commands and flags. The parser and the help are generated from it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ar7_engine::format::ArchiveKind;
use ar7_engine::store::Io;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::sizes::parse_size;

/// Whole directory trees in one encrypted file.
#[derive(Debug, Parser)]
#[command(name = "ar7", version, max_term_width = 100)]
#[command(about = "Encrypted archive: one file, millions of streams")]
#[command(after_help = "\
Example: ar7 keygen key && ar7 --key-file key ingest backup.ar7 documents

Exit codes: 0 done; 1 other failure; 2 usage; 3 wrong key; 4 damaged or tampered; 5 locked by another process; \
6 format newer than this program; 7 no space; 8 done, but some inputs could not be read; 9 readers of older commits hold too \
many blocks.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command accepts.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// File with the 32-byte key [default: the passphrase in `AR7_PASSPHRASE`, or a prompt]
    #[arg(long, global = true, value_name = "FILE", env = "AR7_KEY_FILE", hide_env_values = true)]
    pub(crate) key_file: Option<PathBuf>,
    /// How to read the archive: memory map or positioned reads [default: map; verify: file]
    #[arg(long, global = true, value_name = "METHOD")]
    pub(crate) io: Option<IoChoice>,
    /// Wait up to SECONDS for another process to unlock the archive
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) wait: u32,
    /// Suppress progress and summaries (errors are still printed)
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

impl Common {
    /// Returns how long to wait for another process to unlock the archive.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }
}

/// How to read the archive.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum IoChoice {
    // Read through a memory map.
    Map,
    // Read with positioned reads.
    File,
}

impl From<IoChoice> for Io {
    fn from(choice: IoChoice) -> Io {
        match choice {
            IoChoice::Map => Io::Map,
            IoChoice::File => Io::File,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a key file of 32 random bytes
    #[command(after_help = "Example: ar7 keygen key")]
    Keygen(Keygen),
    /// Create an empty archive
    #[command(after_help = "Example: ar7 create backup.ar7 --label laptop")]
    Create(Create),
    /// Store files and directory trees; skip files whose size and mtime are unchanged
    #[command(after_help = "Example: ar7 ingest backup.ar7 documents photos --exclude '*.tmp'")]
    Ingest(Ingest),
    /// Store standard input as one entry
    #[command(after_help = "Example: pg_dump shop | ar7 put backup.ar7 shop.sql --force")]
    Put(Put),
    /// Write an entry to standard output
    #[command(after_help = "Example: ar7 cat backup.ar7 shop.sql --offset 1G --length 4K")]
    Cat(Cat),
    /// List entries
    #[command(after_help = "Example: ar7 ls -lR backup.ar7 documents")]
    Ls(Ls),
    /// Restore entries with their modes, mtimes and links
    #[command(after_help = "Example: ar7 extract backup.ar7 documents/letters --to restored")]
    Extract(Extract),
    /// Rename an entry or move it into a directory
    #[command(after_help = "Example: ar7 mv backup.ar7 documents/draft documents/final")]
    Mv(Move),
    /// Remove entries and free their blocks
    #[command(after_help = "Example: ar7 rm -r backup.ar7 photos")]
    Rm(Remove),
    /// Create directories
    #[command(after_help = "Example: ar7 mkdir -p backup.ar7 documents/2026")]
    Mkdir(MakeDirectory),
    /// Check the whole archive and report every problem
    #[command(after_help = "Example: ar7 verify backup.ar7 --receipt receipts/latest")]
    Verify(Verify),
    /// Print format version, sizes, counts, key slots and whether recovery was needed
    #[command(after_help = "Example: ar7 info backup.ar7")]
    Info(Info),
    /// Print a receipt, with which `verify` detects an older copy or a fork
    #[command(after_help = "Example: ar7 receipt backup.ar7 > receipts/latest")]
    Receipt(ReceiptOptions),
    /// Add, remove, list and change keys and passphrases
    #[command(subcommand)]
    Key(Key),
    /// Overwrite every free block so that no deleted data remains in the file
    #[command(after_help = "Example: ar7 wipe-free backup.ar7")]
    WipeFree(WipeFree),
    /// Destroy every key slot, which makes the archive permanently unreadable; needs no key
    #[command(after_help = "Example: ar7 shred backup.ar7")]
    Shred(Shred),
    /// Change the master key and reseal every block; run again to resume
    #[command(after_help = "Example: ar7 rekey backup.ar7 --drop-other-keys")]
    Rekey(Rekey),
    /// Export or import the header; without it, no key opens the archive
    #[command(subcommand)]
    Header(HeaderCommand),
}

/// `key`
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Add a key file or passphrase
    #[command(after_help = "Example: ar7 key add backup.ar7 --new-key-file second --label desk")]
    Add(KeyAdd),
    /// Remove a key by overwriting its key slot
    #[command(after_help = "Example: ar7 key remove backup.ar7 1")]
    Remove(KeyRemove),
    /// List key slots with their kind, label and costs
    #[command(after_help = "Example: ar7 key list backup.ar7")]
    List(KeyList),
    /// Replace a key with a new one
    #[command(after_help = "Example: ar7 key change backup.ar7 --new-key-file new")]
    Change(KeyChange),
    /// Change the label of the key in use
    #[command(after_help = "Example: ar7 key label backup.ar7 laptop")]
    Label(KeyLabel),
}

/// `key add`
#[derive(Debug, Args)]
pub(crate) struct KeyAdd {
    /// The archive
    pub(crate) archive: PathBuf,
    #[command(flatten)]
    pub(crate) new: NewSecret,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// The source of a new key.
#[derive(Debug, Args)]
pub(crate) struct NewSecret {
    /// File with the new key [default: the passphrase in `AR7_NEW_PASSPHRASE`, or a prompt]
    #[arg(long, value_name = "FILE", env = "AR7_NEW_KEY_FILE", hide_env_values = true)]
    pub(crate) new_key_file: Option<PathBuf>,
}

/// `key remove`
#[derive(Debug, Args)]
pub(crate) struct KeyRemove {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Number of the key slot, as `key list` prints it
    #[arg(value_name = "SLOT")]
    pub(crate) number: usize,
}

/// `key list`
#[derive(Debug, Args)]
pub(crate) struct KeyList {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `key change`
#[derive(Debug, Args)]
pub(crate) struct KeyChange {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Number of the key slot [default: the slot of the key in use]
    #[arg(value_name = "SLOT")]
    pub(crate) number: Option<usize>,
    #[command(flatten)]
    pub(crate) new: NewSecret,
    /// New label for the key slot, up to 64 bytes [default: the present one]
    #[arg(long)]
    pub(crate) label: Option<String>,
    #[command(flatten)]
    pub(crate) cost: Cost,
}

/// `key label`
#[derive(Debug, Args)]
pub(crate) struct KeyLabel {
    /// The archive
    pub(crate) archive: PathBuf,
    /// The new label, up to 64 bytes
    pub(crate) label: String,
}

/// `header`
#[derive(Debug, Subcommand)]
pub(crate) enum HeaderCommand {
    /// Write the header (4096 bytes) to a new file
    #[command(after_help = "Example: ar7 header export backup.ar7 backup.header")]
    Export(HeaderExport),
    /// Write an exported header to the archive
    #[command(after_help = "Example: ar7 header import backup.ar7 backup.header")]
    Import(HeaderImport),
}

/// `header export`
#[derive(Debug, Args)]
pub(crate) struct HeaderExport {
    /// The archive
    pub(crate) archive: PathBuf,
    /// File to create; an existing file is never overwritten
    pub(crate) file: PathBuf,
}

/// `header import`
#[derive(Debug, Args)]
pub(crate) struct HeaderImport {
    /// The archive
    pub(crate) archive: PathBuf,
    /// File written by `header export`
    pub(crate) file: PathBuf,
    /// Accept an outdated header; keys removed since the export open the archive again
    #[arg(long)]
    pub(crate) older: bool,
}

/// `keygen`
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// File to create; an existing file is never overwritten
    pub(crate) file: PathBuf,
}

/// `create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Archive to create; an existing file is never overwritten
    pub(crate) archive: PathBuf,
    /// Kind of archive: one stream, a fixed set of streams, or files and any number of streams
    #[arg(long, value_enum, default_value = "dynamic")]
    pub(crate) kind: KindChoice,
    /// Number of streams in a fixed archive
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) streams: u32,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// Options of a new key slot.
#[derive(Debug, Args)]
pub(crate) struct NewSlot {
    /// Label for the new key slot, up to 64 bytes
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    #[command(flatten)]
    pub(crate) cost: Cost,
}

/// Cost of deriving the key of a new key slot from its passphrase.
#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// Argon2id memory for a new passphrase; all passphrases together may use at most 1 GiB
    #[arg(long = "kdf-memory", value_name = "SIZE", value_parser = parse_size, default_value = "64MiB")]
    pub(crate) memory: u64,
    /// Argon2id passes; all passphrases together may use at most 64
    #[arg(long = "kdf-passes", value_name = "COUNT", default_value_t = 3)]
    pub(crate) passes: u32,
    /// Argon2id lanes; at most 16
    #[arg(long = "kdf-lanes", value_name = "COUNT", default_value_t = 1)]
    pub(crate) lanes: u32,
}

/// The kind of an archive.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KindChoice {
    // Exactly one stream
    Single,
    // A set of streams, fixed at creation
    Fixed,
    // Streams and names, created and deleted at any time
    Dynamic,
}

impl From<KindChoice> for ArchiveKind {
    fn from(choice: KindChoice) -> ArchiveKind {
        match choice {
            KindChoice::Single => ArchiveKind::Single,
            KindChoice::Fixed => ArchiveKind::Fixed,
            KindChoice::Dynamic => ArchiveKind::Dynamic,
        }
    }
}

/// `ingest`
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// The archive; created if it does not exist
    pub(crate) archive: PathBuf,
    /// Files and directories to store, each under its last path component; PATH/. stores the contents of PATH
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Directory in the archive to store into; created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub(crate) into: Option<OsString>,
    /// Number of reader threads [default: number of processors, at most 8]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Commit after every SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1GiB")]
    pub(crate) checkpoint: u64,
    /// Skip matching entries; a GLOB without / matches names, one with / matches stored paths
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Print what would be stored without storing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// `put`
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The archive
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
}

/// `cat`
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Path of the entry
    #[arg(required_unless_present = "stream")]
    pub(crate) name: Option<OsString>,
    /// Read a bare stream instead: a UUID, or 0 to 7 for a reserved stream
    #[arg(long, value_name = "UUID", conflicts_with = "name")]
    pub(crate) stream: Option<String>,
    /// Offset of the first byte, for example 4G
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "0")]
    pub(crate) offset: u64,
    /// Number of bytes [default: to the end]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) length: Option<u64>,
}

/// `ls`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent flag")]
pub(crate) struct Ls {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Directory or other entry to list [default: the archive's root directory]
    pub(crate) path: Option<OsString>,
    /// Also print mode, links, owner, size and mtime
    #[arg(short, long)]
    pub(crate) long: bool,
    /// List subdirectories recursively, each entry with its path
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// List streams instead of entries
    #[arg(long, conflicts_with_all = ["path", "recursive"])]
    pub(crate) streams: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `extract`
#[derive(Debug, Args)]
pub(crate) struct Extract {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Entries to restore, each under its last path component [default: all]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Directory to restore into; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Replace existing files and links, and merge directories
    #[arg(long)]
    pub(crate) force: bool,
    /// Also restore the set-user-id and set-group-id bits
    #[arg(long)]
    pub(crate) preserve_special: bool,
    /// Also restore owner and group
    #[arg(long)]
    pub(crate) preserve_owner: bool,
}

/// `mv`
#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Path of the entry
    pub(crate) from: OsString,
    /// New path, or an existing directory to move the entry into
    pub(crate) to: OsString,
    /// Replace an existing entry, unless it is another name of the same file
    #[arg(long)]
    pub(crate) force: bool,
}

/// `rm`
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Entries to remove
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Remove directories and everything in them
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Then overwrite every free block, so that no data of the entries remains in the file
    #[arg(long)]
    pub(crate) wipe: bool,
}

/// `wipe-free`
#[derive(Debug, Args)]
pub(crate) struct WipeFree {
    /// The archive
    pub(crate) archive: PathBuf,
}

/// `rekey`
#[derive(Debug, Args)]
pub(crate) struct Rekey {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Remove all other keys; only the key in use can wrap the new master key
    #[arg(long)]
    pub(crate) drop_other_keys: bool,
}

/// `shred`
#[derive(Debug, Args)]
pub(crate) struct Shred {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `mkdir`
#[derive(Debug, Args)]
pub(crate) struct MakeDirectory {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Directories to create
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Create missing parents, and accept existing directories
    #[arg(short, long)]
    pub(crate) parents: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Also fail if the archive is older than this receipt or a fork
    #[arg(long, value_name = "LINE|FILE")]
    pub(crate) receipt: Option<OsString>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `receipt`
#[derive(Debug, Args)]
pub(crate) struct ReceiptOptions {
    /// The archive
    pub(crate) archive: PathBuf,
}

/// `info`
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
