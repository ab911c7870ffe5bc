//! Rule about Markdown: every test and every file that a table names exists.

use std::collections::HashSet;

use super::Violation;

/// Minimum number of words in the name of a test. Other code spans in tables are shorter.
const WORDS_MIN: usize = 4;

/// The tests named in documents, and the functions that exist.
#[derive(Default)]
pub(super) struct NamedTests {
    named: Vec<(String, usize, String)>,
    paths: Vec<(String, usize, String)>,
    functions: HashSet<String>,
    files: HashSet<String>,
}

impl NamedTests {
    /// Records the tests named in the tables of a document.
    pub(super) fn add_document(&mut self, file: &str, text: &str) {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.starts_with('|')) {
            let spans = line.split('`').skip(1).step_by(2);
            let named = spans.filter(|span| is_name_of_test(span));
            self.named.extend(named.map(|name| (file.to_owned(), number, name.to_owned())));
            let spans = line.split('`').skip(1).step_by(2);
            let paths = spans.filter(|span| span.contains('/') && super::has_extension(span, "rs"));
            self.paths.extend(paths.map(|path| (file.to_owned(), number, path.to_owned())));
        }
    }

    /// Records a file.
    pub(super) fn add_file(&mut self, file: &str) {
        self.files.insert(file.to_owned());
    }

    /// Records the functions of a Rust file.
    pub(super) fn add_functions(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((_, after)) = line.split_once("fn ") {
                let end = after.find(|letter: char| !is_of_name(letter)).unwrap_or(after.len());
                self.functions.insert(after[..end].to_owned());
            }
        }
    }

    /// Reports tests that are named but do not exist.
    pub(super) fn check(&self, violations: &mut Vec<Violation>) {
        for (file, number, name) in &self.named {
            if !self.functions.contains(name) {
                let message = format!("names the test '{name}', which is not in the tree");
                violations.push(Violation::new(file, *number, message));
            }
        }
        for (file, number, path) in &self.paths {
            if !self.files.iter().any(|known| known == path || known.ends_with(&format!("/{path}")))
            {
                let message = format!("names the file '{path}', which is not in the tree");
                violations.push(Violation::new(file, *number, message));
            }
        }
    }
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
}

fn is_name_of_test(span: &str) -> bool {
    span.chars().all(is_of_name) && span.split('_').count() >= WORDS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(document: &str, code: &str) -> usize {
        let mut tests = NamedTests::default();
        tests.add_document("a.md", document);
        tests.add_functions(code);
        tests.add_file("crate/src/known.rs");
        let mut violations = Vec::new();
        tests.check(&mut violations);
        violations.len()
    }

    #[test]
    fn named_tests_must_exist() {
        let document = "| a rule | `this_is_held_by_it`, `and_this_by_another_one` |";
        let both = "    fn this_is_held_by_it() {}\nfn and_this_by_another_one() {}";
        assert_eq!(missing(document, both), 0);
        assert_eq!(missing(document, "fn this_is_held_by_it() {}"), 1);
        assert_eq!(missing(document, ""), 2);
    }

    #[test]
    fn other_words_are_ignored() {
        assert_eq!(missing("| `previous_link` | `a_file_without_a_folder.rs` |", ""), 0);
    }

    #[test]
    fn named_files_must_exist() {
        assert_eq!(missing("| `src/known.rs`, `crate/src/known.rs` |", ""), 0);
        assert_eq!(missing("| `crate/src/unknown.rs` |", ""), 1);
        assert_eq!(missing("`this_is_held_by_it` outside of a table", ""), 0);
    }
}
