//! The source of a key, and the options of the commands for keys and for the header.

use std::ffi::OsString;
use std::path::PathBuf;

use ar7::{KeySource, Size};
use clap::{Args, Subcommand};

use super::{NoOptions, On};

/// The source of the key. Without an option, the environment names it, or there is a prompt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct KeyFlags {
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

impl KeyFlags {
    /// Returns the source that the options name.
    pub(crate) fn source(&self) -> Option<KeySource> {
        source(&self.key_file, &self.passphrase_file, &self.passphrase_command)
    }
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

impl NewSecret {
    /// Returns the source that the options name.
    pub(crate) fn source(&self) -> Option<KeySource> {
        source(&self.new_key_file, &self.new_passphrase_file, &self.new_passphrase_command)
    }
}

#[expect(clippy::ref_option, reason = "the fields of options")]
fn source(
    key_file: &Option<PathBuf>,
    passphrase_file: &Option<PathBuf>,
    passphrase_command: &Option<OsString>,
) -> Option<KeySource> {
    let key_file = key_file.clone().map(KeySource::KeyFile);
    let passphrase_file = || passphrase_file.clone().map(KeySource::PassphraseFile);
    let passphrase_command = || passphrase_command.clone().map(KeySource::PassphraseCommand);
    key_file.or_else(passphrase_file).or_else(passphrase_command)
}

/// A new key slot.
#[derive(Debug, Args)]
pub(crate) struct NewSlot {
    /// Label for the new key slot, up to 64 bytes
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    #[command(flatten)]
    pub(crate) cost: Cost,
}

/// The cost of deriving the key of a new key slot from its passphrase.
#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// Argon2id memory for a new passphrase; all passphrases together may use at most 1 GiB
    #[arg(long = "kdf-memory", value_name = "SIZE", default_value = "64MiB")]
    pub(crate) memory: Size,
    /// Argon2id passes; all passphrases together may use at most 64
    #[arg(long = "kdf-passes", value_name = "COUNT", default_value_t = 3)]
    pub(crate) passes: u32,
    /// Argon2id lanes; at most 16
    #[arg(long = "kdf-lanes", value_name = "COUNT", default_value_t = 1)]
    pub(crate) lanes: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Add a key file or passphrase
    #[command(after_help = "Example: ar7 key add backup.ar7 --new-key-file second --label desk")]
    Add(On<KeyAdd>),
    /// Remove a key by overwriting its key slot
    #[command(after_help = "Example: ar7 key remove backup.ar7 1")]
    Remove(On<KeyRemove>),
    /// List key slots with their kind, label and costs
    #[command(after_help = "Example: ar7 key list backup.ar7")]
    List(On<NoOptions>),
    /// Replace a key with a new one
    #[command(after_help = "Example: ar7 key change backup.ar7 --new-key-file new")]
    Change(On<KeyChange>),
    /// Change the label of the key in use
    #[command(after_help = "Example: ar7 key label backup.ar7 laptop")]
    Label(On<KeyLabel>),
}

#[derive(Debug, Args)]
pub(crate) struct KeyAdd {
    #[command(flatten)]
    pub(crate) new: NewSecret,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRemove {
    /// Number of the key slot, as `key list` prints it
    #[arg(value_name = "SLOT")]
    pub(crate) number: usize,
}

#[derive(Debug, Args)]
pub(crate) struct KeyChange {
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

#[derive(Debug, Args)]
pub(crate) struct KeyLabel {
    /// The new label, up to 64 bytes
    pub(crate) label: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Header {
    /// Write the header (4096 bytes) to a new file
    #[command(after_help = "Example: ar7 header export backup.ar7 backup.header")]
    Export(On<HeaderExport>),
    /// Write an exported header to the archive
    #[command(after_help = "Example: ar7 header import backup.ar7 backup.header")]
    Import(On<HeaderImport>),
}

#[derive(Debug, Args)]
pub(crate) struct HeaderExport {
    /// File to create; an existing file is never overwritten
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct HeaderImport {
    /// File written by `header export`
    pub(crate) file: PathBuf,
    /// Accept an outdated header; keys removed since the export open the archive again
    #[arg(long)]
    pub(crate) older: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// File to create; an existing file is never overwritten
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Rekey {
    /// Remove all other keys; only the key in use can wrap the new master key
    #[arg(long)]
    pub(crate) drop_other_keys: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Shred {
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
}
