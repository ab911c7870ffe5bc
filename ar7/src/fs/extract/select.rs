//! What an extraction restores, and where.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ar7_registry::Snapshot;
use ar7_registry::names::Entry;
use ar7_registry::records::{EntryType, InodeNumber};

use super::Options;
use super::report::Reporter;
use crate::error::Result;
use crate::fs::stored::{Step, Walk, find};
use crate::path::components;

/// A directory of the archive, and the entries of it that are restored directly into the destination.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) directory: InodeNumber,
    pub(super) path: Vec<u8>,
    /// `None` for all entries.
    pub(super) chosen: Option<BTreeMap<Vec<u8>, Chosen>>,
}

/// An entry that was chosen, or a directory on the way to one.
#[derive(Clone, Default)]
pub(super) struct Chosen {
    /// Whether it is restored with everything in it.
    pub(super) is_whole: bool,
    /// Otherwise, the entries in it that are chosen.
    pub(super) below: BTreeMap<Vec<u8>, Chosen>,
}

/// Finds the paths of an extraction. Reports those that do not exist.
///
/// A path is restored under its last component. If two of them have the same one, all are restored under their whole
/// paths.
pub(super) fn sources(
    snapshot: &Snapshot,
    options: &Options,
    reporter: &Reporter<'_>,
) -> Result<Vec<Source>> {
    let everything = Source { directory: InodeNumber::ROOT, path: Vec::new(), chosen: None };
    if options.paths.is_empty() {
        return Ok(vec![everything]);
    }
    let mut paths: Vec<Vec<&[u8]>> = Vec::new();
    for path in &options.paths {
        let names: Vec<&[u8]> = components(path).collect();
        if let Err(error) = find(snapshot, &names.join(&b'/')) {
            reporter.failed(|| path.clone(), error);
            reporter.check()?;
        } else if names.is_empty() {
            return Ok(vec![everything]);
        } else if !paths.contains(&names) {
            paths.push(names);
        }
    }
    let lasts: BTreeSet<&&[u8]> = paths.iter().filter_map(|names| names.last()).collect();
    if options.whole_paths || lasts.len() < paths.len() {
        let mut top = BTreeMap::new();
        for names in &paths {
            choose(&mut top, names);
        }
        return Ok(vec![Source { chosen: Some(top), ..everything }]);
    }
    let source = |names: &Vec<&[u8]>| {
        let Some((last, above)) = names.split_last() else { return Ok(None) };
        let path = above.join(&b'/');
        let directory = find(snapshot, &path)?.number;
        let chosen = Chosen { is_whole: true, below: BTreeMap::new() };
        let chosen = Some(BTreeMap::from([(last.to_vec(), chosen)]));
        Ok(Some(Source { directory, path, chosen }))
    };
    paths.iter().filter_map(|names| source(names).transpose()).collect()
}

/// Adds a path. A path below a chosen entry adds nothing.
fn choose(top: &mut BTreeMap<Vec<u8>, Chosen>, names: &[&[u8]]) {
    let mut level = top;
    for (index, name) in names.iter().enumerate() {
        let chosen = level.entry(name.to_vec()).or_default();
        if chosen.is_whole {
            return;
        }
        if index + 1 == names.len() {
            *chosen = Chosen { is_whole: true, below: BTreeMap::new() };
            return;
        }
        level = &mut chosen.below;
    }
}

/// Returns the number of bytes of content in the sources, or `None` if `is_over` says so before the end.
pub(super) fn total(
    snapshot: &Snapshot,
    sources: Vec<Source>,
    is_over: impl Fn() -> bool,
) -> Option<u64> {
    let mut bytes = 0_u64;
    for Source { directory, path, chosen } in sources {
        let top = chosen.as_ref().map(|chosen| entries(snapshot, directory, chosen));
        let mut walk = Walk::new(snapshot, directory, path, top);
        let mut levels = vec![chosen];
        while let Some(step) = walk.next() {
            if is_over() {
                return None;
            }
            // The extraction itself reports what cannot be read.
            let Ok(step) = step else { continue };
            let Step::Entry(found) = step else {
                levels.pop();
                continue;
            };
            if found.inode.kind == EntryType::File {
                bytes = bytes.saturating_add(found.inode.size);
            } else if found.is_directory() {
                let chosen = levels.last_mut().and_then(Option::as_mut);
                let chosen = chosen.and_then(|chosen| chosen.remove(&found.name));
                let below = chosen.filter(|chosen| !chosen.is_whole).map(|chosen| chosen.below);
                let within = below.as_ref().map(|below| entries(snapshot, found.number, below));
                if walk.enter(&found, within).is_ok() {
                    levels.push(below);
                }
            }
        }
    }
    Some(bytes)
}

/// Returns the entries of a directory that were chosen, as far as they can be read.
fn entries(
    snapshot: &Snapshot,
    directory: InodeNumber,
    chosen: &BTreeMap<Vec<u8>, Chosen>,
) -> VecDeque<Entry> {
    let found = chosen.keys().filter_map(|name| snapshot.lookup(directory, name).ok().flatten());
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::path::to_path;

    fn chosen(paths: &[&str]) -> String {
        fn text(level: &BTreeMap<Vec<u8>, Chosen>) -> String {
            let names = level.iter().map(|(name, chosen)| {
                let name = to_path(name.clone()).display().to_string();
                if chosen.is_whole { name } else { format!("{name}({})", text(&chosen.below)) }
            });
            names.collect::<Vec<String>>().join(" ")
        }
        let mut top = BTreeMap::new();
        for path in paths {
            choose(&mut top, &components(Path::new(path)).collect::<Vec<_>>());
        }
        text(&top)
    }

    #[test]
    fn paths_form_a_tree_in_which_the_shortest_path_counts() {
        assert_eq!(chosen(&["x/f", "x/d/f", "./y//"]), "x(d(f) f) y");
        assert_eq!(chosen(&["x", "x/d/f"]), "x");
        assert_eq!(chosen(&["x/d/f", "x"]), "x");
    }
}
