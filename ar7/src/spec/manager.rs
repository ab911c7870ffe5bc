//! The managers: an archive of each kind.

use std::path::Path;

use ar7_engine::Error as EngineError;
use ar7_engine::format::{RESERVED_BLOCKS, RESERVED_STREAMS};
use ar7_registry::Archive;
use uuid::Uuid;

use super::block::StreamBlock;
use super::stream::BaseStream;
use crate::archive::is_io;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::options::{Kind, Options};

/// An open archive, and whether it was just created.
#[derive(Debug)]
pub struct Managed {
    archive: Archive,
    is_created: bool,
}

impl Managed {
    /// Opens the archive in a file, or creates it. Fails with [`Error::KindForbids`] if it is of
    /// another kind.
    fn new(filename: &Path, secret: &Key, options: &Options) -> Result<Managed> {
        let opened = Archive::open(filename, &secret.0, options.for_opening());
        let (archive, is_created) = match opened {
            Err(error) if is_io(&error, std::io::ErrorKind::NotFound) => {
                (Archive::create(filename, &secret.0, &options.for_creating())?, true)
            }
            opened => (opened?, false),
        };
        if archive.kind() != options.kind.of_engine() {
            let operation = "a manager of another kind";
            return Err(Error::KindForbids { kind: archive.kind().into(), operation });
        }
        Ok(Managed { archive, is_created })
    }
}

/// What all managers have in common.
///
/// The specification's `closed` has no counterpart: closing takes the manager.
pub trait StreamManager: Sized {
    /// The block that holds the metadata. Here it is the header; the metadata is in the meta slots.
    const BLOCK_META: u32 = 0;

    /// Number of reserved blocks.
    const SPECIAL_BLOCK_COUNT: u32 = RESERVED_BLOCKS;

    /// Number of reserved streams.
    const SPECIAL_STREAM_COUNT: usize = RESERVED_STREAMS;

    /// Returns the archive.
    #[doc(hidden)]
    fn managed(&self) -> &Managed;

    /// Returns the archive, to close it.
    #[doc(hidden)]
    fn into_managed(self) -> Managed;

    /// Returns whether the file was created by opening this manager.
    fn created(&self) -> bool {
        self.managed().is_created
    }

    /// Commits, closes the archive and releases the file.
    fn close(self) -> Result<()> {
        self.save_meta()?;
        Ok(self.into_managed().archive.close()?)
    }

    /// Returns the application's own metadata.
    fn meta(&self) -> Result<Vec<u8>> {
        Ok(self.managed().archive.metadata()?)
    }

    /// Sets the application's own metadata, up to 2048 bytes.
    fn set_meta(&self, meta: &[u8]) -> Result<()> {
        Ok(self.managed().archive.set_metadata(meta)?)
    }

    /// Commits the metadata and everything else that was written.
    fn save_meta(&self) -> Result<()> {
        Ok(self.managed().archive.commit()?)
    }

    /// Returns a copy of one of the eight reserved blocks. Fails for 0 and 7: the header and its copy
    /// are not sealed, so that they can be read without a key.
    fn special_block(&self, position: u32) -> Result<StreamBlock> {
        let block = self.managed().archive.reserved_block(position)?;
        let outside = || {
            Error::from(EngineError::OutOfBounds {
                what: "position of a reserved block",
                found: position.into(),
                allowed: (0..=RESERVED_BLOCKS - 1).into(),
            })
        };
        let position = i32::try_from(position).map_err(|_| outside())?;
        Ok(StreamBlock::at(position, block))
    }

    /// Opens one of the eight reserved streams. Those that the archive keeps for itself cannot be
    /// opened: 0 in an archive of many streams, 1 in one whose streams can be created.
    fn special_stream(&self, position: usize) -> Result<BaseStream> {
        Ok(BaseStream { stream: self.managed().archive.reserved_stream(position)? })
    }
}

macro_rules! manager {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Debug)]
        pub struct $name(Managed);

        impl StreamManager for $name {
            fn managed(&self) -> &Managed {
                &self.0
            }

            fn into_managed(self) -> Managed {
                self.0
            }
        }
    };
}

manager! {
    /// An archive of one stream. Truncating it and closing the archive cuts the file.
    SingleStreamManager
}

manager! {
    /// An archive with a fixed set of streams.
    FixedMultiStreamManager
}

manager! {
    /// An archive of any number of streams.
    DynamicMultiStreamManager
}

impl SingleStreamManager {
    /// The reserved stream that holds the data.
    pub const STREAM_DATA: usize = 0;

    /// Opens an archive, or creates it.
    pub fn new(filename: impl AsRef<Path>, secret: &Key) -> Result<SingleStreamManager> {
        let options = Options::default().write(true).kind(Kind::Single);
        Ok(SingleStreamManager(Managed::new(filename.as_ref(), secret, &options)?))
    }
}

impl FixedMultiStreamManager {
    /// The reserved stream that the archive keeps for free blocks.
    pub const STREAM_TRASH: usize = 0;

    /// Opens an archive, or creates it with this number of streams.
    pub fn new(
        filename: impl AsRef<Path>,
        secret: &Key,
        streams: u32,
    ) -> Result<FixedMultiStreamManager> {
        let options = Options::default().write(true).kind(Kind::Fixed).streams(streams);
        Ok(FixedMultiStreamManager(Managed::new(filename.as_ref(), secret, &options)?))
    }

    /// Returns the identities of the streams.
    pub fn streams(&self) -> Result<Vec<Uuid>> {
        let stored = self.0.archive.streams(None, usize::MAX)?;
        Ok(stored.iter().map(|stored| stored.record.identity).collect())
    }

    /// Opens a stream.
    pub fn open_stream(&self, identity: Uuid) -> Result<BaseStream> {
        Ok(BaseStream { stream: self.0.archive.open_stream(identity)? })
    }
}

impl DynamicMultiStreamManager {
    /// The reserved stream that the archive keeps for free blocks.
    pub const STREAM_TRASH: usize = 0;

    /// The reserved stream that the archive keeps for the index of streams.
    pub const STREAM_INDEX: usize = 1;

    /// Opens an archive, or creates it.
    pub fn new(filename: impl AsRef<Path>, secret: &Key) -> Result<DynamicMultiStreamManager> {
        let options = Options::default().write(true).kind(Kind::Dynamic);
        Ok(DynamicMultiStreamManager(Managed::new(filename.as_ref(), secret, &options)?))
    }

    /// Creates a stream and opens it.
    pub fn new_stream(&self) -> Result<BaseStream> {
        Ok(BaseStream { stream: self.0.archive.new_stream()? })
    }

    /// Opens a stream.
    pub fn open_stream(&self, identity: Uuid) -> Result<BaseStream> {
        Ok(BaseStream { stream: self.0.archive.open_stream(identity)? })
    }

    /// Saves and closes a stream.
    pub fn close_stream(&self, stream: BaseStream) -> Result<()> {
        stream.close()
    }

    /// Deletes a stream and recycles its blocks. Returns whether it existed.
    pub fn del_stream(&self, identity: Uuid) -> Result<bool> {
        Ok(self.0.archive.delete_stream(identity)?)
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.0.archive
    }
}
