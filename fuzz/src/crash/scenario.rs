//! A scenario: a sequence of operations on an archive on a simulated disk.

use std::fmt;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::Device;
use ar7_engine::device::simulated::{Medium, SealedBlocks, SimulatedDisk};
use ar7_engine::store::{Access, OpenOptions, RekeyOptions};
use ar7_registry::{Archive, CreateOptions, Error, Result, Savepoint};

use super::content::{Content, usize_of};
use super::naming::make_directory;
use super::operation::{Operation, compact, is_full};

/// The key of every scenario.
pub(super) const RAW_KEY: [u8; 32] = [9; 32];

/// Returns the secret of every scenario.
pub(super) fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes(RAW_KEY))
}

/// Opens a disk's archive for writing. Completes a rekey first if one is in progress.
pub(super) fn open_for_writing(disk: &SimulatedDisk) -> Result<Archive> {
    match open(disk, Access::Write) {
        Err(Error::Engine(ar7_engine::Error::RekeyInProgress)) => {
            rekey(disk)?;
            open(disk, Access::Write)
        }
        opened => opened,
    }
}

/// Changes the master key of a disk's archive, or continues the change.
pub(super) fn rekey(disk: &SimulatedDisk) -> Result<()> {
    disk.set_resealing(true);
    let device = || Box::new(disk.clone()) as Box<dyn Device>;
    let rekeyed =
        Archive::rekey_device(&device, &secret(), RekeyOptions::default(), &mut |_, _| {
            std::ops::ControlFlow::Continue(())
        });
    disk.set_resealing(false);
    rekeyed.map(drop)
}

/// Opens a disk's archive.
pub(super) fn open(disk: &SimulatedDisk, access: Access) -> Result<Archive> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(disk.clone()), &secret(), options)
}

/// A closed archive with which scenarios start.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// The disk.
    pub medium: Medium,
    /// The blocks sealed on it.
    pub sealed: SealedBlocks,
    /// The content of the archive.
    pub content: Content,
}

impl Fixture {
    /// Creates the archive: a short stream and one of two blocks, both with names; between them a stream of three
    /// blocks in several extents; a directory; and free blocks in the free list.
    ///
    /// # Panics
    /// If that fails.
    pub fn new() -> Fixture {
        let disk = SimulatedDisk::new();
        let create = CreateOptions::default();
        let archive = Archive::create_device(Box::new(disk.clone()), &secret(), &create);
        let archive = archive.expect("an archive on an empty disk");
        let mut content = Content::default();
        make_directory(&archive, &mut content).expect("a directory");
        let operations = [
            Operation::Create { length: 100, name: Some(11) },
            Operation::Create { length: 4008, name: None },
            Operation::Create { length: 5000, name: Some(12) },
            Operation::Commit,
            Operation::Append { stream: 1, length: 4008 },
            Operation::Create { length: 20_000, name: None },
            Operation::Commit,
            Operation::Append { stream: 1, length: 2000 },
            Operation::Delete { stream: 3 },
            Operation::Meta(1),
            Operation::Commit,
        ];
        for (byte, operation) in (1..).zip(operations) {
            match operation {
                Operation::Commit => archive.commit().expect("a commit"),
                other => other.change(&archive, &mut content, byte).expect("a change"),
            }
        }
        archive.close().expect("closed");
        let disk_now = SimulatedDisk::with(disk.medium(), &disk.sealed());
        let found = Content::verified(&open(&disk_now, Access::Read).expect("it opens"));
        assert_eq!(found.expect("it verifies"), content, "the initial archive");
        Fixture { medium: disk.medium(), sealed: disk.sealed(), content }
    }
}

impl Default for Fixture {
    fn default() -> Fixture {
        Fixture::new()
    }
}

/// A mark in the disk's log about a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The commit with this number is in progress.
    Begun(usize),
    /// The commit with this number has returned.
    Acknowledged(usize),
}

impl Mark {
    pub(super) fn encode(self) -> u64 {
        let (number, bit) = match self {
            Mark::Begun(number) => (number, 0),
            Mark::Acknowledged(number) => (number, 1),
        };
        u64::try_from(number).expect("a count of commits") << 1 | bit
    }

    pub(super) fn decode(mark: u64) -> Mark {
        let number = usize::try_from(mark >> 1).expect("a count of commits");
        if mark & 1 == 0 { Mark::Begun(number) } else { Mark::Acknowledged(number) }
    }
}

/// A scenario in progress, or at its end.
pub struct Scenario {
    pub(super) disk: SimulatedDisk,
    archive: Option<Archive>,
    /// The content of the open transaction.
    pub(super) model: Content,
    /// The savepoints of the open transaction, and its content at each.
    points: Vec<(Savepoint, Content)>,
    /// The initial content, and the content after each commit.
    pub(super) commits: Vec<Content>,
    /// Maximum numbers of changed blocks and pages to keep in memory.
    limits: Option<(usize, usize)>,
    /// The number of the last commit that has returned.
    acknowledged: usize,
    /// The number of the last commit that may be visible at the beginning.
    pub(super) begun: usize,
    byte: u8,
}

/// The state that a crash has left.
pub(super) struct Left {
    pub(super) medium: Medium,
    /// The content that was found.
    pub(super) content: Content,
    /// The contents that could have been found.
    pub(super) allowed: Vec<Content>,
}

/// An operation that failed in a scenario without faults.
#[derive(Debug)]
pub struct Refused {
    /// The number of the operation, from 0.
    pub number: usize,
    /// The error.
    pub error: Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "operation {} failed: {}", self.number, self.error)
    }
}

impl Scenario {
    /// Creates a scenario without operations. The archive is not open yet.
    pub fn begin(fixture: &Fixture) -> Scenario {
        Scenario {
            disk: SimulatedDisk::with(fixture.medium.clone(), &fixture.sealed),
            archive: None,
            model: fixture.content.clone(),
            points: Vec::new(),
            commits: vec![fixture.content.clone()],
            acknowledged: 0,
            limits: None,
            begun: 0,
            byte: 100,
        }
    }

    /// Creates a scenario that continues with the state that a crash has left. Until the archive has been opened for
    /// writing, another crash may return to any allowed content, if some of the visible state is not on the disk.
    pub(super) fn continuing(left: &Left, sealed: &SealedBlocks) -> Scenario {
        let mut commits = Vec::new();
        if !left.medium.is_certain() {
            commits.extend(left.allowed.iter().filter(|&other| *other != left.content).cloned());
        }
        commits.push(left.content.clone());
        Scenario {
            disk: SimulatedDisk::with(left.medium.clone(), sealed),
            archive: None,
            model: left.content.clone(),
            points: Vec::new(),
            begun: commits.len() - 1,
            commits,
            acknowledged: 0,
            limits: None,
            byte: 200,
        }
    }

    /// Limits the numbers of changed blocks and pages in memory, from the next opening on.
    pub(super) fn limited(self, limits: Option<(usize, usize)>) -> Scenario {
        Scenario { limits, ..self }
    }

    /// Runs the operations, then commits and closes.
    pub fn run(&mut self, operations: &[Operation]) -> std::result::Result<(), Refused> {
        let last = [Operation::Commit, Operation::Close];
        for (number, &operation) in operations.iter().chain(&last).enumerate() {
            self.step(operation).map_err(|error| Refused { number, error })?;
        }
        Ok(())
    }

    /// Runs one operation.
    pub fn step(&mut self, operation: Operation) -> Result<()> {
        match operation {
            Operation::Savepoint => {
                let point = self.archive()?.savepoint()?;
                self.points.push((point, self.model.clone()));
                Ok(())
            }
            Operation::RollBackTo { point } => self.roll_back_to(point),
            Operation::Commit => self.commit(),
            Operation::Rollback => {
                self.archive()?.rollback()?;
                self.roll_model_back();
                Ok(())
            }
            Operation::Close => {
                self.roll_model_back();
                self.archive.take().map_or(Ok(()), Archive::close)
            }
            Operation::Reopen => {
                self.roll_model_back();
                self.archive = None;
                self.archive().map(drop)
            }
            Operation::Rekey => {
                self.archive()?;
                self.kill();
                rekey(&self.disk)
            }
            Operation::Compact => {
                self.commit()?;
                compact(&self.archive()?)
            }
            change => {
                let archive = self.archive()?;
                self.byte = self.byte.wrapping_add(1);
                change.change(&archive, &mut self.model, self.byte)
            }
        }
    }

    /// Returns the archive, and opens it if necessary.
    pub(super) fn archive(&mut self) -> Result<Archive> {
        if let Some(archive) = &self.archive {
            return Ok(archive.clone());
        }
        let archive = open_for_writing(&self.disk)?;
        if let Some((blocks, pages)) = self.limits {
            archive.set_memory_limits(blocks, pages)?;
        }
        if self.acknowledged < self.begun {
            // The initial content is on disk now.
            self.acknowledged = self.begun;
            self.disk.mark(Mark::Acknowledged(self.begun).encode());
        }
        self.archive = Some(archive.clone());
        Ok(archive)
    }

    /// Returns the archive if it is open.
    pub(super) fn opened(&self) -> Option<Archive> {
        self.archive.clone()
    }

    /// Returns the committed content, as the open archive reports it.
    pub(super) fn content(&mut self) -> Result<Content> {
        Content::read(&self.archive()?)
    }

    /// Returns the contents that may be found after a crash now.
    pub(super) fn allowed(&self) -> &[Content] {
        &self.commits[self.acknowledged..]
    }

    /// Returns the disk of a scenario that ran to its end, the blocks sealed on it, and the content of the archive.
    pub fn closed(&self) -> (Medium, SealedBlocks, Content) {
        let content = self.commits.last().expect("there is always a commit").clone();
        (self.disk.medium(), self.disk.sealed(), content)
    }

    /// Ends the process: nothing more is written.
    pub(super) fn kill(&mut self) {
        self.archive = None;
        self.roll_model_back();
    }

    fn commit(&mut self) -> Result<()> {
        let archive = self.archive()?;
        let number = self.commits.len();
        self.commits.push(self.model.clone());
        self.disk.mark(Mark::Begun(number).encode());
        if let Err(error) = archive.commit() {
            if is_full(&error) {
                // The commit failed, so its content must not be found.
                self.commits.pop();
                self.disk.mark(Mark::Begun(number - 1).encode());
            }
            return Err(error);
        }
        self.acknowledged = number;
        self.disk.mark(Mark::Acknowledged(number).encode());
        self.points.clear();
        Ok(())
    }

    /// Returns to the savepoint with this number modulo their count.
    fn roll_back_to(&mut self, number: u32) -> Result<()> {
        let Some(index) = usize_of(number).checked_rem(self.points.len()) else { return Ok(()) };
        let (point, content) = &self.points[index];
        self.archive.as_ref().expect("open since the savepoint").roll_back_to(point)?;
        self.model.clone_from(content);
        self.points.truncate(index + 1);
        Ok(())
    }

    fn roll_model_back(&mut self) {
        self.points.clear();
        let last = self.commits.last().expect("there is always a commit");
        self.model.clone_from(last);
    }
}
