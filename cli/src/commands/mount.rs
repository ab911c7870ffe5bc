//! The commands `mount` and `unmount`.

use std::io;
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use ar7_arguments::{Common, MountAt, Unmount};
use ar7_mount::{Access, Mount, Options, Started};
use serde_json::json;

use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::opened;
use crate::output;

/// How often the process looks for a signal, and for the end of the mount.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Shows an archive as a directory.
pub(super) fn mount(common: &Common, path: &Path, options: &MountAt) -> Result<(), Failure> {
    let background = |source: io::Error| Failure::System { what: "background", source };
    let is_in_background = !options.foreground && ar7_mount::is_in_background();
    if !options.foreground && !is_in_background {
        let process = match ar7_mount::start_in_background().map_err(background)? {
            Started::Ended(status) => process::exit(status.code().unwrap_or(1)),
            Started::Ready(child) => child.id(),
        };
        return output::report(common, &json!({ "process": process }), None);
    }
    let access = match options {
        options if options.snapshot_follow => Access::Follow,
        options if options.read_only => Access::Snapshot,
        _ => Access::ReadWrite,
    };
    let is_writer = access == Access::ReadWrite;
    let archive =
        if is_writer { opened::writer(common, path)? } else { opened::reader(common, path)? };
    let interrupt = Interrupt::catch()?;
    let chosen = Options {
        access,
        allow_other: options.allow_other,
        commit_interval: Duration::from_secs(options.commit_interval.into()),
        commit_bytes: options.commit_size.0,
        report: |line| output::warn(&line),
    };
    let failed = |error| Failure::file(&options.directory, "mount", error);
    let mount = Mount::new(archive, &options.directory, &chosen).map_err(failed)?;
    if is_in_background {
        ar7_mount::enter_background(options.log.as_deref()).map_err(background)?;
    }
    while !mount.is_ended() && !interrupt.is_set() {
        thread::sleep(LOOK_EVERY);
    }
    mount.unmount().map_err(|error| Failure::file(&options.directory, "unmount", error))
}

/// Unmounts a directory.
pub(super) fn unmount(options: &Unmount) -> Result<(), Failure> {
    let unmounted = ar7_mount::unmount(&options.directory, options.lazy)
        .map_err(|error| Failure::file(&options.directory, "unmount", error))?;
    unmounted.warning().iter().for_each(output::warn);
    Ok(())
}
