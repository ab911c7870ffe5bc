//! `header`: exports the header, and imports it when both copies in the file are destroyed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ar7::Archive;

use crate::arguments::{Common, HeaderCommand, HeaderExport, HeaderImport};
use crate::exit::Failure;
use crate::keys;
use crate::opened::{Opened, at, warn_of_lost_commit};
use crate::output;

/// One byte more than a header, to detect a longer file without reading all of it.
const READ_MAX: u64 = 4097;

/// Runs a subcommand.
pub(crate) fn run(common: &Common, options: &HeaderCommand) -> Result<(), Failure> {
    match options {
        HeaderCommand::Export(options) => export(common, options),
        HeaderCommand::Import(options) => import(common, options),
    }
}

fn export(common: &Common, options: &HeaderExport) -> Result<(), Failure> {
    let opened = Opened::read(common, &options.archive)?;
    opened.archive.export_header_to(&options.file).map_err(at(&options.file))?;
    if !common.json {
        return Ok(());
    }
    let revision = opened.archive.header_revision();
    output::report(common, &serde_json::json!({ "revision": revision }), "")
}

fn import(common: &Common, options: &HeaderImport) -> Result<(), Failure> {
    let header = read_header(&options.file)?;
    let key = keys::existing(common)?;
    let importing = common.apply(Archive::options()).accept_older_header(options.older);
    let imported = importing.import_header(&options.archive, &key, &header);
    let imported = imported.map_err(|error| {
        let is_of_file =
            matches!(error, ar7::Error::WrongKey { .. } | ar7::Error::OutOfBounds { .. });
        at(if is_of_file { &options.file } else { &options.archive })(error)
    })?;
    warn_of_lost_commit(&options.archive, imported.may_have_held_newer);
    let older = if imported.is_older { ", with the keys of the older one" } else { "" };
    output::report(
        common,
        &imported,
        &format!("the header has revision {}{older}", imported.revision),
    )
}

pub(crate) fn read_header(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, "open", error))?;
    let mut bytes = Vec::new();
    let read = file.take(READ_MAX).read_to_end(&mut bytes);
    read.map_err(|error| Failure::file(path, "read", error))?;
    Ok(bytes)
}
