//! Extended attributes, access control lists and holes, on a file system that has them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use ar7_registry::records::{Device, EntryType, ExtendedAttribute, InodeNumber};

use crate::fs::extract::*;
use crate::fs::world::{self, World, attributes};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An access control list: rights of owner, one named user, owning group, mask and others.
fn list(rights: [u8; 5]) -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    let entries = [(1_u16, u32::MAX), (2, 12345), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)];
    for ((tag, number), rights) in entries.into_iter().zip(rights) {
        list.extend(tag.to_le_bytes());
        list.extend(u16::from(rights).to_le_bytes());
        list.extend(number.to_le_bytes());
    }
    list
}

/// Returns whether the file system of a directory has access control lists.
fn has_lists(directory: &Path) -> bool {
    let path = directory.join("probe");
    fs::write(&path, "").unwrap();
    let set = xattr::set(&path, ACCESS, &list([6, 6, 0, 6, 0]));
    fs::remove_file(&path).unwrap();
    if let Err(error) = &set {
        println!("skipped: no access control lists here: {error}");
    }
    set.is_ok()
}

#[test]
fn extended_attributes_and_access_control_lists_are_restored() {
    let world = World::new();
    if !has_lists(&world.outside()) {
        return;
    }
    let (file_list, directory_list) = (list([6, 6, 0, 6, 0]), list([7, 5, 5, 7, 0]));
    let archive = world::archive(|names, file| {
        let attribute = |name: &str, value: &[u8]| ExtendedAttribute::new(name, value);
        let d = names.make_directory(InodeNumber::ROOT, b"d", attributes(0o770))?;
        names.set_extended_attributes(d, &[attribute(DEFAULT, &directory_list)])?;
        let f = names.add_file(d, b"f", attributes(0o660), file(b"content"))?;
        let note = attribute("user.note", b"important");
        names.set_extended_attributes(f, &[attribute(ACCESS, &file_list), note])?;
        names.make_directory(InodeNumber::ROOT, b"e", attributes(0o755))?;
        names.add_file(d, b"plain", attributes(0o666), file(b"content")).map(drop)
    });
    let out = world.fresh_destination();
    fs::create_dir_all(&out).unwrap();
    // New entries of the destination inherit a list, which the archive does not give to `plain`.
    xattr::set(&out, DEFAULT, &directory_list).unwrap();
    for overwrite in [Overwrite::Refuse, Overwrite::Always] {
        let extract = Extract::new().to(&out).overwrite(overwrite);
        let report = extract.run(&archive).unwrap();
        assert!(report.is_complete() && report.incomplete.is_empty(), "{report:?}");
        let get = |path: &str, name: &str| xattr::get(out.join(path), name).unwrap();
        assert_eq!(get("d/f", ACCESS), Some(file_list.clone()));
        assert_eq!(get("d/f", "user.note"), Some(b"important".to_vec()));
        assert_eq!(get("d", DEFAULT), Some(directory_list.clone()));
        assert_eq!(get("d", ACCESS), None);
        assert_eq!(get("d/plain", ACCESS), None);
        assert_eq!((get("e", ACCESS), get("e", DEFAULT)), (None, None));
        assert_eq!(get("e", "user.foreign"), None);
        // The next round merges this directory, which has lists that the archive does not give it.
        xattr::set(out.join("e"), DEFAULT, &directory_list).unwrap();
        xattr::set(out.join("e"), ACCESS, &directory_list).unwrap();
        xattr::set(out.join("e"), "user.foreign", b"value").unwrap();
        for (path, mode) in [("d", 0o770), ("d/f", 0o660), ("d/plain", 0o666)] {
            let found = fs::metadata(out.join(path)).unwrap().permissions().mode();
            assert_eq!(found & 0o7777, mode, "{path}");
        }
    }
}

#[test]
fn a_list_that_the_owner_of_the_destination_gives_it_meanwhile_is_not_inherited() {
    let world = World::new();
    if !rustix::process::geteuid().is_root() || !has_lists(&world.outside()) {
        return;
    }
    let archive = world::archive(world::one_of_everything);
    let (mut last, mut call) = (0, 0);
    while call <= last {
        let out = world.fresh_destination();
        fs::create_dir_all(&out).unwrap();
        std::os::unix::fs::chown(&out, Some(1234), Some(1234)).unwrap();
        let (calls, to) = (std::sync::Mutex::new(0), out.clone());
        let made = Arc::new(calls);
        let counter = Arc::clone(&made);
        let event = move || {
            let mut calls = counter.lock().unwrap();
            *calls += 1;
            if *calls == call { xattr::set(&to, DEFAULT, &list([7, 5, 5, 7, 0])) } else { Ok(()) }
        };
        let system = System { disturbance: Some(Arc::new(event)), ..System::default() };
        let report = Extract::new().to(&out).run_on(&archive, &system, 0).unwrap();
        assert!(report.is_complete(), "{report:?}");
        for name in world::names(&out) {
            let path = out.join(&name);
            for list in [ACCESS, DEFAULT] {
                let found = if path.is_symlink() { None } else { xattr::get(&path, list).unwrap() };
                assert_eq!(found, None, "call {call}: {name} has {list}");
            }
        }
        last = *made.lock().unwrap();
        call += 1;
    }
    assert!(last > 50, "{last}");
}

#[test]
fn while_its_list_is_replaced_a_directory_gives_nobody_more_rights_than_before_or_after() {
    let world = World::new();
    if !has_lists(&world.outside()) {
        return;
    }
    let archive = world::archive(|names, _| {
        names.make_directory(InodeNumber::ROOT, b"e", attributes(0o704)).map(drop)
    });
    let out = world.fresh_destination();
    let e = out.join("e");
    fs::create_dir_all(&e).unwrap();
    xattr::set(&e, ACCESS, &list([7, 7, 0, 7, 1])).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&e), 0o771);
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let (noted, to) = (Arc::clone(&seen), e.clone());
    let event = move || {
        noted.lock().unwrap().insert(mode(&to));
        Ok(())
    };
    let system = System { disturbance: Some(Arc::new(event)), ..System::default() };
    let extract = Extract::new().to(&out).overwrite(Overwrite::Always);
    assert!(extract.run_on(&archive, &system, 0).unwrap().is_complete());
    assert_eq!(mode(&e), 0o704);
    // The group, to whom the list gave nothing, gets nothing once the list no longer limits it.
    assert_eq!(*seen.lock().unwrap(), [0o700, 0o704, 0o771].into());
}

#[test]
fn an_attribute_that_cannot_be_set_is_reported_once_and_widens_no_rights() {
    let world = World::new();
    let archive = world::archive(|names, file| {
        let malformed = ExtendedAttribute::new(ACCESS, &b"\x02\0\0\0"[..]);
        let unknown = ExtendedAttribute::new("nowhere.attribute", "value");
        for name in [b"a", b"b"] {
            let f = names.add_file(InodeNumber::ROOT, name, attributes(0o664), file(b"content"))?;
            let capability = ExtendedAttribute::new("security.capability", "malformed");
            let set = [malformed.clone(), unknown.clone(), capability];
            names.set_extended_attributes(f, &set)?;
        }
        Ok(())
    });
    let out = world.fresh_destination();
    let report = Extract::new().to(&out).run(&archive).unwrap();
    assert!(report.is_complete(), "{report:?}");
    let lacks: Vec<_> = report.incomplete.iter().map(|one| (one.aspect, one.entries)).collect();
    let aspects = [Aspect::Capability, Aspect::ExtendedAttribute];
    for aspect in aspects {
        assert!(lacks.contains(&(aspect, 2)), "{lacks:?}");
    }
    for name in ["a", "b"] {
        let metadata = fs::metadata(out.join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o070, 0, "{name}");
        assert_eq!(metadata.size(), 7);
    }
}

#[test]
fn without_its_owner_a_program_does_not_run_with_the_rights_of_another() {
    let world = World::new();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let of = |(uid, gid)| ar7_registry::records::Attributes { uid, gid, ..attributes(0o6755) };
    let archive = world::archive(|names, file| {
        let root = InodeNumber::ROOT;
        names.add_file(root, b"own", of(own), file(b"content"))?;
        names.add_file(root, b"foreign", of((own.0 ^ 1, own.1)), file(b"content")).map(drop)
    });
    let out = world.fresh_destination();
    let report = Extract::new().to(&out).preserve_special(true).run(&archive).unwrap();
    let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("own"), mode("foreign")), (0o6755, 0o2755), "{report:?}");
    let lacks: Vec<_> = report.incomplete.iter().map(|one| (one.aspect, one.entries)).collect();
    assert_eq!(lacks, [(Aspect::Mode, 1)]);
}

#[test]
fn capabilities_and_devices_are_restored_only_by_root_and_on_request() {
    // Version 2, effective: the right to bind ports below 1024.
    const CAPABILITY: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    let world = World::new();
    let value: Vec<u8> = CAPABILITY.iter().flat_map(|word| word.to_le_bytes()).collect();
    let archive = world::archive(|names, file| {
        let root = InodeNumber::ROOT;
        let f = names.add_file(root, b"f", attributes(0o4755), file(b"content"))?;
        let capability = ExtendedAttribute::new("security.capability", value.clone());
        names.set_extended_attributes(f, &[capability])?;
        let (kind, null) = (EntryType::CharacterDevice, Device { major: 1, minor: 3 });
        names.add_special(root, b"null", attributes(0o666), kind, Some(null)).map(drop)
    });
    let is_root = rustix::process::geteuid().is_root();
    for special in [false, true] {
        let out = world.fresh_destination();
        let extract = Extract::new().to(&out).preserve_special(special).preserve_owner(true);
        let report = extract.run(&archive).unwrap();
        let found = xattr::get(out.join("f"), "security.capability").unwrap();
        assert_eq!(found, (special && is_root).then(|| value.clone()), "{report:?}");
        let lacks = |aspect| report.incomplete.iter().any(|one| one.aspect == aspect);
        assert_eq!(lacks(Aspect::Capability), found.is_none(), "{report:?}");
        assert_eq!(lacks(Aspect::Owner), !is_root, "{report:?}");
        let mode = fs::metadata(out.join("f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, if special && is_root { 0o4755 } else { 0o755 });
        let device = fs::symlink_metadata(out.join("null"));
        assert_eq!(device.is_ok(), special && is_root, "{report:?}");
        if let Ok(device) = device {
            assert_eq!(device.rdev(), rustix::fs::makedev(1, 3));
            assert_eq!(device.permissions().mode() & 0o7777, 0o666);
        }
        assert_eq!(report.not_restored.len(), usize::from(!(special && is_root)), "{report:?}");
    }
}
