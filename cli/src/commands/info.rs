//! `info`: prints facts about an archive.

use ar7_engine::device::Sharing;
use ar7_engine::format::{KEY_SLOTS, Position, VERSION};
use ar7_registry::{Archive, Statistics};
use serde::Serialize;

use crate::arguments::{Common, Info};
use crate::commands::key::{Slot, slots_of};
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::sizes::percent;

/// The facts, in the order of the JSON document.
#[derive(Debug, Serialize)]
struct Facts {
    version: u32,
    kind: &'static str,
    id: String,
    created: String,
    file_bytes: u64,
    blocks: u32,
    free_blocks: u64,
    streams: u64,
    names: u64,
    inodes: u64,
    extents: u64,
    pending_deletions: u64,
    generation: String,
    commit: u64,
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
    recovery: Recovered,
}

/// The faults that opening found. The next writer repairs them.
#[derive(Debug, Serialize)]
struct Recovered {
    is_clean: bool,
    headers: Vec<u32>,
    older_headers: Vec<u32>,
    bad_slots: Vec<u32>,
    older_slots: Vec<u32>,
    redo_blocks: usize,
    /// Damaged copies of blocks of the redo list whose other copy is good.
    bad_redo_copies: Vec<u32>,
    /// A block of the redo list of which both copies are damaged.
    lost_redo_block: Option<u32>,
    lost_pair: bool,
    /// Block of a damaged meta slot that may have held a newer commit.
    may_have_held_newer: Option<u32>,
}

/// Prints the facts as text or JSON.
pub(crate) fn run(common: &Common, options: &Info) -> Result<(), Failure> {
    let session = Session::read(common, &options.archive)?;
    let statistics = session.archive.statistics().map_err(session.named())?;
    let oldest_reader = session.archive.store().oldest_reader();
    let oldest_reader = oldest_reader.map_err(|error| session.named()(error.into()))?;
    let sharing = session.archive.store().sharing();
    let sharing = sharing.map_err(|error| session.named()(error.into()))?;
    let facts = Facts::new(&session.archive, &statistics, sharing, oldest_reader);
    let mut output = Output::new();
    if options.json {
        return output.document(&facts);
    }
    for (name, value) in facts.lines() {
        output.line(&format!("{name:<14} {value}"))?;
    }
    output.finish()
}

impl Facts {
    fn new(
        archive: &Archive,
        statistics: &Statistics,
        sharing: Sharing,
        oldest_reader: Option<u64>,
    ) -> Facts {
        let header = archive.store().header();
        Facts {
            version: VERSION,
            kind: archive.kind().name(),
            id: archive.id().to_string(),
            created: crate::sizes::time_text(archive.created_at()),
            file_bytes: statistics.file_bytes,
            blocks: statistics.blocks,
            free_blocks: statistics.free_blocks,
            streams: statistics.streams,
            names: statistics.names,
            inodes: statistics.inodes,
            extents: statistics.extents,
            pending_deletions: statistics.pending_deletions,
            generation: statistics.generation.to_string(),
            commit: statistics.commit,
            header_revision: header.revision,
            readers_and_writer: sharing == Sharing::ReadersAndWriter,
            oldest_reader,
            key_slots: slots_of(&header),
            rekeyed_blocks: header.rekey.is_some().then(|| rekeyed(archive)),
            recovery: Recovered::new(archive),
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let free = percent(self.free_blocks, self.blocks.into());
        let mut lines = vec![
            ("version", self.version.to_string()),
            ("kind", self.kind.to_owned()),
            ("id", self.id.clone()),
            ("created", self.created.clone()),
            ("file", format!("{} bytes", self.file_bytes)),
            ("blocks", format!("{}, {} of them free ({free})", self.blocks, self.free_blocks)),
            ("streams", format!("{}, in {} further extents", self.streams, self.extents)),
            ("names", format!("{}, of {} inodes", self.names, self.inodes)),
            ("generation", self.generation.clone()),
            ("commit", self.commit.to_string()),
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
        if self.pending_deletions > 0 {
            lines.push(("deletions", format!("{} streams pending", self.pending_deletions)));
        }
        if let Some(rekeyed) = self.rekeyed_blocks {
            let share = percent(rekeyed.into(), self.blocks.into());
            lines.push((
                "rekey",
                format!("in progress: {rekeyed} of {} blocks ({share})", self.blocks),
            ));
        }
        for slot in &self.key_slots {
            lines.push(("key slot", slot.text()));
        }
        lines.push(("free slots", (KEY_SLOTS - self.key_slots.len()).to_string()));
        lines.push(("recovery", self.recovery.text()));
        lines
    }
}

/// Returns the number of blocks sealed under the new master key.
fn rekeyed(archive: &Archive) -> u32 {
    archive.store().current().slot.rekey_watermark
}

impl Recovered {
    fn new(archive: &Archive) -> Recovered {
        let recovery = archive.store().recovery();
        let numbers =
            |positions: &[Position]| positions.iter().map(|position| position.get()).collect();
        Recovered {
            is_clean: recovery.is_clean(),
            headers: numbers(&recovery.headers),
            older_headers: numbers(&recovery.older_headers),
            bad_slots: numbers(&recovery.bad_slots),
            older_slots: numbers(&recovery.older_slots),
            redo_blocks: recovery.redo_blocks,
            bad_redo_copies: numbers(&recovery.bad_redo_copies),
            lost_redo_block: recovery.lost_redo_block.map(Position::get),
            lost_pair: recovery.lost_pair,
            may_have_held_newer: recovery.may_have_held_newer.map(Position::get),
        }
    }

    fn text(&self) -> String {
        if self.is_clean && self.redo_blocks == 0 {
            return "none needed".to_owned();
        }
        let mut parts = Vec::new();
        for (what, positions) in [
            ("damaged headers", &self.headers),
            ("older headers", &self.older_headers),
            ("damaged meta slots", &self.bad_slots),
            ("older meta slots", &self.older_slots),
            ("damaged copies of redo blocks", &self.bad_redo_copies),
        ] {
            if !positions.is_empty() {
                parts.push(format!("{what} at {positions:?}"));
            }
        }
        if self.redo_blocks > 0 {
            parts.push(format!("{} blocks on the redo list", self.redo_blocks));
        }
        if let Some(position) = self.lost_redo_block {
            parts.push(format!("both copies of the redo block {position} are damaged"));
        }
        if self.lost_pair {
            parts.push("a pair of meta slots is lost".to_owned());
        }
        if let Some(position) = self.may_have_held_newer {
            parts.push(format!("the meta slot at {position} may have held a newer commit"));
        }
        parts.join("; ")
    }
}
