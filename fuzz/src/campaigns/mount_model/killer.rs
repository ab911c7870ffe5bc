//! When the process that serves a mount is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Random;
use crate::campaigns::shim;

/// Longest life of a process, in microseconds.
const LIFE_MAX: u64 = 900_000;

/// The calls of a process at which it is killed: those of the first commits.
const CALLS: u64 = 60;

/// What is done of the call. A power cut also loses some of the blocks that were written since the last sync.
const HOW: [&str; 4] = ["before", "half", "after", "cut"];

/// A moment.
#[derive(Debug, Clone)]
pub(super) enum Moment {
    /// This long after the mount.
    After(Duration),
    /// At this write or sync of the archive since the process was started, from 0.
    At { call: String, how: &'static str },
}

/// Chooses the moments.
pub(super) struct Killer {
    /// The library that kills at a call, without a C compiler none.
    library: Option<PathBuf>,
    /// What a process writes before it dies at a call.
    report: PathBuf,
    /// The number of moments at calls.
    chosen: u64,
}

impl Killer {
    pub(super) fn new(folder: &Path) -> Killer {
        let library = shim::build("kill", folder);
        if let Err(reason) = &library {
            println!("mount-model: skipped the kills inside commits: {reason}");
        }
        Killer { library: library.ok(), report: folder.join("report"), chosen: 0 }
    }

    /// Chooses a moment: in turn before, in and after each call, and by a power cut, or at random in time.
    pub(super) fn choose(&mut self, random: &mut Random) -> Moment {
        let _ = fs::remove_file(&self.report);
        if self.library.is_none() || random.one_in(2) {
            return Moment::After(Duration::from_micros(random.below(LIFE_MAX)));
        }
        let ways = HOW.len() as u64;
        let how = usize::try_from(self.chosen % ways).unwrap_or(0);
        let call = self.chosen / ways % CALLS;
        self.chosen += 1;
        Moment::At { call: call.to_string(), how: HOW[how] }
    }

    /// Returns what the process needs in its environment.
    pub(super) fn environment<'a>(&'a self, moment: &'a Moment) -> Vec<(&'static str, &'a Path)> {
        match (moment, &self.library) {
            (Moment::At { call, how }, Some(library)) => vec![
                ("LD_PRELOAD", library.as_path()),
                ("AR7_KILL_AT", Path::new(call)),
                ("AR7_KILL_HOW", Path::new(how)),
                ("AR7_KILL_REPORT", self.report.as_path()),
            ],
            _ => Vec::new(),
        }
    }

    /// Returns the kind of call at which the process has died; `None` if it did not die at one.
    pub(super) fn died_at(&self) -> Option<String> {
        fs::read_to_string(&self.report).ok()
    }
}
