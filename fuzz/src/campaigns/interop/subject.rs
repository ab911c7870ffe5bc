//! Archives with known content, created through the library from a seed: fragmented, overwritten, truncated and deleted
//! streams, odd names, and the state that a killed writer leaves.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Random;
use ar7_engine::crypto::{KeyDerivation, KeyKind, Passphrase, RawKey, Secret};
use ar7_engine::format::{
    ArchiveKind, BLOCK_SIZE, BLOCK_SIZE_U64, DATA_SIZE, DerivationCost, Position, RedoBlock,
    Timestamp,
};
use ar7_engine::store::Redirects;
use ar7_registry::records::{
    Attributes, Device, EntryType, ExtendedAttribute, InodeNumber, Origin,
};
use ar7_registry::{Archive, CreateOptions, Result};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use xtask::error::Error;
use xtask::quantity::base16;

/// The key of every archive that has a raw key. It is printable, so that its file is text.
pub(crate) const KEY: &[u8; 32] = b"ar7 golden archives, one raw key";

/// The passphrase of the other archives.
pub(crate) const PASSPHRASE: &str = "ar7 golden archives";

/// The lowest costs, because the passphrase is public anyway.
const COST: DerivationCost = DerivationCost { memory_kib: 64, passes: 1, lanes: 1 };

/// Number of blocks of a stream that has more extents than one commit frees.
const PENDING_DELETION_BLOCKS: usize = 300;

/// Length in bytes of a packed file that takes several frames.
const LONG_PACKED: usize = 300_000;

/// Length in bytes of a hole, which no frame could have.
const HOLE: usize = 1_000_000;

/// The properties of an archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) kind: ArchiveKind,
    pub(crate) is_passphrase: bool,
    pub(crate) ending: Ending,
    /// Maximum number of bytes that a change of a stream writes.
    pub(crate) bytes_max: u64,
    pub(crate) rounds: u64,
    /// Whether to keep, next to the archive, the file as it was two rounds of changes before.
    pub(crate) keeps_earlier: bool,
}

/// How the writer of an archive ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It closes the archive.
    Closed,
    /// It is killed after a commit that changed live blocks.
    Killed,
    /// It is killed after deleting a stream of many extents, not all of which are free yet.
    KilledDuringDeletion,
}

/// The content of an archive as sorted lines: streams that are not empty, and names.
pub(crate) struct Subject {
    pub(crate) lines: Vec<String>,
    /// A file with a name, and its stream.
    pub(crate) file: Option<(&'static str, Uuid)>,
}

pub(crate) fn secret(is_passphrase: bool) -> Secret {
    if is_passphrase {
        return Secret::Passphrase(Passphrase::new(PASSPHRASE.as_bytes().to_vec()));
    }
    Secret::Key(RawKey::from_bytes(*KEY))
}

/// Creates the archive at `path`, with nothing after its last block.
pub(crate) fn make(plan: &Plan, seed: u64, path: &Path) -> std::result::Result<Subject, Error> {
    let working = path.with_extension("writing");
    // A failed run may have left the file.
    fs::remove_file(&working).ok();
    let made = build(plan, seed, &working, path);
    let subject = made.map_err(|error| Error::Fault(format!("{}: {error}", path.display())))?;
    let length = subject.1 * BLOCK_SIZE_U64;
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
    file.set_len(length).map_err(Error::io("cut", path))?;
    fs::remove_file(&working).map_err(Error::io("remove", &working))?;
    Ok(subject.0)
}

/// Returns the path of the kept earlier file.
pub(crate) fn earlier(path: &Path) -> PathBuf {
    path.with_extension("earlier")
}

fn build(plan: &Plan, seed: u64, working: &Path, path: &Path) -> Result<(Subject, u64)> {
    let options = CreateOptions {
        kind: plan.kind,
        fixed_streams: 3,
        derivation: KeyDerivation::new(COST)?,
        label: plan.name.to_owned(),
        ..CreateOptions::default()
    };
    let archive = Archive::create(working, &secret(plan.is_passphrase), &options)?;
    let mut maker = Maker { archive, random: Random::new(seed), plan, streams: BTreeMap::new() };
    maker.choose_streams()?;
    for round in 0..plan.rounds {
        if plan.keeps_earlier && round + 2 == plan.rounds {
            copy(working, &earlier(path));
        }
        maker.change()?;
    }
    let mut lines = Vec::new();
    let file = if plan.kind == ArchiveKind::Dynamic { maker.name(&mut lines)? } else { None };
    match plan.ending {
        Ending::Closed => {}
        Ending::Killed => maker.rewrite()?,
        Ending::KilledDuringDeletion => maker.leave_pending_deletion()?,
    }
    let (archive, streams) = (maker.archive, maker.streams);
    let slot = &archive.store().current().slot;
    let mut blocks = u64::from(slot.block_count);
    if plan.ending == Ending::Closed {
        let read = Archive::close(archive).and_then(|()| open(plan, working))?;
        blocks = u64::from(read.store().current().slot.block_count);
        copy(working, path);
    } else {
        let places = redo_places(&archive)?;
        copy(working, path);
        garble(path, &places, &mut maker.random);
        drop(archive);
    }
    let stored = streams.iter().filter(|(_, content)| !content.is_empty());
    lines.extend(stored.map(|(identity, content)| {
        format!("stream {identity} {} {}", content.len(), digest(content))
    }));
    lines.sort();
    Ok((Subject { lines, file }, blocks))
}

fn open(plan: &Plan, path: &Path) -> Result<Archive> {
    Archive::open(path, &secret(plan.is_passphrase), ar7_engine::store::OpenOptions::default())
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy of an archive in a temporary directory");
}

/// Returns the home locations of the redo list, which a kill can leave in any state.
fn redo_places(archive: &Archive) -> Result<Vec<Position>> {
    let commit = archive.store().current();
    let slot = &commit.slot;
    let (mut places, mut next) = (Vec::new(), slot.redo_head);
    while let Some(reference) = next {
        let [block, _] = reference.copies();
        let opened = archive.store().read_block(&Redirects::default(), KeyKind::Meta, block)?;
        let block = RedoBlock::decode(block.position, &opened.data, slot.block_count)?;
        places.extend(block.entries.iter().map(|entry| entry.home));
        next = block.next;
    }
    Ok(places)
}

/// Overwrites half of each home location.
fn garble(path: &Path, places: &[Position], random: &mut Random) {
    let file = OpenOptions::new().write(true).open(path).expect("the copy");
    for place in places {
        let mut bytes = [0; BLOCK_SIZE / 2];
        random.fill(&mut bytes);
        let offset = place.offset() + random.below(2) * (BLOCK_SIZE_U64 / 2);
        file.write_all_at(&bytes, offset).expect("a write to the copy");
    }
}

struct Maker<'a> {
    archive: Archive,
    random: Random,
    plan: &'a Plan,
    streams: BTreeMap<Uuid, Vec<u8>>,
}

impl Maker<'_> {
    fn choose_streams(&mut self) -> Result<()> {
        let mut identities: Vec<Uuid> = match self.plan.kind {
            ArchiveKind::Single => vec![Uuid::nil(), Uuid::from_u128(5)],
            _ => vec![Uuid::from_u128(7)],
        };
        if self.plan.kind == ArchiveKind::Dynamic {
            for _ in 0..4 {
                self.archive.new_stream()?.close()?;
            }
            self.archive.commit()?;
        }
        let listed = self.archive.streams(None, 16)?;
        identities.extend(listed.iter().map(|stored| stored.record.identity));
        self.streams = identities.into_iter().map(|identity| (identity, Vec::new())).collect();
        Ok(())
    }

    /// Changes some streams, and commits.
    fn change(&mut self) -> Result<()> {
        let identities: Vec<Uuid> = self.streams.keys().copied().collect();
        for identity in identities {
            let content = self.streams.get(&identity).map_or(0, Vec::len);
            let length = u64::try_from(content).expect("a length");
            match self.random.below(5) {
                0 if length > 0 => {
                    let length = self.random.below(length);
                    self.cut(identity, length)?;
                }
                1 | 2 if length > 0 => {
                    let offset = self.random.below(length);
                    self.write(identity, offset)?;
                }
                3 => {}
                _ => self.write(identity, length)?,
            }
        }
        self.archive.commit()
    }

    fn write(&mut self, identity: Uuid, offset: u64) -> Result<()> {
        let length = 1 + self.random.below(self.plan.bytes_max);
        let mut bytes = vec![0; usize::try_from(length).expect("a small length")];
        self.random.fill(&mut bytes);
        let mut stream = self.open(identity)?;
        stream.write_at(offset, &bytes)?;
        stream.close()?;
        let content = self.streams.entry(identity).or_default();
        let start = usize::try_from(offset).expect("a small length");
        content.resize(content.len().max(start + bytes.len()), 0);
        content[start..start + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    fn cut(&mut self, identity: Uuid, length: u64) -> Result<()> {
        let mut stream = self.open(identity)?;
        stream.set_len(length)?;
        stream.close()?;
        let content = self.streams.entry(identity).or_default();
        content.truncate(usize::try_from(length).expect("a small length"));
        Ok(())
    }

    fn open(&self, identity: Uuid) -> Result<ar7_registry::Stream> {
        match usize::try_from(identity.as_u128()) {
            Ok(index) => self.archive.reserved_stream(index),
            Err(_) => self.archive.open_stream(identity),
        }
    }

    /// Overwrites a block of every stream and appends to it, so that the commit has a redo list.
    fn rewrite(&mut self) -> Result<()> {
        let named = self.named()?;
        let identities: Vec<Uuid> = self.streams.keys().copied().collect();
        for identity in identities.into_iter().filter(|identity| !named.contains(identity)) {
            self.write(identity, 0)?;
            self.archive.commit()?;
            self.write(identity, 0)?;
            let length = self.streams[&identity].len();
            self.write(identity, u64::try_from(length).expect("a length"))?;
        }
        self.archive.commit()
    }

    fn named(&self) -> Result<Vec<Uuid>> {
        let mut named = Vec::new();
        for path in [&b"directory/file"[..], b"directory/deep", b"directory/deep/long link"] {
            if let Ok(entry) = self.archive.names().resolve(path) {
                let inode = self.archive.names().inode(entry.inode)?;
                let streams = inode.map(|inode| [inode.stream, inode.extended.stream()]);
                named.extend(streams.into_iter().flatten().flatten());
            }
        }
        Ok(named)
    }

    /// Deletes a stream with more extents than one commit frees: every other block is of a later generation.
    fn leave_pending_deletion(&mut self) -> Result<()> {
        let mut stream = self.archive.new_stream()?;
        let identity = stream.identity();
        stream.append(&vec![1; PENDING_DELETION_BLOCKS * DATA_SIZE])?;
        self.archive.commit()?;
        for offset in (0..PENDING_DELETION_BLOCKS).step_by(2).map(|block| block * DATA_SIZE) {
            stream.write_at(u64::try_from(offset).expect("a small length"), &[2; DATA_SIZE])?;
        }
        stream.close()?;
        self.archive.commit()?;
        self.archive.delete_stream(identity)?;
        self.archive.commit()
    }

    /// Adds names with and without streams, and removes some again.
    fn name(&mut self, lines: &mut Vec<String>) -> Result<Option<(&'static str, Uuid)>> {
        let names = self.archive.names();
        let attributes = |mode| Attributes {
            mode,
            uid: 1000,
            gid: 100,
            modified: Timestamp { seconds: 1_700_000_000, nanoseconds: 5 },
            origin: None,
        };
        let directory = names.make_directories(b"directory", attributes(0o755))?;
        let deep = names.make_directories(b"directory/deep", attributes(0o1700))?;
        lines.extend(
            [b"directory".as_slice(), b"directory/deep"]
                .map(|path| format!("directory {}", base16(path))),
        );
        let unnamed: Vec<Uuid> =
            self.streams.keys().copied().filter(|name| name.as_u128() > 7).collect();
        let (first, removed) = (unnamed[0], unnamed[1]);
        let content = &self.streams[&first];
        let file = names.add_file(directory, b"file", attributes(0o644), Some(first))?;
        names.add_link(deep, "h\u{e4}rd".as_bytes(), file)?;
        let whole = format!("{} {}", content.len(), digest(content));
        lines.push(format!("file {} 2 {whole}", base16(b"directory/file")));
        lines.push(format!("file {} 2 {whole}", base16("directory/deep/h\u{e4}rd".as_bytes())));
        for name in [&b"odd \xff\x01"[..], b"new\nline", &[b'n'; 255]] {
            names.add_file(InodeNumber::ROOT, name, attributes(0o4755), None)?;
            lines.push(format!("file {} 1 0 {}", base16(name), digest(b"")));
        }
        names.add_symlink(deep, b"link", attributes(0o777), b"../file")?;
        lines.push(format!("symlink {} {}", base16(b"directory/deep/link"), base16(b"../file")));
        let target = [b't'; 2000];
        let long = names.add_symlink(deep, b"long link", attributes(0o777), &target)?;
        lines.push(format!("symlink {} {}", base16(b"directory/deep/long link"), base16(&target)));
        names.add_file(deep, b"gone", attributes(0o600), Some(removed))?;
        self.archive.commit()?;
        let names = self.archive.names();
        names.remove(deep, b"gone")?;
        let stream =
            names.inode(long)?.and_then(|inode| inode.stream).expect("a long target has a stream");
        self.archive.commit()?;
        self.streams.remove(&removed);
        self.streams.insert(stream, target.to_vec());
        self.special(deep, attributes(0o600), lines)?;
        self.extend(file, b"directory/file", 1, lines)?;
        self.extend(file, b"directory/deep/h\xc3\xa4rd", 1, lines)?;
        self.extend(deep, b"directory/deep", 4000, lines)?;
        // A move changes the parent.
        let names = self.archive.names();
        names.rename((directory, b"deep"), (InodeNumber::ROOT, b"deep"), false)?;
        names.rename((InodeNumber::ROOT, b"deep"), (directory, b"deep"), false)?;
        self.archive.commit()?;
        self.pack(attributes(0o640), lines)?;
        Ok(Some(("directory/file", first)))
    }

    /// Adds packed files: small ones that share frames, a long one, one that does not compress, and one with a hole.
    /// Removes and replaces some of them.
    fn pack(&mut self, attributes: Attributes, lines: &mut Vec<String>) -> Result<()> {
        let directory = self.archive.names().make_directories(b"packed", attributes)?;
        lines.push(format!("directory {}", base16(b"packed")));
        let lengths = [1, 40, 300, 2000, 9000, LONG_PACKED, 70];
        let mut contents = BTreeMap::new();
        for (name, length) in (b'a'..).zip(lengths) {
            let content = self.text(length);
            self.add_packed(directory, &[name], &content)?;
            contents.insert(vec![name], content);
        }
        self.archive.commit()?;
        let mut noise = vec![0; 5000];
        self.random.fill(&mut noise);
        self.add_packed(directory, b"noise", &noise)?;
        contents.insert(b"noise".to_vec(), noise);
        self.add_with_hole(directory, b"hole", &mut contents)?;
        self.archive.commit()?;
        let replaced = self.archive.names().resolve(b"packed/b")?.inode;
        let mut packed = self.archive.names().begin_packed(Some(replaced))?;
        let content = self.text(111);
        self.archive.names().append_packed(&mut packed, &content)?;
        let names = self.archive.names();
        names.replace_with_packed(packed, attributes)?;
        names.remove(directory, b"d")?;
        names.add_link(directory, b"again", names.resolve(b"packed/c")?.inode)?;
        self.archive.commit()?;
        contents.insert(b"b".to_vec(), content);
        contents.remove(&b"d"[..]);
        contents.insert(b"again".to_vec(), contents[&b"c"[..]].clone());
        for (name, content) in contents {
            let links = if name == b"c" || name == b"again" { 2 } else { 1 };
            let name = base16(&[b"packed/", &name[..]].concat());
            lines.push(format!("file {name} {links} {} {}", content.len(), digest(&content)));
        }
        Ok(())
    }

    /// Adds a packed file with a hole in the middle.
    fn add_with_hole(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        contents: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<()> {
        let (begin, end) = (self.text(700), self.text(900));
        let names = self.archive.names();
        let mut packed = names.begin_packed(None)?;
        names.append_packed(&mut packed, &begin)?;
        names.append_hole(&mut packed, HOLE as u64)?;
        names.append_packed(&mut packed, &end)?;
        let attributes = names.inode(directory)?.expect("a directory").attributes;
        names.add_packed(directory, name, attributes, packed)?;
        contents.insert(name.to_vec(), [begin, vec![0; HOLE], end].concat());
        Ok(())
    }

    /// Returns bytes that compress.
    fn text(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.random.fill(&mut bytes);
        for byte in &mut bytes {
            *byte = b'a' + *byte % 4;
        }
        bytes
    }

    fn add_packed(&self, directory: InodeNumber, name: &[u8], content: &[u8]) -> Result<()> {
        let names = self.archive.names();
        let mut packed = names.begin_packed(None)?;
        names.append_packed(&mut packed, content)?;
        let attributes = names.inode(directory)?.expect("a directory").attributes;
        names.add_packed(directory, name, attributes, packed)?;
        Ok(())
    }

    /// Adds a fifo, a socket and two devices, with an origin.
    fn special(
        &self,
        directory: InodeNumber,
        attributes: Attributes,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        let changed = Timestamp { seconds: -1, nanoseconds: 999_999_999 };
        let origin = Some(Origin { changed, inode: u64::MAX });
        for (kind, shown, device) in [
            (EntryType::Fifo, "fifo", None),
            (EntryType::Socket, "socket", None),
            (EntryType::CharacterDevice, "character", Some(Device { major: 1, minor: 3 })),
            (EntryType::BlockDevice, "block", Some(Device { major: u32::MAX, minor: 1 << 20 })),
        ] {
            let attributes = Attributes { origin, ..attributes };
            let names = self.archive.names();
            names.add_special(directory, shown.as_bytes(), attributes, kind, device)?;
            let name = base16(&[b"directory/deep/", shown.as_bytes()].concat());
            let numbers = device.map(|Device { major, minor }| format!(" {major} {minor}"));
            lines.push(format!("{shown} {name} 1{}", numbers.unwrap_or_default()));
            lines.push(format!("origin {name} -1 999999999 {}", u64::MAX));
        }
        Ok(())
    }

    /// Sets extended attributes of an inode: a short one, an empty one, and one of this length.
    fn extend(
        &mut self,
        inode: InodeNumber,
        path: &[u8],
        length: usize,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        let set = [
            ExtendedAttribute::new("user.\u{e4}", "short"),
            ExtendedAttribute::new("system.posix_acl_access", vec![2; length]),
            ExtendedAttribute::new("user.empty", ""),
        ];
        let names = self.archive.names();
        names.set_extended_attributes(inode, &set)?;
        lines.extend(set.iter().map(|ExtendedAttribute { name, value }| {
            let (path, name) = (base16(path), base16(name));
            format!("attribute {path} {name} {} {}", value.len(), digest(value))
        }));
        let stream = names.inode(inode)?.and_then(|inode| inode.extended.stream());
        self.archive.commit()?;
        if let Some(stream) = stream {
            // More than the names and the heads of the attributes take.
            let mut bytes = vec![0; length + 200];
            let read = self.archive.read_stream(stream)?.read_at(0, &mut bytes)?;
            bytes.truncate(read);
            self.streams.insert(stream, bytes);
        }
        Ok(())
    }
}

/// Returns the SHA-256 in hexadecimal.
pub(crate) fn digest(content: &[u8]) -> String {
    base16(&Sha256::digest(content))
}
