//! What there is to know about an archive as a whole.

use std::fmt;

use ar7_engine::format::{KEY_SLOTS, VERSION};
use uuid::Uuid;

use crate::archive::Archive;
use crate::count::Count;
use crate::error::Result;
use crate::options::Kind;
use crate::records::{KeySlot, Statistics, Timestamp};
use crate::recovery::Recovery;

/// Facts about an archive. `Display` gives each one in a line.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Information {
    /// Version of the format.
    pub version: u32,
    /// Kind of the archive.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialized::text"))]
    pub kind: Kind,
    /// Identity, drawn at its creation.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialized::text"))]
    pub id: Uuid,
    /// Time of the creation.
    pub created: Timestamp,
    /// Sizes and counts.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub statistics: Statistics,
    /// Revision of the header. Each change of the keys raises it.
    pub header_revision: u64,
    /// Whether readers and a writer can use the archive at the same time.
    pub readers_and_writer: bool,
    /// The oldest commit that another process reads, if there is a newer one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub oldest_reader: Option<u64>,
    /// The key slots in use.
    pub key_slots: Vec<KeySlot>,
    /// During a rekey, the number of blocks that are sealed under the new master key.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub rekeyed_blocks: Option<u32>,
    /// The faults that opening found.
    pub recovery: Recovery,
}

impl Archive {
    /// Returns facts about the archive.
    pub fn information(&self) -> Result<Information> {
        Ok(Information {
            version: VERSION,
            kind: self.kind(),
            id: self.id(),
            created: self.created_at(),
            statistics: self.statistics()?,
            header_revision: self.header_revision(),
            readers_and_writer: self.has_readers_and_writer()?,
            oldest_reader: self.oldest_reader()?,
            key_slots: self.keys(),
            rekeyed_blocks: self.rekeyed_blocks(),
            recovery: self.recovery(),
        })
    }
}

impl fmt::Display for Information {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let lines = lines.iter().map(|(name, value)| format!("{name:<14} {value}"));
        formatter.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl Information {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Statistics { blocks, free_blocks, streams, extents, names, inodes, .. } =
            self.statistics;
        let free = percent(free_blocks, blocks.into());
        let mut lines = vec![
            ("version", self.version.to_string()),
            ("kind", self.kind.to_string()),
            ("id", self.id.to_string()),
            ("created", self.created.to_string()),
            ("file", Count(self.statistics.file_bytes, "byte").to_string()),
            ("blocks", format!("{blocks}, {free_blocks} of them free ({free})")),
            ("streams", format!("{streams}, in {}", Count(extents, "further extent"))),
            ("names", format!("{names}, of {}", Count(inodes, "inode"))),
            ("generation", self.statistics.generation.to_string()),
            ("commit", self.statistics.commit.to_string()),
            ("header", format!("revision {}", self.header_revision)),
        ];
        let Statistics { packs, packed_bytes, dead_bytes, .. } = self.statistics;
        if packs > 0 {
            let dead = percent(dead_bytes, packed_bytes);
            let packed = Count(packed_bytes, "byte");
            lines.push((
                "packs",
                format!("{packs} with {packed}, {dead_bytes} of them dead ({dead})"),
            ));
        }
        let near = self.statistics.near_pages;
        if near > 0 {
            lines.push(("pages", format!("the copies of {near} lie less than 1 MiB apart")));
        }
        if let Some(oldest) = self.oldest_reader {
            let changed = self.recovery.redo_blocks;
            let changed = Count(changed as u64, "changed block");
            let held = format!("by a reader of commit {oldest}, with {changed}");
            lines.push(("held", held));
        }
        if !self.readers_and_writer {
            let sharing = "one writer or several readers: the file system has no byte-range locks";
            lines.push(("sharing", sharing.to_owned()));
        }
        let pending = self.statistics.pending_deletions;
        if pending > 0 {
            lines.push(("deletions", format!("{} pending", Count(pending, "stream"))));
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

/// Formats a share as a percentage with one decimal; 0 if the whole is 0.
fn percent(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 1000).checked_div(whole.into()).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_tenths_of_a_percent() {
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(0, 0), "0.0 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
    }

    #[test]
    fn facts_that_are_rarely_there_have_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let key = crate::Key::from([1; 32]);
        let archive = Archive::create(folder.path().join("a.ar7"), &key).unwrap();
        let mut facts = archive.information().unwrap();
        let text = facts.to_string();
        for line in ["kind           dynamic", "free slots     7", "recovery       none needed"] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert!(["held", "sharing", "deletions", "rekey"].iter().all(|name| !text.contains(name)));
        facts.oldest_reader = Some(3);
        facts.readers_and_writer = false;
        facts.statistics.pending_deletions = 5;
        (facts.statistics.blocks, facts.rekeyed_blocks) = (20, Some(5));
        let text = facts.to_string();
        for line in [
            "held           by a reader of commit 3, with 0 changed blocks",
            "sharing        one writer or several readers: the file system has no byte-range locks",
            "deletions      5 streams pending",
            "rekey          in progress: 5 of 20 blocks (25.0 %)",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
