//! `create`: creates an empty archive.

use ar7_registry::CreateOptions;

use crate::arguments::{Common, Create};
use crate::exit::Failure;
use crate::session::Session;

/// Creates the archive and closes it.
pub(crate) fn run(common: &Common, options: &Create) -> Result<(), Failure> {
    let made = CreateOptions {
        kind: options.kind.into(),
        fixed_streams: options.streams,
        ..CreateOptions::default()
    };
    Session::create(common, &options.archive, &options.slot, &made)?.finish()
}
