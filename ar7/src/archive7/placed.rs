//! Where the entries of an old archive come to be: below their directories, or in `lost+found`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use ar7_registry::records::validate_name;
use uuid::Uuid;

use super::import::Loss;
use super::records::{Entry, EntryKind};
use crate::path::to_path;

/// The entries by their identities, and the entries that each directory lists.
pub(super) type Entries = BTreeMap<Uuid, Entry>;
pub(super) type Listings = HashMap<Uuid, Vec<Uuid>>;

/// The most directories above an entry. A path of 4096 bytes, the longest of Linux, has no more.
const DEPTH_MAX: u32 = 2048;

/// The directory of the entries that no directory can take.
const LOST: &str = "lost+found";

/// A name in the new archive.
pub(super) struct Node {
    /// Number of the directory; `None` is the root.
    pub(super) parent: Option<usize>,
    pub(super) name: Vec<u8>,
    /// The entry. The directory `lost+found` has none.
    pub(super) entry: Option<Uuid>,
}

/// The tree of the new archive. A directory comes before its entries.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) nodes: Vec<Node>,
    /// Number of each entry that has a place.
    numbers: HashMap<Uuid, usize>,
    /// The entries in `lost+found`, and why they are there.
    pub(super) lost: Vec<(usize, Loss)>,
    refused: HashMap<Uuid, Loss>,
}

impl Placed {
    /// Gives each live entry one place. Directories that contain each other have none of their own, so
    /// that nothing goes around in a circle.
    pub(super) fn new(entries: &Entries, listings: &Listings) -> Placed {
        let mut placed = Placed::default();
        placed.fill(entries, listings, None, Uuid::nil(), 0);
        let is_left = |id: &&Uuid| {
            !id.is_nil() && !placed.numbers.contains_key(*id) && !entries[*id].is_deleted
        };
        let left: Vec<Uuid> = entries.keys().filter(is_left).copied().collect();
        let is_below = |directory: &Uuid, id: &Uuid| {
            entries.get(id).is_some_and(|entry| entry.parent == *directory)
        };
        let mut below: HashSet<Uuid> = HashSet::new();
        for directory in &left {
            let listed = listings.get(directory).into_iter().flatten();
            below.extend(listed.filter(|id| is_below(directory, id)));
        }
        // First what is not below another one, then what is left: directories that contain each other.
        let tops: Vec<Uuid> = left.iter().filter(|id| !below.contains(*id)).copied().collect();
        for id in tops.into_iter().chain(left) {
            let mut open = vec![id];
            while let Some(id) = open.pop() {
                if !placed.numbers.contains_key(&id) {
                    open.extend(placed.place_lost(entries, listings, id));
                }
            }
        }
        placed
    }

    /// Returns the number of the node of an entry; the root has none.
    pub(super) fn number(&self, id: Uuid) -> Option<usize> {
        self.numbers.get(&id).copied()
    }

    /// Returns the path of a node.
    pub(super) fn path(&self, number: usize) -> PathBuf {
        to_path(self.parts(Some(number)).join(&b'/'))
    }

    /// Returns the path from the directory of a node to another node, or to the root.
    pub(super) fn relative(&self, from: usize, to: Option<usize>) -> Vec<u8> {
        let (from, to) = (self.parts(self.nodes[from].parent), self.parts(to));
        let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
        let up = std::iter::repeat_n(&b".."[..], from.len() - common);
        let path = up.chain(to[common..].iter().copied()).collect::<Vec<_>>().join(&b'/');
        if path.is_empty() { b".".to_vec() } else { path }
    }

    /// Returns the names on the way to a node.
    fn parts(&self, number: Option<usize>) -> Vec<&[u8]> {
        let above = |number: &usize| self.nodes[*number].parent;
        let numbers = std::iter::successors(number, above);
        let mut parts: Vec<&[u8]> = numbers.map(|number| &self.nodes[number].name[..]).collect();
        parts.reverse();
        parts
    }

    /// Places everything below a directory. Returns the entries that it cannot take.
    fn fill(
        &mut self,
        entries: &Entries,
        listings: &Listings,
        number: Option<usize>,
        id: Uuid,
        depth: u32,
    ) -> Vec<Uuid> {
        let mut refused_here = Vec::new();
        let mut open = vec![(number, id, depth)];
        while let Some((parent, directory, depth)) = open.pop() {
            let listed = listings.get(&directory).into_iter().flatten();
            let mut listed: Vec<(Uuid, &Entry)> = listed
                .filter_map(|id| entries.get(id).map(|entry| (*id, entry)))
                .filter(|(id, entry)| {
                    entry.parent == directory && !entry.is_deleted && !id.is_nil()
                })
                .collect();
            listed.sort_unstable_by_key(|(id, entry)| (&entry.name, *id));
            listed.dedup_by_key(|(id, _)| *id);
            let mut names = HashSet::new();
            for (id, entry) in listed {
                // A directory of `lost+found` may list an entry that is already there.
                if self.numbers.contains_key(&id) {
                    continue;
                }
                let name = || entry.name.clone();
                let refused = if validate_name(&entry.name).is_err() {
                    Some(Loss::Name { name: name() })
                } else if depth >= DEPTH_MAX {
                    Some(Loss::TooDeep { name: name(), limit: DEPTH_MAX })
                } else if names.insert(&entry.name) {
                    None
                } else {
                    Some(Loss::NameTaken { name: name() })
                };
                if let Some(loss) = refused {
                    self.refused.insert(id, loss);
                    refused_here.push(id);
                    continue;
                }
                let number = self.add(parent, entry.name.clone(), Some(id));
                if entry.kind == EntryKind::Directory {
                    open.push((Some(number), id, depth + 1));
                }
            }
        }
        refused_here
    }

    /// Places an entry in `lost+found`, with everything below it. Returns the entries that cannot be there.
    fn place_lost(&mut self, entries: &Entries, listings: &Listings, id: Uuid) -> Vec<Uuid> {
        let first = self.lost.first().and_then(|(number, _)| self.nodes[*number].parent);
        let directory = first.unwrap_or_else(|| {
            let in_root = self.nodes.iter().filter(|node| node.parent.is_none());
            let taken: HashSet<&[u8]> = in_root.map(|node| &node.name[..]).collect();
            let (mut name, mut number) = (LOST.to_owned(), 2_u64);
            while taken.contains(name.as_bytes()) {
                name = format!("{LOST}-{number}");
                number += 1;
            }
            self.add(None, name.into_bytes(), None)
        });
        let entry = &entries[&id];
        let number = self.add(Some(directory), id.to_string().into_bytes(), Some(id));
        let unlisted = || Loss::Unlisted { name: entry.name.clone() };
        let loss = self.refused.remove(&id).unwrap_or_else(unlisted);
        self.lost.push((number, loss));
        if entry.kind != EntryKind::Directory {
            return Vec::new();
        }
        self.fill(entries, listings, Some(number), id, 2)
    }

    fn add(&mut self, parent: Option<usize>, name: Vec<u8>, entry: Option<Uuid>) -> usize {
        let number = self.nodes.len();
        self.nodes.push(Node { parent, name, entry });
        self.numbers.extend(entry.map(|id| (id, number)));
        number
    }
}
