//! The states that a mounted archive goes through.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;
use xtask::error::{Error, Result};

use super::fault;

/// Bytes of a word of content.
const WORD: usize = 8;

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    /// All words of a file are the same, and no two writes write the same one.
    File {
        word: u64,
        words: u64,
    },
}

/// The entries by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State(pub(super) BTreeMap<String, Node>);

impl State {
    /// Reads the state of a directory.
    pub(super) fn read(directory: &Path) -> Result<State> {
        let mut entries = BTreeMap::new();
        for entry in WalkDir::new(directory).min_depth(1) {
            let entry = entry.map_err(|error| fault(error.to_string()))?;
            let path = entry.path();
            let name = path.strip_prefix(directory).unwrap_or(path).display().to_string();
            let node = if entry.file_type().is_dir() { Node::Directory } else { file(path)? };
            entries.insert(name, node);
        }
        Ok(State(entries))
    }

    /// Returns the names of files, or of directories.
    pub(super) fn names(&self, of_directories: bool) -> Vec<&String> {
        let is_wanted = |node: &Node| (*node == Node::Directory) == of_directories;
        self.0.iter().filter(|(_, node)| is_wanted(node)).map(|(name, _)| name).collect()
    }

    pub(super) fn has_below(&self, name: &str) -> bool {
        self.0.keys().any(|other| is_below(other, name))
    }

    /// Moves an entry with everything below it.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let moved: Vec<String> =
            self.0.keys().filter(|name| *name == from || is_below(name, from)).cloned().collect();
        for name in moved {
            if let Some(node) = self.0.remove(&name) {
                self.0.insert(name.replacen(from, to, 1), node);
            }
        }
    }
}

pub(super) fn is_below(name: &str, directory: &str) -> bool {
    name.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the content of a file.
pub(super) fn content(word: u64, words: u64) -> Vec<u8> {
    let count = usize::try_from(words).unwrap_or(0);
    word.to_le_bytes().repeat(count)
}

fn file(path: &Path) -> Result<Node> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let first = bytes.first_chunk::<WORD>().map_or(0, |word| u64::from_le_bytes(*word));
    let words = (bytes.len() / WORD) as u64;
    if bytes != content(first, words) {
        return Err(fault(format!("{} has content of two writes", path.display())));
    }
    Ok(Node::File { word: first, words })
}
