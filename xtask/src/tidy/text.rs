//! Rules about any file: it is text, and holds no note of work left undone.

use super::Violation;

/// Words that stand for work left undone, put together here so that this file does not hold them.
const LEFT_UNDONE: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Where binary files may lie: archives and parts of them that tests read, and inputs of the fuzz targets.
const BINARY_ALLOWED: [&str; 3] = ["docs/vectors/", "fuzz/seeds/", "fuzz/regressions/"];

/// The file's text. A binary file has none, and is a violation unless it is a vector.
pub(super) fn readable<'a>(
    file: &str,
    bytes: &'a [u8],
    violations: &mut Vec<Violation>,
) -> Option<&'a str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    if text.is_none() && !BINARY_ALLOWED.iter().any(|folder| file.starts_with(folder)) {
        let message = format!("is binary, and in none of {}", BINARY_ALLOWED.join(", "));
        violations.push(Violation::new(file, None, message));
    }
    text
}

/// Checks the words of one file.
pub(super) fn check(file: &str, text: &str, violations: &mut Vec<Violation>) {
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        if let Some(word) = words.find(|word| LEFT_UNDONE.contains(word)) {
            violations.push(Violation::new(file, number, format!("{word}: do it or drop it")));
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
    fn work_left_undone_is_found() {
        for word in LEFT_UNDONE {
            assert_eq!(lines(&format!("fine\n// {word}: later\n")), [Some(2)]);
            assert_eq!(lines(&format!("{word}(name)")), [Some(1)]);
            assert_eq!(lines(&format!("a{word}b {word}{word} {}", word.to_lowercase())), []);
        }
    }

    #[test]
    fn binary_files_are_vectors_or_violations() {
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
