//! Rules about `unsafe`: the directories that may contain it, and the committed counts, which may only fall.
//!
//! clippy checks the SAFETY comments.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proc_macro2::TokenStream;

use super::Violation;
use super::rust::{each_level, ident, line_of};
use xtask::error::{Error, Result};

/// The file with the number of `unsafe` uses in each file. A change may lower a number; raising one requires an edit of
/// this file.
pub(super) const COMMITTED: &str = "xtask/unsafe-counts.txt";

/// The directories in which `unsafe` is allowed.
const ALLOWED: [&str; 4] = [
    "engine/src/device/",
    "engine/src/crypto/digest/x86_64/",
    "engine/src/process.rs",
    "fuzz/src/campaigns/mount_model/mapping.rs",
];

/// The numbers of `unsafe` uses found, by file.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<String, usize>);

/// Checks one file and counts it.
pub(super) fn check(file: &str, text: &str, counts: &mut Counts, violations: &mut Vec<Violation>) {
    // Other rules report a file that is not valid Rust.
    let Ok(stream) = text.parse::<TokenStream>() else { return };
    let mut uses = Vec::new();
    each_level(&stream, &mut |level| {
        let is_unsafe = |word: String| word == "unsafe";
        uses.extend(level.iter().filter(|&token| ident(token).is_some_and(is_unsafe)).map(line_of));
    });
    if uses.is_empty() {
        return;
    }
    uses.sort_unstable();
    for &line in &uses {
        if !ALLOWED.iter().any(|folder| file.starts_with(folder)) {
            let message = format!("unsafe outside {}", ALLOWED.join(", "));
            violations.push(Violation::new(file, line, message));
        }
    }
    counts.0.insert(file.to_owned(), uses.len());
}

impl Counts {
    /// Compares the counts with the committed ones.
    pub(super) fn compare(&self, root: &Path, violations: &mut Vec<Violation>) -> Result<()> {
        let path = root.join(COMMITTED);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        self.compare_with(&text, violations);
        Ok(())
    }

    fn compare_with(&self, committed: &str, violations: &mut Vec<Violation>) {
        let mut limits: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, line) in (1..).zip(committed.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry =
                line.split_once(' ').and_then(|(count, file)| Some((file, count.parse().ok()?)));
            match entry {
                Some((file, count)) => drop(limits.insert(file, count)),
                None => violations.push(Violation::new(COMMITTED, number, "is not 'COUNT FILE'")),
            }
        }
        for (file, &found) in &self.0 {
            let limit = limits.remove(file.as_str()).unwrap_or(0);
            if found > limit {
                let message = format!("{found} uses of unsafe, expected at most {limit}");
                violations.push(Violation::new(file, None, message));
            } else if found < limit {
                let message = format!("{file} has {found} uses of unsafe: lower its {limit}");
                violations.push(Violation::new(COMMITTED, None, message));
            }
        }
        for (file, limit) in limits {
            let message = format!("{file} has no use of unsafe: remove its {limit}");
            violations.push(Violation::new(COMMITTED, None, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> (Counts, Vec<String>) {
        let (mut counts, mut violations) = (Counts::default(), Vec::new());
        check(file, text, &mut counts, &mut violations);
        (counts, violations.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn unsafe_is_found_where_it_is_not_allowed() {
        let text = "fn f() {\nunsafe { g() } }";
        for allowed in ALLOWED {
            assert_eq!(found(&format!("{allowed}map.rs"), text).1, [""; 0]);
        }
        for file in ["engine/src/store/map.rs", "engine/src/crypto/seal.rs"] {
            let message = format!("{file}:2: unsafe outside {}", ALLOWED.join(", "));
            assert_eq!(found(file, text).1, [message]);
        }
    }

    #[test]
    fn only_the_keyword_is_counted() {
        let text = "#![deny(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\";";
        assert!(found("a.rs", text).0.0.is_empty());
        let twice = "m! { unsafe { unsafe {} } }";
        assert_eq!(found("a.rs", twice).0.0["a.rs"], 2);
    }

    #[test]
    fn counts_may_only_fall() {
        let counts = Counts(BTreeMap::from([("a.rs".to_owned(), 2)]));
        let compared = |committed: &str| {
            let mut violations = Vec::new();
            counts.compare_with(committed, &mut violations);
            violations.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(compared("# COUNT FILE\n\n2 a.rs\n"), [""; 0]);
        assert_eq!(compared("1 a.rs"), ["a.rs: 2 uses of unsafe, expected at most 1"]);
        assert_eq!(compared(""), ["a.rs: 2 uses of unsafe, expected at most 0"]);
        assert_eq!(compared("3 a.rs").len(), 1);
        assert_eq!(compared("2 a.rs\n1 b.rs").len(), 1);
        assert_eq!(compared("2 a.rs\nmany b.rs").len(), 1);
    }
}
