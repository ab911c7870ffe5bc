//! A scenario: an archive on a simulated disk, to which a sequence of operations is done.

use std::fmt;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::Device;
use ar7_engine::device::simulated::{Medium, SealedBlocks, SimulatedDisk};
use ar7_engine::store::{Access, OpenOptions, RekeyOptions};
use ar7_registry::{Archive, CreateOptions, Error, Result};

use super::content::Content;
use super::naming::make_directory;
use super::operation::{Operation, is_full};

/// The secret of every scenario.
pub(super) fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([9; 32]))
}

/// Opens what is on a disk for writing. If the master key is being changed, that is ended first.
pub(super) fn open_for_writing(disk: &SimulatedDisk) -> Result<Archive> {
    match open(disk, Access::Write) {
        Err(Error::Engine(ar7_engine::Error::RekeyInProgress)) => {
            rekey(disk)?;
            open(disk, Access::Write)
        }
        opened => opened,
    }
}

/// Changes the master key of what is on a disk, or goes on with that.
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

/// Opens what is on a disk.
pub(super) fn open(disk: &SimulatedDisk, access: Access) -> Result<Archive> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(disk.clone()), &secret(), options)
}

/// An archive that was closed, which scenarios begin with.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// The disk.
    pub medium: Medium,
    /// What was sealed on it.
    pub sealed: SealedBlocks,
    /// What the archive holds.
    pub content: Content,
}

impl Fixture {
    /// Makes the archive: a short stream and one of two blocks with names, between them one of three blocks in
    /// several extents; a directory; free blocks, recorded in the trash.
    ///
    /// # Panics
    /// If that fails.
    pub fn new() -> Fixture {
        let disk = SimulatedDisk::new();
        let create = CreateOptions::default();
        let archive = Archive::create_device(Box::new(disk.clone()), &secret(), &create);
        let archive = archive.expect("an empty disk takes an archive");
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
        assert_eq!(found.expect("it verifies"), content, "the archive that scenarios begin with");
        Fixture { medium: disk.medium(), sealed: disk.sealed(), content }
    }
}

impl Default for Fixture {
    fn default() -> Fixture {
        Fixture::new()
    }
}

/// What a mark in the disk's log says of the commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The commit with this number is under way.
    Begun(usize),
    /// It has returned.
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

/// A scenario under way, or at its end.
pub struct Scenario {
    pub(super) disk: SimulatedDisk,
    archive: Option<Archive>,
    /// What the transaction under way holds.
    pub(super) model: Content,
    /// What the archive held at first, and after each commit.
    pub(super) commits: Vec<Content>,
    /// Changed blocks and pages that are kept in memory at most.
    limits: Option<(usize, usize)>,
    /// Number of the last commit that has returned.
    acknowledged: usize,
    /// Number of the last commit that may show at the beginning.
    pub(super) begun: usize,
    byte: u8,
}

/// What a crash has left.
pub(super) struct Left {
    pub(super) medium: Medium,
    /// What was found.
    pub(super) content: Content,
    /// What might have been found.
    pub(super) allowed: Vec<Content>,
}

/// An operation that failed in a scenario without faults.
#[derive(Debug)]
pub struct Refused {
    /// Its number, from 0.
    pub number: usize,
    /// Why.
    pub error: Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "operation {} failed: {}", self.number, self.error)
    }
}

impl Scenario {
    /// A scenario in which nothing has been done: the archive is not open yet.
    pub fn begin(fixture: &Fixture) -> Scenario {
        Scenario {
            disk: SimulatedDisk::with(fixture.medium.clone(), &fixture.sealed),
            archive: None,
            model: fixture.content.clone(),
            commits: vec![fixture.content.clone()],
            acknowledged: 0,
            limits: None,
            begun: 0,
            byte: 100,
        }
    }

    /// A scenario that goes on with what a crash has left, of which this was found. Until it was opened for writing, any
    /// of what was allowed may be found after another crash, if not all that was seen is on the disk.
    pub(super) fn onward(left: &Left, sealed: &SealedBlocks) -> Scenario {
        let mut commits = Vec::new();
        if !left.medium.is_certain() {
            commits.extend(left.allowed.iter().filter(|&other| *other != left.content).cloned());
        }
        commits.push(left.content.clone());
        Scenario {
            disk: SimulatedDisk::with(left.medium.clone(), sealed),
            archive: None,
            model: left.content.clone(),
            begun: commits.len() - 1,
            commits,
            acknowledged: 0,
            limits: None,
            byte: 200,
        }
    }

    /// Keeps at most so many changed blocks and pages in memory, from the next opening on.
    pub(super) fn limited(self, limits: Option<(usize, usize)>) -> Scenario {
        Scenario { limits, ..self }
    }

    /// Does the operations, then commits and closes.
    pub fn run(&mut self, operations: &[Operation]) -> std::result::Result<(), Refused> {
        let last = [Operation::Commit, Operation::Close];
        for (number, &operation) in operations.iter().chain(&last).enumerate() {
            self.step(operation).map_err(|error| Refused { number, error })?;
        }
        Ok(())
    }

    /// Does one operation.
    pub fn step(&mut self, operation: Operation) -> Result<()> {
        match operation {
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
            change => {
                let archive = self.archive()?;
                self.byte = self.byte.wrapping_add(1);
                change.change(&archive, &mut self.model, self.byte)
            }
        }
    }

    /// The archive, opened if it is not.
    pub(super) fn archive(&mut self) -> Result<Archive> {
        if let Some(archive) = &self.archive {
            return Ok(archive.clone());
        }
        let archive = open_for_writing(&self.disk)?;
        if let Some((blocks, pages)) = self.limits {
            archive.set_memory_limits(blocks, pages)?;
        }
        if self.acknowledged < self.begun {
            // What was found at the beginning is on disk now.
            self.acknowledged = self.begun;
            self.disk.mark(Mark::Acknowledged(self.begun).encode());
        }
        self.archive = Some(archive.clone());
        Ok(archive)
    }

    /// The archive, if it is open.
    pub(super) fn opened(&self) -> Option<Archive> {
        self.archive.clone()
    }

    /// What is committed, as the open archive has it.
    pub(super) fn content(&mut self) -> Result<Content> {
        Content::read(&self.archive()?)
    }

    /// What may be found after a crash now.
    pub(super) fn allowed(&self) -> &[Content] {
        &self.commits[self.acknowledged..]
    }

    /// The disk of a scenario that has run to its end, what was sealed on it, and what the archive holds.
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
                // It was refused, and nothing of it may be found.
                self.commits.pop();
                self.disk.mark(Mark::Begun(number - 1).encode());
            }
            return Err(error);
        }
        self.acknowledged = number;
        self.disk.mark(Mark::Acknowledged(number).encode());
        Ok(())
    }

    fn roll_model_back(&mut self) {
        let last = self.commits.last().expect("there is always a commit");
        self.model.clone_from(last);
    }
}
