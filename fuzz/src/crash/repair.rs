//! Crashes during a repair. Whatever it leaves has the same content, and the next repair restores every copy.

use ar7_engine::device::Device;
use ar7_engine::device::simulated::{Cut, EventKind, Medium, SealedBlocks, SimulatedDisk};
use ar7_engine::format::{HEADERS, META_SLOT_PAIRS, Position, THIRD_HEADER, THIRD_SLOTS};
use ar7_engine::store::Access;
use ar7_engine::{PlantedFault, with_planted_fault};
use ar7_registry::Archive;

use super::content::Content;
use super::copies::{destroyed, doubled_blocks};
use super::explore::{Effort, Explorer};
use super::operation::Operation;
use super::parallel::single_threaded;
use super::readers::long_fixture;
use super::scenario::{Fixture, Scenario, open, secret};
use crate::Random;

/// The effort spent on the power cuts of a repair.
const EFFORT: Effort = Effort {
    every_cut_up_to: 16,
    sampled_cuts: 20,
    crashes: 1,
    recovery_one_in: 1,
    reopen_one_in: 1,
};

/// Explores every crash of repairs. Each round destroys one copy of each block that has several. Returns the number of
/// states.
pub fn explore_repairs(rounds: u64, seed: u64) -> Result<u64, String> {
    single_threaded(|| explore(rounds, seed))
}

fn explore(rounds: u64, seed: u64) -> Result<u64, String> {
    let mut states = 0;
    for fixture in [Fixture::new(), long_fixture()] {
        let sample = Sample::of(&fixture);
        for round in 0..rounds {
            let seed = seed.wrapping_add(round);
            let explored = sample.explore(seed);
            states += explored.map_err(|wrong| format!("seed {seed}: {wrong}"))?;
        }
    }
    Ok(states)
}

/// Plants a fault and looks for it in repairs. Returns what it breaks, or `None` if no check catches it.
pub fn caught_in_repairs(fault: PlantedFault) -> Option<String> {
    single_threaded(|| with_planted_fault(fault, || explore(4, 1)).err())
}

/// An archive that was not closed, so that it has a redo list.
struct Sample {
    medium: Medium,
    sealed: SealedBlocks,
    content: Content,
}

impl Sample {
    fn of(fixture: &Fixture) -> Sample {
        let mut scenario = Scenario::begin(fixture);
        let operations = [
            Operation::Overwrite { stream: 1, offset: 3990, length: 40 },
            Operation::Append { stream: 0, length: 5000 },
            Operation::Commit,
        ];
        for operation in operations {
            scenario.step(operation).expect("a change");
        }
        scenario.kill();
        let (medium, sealed, content) = scenario.closed();
        Sample { medium: durable(&medium), sealed, content }
    }

    /// Returns one copy of each block that exists several times, chosen at random.
    fn copies_to_destroy(&self, random: &mut Random) -> Vec<Position> {
        let mut groups: Vec<Vec<Position>> =
            doubled_blocks(&self.medium).into_iter().map(Vec::from).collect();
        let disk = SimulatedDisk::with(self.medium.clone(), &self.sealed);
        let number = open(&disk, Access::Read).expect("it opens").store().current().slot.number;
        let newest = META_SLOT_PAIRS[usize::from(number.is_multiple_of(2))];
        let third = (self.medium.length() > THIRD_SLOTS[1].get()).then_some([
            THIRD_HEADER,
            THIRD_SLOTS[0],
            THIRD_SLOTS[1],
        ]);
        groups.extend([HEADERS.to_vec(), newest.to_vec()]);
        groups.extend(third.map(Vec::from));
        let choose = |group: Vec<Position>| {
            let count = u64::try_from(group.len()).expect("a few");
            group[usize::try_from(random.below(count)).expect("a few")]
        };
        groups.into_iter().map(choose).collect()
    }

    fn explore(&self, seed: u64) -> Result<u64, String> {
        let mut random = Random::new(seed);
        let chosen = self.copies_to_destroy(&mut random);
        let damaged = durable(&destroyed(&self.medium, chosen).medium());
        let disk = SimulatedDisk::with(damaged.clone(), &self.sealed);
        self.repair(&disk)?;
        let mut explorer = Explorer::new(EFFORT, seed);
        let (mut medium, mut states) = (damaged, 0);
        for event in disk.log() {
            let mut left = Vec::new();
            if event.kind() == EventKind::Sync {
                let cuts = explorer.cuts(&medium).into_iter();
                left.extend(cuts.map(|cut| medium.after_power_cut(&cut)));
            }
            medium.apply(&event);
            left.push(medium.clone());
            for medium in left {
                states += 1;
                self.check(&medium)
                    .map_err(|wrong| format!("{wrong}, after {:?}", event.kind()))?;
            }
        }
        Ok(states)
    }

    /// Repairs the archive on a disk. Nothing is bad afterwards.
    fn repair(&self, disk: &SimulatedDisk) -> Result<(), String> {
        disk.set_resealing(true);
        let repaired = Archive::repair_device(Box::new(disk.clone()) as Box<dyn Device>, &secret());
        disk.set_resealing(false);
        let repaired = repaired.map_err(|error| format!("repair: {error}"))?;
        if !repaired.lost.is_empty() {
            return Err(format!("repair lost {:?}", repaired.lost));
        }
        let archive = open(disk, Access::Read).map_err(|error| format!("repaired: {error}"))?;
        let mut findings = Vec::new();
        let verified = archive.verify(&mut |finding| findings.push(finding), &mut |_| {});
        verified.map_err(|error| format!("repaired: {error}"))?;
        if let Some(finding) = findings.first() {
            return Err(format!("repair leaves {finding}"));
        }
        self.compare("repaired", &archive)
    }

    /// Checks the state that a crash has left.
    fn check(&self, medium: &Medium) -> Result<(), String> {
        let disk = || SimulatedDisk::with(medium.clone(), &self.sealed);
        for access in [Access::Read, Access::Write] {
            let opened = open(&disk(), access);
            let archive = opened.map_err(|error| format!("it does not open: {error}"))?;
            self.compare("a crash of a repair", &archive)?;
        }
        self.repair(&disk())
    }

    fn compare(&self, what: &str, archive: &Archive) -> Result<(), String> {
        match Content::read(archive) {
            Ok(found) if found == self.content => Ok(()),
            Ok(found) => Err(format!("{what} left {found:?}")),
            Err(error) => Err(format!("{what}: {error}")),
        }
    }
}

/// Returns a medium on which everything is durable.
fn durable(medium: &Medium) -> Medium {
    medium.after_power_cut(&Cut::all_kept(medium))
}
