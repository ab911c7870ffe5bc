//! `cargo xtask kill`: kills real ingests, deletions, compactions, copies to new archives, and imports of archives of the
//! Python module, at random moments.
//!
//! After every kill the campaign checks these rules. If one is broken, it stops and keeps the directory.
//! - The archive verifies, unless the kill came before it existed.
//! - It contains at least the entries of the last reported checkpoint.
//! - Every file in it has, completely, a content that the file once had.
//! - A new archive that `compact --to`, `salvage` or `import-archive7` made is whole, or does not exist, and at most one
//!   temporary file is left.
//! - Another ingest completes it, and the extracted tree then equals the source.

mod copies;
mod old;
pub(crate) mod process;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Random;
use clap::Args;
use serde_json::Value;

use self::old::Old;
use self::process::{Ended, Moment, run_until};
use crate::campaigns::tree::{self, History, Shape};
use xtask::ar7::Ar7;
use xtask::compare::compare;
use xtask::error::{Error, Result};
use xtask::quantity::seconds;

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of kills
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// Seed of every choice; reproduces a run as far as timing allows
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tree to use instead of a generated one; it is copied, not changed
    #[arg(long)]
    tree: Option<PathBuf>,
}

const GENERATED: Shape = Shape { files: 3000, large_files: 5 };
const CHECKPOINT: &str = "4MiB";

/// After this many kills, the ingest runs to completion and the whole tree is compared.
const KILLS_PER_COMPLETION: u64 = 8;
/// Creating an archive takes a few writes and syncs.
const CREATION_TIME: Duration = Duration::from_millis(20);
/// One in this many ingests that complete before their kill is followed by a comparison of the whole tree.
const RUNS_PER_COMPARISON: u64 = 4;
/// After this many disturbances the archive is created again, so that its creation is killed too.
const DISTURBANCES_PER_ARCHIVE: u64 = 4;
/// After this many kills, the files in the archive are compared with their past contents.
const KILLS_PER_EXTRACTION: u64 = 4;
/// One in this many files is changed before the next ingest.
const CHANGED_ONE_IN: u64 = 5;
/// After this many kills, the campaign prints its progress.
const KILLS_PER_LINE: u64 = 20;
/// A campaign with fewer kills than one in this many runs is stopped, because it proves nothing.
const RUNS_PER_KILL_MAX: u64 = 20;

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("ar7-kill-")
        .tempdir()
        .map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let outcome = campaign(folder.path(), options, started);
    if outcome.is_err() {
        println!("kept: {}", folder.keep().display());
    }
    outcome
}

fn campaign(folder: &Path, options: &Options, started: Instant) -> Result<()> {
    let mut campaign = Campaign::new(folder, options)?;
    let outcome = campaign.run(options.kills);
    let found = if outcome.is_ok() { "no fault" } else { "FAULT" };
    let Tally {
        runs,
        kills,
        unborn,
        removals,
        compactions,
        copies,
        imports,
        completions,
        extractions,
    } = campaign.tally;
    println!(
        "kill: {kills} kills in {runs} runs (seed {}, {}): {unborn} before the archive existed, \
         {removals} of deletions, {compactions} of compactions, {copies} of copies, {imports} of imports; \
         {extractions} partial extractions, {completions} completions compared: {found}",
        options.seed,
        seconds(started.elapsed()),
    );
    outcome
}

/// The work done so far.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    kills: u64,
    unborn: u64,
    removals: u64,
    compactions: u64,
    copies: u64,
    imports: u64,
    completions: u64,
    extractions: u64,
}

/// Durations. A kill should come before the end, at any moment.
struct Times {
    /// Of an ingest into a new archive.
    whole_ingest: Duration,
    /// Of an ingest that continues after a kill, or stores changed files.
    rest_ingest: Duration,
    removal: Duration,
    compaction: Duration,
    /// Of a compaction to a new archive, and of a salvage.
    copy: Duration,
    import: Duration,
}

struct Campaign {
    ar7: Ar7,
    tree: PathBuf,
    archive: PathBuf,
    /// A new archive with the content of `archive`.
    copied: PathBuf,
    extracted: PathBuf,
    /// An archive of the Python module.
    old: Old,
    random: Random,
    history: History,
    tally: Tally,
    disturbances: u64,
    /// The durations of the last uninterrupted ones.
    times: Times,
}

impl Campaign {
    fn new(folder: &Path, options: &Options) -> Result<Campaign> {
        let mut random = Random::new(options.seed);
        let tree = folder.join("tree");
        match &options.tree {
            Some(given) => tree::copy(given, &tree)?,
            None => tree::generate(&tree, GENERATED, &mut random)?,
        }
        let mut history = History::default();
        history.note(&tree, &tree::regular_files(&tree)?)?;
        let ar7 = Ar7::build(folder)?;
        let mut campaign = Campaign {
            ar7,
            tree,
            archive: folder.join("kill.ar7"),
            copied: folder.join("copy.ar7"),
            extracted: folder.join("out"),
            old: Old::new(folder, options.seed)?,
            random,
            history,
            tally: Tally::default(),
            disturbances: 0,
            times: Times {
                whole_ingest: Duration::ZERO,
                rest_ingest: Duration::ZERO,
                removal: Duration::from_millis(20),
                compaction: Duration::from_millis(20),
                copy: Duration::from_millis(100),
                import: Duration::from_millis(50),
            },
        };
        let started = Instant::now();
        campaign.complete()?;
        campaign.times.whole_ingest = started.elapsed();
        campaign.times.rest_ingest = started.elapsed() / 2;
        campaign.compare_whole()?;
        campaign.start_over()?;
        Ok(campaign)
    }

    fn run(&mut self, kills: u64) -> Result<()> {
        while self.tally.kills < kills {
            if self.tally.runs > RUNS_PER_KILL_MAX * (kills + 1) {
                return Err(Error::Fault("the runs end before their kills".to_owned()));
            }
            let killed = self.ingest_and_kill()?;
            if killed && self.tally.kills.is_multiple_of(KILLS_PER_LINE) {
                eprintln!("kill: {} of {kills}", self.tally.kills);
            }
            let due = killed && self.tally.kills.is_multiple_of(KILLS_PER_COMPLETION);
            if due {
                self.complete()?;
            }
            if due || (!killed && self.random.one_in(RUNS_PER_COMPARISON)) {
                self.compare_whole()?;
            }
            if due || !killed {
                self.disturb()?;
            }
        }
        self.complete()?;
        self.compare_whole()
    }

    /// Starts an ingest and kills it. Returns false if it completed first.
    fn ingest_and_kill(&mut self) -> Result<bool> {
        let arguments = self.ingest_arguments();
        let is_whole = !self.archive.exists();
        let expected = if is_whole { self.times.whole_ingest } else { self.times.rest_ingest };
        let moment = if is_whole && self.random.one_in(3) {
            // While the archive is being created.
            Moment::After(self.random_time(CREATION_TIME))
        } else if self.random.one_in(3) {
            // Just after a checkpoint was reported, when an incomplete commit would be visible.
            let checkpoint = 1 + self.random.below(if is_whole { 12 } else { 2 });
            Moment::AfterCheckpoint(checkpoint, self.random_time(Duration::from_millis(5)))
        } else {
            Moment::After(self.random_time(expected))
        };
        let started = Instant::now();
        let ended = run_until(self.ar7.command(&arguments), moment)?;
        self.tally.runs += 1;
        let Ended { killed, checkpoint, .. } = ended;
        if !killed {
            ended.into_success()?;
            let time =
                if is_whole { &mut self.times.whole_ingest } else { &mut self.times.rest_ingest };
            *time = started.elapsed();
        }
        self.tally.kills += u64::from(killed);
        self.check_after(checkpoint)?;
        Ok(killed)
    }

    /// Checks every rule that holds at any moment.
    fn check_after(&mut self, checkpoint: Option<u64>) -> Result<()> {
        if !self.archive.exists() {
            self.tally.unborn += 1;
            return match checkpoint {
                None => Ok(()),
                Some(entries) => Err(Error::Fault(format!(
                    "{entries} entries were reported, but there is no archive"
                ))),
            };
        }
        self.ar7.expect(0, [OsStr::new("verify"), self.archive.as_os_str()])?;
        let held = self.count_entries()?;
        if let Some(reported) = checkpoint.filter(|&reported| reported > held) {
            return Err(Error::Fault(format!("{reported} entries were reported, found {held}")));
        }
        if self.tally.kills.is_multiple_of(KILLS_PER_EXTRACTION) && held > 0 {
            self.extract()?;
            self.history.check(&self.extracted.join(self.tree_name()))?;
            self.tally.extractions += 1;
        }
        Ok(())
    }

    /// Ingests without a kill.
    fn complete(&mut self) -> Result<()> {
        self.ar7.expect(0, self.ingest_arguments())?;
        self.tally.runs += 1;
        Ok(())
    }

    /// Checks that extracting the archive restores the whole tree.
    fn compare_whole(&mut self) -> Result<()> {
        self.ar7.expect(0, [OsStr::new("verify"), self.archive.as_os_str()])?;
        self.extract()?;
        compare(&self.tree, &self.extracted.join(self.tree_name()))?.into_result()?;
        self.tally.completions += 1;
        Ok(())
    }

    /// Makes work for the next ingests: changes files, removes a directory from the archive, or deletes the archive.
    fn disturb(&mut self) -> Result<()> {
        self.disturbances += 1;
        if self.disturbances.is_multiple_of(DISTURBANCES_PER_ARCHIVE) {
            return self.start_over();
        }
        if self.random.one_in(2) {
            tree::change(&self.tree, CHANGED_ONE_IN, &mut self.random)?;
            // A change of a file with several names changes all of them, so all files are recorded.
            return self.history.note(&self.tree, &tree::regular_files(&self.tree)?);
        }
        self.remove_and_kill()?;
        self.compact_and_kill()?;
        self.copy_and_kill()?;
        self.import_and_kill()
    }

    /// Compacts the archive, and possibly kills the compaction.
    fn compact_and_kill(&mut self) -> Result<()> {
        let moment = Moment::After(self.random_time(self.times.compaction));
        let started = Instant::now();
        let ended =
            run_until(self.ar7.command([OsStr::new("compact"), self.archive.as_os_str()]), moment)?;
        self.tally.runs += 1;
        if ended.killed {
            self.tally.kills += 1;
            self.tally.compactions += 1;
        } else {
            ended.into_success()?;
            self.times.compaction = started.elapsed();
        }
        self.check_after(None)
    }

    fn start_over(&mut self) -> Result<()> {
        fs::remove_file(&self.archive).map_err(Error::io("remove", &self.archive))
    }

    /// Removes one directory of the tree from the archive, and possibly kills the removal.
    fn remove_and_kill(&mut self) -> Result<()> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&self.tree).map_err(Error::io("list", &self.tree))? {
            let path = entry.map_err(Error::io("list", &self.tree))?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
        folders.sort();
        let Some(folder) = self.random.choose(&folders) else { return Ok(()) };
        let name = Path::new(self.tree_name()).join(folder.file_name().unwrap_or_default());
        let moment = Moment::After(self.random_time(self.times.removal));
        let arguments = ["rm".as_ref(), "-r".as_ref(), self.archive.as_os_str(), name.as_os_str()];
        let started = Instant::now();
        let ended = run_until(self.ar7.command(arguments), moment)?;
        self.tally.runs += 1;
        let killed = ended.killed;
        if killed {
            self.tally.kills += 1;
            self.tally.removals += 1;
        } else {
            ended.into_success()?;
            self.times.removal = started.elapsed();
        }
        self.check_after(None)
    }

    fn extract(&self) -> Result<()> {
        if self.extracted.exists() {
            fs::remove_dir_all(&self.extracted).map_err(Error::io("remove", &self.extracted))?;
        }
        let to = self.extracted.as_os_str();
        self.ar7.expect(0, ["extract".as_ref(), self.archive.as_os_str(), "--to".as_ref(), to])?;
        Ok(())
    }

    fn count_entries(&self) -> Result<u64> {
        self.entries_of(&self.archive)
    }

    fn entries_of(&self, archive: &Path) -> Result<u64> {
        let arguments = ["ls".as_ref(), archive.as_os_str(), "-R".as_ref(), "--json".as_ref()];
        let listed = self.ar7.expect(0, arguments)?;
        let count = entries_in(&listed.stdout);
        count.ok_or(Error::Output { what: "no listing", found: listed.stdout })
    }

    fn ingest_arguments(&self) -> [PathBuf; 5] {
        let fixed = |word: &str| PathBuf::from(word);
        let (archive, tree) = (self.archive.clone(), self.tree.clone());
        [fixed("ingest"), fixed("--checkpoint"), fixed(CHECKPOINT), archive, tree]
    }

    fn tree_name(&self) -> &OsStr {
        self.tree.file_name().unwrap_or_default()
    }

    fn random_time(&mut self, limit: Duration) -> Duration {
        let microseconds = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.below(microseconds))
    }
}

/// Returns the number of entries in a listing, which is an array or an object with the array `entries`.
fn entries_in(listing: &str) -> Option<u64> {
    let document: Value = serde_json::from_str(listing).ok()?;
    let entries = document.as_array().or_else(|| document["entries"].as_array())?;
    u64::try_from(entries.len()).ok()
}

#[cfg(test)]
mod tests {
    use super::entries_in;

    #[test]
    fn entries_of_a_listing_are_counted() {
        assert_eq!(entries_in("[{}, {}]"), Some(2));
        assert_eq!(entries_in("{\"entries\": [{}]}"), Some(1));
        assert_eq!(entries_in("{\"error\": 1}"), None);
        assert_eq!(entries_in("2 entries"), None);
    }
}
