//! `info`: prints facts about an archive.

use ar7::{Recovery, Statistics};
use serde::Serialize;

use crate::arguments::{Common, Info};
use crate::commands::key::Slot;
use crate::exit::Failure;
use crate::opened::Opened;
use crate::output::Output;
use crate::sizes::{percent, time_text};

/// The format that this version of the program writes.
const VERSION: u32 = 1;

/// The number of keys that an archive can have.
const KEY_SLOTS: usize = 8;

/// The facts, in the order of the JSON document.
#[derive(Debug, Serialize)]
struct Facts {
    version: u32,
    kind: String,
    id: String,
    created: String,
    #[serde(flatten)]
    statistics: Statistics,
    header_revision: u64,
    /// Whether readers and a writer can use the archive at the same time.
    readers_and_writer: bool,
    /// The oldest commit that another process reads, if there is a newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_reader: Option<u64>,
    key_slots: Vec<Slot>,
    /// During a rekey, the number of blocks that are sealed under the new master key.
    #[serde(skip_serializing_if = "Option::is_none")]
    rekeyed_blocks: Option<u32>,
    recovery: Recovery,
}

/// Prints the facts as text or JSON.
pub(crate) fn run(common: &Common, options: &Info) -> Result<(), Failure> {
    let opened = Opened::read(common, &options.archive)?;
    let facts = Facts::new(&opened)?;
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
    fn new(opened: &Opened) -> Result<Facts, Failure> {
        let archive = &opened.archive;
        Ok(Facts {
            version: VERSION,
            kind: archive.kind().to_string(),
            id: archive.id().to_string(),
            created: time_text(archive.created_at()),
            statistics: archive.statistics().map_err(opened.named())?,
            header_revision: archive.header_revision(),
            readers_and_writer: archive.has_readers_and_writer().map_err(opened.named())?,
            oldest_reader: archive.oldest_reader().map_err(opened.named())?,
            key_slots: archive.keys().into_iter().map(Slot::new).collect(),
            rekeyed_blocks: archive.rekeyed_blocks(),
            recovery: archive.recovery(),
        })
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Statistics { blocks, free_blocks, streams, extents, names, inodes, .. } =
            self.statistics;
        let free = percent(free_blocks, blocks.into());
        let mut lines = vec![
            ("version", self.version.to_string()),
            ("kind", self.kind.clone()),
            ("id", self.id.clone()),
            ("created", self.created.clone()),
            ("file", format!("{} bytes", self.statistics.file_bytes)),
            ("blocks", format!("{blocks}, {free_blocks} of them free ({free})")),
            ("streams", format!("{streams}, in {extents} further extents")),
            ("names", format!("{names}, of {inodes} inodes")),
            ("generation", self.statistics.generation.to_string()),
            ("commit", self.statistics.commit.to_string()),
            ("header", format!("revision {}", self.header_revision)),
        ];
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
        lines.extend(self.key_slots.iter().map(|slot| ("key slot", slot.text())));
        let free_slots = KEY_SLOTS.saturating_sub(self.key_slots.len());
        lines.push(("free slots", free_slots.to_string()));
        lines.push(("recovery", self.recovery.to_string()));
        lines
    }
}
