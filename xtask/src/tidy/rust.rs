//! Rules about Rust code, read as tokens.

mod functions;
mod tokens;

pub(super) use tokens::{each_level, ident, line_of, test_lines};

use proc_macro2::TokenStream;

use self::tokens::Lines;
use super::Violation;

/// Maximum number of lines of a file without its tests, so that it can be read in one sitting.
const FILE_LINES_MAX: usize = 600;

/// Maximum number of lines of the command, so that its logic stays in the library.
const COMMAND_LINES_MAX: usize = 1999;

/// The number of lines of the command.
#[derive(Default)]
pub(super) struct CommandLines(usize);

impl CommandLines {
    pub(super) fn add_file(&mut self, file: &str, text: &str) {
        if file.starts_with("cli/src/") {
            self.0 += text.lines().count();
        }
    }

    pub(super) fn check(&self, violations: &mut Vec<Violation>) {
        if self.0 > COMMAND_LINES_MAX {
            let message = format!("has {} lines, at most {COMMAND_LINES_MAX}", self.0);
            violations.push(Violation::new("cli/src", None, message));
        }
    }
}

/// Checks one file.
pub(super) fn check(file: &str, text: &str, violations: &mut Vec<Violation>) {
    let stream: TokenStream = match text.parse() {
        Ok(stream) => stream,
        Err(error) => {
            violations.push(Violation::new(file, None, format!("is not Rust: {error}")));
            return;
        }
    };
    let all_tests = is_test_file(file);
    let test_lines = tokens::test_lines(&stream);
    let functions = functions::find(&stream);

    if !all_tests {
        check_file_length(file, text, &test_lines, violations);
    }
    for function in functions.iter().filter(|function| function.is_test && !function.asserts) {
        let message = format!("test `{}` asserts nothing", function.name);
        violations.push(Violation::new(file, function.line, message));
    }
}

/// Returns whether a whole file consists of tests.
pub(super) fn is_test_file(file: &str) -> bool {
    let mut parts = file.rsplit('/');
    parts.next() == Some("tests.rs") || parts.any(|folder| folder == "tests")
}

fn check_file_length(file: &str, text: &str, tests: &[Lines], violations: &mut Vec<Violation>) {
    let in_tests = |line: usize| tests.iter().any(|lines| lines.contains(line));
    let count = (1..).zip(text.lines()).filter(|(number, _)| !in_tests(*number)).count();
    if count > FILE_LINES_MAX {
        let message = format!("has {count} lines without its tests, at most {FILE_LINES_MAX}");
        violations.push(Violation::new(file, None, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(file: &str, text: &str) -> Vec<String> {
        let mut violations = Vec::new();
        check(file, text, &mut violations);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_long_command_is_found() {
        let messages = |lines: &[usize]| {
            let (mut command, mut violations) = (CommandLines::default(), Vec::new());
            for &count in lines {
                command.add_file("cli/src/a.rs", &"\n".repeat(count));
            }
            command.add_file("ar7/src/a.rs", "\n");
            command.check(&mut violations);
            violations.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(messages(&[1000, 999]), [""; 0]);
        assert_eq!(messages(&[1000, 1000]), ["cli/src: has 2000 lines, at most 1999"]);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(messages("a.rs", &"\n".repeat(600)), [""; 0]);
        let found = messages("a.rs", &"\n".repeat(601));
        assert_eq!(found, ["a.rs: has 601 lines without its tests, at most 600"]);
        for tests in ["engine/tests/a.rs", "engine/src/tests.rs", "tests/b/c.rs"] {
            assert_eq!(messages(tests, &"\n".repeat(601)), [""; 0]);
        }
    }

    #[test]
    fn tests_inside_a_file_are_not_counted() {
        let tail = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(500));
        assert_eq!(messages("a.rs", &("\n".repeat(600) + &tail)), [""; 0]);
        assert_eq!(messages("a.rs", &("\n".repeat(601) + &tail)).len(), 1);
        let not_tests = tail.replace("cfg(test)", "cfg(not(test))");
        assert_eq!(messages("a.rs", &("\n".repeat(600) + &not_tests)).len(), 1);
    }

    #[test]
    fn a_test_without_an_assertion_is_found() {
        let found = messages("a.rs", "\n#[test]\nfn nothing() { run(\"assert\"); }");
        assert_eq!(found, ["a.rs:3: test `nothing` asserts nothing"]);
        let inside = "proptest! { #[test] fn nothing(a in 0..3) { run(a); } }";
        assert_eq!(messages("a.rs", inside).len(), 1);
    }

    #[test]
    fn invalid_rust_is_found() {
        assert!(messages("a.rs", "fn f( {").concat().starts_with("a.rs: is not Rust"));
    }
}
