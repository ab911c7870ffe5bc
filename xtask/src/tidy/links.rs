//! Rule about Markdown: every link to a file of the tree, or to a heading in it, resolves.

use std::fs;
use std::path::Path;

use super::Violation;

/// Checks the links of one document.
pub(super) fn check(
    root: &Path,
    files: &[String],
    document: &str,
    text: &str,
    violations: &mut Vec<Violation>,
) {
    for (number, link) in links(text) {
        let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
        let target =
            if path.is_empty() { Some(document.to_owned()) } else { resolve(document, path) };
        let Some(target) = target.filter(|target| exists(files, target)) else {
            let message = format!("link to '{link}', which is not in the tree");
            violations.push(Violation::new(document, number, message));
            continue;
        };
        if heading.is_empty() || !super::has_extension(&target, "md") {
            continue;
        }
        let linked = if target == document {
            text.to_owned()
        } else {
            fs::read_to_string(root.join(&target)).unwrap_or_default()
        };
        if !anchors(&linked).iter().any(|anchor| anchor == heading) {
            let message = format!("link to '{link}': {target} has no such heading");
            violations.push(Violation::new(document, number, message));
        }
    }
}

fn exists(files: &[String], target: &str) -> bool {
    let inside = |file: &String| {
        file.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    target.is_empty() || files.iter().any(inside)
}

/// Returns the path from the root of the tree, or `None` if it leads outside.
fn resolve(document: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = match link.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => document.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Returns the targets of local links, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let target = after.split([')', ' ']).next().unwrap_or_default();
            found.push((number, target.trim_matches(['<', '>']).to_owned()));
            rest = after;
        }
        let definition =
            line.trim_start().strip_prefix('[').and_then(|line| line.split_once("]: "));
        if let Some((_, target)) = definition {
            found.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    found.retain(|(_, link)| !link.contains("://") && !link.starts_with("mailto:"));
    found
}

/// Returns the lines of prose with their numbers, without code blocks and code spans.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push((number, line.split('`').step_by(2).collect::<Vec<_>>().join("``")));
        }
    }
    lines
}

/// Returns the anchors that GitHub and documentation sites generate for headings.
fn anchors(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if in_code || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter if letter.is_alphanumeric() => Some(letter),
            _ => None,
        });
        found.push(kept.collect::<String>().to_lowercase());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(document: &str, text: &str) -> usize {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("docs")).unwrap();
        fs::write(folder.path().join("docs/FORMAT.md"), "# The `block`, byte by byte\n").unwrap();
        let files = ["README.md", "docs/FORMAT.md", "docs/index.md"].map(str::to_owned);
        let mut violations = Vec::new();
        check(folder.path(), &files, document, text, &mut violations);
        violations.len()
    }

    #[test]
    fn links_that_resolve_are_allowed() {
        let good = [
            "[a](docs/FORMAT.md) and [b](docs)",
            "[a](docs/FORMAT.md#the-block-byte-by-byte)",
            "[a](https://example.org/x) [b](mailto:a@example.org)",
            "# Here it is\n[a](#here-it-is) [top](/README.md \"title\")",
            "```\n[a](gone.md)\n```\nand `[a](gone.md)`",
            "[a]: docs/index.md",
        ];
        for text in good {
            assert_eq!(broken("README.md", text), 0, "{text}");
        }
        assert_eq!(
            broken("docs/index.md", "[a](FORMAT.md) [b](../README.md) [c](<./FORMAT.md>)"),
            0
        );
    }

    #[test]
    fn broken_links_are_found() {
        let bad = [
            "[a](docs/GONE.md)",
            "fine [b](docs) then [a](FORMAT.md)",
            "[a](docs/FORMAT.md#gone)",
            "[a](#gone)",
            "[a](../outside.md)",
            "[a](docs/FORMAT)",
            "[a]: docs/gone.md",
        ];
        for text in bad {
            assert_eq!(broken("README.md", text), 1, "{text}");
        }
    }
}
