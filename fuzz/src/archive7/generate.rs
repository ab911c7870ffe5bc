//! Random archives of the Python module, and what an import of each has to store.

use std::collections::BTreeMap;

use ar7::FileType;
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use super::layout::{
    BLOCK, Chained, DATA, ENTRIES, INDEX, KEY, LISTINGS, PATHS, Pages, Plain, Records, Shape,
    correct,
};
use crate::Random;

/// What an import has to store under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// The type.
    pub(super) file_type: FileType,
    /// Permission bits.
    pub(super) mode: u32,
    /// Time of the last change, in seconds.
    pub(super) modified: i64,
    /// Content of a file, or the path that a link leads to.
    pub(super) content: Vec<u8>,
}

/// A generated archive, before its blocks are sealed.
pub(super) struct Generated {
    /// The name of its kind, as `OldKind` displays it.
    pub(super) kind: &'static str,
    /// The application's metadata.
    pub(super) metadata: Vec<u8>,
    /// Streams without a name.
    pub(super) streams: BTreeMap<Uuid, Vec<u8>>,
    /// Entries by their paths.
    pub(super) entries: BTreeMap<String, Expected>,
    /// Number of entries that are not as they were.
    pub(super) lost: u64,
    /// Number of those that have no place in the new archive.
    pub(super) left_out: u64,
    pub(super) blocks: Vec<Plain>,
    random: Random,
}

/// The kinds, in the order of their numbers.
const KINDS: [&str; 4] = ["single", "fixed", "dynamic", "file system"];

/// A change of a tree before it is cut into blocks.
pub(super) struct TreeEdit {
    /// Number of the tree, from 1.
    pub(super) tree: usize,
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
}

/// Returns an archive of a kind, 0 to 3, from a seed.
#[cfg(test)]
pub(super) fn generate(kind: usize, seed: u64) -> Generated {
    generate_edited(kind, seed, &[])
}

/// Returns the archive with changed trees. Their checksums are corrected.
pub(super) fn generate_edited(kind: usize, seed: u64, edits: &[TreeEdit]) -> Generated {
    let kind = kind % KINDS.len();
    let mut random = Random::new(seed);
    let mut model = Model::default();
    match kind {
        0 => drop(model.streams.insert(Uuid::nil(), content(&mut random))),
        1 => {}
        2 => {
            for _ in 0..random.below(120) {
                let content = content(&mut random);
                model.streams.insert(identity(&mut random), content);
            }
        }
        _ => model.fill(&mut random),
    }
    let metadata = metadata(kind, &mut random);
    let blocks = blocks(kind, &metadata, &model, edits, &mut random);
    let (entries, lost) = (std::mem::take(&mut model.expected), model.lost);
    let left_out = model.left_out;
    let streams = model.bare_streams();
    Generated { kind: KINDS[kind], metadata, streams, entries, lost, left_out, blocks, random }
}

impl Generated {
    /// Returns the file.
    pub(super) fn file(&mut self) -> Vec<u8> {
        let mut file = Vec::with_capacity(self.blocks.len() * BLOCK);
        for block in &self.blocks {
            file.extend(block.seal(&mut self.random));
        }
        file
    }

    /// Returns the key.
    pub(super) fn key() -> ar7::Key {
        ar7::Key::from(KEY)
    }
}

fn metadata(kind: usize, random: &mut Random) -> Vec<u8> {
    let mut metadata = b"archive7a\0\x02\0\0".to_vec();
    if kind == 3 && !random.one_in(4) {
        metadata.resize(344, 0);
        random.fill(&mut metadata[13..80]);
        metadata[88..96].copy_from_slice(b"a title.");
        return metadata;
    }
    metadata.resize(usize::try_from(random.below(2048)).expect("small"), 0);
    random.fill(&mut metadata);
    let used = metadata.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    metadata.truncate(used);
    metadata
}

/// Returns content of a length near a bound of a block, or of any length.
fn content(random: &mut Random) -> Vec<u8> {
    let near = [0, 1, DATA - 1, DATA, DATA + 1, 3 * DATA];
    let length = match random.choose(&near) {
        Some(length) if random.one_in(2) => *length,
        _ => usize::try_from(random.below(20_000)).expect("small"),
    };
    let mut content = vec![0; length];
    random.fill(&mut content);
    content
}

fn identity(random: &mut Random) -> Uuid {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// Entries and streams of an archive, and where the entries are after an import.
#[derive(Default)]
struct Model {
    streams: BTreeMap<Uuid, Vec<u8>>,
    entries: BTreeMap<Uuid, ModelEntry>,
    listings: BTreeMap<Uuid, Vec<Uuid>>,
    expected: BTreeMap<String, Expected>,
    lost: u64,
    left_out: u64,
}

#[derive(Clone)]
struct ModelEntry {
    letter: u8,
    parent: Uuid,
    owner: Uuid,
    stream: Uuid,
    modified: i64,
    is_deleted: bool,
    name: Vec<u8>,
    mode: u16,
}

/// A directory of the model, with its path after an import.
#[derive(Clone)]
struct Place {
    id: Uuid,
    path: Vec<String>,
}

impl Model {
    fn bare_streams(self) -> BTreeMap<Uuid, Vec<u8>> {
        let mut streams = self.streams;
        streams.retain(|id, _| !self.entries.values().any(|entry| entry.stream == *id));
        streams
    }

    /// Adds a random tree with everything that an old archive can have.
    fn fill(&mut self, random: &mut Random) {
        let root = Place { id: Uuid::nil(), path: Vec::new() };
        let entry = self.entry(b'd', root.id, b"/".to_vec(), random);
        self.entries.insert(root.id, entry);
        self.listings.insert(root.id, Vec::new());
        let mut lost = "lost+found";
        if random.one_in(4) {
            let place = Place { id: identity(random), path: vec![lost.to_owned()] };
            let entry = self.entry(b'f', Uuid::nil(), lost.into(), random);
            self.add(&place, entry, &root);
            lost = "lost+found-2";
        }
        let mut directories = vec![root];
        let mut targets: Vec<Place> = directories.clone();
        for number in 0..random.below(80) {
            let parent = random.choose(&directories).expect("the root").clone();
            let plain = ["file", "ein Häuschen", "a.tar.gz", "-x", "\u{1f980}"];
            let name = format!("{} {number}", random.choose(&plain).expect("a name"));
            let mut place = Place { id: identity(random), path: parent.path.clone() };
            place.path.push(name.clone());
            let oddity = random.below(12);
            let name = match oddity {
                0 => random.choose(&["a/b", "..", "."]).expect("a name").to_string(),
                1 => "n".repeat(256),
                _ => name,
            };
            let letter = *random.choose(b"fffddl").expect("a letter");
            let target = random.choose(&targets).expect("the root").clone();
            let mut entry = self.entry(letter, parent.id, name.into_bytes(), random);
            if letter == b'l' {
                entry.owner = target.id;
            }
            entry.is_deleted = oddity == 2 && letter != b'd';
            let is_lost = oddity < 2 || oddity == 3;
            if is_lost {
                place.path = vec![lost.to_owned(), place.id.to_string()];
                self.lost += 1;
            }
            if letter == b'd' {
                self.listings.insert(place.id, Vec::new());
                directories.push(place.clone());
            }
            if !entry.is_deleted && letter != b'l' {
                targets.push(place.clone());
            }
            if oddity == 4 {
                // Of two entries with one name, that with the lower identity has it.
                let mut twin = entry.clone();
                (twin.letter, twin.stream) = (b'd', Uuid::nil());
                let id = Uuid::from_u128(place.id.as_u128().saturating_add(1));
                let place = Place { id, path: vec![lost.to_owned(), id.to_string()] };
                self.lost += 1;
                self.add(&place, twin, &target);
            }
            self.add(&place, entry, &target);
            if oddity == 3 {
                self.listings
                    .get_mut(&parent.id)
                    .expect("a directory")
                    .retain(|id| *id != place.id);
            }
        }
        if self.lost > 0 {
            let attributes = (FileType::Directory, 0o700, 0, Vec::new());
            self.expected.insert(lost.to_owned(), expected(attributes));
        }
        self.link_far_down(random);
        self.erase_and_shuffle(random);
        for _ in 0..random.below(3) {
            let content = content(random);
            self.streams.insert(identity(random), content);
        }
    }

    /// Now and then, adds a link whose target has the greatest possible length, and one whose target is longer, which has
    /// no place in the new archive.
    fn link_far_down(&mut self, random: &mut Random) {
        if !random.one_in(4) {
            return;
        }
        let root = Place { id: Uuid::nil(), path: Vec::new() };
        let mut parent = root.clone();
        let mut place_below = |model: &mut Model, letter, name: String, parent: &Place| {
            let place = Place {
                id: identity(random),
                path: [&parent.path[..], std::slice::from_ref(&name)].concat(),
            };
            let entry = model.entry(letter, parent.id, name.into_bytes(), random);
            if letter == b'd' {
                model.listings.insert(place.id, Vec::new());
            }
            (place, entry)
        };
        // Sixteen names of 255 bytes and the slashes between them take 4095 bytes.
        for _ in 0..16 {
            let (place, entry) = place_below(self, b'd', "d".repeat(255), &parent);
            self.add(&place, entry, &root);
            parent = place;
        }
        let (file, entry) = place_below(self, b'f', "f".to_owned(), &parent);
        self.add(&file, entry, &root);
        let (link, mut entry) = place_below(self, b'l', "far down".to_owned(), &root);
        entry.owner = parent.id;
        self.add(&link, entry, &parent);
        let (link, mut entry) = place_below(self, b'l', "too far down".to_owned(), &root);
        entry.owner = file.id;
        self.add(&link, entry, &file);
        self.expected.remove(&link.path.join("/"));
        self.left_out += 1;
        self.lost += 1;
    }

    /// Gives the listings stale items and another order.
    fn erase_and_shuffle(&mut self, random: &mut Random) {
        // The identities of erased entries stay behind, in no order.
        for items in self.listings.values_mut() {
            if random.one_in(3) {
                items.push(identity(random));
            }
            let middle = usize::try_from(random.below(items.len() as u64 + 1)).expect("small");
            items.rotate_left(middle);
        }
    }

    fn entry(
        &mut self,
        letter: u8,
        parent: Uuid,
        name: Vec<u8>,
        random: &mut Random,
    ) -> ModelEntry {
        let mut stream = Uuid::nil();
        if letter == b'f' && !random.one_in(5) {
            stream = identity(random);
            self.streams.insert(stream, content(random));
        }
        ModelEntry {
            letter,
            parent,
            owner: identity(random),
            stream,
            modified: i64::try_from(random.below(1 << 32)).expect("small") - (1 << 30),
            is_deleted: false,
            name,
            mode: u16::try_from(random.below(0o1000)).expect("small"),
        }
    }

    fn add(&mut self, place: &Place, entry: ModelEntry, target: &Place) {
        self.listings.get_mut(&entry.parent).expect("a directory").push(place.id);
        if !entry.is_deleted {
            self.expect(place, &entry, target);
        }
        self.entries.insert(place.id, entry);
    }

    fn expect(&mut self, place: &Place, entry: &ModelEntry, target: &Place) {
        let (file_type, content) = match entry.letter {
            b'f' => (FileType::File, self.streams.get(&entry.stream).cloned().unwrap_or_default()),
            b'd' => (FileType::Directory, Vec::new()),
            _ => (FileType::Symlink, target.path.join("/").into_bytes()),
        };
        let attributes = (file_type, u32::from(entry.mode), entry.modified, content);
        self.expected.insert(place.path.join("/"), expected(attributes));
    }

    fn index(&self, streams: &[Chained]) -> Records {
        let chained = streams.iter().filter(|stream| self.streams.contains_key(&stream.id));
        let mut records: Records = chained.map(|stream| (stream.id, stream.record())).collect();
        records.sort();
        records
    }

    fn entry_records(&self, random: &mut Random) -> Records {
        let records = self.entries.iter().map(|(id, entry)| {
            let mut bytes = vec![entry.letter];
            for field in [*id, entry.parent, entry.owner, entry.stream] {
                bytes.extend(field.as_bytes());
            }
            bytes.extend(random.next_word().to_be_bytes());
            bytes.extend(entry.modified.to_be_bytes());
            bytes.extend(random.next_word().to_be_bytes());
            bytes.push(entry.is_deleted.into());
            let mut text = |text: &[u8], length: usize| {
                bytes.extend(text);
                bytes.resize(bytes.len() + length - text.len(), 0);
            };
            text(&entry.name, 256);
            text(b"no such user", 32);
            text(b"no such group", 16);
            bytes.extend(entry.mode.to_be_bytes());
            (*id, bytes)
        });
        records.collect()
    }

    fn path_records(&self) -> Records {
        let mut records: Records = self
            .entries
            .iter()
            .map(|(id, entry)| {
                let value = [&[entry.letter][..], id.as_bytes()].concat();
                (version_5(entry.parent, &entry.name), value)
            })
            .collect();
        records.sort();
        records.dedup_by_key(|(key, _)| *key);
        records
    }

    fn listing_records(&self) -> Records {
        let bytes = |items: &Vec<Uuid>| items.iter().flat_map(|id| *id.as_bytes()).collect();
        self.listings.iter().map(|(id, items)| (*id, bytes(items))).collect()
    }
}

fn expected((file_type, mode, modified, content): (FileType, u32, i64, Vec<u8>)) -> Expected {
    Expected { file_type, mode, modified, content }
}

fn version_5(namespace: Uuid, name: &[u8]) -> Uuid {
    let digest = Sha1::new().chain_update(namespace.as_bytes()).chain_update(name).finalize();
    let bytes = digest[..16].try_into().expect("16 bytes");
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

/// Lays out the blocks of an archive. Each stream has its blocks at random places.
fn blocks(
    kind: usize,
    metadata: &[u8],
    model: &Model,
    edits: &[TreeEdit],
    random: &mut Random,
) -> Vec<Plain> {
    let trash = vec![0; DATA * usize::try_from(random.below(4)).expect("small")];
    // The length of the index does not depend on the places in it, so it is built twice, from one state.
    let state = random.clone();
    let specials = |index: Records| -> Vec<Vec<u8>> {
        let random = &mut state.clone();
        let mut specials = match kind {
            0 => vec![model.streams[&Uuid::nil()].clone()],
            _ => vec![trash.clone()],
        };
        let mut tree = |shape: Shape, records: &Records| {
            let mut bytes = Pages::tree(shape, records, random);
            let edits = edits.iter().filter(|edit| edit.tree == specials.len());
            for edit in edits {
                let at = edit.offset % bytes.len();
                let length = edit.bytes.len().min(bytes.len() - at);
                bytes[at..at + length].copy_from_slice(&edit.bytes[..length]);
                correct(shape, &mut bytes);
            }
            specials.push(bytes);
        };
        if kind >= 2 {
            tree(INDEX, &index);
        }
        if kind == 3 {
            let entries = model.entry_records(&mut Random::new(1));
            tree(ENTRIES, &entries);
            tree(PATHS, &model.path_records());
            tree(LISTINGS, &model.listing_records());
        }
        specials
    };
    let dummy = model.streams.keys().map(|id| (*id, vec![0; 38])).collect();
    let lengths = specials(dummy);
    let others = model.streams.iter().filter(|_| kind >= 2);
    let all = lengths.iter().chain(others.clone().map(|(_, content)| content));
    let count: usize = all.map(|content| content.len() / DATA + 1).sum();
    let mut places: Vec<i32> = (1..=i32::try_from(count).expect("few blocks")).collect();
    shuffle(&mut places, random);
    let streams: Vec<Chained> =
        others.map(|(id, content)| Chained::new(*id, content.clone(), &mut places)).collect();
    let contents = specials(model.index(&streams));
    let first = Plain { previous: -1, next: -1, index: 0, stream: Uuid::nil(), data: Vec::new() };
    let mut blocks = vec![first; count + 1];
    let mut records = Vec::new();
    for (number, content) in contents.into_iter().enumerate() {
        let special = Chained::new(Uuid::from_u128(number as u128), content, &mut places);
        special.write(&mut blocks, random);
        let mut record = special.record();
        if number == 0 && kind > 0 {
            // The trash has no length.
            record[28..36].fill(0);
        }
        records.extend(record);
    }
    for stream in &streams {
        stream.write(&mut blocks, random);
    }
    let mut data = metadata.to_vec();
    data.resize(DATA - records.len(), 0);
    data.extend(records);
    blocks[0].data = data;
    blocks
}

fn shuffle(places: &mut [i32], random: &mut Random) {
    for at in (1..places.len()).rev() {
        let other = usize::try_from(random.below(at as u64 + 1)).expect("small");
        places.swap(at, other);
    }
}
