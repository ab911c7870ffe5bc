//! Documents of serde: fields of records, and the events and reports of trees.

use std::fmt::Display;
use std::path::Path;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::error::Error;
use crate::fs::{
    CompareEvent, CompareReport, Difference, ExtractEvent, ExtractReport, Incomplete, IngestEvent,
    IngestReport, Outcome, Unread,
};
use crate::listing::Listed;
use crate::records::{Entry, KeySlot};
use crate::removal::Removed;
use crate::salvage::{SalvageOutcome, Salvaged};
use crate::text::PathText;

/// Serializes a value as its text.
pub(crate) fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Serializes a value as its text.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
pub(crate) fn optional_text<S: Serializer>(
    value: &Option<impl Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

/// Serializes a path as [`PathText`].
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    PathText::new(path).serialize(serializer)
}

/// Serializes permission bits in octal.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(crate) fn mode<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// Serializes what a key slot takes.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(crate) fn key_kind<S: Serializer>(
    is_passphrase: &bool,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(KeySlot::kind(*is_passphrase))
}

/// An event about an entry, or an entry of a list in a report.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(flatten)]
    name: PathText<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl<'a> Line<'a> {
    fn event(event: &'static str, path: &'a Path, reason: Option<String>) -> Line<'a> {
        Line { event: Some(event), name: PathText::new(path), reason }
    }

    fn listed(path: &'a Path, reason: String) -> Line<'a> {
        Line { event: None, name: PathText::new(path), reason: Some(reason) }
    }
}

/// An event that counts.
#[derive(Serialize)]
struct Count {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Count {
    fn bytes(event: &'static str, bytes: u64) -> Count {
        Count { event, number: None, entries: None, bytes: Some(bytes) }
    }
}

/// Returns the text of an error about an entry, with its path.
fn in_entry(path: &Path, error: &Error) -> String {
    error.clone().in_entry(path).to_string()
}

impl Serialize for Salvaged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            #[serde(flatten)]
            name: Option<PathText<'a>>,
            #[serde(serialize_with = "optional_text")]
            stream: Option<Uuid>,
            length: u64,
            outcome: &'static str,
            gaps: Vec<[u64; 2]>,
        }
        let outcome = match self.outcome {
            SalvageOutcome::Complete => "complete",
            SalvageOutcome::Gaps => "gaps",
            SalvageOutcome::Unproven => "unproven",
            SalvageOutcome::Nameless => "nameless",
            _ => "lost",
        };
        let gaps = self.gaps.iter().map(|gap| [gap.start, gap.end]).collect();
        let (name, stream) = (self.path.as_deref().map(PathText::new), self.stream);
        Fields { name, stream, length: self.length, outcome, gaps }.serialize(serializer)
    }
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            #[serde(flatten)]
            entry: &'a Entry,
            #[serde(skip_serializing_if = "Option::is_none")]
            stored_bytes: Option<u64>,
            #[serde(flatten)]
            target: Option<PathText<'a>>,
        }
        let target = self.target.as_ref().map(PathText::new);
        let target = target.as_ref().map(|target| target.field("target"));
        Fields { entry: &self.entry, stored_bytes: self.stored_bytes, target }.serialize(serializer)
    }
}

impl Serialize for Removed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            event: &'static str,
            #[serde(flatten)]
            name: PathText<'a>,
            names: u64,
        }
        let (event, path, names) = match self {
            Removed::Entry { path, names } => ("removed", path, names),
            Removed::Names { path, total } => ("removing", path, total),
        };
        Fields { event, name: PathText::new(path), names: *names }.serialize(serializer)
    }
}

impl Serialize for IngestEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            IngestEvent::Entry { path, outcome } => {
                let reason = match outcome {
                    Outcome::LeftOut(reason) => Some(reason.to_string()),
                    Outcome::Unread(error) | Outcome::Attributes(error) => Some(error.reason()),
                    _ => None,
                };
                Line::event(outcome.name(), &path.to_path(), reason).serialize(serializer)
            }
            IngestEvent::Read { bytes } => Count::bytes("read", *bytes).serialize(serializer),
            IngestEvent::Counted { bytes } => Count::bytes("counted", *bytes).serialize(serializer),
            IngestEvent::Checkpoint { number, entries, bytes } => {
                let (number, entries, bytes) = (Some(*number), Some(*entries), Some(*bytes));
                Count { event: "checkpoint", number, entries, bytes }.serialize(serializer)
            }
            IngestEvent::Waiting => {
                let (number, entries, bytes) = (None, None, None);
                Count { event: "waiting", number, entries, bytes }.serialize(serializer)
            }
        }
    }
}

impl Serialize for IngestReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let left_out = self.left_out.iter();
        let left_out = left_out.map(|left| Line::listed(&left.path, left.reason.to_string()));
        let mut fields = serializer.serialize_struct("IngestReport", 17)?;
        fields.serialize_field("entries", &self.entries)?;
        fields.serialize_field("bytes", &self.bytes)?;
        fields.serialize_field("stored_files", &self.stored_files)?;
        fields.serialize_field("stored_bytes", &self.stored_bytes)?;
        fields.serialize_field("unchanged", &self.unchanged)?;
        fields.serialize_field("removed", &self.removed)?;
        fields.serialize_field("skipped", &left_out.collect::<Vec<_>>())?;
        fields.serialize_field("skipped_count", &self.left_out_count)?;
        fields.serialize_field("changed", &names(&self.changed))?;
        fields.serialize_field("changed_count", &self.changed_count)?;
        fields.serialize_field("unread", &unread(&self.unread))?;
        fields.serialize_field("unread_count", &self.unread_count)?;
        fields.serialize_field("attributes", &unread(&self.attributes))?;
        fields.serialize_field("attributes_count", &self.attributes_count)?;
        fields.serialize_field("links", &names(&self.links))?;
        fields.serialize_field("unmatched", &names(&self.unmatched))?;
        fields.serialize_field("checkpoints", &self.checkpoints)?;
        fields.end()
    }
}

fn unread(list: &[Unread]) -> Vec<Line<'_>> {
    list.iter().map(|unread| Line::listed(&unread.path, unread.error.reason())).collect()
}

fn names(paths: &[impl AsRef<std::ffi::OsStr>]) -> Vec<PathText<'_>> {
    paths.iter().map(PathText::new).collect()
}

impl Serialize for ExtractEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ExtractEvent::Counted { bytes } => {
                Count::bytes("counted", *bytes).serialize(serializer)
            }
            ExtractEvent::Wrote { bytes } => Count::bytes("wrote", *bytes).serialize(serializer),
            ExtractEvent::Restored { path } => {
                Line::event("restored", &path.to_path_buf(), None).serialize(serializer)
            }
            ExtractEvent::Kept { path } => {
                Line::event("kept", &path.to_path_buf(), None).serialize(serializer)
            }
            ExtractEvent::NotRestored { path, error } => {
                Line::event("not restored", path, Some(in_entry(path, error))).serialize(serializer)
            }
            ExtractEvent::Incomplete { path, aspect, error } => {
                let reason = format!("{aspect}: {}", error.reason());
                Line::event("incomplete", path, Some(reason)).serialize(serializer)
            }
        }
    }
}

impl Serialize for ExtractReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let failed = self.not_restored.iter();
        let failed = failed.map(|lost| Line::listed(&lost.path, in_entry(&lost.path, &lost.error)));
        let mut fields = serializer.serialize_struct("ExtractReport", 7)?;
        fields.serialize_field("entries", &self.entries)?;
        fields.serialize_field("bytes", &self.bytes)?;
        fields.serialize_field("kept", &self.kept)?;
        fields.serialize_field("not_restored", &failed.collect::<Vec<_>>())?;
        fields.serialize_field("not_restored_count", &self.not_restored_count)?;
        fields.serialize_field("incomplete", &self.incomplete)?;
        fields.serialize_field("unmatched", &names(&self.unmatched))?;
        fields.end()
    }
}

impl ExtractReport {
    /// Returns the document of the counts, which ends a list of events.
    pub fn summary(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Fields {
            event: &'static str,
            entries: u64,
            bytes: u64,
            kept: u64,
            not_restored: u64,
        }
        let ExtractReport { entries, bytes, kept, not_restored_count, .. } = *self;
        Fields { event: "summary", entries, bytes, kept, not_restored: not_restored_count }
    }
}

impl Serialize for Incomplete {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            aspect: &'static str,
            entries: u64,
            #[serde(flatten)]
            first: Line<'a>,
        }
        let first = Line::listed(&self.path, in_entry(&self.path, &self.error));
        Fields { aspect: self.aspect.name(), entries: self.entries, first }.serialize(serializer)
    }
}

/// A difference, as an event or as an entry of a list.
#[derive(Serialize)]
struct Differing<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    difference: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl<'a> Differing<'a> {
    fn new(event: Option<&'static str>, path: &'a Path, difference: &Difference) -> Differing<'a> {
        let (stored, found) = difference.values().unzip();
        let line = Line { event, name: PathText::new(path), reason: None };
        Differing { line, difference: difference.name(), stored, found }
    }
}

impl Serialize for CompareEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CompareEvent::Compared { path, .. } => {
                Line::event("compared", path, None).serialize(serializer)
            }
            CompareEvent::Differs { path, difference } => {
                Differing::new(Some("differs"), path, difference).serialize(serializer)
            }
            CompareEvent::Unreadable { path, error } => {
                Line::event("unread", path, Some(in_entry(path, error))).serialize(serializer)
            }
        }
    }
}

impl Serialize for CompareReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let differences = self.differences.iter();
        let differences = differences.map(|(path, how)| Differing::new(None, path, how));
        let unread = self.unreadable.iter();
        let unread = unread.map(|(path, error)| Line::listed(path, in_entry(path, error)));
        let mut fields = serializer.serialize_struct("CompareReport", 6)?;
        fields.serialize_field("entries", &self.entries)?;
        fields.serialize_field("bytes", &self.bytes)?;
        fields.serialize_field("differences", &differences.collect::<Vec<_>>())?;
        fields.serialize_field("differences_count", &self.difference_count)?;
        fields.serialize_field("unread", &unread.collect::<Vec<_>>())?;
        fields.serialize_field("unread_count", &self.unreadable_count)?;
        fields.end()
    }
}

impl CompareReport {
    /// Returns the document of the counts, which ends a list of events.
    pub fn summary(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Fields {
            event: &'static str,
            entries: u64,
            bytes: u64,
            differences: u64,
            unread: u64,
        }
        let CompareReport { entries, bytes, difference_count, unreadable_count, .. } = *self;
        let (differences, unread) = (difference_count, unreadable_count);
        Fields { event: "summary", entries, bytes, differences, unread }
    }
}
