//! Commands for the archive as a whole: `create`, `info`, `receipt` and `wipe-free`; and the files for shells and
//! packagers, which come from the table of commands and flags: `completions` and `man`.

use std::ffi::OsStr;
use std::fs;

use ar7::{Archive, Error, KeySlot, Receipt, Recovery, Statistics, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Common, Completions, Create, Man, OnArchive, program};
use crate::exit::Failure;
use crate::opened::finish;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::sizes::percent;

/// The format that this version of the program writes.
const VERSION: u32 = 1;

/// The number of keys that an archive can have.
const KEY_SLOTS: usize = 8;

/// Creates an empty archive.
pub(super) fn create(common: &Common, options: &Create) -> Result<(), Failure> {
    let path = &options.archive;
    if fs::symlink_metadata(path).is_ok() {
        return Err(Failure::file(path, "create", rustix::io::Errno::EXIST.into()));
    }
    let made = Archive::options().create_new(true).kind(options.kind).streams(options.streams);
    let archive = common.create(path, &options.slot, made)?;
    let id = archive.id().to_string();
    finish(archive, Ok(()))?;
    output::report(common, &json!({ "id": id }), None)
}

/// Prints the completion script for a shell.
pub(super) fn completions(options: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut program(), "ar7", &mut script);
    let mut output = Output::new();
    output.write(&script)?;
    output.finish()
}

/// Writes a page of the manual for each command into a directory.
pub(super) fn man(options: &Man) -> Result<(), Failure> {
    let failed = |operation| move |error| Failure::file(&options.directory, operation, error);
    fs::create_dir_all(&options.directory).map_err(failed("create"))?;
    clap_mangen::generate_to(program(), &options.directory).map_err(failed("write"))
}

/// Prints a receipt: a line that later detects an older copy of the archive, or a fork.
pub(super) fn receipt(common: &Common, options: &OnArchive) -> Result<(), Failure> {
    let receipt = match common.reader(&options.archive)?.receipt() {
        // The last writer was killed before it was certain that its commit was on disk. A new writer makes sure that it
        // is.
        Err(Error::NotSynced) => {
            let archive = common.writer(&options.archive)?;
            let receipt = archive.reclaim().and_then(|()| archive.receipt());
            finish(archive, receipt.map_err(Failure::from))?
        }
        receipt => receipt?,
    };
    let line = receipt.to_string();
    if common.json {
        return Output::new().document(&json!({ "receipt": line }));
    }
    let mut output = Output::new();
    output.line(&line)?;
    output.finish()
}

/// Parses the receipt of an argument: the line itself, or a file that contains it.
pub(super) fn receipt_of(argument: &OsStr) -> Result<Receipt, Failure> {
    let line = argument.to_str().filter(|text| text.starts_with(Receipt::BEGINNING));
    let parsed = line.map_or_else(|| Receipt::read_file(argument), str::parse);
    parsed.map_err(|error| match error {
        Error::NotAReceipt { .. } => Failure::Receipt(error),
        error => error.into(),
    })
}

/// Overwrites free blocks with blank blocks.
pub(super) fn wipe_free(common: &Common, options: &OnArchive) -> Result<(), Failure> {
    let archive = common.writer(&options.archive)?;
    let wiped = wipe(common, &archive)?;
    finish(archive, Ok(()))?;
    output::report(common, &json!({ "wiped": wiped }), Some(wiped_text(wiped)))
}

/// Purges pending deletions and wipes the free blocks. Returns the number of wiped blocks.
pub(super) fn wipe(common: &Common, archive: &Archive) -> Result<u64, Failure> {
    let progress = Progress::new(common);
    let wiped = archive.wipe_free(|blocks| progress.set_blocks(blocks));
    progress.finish();
    Ok(wiped?)
}

pub(super) fn wiped_text(blocks: u64) -> String {
    format!("{blocks} free blocks wiped")
}

/// Facts about an archive, in the order of the JSON document.
#[derive(Debug, Serialize)]
struct Facts {
    version: u32,
    kind: &'static str,
    id: String,
    created: Timestamp,
    #[serde(flatten)]
    statistics: Statistics,
    header_revision: u64,
    /// Whether readers and a writer can use the archive at the same time.
    readers_and_writer: bool,
    /// The oldest commit that another process reads, if there is a newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_reader: Option<u64>,
    key_slots: Vec<KeySlot>,
    /// During a rekey, the number of blocks that are sealed under the new master key.
    #[serde(skip_serializing_if = "Option::is_none")]
    rekeyed_blocks: Option<u32>,
    recovery: Recovery,
}

/// Prints facts about an archive as text or JSON.
pub(super) fn info(common: &Common, options: &OnArchive) -> Result<(), Failure> {
    let archive = common.reader(&options.archive)?;
    let facts = Facts {
        version: VERSION,
        kind: archive.kind().name(),
        id: archive.id().to_string(),
        created: archive.created_at(),
        statistics: archive.statistics()?,
        header_revision: archive.header_revision(),
        readers_and_writer: archive.has_readers_and_writer()?,
        oldest_reader: archive.oldest_reader()?,
        key_slots: archive.keys(),
        rekeyed_blocks: archive.rekeyed_blocks(),
        recovery: archive.recovery(),
    };
    let mut output = Output::new();
    if common.json {
        return output.document(&facts);
    }
    for (name, value) in facts.lines() {
        output.line(&format!("{name:<14} {value}"))?;
    }
    output.finish()
}

impl Facts {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Statistics { blocks, free_blocks, streams, extents, names, inodes, .. } =
            self.statistics;
        let free = percent(free_blocks, blocks.into());
        let mut lines = vec![
            ("version", self.version.to_string()),
            ("kind", self.kind.to_owned()),
            ("id", self.id.clone()),
            ("created", self.created.to_string()),
            ("file", format!("{} bytes", self.statistics.file_bytes)),
            ("blocks", format!("{blocks}, {free_blocks} of them free ({free})")),
            ("streams", format!("{streams}, in {extents} further extents")),
            ("names", format!("{names}, of {inodes} inodes")),
            ("generation", self.statistics.generation.to_string()),
            ("commit", self.statistics.commit.to_string()),
            ("header", format!("revision {}", self.header_revision)),
        ];
        let near = self.statistics.near_pages;
        if near > 0 {
            lines.push(("pages", format!("the copies of {near} lie less than 1 MiB apart")));
        }
        if let Some(oldest) = self.oldest_reader {
            let changed = self.recovery.redo_blocks;
            let held = format!("by a reader of commit {oldest}, with {changed} changed blocks");
            lines.push(("held", held));
        }
        if !self.readers_and_writer {
            let sharing = "one writer or several readers: the file system has no byte-range locks";
            lines.push(("sharing", sharing.to_owned()));
        }
        let pending = self.statistics.pending_deletions;
        if pending > 0 {
            lines.push(("deletions", format!("{pending} streams pending")));
        }
        if let Some(rekeyed) = self.rekeyed_blocks {
            let share = percent(rekeyed.into(), blocks.into());
            lines.push(("rekey", format!("in progress: {rekeyed} of {blocks} blocks ({share})")));
        }
        lines.extend(self.key_slots.iter().map(|slot| ("key slot", slot.to_string())));
        let free_slots = KEY_SLOTS.saturating_sub(self.key_slots.len());
        lines.push(("free slots", free_slots.to_string()));
        lines.push(("recovery", self.recovery.to_string()));
        lines
    }
}
