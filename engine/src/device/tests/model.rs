//! Compares all devices with a vector of bytes, over random operations that include reopening.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{open_any, pattern};
use crate::device::{Device, MappedDevice, MemoryDevice};
use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, Position, Run};
use crate::{Error, Result};

/// Longest device in the test, in blocks.
const BLOCKS: u32 = 24;

#[derive(Debug, Clone)]
enum Operation {
    Read { start: u32, count: u32, again: bool },
    ReadBeginning { length: usize },
    Write { start: u32, count: u32, salt: u8 },
    Grow { blocks: u32 },
    Shrink { blocks: u32 },
    StartWriteBack { start: u32, count: u32 },
    Sync,
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let start = || 0..BLOCKS;
    let count = || 0..BLOCKS / 2;
    prop_oneof![
        6 => (start(), count(), any::<bool>())
            .prop_map(|(start, count, again)| Read { start, count, again }),
        1 => (0..3 * BLOCK_SIZE).prop_map(|length| ReadBeginning { length }),
        6 => (start(), count(), any::<u8>())
            .prop_map(|(start, count, salt)| Write { start, count, salt }),
        3 => (0..BLOCKS).prop_map(|blocks| Grow { blocks }),
        1 => Just(Grow { blocks: BLOCKS_MAX + 1 }),
        2 => (0..BLOCKS).prop_map(|blocks| Shrink { blocks }),
        1 => (start(), 1..BLOCKS).prop_map(|(start, count)| StartWriteBack { start, count }),
        1 => Just(Sync),
        1 => Just(Reopen),
    ]
}

/// The oracle: the expected results of every device.
struct Model(Vec<u8>);

impl Model {
    fn apply(&mut self, operation: &Operation) -> Result<Vec<u8>> {
        match *operation {
            Operation::Read { start, count, .. } => {
                self.region(start, count).map(|region| self.0[region].to_vec())
            }
            Operation::ReadBeginning { length } => Ok(self.0[..length.min(self.0.len())].to_vec()),
            Operation::Write { start, count, salt } => {
                let region = self.region(start, count)?;
                self.0[region].copy_from_slice(&pattern(start, count, salt));
                Ok(Vec::new())
            }
            Operation::Grow { blocks } if blocks > BLOCKS_MAX => {
                Err(Error::Full { what: "number of blocks", limit: u64::from(BLOCKS_MAX) })
            }
            Operation::Grow { blocks } => {
                self.0.resize(self.0.len().max(offset(blocks)), 0);
                Ok(Vec::new())
            }
            Operation::Shrink { blocks } => {
                self.0.truncate(offset(blocks));
                Ok(Vec::new())
            }
            Operation::StartWriteBack { .. } | Operation::Sync | Operation::Reopen => {
                Ok(Vec::new())
            }
        }
    }

    fn region(&self, start: u32, count: u32) -> Result<std::ops::Range<usize>> {
        let region = offset(start)..offset(start + count);
        if region.end > self.0.len() {
            return Err(Error::Truncated {
                expected_bytes: u64::from(start + count) * BLOCK_SIZE_U64,
                found_bytes: u64::try_from(self.0.len()).unwrap(),
            });
        }
        Ok(region)
    }
}

fn offset(blocks: u32) -> usize {
    usize::try_from(blocks).unwrap() * BLOCK_SIZE
}

fn apply(device: &dyn Device, operation: &Operation) -> Result<Vec<u8>> {
    match *operation {
        Operation::Read { start, count, again } => {
            let mut bytes = vec![0xee; offset(count)];
            if again {
                device.read_direct(Position::at(start), &mut bytes)?;
            } else {
                device.read(Position::at(start), &mut bytes)?;
            }
            Ok(bytes)
        }
        Operation::ReadBeginning { length } => device.read_beginning(length),
        Operation::Write { start, count, salt } => {
            device.write(Position::at(start), &pattern(start, count, salt)).map(|()| Vec::new())
        }
        Operation::Grow { blocks } => device.grow(blocks).map(|()| Vec::new()),
        Operation::Shrink { blocks } => device.shrink(blocks).map(|()| Vec::new()),
        Operation::StartWriteBack { start, count } => {
            let run = Run::new(Position::at(start), count).unwrap();
            device.start_write_back(run).map(|()| Vec::new())
        }
        Operation::Sync => device.sync().map(|()| Vec::new()),
        Operation::Reopen => Ok(Vec::new()),
    }
}

/// A device under test, and a function that opens it again.
struct Subject {
    name: &'static str,
    device: Box<dyn Device>,
    reopen: Box<dyn Fn() -> Box<dyn Device>>,
}

fn subjects(directory: &TempDir, image: &[u8]) -> Vec<Subject> {
    let file = |name: &'static str, wrap: fn(PathBuf) -> Box<dyn Device>| {
        let path = directory.path().join(name);
        fs::write(&path, image).unwrap();
        let reopen = Box::new(move || wrap(path.clone()));
        Subject { name, device: reopen(), reopen }
    };
    let memory = MemoryDevice::from_bytes(image);
    vec![
        file("file", |path| Box::new(open_any(&path))),
        file("zeros", |path| Box::new(open_any(&path).without_reserving())),
        file("map", |path| Box::new(MappedDevice::new(open_any(&path)))),
        file("small segments", |path| {
            Box::new(MappedDevice::with_segments(open_any(&path), 4, BLOCKS))
        }),
        file("few segments", |path| Box::new(MappedDevice::with_segments(open_any(&path), 3, 2))),
        Subject {
            name: "memory",
            device: Box::new(memory.clone()),
            reopen: Box::new(move || Box::new(memory.clone())),
        },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn all_devices_answer_like_the_model(
        beginning in 0..3 * BLOCK_SIZE,
        operations in prop::collection::vec(operation(), 1..40),
    ) {
        let image = vec![0x5a; beginning];
        let directory = tempfile::tempdir().unwrap();
        for Subject { name, mut device, reopen } in subjects(&directory, &image) {
            let mut model = Model(image.clone());
            for (step, operation) in operations.iter().enumerate() {
                if matches!(operation, Operation::Reopen) {
                    device = reopen();
                }
                let expected = model.apply(operation);
                let found = apply(&*device, operation);
                if let (Ok(expected), Ok(found)) = (&expected, &found) {
                    // `prop_assert_eq` would print all of the bytes.
                    prop_assert!(expected == found, "{} at {}: {:?}", name, step, operation);
                } else {
                    let [expected, found] = [expected, found].map(|answer| format!("{answer:?}"));
                    prop_assert_eq!(expected, found, "{} at {}", name, step);
                }
                let length = u64::try_from(model.0.len()).unwrap();
                prop_assert_eq!(device.length_bytes().unwrap(), length, "{} at {}", name, step);
            }
        }
    }
}
