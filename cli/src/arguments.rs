//! The one table of flags: parser and help come from it.

use std::ffi::OsString;
use std::path::PathBuf;

use ar7_engine::format::ArchiveKind;
use ar7_engine::store::Io;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::sizes::parse_size;

/// Whole directory trees in one encrypted file.
#[derive(Debug, Parser)]
#[command(name = "ar7", version, about, max_term_width = 100)]
#[command(after_help = "\
Example: ar7 keygen key && ar7 --key-file key ingest backup.ar7 documents

Exit codes: 0 done; 1 other failure; 2 usage; 3 wrong key; 4 damaged or tampered; 5 locked by another process; \
6 format newer than this program; 7 no space; 8 done, but some inputs could not be read.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// File with the 32-byte key [default: the passphrase in `AR7_PASSPHRASE`, or a prompt]
    #[arg(long, global = true, value_name = "FILE", env = "AR7_KEY_FILE", hide_env_values = true)]
    pub(crate) key_file: Option<PathBuf>,
    /// Access to the archive: memory map or positioned reads [default: map; verify: file]
    #[arg(long, global = true, value_name = "WAY")]
    pub(crate) io: Option<IoChoice>,
    /// Suppress progress and summaries (errors are still printed)
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// How to access the archive.
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
    /// Rename an entry, or move it into a directory
    #[command(after_help = "Example: ar7 mv backup.ar7 documents/draft documents/final")]
    Mv(Move),
    /// Remove entries and free their blocks
    #[command(after_help = "Example: ar7 rm -r backup.ar7 photos")]
    Rm(Remove),
    /// Create directories
    #[command(after_help = "Example: ar7 mkdir -p backup.ar7 documents/2026")]
    Mkdir(MakeDirectory),
    /// Check the whole archive and list everything that is wrong
    #[command(after_help = "Example: ar7 verify backup.ar7 --receipt receipts/latest")]
    Verify(Verify),
    /// Print version, sizes, counts, key slots and the state found at opening
    #[command(after_help = "Example: ar7 info backup.ar7")]
    Info(Info),
    /// Print a line with which `verify` later detects an older copy or another archive
    #[command(after_help = "Example: ar7 receipt backup.ar7 > receipts/latest")]
    Receipt(ReceiptOptions),
    /// Add, remove, list and change the keys and passphrases of the archive
    #[command(subcommand)]
    Key(Key),
    /// Overwrite every free block, so that no deleted data remains in the file
    #[command(after_help = "Example: ar7 wipe-free backup.ar7")]
    WipeFree(WipeFree),
    /// Destroy every key of the archive, which makes it unreadable for ever; needs no key
    #[command(after_help = "Example: ar7 shred backup.ar7")]
    Shred(Shred),
    /// Change the master key by sealing every block again; an interrupted run continues
    #[command(after_help = "Example: ar7 rekey backup.ar7 --drop-other-keys")]
    Rekey(Rekey),
    /// Export the header, without which no key opens the archive, and import it
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
    /// List the keys: kind, label, costs
    #[command(after_help = "Example: ar7 key list backup.ar7")]
    List(KeyList),
    /// Replace a key by a new one
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
    /// Number of the key slot [default: that of the key in use]
    #[arg(value_name = "SLOT")]
    pub(crate) number: Option<usize>,
    #[command(flatten)]
    pub(crate) new: NewSecret,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
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
    /// Write the header, 4096 bytes, to a new file
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
    /// The new file; an existing one is never overwritten
    pub(crate) file: PathBuf,
}

/// `header import`
#[derive(Debug, Args)]
pub(crate) struct HeaderImport {
    /// The archive
    pub(crate) archive: PathBuf,
    /// The file that `header export` wrote
    pub(crate) file: PathBuf,
    /// Accept a header from before the last change of keys: keys removed since then open the archive again
    #[arg(long)]
    pub(crate) older: bool,
}

/// `keygen`
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The new file; an existing one is never overwritten
    pub(crate) file: PathBuf,
}

/// `create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The new file; an existing one is never touched
    pub(crate) archive: PathBuf,
    /// Kind of the archive: one stream, a fixed set of streams, or streams with names
    #[arg(long, value_enum, default_value = "dynamic")]
    pub(crate) kind: KindChoice,
    /// Number of streams of a fixed archive
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) streams: u32,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// Options of a new key slot.
#[derive(Debug, Args)]
pub(crate) struct NewSlot {
    /// Label of the new key slot, up to 64 bytes
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// Memory for deriving a key from the new passphrase; at most 1 GiB for all passphrases together
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64MiB")]
    pub(crate) kdf_memory: u64,
    /// Passes over that memory; at most 64 for all passphrases together
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub(crate) kdf_passes: u32,
    /// Lanes of that memory; at most 16
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) kdf_lanes: u32,
}

/// The kind of an archive.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KindChoice {
    // Exactly one stream
    Single,
    // A set of streams that is fixed at creation
    Fixed,
    // Streams and names, made and deleted at will
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
    /// Files and directories, each stored under its last component; PATH/. stores the entries of PATH
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Directory of the archive to store into; created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub(crate) into: Option<OsString>,
    /// Number of threads that read files [default: number of processors, at most 8]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Commit after every SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1GiB")]
    pub(crate) checkpoint: u64,
    /// Leave out matching entries; a GLOB without / matches a name, with / the path as stored
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Print what would be stored, and change nothing
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
    /// The entry
    #[arg(required_unless_present = "stream")]
    pub(crate) name: Option<OsString>,
    /// Write a stream without a name instead: its UUID, or 0 to 7 for a reserved stream
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
    /// The entry
    #[arg(required_unless_present = "stream")]
    pub(crate) name: Option<OsString>,
    /// Read a stream without a name instead: its UUID, or 0 to 7 for a reserved stream
    #[arg(long, value_name = "UUID", conflicts_with = "name")]
    pub(crate) stream: Option<String>,
    /// First byte, for example 4G
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "0")]
    pub(crate) offset: u64,
    /// Number of bytes [default: up to the end]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) length: Option<u64>,
}

/// `ls`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Ls {
    /// The archive
    pub(crate) archive: PathBuf,
    /// A directory or another entry [default: the archive's root directory]
    pub(crate) path: Option<OsString>,
    /// Print mode, links, owner, size and time too
    #[arg(short, long)]
    pub(crate) long: bool,
    /// List the entries of directories too, each with its path
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// List streams instead of names
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
    /// Entries, each restored under its last component [default: all]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Directory to restore into; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Replace existing files and links, and merge directories
    #[arg(long)]
    pub(crate) force: bool,
    /// Restore the set-user-id and set-group-id bits too
    #[arg(long)]
    pub(crate) preserve_special: bool,
    /// Restore owner and group too
    #[arg(long)]
    pub(crate) preserve_owner: bool,
}

/// `mv`
#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The archive
    pub(crate) archive: PathBuf,
    /// The entry
    pub(crate) from: OsString,
    /// Its new name, or a directory to move it into
    pub(crate) to: OsString,
    /// Replace an existing entry
    #[arg(long)]
    pub(crate) force: bool,
}

/// `rm`
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The archive
    pub(crate) archive: PathBuf,
    /// The entries
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Remove directories with everything in them
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Overwrite every free block afterwards, so that no data of the entries remains in the file
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
    /// Remove all other keys, for which the new master key cannot be wrapped
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
    /// The new directories
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Create missing parents; accept existing directories
    #[arg(short, long)]
    pub(crate) parents: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Fail also if the archive is older than this receipt or forks from it
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
