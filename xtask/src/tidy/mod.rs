//! `cargo xtask tidy`: the style rules that a program checks.
//!
//! Rules about Rust code read tokens, so comments and strings never trigger them. Each rule has a test that violates
//! it.

mod cycles;
mod faults;
mod layers;
mod links;
mod named_tests;
mod rust;
mod text;
mod unsafe_code;

use std::fmt;
use std::fs;
use std::path::Path;

use xtask::error::{Error, Result};
use xtask::workspace;

/// One violation of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    file: String,
    /// The line, from 1; `None` for the whole file.
    line: Option<usize>,
    message: String,
}

impl Violation {
    fn new(file: &str, line: impl Into<Option<usize>>, message: impl Into<String>) -> Violation {
        Violation { file: file.to_owned(), line: line.into(), message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Checks the whole tree, prints every violation, and fails if there is one.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let mut violations = check_files(&root)?;
    violations.extend(layers::check(&workspace::metadata()?));
    if !workspace::is_tracked(&root, "Cargo.lock")? {
        violations.push(Violation::new("Cargo.lock", None, "is not committed"));
    }
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => Err(Error::Untidy { count }),
    }
}

/// Applies every rule about files.
fn check_files(root: &Path) -> Result<Vec<Violation>> {
    let files = workspace::files(root)?;
    let mut violations = Vec::new();
    let mut named_tests = named_tests::NamedTests::default();
    let mut unsafe_counts = unsafe_code::Counts::default();
    let mut imports = cycles::Imports::default();
    let mut faults = faults::Faults::default();
    let mut command = rust::CommandLines::default();
    for file in &files {
        let path = root.join(file);
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            continue;
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let Some(text) = text::readable(file, &bytes, &mut violations) else { continue };
        text::check(file, text, &mut violations);
        if has_extension(file, "md") {
            links::check(root, &files, file, text, &mut violations);
            named_tests.add_document(file, text);
        }
        if has_extension(file, "rs") {
            rust::check(file, text, &mut violations);
            named_tests.add_functions(text);
            named_tests.add_file(file);
            imports.add_file(file, text);
            faults.add_file(file, text);
            command.add_file(file, text);
            unsafe_code::check(file, text, &mut unsafe_counts, &mut violations);
        }
    }
    named_tests.check(&mut violations);
    imports.check(&mut violations);
    faults.check(&mut violations);
    command.check(&mut violations);
    unsafe_counts.compare(root, &mut violations)?;
    Ok(violations)
}

fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|found| found == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of violations in a tree of these files.
    fn count(files: &[(&str, &[u8])]) -> usize {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("xtask")).unwrap();
        fs::write(folder.path().join(unsafe_code::COMMITTED), "").unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        check_files(folder.path()).unwrap().len()
    }

    #[test]
    fn every_kind_of_file_is_checked() {
        assert_eq!(count(&[("a.rs", b"fn main() {}"), ("b.md", b"[a](a.rs)")]), 0);
        assert_eq!(count(&[("a.rs", b"#[test] fn nothing() {}")]), 1);
        assert_eq!(count(&[("b.md", b"[a](a.rs)")]), 1);
        assert_eq!(count(&[("c.bin", b"\0")]), 1);
        // The directory, and the count, which is not committed.
        assert_eq!(count(&[("d.rs", b"fn f() { unsafe {} }")]), 2);
    }

    #[test]
    fn a_violation_shows_file_and_line() {
        assert_eq!(Violation::new("a.rs", 3, "is odd").to_string(), "a.rs:3: is odd");
        assert_eq!(Violation::new("a.rs", None, "is odd").to_string(), "a.rs: is odd");
    }
}
