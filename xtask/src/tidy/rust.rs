//! Rules about Rust code, read as tokens.

mod functions;
mod tokens;

pub(super) use tokens::{Tokens, each_level, ident, line_of};

use proc_macro2::{TokenStream, TokenTree};

use self::functions::Function;
use self::tokens::Lines;
use super::Violation;

/// A file is read in one sitting: lines without its tests.
const FILE_LINES_MAX: usize = 600;

/// A function fits a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Macros that stand for code that is not there yet, or for a look at it.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

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
        check_function_lengths(file, &functions, &test_lines, violations);
    }
    check_macros(file, &stream, violations);
    for function in functions.iter().filter(|function| function.is_test && !function.asserts) {
        let message = format!("test `{}` asserts nothing", function.name);
        violations.push(Violation::new(file, function.lines.first, message));
    }
}

/// Files that are tests from the first line to the last.
fn is_test_file(file: &str) -> bool {
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

fn check_function_lengths(
    file: &str,
    functions: &[Function],
    tests: &[Lines],
    violations: &mut Vec<Violation>,
) {
    for function in functions {
        let in_tests = tests.iter().any(|lines| lines.contains(function.lines.first));
        let count = function.lines.count();
        if count > FUNCTION_LINES_MAX && !function.is_test && !in_tests {
            let name = &function.name;
            let message = format!("`{name}` has {count} lines, at most {FUNCTION_LINES_MAX}");
            violations.push(Violation::new(file, function.lines.first, message));
        }
    }
}

fn check_macros(file: &str, stream: &TokenStream, violations: &mut Vec<Violation>) {
    each_level(stream, &mut |level: &Tokens| {
        for window in level.windows(3) {
            let [name, TokenTree::Punct(mark), TokenTree::Group(_)] = window else { continue };
            let Some(name) = ident(name).filter(|_| mark.as_char() == '!') else { continue };
            if UNFINISHED.contains(&name.as_str()) {
                let message = format!("{name}! is not for committed code");
                violations.push(Violation::new(file, line_of(&window[0]), message));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(file: &str, text: &str) -> Vec<String> {
        let mut violations = Vec::new();
        check(file, text, &mut violations);
        violations.iter().map(ToString::to_string).collect()
    }

    fn long_function(attribute: &str, lines: usize) -> String {
        format!("{attribute}fn long() {{\n{}}}\n", "assert!(true);\n".repeat(lines - 2))
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
    fn long_functions_are_found() {
        assert_eq!(messages("a.rs", &long_function("", 70)), [""; 0]);
        let found = messages("a.rs", &("\n".to_owned() + &long_function("pub ", 71)));
        assert_eq!(found, ["a.rs:2: `long` has 71 lines, at most 70"]);
        assert_eq!(messages("a.rs", &long_function("#[test]\n", 71)), [""; 0]);
        assert_eq!(messages("tests/a.rs", &long_function("", 71)), [""; 0]);
        let inside = format!("impl A {{ {} }}", long_function("", 71));
        assert_eq!(messages("a.rs", &inside).len(), 1);
        let helper = format!("#[cfg(test)] mod tests {{ {} }}", long_function("", 71));
        assert_eq!(messages("a.rs", &helper), [""; 0]);
    }

    #[test]
    fn unfinished_macros_are_found() {
        for name in UNFINISHED {
            let found = messages("a.rs", &format!("fn f() {{\n    if a {{ {name}!(\"\") }}\n}}"));
            assert_eq!(found, [format!("a.rs:2: {name}! is not for committed code")]);
            let harmless = format!("// {name}!()\nfn f() {{ \"{name}!()\"; {name} != (a) }}");
            assert_eq!(messages("a.rs", &harmless), [""; 0]);
        }
    }

    #[test]
    fn a_test_without_an_assertion_is_found() {
        let found = messages("a.rs", "\n#[test]\nfn nothing() { run(\"assert\"); }");
        assert_eq!(found, ["a.rs:3: test `nothing` asserts nothing"]);
        let inside = "proptest! { #[test] fn nothing(a in 0..3) { run(a); } }";
        assert_eq!(messages("a.rs", inside).len(), 1);
    }

    #[test]
    fn what_is_not_rust_is_found() {
        assert!(messages("a.rs", "fn f( {").concat().starts_with("a.rs: is not Rust"));
    }
}
