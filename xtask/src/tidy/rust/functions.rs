//! The functions of a file: their lines, which of them are tests, and which tests assert something.

use proc_macro2::{TokenStream, TokenTree};

use super::tokens::{Tokens, attribute, each_level, ident, idents, item_end, line_of};

/// Names of calls that fail a test. [`ASSERTING_PREFIXES`] has more.
const ASSERTING: [&str; 7] =
    ["expect", "expect_err", "unwrap", "unwrap_err", "panic", "unreachable", "TestCases"];

/// Prefixes of the names of macros and functions that assert.
const ASSERTING_PREFIXES: [&str; 3] = ["assert", "prop_assert", "check_"];

/// A function with a body.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: String,
    /// The line of its `fn`.
    pub(super) line: usize,
    pub(super) is_test: bool,
    /// Whether anything in it can fail a test.
    pub(super) asserts: bool,
}

/// Returns every function of the file, including those in macro arguments.
pub(super) fn find(stream: &TokenStream) -> Vec<Function> {
    let mut found = Vec::new();
    each_level(stream, &mut |level| {
        found.extend((0..level.len()).filter_map(|at| function_at(level, at)));
    });
    found
}

fn function_at(level: &Tokens, at: usize) -> Option<Function> {
    ident(&level[at]).filter(|word| word == "fn")?;
    let name = level.get(at + 1).and_then(ident)?;
    let TokenTree::Group(body) = &level[item_end(level, at)?] else { return None };
    let attributes = attributes_before(level, at);
    let should_panic =
        attributes.iter().any(|words| words.iter().any(|word| word == "should_panic"));
    Some(Function {
        name,
        line: line_of(&level[at]),
        is_test: attributes.iter().any(|words| words == &["test"]),
        asserts: should_panic || can_fail(&body.stream()),
    })
}

/// Returns the words of each attribute of the item whose keyword is at `at`.
fn attributes_before(level: &Tokens, at: usize) -> Vec<Vec<String>> {
    // The item starts after the previous braces or semicolon, or at the start of the level.
    let start = (0..at).rev().find(|&before| item_end(&level[..=before], before).is_some());
    let first = start.map_or(0, |before| before + 1);
    (first..at).filter_map(|at| attribute(level, at)).map(|group| idents(&group.stream())).collect()
}

fn can_fail(body: &TokenStream) -> bool {
    let asserting = |word: &String| {
        ASSERTING.contains(&word.as_str())
            || ASSERTING_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
    };
    let mut question_mark = false;
    each_level(body, &mut |level| {
        question_mark |= level
            .iter()
            .any(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == '?'));
    });
    question_mark || idents(body).iter().any(asserting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Function {
        let mut found = find(&text.parse().unwrap());
        assert_eq!(found.len(), 1, "{text}");
        found.remove(0)
    }

    #[test]
    fn assertions_are_recognised() {
        for body in [
            "assert_eq!(1, 1)",
            "prop_assert!(a)",
            "check_all(&a);",
            "read(a)?;",
            "for a in b { a.unwrap(); }",
            "panic!()",
        ] {
            let function = only(&format!("#[test] fn a() {{ {body} }}"));
            assert!(function.is_test && function.asserts, "{body}");
        }
        assert!(!only("#[test] fn a() { check; recheck_all(); }").asserts);
        assert!(only("#[test] #[should_panic(expected = \"a\")] fn a() { run() }").asserts);
    }

    #[test]
    fn only_the_function_with_the_attribute_is_a_test() {
        let found = find(&"#[test] fn a() {} /** b */ pub const fn b() {}".parse().unwrap());
        assert_eq!(
            found.iter().map(|function| function.is_test).collect::<Vec<_>>(),
            [true, false]
        );
        assert!(!only("#[cfg(test)] fn a() {}").is_test);
    }

    #[test]
    fn declarations_and_function_pointers_are_ignored() {
        let text = "trait A { fn a(&self) -> u8; } struct B { b: fn(u8) -> u8 }";
        assert!(find(&text.parse().unwrap()).is_empty());
        assert_eq!(only("trait A { fn a();\n fn b() {\n\n} }").line, 2);
    }
}
