//! Iterates over the tokens of a file.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The tokens of one level: those between one pair of brackets, without entering groups.
pub(crate) type Tokens = [TokenTree];

/// A range of lines, inclusive, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Lines {
    pub(crate) fn contains(self, line: usize) -> bool {
        (self.first..=self.last).contains(&line)
    }
}

/// Calls `visit` with every level, outer levels first.
pub(crate) fn each_level(stream: &TokenStream, visit: &mut dyn FnMut(&Tokens)) {
    let level: Vec<TokenTree> = stream.clone().into_iter().collect();
    visit(&level);
    for token in &level {
        if let TokenTree::Group(group) = token {
            each_level(&group.stream(), visit);
        }
    }
}

/// Returns the identifier of a token, if it is one.
pub(crate) fn ident(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

/// Returns the line on which a token starts.
pub(crate) fn line_of(token: &TokenTree) -> usize {
    token.span().start().line
}

/// Returns the brackets of the outer attribute at `at`, if there is one.
pub(super) fn attribute(level: &Tokens, at: usize) -> Option<&Group> {
    match (level.get(at)?, level.get(at + 1)?) {
        (TokenTree::Punct(mark), TokenTree::Group(group))
            if mark.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
        {
            Some(group)
        }
        _ => None,
    }
}

/// Returns the index of the token that ends an item: the first braces or semicolon from `from` on.
pub(super) fn item_end(level: &Tokens, from: usize) -> Option<usize> {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    };
    level.iter().skip(from).position(ends).map(|offset| from + offset)
}

/// Returns the identifiers in a stream, at every level.
pub(super) fn idents(stream: &TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    each_level(stream, &mut |level| found.extend(level.iter().filter_map(ident)));
    found
}

/// Returns the lines of items that exist only in tests, including their attributes.
pub(crate) fn test_lines(stream: &TokenStream) -> Vec<Lines> {
    let mut found = Vec::new();
    each_level(stream, &mut |level| {
        for at in 0..level.len() {
            let Some(group) = attribute(level, at) else { continue };
            let words = idents(&group.stream());
            let only_in_tests = words.first().is_some_and(|word| word == "cfg")
                && words.iter().any(|word| word == "test")
                && words.iter().all(|word| word != "not" && word != "any");
            if let Some(end) = item_end(level, at + 2).filter(|_| only_in_tests) {
                let last = level[end].span().end().line;
                found.push(Lines { first: line_of(&level[at]), last });
            }
        }
    });
    found
}
