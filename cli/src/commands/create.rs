//! `create`: creates an empty archive.

use ar7::Archive;
use serde_json::json;

use crate::arguments::{Common, Create};
use crate::exit::Failure;
use crate::opened::Opened;
use crate::output;

/// Creates the archive and closes it.
pub(crate) fn run(common: &Common, options: &Create) -> Result<(), Failure> {
    let path = &options.archive;
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(Failure::file(path, "create", rustix::io::Errno::EXIST));
    }
    let made = Archive::options().create_new(true).kind(options.kind.into());
    let opened = Opened::create(common, path, &options.slot, made.streams(options.streams))?;
    let id = opened.archive.id().to_string();
    opened.finish()?;
    if common.json { output::report(common, &json!({ "id": id }), "") } else { Ok(()) }
}
