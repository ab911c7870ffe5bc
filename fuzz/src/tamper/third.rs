//! Third copies of header and meta slots replaced by older ones, by those of another archive, or by garbage, alone and
//! after the copies in front of them were destroyed.

use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{BLOCK_SIZE, THIRD_COPIES};
use ar7_engine::store::Access;
use ar7_registry::{Archive, CreateOptions, Result};
use uuid::Uuid;

use super::outcome::Fault;
use super::victim::{block, block_mut, open, open_on, secret};
use crate::Random;

/// The file after a commit, and what the commit says.
struct Kept {
    image: Vec<u8>,
    number: u64,
    metadata: Vec<u8>,
    archive: Uuid,
}

/// Bytes of the stream that makes an archive long enough.
const LENGTH: usize = 1_050_000;

/// What is destroyed in front: a pair, both pairs, both headers, everything.
const DESTROYED: [&[u32]; 6] =
    [&[], &[1, 3], &[2, 4], &[1, 2, 3, 4], &[0, 7], &[0, 1, 2, 3, 4, 5, 6, 7]];

/// Tries `most` cases, which the seed chooses. Each ends with the newest content, with an older commit and the warning
/// that newer ones may be lost, or with an error of damage or tampering. Returns the numbers of these three.
pub fn third_copies_put_back(most: usize, seed: u64) -> std::result::Result<[u64; 3], String> {
    let ours = history(seed).map_err(|error| error.to_string())?;
    let stranger = history(seed + 1).map_err(|error| error.to_string())?;
    let mut random = Random::new(seed);
    let mut counts = [0; 3];
    for _ in 0..most {
        let destroyed = *random.choose(&DESTROYED).expect("a case");
        let mut image = ours.last().expect("a commit").image.clone();
        let mut garbage = [0; BLOCK_SIZE];
        random.fill(&mut garbage);
        for &position in destroyed {
            block_mut(&mut image, position).copy_from_slice(&garbage);
        }
        let mut origins = Vec::new();
        for position in THIRD_COPIES {
            let is_stranger = random.one_in(6);
            let of = if is_stranger { &stranger } else { &ours };
            let at = index(&mut random, of.len() + 1);
            let bytes = of.get(at).map_or(&garbage[..], |kept| block(&kept.image, position));
            block_mut(&mut image, position).copy_from_slice(bytes);
            origins.push((is_stranger, at));
        }
        let kind = judge(&ours, destroyed, &image);
        counts[kind.map_err(|wrong| format!("without {destroyed:?}, {origins:?}: {wrong}"))?] += 1;
    }
    Ok(counts)
}

/// Returns 0 for the newest content, 1 for an older commit with the warning, and 2 for an error.
fn judge(ours: &[Kept], destroyed: &[u32], image: &[u8]) -> std::result::Result<usize, String> {
    let newest = ours.last().expect("a commit");
    let archive = match open(image, Access::Read) {
        Ok(archive) => archive,
        Err(error) if destroyed.is_empty() => return Err(error.to_string()),
        Err(error) => {
            let is_expected = matches!(
                Fault::of(&error),
                Fault::Damaged(..) | Fault::Tampered(..) | Fault::NotAnArchive | Fault::WrongKey
            );
            return if is_expected { Ok(2) } else { Err(error.to_string()) };
        }
    };
    if archive.id() != newest.archive {
        // Header and meta slot of another archive. Nothing of this one opens under them.
        let streams = archive.streams(None, usize::MAX);
        return if streams.is_err() { Ok(2) } else { Err("another archive was read".into()) };
    }
    let number = archive.store().current().slot.number;
    let found = archive.metadata().map_err(|error| error.to_string())?;
    if number == newest.number && found == newest.metadata {
        return Ok(0);
    }
    // A commit in between, such as that of the changed header, has the metadata of the one before.
    let known = ours.iter().rev().find(|kept| kept.number <= number);
    if found != known.map_or(&[][..], |kept| &kept.metadata) {
        return Err(format!("commit {number} with other metadata"));
    }
    match archive.store().recovery().may_have_held_newer {
        Some(_) => Ok(1),
        None => Err(format!("commit {number} of {} without a warning", newest.number)),
    }
}

/// Creates a long archive and keeps the file after each of its commits. In between, the header changes.
fn history(seed: u64) -> Result<Vec<Kept>> {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options)?;
    let mut stream = archive.new_stream()?;
    stream.append(&vec![7; LENGTH])?;
    stream.close()?;
    archive.commit()?;
    archive.close()?;
    let archive = open_on(&device, Access::Write)?;
    let mut all = Vec::new();
    for number in 0..5_u8 {
        if number == 2 {
            archive.relabel_key(&secret(), "another label")?;
        }
        archive.set_metadata(&[number, seed.to_be_bytes()[7]])?;
        archive.commit()?;
        all.push(kept(&device)?);
    }
    archive.close()?;
    all.push(kept(&device)?);
    Ok(all)
}

fn kept(device: &MemoryDevice) -> Result<Kept> {
    let image = device.to_bytes();
    let archive = open(&image, Access::Read)?;
    let number = archive.store().current().slot.number;
    Ok(Kept { number, metadata: archive.metadata()?, archive: archive.id(), image })
}

fn index(random: &mut Random, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("a length in memory");
    usize::try_from(random.below(bound)).expect("less than the bound")
}
