//! `verify`: checks the whole archive and reports every problem.

use std::cell::RefCell;
use std::path::Path;

use ar7::{Archive, Count, Damage, Error, Finding, Io, PathText};
use ar7_arguments::{Common, Verify};
use serde_json::json;

use crate::exit::Failure;
use crate::opened;
use crate::output::Output;
use crate::progress::Progress;

/// Verifies the archive. Positioned reads are the default, because they report a bad sector as a finding.
pub(super) fn run(common: &Common, path: &Path, options: &Verify) -> Result<(), Failure> {
    let receipt = options.receipt()?;
    let archive = opened::open(common, path, Archive::options().io(Io::File))?;
    if let Some(receipt) = receipt {
        archive.check_receipt(&receipt)?;
    }
    let progress = Progress::stoppable(common)?;
    let (findings, mut checked) = (Findings::begin(common, options.json_lines)?, None);
    let verified = archive.verification().quick(options.quick).run(
        |finding| findings.add(&finding),
        |at| {
            checked = Some((at.blocks, at.total));
            progress.flow_at(at)
        },
    );
    progress.finish();
    if matches!(verified, Err(Error::Stopped)) {
        let (list, _, found) = findings.0.into_inner();
        list.end_with("interrupted", &true, None)?;
        let (checked, total) = checked.unwrap_or_default();
        let found = Count(found, "finding");
        let done = format!("{checked} of {total} blocks checked, {found} so far");
        return Err(Failure::Interrupted { done });
    }
    let summary = verified?;
    let list = findings.end(&archive)?;
    list.end_with("counts", &summary, (!common.quiet).then(|| summary.to_string()))?;
    Failure::check(summary.shortfall())
}

/// The list of findings, what they affect, and their number.
pub(super) struct Findings(RefCell<(Output, Damage, u64)>);

impl Findings {
    pub(super) fn begin(common: &Common, json_lines: bool) -> Result<Findings, Failure> {
        let list = Output::list(common, json_lines, "findings")?;
        Ok(Findings(RefCell::new((list, Damage::default(), 0))))
    }

    /// Lists a finding.
    pub(super) fn add(&self, finding: &Finding) {
        let (list, damage, count) = &mut *self.0.borrow_mut();
        damage.add(finding);
        *count += 1;
        list.add(finding, |finding| Some(PathText::new(&finding.to_string()).to_string()));
    }

    /// Lists the entries that the findings affect. Returns the list.
    pub(super) fn end(self, archive: &Archive) -> Result<Output, Failure> {
        let (mut list, damage, _) = self.0.into_inner();
        for path in damage.paths(&archive.snapshot()?)? {
            let path = PathText::new(&path);
            list.add(&json!({ "affected": path }), |_| Some(format!("affected: {path}")));
        }
        Ok(list)
    }
}
