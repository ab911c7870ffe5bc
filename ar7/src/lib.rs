//! Encrypted archives: any number of files and streams in one file, changed in transactions and read
//! in snapshots.
//!
//! Everything in the file is encrypted and authenticated, block by block. A change reaches the file
//! atomically, and it costs what it changes, however large the archive is. Without the key, no edit of
//! the file makes a read return other bytes than those that were written there.
//!
//! # A complete example
//!
//! ```
//! use std::io::{Read, Seek, SeekFrom, Write};
//!
//! use ar7::{Archive, Key, Mode};
//!
//! fn main() -> ar7::Result<()> {
//! #   let folder = tempfile::tempdir()?;
//! #   let path = folder.path().join("notes.ar7");
//! #   let path = &path;
//! #   /*
//!     let path = "notes.ar7";
//! #   */
//!     let key = Key::generate()?; // keep `key.as_bytes()`, or use `Key::passphrase`
//!
//!     let archive = Archive::options().create(true).open(path, &key)?;
//!     let transaction = archive.begin()?;
//!     transaction.create_directories("projects/ar7")?;
//!     transaction.write("projects/ar7/notes.txt", &b"hello, world"[..])?; // from any reader
//!     let mut log = transaction.open("projects/log", Mode::APPEND)?;
//!     writeln!(log, "a file is Read + BufRead + Seek + Write")?;
//!     drop(log);
//!     transaction.commit()?; // now durable: survives a crash
//!
//!     let snapshot = archive.snapshot()?; // one commit, for as long as it is held
//!     let mut file = snapshot.open("projects/ar7/notes.txt")?;
//!     file.seek(SeekFrom::Start(7))?;
//!     let mut text = String::new();
//!     file.read_to_string(&mut text)?;
//!     assert_eq!(text, "world");
//!     for entry in snapshot.walk("projects")? {
//!         let entry = entry?;
//!         println!("{:>8} {}", entry.metadata.len, entry.path.display());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Reading: snapshots
//!
//! [`Archive::snapshot`] returns the newest commit as a [`Snapshot`]: its names, and the bytes of all
//! its files and streams. It is cheap, and so are its clones. Nothing that is committed later shows in
//! it, so several reads, or a long copy, are always of one version. A read returns the bytes of the
//! snapshot's commit or an error, never anything else. A snapshot does not borrow the archive: it can be
//! kept in a struct or sent to another thread.
//!
//! # Changing: transactions
//!
//! [`Archive::begin`] returns a [`Transaction`]. It reads its own changes; nobody else sees them until
//! [`Transaction::commit`] makes all of them visible at once. Dropping the transaction instead discards
//! them. An archive has one transaction at a time: `begin` waits for the one in progress, and
//! [`Archive::try_begin`] refuses with [`Error::InTransaction`]. Files that a transaction opened are
//! borrowed from it, so that none can outlive it.
//!
//! [`Transaction::savepoint`] marks a point of a transaction. [`Savepoint::roll_back`] undoes what follows
//! that point, and keeps what came before it.
//!
//! # Durability
//!
//! When `commit` returns, the changes are on stable storage. After a crash or a power cut, the archive
//! opens at the last commit that returned, or at the one that was in progress; never at a mixture. If
//! the medium fails during a commit, every later call returns [`Error::Unusable`]; opening the archive
//! again recovers it. A full disk is [`Error::NoSpace`], and loses only the transaction.
//!
//! # Threads
//!
//! All types are `Send` and `Sync`. Threads share an [`Archive`] by reference or in an `Arc`. Readers
//! never wait for a transaction, and reads of many threads proceed in parallel. Writes of several threads
//! in one transaction are allowed, and take turns. In asynchronous code, call the library from a thread
//! for blocking work.
//!
//! # Processes
//!
//! One process can have an archive open for writing, next to any number of processes that read it. A
//! second writer gets [`Error::Locked`] with the number of the first one's process, or waits with
//! [`Options::wait`]. An archive that is opened for reading shows the commit that was the newest then;
//! [`Archive::refresh`] moves it to the newest one. No writer overwrites what it reads.
//!
//! The locks belong to the operating system, and end with the process. A process that was forked from
//! another one cannot use its archives: [`Error::OtherProcess`].
//!
//! A snapshot that is held for long, in any process, keeps blocks from being reused. There is a limit:
//! beyond it, changes of existing blocks fail with [`Error::HeldByReaders`] until the snapshot is gone,
//! while new files and deletions go on.
//!
//! # Errors
//!
//! There is one type, [`Error`], whose variants carry data: the path, the block, what was expected and
//! what was found. It converts to [`std::io::Error`] with the kind that the operating system would use
//! ([`Error::kind`]) and back, so that `?` works in functions of either type. A wrong key, damage, a newer
//! format and a lock are different errors. Damage of one block makes the reads fail that need it, and no
//! others.
//!
//! # Speed
//!
//! - Commit as rarely as durability allows: each commit waits for the disk. A transaction with thousands
//!   of changes costs little more than one with a single change.
//! - Large reads and writes are encrypted on all cores: [`File::read_at`] of a MiB is the fastest way to
//!   read a large file. Small sequential reads through [`std::io::Read`] or [`std::io::BufRead`] open each
//!   block once, and need no further buffer.
//! - A file takes whole blocks of 4096 bytes, with 4008 bytes of content each.
//!
//! # Features
//!
//! - `fast-aead`, on by default: encryption in C and assembly, several times as fast. Without it, the
//!   library is pure Rust.
//! - `serde`: records, events and reports implement `Serialize`, in the form that the command prints with
//!   `--json`. UUIDs and times are text, and so is a mode, in octal. A path is the field `name`, and has one
//!   field more, `name_bytes` in hexadecimal, if it is not UTF-8.
//! - `prompt`: `Key::prompt` and `Key::prompt_new` ask for a passphrase in a terminal.
//! - `archive7`: the module of that name, which imports archives of the Python module `angelos.archive7`.
//!
//! # Streams without names
//!
//! Below the names there are streams of bytes, identified by UUIDs. [`Transaction::new_stream`] makes one
//! without a name, for applications that have their own index. A new archive can also have a fixed set of
//! streams, or exactly one ([`Options::kind`]).

mod archive;
#[cfg(feature = "archive7")]
pub mod archive7;
mod columns;
mod command;
mod compact;
mod compression;
mod copy;
mod count;
mod durable;
mod error;
mod file;
mod filter;
pub mod fs;
mod glob;
mod information;
mod key;
mod listing;
mod maintenance;
mod memory;
mod meter;
mod named;
mod open;
mod options;
mod order;
mod path;
#[cfg(feature = "prompt")]
mod prompt;
mod read_ahead;
mod receipt;
mod records;
mod recovery;
mod removal;
mod salvage;
mod savepoint;
mod secret;
#[cfg(feature = "serde")]
mod serialized;
mod shortfall;
mod size;
mod snapshot;
mod source;
pub mod spec;
mod text;
mod time;
mod transaction;
mod usage;
mod verification;

pub use archive::Archive;
pub use command::CommandOutput;
pub use compact::{Compacted, CompactedCopy, Compaction};
pub use compression::Compression;
pub use copy::{CopyError, Polled, copy, copy_with, enlarge_pipe, was_closed_at_start};
pub use count::Count;
pub use error::{Error, ErrorClass, Result};
pub use file::{File, READ_MAX};
pub use filter::Filter;
pub use glob::NamePattern;
pub use information::Information;
pub use key::Key;
pub use listing::{Listed, Listing};
pub use maintenance::{Damage, Finding, ImportedHeader, Progress, Rekeyed, Repaired, read_header};
pub use memory::hide_memory;
pub use meter::Meter;
pub use options::{Derivation, Io, Kind, Options};
pub use receipt::Receipt;
pub use records::{
    Attributes, Device, Entry, FileType, KeySlot, Metadata, Origin, Special, Statistics,
    StreamInfo, Timestamp,
};
pub use recovery::{DamagedCopies, Recovery};
pub use removal::{Removal, Removed};
pub use salvage::{Salvage, SalvageOutcome, SalvageProgress, SalvageSummary, Salvaged};
pub use savepoint::Savepoint;
pub use secret::KeySource;
pub use shortfall::Shortfall;
pub use size::Size;
pub use snapshot::Snapshot;
pub use source::{List, Walk};
pub use text::PathText;
pub use transaction::Transaction;
pub use usage::{Usage, Usages};
pub use verification::{Summary, Verification};

pub use ar7_engine::format::{Generation, Position};
pub use ar7_engine::{Check, Fault, Value};
pub use ar7_registry::Mode;
pub use ar7_registry::records::ExtendedAttribute;
pub use uuid;

/// Runs the example in the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
