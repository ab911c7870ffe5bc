//! `verify`: checks the whole archive and reports every problem.

use std::cell::{Cell, RefCell};

use ar7::{Archive, Damage, Error, Finding, Io, PathText};
use serde::Serialize;

use super::archive::receipt_of;
use crate::arguments::{Common, Verify};
use crate::exit::Failure;
use crate::output::List;
use crate::progress::Progress;

/// Verifies the archive. Positioned reads are the default, because they report a bad sector as a finding.
pub(super) fn run(common: &Common, options: &Verify) -> Result<(), Failure> {
    let receipt = options.receipt.as_deref().map(receipt_of).transpose()?;
    let archive = common.open(&options.archive, Archive::options().io(Io::File))?;
    if let Some(receipt) = receipt {
        archive.check_receipt(&receipt)?;
    }
    let progress = Progress::stoppable(common)?;
    let list = RefCell::new(List::begin(common, options.json_lines, "findings")?);
    let damage = RefCell::new(Damage::default());
    let (found, mut checked, mut total) = (Cell::new(0_u64), 0, 0);
    let text = |finding: &Finding| Some(PathText::new(&finding.to_string()).to_string());
    let verified = archive.verify(
        |finding| {
            found.set(found.get() + 1);
            damage.borrow_mut().add(&finding);
            list.borrow_mut().add(&finding, text);
        },
        |at| {
            (checked, total) = (at.blocks, at.total);
            progress.set_of_blocks(checked, total);
            progress.flow()
        },
    );
    progress.finish();
    let mut list = list.into_inner();
    let summary = match verified {
        Err(Error::Stopped) => {
            list.end_with("interrupted", &true, None)?;
            let found = found.get();
            let done = format!("{checked} of {total} blocks checked, {found} findings so far");
            return Err(Failure::Interrupted { done });
        }
        outcome => outcome?,
    };
    list_affected(&mut list, &archive, &damage.into_inner())?;
    list.end_with("counts", &summary, (!common.quiet).then(|| summary.to_string()))?;
    match summary.findings {
        0 => Ok(()),
        count => Err(Failure::findings(count)),
    }
}

/// Lists the entries that findings affect.
pub(super) fn list_affected(
    list: &mut List,
    archive: &Archive,
    damage: &Damage,
) -> Result<(), Failure> {
    for path in damage.paths(&archive.snapshot()?)? {
        let text = |_: &Affected<'_>| Some(format!("affected: {}", PathText::new(&path)));
        list.add(&Affected { affected: PathText::new(&path) }, text);
    }
    Ok(())
}

/// An entry that findings affect.
#[derive(Serialize)]
struct Affected<'a> {
    affected: PathText<'a>,
}
