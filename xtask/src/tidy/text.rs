//! Rules about any file: it is text, and contains no note of unfinished work.

use super::Violation;

/// Words that mark unfinished work, concatenated so that this file does not contain them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Directories that may contain binary files: archives and parts of archives for tests, and inputs of the fuzz targets.
const BINARY_ALLOWED: [&str; 3] = ["docs/vectors/", "fuzz/seeds/", "fuzz/regressions/"];

/// Returns the text of a file. A binary file has none, and is a violation outside of the allowed directories.
pub(super) fn readable<'a>(
    file: &str,
    bytes: &'a [u8],
    violations: &mut Vec<Violation>,
) -> Option<&'a str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    if text.is_none() && !BINARY_ALLOWED.iter().any(|folder| file.starts_with(folder)) {
        let message = format!("is binary, and outside of {}", BINARY_ALLOWED.join(", "));
        violations.push(Violation::new(file, None, message));
    }
    text
}

/// Checks the words of one file.
pub(super) fn check(file: &str, text: &str, violations: &mut Vec<Violation>) {
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        if let Some(word) = words.find(|word| UNFINISHED.contains(word)) {
            violations.push(Violation::new(file, number, format!("{word}: finish or remove it")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Option<usize>> {
        let mut violations = Vec::new();
        check("a.txt", text, &mut violations);
        violations.iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn unfinished_work_is_found() {
        for word in UNFINISHED {
            assert_eq!(lines(&format!("fine\n// {word}: later\n")), [Some(2)]);
            assert_eq!(lines(&format!("{word}(name)")), [Some(1)]);
            assert_eq!(lines(&format!("a{word}b {word}{word} {}", word.to_lowercase())), []);
        }
    }

    #[test]
    fn binary_files_are_allowed_only_in_their_folders() {
        let mut violations = Vec::new();
        for folder in BINARY_ALLOWED {
            assert_eq!(readable(&format!("{folder}a"), b"\0", &mut violations), None);
        }
        assert_eq!(readable("a.rs", b"fn", &mut violations), Some("fn"));
        assert_eq!(violations, []);
        assert_eq!(readable("a.ar7", b"\0", &mut violations), None);
        assert_eq!(readable("b.txt", b"\xff", &mut violations), None);
        assert_eq!(violations.len(), 2);
    }
}
