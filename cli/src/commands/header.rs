//! `header`: exports the header, and imports it when both copies in the file are destroyed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ar7_engine::format::BLOCK_SIZE;
use ar7_engine::store::{ExportedHeader, Store};

use crate::arguments::{Common, HeaderCommand, HeaderExport, HeaderImport};
use crate::commands::keygen::write_new;
use crate::exit::Failure;
use crate::keys;
use crate::output::Output;
use crate::session::{Session, at, warn_of_lost_commit};

/// Runs a subcommand.
pub(crate) fn run(common: &Common, options: &HeaderCommand) -> Result<(), Failure> {
    match options {
        HeaderCommand::Export(options) => export(common, options),
        HeaderCommand::Import(options) => import(common, options),
    }
}

fn export(common: &Common, options: &HeaderExport) -> Result<(), Failure> {
    let session = Session::read(common, &options.archive)?;
    write_new(&options.file, &session.archive.store().export_header()[..])
}

fn import(common: &Common, options: &HeaderImport) -> Result<(), Failure> {
    let bytes = read_header(&options.file)?;
    let secret = keys::existing(common)?;
    let of_file = |error: ar7_engine::Error| at(&options.file)(error.into());
    let exported = ExportedHeader::open(&bytes, &secret).map_err(of_file)?;
    let imported = Store::import_header(&options.archive, &exported, options.older, common.wait());
    let imported = imported.map_err(|error| at(&options.archive)(error.into()))?;
    warn_of_lost_commit(&options.archive, imported.may_have_held_newer);
    if common.quiet {
        return Ok(());
    }
    let older = if imported.is_older { ", with the keys of the older one" } else { "" };
    let mut output = Output::new();
    output.line(&format!("the header has revision {}{older}", imported.revision))?;
    output.finish()
}

/// Reads a header and at most one byte more, to detect a longer file without reading all of it.
fn read_header(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, "open", error))?;
    let most = BLOCK_SIZE as u64 + 1;
    let mut bytes = Vec::with_capacity(BLOCK_SIZE + 1);
    let read = file.take(most).read_to_end(&mut bytes);
    read.map_err(|error| Failure::file(path, "read", error))?;
    Ok(bytes)
}
