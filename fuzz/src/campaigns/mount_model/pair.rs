//! The same operations on a mounted archive and on a directory of the host.

use std::fs;
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};

use walkdir::WalkDir;
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};

use super::outcome::{shown, status_of};
use super::worker::Worker;
use super::{Options, fault};
use crate::campaigns::mounted::Mounted;

/// Operations of a thread between two mounts.
const PER_MOUNT: u64 = 25_000;

/// Returns the number of operations that were compared.
pub(super) fn run(ar7: &Ar7, folder: &Path, options: &Options) -> Result<u64> {
    let (archive, mount, host) =
        (folder.join("pair.ar7"), folder.join("pair"), folder.join("host"));
    for directory in [&mount, &host] {
        fs::create_dir(directory).map_err(Error::io("create", directory))?;
    }
    ar7.expect(0, ["create".as_ref(), archive.as_os_str()])?;
    let (mut done, mut round) = (0, 0);
    while done < options.operations {
        let each = PER_MOUNT.min((options.operations - done).div_ceil(options.threads.max(1)));
        let mut mounted = Mounted::new(ar7, &archive, &mount, &["--commit-interval", "1"])?;
        let outcomes: Vec<Result<u64>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..options.threads.max(1))
                .map(|number| {
                    let seed = options.seed ^ (round << 32) ^ number;
                    let both = [mount.join(number.to_string()), host.join(number.to_string())];
                    scope.spawn(move || Worker::new(both, seed)?.work(each))
                })
                .collect();
            let ended = threads.into_iter().map(ScopedJoinHandle::join);
            ended.map(|it| it.unwrap_or_else(|_| Err(fault("a thread panicked")))).collect()
        });
        for outcome in outcomes {
            done += outcome?;
        }
        agree(&host, &mount)?;
        mounted.unmount(&[])?;
        ar7.expect(0, ["verify".as_ref(), archive.as_os_str()])?;
        let mut again = Mounted::new(ar7, &archive, &mount, &["--read-only"])?;
        agree(&host, &mount)?;
        again.unmount(&[])?;
        round += 1;
    }
    Ok(done)
}

/// Fails unless both trees have the same entries and content.
fn agree(host: &Path, mount: &Path) -> Result<()> {
    let listed = |root: &Path| {
        let mut entries = Vec::new();
        for entry in WalkDir::new(root).min_depth(2).sort_by_file_name() {
            let entry = entry.map_err(|error| fault(error.to_string()))?;
            let path = entry.path();
            let content = if entry.file_type().is_file() {
                fs::read(path).map_err(Error::io("read", path))?
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(root).unwrap_or(path).to_owned();
            entries.push((name, status_of(path), content));
        }
        Ok::<_, Error>(entries)
    };
    let (expected, found) = (listed(host)?, listed(mount)?);
    for (expected, found) in expected.iter().zip(&found) {
        if expected != found {
            return Err(fault(format!(
                "after all operations, {} is {}, and {} is {}",
                found.0.display(),
                shown(&found.1),
                expected.0.display(),
                shown(&expected.1)
            )));
        }
    }
    if expected.len() == found.len() { Ok(()) } else { Err(fault("entries are missing")) }
}
