//! The commands for keys and for the header, and the options of a new key.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::sizes::parse_size;

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
#[expect(clippy::struct_field_names, reason = "the options have these names")]
pub(crate) struct NewSecret {
    /// File with the new key [env: `AR7_NEW_KEY_FILE`]
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// File with the new passphrase in its first line [env: `AR7_NEW_PASSPHRASE_FILE`]
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Shell command that prints the new passphrase [env: `AR7_NEW_PASSPHRASE_COMMAND`] [default: the passphrase in
    /// `AR7_NEW_PASSPHRASE`, or a prompt]
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["new_key_file", "new_passphrase_file"])]
    pub(crate) new_passphrase_command: Option<OsString>,
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
