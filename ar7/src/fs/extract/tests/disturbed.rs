//! Calls that fail, and changes by other processes between two calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::fs::extract::*;
use crate::fs::stored::Found;
use crate::fs::world::{self, World};

/// What happens before a call. It receives the number of the call; an error fails the call.
type Event = dyn Fn(usize) -> io::Result<()> + Send + Sync;

/// A system that runs an event before each call, and the number of calls so far.
fn disturbed(event: Arc<Event>) -> (System, Arc<Mutex<usize>>) {
    let calls = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&calls);
    let step = move || {
        let mut calls = counter.lock().unwrap();
        *calls += 1;
        event(*calls)
    };
    (System { disturbance: Some(Arc::new(step)), ..System::default() }, calls)
}

/// What an extraction reported.
#[derive(Default)]
struct Told {
    /// The restored entries, and what was wrong with each at that moment.
    restored: BTreeMap<PathBuf, std::result::Result<(), String>>,
    not_restored: BTreeSet<PathBuf>,
    incomplete: BTreeSet<PathBuf>,
}

/// Extracts everything, in one thread, and checks each entry at the moment when it is reported.
fn extract(
    archive: &Snapshot,
    entries: &BTreeMap<PathBuf, Found>,
    out: &Path,
    overwrite: Overwrite,
    event: Arc<Event>,
) -> (crate::Result<ExtractReport>, Told, usize) {
    let (system, calls) = disturbed(event);
    let told = Mutex::new(Told::default());
    let below = |path: &Path| path.strip_prefix(out).unwrap_or(path).to_owned();
    let extract = Extract::new().to(out).overwrite(overwrite).preserve_owner(true);
    let extract = extract.on_event(|event| {
        let mut told = told.lock().unwrap();
        match event {
            ExtractEvent::Restored { path } => {
                let path = below(&path.to_path_buf());
                let state = world::check(archive, out, &path, &entries[&path]);
                assert!(told.restored.insert(path, state).is_none());
            }
            ExtractEvent::NotRestored { path, .. } => {
                told.not_restored.insert(below(path));
            }
            ExtractEvent::Incomplete { path, .. } => {
                told.incomplete.insert(below(path));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    let outcome = extract.run_on(archive, &system, 0);
    let calls = *calls.lock().unwrap();
    (outcome, told.into_inner().unwrap(), calls)
}

/// Checks the rules of this module's parent.
fn check(
    context: &str,
    entries: &BTreeMap<PathBuf, Found>,
    out: &Path,
    outcome: &Result<ExtractReport>,
    told: &Told,
) {
    assert_eq!(world::temporary_names(out), Vec::<PathBuf>::new(), "{context}");
    check_told(context, entries, outcome, told);
}

/// Checks that no success was told for what is not there as the archive has it.
fn check_told(
    context: &str,
    entries: &BTreeMap<PathBuf, Found>,
    outcome: &Result<ExtractReport>,
    told: &Told,
) {
    let is_reported = |path: &Path| path.ancestors().any(|above| told.not_restored.contains(above));
    let same = |one: &PathBuf, other: &PathBuf| entries[one].number == entries[other].number;
    let lacks = |path: &PathBuf| told.incomplete.iter().any(|lack| same(lack, path));
    for (path, state) in &told.restored {
        if let Err(wrong) = state
            // Whoever changes the entries of a directory changes its mtime.
            && !(wrong.ends_with("time") && entries[path].is_directory())
            && (!lacks(path) || wrong.ends_with("content"))
            && !path.ancestors().skip(1).any(|above| told.not_restored.contains(above))
        {
            panic!("{context}: told success: {wrong}");
        }
    }
    if let Ok(report) = outcome {
        assert_eq!(report.entries, told.restored.len() as u64, "{context}");
        assert_eq!(report.not_restored.len(), told.not_restored.len(), "{context}");
        for path in entries.keys() {
            let is_restored = told.restored.contains_key(path);
            assert!(is_restored || is_reported(path), "{context}: {} is missing", path.display());
        }
    }
}

/// What calls fail with: among it what file systems return that lack files without names, links, or a kind of renaming.
const ERRNOS: [Errno; 9] = [
    Errno::IO,
    Errno::ACCESS,
    Errno::PERM,
    Errno::MFILE,
    Errno::NOENT,
    Errno::OPNOTSUPP,
    Errno::INVAL,
    Errno::XDEV,
    Errno::MLINK,
];

#[test]
fn a_call_that_fails_is_reported_and_costs_only_the_entries_that_need_it() {
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    let entries = world::entries(&archive);
    let outside = world.outside_state();
    for overwrite in [Overwrite::Refuse, Overwrite::Always, Overwrite::IfChanged] {
        let calls = count_calls(&world, &archive, &entries, overwrite);
        assert!(calls > 70, "{calls}");
        for call in 1..=calls {
            for errno in ERRNOS {
                let out = world.fresh_destination();
                if overwrite != Overwrite::Refuse {
                    prepare(&out);
                }
                let fail = move |now| if now == call { Err(errno.into()) } else { Ok(()) };
                let (outcome, told, _) =
                    extract(&archive, &entries, &out, overwrite, Arc::new(fail));
                let context = format!("{overwrite:?}, {errno:?} in call {call}");
                check(&context, &entries, &out, &outcome, &told);
                assert_eq!(world.outside_state(), outside, "{context}");
                drop(world::remove_all(&out));
            }
        }
    }
}

/// Returns the number of calls of an extraction without failures.
fn count_calls(
    world: &World,
    archive: &Snapshot,
    entries: &BTreeMap<PathBuf, Found>,
    overwrite: Overwrite,
) -> usize {
    let out = world.fresh_destination();
    if overwrite != Overwrite::Refuse {
        prepare(&out);
    }
    let (outcome, _, calls) = extract(archive, entries, &out, overwrite, Arc::new(|_| Ok(())));
    assert!(outcome.is_ok_and(|report| world::is_complete(&report)));
    world::remove_all(&out).unwrap();
    calls
}

/// Makes a destination with entries of other types and rights than those of the archive.
fn prepare(out: &Path) {
    fs::create_dir_all(out.join("d/inner")).unwrap();
    fs::write(out.join("d/inner/f"), "older").unwrap();
    fs::set_permissions(out.join("d/inner"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::write(out.join("d/up"), "a file").unwrap();
    symlink("nowhere", out.join("d/linked")).unwrap();
    fs::write(out.join("other"), "not a directory").unwrap();
}

/// What another process does to the destination.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// Moves a directory away and puts a link to the outside in its place.
    LinkForDirectory,
    /// Moves a directory away and puts an empty one in its place.
    OtherDirectory,
    /// Puts another file in the place of an entry.
    OtherFile,
    /// Puts a hard link to a file outside in the place of an entry.
    HardLink,
    /// Puts a symbolic link to a file outside in the place of an entry.
    Symlink,
    /// Removes an entry.
    Remove,
    /// Puts a hard link in the place of each temporary entry.
    HardLinkForTemporary,
    /// Puts a symbolic link in the place of each temporary entry.
    SymlinkForTemporary,
    /// Removes each temporary entry.
    RemoveTemporary,
}

const ATTACKS: [Attack; 9] = [
    Attack::LinkForDirectory,
    Attack::OtherDirectory,
    Attack::OtherFile,
    Attack::HardLink,
    Attack::Symlink,
    Attack::Remove,
    Attack::HardLinkForTemporary,
    Attack::SymlinkForTemporary,
    Attack::RemoveTemporary,
];

/// Attacks an entry below a directory. Some attacks do nothing if the entry has not this type, or is not there yet.
fn attack(how: Attack, out: &Path, path: &Path, outside: &Path) {
    // The attacker may not reach the outside through a link.
    let is_link =
        |above: &Path| fs::symlink_metadata(out.join(above)).is_ok_and(|found| found.is_symlink());
    if path.ancestors().skip(1).any(is_link) {
        return;
    }
    let full = out.join(path);
    let is_directory = fs::symlink_metadata(&full).is_ok_and(|found| found.is_dir());
    let moved = out.with_extension("moved");
    let victim = outside.join("victim");
    // Each call may fail: what is attacked may not be there.
    match how {
        Attack::LinkForDirectory if is_directory => {
            drop(fs::rename(&full, &moved).and_then(|()| symlink(outside, &full)));
        }
        Attack::OtherDirectory if is_directory => {
            drop(fs::rename(&full, &moved).and_then(|()| fs::create_dir(&full)));
        }
        Attack::OtherFile if !is_directory => {
            drop(fs::remove_file(&full));
            drop(fs::write(&full, "intruder"));
        }
        Attack::HardLink if !is_directory => {
            drop(fs::remove_file(&full));
            drop(fs::hard_link(&victim, &full));
        }
        Attack::Symlink if !is_directory => {
            drop(fs::remove_file(&full));
            drop(symlink(&victim, &full));
        }
        Attack::Remove if !is_directory => drop(fs::remove_file(&full)),
        Attack::HardLinkForTemporary | Attack::SymlinkForTemporary | Attack::RemoveTemporary => {
            for name in world::temporary_names(out) {
                let full = out.join(name);
                drop(fs::remove_file(&full));
                match how {
                    Attack::HardLinkForTemporary => drop(fs::hard_link(&victim, &full)),
                    Attack::SymlinkForTemporary => {
                        drop(symlink(&victim, &full));
                        // Against a process of the same user, nothing helps.
                        drop(lchown(&full, Some(12345), Some(12345)));
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[test]
fn another_process_can_neither_redirect_an_extraction_nor_make_it_tell_a_false_success() {
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    let entries = world::entries(&archive);
    let before = world.outside_state();
    let targets: Vec<PathBuf> = entries.keys().cloned().collect();
    let is_root = rustix::process::geteuid().is_root();
    for overwrite in [Overwrite::Refuse, Overwrite::Always] {
        let calls = count_calls(&world, &archive, &entries, overwrite);
        for call in 1..=calls {
            for (number, how) in ATTACKS.into_iter().enumerate() {
                let out = world.fresh_destination();
                let path = targets[(call + number * 5) % targets.len()].clone();
                let (to, outside) = (out.clone(), world.outside());
                let context = format!("{overwrite:?}, {how:?} of {} at {call}", path.display());
                let event = move |now| {
                    if now == call {
                        attack(how, &to, &path, &outside);
                    }
                    Ok(())
                };
                let (outcome, told, _) =
                    extract(&archive, &entries, &out, overwrite, Arc::new(event));
                match how {
                    // What the attack put under a temporary name is not the extraction's to remove.
                    Attack::HardLinkForTemporary => {
                        check_told(&context, &entries, &outcome, &told);
                    }
                    Attack::SymlinkForTemporary if is_root => {
                        check_told(&context, &entries, &outcome, &told);
                    }
                    Attack::SymlinkForTemporary => {}
                    _ => check(&context, &entries, &out, &outcome, &told),
                }
                assert_eq!(world.outside_state(), before, "{context}");
                let moved = out.with_extension("moved");
                assert_eq!(world::temporary_names(&moved), Vec::<PathBuf>::new(), "{context}");
                world::remove_all(&out).unwrap();
                drop(world::remove_all(&moved));
            }
        }
    }
}

#[test]
fn a_name_that_appears_meanwhile_stays_if_existing_or_newer_entries_stay() {
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    let entries = world::entries(&archive);
    let targets: Vec<&PathBuf> =
        entries.iter().filter(|(_, found)| !found.is_directory()).map(|(path, _)| path).collect();
    let mut appeared = 0;
    for overwrite in [Overwrite::Never, Overwrite::IfNewer] {
        let out = world.fresh_destination();
        let (_, _, calls) = extract(&archive, &entries, &out, overwrite, Arc::new(|_| Ok(())));
        world::remove_all(&out).unwrap();
        for call in 1..=calls {
            for target in &targets {
                let out = world.fresh_destination();
                let path = out.join(target);
                let (made, to) = (Arc::new(Mutex::new(false)), path.clone());
                let has_appeared = Arc::clone(&made);
                let event = move |now| {
                    if now == call {
                        let created = fs::File::create_new(&to);
                        *made.lock().unwrap() = created.is_ok_and(|mut file| {
                            io::Write::write_all(&mut file, b"somebody else's").is_ok()
                        });
                    }
                    Ok(())
                };
                drop(extract(&archive, &entries, &out, overwrite, Arc::new(event)));
                if *has_appeared.lock().unwrap() {
                    appeared += 1;
                    let context = format!("{overwrite:?}, {} at {call}", target.display());
                    assert_eq!(fs::read(&path).unwrap(), b"somebody else's", "{context}");
                }
                world::remove_all(&out).unwrap();
            }
        }
    }
    assert!(appeared > 100, "{appeared}");
}

#[test]
fn a_directory_that_is_moved_to_the_place_of_a_new_one_keeps_its_mode() {
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    let entries = world::entries(&archive);
    let calls = count_calls(&world, &archive, &entries, Overwrite::Refuse);
    let own = rustix::process::geteuid().as_raw();
    // Only the superuser can give a directory to another user.
    // One with content, one that others may change, one of another user.
    let cases = [(1, 0o700, own), (0, 0o777, own), (0, 0o700, 1234)];
    for (secrets, mode, owner) in cases.into_iter().take(if own == 0 { 3 } else { 2 }) {
        let mut moved = 0;
        for call in 1..=calls {
            let out = world.fresh_destination();
            let (place, private) = (out.join("d/inner"), out.with_extension("private"));
            fs::create_dir_all(&private).unwrap();
            for number in 0..secrets {
                fs::write(private.join(number.to_string()), "").unwrap();
            }
            fs::set_permissions(&private, fs::Permissions::from_mode(mode)).unwrap();
            lchown(&private, Some(owner), None).unwrap();
            let (from, to) = (private.clone(), place.clone());
            let event = move |now| {
                if now == call {
                    // The new directory may not be there yet, or may not be empty any more.
                    drop(fs::remove_dir(&to).and_then(|()| fs::rename(&from, &to)));
                }
                Ok(())
            };
            drop(extract(&archive, &entries, &out, Overwrite::Refuse, Arc::new(event)));
            let is_moved = !private.exists();
            let found = fs::metadata(if is_moved { &place } else { &private }).unwrap();
            let content = fs::read_dir(if is_moved { &place } else { &private }).unwrap().count();
            let state = (content, found.permissions().mode() & 0o7777, found.uid());
            assert_eq!(state, (secrets, mode, owner), "call {call}");
            moved += u32::from(is_moved);
            world::remove_all(&out).unwrap();
            drop(world::remove_all(&private));
        }
        assert!(moved > 1, "{moved}");
    }
}

#[test]
fn random_trees_over_random_trees_keep_the_rules_under_random_attacks() {
    let world = World::new();
    let before = world.outside_state();
    for seed in 0..300 {
        let mut random = world::Random(seed);
        let archive = world::archive(|names, file| world::random_tree(names, file, &mut random));
        let entries = world::entries(&archive);
        let out = world.fresh_destination();
        let overwrite = [Overwrite::Refuse, Overwrite::Always][random.below(2)];
        if overwrite == Overwrite::Always {
            world::random_destination(&out, &mut random);
        }
        let targets: Vec<PathBuf> = entries.keys().cloned().collect();
        let attacks: BTreeMap<usize, (Attack, PathBuf)> = (0..random.below(4))
            .map(|_| {
                let (how, target) = (random.below(ATTACKS.len()), random.below(targets.len()));
                (1 + random.below(150), (ATTACKS[how], targets[target].clone()))
            })
            .collect();
        let plants = |how: &Attack| {
            matches!(how, Attack::HardLinkForTemporary | Attack::SymlinkForTemporary)
        };
        let plants_temporary = attacks.values().any(|(how, _)| plants(how));
        let fails = random.below(200);
        let context = format!("seed {seed}: {overwrite:?}, {attacks:?}, call {fails} fails");
        let (to, outside) = (out.clone(), world.outside());
        let event = move |now: usize| {
            if let Some((how, path)) = attacks.get(&now) {
                attack(*how, &to, path, &outside);
            }
            if now == fails { Err(Errno::IO.into()) } else { Ok(()) }
        };
        let (outcome, told, calls) = extract(&archive, &entries, &out, overwrite, Arc::new(event));
        assert_eq!(world.outside_state(), before, "{context}");
        // An attack and a failure together may keep the extraction from removing what it made.
        if !plants_temporary {
            // The call that fails may be the one that removes an entry that could not get its name.
            let left = world::temporary_names(&out);
            assert!(left.len() <= usize::from((1..=calls).contains(&fails)), "{context}: {left:?}");
            check_told(&context, &entries, &outcome, &told);
        }
        drop(world::remove_all(&out));
        drop(world::remove_all(&out.with_extension("moved")));
    }
}

#[test]
fn directories_that_their_owner_may_not_change_are_entered_and_closed_again() {
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    let (mut stops, mut call) = (0, 0);
    loop {
        let out = world.fresh_destination();
        prepare(&out);
        for (name, mode) in [("d/inner", 0o500), ("d", 0o100)] {
            let path = out.join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        call += 1;
        let full = move |now| if now == call { Err(Errno::NOSPC.into()) } else { Ok(()) };
        let (system, made) = disturbed(Arc::new(full));
        let outcome =
            Extract::new().to(&out).overwrite(Overwrite::Always).run_on(&archive, &system, 0);
        stops += u32::from(outcome.is_err());
        let mode = |name: &str| {
            fs::metadata(out.join(name)).map_or(0, |found| found.permissions().mode() & 0o7777)
        };
        // As before or as in the archive, even if setting the rest failed.
        assert!([0o100, 0o755].contains(&mode("d")), "{call}: {:o}", mode("d"));
        assert!([0o500, 0o555].contains(&mode("d/inner")), "{call}: {:o}", mode("d/inner"));
        world::remove_all(&out).unwrap();
        if *made.lock().unwrap() < call {
            break;
        }
    }
    assert!(stops > 60, "{stops}");
}

#[test]
fn a_call_that_a_signal_interrupts_is_repeated() {
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    let entries = world::entries(&archive);
    let calls = count_calls(&world, &archive, &entries, Overwrite::Always);
    for call in 1..=calls {
        let out = world.fresh_destination();
        prepare(&out);
        let fail = move |now| if now == call { Err(Errno::INTR.into()) } else { Ok(()) };
        let (outcome, told, _) =
            extract(&archive, &entries, &out, Overwrite::Always, Arc::new(fail));
        assert!(outcome.is_ok_and(|report| world::is_complete(&report)), "call {call}");
        let missing = told.not_restored.len();
        assert_eq!(told.restored.len() + missing, entries.len(), "call {call}");
        world::remove_all(&out).unwrap();
    }
}

#[test]
fn a_file_system_that_lacks_features_costs_no_entry() {
    use crate::fs::system::Feature::{Naming, RenameNew, Unnamed};
    let world = World::new();
    let archive = world::archive(world::one_of_everything);
    for lacks in [&[Unnamed][..], &[Naming], &[RenameNew], &[Unnamed, RenameNew]] {
        for overwrite in [Overwrite::Refuse, Overwrite::Always] {
            let out = world.fresh_destination();
            if overwrite == Overwrite::Always {
                prepare(&out);
            }
            let system = System { lacks: lacks.to_vec(), ..System::default() };
            let extract = Extract::new().to(&out).overwrite(overwrite).preserve_owner(true);
            let report = extract.run_on(&archive, &system, 0).unwrap();
            let context = format!("{lacks:?} {overwrite:?} {report:?}");
            let is_root = rustix::process::geteuid().is_root();
            assert_eq!(report.is_complete() && report.incomplete.is_empty(), is_root, "{context}");
            for (path, found) in world::entries(&archive) {
                if is_root {
                    world::check(&archive, &out, &path, &found).unwrap();
                }
            }
            assert_eq!(world::temporary_names(&out), Vec::<PathBuf>::new(), "{context}");
        }
    }
}
