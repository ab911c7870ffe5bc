//! Commands for the archive as a whole: `create`, `info`, `receipt` and `wipe-free`; and the files for shells and
//! packagers, which come from the table of commands and flags: `completions` and `man`.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use ar7::{Archive, Count, Error};
use ar7_arguments::{Common, Completions, Create, Man, NoOptions, program};
use serde_json::json;

use crate::exit::Failure;
use crate::keys;
use crate::opened::{self, check_exists, check_is_free, finish};
use crate::output;
use crate::progress::Progress;

/// Creates an empty archive.
pub(super) fn create(common: &Common, options: &Create) -> Result<(), Failure> {
    let path = &options.archive;
    check_is_free(path)?;
    let made = Archive::options().create_new(true).kind(options.kind).streams(options.streams);
    let archive = opened::create(common, path, &options.slot, made)?;
    let id = archive.id().to_string();
    finish(archive, Ok(()))?;
    output::report(common, &json!({ "id": id }), None)
}

/// Prints the completion script for a shell.
pub(super) fn completions(options: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut program(), "ar7", &mut script);
    let mut output = io::stdout();
    output.write_all(&script).and_then(|()| output.flush()).map_err(Failure::Output)
}

/// Writes a page of the manual for each command into a directory.
pub(super) fn man(options: &Man) -> Result<(), Failure> {
    let failed = |operation| move |error| Failure::file(&options.directory, operation, error);
    fs::create_dir_all(&options.directory).map_err(failed("create"))?;
    clap_mangen::generate_to(program(), &options.directory).map_err(failed("write"))
}

/// Prints a receipt: a line that later detects an older copy of the archive, or a fork.
pub(super) fn receipt(common: &Common, path: &Path, _: &NoOptions) -> Result<(), Failure> {
    check_exists(path)?;
    let key = keys::existing(common)?;
    let receipt = match opened::open_with(common, path, Archive::options(), &key)?.receipt() {
        // The last writer was killed before it was certain that its commit was on disk. A new writer makes sure that it
        // is.
        Err(Error::NotSynced) => {
            let archive = opened::open_with(common, path, Archive::options().write(true), &key)?;
            let receipt = archive.reclaim().and_then(|()| archive.receipt());
            finish(archive, receipt.map_err(Failure::from))?
        }
        receipt => receipt?,
    };
    output::print(common, &json!({ "receipt": receipt.to_string() }), [&receipt])
}

/// Writes good copies over bad ones. Fails if a block has no good copy.
pub(super) fn repair(common: &Common, path: &Path, _: &NoOptions) -> Result<(), Failure> {
    check_exists(path)?;
    let repaired = common.apply(Archive::options()).repair(path, &keys::existing(common)?)?;
    let summary = (!common.quiet).then(|| repaired.to_string());
    output::print(common, &repaired, repaired.lines().chain(summary))?;
    Failure::check(repaired.shortfall())
}

/// Overwrites free blocks with blank blocks.
pub(super) fn wipe_free(common: &Common, path: &Path, _: &NoOptions) -> Result<(), Failure> {
    let archive = opened::writer(common, path)?;
    let wiped = wipe(common, &archive)?;
    finish(archive, Ok(()))?;
    output::report(common, &json!({ "wiped": wiped }), Some(wiped_text(wiped)))
}

/// Purges pending deletions and wipes the free blocks. Returns the number of wiped blocks.
pub(super) fn wipe(common: &Common, archive: &Archive) -> Result<u64, Failure> {
    let progress = Progress::new(common);
    let wiped = archive.wipe_free(|blocks| {
        progress.meter.set_blocks_done(blocks);
        progress.tick();
    });
    progress.finish();
    Ok(wiped?)
}

pub(super) fn wiped_text(blocks: u64) -> String {
    format!("{} wiped", Count(blocks, "free block"))
}

/// Prints facts about an archive as text or JSON.
pub(super) fn info(common: &Common, path: &Path, _: &NoOptions) -> Result<(), Failure> {
    let facts = opened::reader(common, path)?.information()?;
    output::print(common, &facts, [&facts])
}
