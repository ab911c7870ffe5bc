//! `verify`: checks the whole archive and reports every problem.

use std::cell::RefCell;
use std::ops::ControlFlow;

use ar7::{Archive, Error, Finding, Io, Summary};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{BLOCK_BYTES, Common, Verify};
use crate::commands::receipt;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::opened::Opened;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::shown::Shown;

/// The counts, in the order of the JSON document.
#[derive(Serialize)]
struct JsonCounts {
    blocks: u64,
    data_blocks: u64,
    pages: u64,
    free_blocks: u64,
    streams: u64,
    bytes: u64,
    names: u64,
}

/// The list of findings: lines of text, elements of one JSON document, or a document in each line.
struct Listing {
    output: Output,
    is_document: bool,
    is_lines: bool,
    count: u64,
    outcome: Result<(), Failure>,
}

/// Verifies the archive. Positioned reads are the default, because they report a bad sector as a finding.
pub(crate) fn run(common: &Common, options: &Verify) -> Result<(), Failure> {
    let receipt = options.receipt.as_deref().map(receipt::given).transpose()?;
    let opened = Opened::open(common, &options.archive, Archive::options().io(Io::File))?;
    if let Some(receipt) = receipt {
        opened.archive.check_receipt(&receipt).map_err(opened.named())?;
    }
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let (is_document, is_lines) = (common.json && !options.json_lines, options.json_lines);
    let output = Output::new();
    let listing =
        RefCell::new(Listing { output, is_document, is_lines, count: 0, outcome: Ok(()) });
    listing.borrow_mut().begin()?;
    let (mut checked, mut total) = (0, 0);
    let verified = opened.archive.verify(
        |finding| listing.borrow_mut().finding(&finding),
        |at| {
            if total != at.total {
                total = at.total;
                progress.set_total(total * BLOCK_BYTES);
            }
            checked = at.blocks;
            progress.set_done(checked * BLOCK_BYTES);
            if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    progress.finish();
    let listing = listing.into_inner();
    let summary = match verified {
        Err(Error::Stopped) => {
            let found = listing.interrupted()?;
            let done = format!("{checked} of {total} blocks checked, {found} findings so far");
            return Err(Failure::Interrupted { archive: opened.path, done });
        }
        outcome => outcome.map_err(opened.named())?,
    };
    listing.end(&summary, common.quiet)?;
    match summary.findings {
        0 => Ok(()),
        count => Err(Failure::Findings { archive: opened.path, count }),
    }
}

impl Listing {
    fn begin(&mut self) -> Result<(), Failure> {
        if self.is_document { self.output.write(b"{\"findings\":[") } else { Ok(()) }
    }

    /// Prints a finding. A failure of standard output is reported only at the end, because the state of the archive
    /// matters more.
    fn finding(&mut self, finding: &Finding) {
        let written = self.write(finding);
        if self.outcome.is_ok() {
            self.outcome = written;
        }
    }

    fn write(&mut self, finding: &Finding) -> Result<(), Failure> {
        self.count += 1;
        if !self.is_document && !self.is_lines {
            return self.output.line(&Shown(finding.to_string().as_bytes()).to_string());
        }
        if self.is_document {
            self.output.write(if self.count == 1 { b"\n" } else { b",\n" })?;
        }
        self.output.json(finding)?;
        if self.is_lines { self.output.write(b"\n") } else { Ok(()) }
    }

    /// Ends the listing of an interrupted verification, and returns the number of findings.
    fn interrupted(mut self) -> Result<u64, Failure> {
        self.outcome?;
        if self.is_document {
            self.output.write(b"],\n\"interrupted\":true}\n")?;
        } else if self.is_lines {
            self.output.write(b"{\"interrupted\":true}\n")?;
        }
        self.output.finish()?;
        Ok(self.count)
    }

    fn end(mut self, summary: &Summary, quiet: bool) -> Result<(), Failure> {
        self.outcome?;
        let Summary { blocks, data_blocks, pages, free_blocks, streams, bytes, names, .. } =
            *summary;
        let counts = JsonCounts { blocks, data_blocks, pages, free_blocks, streams, bytes, names };
        if self.is_document {
            self.output.write(b"],\n\"counts\":")?;
            self.output.json(&counts)?;
            self.output.write(b"}\n")?;
        } else if self.is_lines {
            self.output.json(&json!({ "counts": counts }))?;
            self.output.write(b"\n")?;
        } else if !quiet {
            self.output.line(&format!(
                "{blocks} blocks: {data_blocks} of streams, {pages} pages, {free_blocks} free; {streams} streams, \
                 {bytes} bytes, {names} names; {} findings",
                summary.findings
            ))?;
        }
        self.output.finish()
    }
}
