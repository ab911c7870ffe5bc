//! The table of commands and flags. The parser, the help, the manual and the completions are generated from it.

mod keys;
mod trees;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use ar7::{Io, Kind, Options, Timestamp};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub(crate) use self::keys::*;
pub(crate) use self::trees::*;
use crate::sizes::{parse_size, parse_time};

/// The size of a block in bytes.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The commands by task, as the help lists them.
const TASKS: [(&str, &[&str]); 4] = [
    ("Trees and entries in and out", &["ingest", "extract", "diff", "put", "cat"]),
    ("Entries in the archive", &["ls", "find", "du", "mv", "rm", "mkdir"]),
    ("Keys", &["keygen", "key", "rekey", "header", "shred"]),
    (
        "The archive as a whole",
        &["create", "verify", "info", "receipt", "salvage", "wipe-free", "completions", "help"],
    ),
];

/// Returns the parser. Its help lists the commands by task.
pub(crate) fn program() -> clap::Command {
    let mut program = Arguments::command();
    program.build();
    let style = program.get_styles().clone();
    let (header, literal) = (style.get_header(), style.get_literal());
    let mut commands = String::new();
    for (task, names) in TASKS {
        let _ = writeln!(commands, "{header}{task}:{header:#}");
        for name in names {
            let about = program.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(commands, "  {literal}{name:<12}{literal:#} {about}");
        }
        commands.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{commands}{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    Arguments::command().help_template(template)
}

/// Whole directory trees in one encrypted file.
#[derive(Debug, Parser)]
#[command(name = "ar7", version, max_term_width = 100)]
#[command(about = "Encrypted archive: one file, millions of streams")]
#[command(after_help = "\
Example: ar7 keygen key && ar7 --key-file key ingest backup.ar7 documents

Exit codes: 0 done; 1 other failure, or diff found differences; 2 usage; 3 wrong key; 4 damaged or tampered; 5 locked by another process; \
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
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) key: KeySource,
    /// How to read the archive: memory map or positioned reads [default: map; verify: file]
    #[arg(long, global = true, value_name = "METHOD")]
    pub(crate) io: Option<IoChoice>,
    /// Wait up to SECONDS for another process to unlock the archive
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) wait: u32,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Without a terminal, print a line of progress every SECONDS
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) progress: u32,
    /// Suppress progress and summaries (errors are still printed)
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// The source of the key. Without an option, it is the variable `AR7_KEY_FILE`, `AR7_PASSPHRASE_FILE`,
/// `AR7_PASSPHRASE_COMMAND` or `AR7_PASSPHRASE`, or else a prompt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct KeySource {
    /// File with the 32-byte key [env: `AR7_KEY_FILE`]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with the passphrase in its first line [env: `AR7_PASSPHRASE_FILE`]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "key_file")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Shell command that prints the passphrase [env: `AR7_PASSPHRASE_COMMAND`] [default: the passphrase in
    /// `AR7_PASSPHRASE`, or a prompt]
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with_all = ["key_file", "passphrase_file"])]
    pub(crate) passphrase_command: Option<OsString>,
}

impl Common {
    /// Returns how long to wait for another process to unlock the archive.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }

    /// Adds the user's choices to the options of an archive.
    pub(crate) fn apply(&self, options: Options) -> Options {
        let options = options.wait(self.wait());
        match self.io {
            Some(IoChoice::Map) => options.io(Io::Map),
            Some(IoChoice::File) => options.io(Io::File),
            None => options,
        }
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
    /// Store standard input, or the output of a command, as one entry
    #[command(after_help = "Example: ar7 put backup.ar7 shop.sql --force -- pg_dump shop")]
    Put(Put),
    /// Write entries to standard output
    #[command(after_help = "Example: ar7 cat backup.ar7 shop.sql --offset 1G --length 4K")]
    Cat(Cat),
    /// List entries
    #[command(after_help = "Example: ar7 ls -lR backup.ar7 documents")]
    Ls(Ls),
    /// List entries that meet conditions
    #[command(
        after_help = "Example: ar7 find backup.ar7 --name '*.jpg' --larger 1M --newer '30 days'"
    )]
    Find(Find),
    /// Print the bytes and blocks below each directory
    #[command(after_help = "Example: ar7 du -h backup.ar7 --depth 1")]
    Du(Du),
    /// Restore entries with their modes, mtimes and links
    #[command(after_help = "Example: ar7 extract backup.ar7 documents/letters --to restored")]
    Extract(Extract),
    /// Compare a directory with what is stored of it; exit code 1 if they differ
    #[command(after_help = "Example: ar7 diff backup.ar7 documents")]
    Diff(Diff),
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
    /// Copy what is left of a damaged archive to a new one
    #[command(after_help = "\
Example: ar7 salvage damaged.ar7 salvaged.ar7 --header backup.header

Everything that opens is copied; content without a name goes to lost+found. Salvage cannot detect content that was \
replaced by an older version of itself. Exit code 4 means that something is lost.")]
    Salvage(SalvageOptions),
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
    /// Print the completion script for a shell
    #[command(
        after_help = "Example: ar7 completions bash > /usr/share/bash-completion/completions/ar7"
    )]
    Completions(Completions),
    /// Write the manual, for packagers
    #[command(hide = true)]
    Man(Man),
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

impl From<KindChoice> for Kind {
    fn from(choice: KindChoice) -> Kind {
        match choice {
            KindChoice::Single => Kind::Single,
            KindChoice::Fixed => Kind::Fixed,
            KindChoice::Dynamic => Kind::Dynamic,
        }
    }
}

/// `ingest`
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
    /// Skip matching entries, as .gitignore does: *, **, a / at the end for directories, ! to negate; the last match counts
    #[arg(long, value_name = "PATTERN", help_heading = "Selection")]
    pub(crate) exclude: Vec<OsString>,
    /// Skip entries that match a pattern in FILE, one a line
    #[arg(long, value_name = "FILE", help_heading = "Selection")]
    pub(crate) exclude_from: Vec<PathBuf>,
    /// Store matching entries although an --exclude matches them
    #[arg(long, value_name = "PATTERN", help_heading = "Selection")]
    pub(crate) include: Vec<OsString>,
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
    /// Commit after every SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1GiB")]
    pub(crate) checkpoint: u64,
    /// Print what would be stored without storing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print a JSON document for each entry, one a line
    #[arg(long)]
    pub(crate) json_lines: bool,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// `put`
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
    /// Command whose output is stored; if it fails, the archive stays as it was [default: standard input]
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

/// `cat`
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Path of the entry, or a pattern such as 'logs/*.txt'
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
    /// Directory to list, other entry, or a pattern such as '**/*.jpg' [default: the archive's root directory]
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
    /// End each name with a byte of zero instead of a line break
    #[arg(short = '0', long, conflicts_with = "streams")]
    pub(crate) null: bool,
    /// Print one JSON document for each entry, in a line
    #[arg(long)]
    pub(crate) json_lines: bool,
}

/// `find`
#[derive(Debug, Args)]
pub(crate) struct Find {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Entries to search, with everything below them [default: everything]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Only entries whose name matches the GLOB; repeat it for alternatives
    #[arg(long, value_name = "GLOB")]
    pub(crate) name: Vec<OsString>,
    /// Only entries of this kind; separate alternatives by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) kind: Vec<EntryKind>,
    /// Only files with more bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) larger: Option<u64>,
    /// Only files with fewer bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) smaller: Option<u64>,
    /// Only entries modified after TIME: 2026-01-31, 2026-01-31T12:00, or an age such as '2 days'
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) newer: Option<Timestamp>,
    /// Only entries modified before TIME
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) older: Option<Timestamp>,
    /// Also print mode, links, owner, size and mtime
    #[arg(short, long)]
    pub(crate) long: bool,
    /// End each path with a byte of zero instead of a line break
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// Print one JSON document for each entry, in a line
    #[arg(long)]
    pub(crate) json_lines: bool,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
}

impl EntryKind {
    /// Returns the name in JSON documents.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            EntryKind::File => "file",
            EntryKind::Directory => "directory",
            EntryKind::Symlink => "symlink",
            EntryKind::Fifo => "fifo",
            EntryKind::Socket => "socket",
            EntryKind::CharacterDevice => "character_device",
            EntryKind::BlockDevice => "block_device",
        }
    }
}

/// `du`
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Du {
    /// The archive
    pub(crate) archive: PathBuf,
    /// Directory or pattern [default: the archive's root directory]
    pub(crate) path: Option<OsString>,
    /// Print directories at most COUNT levels below PATH
    #[arg(long, value_name = "COUNT")]
    pub(crate) depth: Option<usize>,
    /// Print sizes such as 1.5 GiB; blocks become the size that they take
    #[arg(short, long)]
    pub(crate) human_readable: bool,
    /// Print one JSON document for each directory, in a line
    #[arg(long)]
    pub(crate) json_lines: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory to write to; created if it does not exist
    pub(crate) directory: PathBuf,
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
    /// Entries to remove, or patterns such as 'logs/*.txt'
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
    /// Print one JSON document for each finding, in a line
    #[arg(long)]
    pub(crate) json_lines: bool,
}

/// `salvage`
#[derive(Debug, Args)]
pub(crate) struct SalvageOptions {
    /// The damaged archive, which is not changed
    pub(crate) archive: PathBuf,
    /// Archive to create; an existing file is never overwritten
    pub(crate) new: PathBuf,
    /// File written by `header export`, in case both copies of the header are destroyed
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) secret: NewSecret,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_command_under_one_task() {
        let listed = TASKS.iter().flat_map(|(_, names)| names.iter().copied());
        let mut listed: Vec<&str> = listed.collect();
        let mut program = Arguments::command();
        program.build();
        let visible = program.get_subcommands().filter(|command| !command.is_hide_set());
        let mut commands: Vec<&str> = visible.map(clap::Command::get_name).collect();
        listed.sort_unstable();
        commands.sort_unstable();
        assert_eq!(listed, commands);
    }
}
