//! Explores every crash of a scenario and of the recovery after it, and checks the states that they leave.

use std::collections::HashMap;
use std::fmt;
use std::ops::AddAssign;
use std::rc::Rc;

use ar7_engine::device::simulated::{Cut, EventKind, Kept, Medium, SealedBlocks, SimulatedDisk};
use ar7_engine::store::Access;
use ar7_registry::Archive;

use super::content::Content;
use super::copies::check_without_first_blocks;
use super::cuts::{every_cut, one_way, plain_cuts, uncertain_versions};
use super::history::{Commits, History};
use super::operation::Operation;
use super::scenario::{Left, Scenario, open, open_for_writing};
use crate::Random;

/// How many of the possible states to explore.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// If a power cut has at most this many outcomes, all are explored; otherwise a sample.
    pub every_cut_up_to: usize,
    /// The number of outcomes in a sample, in addition to the simple ones.
    pub sampled_cuts: u64,
    /// The number of consecutive crashes: the first, one in its recovery, and so on.
    pub crashes: u8,
    /// Crashes of the recovery are explored for one in this many states.
    pub recovery_one_in: u64,
    /// One in this many states is opened for writing. Every state is opened for reading.
    pub reopen_one_in: u64,
}

/// What was explored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of scenarios.
    pub scenarios: u64,
    /// The number of states of the disk after a crash. Each is counted once in its scenario.
    pub states: u64,
    /// The number of these states after a power cut.
    pub power_cuts: u64,
    /// The number of these states after a kill.
    pub kills: u64,
    /// The number of these states after a failed sync.
    pub failed_syncs: u64,
    /// The number of states after a second or third crash, in the recovery from the previous one.
    pub in_recovery: u64,
    /// The number of recoveries.
    pub recoveries: u64,
    /// The number of states that were written to again.
    pub written_again: u64,
    /// The number of crashes that led to an already known state.
    pub repeated: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.scenarios += other.scenarios;
        self.states += other.states;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.failed_syncs += other.failed_syncs;
        self.in_recovery += other.in_recovery;
        self.recoveries += other.recoveries;
        self.written_again += other.written_again;
        self.repeated += other.repeated;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} states in {} scenarios: {} after power cuts, {} after kills, {} after failed syncs; {} of them in a \
             recovery; {} recoveries, {} states written to again; {} crashes led to a known state",
            self.states,
            self.scenarios,
            self.power_cuts,
            self.kills,
            self.failed_syncs,
            self.in_recovery,
            self.recoveries,
            self.written_again,
            self.repeated,
        )
    }
}

/// A kind of crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crash {
    /// The power is cut. The disk keeps some of the unsynced writes.
    PowerCut(Cut),
    /// The process is killed. The next process sees every write.
    Kill,
    /// A sync fails and the process ends. The next process sees every write, but the unsynced ones never reach the
    /// disk.
    FailedSync(Cut),
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was wrong.
    pub wrong: String,
    /// The crashes so far: each with the number of log events before it.
    pub crashes: Vec<(usize, Crash)>,
    /// The number of states explored before.
    pub states: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (after {} states), after", self.wrong, self.states)?;
        for (event, crash) in &self.crashes {
            write!(formatter, " [event {event}: {crash:?}]")?;
        }
        Ok(())
    }
}

/// Explores the crashes of one scenario.
pub struct Explorer {
    effort: Effort,
    random: Random,
    /// What was explored so far.
    pub totals: Totals,
    crashes: Vec<(usize, Crash)>,
    /// The distinct contents that were found.
    distinct: Vec<Rc<Content>>,
    /// The content for each visible state of the disk.
    contents: HashMap<u64, Rc<Content>>,
    /// For each disk, the number of crashes of its recovery that were explored. With 0, only the disk itself is known.
    known: HashMap<u64, u8>,
    /// Whether the archive has third copies from the beginning.
    has_third_copies: bool,
}

impl Explorer {
    /// Creates an explorer. The seed determines the samples.
    pub fn new(effort: Effort, seed: u64) -> Explorer {
        Explorer {
            effort,
            random: Random::new(seed),
            totals: Totals::default(),
            crashes: Vec::new(),
            distinct: Vec::new(),
            contents: HashMap::new(),
            known: HashMap::new(),
            has_third_copies: false,
        }
    }

    /// Opens each state without its first blocks too.
    pub(super) fn with_third_copies(self) -> Explorer {
        Explorer { has_third_copies: true, ..self }
    }

    /// Explores every crash of a scenario that ran to its end.
    pub fn explore(&mut self, before: &Medium, scenario: &Scenario) -> Result<(), Failure> {
        self.totals.scenarios += 1;
        let sealed = scenario.disk.sealed();
        self.check_sealed(&sealed)?;
        let history = History {
            before,
            log: &scenario.disk.log(),
            sealed: &sealed,
            commits: &scenario.commits,
            begun: scenario.begun,
            end: None,
        };
        self.check_pairs(&history)?;
        self.explore_crashes(&history, self.effort.crashes)?;
        self.distinct.clear();
        self.contents.clear();
        self.known.clear();
        Ok(())
    }

    /// Checks that each commit writes the pair of meta slots that does not hold its predecessor.
    fn check_pairs(&self, history: &History<'_>) -> Result<(), Failure> {
        let mut medium = history.before.clone();
        // The pair that was written last, and whether its second copy is still to come.
        let mut last = None;
        for event in history.log {
            if let EventKind::Write(position @ 1..=4) = event.kind() {
                let pair = position % 2;
                last = match last {
                    // Opening rewrites the newest commit unchanged.
                    _ if medium.shows(event) => Some((pair, false)),
                    Some((newest, false)) if newest == pair => {
                        let wrong =
                            format!("block {position} of the newest commit was overwritten");
                        return Err(self.failure(wrong));
                    }
                    Some((newest, true)) if newest == pair => Some((pair, false)),
                    _ => Some((pair, true)),
                };
            }
            medium.apply(event);
        }
        Ok(())
    }

    /// Explores the state that one crash has left, and the crashes of the recovery from it.
    pub(super) fn explore_left(
        &mut self,
        left: &Medium,
        sealed: &SealedBlocks,
        allowed: &[Content],
    ) -> Result<(), Failure> {
        self.check_sealed(sealed)?;
        let history = History {
            before: left,
            log: &[],
            sealed,
            commits: allowed,
            begun: allowed.len() - 1,
            end: None,
        };
        self.after(0, Crash::Kill, left, &history, allowed, self.effort.crashes)?;
        self.explore_crashes(&history, self.effort.crashes)
    }

    /// Explores a sample of the crashes of a scenario, and returns the state that one of them leaves.
    pub(super) fn explore_some(
        &mut self,
        before: &Medium,
        scenario: &Scenario,
    ) -> Result<Left, Failure> {
        let sealed = scenario.disk.sealed();
        self.check_sealed(&sealed)?;
        self.distinct.clear();
        self.contents.clear();
        self.known.clear();
        let log = scenario.disk.log();
        let history = History {
            before,
            log: &log,
            sealed: &sealed,
            commits: &scenario.commits,
            begun: scenario.begun,
            end: None,
        };
        for _ in 0..self.effort.sampled_cuts {
            self.random_crash(&history)?;
        }
        self.random_crash(&history)
    }

    fn random_crash(&mut self, history: &History<'_>) -> Result<Left, Failure> {
        let mut medium = history.before.clone();
        let mut commits = Commits { acknowledged: 0, begun: history.begun };
        let last = self.index(history.log.len() + 1);
        for event in &history.log[..last] {
            medium.apply(event);
            commits.note(event);
        }
        let cut = self.random_cut(&medium);
        let crash = match self.random.below(4) {
            0 => Crash::Kill,
            1 => Crash::FailedSync(cut),
            _ => Crash::PowerCut(cut),
        };
        let allowed = commits.allowed(history);
        let (medium, found) =
            self.after(last, crash, &medium, history, allowed, self.effort.crashes)?;
        Ok(Left { medium, content: Content::clone(&found), allowed: allowed.to_vec() })
    }

    fn index(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a length in memory");
        usize::try_from(self.random.below(bound)).expect("less than the bound")
    }

    /// Explores every crash after each event of a history, with up to `crashes` consecutive crashes.
    fn explore_crashes(&mut self, history: &History<'_>, crashes: u8) -> Result<(), Failure> {
        let mut medium = history.before.clone();
        let mut commits = Commits { acknowledged: 0, begun: history.begun };
        for (number, event) in history.log.iter().enumerate() {
            commits.note(event);
            let allowed = commits.allowed(history);
            match event.kind() {
                EventKind::Mark(_) => {}
                EventKind::Write(_) | EventKind::Length(_) => {
                    medium.apply(event);
                    self.after(number, Crash::Kill, &medium, history, allowed, crashes)?;
                }
                EventKind::Sync => {
                    // Every outcome of a power cut since the previous sync is one of these.
                    for cut in self.cuts(&medium) {
                        self.after(
                            number,
                            Crash::PowerCut(cut),
                            &medium,
                            history,
                            allowed,
                            crashes,
                        )?;
                    }
                    for cut in self.failures(&medium) {
                        let crash = Crash::FailedSync(cut);
                        self.after(number, crash, &medium, history, allowed, crashes)?;
                    }
                    medium.apply(event);
                }
            }
        }
        let allowed = history.end.unwrap_or(commits.allowed(history));
        for cut in self.cuts(&medium) {
            let crash = Crash::PowerCut(cut);
            self.after(history.log.len(), crash, &medium, history, allowed, crashes)?;
        }
        Ok(())
    }

    fn after(
        &mut self,
        event: usize,
        crash: Crash,
        medium: &Medium,
        history: &History<'_>,
        allowed: &[Content],
        crashes: u8,
    ) -> Result<(Medium, Rc<Content>), Failure> {
        let left = match &crash {
            Crash::PowerCut(cut) => medium.after_power_cut(cut),
            Crash::Kill => medium.clone(),
            Crash::FailedSync(cut) => medium.after_failed_sync(cut),
        };
        let recovery_crashes =
            if self.crashes.is_empty() && !self.random.one_in(self.effort.recovery_one_in) {
                0
            } else {
                crashes - 1
            };
        let number = left.number();
        let known = self.known.get(&number).copied();
        match known {
            None => self.count(&crash),
            Some(_) => self.totals.repeated += 1,
        }
        self.crashes.push((event, crash));
        let found = self.content(&left)?;
        if !allowed.contains(&found) {
            return Err(self.failure(format!("found {found:?}, expected one of {allowed:?}")));
        }
        if known.is_none_or(|known| known < recovery_crashes) {
            self.known.insert(number, recovery_crashes);
            if recovery_crashes > 0 || self.random.one_in(self.effort.reopen_one_in) {
                self.recover(&left, history.sealed, &found, allowed, recovery_crashes)?;
            }
        }
        self.crashes.pop();
        Ok((left, found))
    }

    /// Opens the state after a crash for writing. Checks that nothing is lost, that another crash loses nothing, and
    /// that the archive is writable.
    fn recover(
        &mut self,
        left: &Medium,
        sealed: &SealedBlocks,
        found: &Content,
        allowed: &[Content],
        crashes: u8,
    ) -> Result<(), Failure> {
        self.totals.recoveries += 1;
        let disk = SimulatedDisk::with(left.clone(), sealed);
        let archive = open_for_writing(&disk)
            .map_err(|error| self.failure(format!("does not open for writing: {error}")))?;
        let log = disk.log();
        self.check_sealed(&disk.sealed())?;
        // Every recovered archive is read. Verifying each one would double the time, and each state was verified before
        // recovery.
        let recovered = if self.random.one_in(4) {
            Content::clone(&*self.content(&disk.medium())?)
        } else {
            let unread = |error| self.failure(format!("cannot be read after recovery: {error}"));
            reader_of(&disk.medium()).and_then(|archive| Content::read(&archive)).map_err(unread)?
        };
        if recovered != *found {
            return Err(self.failure(format!("recovery left {recovered:?} of {found:?}")));
        }
        drop(archive);
        if crashes > 0 {
            // The state after a power cut is durable. The state after a kill is not on disk yet, so a crash before
            // recovery has returned may lose it again, unless the commit was acknowledged.
            let certain = [found.clone()];
            let commits = if left.is_certain() { &certain } else { allowed };
            let history = History {
                before: left,
                log: &log,
                sealed: &disk.sealed(),
                commits,
                begun: commits.len() - 1,
                end: Some(&certain),
            };
            self.explore_crashes(&history, crashes)?;
        }
        if self.random.one_in(4) {
            self.write_again(left, sealed, found, allowed)?;
        }
        Ok(())
    }

    /// Opens, changes, commits and closes, with another crash somewhere in between.
    fn write_again(
        &mut self,
        left: &Medium,
        sealed: &SealedBlocks,
        found: &Content,
        allowed: &[Content],
    ) -> Result<(), Failure> {
        const CHANGES: [Operation; 3] = [
            Operation::Overwrite { stream: 1, offset: 3990, length: 40 },
            Operation::Append { stream: 0, length: 4100 },
            Operation::Create { length: 10, name: Some(4) },
        ];
        self.totals.written_again += 1;
        let left = Left { medium: left.clone(), content: found.clone(), allowed: allowed.to_vec() };
        let mut scenario = Scenario::continuing(&left, sealed);
        scenario.run(&CHANGES).map_err(|refused| self.failure(format!("continuing: {refused}")))?;
        self.check_sealed(&scenario.disk.sealed())?;
        let after = self.content(&scenario.disk.medium())?;
        if Some(&*after) != scenario.commits.last() {
            return Err(self.failure(format!("continuing left {after:?}")));
        }
        let log = scenario.disk.log();
        let mut medium = left.medium.clone();
        let mut commits = Commits { acknowledged: 0, begun: scenario.begun };
        let last = self.index(log.len());
        for event in &log[..last] {
            medium.apply(event);
            commits.note(event);
        }
        let cut = self.random_cut(&medium);
        let left = medium.after_power_cut(&cut);
        self.count(&Crash::Kill);
        self.crashes.push((last, Crash::PowerCut(cut)));
        let found = self.content(&left)?;
        let (first, last) = (commits.acknowledged, commits.begun);
        if !scenario.commits[first..=last].contains(&found) {
            return Err(self.failure(format!("found {found:?} after continuing")));
        }
        self.crashes.pop();
        Ok(())
    }

    fn count(&mut self, crash: &Crash) {
        self.totals.states += 1;
        match crash {
            Crash::PowerCut(_) => self.totals.power_cuts += 1,
            Crash::Kill => self.totals.kills += 1,
            Crash::FailedSync(_) => self.totals.failed_syncs += 1,
        }
        if !self.crashes.is_empty() {
            self.totals.in_recovery += 1;
        }
    }

    /// Returns what a reader finds.
    fn content(&mut self, medium: &Medium) -> Result<Rc<Content>, Failure> {
        let number = medium.seen_number();
        if let Some(content) = self.contents.get(&number) {
            return Ok(Rc::clone(content));
        }
        let archive = reader_of(medium)
            .map_err(|error| self.failure(format!("does not open for reading: {error}")))?;
        if self.has_third_copies {
            check_without_first_blocks(medium, &archive).map_err(|wrong| self.failure(wrong))?;
        }
        let content = Content::verified(&archive)
            .map_err(|unreadable| self.failure(format!("is damaged: {unreadable}")))?;
        // Most states have one of a few contents, which may be large.
        let same = self.distinct.iter().find(|known| ***known == content).cloned();
        let content = same.unwrap_or_else(|| {
            let content = Rc::new(content);
            self.distinct.push(Rc::clone(&content));
            content
        });
        self.contents.insert(number, Rc::clone(&content));
        Ok(content)
    }

    fn check_sealed(&self, sealed: &SealedBlocks) -> Result<(), Failure> {
        match sealed.repeated() {
            Some(repeated) => Err(self.failure(repeated.to_string())),
            None => Ok(()),
        }
    }

    fn failure(&self, wrong: String) -> Failure {
        Failure { wrong, crashes: self.crashes.clone(), states: self.totals.states }
    }

    /// Returns outcomes of a power cut: all if they are few; otherwise none kept, all kept, each prefix kept, each
    /// single block kept or lost, and a sample. In addition, each block is torn while the others are all kept or all
    /// lost.
    pub(super) fn cuts(&mut self, medium: &Medium) -> Vec<Cut> {
        let uncertain = medium.uncertain();
        let versions: Vec<usize> = uncertain.iter().map(|block| block.versions).collect();
        let lengths = medium.lengths();
        let outcomes = versions
            .iter()
            .try_fold(lengths, |product, &versions| product.checked_mul(versions))
            .filter(|&outcomes| outcomes <= self.effort.every_cut_up_to);
        let mut cuts = Vec::new();
        if let Some(outcomes) = outcomes {
            cuts.extend((0..outcomes).map(|number| every_cut(number, lengths, &versions)));
        } else {
            cuts.extend(plain_cuts(lengths, &versions));
            for _ in 0..self.effort.sampled_cuts {
                cuts.push(self.random_cut(medium));
            }
        }
        for (at, &versions) in versions.iter().enumerate() {
            for others_are_kept in [false, true] {
                let mut cut = one_way(lengths, &uncertain_versions(medium), others_are_kept);
                let sectors = u8::try_from(self.random.below(254) + 1).expect("less than 255");
                cut.kept[at] = Kept::Torn { older: versions - 2, newer: versions - 1, sectors };
                cuts.push(cut);
            }
        }
        cuts
    }

    /// Returns outcomes of a failed sync: nothing reached the disk, everything did, and a sample.
    fn failures(&mut self, medium: &Medium) -> Vec<Cut> {
        let versions = uncertain_versions(medium);
        if versions.is_empty() {
            return Vec::new();
        }
        let mut cuts = vec![one_way(1, &versions, false), one_way(1, &versions, true)];
        for _ in 0..self.effort.sampled_cuts / 8 {
            cuts.push(self.random_cut(medium));
        }
        cuts
    }

    fn random_cut(&mut self, medium: &Medium) -> Cut {
        let mut below = |bound: usize| {
            let bound = u64::try_from(bound).expect("a small bound");
            usize::try_from(self.random.below(bound)).expect("less than the bound")
        };
        // The bias ranges from mostly lost to mostly kept.
        let bias = below(5);
        let kept = uncertain_versions(medium).into_iter().map(|versions| {
            if below(4) >= bias {
                return Kept::Whole(0);
            }
            let newer = 1 + below(versions - 1);
            match below(8) {
                0 => {
                    let sectors = u8::try_from(below(254) + 1).expect("less than 255");
                    Kept::Torn { older: below(newer), newer, sectors }
                }
                _ => Kept::Whole(newer),
            }
        });
        let kept = kept.collect();
        Cut { length: below(medium.lengths()), kept }
    }
}

/// Opens the visible state of a disk for reading.
fn reader_of(medium: &Medium) -> ar7_registry::Result<Archive> {
    open(&SimulatedDisk::with(medium.clone(), &SealedBlocks::default()), Access::Read)
}
