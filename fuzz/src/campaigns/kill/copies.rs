//! Kills of commands that make a new archive.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Instant;

use xtask::error::{Error, Result};

use super::Campaign;
use super::process::{Moment, run_until};

impl Campaign {
    /// Copies the archive to a new one, and possibly kills that.
    pub(super) fn copy_and_kill(&mut self) -> Result<()> {
        let (archive, copied) = (self.archive.clone(), self.copied.clone());
        let is_salvage = self.random.one_in(2);
        let mut command = self.ar7.command([if is_salvage { "salvage" } else { "compact" }]);
        command.arg(archive).args((!is_salvage).then_some("--to")).arg(copied);
        let moment = Moment::After(self.random_time(self.times.copy));
        let started = Instant::now();
        let ended = run_until(command, moment)?;
        self.tally.runs += 1;
        let killed = ended.killed;
        if killed {
            self.tally.kills += 1;
            self.tally.copies += 1;
        } else {
            // A salvage also finds what killed commands left in free blocks, and cannot tell what it is.
            ended.into_one_of(if is_salvage { &[0, 4] } else { &[0] })?;
            self.times.copy = started.elapsed();
        }
        let wanted = self.entries_of(&self.archive)?;
        self.check_copy(killed, wanted)
    }

    /// Imports an archive of the Python module into a new one, and possibly kills that.
    pub(super) fn import_and_kill(&mut self) -> Result<()> {
        let moment = Moment::After(self.random_time(self.times.import));
        let started = Instant::now();
        let ended = run_until(self.old.import(&self.ar7, &self.copied), moment)?;
        self.tally.runs += 1;
        let killed = ended.killed;
        if killed {
            self.tally.kills += 1;
            self.tally.imports += 1;
        } else {
            ended.into_one_of(self.old.codes())?;
            self.times.import = started.elapsed();
        }
        self.check_copy(killed, self.old.entries)
    }

    /// Checks that the new archive has everything, or that it does not exist after a kill.
    fn check_copy(&self, killed: bool, wanted: u64) -> Result<()> {
        let temporary = self.temporary_files()?;
        if temporary > usize::from(killed) {
            return Err(Error::Fault(format!("{temporary} temporary files are left")));
        }
        if !self.copied.exists() {
            let missing = Error::Fault("the new archive does not exist".to_owned());
            return if killed { Ok(()) } else { Err(missing) };
        }
        self.ar7.expect(0, [OsStr::new("verify"), self.copied.as_os_str()])?;
        let held = self.entries_of(&self.copied)?;
        if held < wanted {
            let fault = format!("the new archive has {held} entries of {wanted}");
            return Err(Error::Fault(fault));
        }
        fs::remove_file(&self.copied).map_err(Error::io("remove", &self.copied))
    }

    /// Returns the number of files with temporary names next to the archive.
    fn temporary_files(&self) -> Result<usize> {
        let folder = self.archive.parent().unwrap_or(Path::new("."));
        let entries = fs::read_dir(folder).map_err(Error::io("list", folder))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        Ok(names.filter(|name| Path::new(name).extension() == Some("incomplete".as_ref())).count())
    }
}
