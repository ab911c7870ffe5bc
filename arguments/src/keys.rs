//! The source of a key, and the options of the commands for keys and for the header.

use std::ffi::OsString;
use std::path::PathBuf;

use ar7::{Archive, Derivation, KeySource, Options, Result, Size};
use clap::{Args, Subcommand};

use crate::{NoOptions, On};

/// The source of the key. Without an option, the environment names it, or there is a prompt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct KeyFlags {
    /// File with the 32-byte key [env: `AR7_KEY_FILE`]
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// File with the passphrase in its first line [env: `AR7_PASSPHRASE_FILE`]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "key_file")]
    pub passphrase_file: Option<PathBuf>,
    /// Shell command that prints the passphrase [env: `AR7_PASSPHRASE_COMMAND`] [default: the passphrase in
    /// `AR7_PASSPHRASE`, or a prompt]
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with_all = ["key_file", "passphrase_file"])]
    pub passphrase_command: Option<OsString>,
}

impl KeyFlags {
    /// Returns the source that the options name.
    pub fn source(&self) -> Option<KeySource> {
        source(&self.key_file, &self.passphrase_file, &self.passphrase_command)
    }
}

/// The source of a new key.
#[derive(Debug, Args)]
pub struct NewSecret {
    /// File with the new key [env: `AR7_NEW_KEY_FILE`]
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
    /// File with the new passphrase in its first line [env: `AR7_NEW_PASSPHRASE_FILE`]
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    pub new_passphrase_file: Option<PathBuf>,
    /// Shell command that prints the new passphrase [env: `AR7_NEW_PASSPHRASE_COMMAND`] [default: the passphrase in
    /// `AR7_NEW_PASSPHRASE`, or a prompt]
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["new_key_file", "new_passphrase_file"])]
    pub new_passphrase_command: Option<OsString>,
}

impl NewSecret {
    /// Returns the source that the options name.
    pub fn source(&self) -> Option<KeySource> {
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
pub struct NewSlot {
    /// Label for the new key slot, up to 64 bytes
    #[arg(long, default_value = "")]
    pub label: String,
    /// The cost of a passphrase.
    #[command(flatten)]
    pub cost: Cost,
}

impl NewSlot {
    /// Returns the options of a new archive with this key slot.
    pub fn options(&self) -> Result<Options> {
        self.add_to(Archive::options())
    }

    /// Adds this key slot to the options of a new archive.
    pub fn add_to(&self, options: Options) -> Result<Options> {
        Ok(options.label(&self.label).derivation(self.cost.derivation()?))
    }
}

/// The cost of deriving the key of a new key slot from its passphrase.
#[derive(Debug, Args)]
pub struct Cost {
    /// Argon2id memory for a new passphrase; all passphrases together may use at most 1 GiB
    #[arg(long = "kdf-memory", value_name = "SIZE", default_value = "64MiB")]
    pub memory: Size,
    /// Argon2id passes; all passphrases together may use at most 64
    #[arg(long = "kdf-passes", value_name = "COUNT", default_value_t = 3)]
    pub passes: u32,
    /// Argon2id lanes; at most 16
    #[arg(long = "kdf-lanes", value_name = "COUNT", default_value_t = 1)]
    pub lanes: u32,
}

impl Cost {
    /// Returns the cost of a new passphrase.
    pub fn derivation(&self) -> Result<Derivation> {
        let memory_kib = u32::try_from(self.memory.0 >> 10).unwrap_or(u32::MAX);
        Derivation::new(memory_kib, self.passes, self.lanes)
    }
}

/// The commands of `key`.
#[derive(Debug, Subcommand)]
pub enum Key {
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

/// The options of `key add`.
#[derive(Debug, Args)]
pub struct KeyAdd {
    /// The new key.
    #[command(flatten)]
    pub new: NewSecret,
    /// The new key slot.
    #[command(flatten)]
    pub slot: NewSlot,
}

/// The options of `key remove`.
#[derive(Debug, Args)]
pub struct KeyRemove {
    /// Number of the key slot, as `key list` prints it
    #[arg(value_name = "SLOT")]
    pub number: usize,
}

/// The options of `key change`.
#[derive(Debug, Args)]
pub struct KeyChange {
    /// Number of the key slot [default: the slot of the key in use]
    #[arg(value_name = "SLOT")]
    pub number: Option<usize>,
    /// The new key.
    #[command(flatten)]
    pub new: NewSecret,
    /// New label for the key slot, up to 64 bytes [default: the present one]
    #[arg(long)]
    pub label: Option<String>,
    /// The cost of a passphrase.
    #[command(flatten)]
    pub cost: Cost,
}

/// The options of `key label`.
#[derive(Debug, Args)]
pub struct KeyLabel {
    /// The new label, up to 64 bytes
    pub label: String,
}

/// The commands of `header`.
#[derive(Debug, Subcommand)]
pub enum Header {
    /// Write the header (4096 bytes) to a new file
    #[command(after_help = "Example: ar7 header export backup.ar7 backup.header")]
    Export(On<HeaderExport>),
    /// Write an exported header to the archive
    #[command(after_help = "Example: ar7 header import backup.ar7 backup.header")]
    Import(On<HeaderImport>),
}

/// The options of `header export`.
#[derive(Debug, Args)]
pub struct HeaderExport {
    /// File to create; an existing file is never overwritten
    pub file: PathBuf,
}

/// The options of `header import`.
#[derive(Debug, Args)]
pub struct HeaderImport {
    /// File written by `header export`
    pub file: PathBuf,
    /// Accept an outdated header; keys removed since the export open the archive again
    #[arg(long)]
    pub older: bool,
}

/// The options of `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// File to create; an existing file is never overwritten
    pub file: PathBuf,
}

/// The options of `rekey`.
#[derive(Debug, Args)]
pub struct Rekey {
    /// Remove all other keys; only the key in use can wrap the new master key
    #[arg(long)]
    pub drop_other_keys: bool,
}

/// The options of `shred`.
#[derive(Debug, Args)]
pub struct Shred {
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}
