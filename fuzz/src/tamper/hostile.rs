//! Archives made by an attacker with the key: valid tags over any content. Opening, reading, verifying and writing must
//! end, with bounded work, with a typed error or without one. Nothing may panic, and nothing outside of the blocks may
//! change.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::Position;
use ar7_engine::store::{Access, OpenOptions};
use ar7_engine::{Check, Error as EngineError};
use ar7_registry::records::InodeNumber;
use ar7_registry::{Archive, Error, Finding, Result, Snapshot};

use super::forge::Forger;
use super::victim::{block, secret};
use crate::crash::on_all_cores;
use crate::meter::MeteredDevice;
use crate::{Random, mutate};

/// Maximum number of blocks to read and write while one archive is examined and changed. An honest archive takes a few
/// hundred.
const BUDGET: u64 = 20_000;

/// The results of examining an archive.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The checks that failed on opening.
    pub opening: Vec<Check>,
    /// The checks that failed while names and streams were read.
    pub reading: Vec<Check>,
    /// The checks that failed during verification.
    pub verifying: Vec<Check>,
    /// The checks that failed while the archive was opened for writing, written and emptied.
    pub writing: Vec<Check>,
    /// Whether the file was reported as too short.
    pub truncated: bool,
    /// The number of blocks read and written.
    pub blocks: u64,
}

/// The results of many archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostileTotals {
    /// The number of archives.
    pub archives: u64,
    /// The number that did not open.
    pub refused: u64,
    /// The number that opened, with errors while reading or findings of verification.
    pub reported: u64,
    /// The number without errors: the change is unused, or a valid value.
    pub accepted: u64,
    /// The maximum number of blocks read and written for one archive.
    pub most_blocks: u64,
}

impl HostileTotals {
    /// Adds other results.
    pub fn add(&mut self, others: &HostileTotals) {
        self.archives += others.archives;
        self.refused += others.refused;
        self.reported += others.reported;
        self.accepted += others.accepted;
        self.most_blocks = self.most_blocks.max(others.most_blocks);
    }
}

impl fmt::Display for HostileTotals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostileTotals { archives, refused, reported, accepted, most_blocks } = self;
        write!(
            formatter,
            "{archives} hostile archives: {refused} rejected, {reported} with errors, {accepted} without; \
             at most {most_blocks} blocks were read and written for one"
        )
    }
}

/// Examines an archive and writes to it.
///
/// # Panics
/// If the archive makes the code under test panic or exceed its bounds.
pub fn exercise(image: &[u8]) -> Reach {
    let device = MeteredDevice::new(image, BUDGET);
    let mut reach = Reach::default();
    match open(&device, Access::Read) {
        Ok(archive) => {
            note(&mut reach, read_everything(&archive), |reach| &mut reach.reading);
            let mut found = Vec::new();
            let verified = archive.verify(&mut |finding: Finding| found.push(finding), &mut |_| {});
            for finding in found {
                note(&mut reach, vec![finding.error], |reach| &mut reach.verifying);
            }
            note(&mut reach, verified.err().into_iter().collect(), |reach| &mut reach.verifying);
        }
        Err(error) => note(&mut reach, vec![error], |reach| &mut reach.opening),
    }
    note(&mut reach, write_and_empty(&device), |reach| &mut reach.writing);
    check_outside(image, &device.to_bytes());
    reach.blocks = device.spent();
    reach
}

fn open(device: &MeteredDevice, access: Access) -> Result<Archive> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options)
}

fn note(reach: &mut Reach, errors: Vec<Error>, to: fn(&mut Reach) -> &mut Vec<Check>) {
    for error in errors {
        match error {
            Error::Engine(EngineError::Damaged(fault) | EngineError::Tampered(fault)) => {
                to(reach).push(fault.check);
            }
            Error::Engine(EngineError::Truncated { .. }) => reach.truncated = true,
            _ => {}
        }
    }
}

/// Reads the start and the end of every stream and of every packed file, and lists every directory. Continues after
/// errors.
fn read_everything(archive: &Archive) -> Vec<Error> {
    const MOST: usize = 64 * 1024;
    let mut errors = Vec::new();
    errors.extend(archive.metadata().err());
    match archive.streams(None, 1000) {
        Err(error) => errors.push(error),
        Ok(streams) => {
            let mut bytes = vec![0; MOST];
            for stored in streams {
                let read = archive.read_stream(stored.record.identity).and_then(|stream| {
                    stream.read_at(0, &mut bytes)?;
                    let end = stream.len()?.saturating_sub(10);
                    stream.read_at(end, &mut bytes)
                });
                errors.extend(read.err());
            }
        }
    }
    let snapshot = archive.snapshot();
    let mut waiting = vec![InodeNumber::ROOT];
    let mut seen = 0;
    while let Some(directory) = waiting.pop() {
        seen += 1;
        // Verification finds a directory below itself; this walk need not follow it endlessly.
        if seen > 100 {
            break;
        }
        match archive.names().list(directory, None, 1000) {
            Err(error) => errors.push(error),
            Ok(entries) => {
                for entry in entries {
                    errors.extend(read_packed(&snapshot, entry.inode).err());
                    waiting.push(entry.inode);
                }
            }
        }
    }
    errors
}

/// Reads the start and the end of a packed file. Any other inode is only found.
fn read_packed(snapshot: &Snapshot, number: InodeNumber) -> Result<()> {
    let Some(inode) = snapshot.inode(number)?.filter(|inode| inode.slice.is_some()) else {
        return Ok(());
    };
    if let Some(content) = snapshot.read_file(&inode)? {
        let mut bytes = vec![0; 64 * 1024];
        content.read_at(0, &mut bytes)?;
        content.read_at(content.len().saturating_sub(10), &mut bytes)?;
    }
    Ok(())
}

/// Opens for writing, creates a stream, deletes every stream and every name, and commits. Continues after errors.
fn write_and_empty(device: &MeteredDevice) -> Vec<Error> {
    let archive = match open(device, Access::Write) {
        Ok(archive) => archive,
        Err(error) => return vec![error],
    };
    let mut errors = Vec::new();
    let made = archive.new_stream().and_then(|mut stream| stream.append(&vec![1; 20_000]));
    errors.extend(made.and_then(|()| archive.commit()).err());
    for stored in archive.streams(None, 1000).unwrap_or_default() {
        let identity = stored.record.identity;
        let changed = archive.open_stream(identity).and_then(|mut stream| {
            stream.write_at(0, &[2; 5000])?;
            stream.close()
        });
        errors.extend(changed.err());
        errors.extend(archive.delete_stream(identity).err());
        // After an error only a rollback helps. The rest is committed if possible.
        if let Err(error) = archive.commit() {
            errors.push(error);
            errors.extend(archive.rollback().err());
        }
    }
    let root = InodeNumber::ROOT;
    for entry in archive.names().list(root, None, 1000).unwrap_or_default() {
        let removed = archive.names().remove_tree(root, &entry.name, None, &mut |_| true);
        if let Err(error) = removed.and_then(|_| archive.commit()) {
            errors.push(error);
            errors.extend(archive.rollback().err());
        }
    }
    errors.extend(archive.reclaim().err());
    errors.extend(archive.close().err());
    errors
}

/// Checks that both copies of the header are unchanged: no value in an archive may direct a write there. A bad copy may
/// have been repaired.
fn check_outside(before: &[u8], after: &[u8]) {
    for position in [0, 7] {
        let now = block(after, position);
        let known = [0, 7].iter().any(|&copy| block(before, copy) == now);
        assert!(known, "the header was overwritten");
    }
}

/// Changes the plaintext of one block of an archive in `count` ways, seals it again, and examines the result.
///
/// # Panics
/// Like [`exercise`]; the message identifies the change.
pub fn random_hostile(image: &[u8], seed: u64, count: u64) -> HostileTotals {
    let honest = Forger::new(image);
    let sealed: Vec<(u32, KeyKind)> = (1..honest.blocks())
        .filter_map(|position| Some((position, honest.kind_at(position, position)?)))
        .filter(|(position, _)| !matches!(position, 5 | 6))
        .collect();
    // Half of the changes are to pages and slots, which are fewer than blocks of streams.
    let structure: Vec<(u32, KeyKind)> =
        sealed.iter().copied().filter(|(_, kind)| *kind != KeyKind::Data).collect();
    let totals = Mutex::new(HostileTotals::default());
    let parts = usize::try_from(count.div_ceil(AT_A_TIME)).expect("a number of parts");
    let done: std::result::Result<(), std::convert::Infallible> = on_all_cores(parts, |part| {
        let first = u64::try_from(part).expect("a number of parts") * AT_A_TIME;
        for number in first..count.min(first + AT_A_TIME) {
            let found = one_hostile(image, seed.wrapping_add(number), &sealed, &structure);
            totals.lock().expect("no archive panicked").add(&found);
        }
        Ok(())
    });
    let Ok(()) = done;
    totals.into_inner().expect("no archive panicked")
}

/// Number of archives that one thread processes at a time.
const AT_A_TIME: u64 = 100;

fn one_hostile(
    image: &[u8],
    seed: u64,
    sealed: &[(u32, KeyKind)],
    structure: &[(u32, KeyKind)],
) -> HostileTotals {
    let mut random = Random::new(seed);
    let among = if random.one_in(6) { sealed } else { structure };
    let &(position, kind) = random.choose(among).expect("an archive has pages");
    let mut forger = Forger::new(image);
    forger.change(kind, position, |opened| {
        mutate(&mut opened.data[..], &mut random);
        if random.one_in(4) {
            opened.head.next = Position::new(u32::try_from(random.below(80)).expect("small"));
        }
    });
    let reach = catch_unwind(AssertUnwindSafe(|| exercise(&forger.image)));
    let reach = reach.unwrap_or_else(|_| {
        panic!("hostile archive of seed {seed}: a change of block {position}, {kind:?}")
    });
    let is_refused = reach.truncated || !reach.opening.is_empty();
    let is_accepted = !is_refused && reach.reading.is_empty() && reach.verifying.is_empty();
    HostileTotals {
        archives: 1,
        refused: u64::from(is_refused),
        reported: u64::from(!is_refused && !is_accepted),
        accepted: u64::from(is_accepted),
        most_blocks: reach.blocks,
    }
}
