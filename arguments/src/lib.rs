//! The commands of `ar7` and their options, as types. The parser, the help, the manual and the completions are generated
//! from them.
//!
//! Methods turn options into what the library needs where that takes more than a value: builders of an ingest and an
//! extraction, patterns, filters, sources of keys, costs. So a program that offers these options parses them in the same
//! way. This crate prints nothing, and opens no archive.
//!
//! ```
//! use ar7_arguments::{Arguments, Command};
//!
//! let parsed = Arguments::parse_line(["ar7", "ingest", "a.ar7", "documents", "--exclude", "*.tmp"])?;
//! let Command::Ingest(options) = &parsed.command else { panic!("another command") };
//! assert_eq!(options.archive, std::path::Path::new("a.ar7"));
//! assert!(options.selection.patterns()?.matches("draft.tmp", false) == Some(true));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// No argument may make the parser panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod entries;
mod keys;
#[cfg(all(feature = "mount", target_os = "linux"))]
mod mount;
mod trees;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ar7::archive7::Unrecorded;
use ar7::{Compression, Io, Kind, Options, Receipt, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use self::entries::*;
pub use self::keys::*;
#[cfg(all(feature = "mount", target_os = "linux"))]
pub use self::mount::*;
pub use self::trees::*;

/// The commands by task, as the help lists them.
const TASKS: &[(&str, &str)] = &[
    ("Trees and entries in and out", "ingest extract diff put cat"),
    #[cfg(all(feature = "mount", target_os = "linux"))]
    ("The archive as a directory", "mount unmount"),
    ("Entries in the archive", "ls find du mv rm mkdir"),
    ("Keys", "keygen key rekey header shred"),
    (
        "The archive as a whole",
        "create verify info receipt repair salvage compact wipe-free import-archive7 completions help",
    ),
];

/// What `help` does, the command that the parser adds.
const ABOUT_HELP: &str = "Print this message or the help of the given subcommand(s)";

/// Returns the parser. Its help lists the commands by task.
///
/// It is not built here: that takes longer than opening a small archive, and parsing builds what it needs.
pub fn program() -> clap::Command {
    let program = Arguments::command();
    let style = program.get_styles();
    let (header, literal) = (style.get_header(), style.get_literal());
    let mut commands = String::new();
    for (task, names) in TASKS {
        let _ = writeln!(commands, "{header}{task}:{header:#}");
        for name in names.split(' ') {
            let about = program.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map_or_else(|| ABOUT_HELP.to_owned(), ToString::to_string);
            let _ = writeln!(commands, "  {literal}{name:<16}{literal:#} {about}");
        }
        commands.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{commands}{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    program.help_template(template)
}

/// Returns the parser for one of several values.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|value| name(*value))).try_map(move |text| {
        all.iter().copied().find(|value| name(*value) == text).ok_or("unknown value")
    })
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
pub struct Arguments {
    /// The options that every command accepts.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// The source of the key.
    #[command(flatten)]
    pub key: KeyFlags,
    /// How to read the archive: memory map or positioned reads [default: map; verify: file]
    #[arg(long, global = true, value_name = "METHOD", value_parser = one_of(Io::ALL, Io::name))]
    pub io: Option<Io>,
    /// Wait up to SECONDS for another process to unlock the archive
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u32,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Without a terminal, print a line of progress every SECONDS
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub progress: u32,
    /// Suppress progress and summaries (errors are still printed)
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

impl Arguments {
    /// Parses a command line, which begins with the name of the program. The help lists the commands by task.
    pub fn parse_line<A: Into<OsString> + Clone>(
        line: impl IntoIterator<Item = A>,
    ) -> std::result::Result<Arguments, clap::Error> {
        program().try_get_matches_from(line).and_then(|found| Arguments::from_arg_matches(&found))
    }
}

impl Common {
    /// Adds the user's choices to the options of an archive.
    pub fn apply(&self, options: Options) -> Options {
        let options = options.wait(self.wait());
        match self.io {
            Some(io) => options.io(io),
            None => options,
        }
    }

    /// Returns how long to wait for another process.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
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
    Cat(On<Cat>),
    /// List entries
    #[command(after_help = "Example: ar7 ls -lR backup.ar7 documents")]
    Ls(On<Ls>),
    /// List entries that meet conditions
    #[command(
        after_help = "Example: ar7 find backup.ar7 --name '*.jpg' --larger 1M --newer '30 days'"
    )]
    Find(On<Find>),
    /// Print the bytes and blocks below each directory
    #[command(after_help = "Example: ar7 du -h backup.ar7 --depth 1")]
    Du(On<Du>),
    /// Restore entries with their modes, mtimes and links
    #[command(after_help = "Example: ar7 extract backup.ar7 documents/letters --to restored")]
    Extract(On<Extract>),
    /// Compare a directory with what is stored of it; exit code 1 if they differ
    #[command(after_help = "Example: ar7 diff backup.ar7 documents")]
    Diff(On<Diff>),
    /// Rename an entry or move it into a directory
    #[command(after_help = "Example: ar7 mv backup.ar7 documents/draft documents/final")]
    Mv(On<Move>),
    /// Remove entries and free their blocks
    #[command(after_help = "Example: ar7 rm -r backup.ar7 photos")]
    Rm(On<Remove>),
    /// Create directories
    #[command(after_help = "Example: ar7 mkdir -p backup.ar7 documents/2026")]
    Mkdir(On<MakeDirectory>),
    /// Use the archive as a directory
    #[cfg(all(feature = "mount", target_os = "linux"))]
    #[command(after_help = "\
Example: ar7 mount backup.ar7 /mnt && cp -a letters /mnt && ar7 unmount /mnt

It needs /dev/fuse, and for a normal user the program fusermount3. After a crash, the archive is at the last commit: \
what fsync returned for is in it. Access times are not stored: they equal mtimes.")]
    Mount(On<MountAt>),
    /// Unmount a directory, and wait until the archive is closed
    #[cfg(all(feature = "mount", target_os = "linux"))]
    #[command(after_help = "Example: ar7 unmount /mnt")]
    Unmount(Unmount),
    /// Check the whole archive and report every problem
    #[command(after_help = "Example: ar7 verify backup.ar7 --receipt receipts/latest")]
    Verify(On<Verify>),
    /// Write good copies of header, slots, index pages and redo blocks over bad ones
    #[command(after_help = "\
Example: ar7 repair backup.ar7

It changes only bad copies, and never trusts an older one. Exit code 4 means that a block has no good copy.")]
    Repair(On<NoOptions>),
    /// Copy what is left of a damaged archive to a new one
    #[command(after_help = "\
Example: ar7 salvage damaged.ar7 salvaged.ar7 --header backup.header

Everything that opens is copied; content without a name goes to lost+found. Salvage cannot detect content that was \
replaced by an older version of itself. Exit code 4 means that something is lost.")]
    Salvage(Salvage),
    /// Print format version, sizes, counts, key slots and whether recovery was needed
    #[command(after_help = "Example: ar7 info backup.ar7")]
    Info(On<NoOptions>),
    /// Print a receipt, with which `verify` detects an older copy or a fork
    #[command(
        after_help = "Writes to the archive if the last writer was killed, to make sure that its commit is on the disk.\n\nExample: ar7 receipt backup.ar7 > receipts/latest"
    )]
    Receipt(On<NoOptions>),
    /// Add, remove, list and change keys and passphrases
    #[command(subcommand)]
    Key(Key),
    /// Move blocks to the front of the file and cut it; run again to continue
    #[command(after_help = "\
Example: ar7 compact backup.ar7

While another process reads the archive, no space can be given back: exit code 9; --wait waits for it. Exit code 4 means \
that blocks do not open; they stay where they are, and --to makes no new archive.")]
    Compact(On<Compact>),
    /// Overwrite every free block so that no deleted data remains in the file
    #[command(after_help = "Example: ar7 wipe-free backup.ar7")]
    WipeFree(On<NoOptions>),
    /// Destroy every key slot, which makes the archive permanently unreadable; needs no key
    #[command(after_help = "Example: ar7 shred backup.ar7")]
    Shred(On<Shred>),
    /// Change the master key and reseal every block; run again to resume
    #[command(after_help = "Example: ar7 rekey backup.ar7 --drop-other-keys")]
    Rekey(On<Rekey>),
    /// Export or import the header; without it, no key opens the archive
    #[command(subcommand)]
    Header(Header),
    /// Import an archive of the Python module angelos.archive7 into a new archive
    #[command(
        name = "import-archive7",
        after_help = "Example: ar7 import-archive7 old.ar7 new.ar7 --old-key-file old.key"
    )]
    ImportArchive7(ImportArchive7),
    /// Print the completion script for a shell
    #[command(
        after_help = "Example: ar7 completions bash > /usr/share/bash-completion/completions/ar7"
    )]
    Completions(Completions),
    /// Write the manual, for packagers
    #[command(hide = true)]
    Man(Man),
}

impl Command {
    /// Returns whether the command can print a document of JSON.
    pub fn has_document(&self) -> bool {
        !matches!(
            self,
            Command::Cat(_) | Command::Completions(_) | Command::Man(_) | Command::Keygen(_)
        )
    }
}

/// A command on an existing archive.
#[derive(Debug, Args)]
pub struct On<T: Args> {
    /// The archive
    pub archive: PathBuf,
    /// The options of the command.
    #[command(flatten)]
    pub options: T,
}

impl<T: Args> On<T> {
    /// Calls a function with the archive and the options. Also returns the path of the archive.
    pub fn run<R>(
        &self,
        common: &Common,
        command: impl FnOnce(&Common, &Path, &T) -> R,
    ) -> (&Path, R) {
        (&self.archive, command(common, &self.archive, &self.options))
    }
}

/// The options of a command without options.
#[derive(Debug, Args)]
pub struct NoOptions {}

/// The options of `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Archive to create; an existing file is never overwritten
    pub archive: PathBuf,
    /// Kind of archive: one stream, a fixed set of streams, or files and any number of streams
    #[arg(long, default_value = "dynamic", value_parser = one_of(Kind::ALL, Kind::name))]
    pub kind: Kind,
    /// Number of streams in a fixed archive
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub streams: u32,
    /// The new key slot.
    #[command(flatten)]
    pub slot: NewSlot,
}

/// The options of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Also fail if the archive is older than this receipt or a fork
    #[arg(long, value_name = "LINE|FILE")]
    pub receipt: Option<OsString>,
    /// Open every block, but do not decompress what is in them
    #[arg(long)]
    pub quick: bool,
    /// Print one JSON document for each finding, in a line
    #[arg(long)]
    pub json_lines: bool,
}

/// The options of `compact`.
#[derive(Debug, Args)]
#[command(mut_args(requires_to))]
pub struct Compact {
    /// Leave the archive as it is, and copy everything to this new one, in the order of the names
    #[arg(long, value_name = "NEW")]
    pub to: Option<PathBuf>,
    /// Compress files and shared blocks that become smaller, and remember how: auto, fast, best, or zstd:N with a level N
    /// from 1 to 19; or none, for new files only [default: as the archive remembers, and only files of up to
    /// 16 MiB]
    #[arg(long, value_name = "METHOD")]
    pub compression: Option<Compression>,
    /// The key of the new archive.
    #[command(flatten)]
    pub secret: NewSecret,
    /// The new key slot.
    #[command(flatten)]
    pub slot: NewSlot,
}

impl Verify {
    /// Returns the receipt: the argument is its line, or a file that contains it.
    pub fn receipt(&self) -> Result<Option<Receipt>> {
        self.receipt
            .as_deref()
            .map(|argument| {
                let line = argument.to_str().filter(|text| text.starts_with(Receipt::BEGINNING));
                line.map_or_else(|| Receipt::read_file(argument), str::parse)
            })
            .transpose()
    }
}

/// Makes the options of the new archive require one.
fn requires_to(argument: clap::Arg) -> clap::Arg {
    let is_of_new = !["archive", "to", "compression"].contains(&argument.get_id().as_str());
    if is_of_new { argument.requires("to") } else { argument }
}

/// The options of `salvage`.
#[derive(Debug, Args)]
pub struct Salvage {
    /// The damaged archive, which is not changed
    pub archive: PathBuf,
    /// Archive to create; an existing file is never overwritten
    pub new: PathBuf,
    /// File written by `header export`, in case both copies of the header are destroyed
    #[arg(long, value_name = "FILE")]
    pub header: Option<PathBuf>,
    /// The key of the new archive.
    #[command(flatten)]
    pub secret: NewSecret,
    /// The new key slot.
    #[command(flatten)]
    pub slot: NewSlot,
}

/// The options of `import-archive7`.
#[derive(Debug, Args)]
pub struct ImportArchive7 {
    /// Archive of the Python module; it is only read
    pub old: PathBuf,
    /// Archive to create; an existing file is never overwritten
    pub new: PathBuf,
    /// File with the 32-byte key of OLD
    #[arg(long, value_name = "FILE")]
    pub old_key_file: PathBuf,
    /// What OLD is if it has one special stream: its content, or recycled blocks. The file does not say it
    #[arg(long, default_value = "single", value_parser = one_of(Unrecorded::ALL, Unrecorded::name))]
    pub kind: Unrecorded,
    /// The new key slot.
    #[command(flatten)]
    pub slot: NewSlot,
}

/// The options of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// The options of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Directory to write to; created if it does not exist
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_command_under_one_task() {
        let listed = TASKS.iter().flat_map(|(_, names)| names.split(' '));
        let mut listed: Vec<&str> = listed.collect();
        let mut program = Arguments::command();
        program.build();
        let visible = program.get_subcommands().filter(|command| !command.is_hide_set());
        let mut commands: Vec<&str> = visible.map(clap::Command::get_name).collect();
        listed.sort_unstable();
        commands.sort_unstable();
        assert_eq!(listed, commands);
        let help = program.find_subcommand("help").unwrap();
        assert_eq!(help.get_about().unwrap().to_string(), ABOUT_HELP);
    }
}
