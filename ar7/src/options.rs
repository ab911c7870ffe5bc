//! How an archive is opened or created.

use std::time::Duration;

use ar7_engine::crypto::KeyDerivation;
use ar7_engine::format::{ArchiveKind, DerivationCost};
use ar7_engine::store::{self, Access};
use ar7_registry::CreateOptions;

use crate::error::{Error, Result};
use crate::named::named;

/// Which streams an archive has, and who makes them. Chosen at creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Kind {
    /// Files, directories, and any number of streams.
    #[default]
    Dynamic,
    /// A set of streams without names, fixed at creation.
    Fixed,
    /// One stream: the one with the nil UUID, [`uuid::Uuid::nil`].
    Single,
}

impl Kind {
    pub(crate) fn of_engine(self) -> ArchiveKind {
        match self {
            Kind::Dynamic => ArchiveKind::Dynamic,
            Kind::Fixed => ArchiveKind::Fixed,
            Kind::Single => ArchiveKind::Single,
        }
    }
}

impl From<ArchiveKind> for Kind {
    fn from(kind: ArchiveKind) -> Kind {
        match kind {
            ArchiveKind::Dynamic => Kind::Dynamic,
            ArchiveKind::Fixed => Kind::Fixed,
            ArchiveKind::Single => Kind::Single,
        }
    }
}

named!(Kind { Single => "single", Fixed => "fixed", Dynamic => "dynamic" });

/// How the file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Io {
    /// Through a memory map. If the file becomes shorter or its medium fails, the system sends
    /// SIGBUS; a handler that the library installs turns it into an error.
    #[default]
    Map,
    /// With system calls. No signal handler is installed.
    File,
}

named!(Io { Map => "map", File => "file" });

/// The cost of deriving a key from a passphrase with Argon2id (RFC 9106). The default takes 64 MiB
/// of memory and 3 passes.
///
/// A raw key of 32 bytes needs no derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Derivation(pub(crate) KeyDerivation);

impl Derivation {
    /// Creates a cost: memory in KiB from 8 per lane to 1 GiB, 1 to 64 passes, and 1 to 16 lanes.
    /// Memory times passes is at most 16 GiB.
    /// Fails with [`Error::OutOfBounds`] for any other one.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Derivation> {
        let cost = KeyDerivation::new(DerivationCost { memory_kib, passes, lanes });
        cost.map(Derivation).map_err(Error::from)
    }
}

/// Whether an archive is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Creation {
    #[default]
    Never,
    IfMissing,
    Always,
}

/// How to open or create an archive. [`crate::Archive::options`] returns the default: open an
/// existing archive for reading.
///
/// The options from [`Options::kind`] to [`Options::label`] apply to a new archive only.
#[derive(Debug, Clone, Default)]
#[must_use]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent option")]
pub struct Options {
    pub(crate) write: bool,
    pub(crate) creation: Creation,
    pub(crate) kind: Kind,
    pub(crate) streams: u32,
    pub(crate) derivation: Derivation,
    pub(crate) label: String,
    pub(crate) io: Io,
    pub(crate) accept_lost_commit: bool,
    pub(crate) drop_other_keys: bool,
    pub(crate) accept_older_header: bool,
    pub(crate) wait: Duration,
}

impl Options {
    /// Opens the archive for writing. One writer at a time can have an archive open.
    pub fn write(mut self, write: bool) -> Options {
        self.write = write;
        self
    }

    /// Creates the archive if the file does not exist. Implies [`Options::write`].
    pub fn create(mut self, create: bool) -> Options {
        self.creation = if create { Creation::IfMissing } else { Creation::Never };
        self
    }

    /// Creates the archive, and fails if the file exists. Implies [`Options::write`].
    pub fn create_new(mut self, create_new: bool) -> Options {
        self.creation = if create_new { Creation::Always } else { Creation::Never };
        self
    }

    /// Sets the kind of a new archive.
    pub fn kind(mut self, kind: Kind) -> Options {
        self.kind = kind;
        self
    }

    /// Sets the number of streams of a new archive of kind [`Kind::Fixed`].
    pub fn streams(mut self, streams: u32) -> Options {
        self.streams = streams;
        self
    }

    /// Sets the cost of deriving a key from a passphrase.
    pub fn derivation(mut self, derivation: Derivation) -> Options {
        self.derivation = derivation;
        self
    }

    /// Sets the label of the first key slot, up to 64 bytes. It is visible without the key.
    pub fn label(mut self, label: impl Into<String>) -> Options {
        self.label = label.into();
        self
    }

    /// Sets how the file is read.
    pub fn io(mut self, io: Io) -> Options {
        self.io = io;
        self
    }

    /// For reading only: opens an archive whose newest commit may be lost, because one pair of meta
    /// slots has no good copy.
    pub fn accept_lost_commit(mut self, accept: bool) -> Options {
        self.accept_lost_commit = accept;
        self
    }

    /// Lets [`Options::rekey`] remove the archive's other keys.
    pub fn drop_other_keys(mut self, drop: bool) -> Options {
        self.drop_other_keys = drop;
        self
    }

    /// Lets [`Options::import_header`] write an older header. Keys that were removed since its export open
    /// the archive again.
    pub fn accept_older_header(mut self, accept: bool) -> Options {
        self.accept_older_header = accept;
        self
    }

    /// Waits up to this long while another process has locked the archive: for writing, while there
    /// is another writer; for reading or a rekey, while the other excludes it. By default, opening
    /// fails at once with [`Error::Locked`].
    pub fn wait(mut self, wait: Duration) -> Options {
        self.wait = wait;
        self
    }

    pub(crate) fn engine_io(&self) -> store::Io {
        match self.io {
            Io::Map => store::Io::Map,
            Io::File => store::Io::File,
        }
    }

    pub(crate) fn for_opening(&self) -> store::OpenOptions {
        let writes = self.write || self.creation != Creation::Never;
        store::OpenOptions {
            access: if writes { Access::Write } else { Access::Read },
            io: self.engine_io(),
            accept_lost_pair: self.accept_lost_commit,
            wait: self.wait,
        }
    }

    pub(crate) fn for_creating(&self) -> CreateOptions {
        CreateOptions {
            kind: self.kind.of_engine(),
            fixed_streams: self.streams,
            derivation: self.derivation.0,
            label: self.label.clone(),
            io: self.engine_io(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_archive_gets_the_chosen_derivation() {
        let cheap = Derivation::new(64, 1, 2).unwrap();
        assert_ne!(cheap, Derivation::default());
        assert_eq!(Options::default().derivation(cheap).for_creating().derivation, cheap.0);
    }
}
