//! After a power cut between any two writes, with any part of the unsynced writes lost or torn, the archive
//! opens at the last acknowledged commit or at the one under way, whole; it verifies; and it can be
//! written again. Recovery is cut off in the same way.

mod power;

use std::collections::BTreeMap;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::{Archive, CreateOptions, Finding, Subject};
use power::{Disk, Event, Recorder, cut};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

type State = BTreeMap<Uuid, Vec<u8>>;

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([9; 32]))
}

fn open(disk: &Disk, access: Access) -> Result<(Recorder, Archive), String> {
    let recorder = Recorder::on(disk.clone());
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(recorder.clone()), &secret(), options)
        .map(|archive| (recorder, archive))
        .map_err(|error| error.to_string())
}

/// Reads everything that is committed; the archive must verify.
fn state(archive: &Archive) -> Result<State, String> {
    let mut findings = Vec::new();
    // One copy of a meta slot or of the header may be torn: that is why there are two.
    let mut note = |finding: Finding| {
        if !matches!(finding.subject, Subject::MetaSlot(_) | Subject::Header(_)) {
            findings.push(finding.to_string());
        }
    };
    archive.verify(&mut note, &mut |_| {}).map_err(|error| error.to_string())?;
    if !findings.is_empty() {
        return Err(format!("{findings:?}"));
    }
    let mut state = State::new();
    for stored in archive.streams(None, usize::MAX).map_err(|error| error.to_string())? {
        let mut bytes = vec![0; usize::try_from(stored.record.length).unwrap()];
        let stream = archive.read_stream(stored.record.identity).map_err(|e| e.to_string())?;
        stream.read_at(0, &mut bytes).map_err(|error| error.to_string())?;
        state.insert(stored.record.identity, bytes);
    }
    Ok(state)
}

/// What a world did: the disk before it, its events, and what each commit held.
struct World {
    before: Disk,
    events: Vec<Event>,
    commits: Vec<State>,
}

impl World {
    /// Does random things to an archive with some content.
    fn run(random: &mut ChaCha8Rng) -> World {
        let recorder = Recorder::default();
        let options = CreateOptions::default();
        let archive =
            Archive::create_device(Box::new(recorder.clone()), &secret(), &options).unwrap();
        let mut model = State::new();
        for _ in 0..3 {
            let mut stream = archive.new_stream().unwrap();
            stream.append(&[1; 10_000]).unwrap();
            model.insert(stream.identity(), vec![1; 10_000]);
        }
        archive.commit().unwrap();
        archive.close().unwrap();
        let before = recorder.0.lock().unwrap().disk.clone();
        let (recorder, mut archive) = open(&before, Access::Write).unwrap();
        let mut commits = vec![model.clone()];
        recorder.record(Event::Acknowledged(0));
        for _ in 0..random.next_u32() % 12 + 3 {
            match random.next_u32() % 10 {
                0 => {
                    archive.rollback().unwrap();
                    model.clone_from(commits.last().unwrap());
                }
                1 => {
                    archive.close().unwrap();
                    model.clone_from(commits.last().unwrap());
                    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
                    let device = Box::new(recorder.clone());
                    archive = Archive::open_device(device, &secret(), options).unwrap();
                }
                change @ 2..6 => {
                    commits.push(model.clone());
                    archive.commit().unwrap();
                    recorder.record(Event::Acknowledged(commits.len() - 1));
                    if change == 5 {
                        // A change of key slots: another header, and a commit that names it.
                        let label = commits.len().to_string();
                        archive.relabel_key(&secret(), &label).unwrap();
                    }
                    if change == 4 && random.next_u32().is_multiple_of(8) {
                        archive.wipe_free(&mut |_| {}).unwrap();
                    }
                }
                _ => change(&archive, &mut model, random),
            }
        }
        let events = recorder.events();
        World { before, events, commits }
    }

    /// Cuts the power after each event, and checks what is left.
    fn check(&self, random: &mut ChaCha8Rng, samples: usize) -> usize {
        let mut acknowledged = 0;
        let mut states = 0;
        for at in 0..=self.events.len() {
            if let Some(Event::Acknowledged(number)) = at.checked_sub(1).map(|at| &self.events[at])
            {
                acknowledged = *number;
            }
            for _ in 0..samples {
                let left = cut(&self.before, &self.events[..at], random);
                let allowed = &self.commits[acknowledged..self.commits.len().min(acknowledged + 2)];
                check_left(&left, allowed, random);
                states += 1;
            }
        }
        states
    }
}

fn change(archive: &Archive, model: &mut State, random: &mut ChaCha8Rng) {
    let chosen = model.keys().nth(random.next_u32() as usize % model.len().max(1)).copied();
    let Some(identity) = chosen.filter(|_| !random.next_u32().is_multiple_of(4)) else {
        let mut stream = archive.new_stream().unwrap();
        let bytes = vec![3; random.next_u32() as usize % 20_000];
        stream.append(&bytes).unwrap();
        model.insert(stream.identity(), bytes);
        return;
    };
    let bytes = model.get_mut(&identity).unwrap();
    match random.next_u32() % 4 {
        0 => {
            assert!(archive.delete_stream(identity).unwrap());
            model.remove(&identity);
        }
        1 => {
            let length = random.next_u32() as usize % 16_000;
            archive.open_stream(identity).unwrap().set_len(length as u64).unwrap();
            bytes.resize(length, 0);
        }
        _ => {
            let offset = random.next_u32() as usize % (bytes.len() + 1);
            let new = vec![random.next_u32().to_le_bytes()[0]; random.next_u32() as usize % 9000];
            archive.open_stream(identity).unwrap().write_at(offset as u64, &new).unwrap();
            if !new.is_empty() {
                bytes.resize(bytes.len().max(offset + new.len()), 0);
                bytes[offset..offset + new.len()].copy_from_slice(&new);
            }
        }
    }
}

/// A reader sees one of the allowed states; so does a writer, whose recovery is cut off too; and then it goes on.
fn check_left(left: &Disk, allowed: &[State], random: &mut ChaCha8Rng) {
    let (_, reader) = open(left, Access::Read).expect("a power cut leaves an archive that opens");
    let found = state(&reader).expect("and verifies");
    assert!(allowed.contains(&found), "at an acknowledged commit or at the one under way");
    let (recorder, writer) = open(left, Access::Write).expect("it opens for writing");
    let recovery = recorder.events();
    assert_eq!(state(&writer).expect("and verifies"), found, "recovery changes nothing");
    let at = random.next_u32() as usize % (recovery.len() + 1);
    let again = cut(left, &recovery[..at], random);
    let (_, reader) = open(&again, Access::Read).expect("recovery that is cut off can be repeated");
    assert_eq!(state(&reader).expect("and verifies"), found, "and loses nothing");
    if random.next_u32().is_multiple_of(4) {
        let mut model = found;
        change(&writer, &mut model, random);
        writer.commit().expect("it can be written again");
        assert_eq!(state(&writer).expect("and verifies"), model);
    }
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    let mut states = 0;
    let worlds = std::env::var("AR7_CRASH_WORLDS").map_or(60, |worlds| worlds.parse().unwrap());
    for seed in 0..worlds {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let world = World::run(&mut random);
        states += world.check(&mut random, 2);
    }
    assert!(states > 2000, "only {states} states");
    println!("{states} states after power cuts");
}
