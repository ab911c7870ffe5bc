//! `salvage`: copies what is left of a damaged archive to a new one.

use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use ar7::{Archive, Error, Salvage, SalvageOutcome, SalvageProgress, SalvageSummary, Salvaged};
use serde_json::json;

use crate::arguments::{BLOCK_BYTES, Common, SalvageOptions};
use crate::commands::header::read_header;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::keys;
use crate::opened::{at, derivation};
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::shown::Shown;

/// What was salvaged: lines of text for what is not complete, or one JSON document with everything.
struct Listing {
    output: Output,
    is_json: bool,
    is_empty: bool,
    outcome: Result<(), Failure>,
}

/// Salvages the archive. Fails if anything is lost.
pub(crate) fn run(common: &Common, options: &SalvageOptions) -> Result<(), Failure> {
    let (path, new) = (&options.archive, &options.new);
    std::fs::metadata(path).map_err(|error| Failure::file(path, "open", error))?;
    if std::fs::symlink_metadata(new).is_ok() {
        return Err(Failure::file(new, "create", rustix::io::Errno::EXIST));
    }
    let header = options.header.as_deref().map(read_header).transpose()?;
    let key = keys::existing(common)?;
    let new_key = keys::other(&options.secret)?.unwrap_or_else(|| key.clone());
    let created = Archive::options()
        .label(&options.slot.label)
        .derivation(derivation(new, &options.slot.cost)?);
    let mut salvage = Salvage::new(path, &key).options(created);
    if let Some(header) = &header {
        salvage = salvage.header(header);
    }
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let listing = RefCell::new(Listing::begin(common)?);
    let mut scanned = 0;
    let salvaged = salvage.run(
        new,
        &new_key,
        |item| listing.borrow_mut().add(&item),
        |at| {
            match at {
                SalvageProgress::Scanned { blocks, total } => {
                    // Everything is read once to find it, and at most once more to copy it.
                    progress.set_total(u64::from(total) * BLOCK_BYTES * 2);
                    scanned = u64::from(blocks) * BLOCK_BYTES;
                    progress.set_done(scanned);
                }
                SalvageProgress::Written { bytes } => progress.set_done(scanned + bytes),
            }
            if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    progress.finish();
    let summary = match salvaged {
        Err(Error::Stopped) => {
            let done = "the new archive has what was salvaged so far".to_owned();
            return Err(Failure::Interrupted { archive: path.clone(), done });
        }
        outcome => outcome.map_err(at(path))?,
    };
    listing.into_inner().end(&summary, common.quiet)?;
    if summary.is_complete() {
        return Ok(());
    }
    let (archive, count) = (path.clone(), summary.incomplete());
    Err(Failure::NotSalvaged { archive, count })
}

impl Listing {
    fn begin(common: &Common) -> Result<Listing, Failure> {
        let (mut output, is_json) = (Output::new(), common.json);
        if is_json {
            output.write(b"{\"entries\":[")?;
        }
        Ok(Listing { output, is_json, is_empty: true, outcome: Ok(()) })
    }

    /// Prints an entry. A failure of standard output is reported only at the end, because the new archive matters more.
    fn add(&mut self, item: &Salvaged) {
        let written = if self.is_json { self.write_json(item) } else { self.write_line(item) };
        if self.outcome.is_ok() {
            self.outcome = written;
        }
    }

    fn write_json(&mut self, item: &Salvaged) -> Result<(), Failure> {
        self.output.write(if self.is_empty { b"\n" } else { b",\n" })?;
        self.is_empty = false;
        let gaps: Vec<[u64; 2]> = item.gaps.iter().map(|gap| [gap.start, gap.end]).collect();
        self.output.json(&json!({
            "path": item.path.as_deref().map(Path::to_string_lossy),
            "stream": item.stream.map(|stream| stream.to_string()),
            "length": item.length,
            "outcome": name_of(item.outcome),
            "gaps": gaps,
        }))
    }

    fn write_line(&mut self, item: &Salvaged) -> Result<(), Failure> {
        if item.outcome == SalvageOutcome::Complete {
            return Ok(());
        }
        let stream = item.stream.map(|stream| format!("stream {stream}"));
        let subject = match (&item.path, stream) {
            (Some(path), _) => Shown::path(path).to_string(),
            (None, stream) => stream.unwrap_or_default(),
        };
        let gaps: Vec<String> = item.gaps.iter().map(range_text).collect();
        let gaps =
            if gaps.is_empty() { String::new() } else { format!("; lost: {}", gaps.join(", ")) };
        self.output.line(&format!("{subject}: {}{gaps}", describe(item.outcome)))
    }

    fn end(mut self, summary: &SalvageSummary, quiet: bool) -> Result<(), Failure> {
        self.outcome?;
        if self.is_json {
            self.output.write(b"],\n\"counts\":")?;
            self.output.json(summary)?;
            self.output.write(b"}\n")?;
        } else if !quiet {
            let SalvageSummary { blocks, opened, complete, gaps, unproven, nameless, lost, .. } =
                *summary;
            self.output.line(&format!(
                "{opened} of {blocks} blocks open; {complete} entries complete, {gaps} with gaps, {unproven} unproven, \
                 {nameless} without name or attributes, {lost} lost"
            ))?;
            if summary.damaged_trees > 0 {
                self.output.line(
                    "index pages are lost: names and content may be missing, or out of date",
                )?;
            }
        }
        self.output.finish()
    }
}

/// Describes the bytes of a range: the first and the last.
fn range_text(range: &Range<u64>) -> String {
    format!("bytes {} to {}", range.start, range.end.saturating_sub(1))
}

const fn name_of(outcome: SalvageOutcome) -> &'static str {
    match outcome {
        SalvageOutcome::Complete => "complete",
        SalvageOutcome::Gaps => "gaps",
        SalvageOutcome::Unproven => "unproven",
        SalvageOutcome::Nameless => "nameless",
        _ => "lost",
    }
}

const fn describe(outcome: SalvageOutcome) -> &'static str {
    match outcome {
        SalvageOutcome::Complete => "complete",
        SalvageOutcome::Gaps => "some of its bytes are lost",
        SalvageOutcome::Unproven => "its version or its end is unproven",
        SalvageOutcome::Nameless => "its name or attributes are lost",
        _ => "nothing but its name is left",
    }
}
