//! Repair: restores what exists twice from its good copy.

use std::path::Path;
use std::time::Duration;

use ar7_engine::crypto::Secret;
use ar7_engine::store::{Repaired, Repairer};

use crate::archive::Archive;
use crate::error::Result;

impl Archive {
    /// Writes good copies of the header, of meta slots and of blocks of the redo list over bad ones, in
    /// their places. It changes nothing else. Waits up to `wait` for other processes.
    pub fn repair(path: &Path, secret: &Secret, wait: Duration) -> Result<Repaired> {
        repaired(Repairer::open(path, secret, wait)?)
    }
}

fn repaired(mut repairer: Repairer) -> Result<Repaired> {
    repairer.heal_redo_list()?;
    Ok(repairer.finish()?)
}
