//! The flags. This is the one table of them: parser and help come from it.

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
    /// File with the 32-byte key; without one, the passphrase of `AR7_PASSPHRASE`, or a prompt
    #[arg(long, global = true, value_name = "FILE", env = "AR7_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// How the archive is reached: a memory map, or positioned reads [default: map; verify: file]
    #[arg(long, global = true, value_name = "WAY")]
    pub(crate) io: Option<IoChoice>,
    /// Neither progress nor summaries; errors are told all the same
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// How the archive is reached.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum IoChoice {
    /// Through a read-only memory map
    Map,
    /// Through positioned reads and writes, without a map
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

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key file of 32 random bytes
    Keygen(Keygen),
    /// Make an empty archive
    Create(Create),
    /// Store files and whole trees; what is unchanged since (size and mtime) is skipped
    Ingest(Ingest),
    /// Store standard input, of any length, as one entry
    Put(Put),
    /// Write an entry to standard output
    Cat(Cat),
    /// List entries
    Ls(Ls),
    /// Restore entries with their modes, mtimes and links
    Extract(Extract),
    /// Rename an entry, or move it into a directory
    Mv(Move),
    /// Remove entries; their blocks are used again
    Rm(Remove),
    /// Make directories
    Mkdir(MakeDirectory),
    /// Check every block, page, link, extent and name, and list everything that is wrong
    Verify(Verify),
    /// Tell what the archive is: version, sizes, counts, key slots, what recovery did
    Info(Info),
    /// Print a line that proves later that the archive is not an older copy, nor another one
    Receipt(ReceiptOptions),
    /// Add, remove, list and change the keys and passphrases that open the archive
    #[command(subcommand)]
    Key(Key),
    /// Overwrite every free block, so that nothing that was deleted is left in the file
    WipeFree(WipeFree),
    /// Destroy every key of the archive for ever; no key or passphrase is needed, and none helps afterwards
    Shred(Shred),
    /// Change the master key: seal every block anew. Cut off, it goes on where it was; the archive can be read meanwhile
    Rekey(Rekey),
    /// Keep the header elsewhere, and put it back: without a header no key opens the archive
    #[command(subcommand)]
    Header(HeaderCommand),
}

/// `key`
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Add a key file or passphrase
    Add(KeyAdd),
    /// Remove a key: its slot is overwritten in both copies of the header
    Remove(KeyRemove),
    /// List the keys: kind, label, costs
    List(KeyList),
    /// Replace a key by another
    Change(KeyChange),
    /// Give the key in use another label
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

/// Where the new key comes from.
#[derive(Debug, Args)]
pub(crate) struct NewSecret {
    /// File with the new key; without one, the passphrase of `AR7_NEW_PASSPHRASE`, or a prompt
    #[arg(long, value_name = "FILE", env = "AR7_NEW_KEY_FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
}

/// `key remove`
#[derive(Debug, Args)]
pub(crate) struct KeyRemove {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Number of the slot, as `key list` shows it
    #[arg(value_name = "SLOT")]
    pub(crate) number: usize,
}

/// `key list`
#[derive(Debug, Args)]
pub(crate) struct KeyList {
    /// The archive
    pub(crate) archive: PathBuf,
    /// One JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// `key change`
#[derive(Debug, Args)]
pub(crate) struct KeyChange {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Number of the slot [default: the one that the present key opens]
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
    /// The label, up to 64 bytes
    pub(crate) label: String,
}

/// `header`
#[derive(Debug, Subcommand)]
pub(crate) enum HeaderCommand {
    /// Write the header, 4096 bytes, to a new file
    Export(HeaderExport),
    /// Put an exported header back
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
    /// What `header export` wrote
    pub(crate) file: PathBuf,
    /// Accepts a header from before the last change of keys: keys that were removed since open the archive again
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
    /// What the streams of the archive are
    #[arg(long, value_enum, default_value = "dynamic")]
    pub(crate) kind: KindChoice,
    /// Number of streams of a fixed archive
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) streams: u32,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// Of a new key slot.
#[derive(Debug, Args)]
pub(crate) struct NewSlot {
    /// Label of the new key slot, up to 64 bytes
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// Memory that deriving a key from the new passphrase takes, up to 1 GiB over all passphrases
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64MiB")]
    pub(crate) kdf_memory: u64,
    /// Passes over that memory, up to 64 over all passphrases
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub(crate) kdf_passes: u32,
    /// Lanes of that memory, up to 16
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) kdf_lanes: u32,
}

/// What the streams of an archive are.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KindChoice {
    /// Exactly one stream
    Single,
    /// A set of streams that is fixed at creation
    Fixed,
    /// Streams and names, made and deleted at will
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
    /// The archive; it is made if it is not there
    pub(crate) archive: PathBuf,
    /// Files and trees, each stored under its last component; PATH/. means what is in PATH
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Directory of the archive to store into, made if it is not there
    #[arg(long, value_name = "NAME")]
    pub(crate) into: Option<OsString>,
    /// Threads that read files [default: number of processors, at most 8]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Bytes after which what was stored is made durable
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1GiB")]
    pub(crate) checkpoint: u64,
    /// Leaves out what matches: a pattern without / any name, one with / the path as stored
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Tells what would be stored, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// One JSON document on standard output
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
    /// Writes a bare stream instead: its UUID, or 0 to 7 for a reserved one
    #[arg(long, value_name = "UUID", conflicts_with = "name")]
    pub(crate) stream: Option<String>,
    /// Replaces what is there
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
    /// Reads a bare stream instead: its UUID, or 0 to 7 for a reserved one
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
    /// A directory or another entry [default: the whole archive's top]
    pub(crate) path: Option<OsString>,
    /// Mode, links, owner, size and time too
    #[arg(short, long)]
    pub(crate) long: bool,
    /// Everything below, each with its path
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Lists streams instead of names
    #[arg(long, conflicts_with_all = ["path", "recursive"])]
    pub(crate) streams: bool,
    /// One JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// `extract`
#[derive(Debug, Args)]
pub(crate) struct Extract {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Entries, each restored under its last component [default: everything]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Directory to restore into, made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Replaces files and links that are there, and merges directories
    #[arg(long)]
    pub(crate) force: bool,
    /// Restores the set-user-id and set-group-id bits too
    #[arg(long)]
    pub(crate) preserve_special: bool,
    /// Restores owner and group too
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
    /// Replaces an entry that has the name already
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
    /// Directories too, with everything below
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Overwrites every free block afterwards, so that nothing of the entries is left in the file
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
    /// Removes all keys but the one that is given: the new master key can be wrapped for no other
    #[arg(long)]
    pub(crate) drop_other_keys: bool,
}

/// `shred`
#[derive(Debug, Args)]
pub(crate) struct Shred {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Does not ask
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
    /// Missing parents too; an existing directory is no error
    #[arg(short, long)]
    pub(crate) parents: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Fails too if the archive is older than this receipt, or forks from it: its line, or a file with it
    #[arg(long, value_name = "LINE|FILE")]
    pub(crate) receipt: Option<OsString>,
    /// One JSON document on standard output
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
    /// One JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}
