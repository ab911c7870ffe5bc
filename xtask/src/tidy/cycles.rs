//! Rule about modules: the imports among the files of a crate form no cycle.
//!
//! A re-export does not count as an import: it is followed to the file that declares the item. The file `error` may
//! import the values that errors carry.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Violation;
use super::rust::{each_level, ident, line_of, test_lines};

/// The directories of the crates whose files are checked.
const CHECKED: [&str; 4] = ["engine", "registry", "mount", "cli"];

/// This module contains errors of every layer, so its own imports are ignored.
const ERRORS: &str = "error";

/// The path of a module within its crate.
type Module = Vec<String>;

/// A module, and the item imported from it; `None` for the module itself or for all of its items.
type Target = (Module, Option<String>);

/// The imports of every checked file.
#[derive(Default)]
pub(super) struct Imports(BTreeMap<&'static str, BTreeMap<Module, Source>>);

struct Source {
    file: String,
    imports: Vec<Import>,
}

/// A path in a `use`, or a path that starts with `crate`.
struct Import {
    path: Vec<String>,
    is_reexport: bool,
}

impl Imports {
    /// Records the imports of one file.
    pub(super) fn add_file(&mut self, file: &str, text: &str) {
        let folder = |checked: &&str| file.starts_with(&format!("{checked}/src/"));
        let Some(checked) = CHECKED.into_iter().find(folder) else { return };
        let path = &file[checked.len() + "/src/".len()..];
        self.add(checked, path, file, text);
    }

    fn add(&mut self, checked: &'static str, path: &str, file: &str, text: &str) {
        let Some(module) = module(path) else { return };
        // Other rules report a file that is not valid Rust.
        let Ok(stream) = text.parse::<TokenStream>() else { return };
        let source = Source { file: file.to_owned(), imports: imports(&stream) };
        self.0.entry(checked).or_default().insert(module, source);
    }

    /// Reports every import that is part of a cycle.
    pub(super) fn check(&self, violations: &mut Vec<Violation>) {
        for sources in self.0.values() {
            let edges = edges(sources);
            for (from, targets) in &edges {
                for to in targets.iter().filter(|to| reaches(&edges, to, from)) {
                    let message = format!("imports {}, which forms a cycle", to.join("::"));
                    violations.push(Violation::new(&sources[from].file, None, message));
                }
            }
        }
    }
}

/// Returns the module of a file, or `None` for the tests of a module.
fn module(path: &str) -> Option<Module> {
    let mut parts: Module = path.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    if parts.iter().any(|part| part == "tests") {
        return None;
    }
    let last = parts.last().map(String::as_str);
    if last == Some("mod") || (parts.len() == 1 && last == Some("lib")) {
        parts.pop();
    }
    Some(parts)
}

/// Returns the imports of a file, except those that exist only in tests.
fn imports(stream: &TokenStream) -> Vec<Import> {
    let tests = test_lines(stream);
    let mut found = Vec::new();
    each_level(stream, &mut |level| {
        let mut at = 0;
        while at < level.len() {
            let in_tests = tests.iter().any(|lines| lines.contains(line_of(&level[at])));
            let word = ident(&level[at]).filter(|_| !in_tests);
            let length = level[at..].iter().position(|token| is_mark(token, ';'));
            match (word.as_deref(), length) {
                (Some("use"), Some(length)) => {
                    let is_reexport = is_public(&level[..at]);
                    let mut paths = Vec::new();
                    expand(&level[at + 1..at + length], &[], &mut paths);
                    found.extend(paths.into_iter().map(|path| Import { path, is_reexport }));
                    at += length;
                }
                // Excludes the visibility `pub(crate)` and the `$crate` of a macro.
                (Some("crate"), _) if begins_path(level, at) => {
                    let mut paths = Vec::new();
                    expand(path_at(&level[at..]), &[], &mut paths);
                    let inline = |path| Import { path, is_reexport: false };
                    found.extend(paths.into_iter().map(inline));
                }
                _ => {}
            }
            at += 1;
        }
    });
    found
}

fn begins_path(level: &[TokenTree], at: usize) -> bool {
    let is_expanded = at > 0 && is_mark(&level[at - 1], '$');
    !is_expanded && level.get(at + 1).is_some_and(|next| is_mark(next, ':'))
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == mark)
}

/// Returns whether the tokens before an item end with `pub` or `pub(...)`.
fn is_public(before: &[TokenTree]) -> bool {
    let before = match before {
        [before @ .., TokenTree::Group(group)] if group.delimiter() == Delimiter::Parenthesis => {
            before
        }
        before => before,
    };
    before.last().and_then(ident).is_some_and(|word| word == "pub")
}

/// Returns the tokens of a path: identifiers separated by `::`.
fn path_at(tokens: &[TokenTree]) -> &[TokenTree] {
    let is_part = |token: &TokenTree| ident(token).is_some() || is_mark(token, ':');
    let words = |pair: &[TokenTree]| ident(&pair[0]).is_some() && ident(&pair[1]).is_some();
    let length = tokens.iter().position(|token| !is_part(token)).unwrap_or(tokens.len());
    let end = tokens[..length].windows(2).position(words).map_or(length, |at| at + 1);
    &tokens[..end]
}

/// Adds every path of a `use` tree.
fn expand(tree: &[TokenTree], prefix: &[String], paths: &mut Vec<Vec<String>>) {
    for part in tree.split(|token| is_mark(token, ',')).filter(|part| !part.is_empty()) {
        let mut path = prefix.to_vec();
        let mut is_tree = false;
        for token in part {
            match token {
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    expand(&inner, &path, paths);
                    is_tree = true;
                }
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) => path.push(word.to_string()),
                _ => {}
            }
        }
        if !is_tree {
            paths.push(path);
        }
    }
}

/// Returns the module and item that a path leads to, or `None` for a path into another crate.
fn resolve(sources: &BTreeMap<Module, Source>, from: &Module, path: &[String]) -> Option<Target> {
    let mut words = path.iter().peekable();
    let mut base = match words.peek()?.as_str() {
        "crate" => {
            words.next();
            Module::new()
        }
        "self" => {
            words.next();
            from.clone()
        }
        "super" => {
            let mut base = from.clone();
            while words.next_if(|word| *word == "super").is_some() {
                base.pop();
            }
            base
        }
        first => {
            let child = [&from[..], &[first.to_owned()]].concat();
            sources.contains_key(&child).then(|| from.clone())?
        }
    };
    while let Some(word) = words.peek() {
        base.push((*word).clone());
        if !sources.contains_key(&base) {
            base.pop();
            break;
        }
        words.next();
    }
    Some((base, words.next().filter(|word| *word != "self").cloned()))
}

/// Returns the module that declares an item, following all re-exports.
fn declaring(sources: &BTreeMap<Module, Source>, mut target: Target) -> Module {
    let mut seen = BTreeSet::new();
    while seen.insert(target.clone()) {
        let Some(source) = sources.get(&target.0) else { break };
        let reexports = source.imports.iter().filter(|import| import.is_reexport);
        let mut resolved = reexports.filter_map(|import| resolve(sources, &target.0, &import.path));
        let is_same = |found: &Target| found.1.is_some() && found.1 == target.1;
        match resolved.find(is_same) {
            Some(next) => target = next,
            None => break,
        }
    }
    target.0
}

type Edges = BTreeMap<Module, BTreeSet<Module>>;

fn edges(sources: &BTreeMap<Module, Source>) -> Edges {
    let of = |module: &Module, source: &Source| {
        let imports = source.imports.iter().filter(|import| !import.is_reexport);
        let targets = imports.filter_map(|import| resolve(sources, module, &import.path));
        let declared = targets.map(|target| declaring(sources, target));
        declared.filter(|target| target != module).collect()
    };
    let is_checked = |module: &&Module| !matches!(&module[..], [only] if only == ERRORS);
    let modules = sources.keys().filter(is_checked);
    modules.map(|module| (module.clone(), of(module, &sources[module]))).collect()
}

fn reaches(edges: &Edges, from: &Module, to: &Module) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(edges.get(module).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let mut imports = Imports::default();
        for (path, text) in files {
            imports.add("crate", path, path, text);
        }
        let mut violations = Vec::new();
        imports.check(&mut violations);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn import_cycles_are_found() {
        let two = [("a.rs", "use crate::b::B;"), ("b.rs", "use super::a::{A, C as D};")];
        let found =
            ["a.rs: imports b, which forms a cycle", "b.rs: imports a, which forms a cycle"];
        assert_eq!(cycles(&two), found);
        let three = [
            ("a.rs", "use crate::b;"),
            ("b.rs", "fn f() { crate::c::g() }"),
            ("c.rs", "use crate::a::A;"),
        ];
        assert_eq!(cycles(&three).len(), 3);
        let parent = [("a/mod.rs", "mod b; use self::b::B;"), ("a/b.rs", "use super::A;")];
        assert_eq!(cycles(&parent).len(), 2);
    }

    #[test]
    fn re_exports_are_followed_to_the_declaration() {
        let facade = ("a/mod.rs", "mod b; mod c; pub use self::b::B; pub(crate) use c::C;");
        let down = [facade, ("a/b.rs", "struct B;"), ("a/c.rs", "use super::B;")];
        assert_eq!(cycles(&down), [""; 0]);
        let around = [facade, ("a/b.rs", "use super::C;"), ("a/c.rs", "use crate::a::B;")];
        assert_eq!(cycles(&around).len(), 2);
    }

    #[test]
    fn tests_and_errors_may_import_anything() {
        let tests =
            [("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; }")];
        assert_eq!(cycles(&tests), [""; 0]);
        let errors = [("a.rs", "use crate::error::Error;"), ("error.rs", "use crate::a::A;")];
        assert_eq!(cycles(&errors), [""; 0]);
    }
}
