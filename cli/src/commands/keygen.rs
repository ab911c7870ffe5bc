//! `keygen`: creates a key file of 32 random bytes.

use ar7::Key;

use crate::arguments::Keygen;
use crate::exit::Failure;
use crate::opened::at;

/// Creates the file, readable only by its owner.
pub(crate) fn run(options: &Keygen) -> Result<(), Failure> {
    Key::create_file(&options.file).map(drop).map_err(at(&options.file))
}
