//! Rekeying: changing the master key of an archive.

use std::ops::ControlFlow;
use std::path::Path;

use ar7_engine::crypto::Secret;
use ar7_engine::device::Device;
use ar7_engine::store::{Access, OpenOptions, RekeyOptions, RekeySummary, Store};

use crate::archive::Archive;
use crate::error::Result;

impl Archive {
    /// Changes the master key of the archive in a file: seals every block again, in its place.
    /// Continues a rekey that was interrupted. Until the rekey is finished, the archive can only be
    /// read.
    ///
    /// The key slot that `secret` opens stays. Other keys are removed, provided that the options
    /// allow it.
    ///
    /// No other process can use the archive meanwhile, not even for reading: the call fails with
    /// [`ar7_engine::Error::Locked`] if another one does so for longer than the options allow to
    /// wait.
    ///
    /// Before the rekey, free blocks are wiped. If another writer changes the archive between these
    /// two steps, the call fails before the rekey begins.
    ///
    /// `progress` receives the number of finished blocks and of all blocks. If it breaks, the call
    /// fails with [`ar7_engine::Error::Stopped`], and the next call continues. A break before the
    /// first block leaves the archive unchanged.
    pub fn rekey(
        path: &Path,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let (access, io, wait) = (Access::Write, options.io, options.wait);
        let writing = OpenOptions { access, io, wait, ..OpenOptions::default() };
        prepare(Archive::open(path, secret, writing), options)?;
        Ok(Store::rekey(path, secret, options, progress)?)
    }

    /// Does the same on a device. `device` opens it, and is called twice.
    pub fn rekey_device(
        device: &dyn Fn() -> Box<dyn Device>,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let writing = OpenOptions { access: Access::Write, ..OpenOptions::default() };
        prepare(Archive::open_device(device(), secret, writing), options)?;
        Ok(Store::rekey_device(device(), secret, options, progress)?)
    }
}

/// Locks out readers, for whom a redo list may have to stay. Moves pages with a damaged copy, commits
/// without a redo list, and wipes free blocks, so that every position holds a block that opens
/// there. No commit follows: it could add blocks to the end of the archive that were never written.
fn prepare(opened: Result<Archive>, options: RekeyOptions) -> Result<()> {
    match opened {
        Err(crate::Error::Engine(ar7_engine::Error::RekeyInProgress)) => Ok(()),
        Err(error) => Err(error),
        Ok(archive) => {
            archive.store().lock_out_readers(options.wait)?;
            archive.heal()?;
            archive.reclaim()?;
            archive.clear_redo_list()?;
            archive.settle()?;
            archive.wipe_free(&mut |_| {})?;
            archive.close_settled()
        }
    }
}
