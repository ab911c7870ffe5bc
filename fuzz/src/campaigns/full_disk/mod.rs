//! `cargo xtask full-disk`: fills disks under the real program, and checks what still works.
//!
//! On each small file system that this machine can create (a tmpfs and an ext4 of 64 MiB):
//! - an ingest that does not fit ends with the exit code for a full disk, and the archive contains what was reported;
//! - with no free byte left, the archive verifies, a directory can be created, entries and whole trees can be removed,
//!   and the freed space is enough for an ingest that fits in it;
//! - with space again, everything works, and the extracted content equals the source.
//!
//! Then, on a disk that refuses to grow the file, it deletes a stream of a million extents and a tree of a million
//! names.

mod large;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::Random;
use clap::Args;

use crate::campaigns::disk::{Disk, Kind};
use crate::campaigns::kill::process::reported_entries;
use crate::campaigns::tree::{self, Shape};
use xtask::ar7::Ar7;
use xtask::compare::compare;
use xtask::error::{Error, Result};
use xtask::quantity::seconds;
use xtask::workspace::output;

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of extents, and of names, to delete; 0 for none
    #[arg(long, default_value_t = 1_000_000)]
    entries: u32,
    /// Seed of the trees
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The exit code for a full disk.
const EXIT_NO_SPACE: i32 = 7;

/// Size of the file systems in bytes.
const DISK_BYTES: u64 = 64 << 20;

/// About 90 MB, which does not fit, and about 15 MB, which does.
const LARGE: Shape = Shape { files: 400, large_files: 7 };
const SMALL: Shape = Shape { files: 300, large_files: 1 };

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("ar7-full-disk-")
        .tempdir()
        .map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let outcome = campaign(folder.path(), options);
    let found = if outcome.is_ok() { "no fault" } else { "FAULT" };
    println!("full-disk: seed {}, {}: {found}", options.seed, seconds(started.elapsed()));
    outcome
}

fn campaign(folder: &Path, options: &Options) -> Result<()> {
    let mut random = Random::new(options.seed);
    let (large, small) = (folder.join("large"), folder.join("small"));
    tree::generate(&large, LARGE, &mut random)?;
    tree::generate(&small, SMALL, &mut random)?;
    let ar7 = Ar7::build(folder)?;
    for kind in [Kind::Tmpfs, Kind::Ext4] {
        match Disk::mount(kind, folder, DISK_BYTES) {
            Ok(disk) => {
                let bench = Bench { ar7: &ar7, folder, disk: &disk, large: &large, small: &small };
                bench.run()?;
                println!("full-disk: {}: no fault", kind.name());
            }
            Err(reason) => println!("full-disk: {}: skipped: {reason}", kind.name()),
        }
    }
    if options.entries > 0 {
        let failed = |error: ar7_registry::Error| Error::Fault(error.to_string());
        large::names(folder, options.entries).map_err(failed)?;
        large::extents(folder, options.entries).map_err(failed)?;
    }
    Ok(())
}

/// Fills a file system to the last byte. Returns the file that does.
fn fill(disk: &Disk) -> Result<PathBuf> {
    let path = disk.path.join("filler");
    let mut filler = File::create(&path).map_err(Error::io("create", &path))?;
    for size in [1 << 20, 4096, 512, 1] {
        let bytes = vec![1; size];
        while filler.write_all(&bytes).and_then(|()| filler.flush()).is_ok() {}
    }
    Ok(path)
}

/// The program, and a disk to fill.
struct Bench<'a> {
    ar7: &'a Ar7,
    folder: &'a Path,
    disk: &'a Disk,
    large: &'a Path,
    small: &'a Path,
}

impl Bench<'_> {
    fn run(&self) -> Result<()> {
        let archive = self.disk.path.join("a.ar7");
        let archive = archive.as_os_str();
        let ok = |words: &[&OsStr]| self.ar7.expect(0, words).map(drop);
        let (ingest, small) = (OsStr::new("ingest"), self.small.as_os_str());
        ok(&[ingest, archive, small])?;
        self.check_small(archive)?;
        self.ingest_too_much(archive)?;

        // No byte is free.
        let filler = fill(self.disk)?;
        ok(&["verify".as_ref(), archive])?;
        self.check_small(archive)?;
        ok(&["mkdir".as_ref(), archive, "new".as_ref()])?;
        ok(&["rm".as_ref(), "-r".as_ref(), archive, "large".as_ref()])?;
        ok(&["verify".as_ref(), archive])?;
        self.check_small(archive)?;
        // With no space left, blocks move to free ones.
        ok(&["compact".as_ref(), archive])?;
        ok(&["verify".as_ref(), archive])?;
        self.check_small(archive)?;
        // The freed space is enough for a second copy of the small tree.
        ok(&["mv".as_ref(), archive, "small".as_ref(), "first".as_ref()])?;
        ok(&[ingest, archive, small])?;
        self.check_small(archive)?;
        self.ar7.expect(EXIT_NO_SPACE, [ingest, archive, self.large.as_os_str()])?;
        ok(&["verify".as_ref(), archive])?;
        self.check_small(archive)?;

        // There is space again.
        fs::remove_file(&filler).map_err(Error::io("remove", &filler))?;
        ok(&["rm".as_ref(), "-r".as_ref(), archive, "first".as_ref()])?;
        let parts = fs::read_dir(self.large).map_err(Error::io("list", self.large))?;
        let parts: Vec<_> = parts.filter_map(std::result::Result::ok).collect();
        let part = parts.iter().map(std::fs::DirEntry::path).find(|path| path.is_dir());
        if let Some(part) = part {
            let fits = [OsStr::new("ingest"), archive, part.as_os_str()];
            let mut command = self.ar7.command(fits);
            let ended = output(&mut command)?.status.code();
            if ![Some(0), Some(EXIT_NO_SPACE)].contains(&ended) {
                return Err(Error::Fault(format!(
                    "an ingest with enough space ended with {ended:?}"
                )));
            }
        }
        ok(&["verify".as_ref(), archive])?;
        self.check_small(archive)
    }

    /// Fills the disk with an ingest. The archive must contain what was reported, and verify.
    fn ingest_too_much(&self, archive: &OsStr) -> Result<()> {
        let checkpoint: [&OsStr; 3] = ["ingest".as_ref(), "--checkpoint".as_ref(), "4MiB".as_ref()];
        let large = self.large.as_os_str();
        let arguments = checkpoint.into_iter().chain([archive, large]);
        let ended = self.ar7.expect(EXIT_NO_SPACE, arguments)?;
        let reported = ended.stderr.lines().filter_map(reported_entries).next_back();
        self.ar7.expect(0, ["verify".as_ref(), archive])?;
        let listed = self.ar7.expect(0, ["ls".as_ref(), "-R".as_ref(), archive])?;
        let held = u64::try_from(listed.stdout.lines().count()).unwrap_or(u64::MAX);
        match reported {
            None => Err(Error::Fault("no checkpoint was reached before the disk was full".into())),
            Some(reported) if reported > held => {
                Err(Error::Fault(format!("{reported} entries were reported, found {held}")))
            }
            Some(_) => self.check_small(archive),
        }
    }

    /// Checks that extracting the small tree restores it.
    fn check_small(&self, archive: &OsStr) -> Result<()> {
        let extracted = self.folder.join("out");
        if extracted.exists() {
            fs::remove_dir_all(&extracted).map_err(Error::io("remove", &extracted))?;
        }
        let to = extracted.as_os_str();
        let only: [&OsStr; 4] = ["extract".as_ref(), archive, "small".as_ref(), "--to".as_ref()];
        self.ar7.expect(0, only.into_iter().chain([to]))?;
        compare(self.small, &extracted.join("small"))?.into_result()?;
        Ok(())
    }
}
