//! Rule about planted faults: product code mentions a planted fault only in `fault!(...)`, so a release contains none.
//!
//! Test files and items under `cfg(test)` may mention them.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Violation;
use super::rust::{each_level, ident, is_test_file, line_of, test_lines};

/// The file that declares the faults.
const DECLARATION: &str = "engine/src/planted.rs";

/// The crates of the product.
const PRODUCT: [&str; 4] = ["engine/src/", "registry/src/", "arguments/src/", "cli/src/"];

/// The declared faults, and every identifier in the product's code.
#[derive(Default)]
pub(super) struct Faults {
    declared: BTreeSet<String>,
    words: Vec<(String, String, usize)>,
}

impl Faults {
    /// Records the identifiers of one file, or the faults that it declares.
    pub(super) fn add_file(&mut self, file: &str, text: &str) {
        // Other rules report a file that is not valid Rust.
        let Ok(stream) = text.parse::<TokenStream>() else { return };
        if file == DECLARATION {
            self.declared = declared(&stream);
        } else if PRODUCT.iter().any(|folder| file.starts_with(folder)) && !is_test_file(file) {
            let words = words(&stream).into_iter();
            self.words.extend(words.map(|(word, line)| (file.to_owned(), word, line)));
        }
    }

    /// Reports every fault that product code mentions.
    pub(super) fn check(&self, violations: &mut Vec<Violation>) {
        for (file, word, line) in
            self.words.iter().filter(|(_, word, _)| self.declared.contains(word))
        {
            let message = format!("names the planted fault {word} outside fault!(...)");
            violations.push(Violation::new(file, *line, message));
        }
    }
}

/// Returns the faults declared by `faults! { LIST { Fault, } }`.
fn declared(stream: &TokenStream) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each_level(stream, &mut |level| {
        for at in 0..level.len() {
            if let Some(lists) = macro_call(&level[at..], "faults") {
                let lists = lists.into_iter().filter_map(|token| match token {
                    TokenTree::Group(list) if list.delimiter() == Delimiter::Brace => {
                        Some(list.stream())
                    }
                    _ => None,
                });
                found.extend(lists.flatten().filter_map(|token| ident(&token)));
            }
        }
    });
    found
}

/// Returns the identifiers of product code outside `fault!(...)`, with their lines.
fn words(stream: &TokenStream) -> Vec<(String, usize)> {
    let tests = test_lines(stream);
    let mut found = Vec::new();
    add_words(stream, &mut found);
    found.retain(|(_, line)| !tests.iter().any(|lines| lines.contains(*line)));
    found
}

fn add_words(stream: &TokenStream, found: &mut Vec<(String, usize)>) {
    let level: Vec<TokenTree> = stream.clone().into_iter().collect();
    for at in 0..level.len() {
        match &level[at] {
            TokenTree::Ident(word) => found.push((word.to_string(), line_of(&level[at]))),
            TokenTree::Group(group) => {
                let is_asked = at >= 2 && macro_call(&level[at - 2..], "fault").is_some();
                if !is_asked {
                    add_words(&group.stream(), found);
                }
            }
            _ => {}
        }
    }
}

/// Returns the arguments of a macro of this name, if the tokens start with its call.
fn macro_call(tokens: &[TokenTree], name: &str) -> Option<TokenStream> {
    match tokens {
        [TokenTree::Ident(word), TokenTree::Punct(mark), TokenTree::Group(arguments), ..]
            if word == name && mark.as_char() == '!' =>
        {
            Some(arguments.stream())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(file: &str, text: &str) -> Vec<String> {
        let mut faults = Faults::default();
        faults.add_file(
            DECLARATION,
            "faults! { /// A list.\n SOME { /// A fault.\n SkipSync, Forget, } }",
        );
        faults.add_file(file, text);
        let mut violations = Vec::new();
        faults.check(&mut violations);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_fault_is_named_only_where_the_code_asks_for_it() {
        let file = "engine/src/commit.rs";
        let asked = "#[doc = \"Asks.\"] fn f() { if !crate::fault!(SkipSync) && !fault!(Forget) { sync(); } }";
        assert_eq!(messages(file, asked), [""; 0]);
        let named = "fn f() {\nplanted(PlantedFault::SkipSync) }";
        let message =
            "engine/src/commit.rs:2: names the planted fault SkipSync outside fault!(...)";
        assert_eq!(messages(file, named), [message]);
        assert_eq!(messages(file, "m!(SkipSync); fn f() { fault!(Forget); }").len(), 1);
        assert_eq!(messages(file, "fault!(Forget); f(Forget);").len(), 1);
        assert_eq!(messages(file, "// SkipSync\nfn skip_sync() { f(\"Forget\") }"), [""; 0]);
    }

    #[test]
    fn tests_and_other_crates_may_name_faults() {
        let named = "fn f() { planted(PlantedFault::SkipSync) }";
        for file in ["fuzz/src/crash.rs", "engine/src/tests.rs", "registry/src/names/tests/a.rs"] {
            assert_eq!(messages(file, named), [""; 0]);
        }
        let inside = format!("#[cfg(test)]\nmod tests {{ {named} }}");
        assert_eq!(messages("cli/src/a.rs", &inside), [""; 0]);
        assert_eq!(messages("cli/src/a.rs", named).len(), 1);
    }

    #[test]
    fn the_faults_of_the_engine_are_read() {
        let path = xtask::workspace::root().join(DECLARATION);
        let mut faults = Faults::default();
        faults.add_file(DECLARATION, &std::fs::read_to_string(path).unwrap());
        assert!(faults.declared.contains("SkipFirstSync"), "{:?}", faults.declared);
    }
}
