//! `import-archive7`: imports an archive of the Python module.

use ar7::archive7::{ImportEvent, OldArchive};
use ar7::{Key, PathText};
use ar7_arguments::{Common, ImportArchive7};

use crate::exit::Failure;
use crate::keys;
use crate::opened::check_is_free;
use crate::output;
use crate::progress::Progress;

/// Imports everything in one transaction. If it fails, there is no new archive.
pub(super) fn run(common: &Common, options: &ImportArchive7) -> Result<(), Failure> {
    check_is_free(&options.new)?;
    let old_key = Key::read_file(&options.old_key_file)?;
    let mut old = OldArchive::open(&options.old, &old_key, options.kind)?;
    let (created, key) = (common.apply(options.slot.options()?), keys::new(common)?);
    let progress = Progress::stoppable(common)?;
    progress.meter.set_total(old.streams().fold(0, |sum, stream| stream.len.saturating_add(sum)));
    let imported = old.import_to(&options.new, &key, created, |event| {
        match event {
            ImportEvent::Read { bytes } => progress.meter.advance(*bytes),
            ImportEvent::Lost { path, loss } => {
                progress.warn(&format_args!("{}: {loss}", PathText::new(path)));
            }
            _ => {}
        }
        progress.flow()
    });
    progress.finish();
    let imported = imported.map_err(Failure::stopped(|| "nothing was imported".to_owned()))?;
    output::report(common, &imported, Some(imported.to_string()))?;
    Failure::check(imported.shortfall())
}
