//! `verify`: checks the whole archive and reports every problem.

use std::cell::RefCell;
use std::ops::ControlFlow;

use ar7_engine::Error as EngineError;
use ar7_engine::store::{Access, Io};
use ar7_registry::{Error, Finding, VerifyProgress, VerifySummary};
use serde::Serialize;

use crate::arguments::{Common, Verify};
use crate::commands::receipt;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::session::Session;
use crate::shown::Shown;

const BLOCK_BYTES: u64 = ar7_engine::format::BLOCK_SIZE_U64;

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

#[derive(Serialize)]
struct JsonFinding {
    subject: String,
    error: String,
}

/// The list of findings, printed as lines or as elements of the JSON document.
struct Listing {
    output: Output,
    is_json: bool,
    count: u64,
    outcome: Result<(), Failure>,
}

/// Verifies the archive. Positioned reads are the default, because they report a bad sector as a finding.
pub(crate) fn run(common: &Common, options: &Verify) -> Result<(), Failure> {
    let receipt = options.receipt.as_deref().map(receipt::given).transpose()?;
    let session = Session::open(common, &options.archive, Access::Read, Io::File)?;
    if let Some(receipt) = receipt {
        session.archive.check_receipt(&receipt).map_err(session.named())?;
    }
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let blocks = session.archive.store().current().slot.block_count;
    progress.set_total(u64::from(blocks) * BLOCK_BYTES);
    let output = Output::new();
    let listing =
        RefCell::new(Listing { output, is_json: options.json, count: 0, outcome: Ok(()) });
    listing.borrow_mut().begin()?;
    let mut checked = 0;
    let verified = session.archive.verify_until(
        &mut |finding| listing.borrow_mut().finding(&finding),
        &mut |at: VerifyProgress| {
            checked = at.blocks;
            progress.set_done(checked * BLOCK_BYTES);
            if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    progress.finish();
    let listing = listing.into_inner();
    let summary = match verified {
        Err(Error::Engine(EngineError::Stopped)) => {
            let found = listing.interrupted()?;
            let done = format!("{checked} of {blocks} blocks checked, {found} findings so far");
            return Err(Failure::Interrupted { archive: session.path, done });
        }
        outcome => outcome.map_err(session.named())?,
    };
    listing.end(&summary, common.quiet)?;
    match summary.findings {
        0 => Ok(()),
        count => Err(Failure::Findings { archive: session.path, count }),
    }
}

impl Listing {
    fn begin(&mut self) -> Result<(), Failure> {
        if self.is_json { self.output.write(b"{\"findings\":[") } else { Ok(()) }
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
        let (subject, error) = (finding.subject.to_string(), finding.error.to_string());
        if !self.is_json {
            return self.output.line(&Shown(format!("{subject}: {error}").as_bytes()).to_string());
        }
        self.output.write(if self.count == 1 { b"\n" } else { b",\n" })?;
        self.output.json(&JsonFinding { subject, error })
    }

    /// Ends the listing of an interrupted verification, and returns the number of findings.
    fn interrupted(mut self) -> Result<u64, Failure> {
        self.outcome?;
        if self.is_json {
            self.output.write(b"],\n\"interrupted\":true}\n")?;
        }
        self.output.finish()?;
        Ok(self.count)
    }

    fn end(mut self, summary: &VerifySummary, quiet: bool) -> Result<(), Failure> {
        self.outcome?;
        let VerifySummary {
            blocks, data_blocks, pages, free_blocks, streams, bytes, names, ..
        } = *summary;
        if self.is_json {
            let counts =
                JsonCounts { blocks, data_blocks, pages, free_blocks, streams, bytes, names };
            self.output.write(b"],\n\"counts\":")?;
            self.output.json(&counts)?;
            self.output.write(b"}\n")?;
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
