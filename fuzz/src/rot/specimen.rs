//! The archives to damage. Every word of their content names the write that it comes from, so that mixed versions show.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ar7::uuid::Uuid;
use ar7::{Archive, Compression, ExtendedAttribute, Key, Kind, Mode, Special, Transaction};
use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{BLOCK_SIZE, META_SLOTS, Position, meta_slot_layout, plain};
use clap::ValueEnum;
use tempfile::TempDir;

use super::oracle::Oracle;
use crate::reference::Keys;

/// The raw key of every archive here.
pub(super) const RAW_KEY: [u8; 32] = [0x5c; 32];

/// The kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpecimenKind {
    /// One stream.
    Single,
    /// A fixed set of streams.
    Fixed,
    /// Directories at many depths, links, special files and extended attributes.
    Tree,
    /// Files that were appended to in turns, overwritten and deleted.
    Fragmented,
    /// A change of the master key that was stopped in the middle.
    Rekeying,
    /// A writer that was killed: with a redo list, and some blocks that did not reach their home locations.
    Crashed,
    /// More than 4 MiB.
    Large,
    /// Files that share frames, files of several frames, and others that were removed from them or changed.
    Packed,
}

impl SpecimenKind {
    /// All kinds.
    pub const ALL: [SpecimenKind; 8] = [
        SpecimenKind::Single,
        SpecimenKind::Fixed,
        SpecimenKind::Tree,
        SpecimenKind::Fragmented,
        SpecimenKind::Rekeying,
        SpecimenKind::Crashed,
        SpecimenKind::Large,
        SpecimenKind::Packed,
    ];

    const fn archive_kind(self) -> Kind {
        match self {
            SpecimenKind::Single => Kind::Single,
            SpecimenKind::Fixed => Kind::Fixed,
            _ => Kind::Dynamic,
        }
    }
}

/// An archive to damage.
pub struct Specimen {
    /// Its kind.
    pub kind: SpecimenKind,
    /// The bytes of the file.
    pub image: Vec<u8>,
    /// The block that was at a position before the present one, if there was one.
    pub(super) older: HashMap<u32, Vec<u8>>,
    /// The exported header.
    pub(super) header: Vec<u8>,
    /// The keys, before and after a change of the master key.
    pub(super) keys: Vec<Keys>,
    /// All content that was ever committed.
    pub(super) history: Vec<Vec<u8>>,
    /// The content of each file, by its path.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The content of each stream without a name.
    pub(super) streams: BTreeMap<Uuid, Vec<u8>>,
    /// The targets of links.
    pub(super) targets: BTreeMap<String, PathBuf>,
    /// Extended attributes, of the entries that have any.
    pub(super) attributes: BTreeMap<String, Vec<ExtendedAttribute>>,
}

impl Specimen {
    /// Makes an archive of a kind.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(kind: SpecimenKind) -> Specimen {
        let mut maker = Maker::new(kind);
        match kind {
            SpecimenKind::Single => maker.single(),
            SpecimenKind::Fixed => maker.fixed(),
            SpecimenKind::Tree => maker.tree(),
            SpecimenKind::Fragmented | SpecimenKind::Crashed => maker.fragmented(),
            SpecimenKind::Rekeying => maker.large(18, 90_000),
            SpecimenKind::Large => maker.large(40, 120_000),
            SpecimenKind::Packed => maker.packed(),
        }
        maker.finish()
    }

    /// Returns the number of blocks of the file.
    ///
    /// # Panics
    /// Never: the file is small.
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.image.len() / BLOCK_SIZE).expect("a small archive")
    }

    pub(super) fn key() -> Key {
        Key::from(RAW_KEY)
    }
}

/// Makes an archive.
struct Maker {
    folder: TempDir,
    archive: Option<Archive>,
    keys: Vec<Keys>,
    image: Vec<u8>,
    /// The image before the last commit.
    before: Vec<u8>,
    version: u32,
    specimen: Specimen,
}

impl Maker {
    fn new(kind: SpecimenKind) -> Maker {
        let folder = folder();
        let options = Archive::options().write(true).create_new(true).kind(kind.archive_kind());
        let options = if kind == SpecimenKind::Fixed { options.streams(3) } else { options };
        let archive = options.open(folder.path().join("a"), &Specimen::key()).expect("created");
        let specimen = Specimen {
            kind,
            image: Vec::new(),
            older: HashMap::new(),
            header: Vec::new(),
            keys: Vec::new(),
            history: Vec::new(),
            files: BTreeMap::new(),
            streams: BTreeMap::new(),
            targets: BTreeMap::new(),
            attributes: BTreeMap::new(),
        };
        let (image, before) = (Vec::new(), Vec::new());
        let (archive, keys) = (Some(archive), Vec::new());
        let mut maker = Maker { folder, archive, keys, image, before, version: 0, specimen };
        maker.note();
        maker
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a")
    }

    /// Notes the bytes of the file, the content, and the blocks that were overwritten.
    fn note(&mut self) {
        let image = fs::read(self.path()).expect("the archive");
        let (new, _) = image.as_chunks::<BLOCK_SIZE>();
        let (old, _) = self.image.as_chunks::<BLOCK_SIZE>();
        for ((position, old), new) in (0..).zip(old).zip(new) {
            if old != new {
                self.specimen.older.insert(position, old.to_vec());
            }
        }
        self.before = std::mem::replace(&mut self.image, image);
        let contents = self.specimen.files.values().chain(self.specimen.streams.values());
        for content in contents {
            if !content.is_empty() && !self.specimen.history.contains(content) {
                self.specimen.history.push(content.clone());
            }
        }
    }

    fn commit(&mut self, change: impl FnOnce(&mut Change<'_>)) {
        let archive = self.archive.take().expect("an open archive");
        {
            let transaction = archive.begin().expect("a transaction");
            let Maker { specimen, version, .. } = self;
            let mut changing = Change { transaction, specimen, version };
            change(&mut changing);
            let Change { transaction, .. } = changing;
            transaction.commit().expect("a commit");
        }
        self.archive = Some(archive);
        self.note();
    }

    fn single(&mut self) {
        self.commit(|change| change.patch_stream(Uuid::nil(), 0, 120_000));
        self.commit(|change| change.patch_stream(Uuid::nil(), 120_000, 30_000));
        self.commit(|change| change.patch_stream(Uuid::nil(), 40_000, 20_008));
    }

    fn fixed(&mut self) {
        let snapshot = self.archive.as_ref().expect("open").snapshot().expect("a snapshot");
        let streams: Vec<Uuid> =
            snapshot.streams().expect("streams").map(|found| found.expect("a stream").id).collect();
        drop(snapshot);
        for round in 0..4_u64 {
            self.commit(|change| {
                for &stream in &streams {
                    change.patch_stream(stream, round * 9000, 9000);
                }
                change.patch_stream(streams[0], round * 800, 4000);
            });
        }
    }

    fn tree(&mut self) {
        self.commit(|change| {
            let mut deep = String::new();
            for level in 0..7 {
                deep = format!("{deep}{}level{level}", if level == 0 { "" } else { "/" });
                change.transaction.create_directory(&deep).expect("a directory");
                change.put(&format!("{deep}/file"), 500 * level);
            }
            for directory in 0..5_u32 {
                let path = format!("d{directory}");
                change.transaction.create_directory(&path).expect("a directory");
                for file in 0..9 {
                    let name = format!("{path}/{file}{}", "n".repeat(150));
                    change.put(&name, (directory * 13 + file * 71) * 61 % 22_000);
                }
            }
        });
        self.commit(|change| {
            change.link("d0/3nn", "d0/3");
            change.link("level0/hard", "level0/level1/file");
            change.symlink("short", &"target".repeat(2));
            change.symlink("d1/long", &"t/".repeat(900));
            change.transaction.create_special("fifo", Special::Fifo).expect("a fifo");
            change.attribute("d2", 40);
            change.attribute("level0/level1/level2/file", 3000);
            change.attribute("level0/level1", 2000);
        });
        self.commit(|change| {
            change.transaction.remove_all("d4").expect("removed");
            change.specimen.files.retain(|path, _| !path.starts_with("d4/"));
            change.put("level0/file", 9000);
        });
        self.header_changes();
    }

    /// Changes the header, so that each of its copies has an older version.
    fn header_changes(&mut self) {
        let archive = self.archive.as_ref().expect("an open archive");
        archive.relabel_key(&Specimen::key(), "changed").expect("a label");
        self.note();
    }

    fn fragmented(&mut self) {
        for round in 0..5_u32 {
            self.commit(|change| {
                for file in 0..12 {
                    let path = format!("file{file}");
                    match round {
                        0 => change.put(&path, 4000 + file * 700),
                        _ => change.append(&path, 3000 + 8 * file * round),
                    }
                }
                change.put(&format!("other{round}"), 6000);
            });
        }
        self.commit(|change| {
            change.remove("other1");
            change.remove("other3");
            change.put("file11", 9000);
        });
        // Blocks in the middle get new versions, and a shadow block each.
        self.commit(|change| {
            for file in 0..6 {
                change.patch(&format!("file{file}"), 4016 + 8 * file, 4800);
            }
        });
    }

    fn large(&mut self, files: u32, length: u32) {
        self.commit(|change| {
            for file in 0..files {
                change.put(&format!("{file:03}{}", "n".repeat(100)), length + file * 1000);
            }
        });
        self.commit(|change| {
            for file in (0..files).step_by(3) {
                change.patch(&format!("{file:03}{}", "n".repeat(100)), 40_000, 12_000);
            }
        });
        self.header_changes();
    }

    fn packed(&mut self) {
        self.commit(|change| {
            for file in 0..30 {
                change.pack(&format!("small{file}"), 100 + file * 290);
            }
            for file in 0..3 {
                change.pack(&format!("long{file}"), 200_000 + file * 70_000);
            }
        });
        self.commit(|change| {
            for file in [3, 4, 17] {
                change.remove(&format!("small{file}"));
            }
            // The first one gets blocks of its own.
            change.patch("long0", 70_000, 9000);
            change.pack("small5", 3000);
            change.put("plain", 30_000);
        });
        self.commit(|change| {
            for file in 30..40 {
                change.pack(&format!("small{file}"), 5000);
            }
        });
    }

    fn finish(mut self) -> Specimen {
        self.keys.push(keys_of(&self.image));
        let archive = self.archive.take().expect("an open archive");
        self.specimen.header = archive.export_header();
        if self.specimen.kind == SpecimenKind::Crashed {
            self.lose_home_writes();
            drop(archive);
        } else {
            archive.close().expect("closed");
            self.note();
        }
        if self.specimen.kind == SpecimenKind::Rekeying {
            self.rekey();
        }
        self.specimen.image = self.image;
        self.specimen.keys = self.keys;
        self.specimen.note_links();
        self.specimen.keep_lost_writes();
        self.specimen
    }

    /// Puts back what every second home location of the redo list held before the last commit, as a power cut may.
    fn lose_home_writes(&mut self) {
        let oracle = Oracle::of(&self.image, &self.keys);
        let homes = oracle.redo_homes();
        assert!(homes.len() > 3, "a redo list");
        for &home in homes.iter().step_by(2) {
            let at = home as usize * BLOCK_SIZE;
            self.image[at..at + BLOCK_SIZE].copy_from_slice(&self.before[at..at + BLOCK_SIZE]);
        }
    }

    /// Begins a change of the master key, and stops it after a window.
    fn rekey(&mut self) {
        let path = self.path();
        let stopped = Archive::options().write(true).rekey(&path, &Specimen::key(), |at| {
            if at.blocks > 300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(stopped, Err(ar7::Error::Stopped)), "{stopped:?}");
        // Every block is sealed again, so the blocks before are not versions of the same archive state.
        self.specimen.older.clear();
        self.image = fs::read(&path).expect("the archive");
        self.keys.push(keys_of(&self.image));
        self.specimen.header = self.image[..BLOCK_SIZE].to_vec();
    }
}

impl Specimen {
    /// Keeps only older meta slots that were the last ones at their positions: two commits before. A closing makes
    /// several commits.
    fn keep_lost_writes(&mut self) {
        let number = |block: &[u8], position: u32| {
            let sealed = block.first_chunk()?;
            let open = |keys: &Keys| keys.open(KeyKind::Meta, Position::at(position), sealed);
            let plaintext = self.keys.iter().find_map(open)?;
            Some(meta_slot_layout::NUMBER.u64(plain::DATA.of(&plaintext[..])))
        };
        let (blocks, _) = self.image.as_chunks::<BLOCK_SIZE>();
        let stale: Vec<u32> = META_SLOTS
            .map(Position::get)
            .into_iter()
            .filter(|&position| {
                let older = self.older.get(&position).and_then(|older| number(older, position));
                let newest = number(&blocks[position as usize], position);
                older.map(|older| older + 2) != newest
            })
            .collect();
        self.older.retain(|position, _| !stale.contains(position));
    }

    /// Reads targets of links and extended attributes, which are content of streams, too.
    fn note_links(&mut self) {
        let folder = folder();
        let path = folder.path().join("a");
        fs::write(&path, &self.image).expect("written");
        let archive = Archive::open(&path, &Specimen::key()).expect("it opens");
        let snapshot = archive.snapshot().expect("a snapshot");
        for entry in snapshot.walk("").expect("entries") {
            let entry = entry.expect("an entry");
            let path = text(&entry.path);
            if entry.metadata.is_symlink() {
                let target = snapshot.read_link(&entry.path).expect("a target");
                self.history.push(target.as_os_str().as_bytes().to_vec());
                self.targets.insert(path.clone(), target);
            }
            let attributes = snapshot.extended_attributes(&entry.path).expect("attributes");
            if let [attribute] = &attributes[..] {
                self.history.push(encoded(attribute));
                self.attributes.insert(path, attributes);
            }
        }
    }
}

/// Changes an archive, and the model of its content.
struct Change<'a> {
    transaction: Transaction<'a>,
    specimen: &'a mut Specimen,
    version: &'a mut u32,
}

impl Change<'_> {
    /// Returns content that names this write and the place of each word.
    fn words(&mut self, length: u32) -> Vec<u8> {
        *self.version += 1;
        let words = (0..length.div_ceil(8)).flat_map(|word| {
            let word = [self.version.to_be_bytes(), (word + 1).to_be_bytes()];
            word.concat()
        });
        words.take(length as usize).collect()
    }

    fn put(&mut self, path: &str, length: u32) {
        let content = self.words(length);
        self.transaction.write(path, &content[..]).expect("written");
        self.specimen.files.insert(path.to_owned(), content);
    }

    fn pack(&mut self, path: &str, length: u32) {
        self.put(path, length);
        self.transaction.compress(path, Compression::Auto).expect("packed");
    }

    fn patch(&mut self, path: &str, offset: u32, length: u32) {
        let bytes = self.words(length);
        let mut file = self.transaction.open(path, Mode::READ_WRITE).expect("opened");
        file.seek(SeekFrom::Start(offset.into())).expect("a place");
        file.write_all(&bytes).expect("written");
        let content = self.specimen.files.get_mut(path).expect("a known file");
        overwrite(content, offset as usize, &bytes);
    }

    fn append(&mut self, path: &str, length: u32) {
        let end = self.specimen.files[path].len();
        self.patch(path, u32::try_from(end).expect("a short file"), length);
    }

    fn patch_stream(&mut self, id: Uuid, offset: u64, length: u32) {
        let bytes = self.words(length);
        let mut file = self.transaction.stream(id, Mode::READ_WRITE).expect("opened");
        file.seek(SeekFrom::Start(offset)).expect("a place");
        file.write_all(&bytes).expect("written");
        let content = self.specimen.streams.entry(id).or_default();
        overwrite(content, usize::try_from(offset).expect("short"), &bytes);
    }

    fn remove(&mut self, path: &str) {
        self.transaction.remove(path).expect("removed");
        self.specimen.files.remove(path);
    }

    /// Adds a name to the first file whose path begins with `existing`.
    fn link(&mut self, new: &str, existing: &str) {
        let found = self.specimen.files.iter().find(|(path, _)| path.starts_with(existing));
        let (path, content) = found.expect("a file");
        self.transaction.link(path, new).expect("a link");
        let content = content.clone();
        self.specimen.files.insert(new.to_owned(), content);
    }

    fn symlink(&mut self, path: &str, target: &str) {
        self.transaction.symlink(target, path).expect("a link");
    }

    fn attribute(&mut self, path: &str, length: usize) {
        let attribute = ExtendedAttribute::new("user.rot", vec![7; length]);
        self.transaction.set_extended_attributes(path, &[attribute]).expect("an attribute");
    }
}

fn overwrite(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Returns an extended attribute as a stream holds it.
fn encoded(attribute: &ExtendedAttribute) -> Vec<u8> {
    let name_length = u8::try_from(attribute.name.len()).expect("a short name");
    let value_length = u32::try_from(attribute.value.len()).expect("a short value");
    [&[name_length][..], &value_length.to_be_bytes(), &attribute.name, &attribute.value].concat()
}

fn keys_of(image: &[u8]) -> Keys {
    let header = image.first_chunk().expect("a header");
    Keys::of_header(header, &RAW_KEY).expect("the key opens a slot")
}

/// Returns a temporary folder, in memory where there is one.
pub(super) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

/// Returns a path as text. Every path here is UTF-8.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Reads a stream to its end.
pub(super) fn read_all(mut file: ar7::File<'_>) -> ar7::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
