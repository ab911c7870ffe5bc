//! Creates an archive: the file is complete and durable before it gets its name.

use std::path::Path;
use std::sync::Arc;

use super::handle::Store;
use super::open::{Access, Io, OpenOptions};
use super::space::reserve_of;
use super::superblock::choose::Pair;
use super::superblock::copy::write_copy;
use super::writer::Writer;
use crate::crypto::{
    HeaderKey, KeyDerivation, KeyKind, MasterKey, SealJob, Sealer, Secret, random_array,
    random_u32, wrap_master_key,
};
use crate::device::{Device, NewFile, remove_abandoned};
use crate::error::Result;
use crate::format::{
    ArchiveKind, BLANK_BLOCKS, BLOCK_SIZE, BlockHead, DATA_SIZE, Data, Generation, HEADERS, Header,
    KeySlot, MetaSlot, RESERVED_BLOCKS, Timestamp, header_digest,
};

/// Options for creating an archive.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Single, fixed or dynamic.
    pub kind: ArchiveKind,
    /// Cost of deriving a key from a passphrase. A raw key does not use it.
    pub derivation: KeyDerivation,
    /// Label of the first key slot, up to 64 bytes.
    pub label: String,
    /// Memory map or plain file.
    pub io: Io,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions {
            kind: ArchiveKind::Dynamic,
            derivation: KeyDerivation::default(),
            label: String::new(),
            io: Io::Map,
        }
    }
}

/// A new archive without its name. Dropping it deletes the file.
#[derive(Debug)]
#[must_use]
pub struct Unpublished {
    new: NewFile,
    store: Arc<Store>,
}

impl Unpublished {
    /// Makes everything that was written durable, and gives the file its name. Fails if a file has taken the name
    /// meanwhile, which it never replaces, or if an earlier write or sync has failed.
    pub fn publish(self) -> Result<()> {
        let Unpublished { new, store } = self;
        store.check_usable()?;
        store.poisoning(new.persist(&*store.device))
    }
}

impl Store {
    /// Creates an archive in a new file, and never changes an existing file. The file has a temporary name until it
    /// is complete and on disk, so a crash leaves no incomplete archive at `path`.
    pub fn create(
        path: &Path,
        secret: &Secret,
        options: &CreateOptions,
    ) -> Result<(Arc<Store>, Writer)> {
        let make = || {
            let (new, file) = NewFile::create(path)?;
            lay_out(&file, secret, options)?;
            new.persist(&file)?;
            Ok(options.io.device(file))
        };
        let made = make().and_then(|device| open_made(device, Some(path), secret, options));
        made.map_err(|error: crate::Error| error.at_path(path))
    }

    /// Creates an archive in a new file that gets its name only when [`Unpublished::publish`] is called: for an archive
    /// that nobody should find before it is complete. Until then the file has a temporary name.
    ///
    /// Removes what killed processes left of earlier attempts.
    pub fn create_unpublished(
        path: &Path,
        secret: &Secret,
        options: &CreateOptions,
    ) -> Result<(Arc<Store>, Writer, Unpublished)> {
        // First, because they may occupy the space that this archive needs.
        remove_abandoned(path);
        let make = || {
            let (new, file) = NewFile::create(path)?;
            lay_out(&file, secret, options)?;
            let (store, writer) = open_made(options.io.device(file), Some(path), secret, options)?;
            let unpublished = Unpublished { new, store: Arc::clone(&store) };
            Ok((store, writer, unpublished))
        };
        make().map_err(|error: crate::Error| error.at_path(path))
    }

    /// Creates an archive on an empty device.
    pub fn create_device(
        device: Box<dyn Device>,
        secret: &Secret,
        options: &CreateOptions,
    ) -> Result<(Arc<Store>, Writer)> {
        lay_out(&*device, secret, options)?;
        open_made(device, None, secret, options)
    }
}

/// Opens a new archive like any other: everything the engine knows of it comes from the file.
fn open_made(
    device: Box<dyn Device>,
    path: Option<&Path>,
    secret: &Secret,
    options: &CreateOptions,
) -> Result<(Arc<Store>, Writer)> {
    let options = OpenOptions { access: Access::Write, io: options.io, ..OpenOptions::default() };
    let (store, writer) = Store::open_at(device, path, secret, options)?;
    Ok((store, writer.expect("opened for writing")))
}

/// Writes the eight reserved blocks: the header and its copy, four meta slots and two blank blocks. The file has no
/// name yet, so the order of the writes does not matter. It is synced before it gets its name.
fn lay_out(device: &dyn Device, secret: &Secret, options: &CreateOptions) -> Result<()> {
    let archive = uuid::Builder::from_random_bytes(random_array()?).into_uuid();
    let master = MasterKey::generate()?;
    let mut slots = std::array::from_fn(|_| KeySlot::Empty);
    slots[0] = wrap_master_key(&master, secret, &options.derivation, archive, 0, &options.label)?;
    let header = Header::new(archive, options.kind, Timestamp::now(), slots);
    let header = header.encode(&HeaderKey::derive(&master, archive));
    let sealer = Sealer::new(&master, archive);
    // The pairs hold commits 1 and 0, so that they differ by one from the first moment on.
    let generation = Generation { session: 0, step: 0, salt: random_u32()? };
    let zero = MetaSlot::first(generation, 1, header_digest(&header));
    device.grow(RESERVED_BLOCKS + reserve_of(&zero))?;
    for position in HEADERS {
        device.write(position, &header[..])?;
    }
    let one =
        MetaSlot { generation: Generation { step: 1, ..generation }, number: 1, ..zero.clone() };
    for (pair, slot) in [(Pair::Odd, &one), (Pair::Even, &zero)] {
        for position in pair.positions() {
            write_copy(device, &sealer, slot, position)?;
        }
    }
    let blank: Data = [0; DATA_SIZE];
    for position in BLANK_BLOCKS {
        let job = SealJob { position, head: BlockHead::default(), data: &blank };
        seal_to(device, &sealer, KeyKind::Data, generation, job)?;
    }
    device.sync()
}

fn seal_to(
    device: &dyn Device,
    sealer: &Sealer,
    kind: KeyKind,
    generation: Generation,
    job: SealJob<'_>,
) -> Result<()> {
    let position = job.position;
    let mut bytes = [0; BLOCK_SIZE];
    sealer.seal_batch(kind, generation, &[job], &mut bytes)?;
    device.write(position, &bytes)
}
