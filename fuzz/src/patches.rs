//! One-line patches: each breaks one check of the product, and names the fuzz targets or campaigns that must find it.
//!
//! The files in `fuzz/patches` list them, one file for each crate. Planted faults ([`ar7_engine::PlantedFault`]) are in
//! the product behind the feature `testing`; a patch needs no line there, but each patch needs a separate build.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::Deserialize;

/// A patch of one place in one file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The name, in kebab case.
    pub name: String,
    /// The wrong behaviour, in one sentence.
    pub what: String,
    /// The file, relative to the root of the tree.
    pub file: String,
    /// The text to replace, which occurs exactly once in the file.
    pub from: String,
    /// The replacement.
    pub to: String,
    /// The targets that must find the patch, each with a limit on the number of executions.
    #[serde(default)]
    pub targets: Vec<(String, u64)>,
    /// The campaigns that must find it, each with its options. They run the patched program.
    #[serde(default)]
    pub campaigns: Vec<Vec<String>>,
}

/// The reason why a patch is unusable.
#[derive(Debug)]
pub enum Unusable {
    /// A file or the directory cannot be read.
    Io(PathBuf, io::Error),
    /// A list is malformed.
    Malformed(PathBuf, Box<toml::de::Error>),
    /// The text to replace does not occur exactly once.
    Occurrences {
        /// The name of the patch.
        name: String,
        /// The file.
        file: String,
        /// The number of occurrences of the text.
        found: usize,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Io(path, error) => write!(formatter, "{}: {error}", path.display()),
            Unusable::Malformed(path, error) => write!(formatter, "{}: {error}", path.display()),
            Unusable::Occurrences { name, file, found } => {
                write!(
                    formatter,
                    "patch {name}: expected its text once in {file}, found it {found} times"
                )
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    patch: Vec<Patch>,
}

/// Returns the patches listed in the tree at `root`, in the order of their files.
pub fn patches(root: &Path) -> Result<Vec<Patch>, Unusable> {
    let folder = root.join("fuzz/patches");
    let unreadable = |error| Unusable::Io(folder.clone(), error);
    let entries = fs::read_dir(&folder).map_err(unreadable)?;
    let mut lists = Vec::new();
    for entry in entries {
        lists.push(entry.map_err(unreadable)?.path());
    }
    lists.sort();
    let mut patches = Vec::new();
    for path in lists {
        let text = fs::read_to_string(&path).map_err(|error| Unusable::Io(path.clone(), error))?;
        let list: List =
            toml::from_str(&text).map_err(|error| Unusable::Malformed(path, Box::new(error)))?;
        patches.extend(list.patch);
    }
    Ok(patches)
}

impl Patch {
    /// Returns the text of the patched file in the tree at `root`.
    pub fn patched(&self, root: &Path) -> Result<String, Unusable> {
        let path = root.join(&self.file);
        let source = fs::read_to_string(&path).map_err(|error| Unusable::Io(path, error))?;
        match source.matches(&self.from).count() {
            1 => Ok(source.replacen(&self.from, &self.to, 1)),
            found => Err(Unusable::Occurrences {
                name: self.name.clone(),
                file: self.file.clone(),
                found,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_applies_only_where_its_text_occurs_once() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("fuzz/patches")).unwrap();
        let list = "[[patch]]\nname = \"wrap\"\nwhat = \"Sums wrap.\"\nfile = \"sum.rs\"\nfrom = 'a + b'\n\
                    to = 'a.wrapping_add(b)'\ntargets = [[\"sums\", 10]]\n";
        fs::write(tree.path().join("fuzz/patches/sums.toml"), list).unwrap();
        let patches = patches(tree.path()).unwrap();
        let [patch] = &patches[..] else { panic!("{patches:?}") };
        assert_eq!(patch.targets, [("sums".to_owned(), 10)]);
        for (source, expected) in [
            ("fn sum() { a + b }", Ok("fn sum() { a.wrapping_add(b) }")),
            ("a * b", Err("patch wrap: expected its text once in sum.rs, found it 0 times")),
            (
                "a + b + a + b",
                Err("patch wrap: expected its text once in sum.rs, found it 2 times"),
            ),
        ] {
            fs::write(tree.path().join("sum.rs"), source).unwrap();
            let patched = patch.patched(tree.path()).map_err(|unusable| unusable.to_string());
            assert_eq!(patched.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn a_list_with_an_unknown_field_is_malformed() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("fuzz/patches")).unwrap();
        fs::write(tree.path().join("fuzz/patches/one.toml"), "[[patch]]\nfrm = ''\n").unwrap();
        assert!(matches!(patches(tree.path()), Err(Unusable::Malformed(..))));
    }
}
