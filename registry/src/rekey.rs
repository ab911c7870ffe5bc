//! Changing the master key of an archive.

use std::ops::ControlFlow;
use std::path::Path;

use ar7_engine::crypto::Secret;
use ar7_engine::device::Device;
use ar7_engine::store::{Access, OpenOptions, RekeyOptions, RekeySummary, Store};

use crate::archive::Archive;
use crate::error::Result;

impl Archive {
    /// Changes the master key of the archive in a file: seals every block anew, in its place. Goes on with a change
    /// that was cut off; until it is done the archive can be read, and nothing else.
    ///
    /// The key that `secret` is stays, in its slot; other keys are removed, if the options allow it. What is free is
    /// wiped first; a writer that comes in between that and the change makes it fail before it begins. `progress` gets the
    /// number of blocks that are done, and of all blocks. If it breaks, the change stops with
    /// [`ar7_engine::Error::Stopped`], and the next call continues it; before the first block nothing has changed.
    pub fn rekey(
        path: &Path,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let writing =
            OpenOptions { access: Access::Write, io: options.io, ..OpenOptions::default() };
        prepare(Archive::open(path, secret, writing))?;
        Ok(Store::rekey(path, secret, options, progress)?)
    }

    /// The same on a device, which `device` gives as often as it is asked.
    pub fn rekey_device(
        device: &dyn Fn() -> Box<dyn Device>,
        secret: &Secret,
        options: RekeyOptions,
        progress: &mut dyn FnMut(u32, u32) -> ControlFlow<()>,
    ) -> Result<RekeySummary> {
        let writing = OpenOptions { access: Access::Write, ..OpenOptions::default() };
        prepare(Archive::open_device(device(), secret, writing))?;
        Ok(Store::rekey_device(device(), secret, options, progress)?)
    }
}

/// Leaves the archive without a redo list, and with a block in every place that opens there.
fn prepare(opened: Result<Archive>) -> Result<()> {
    match opened {
        Err(crate::Error::Engine(ar7_engine::Error::RekeyInProgress)) => Ok(()),
        Err(error) => Err(error),
        Ok(archive) => {
            archive.reclaim()?;
            archive.clear_redo_list()?;
            archive.wipe_free(&mut |_| {})?;
            archive.close()
        }
    }
}
