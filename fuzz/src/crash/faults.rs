//! Faults of the disk: failures are reported, damage is an error, and nothing else is lost.

use std::fmt;

use super::content::Content;
use super::explore::{Effort, Explorer, Totals};
use super::operation::{Operation, is_full};
use super::scenario::{Fixture, Scenario, open};
use ar7_engine::Error as EngineError;
use ar7_engine::crypto::KeyKind;
use ar7_engine::device::simulated::{Cut, DiskFault, Medium, SealedBlocks, SimulatedDisk};
use ar7_engine::format::{BlockRef, StoredStream, StreamLayout};
use ar7_engine::store::{Access, Redirects};
use ar7_registry::{Archive, Error, Finding, Result, Subject};
use uuid::Uuid;

/// A broken rule: the operations, and what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The operations, and the fault of the disk.
    pub case: String,
    /// What was wrong.
    pub wrong: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.case, self.wrong)
    }
}

type Outcome<T> = std::result::Result<T, Broken>;

/// A scenario that runs repeatedly with one kind of fault: at the first operation of the disk, then at the second, and
/// so on.
struct Case<'a> {
    fixture: &'a Fixture,
    operations: &'a [Operation],
    fault: DiskFault,
    number: u64,
}

impl Case<'_> {
    fn broken(&self, wrong: impl fmt::Display) -> Broken {
        let Case { operations, fault, number, .. } = self;
        let names: Vec<String> = operations.iter().map(ToString::to_string).collect();
        let case = format!("{} with {fault:?} at {number}", names.join(","));
        Broken { case, wrong: wrong.to_string() }
    }

    fn begin(&self) -> Scenario {
        let scenario = Scenario::begin(self.fixture);
        scenario.disk.plan(self.fault, self.number);
        scenario
    }
}

/// Fails one in `one_in` of the syncs, and of the writes in every way. From then on every call on the handle must fail.
/// After reopening, and after a power cut too, the archive must hold the last acknowledged commit or the one in progress.
pub fn failures_poison(
    fixture: &Fixture,
    operations: &[Operation],
    one_in: usize,
) -> Outcome<Totals> {
    let mut totals = Totals::default();
    for fault in [DiskFault::SyncFails, DiskFault::WriteFails, DiskFault::WriteIsShort] {
        for number in (0..).step_by(one_in) {
            match failure_poisons(fixture, operations, fault, number)? {
                Some(found) => totals += found,
                None => break,
            }
        }
    }
    Ok(totals)
}

/// Fails one write or sync, as [`failures_poison`] does with each. Returns `None` if there are fewer operations.
pub fn failure_poisons(
    fixture: &Fixture,
    operations: &[Operation],
    fault: DiskFault,
    number: u64,
) -> Outcome<Option<Totals>> {
    let case = Case { fixture, operations, fault, number };
    let mut scenario = case.begin();
    let Err(refused) = scenario.run(operations) else {
        if scenario.disk.all_fired() {
            return Err(case.broken("the failure was not reported"));
        }
        return Ok(None);
    };
    if !is_of_the_medium(&refused.error) {
        return Err(case.broken(format!("{refused} is not a failure of the medium")));
    }
    check_poisoned(&case, &mut scenario)?;
    check_left(&case, &scenario).map(Some)
}

/// Checks that every call on a handle fails after its medium failed. Only opening may be retried.
fn check_poisoned(case: &Case<'_>, scenario: &mut Scenario) -> Outcome<()> {
    let Some(archive) = scenario.opened() else { return Ok(()) };
    let before = scenario.disk.log().len();
    let allowed = scenario.allowed();
    let has_bytes = |identity: &&Uuid| {
        let bytes = |content: &Content| content.streams.get(*identity).map_or(0, Vec::len);
        allowed.iter().all(|content| bytes(content) > 0)
    };
    let mut calls: Vec<(&str, Result<()>)> = vec![
        ("commit", archive.set_metadata(b"more").and_then(|()| archive.commit())),
        ("new stream", archive.new_stream().and_then(|mut stream| stream.append(&[1; 9000]))),
        ("rollback", archive.rollback()),
        ("commit again", archive.commit()),
    ];
    // An empty or missing stream may be answered from memory, and the failure may have come after the commit that made
    // it so.
    if let Some(&identity) = allowed[0].streams.keys().find(has_bytes) {
        calls.push(("read", archive.read_stream(identity).and_then(|stream| read_one(&stream))));
    }
    for (call, outcome) in calls {
        match outcome {
            Err(Error::Engine(EngineError::Poisoned { .. })) => {}
            other => return Err(case.broken(format!("{call} after a failure: {other:?}"))),
        }
    }
    drop(archive);
    if scenario.disk.log().len() > before {
        return Err(case.broken("something was written after a failure"));
    }
    Ok(())
}

fn read_one(stream: &ar7_registry::Stream) -> Result<()> {
    stream.read_at(0, &mut [0; 10]).map(drop)
}

/// Checks the state after a failure: the process ends and the next one opens the archive, with or without a power cut.
fn check_left(case: &Case<'_>, scenario: &Scenario) -> Outcome<Totals> {
    let effort = Effort {
        every_cut_up_to: 4,
        sampled_cuts: 4,
        crashes: 2,
        recovery_one_in: 1,
        reopen_one_in: 1,
    };
    let mut explorer = Explorer::new(effort, case.number);
    let allowed = scenario.allowed();
    explorer
        .explore_left(&scenario.disk.medium(), &scenario.disk.sealed(), allowed)
        .map_err(|failure| case.broken(failure))?;
    Ok(explorer.totals)
}

/// Runs the operations on a disk with `room` more blocks than the archive has initially. Operations that do not fit
/// must fail and be rolled back. On the full disk, deleting a stream and committing must succeed. Once there is space
/// again, the same handle must continue. Returns the number of operations that failed.
pub fn full_disk_leaves_the_handle_usable(
    fixture: &Fixture,
    operations: &[Operation],
    room: u32,
) -> Outcome<u64> {
    const WHILE_FULL: [Operation; 4] =
        [Operation::Meta(9), Operation::Commit, Operation::Delete { stream: 1 }, Operation::Commit];
    let case = Case { fixture, operations, fault: DiskFault::NoSpace, number: u64::from(room) };
    let mut refused = 0;
    let mut scenario = Scenario::begin(fixture);
    for &operation in operations.iter().chain(&[Operation::Commit, Operation::Close]) {
        let full = fixture.medium.length().saturating_add(room);
        scenario.disk.set_capacity(Some(full.max(scenario.disk.medium().length())));
        match scenario.step(operation) {
            Ok(()) => continue,
            Err(error) if is_full(&error) => refused += 1,
            Err(error) => return Err(case.broken(error)),
        }
        scenario.step(Operation::Rollback).map_err(|error| case.broken(error))?;
        let found = scenario.content().map_err(|error| case.broken(error))?;
        if Some(&found) != scenario.commits.last() {
            return Err(case.broken(format!("rolled back to {found:?}")));
        }
        for change in WHILE_FULL {
            let done = scenario.step(change);
            done.map_err(|error| case.broken(format!("{change} on the full disk: {error}")))?;
        }
        scenario.disk.set_capacity(None);
        scenario.step(operation).map_err(|error| case.broken(error))?;
    }
    let found = verified(&scenario.disk.medium()).map_err(|error| case.broken(error))?;
    match scenario.commits.last() {
        Some(last) if *last == found => Ok(refused),
        _ => Err(case.broken(format!("left {found:?}"))),
    }
}

/// Loses or misplaces each write, which the disk acknowledges nevertheless. Reads must return the committed content or
/// an error, never an older commit. Returns the numbers of harmless cases and of errors.
pub fn byzantine_writes_are_detected(
    fixture: &Fixture,
    operations: &[Operation],
) -> Outcome<(u64, u64)> {
    let (mut harmless, mut detected) = (0, 0);
    for fault in
        [DiskFault::WriteIsLost, DiskFault::WriteIsMisplaced(9), DiskFault::WriteIsMisplaced(3)]
    {
        for number in 0.. {
            let Some(found) = byzantine_write_is_detected(fixture, operations, fault, number)?
            else {
                break;
            };
            harmless += found.0;
            detected += found.1;
        }
    }
    Ok((harmless, detected))
}

/// Loses or misplaces one write, as [`byzantine_writes_are_detected`] does with each. Returns how often it was harmless
/// and how often it caused an error. Returns `None` if there are fewer writes.
pub fn byzantine_write_is_detected(
    fixture: &Fixture,
    operations: &[Operation],
    fault: DiskFault,
    number: u64,
) -> Outcome<Option<(u64, u64)>> {
    let case = Case { fixture, operations, fault, number };
    let mut scenario = case.begin();
    let outcome = scenario.run(operations);
    if !scenario.disk.all_fired() {
        return Ok(None);
    }
    // If the fault was found while working, the handle reports it, and the earlier commits remain or are damaged.
    let detected = u64::from(outcome.is_err());
    match verified(&scenario.disk.medium()) {
        Ok(found) if scenario.allowed().contains(&found) => Ok(Some((1, detected))),
        Ok(found) => Err(case.broken(format!("found {found:?}"))),
        Err(_) => Ok(Some((0, detected + 1))),
    }
}

/// Corrupts blocks of a closed archive. One bad copy of a header or meta slot must be reported and repaired; two bad
/// copies must be an error; any other block must be an error or unused. Returns the number of cases.
pub fn corruption_is_detected(
    closed: &Medium,
    sealed: &SealedBlocks,
    content: &Content,
) -> Outcome<u64> {
    let mut cases = 0;
    for position in 0..closed.length() {
        for byte in [3, 2000, 4090] {
            cases += 1;
            let corrupted = closed.with_corruption(position, byte, 0x10);
            let broken =
                |wrong: String| Broken { case: format!("corruption in block {position}"), wrong };
            let has_copy = matches!(position, 0..=4 | 7);
            match verified(&corrupted) {
                Ok(found) if found == *content => {}
                Ok(found) => return Err(broken(format!("found {found:?}"))),
                Err(error) if has_copy => {
                    return Err(broken(format!("the other copy is good, but found {error}")));
                }
                Err(_) => {}
            }
            if has_copy {
                check_repaired(&corrupted, sealed, position).map_err(broken)?;
            }
        }
    }
    for pair in [[0, 7], [1, 3], [2, 4]] {
        cases += 1;
        let corrupted = closed.with_corruption(pair[0], 100, 1).with_corruption(pair[1], 100, 1);
        if let Ok(found) = verified(&corrupted) {
            let case = format!("corruption in blocks {pair:?}");
            return Err(Broken { case, wrong: format!("found {found:?}") });
        }
    }
    Ok(cases)
}

/// Checks that one bad copy is reported, and repaired by the next commits.
fn check_repaired(
    corrupted: &Medium,
    sealed: &SealedBlocks,
    position: u32,
) -> std::result::Result<(), String> {
    let findings = findings(corrupted).map_err(|error| error.to_string())?;
    let is_reported = findings.iter().any(|finding| match &finding.subject {
        Subject::MetaSlot(at) | Subject::Header(at) => at.get() == position,
        _ => false,
    });
    if !is_reported {
        return Err("the bad copy is not reported".into());
    }
    let disk = SimulatedDisk::with(corrupted.clone(), sealed);
    let archive = open(&disk, Access::Write).map_err(|error| error.to_string())?;
    if archive.store().recovery().is_clean() {
        return Err("opening does not report the bad copy".into());
    }
    // By then every pair has been written once.
    for metadata in [b"one", b"two"] {
        let committed = archive.set_metadata(metadata).and_then(|()| archive.commit());
        committed.map_err(|error| error.to_string())?;
    }
    archive.close().map_err(|error| error.to_string())?;
    let left = self::findings(&disk.medium()).map_err(|error| error.to_string())?;
    match left.first() {
        Some(finding) => Err(format!("not repaired: {finding}")),
        None => Ok(()),
    }
}

/// Makes each block unreadable, one at a time. The content must be unchanged, or reading must fail. Returns the number
/// of errors.
pub fn unreadable_blocks_are_errors(closed: &Medium, content: &Content) -> Outcome<u64> {
    let mut errors = 0;
    for position in 0..closed.length() {
        let disk = SimulatedDisk::with(closed.clone(), &SealedBlocks::default());
        disk.make_unreadable(position);
        let found = open(&disk, Access::Read).and_then(|archive| Content::read(&archive));
        match found {
            Ok(found) if found == *content => {}
            Err(error) if is_of_the_medium(&error) => errors += 1,
            other => {
                let case = format!("block {position} cannot be read");
                return Err(Broken { case, wrong: format!("{other:?}") });
            }
        }
    }
    Ok(errors)
}

/// Checks that blocks that a reader of an earlier commit can read are not overwritten while it exists, however much is
/// freed and written meanwhile.
pub fn readers_keep_their_blocks(fixture: &Fixture) -> Outcome<()> {
    let broken = |wrong: String| Broken { case: "a pinned snapshot".into(), wrong };
    let mut scenario = Scenario::begin(fixture);
    let archive = scenario.archive().map_err(|error| broken(error.to_string()))?;
    let held = archive.snapshot();
    let blocks = first_blocks(&archive).map_err(|error| broken(error.to_string()))?;
    for round in 0..6 {
        let operations = [
            Operation::Delete { stream: 0 },
            Operation::Create { length: 9000 + round, name: None },
            Operation::Commit,
        ];
        for operation in operations {
            scenario.step(operation).map_err(|error| broken(error.to_string()))?;
        }
    }
    for block in blocks {
        let read = archive.store().read_block(&Redirects::default(), KeyKind::Data, block);
        read.map_err(|error| broken(error.to_string()))?;
    }
    drop(held);
    Ok(())
}

/// Returns the first block of each stream of one run, as committed.
fn first_blocks(archive: &Archive) -> Result<Vec<BlockRef>> {
    let streams = archive.streams(None, usize::MAX)?;
    let first = |stored: &StoredStream| match stored.layout {
        StreamLayout::OneRun(generation) => {
            stored.record.begin.map(|position| BlockRef { position, generation })
        }
        StreamLayout::Extents => None,
    };
    Ok(streams.iter().filter_map(first).collect())
}

fn is_of_the_medium(error: &Error) -> bool {
    matches!(error, Error::Engine(EngineError::Io { .. }))
}

fn verified(medium: &Medium) -> std::result::Result<Content, super::Unreadable> {
    Content::verified(&reader(medium)?)
}

fn findings(medium: &Medium) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    reader(medium)?.verify(&mut |finding| findings.push(finding), &mut |_| {})?;
    Ok(findings)
}

/// Opens the durable state, as after a power cut that loses nothing.
fn reader(medium: &Medium) -> Result<Archive> {
    let medium = if medium.is_certain() { medium.clone() } else { all_kept(medium) };
    open(&SimulatedDisk::with(medium, &SealedBlocks::default()), Access::Read)
}

fn all_kept(medium: &Medium) -> Medium {
    medium.after_power_cut(&Cut::all_kept(medium))
}
