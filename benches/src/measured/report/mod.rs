//! `cargo xtask bench report`: generates docs/PERFORMANCE.md and its charts from the newest results.

mod acceptance;
mod figures;
mod plots;
mod tables;

use std::collections::BTreeMap;
use std::fs;

use self::figures::Figures;
use super::results::newest;
use xtask::error::{Error, Result};
use xtask::workspace::root;

/// The document, of which the parts between the marks are generated.
const DOCUMENT: &str = "docs/PERFORMANCE.md";

/// The directory of the charts.
const DRAWINGS: &str = "docs/performance";

const OPENING: &str = "<!-- measured: ";
const OPENING_END: &str = " -->";
const CLOSING: &str = "<!-- end -->";

/// Writes the report. With `check`, only checks that it is up to date.
pub(crate) fn run(check: bool) -> Result<()> {
    let figures = Figures::new(newest()?);
    let path = root().join(DOCUMENT);
    let old = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let mut wanted = vec![(path, fill(&old, &tables::all(&figures))?)];
    for (name, drawing) in plots::all(&figures) {
        wanted.push((root().join(DRAWINGS).join(name), drawing));
    }
    for (path, text) in wanted {
        let is_same = fs::read_to_string(&path).is_ok_and(|found| found == text);
        if is_same {
            continue;
        }
        if check {
            let found = format!("{} is stale: run `cargo xtask bench report`", path.display());
            return Err(Error::Output { what: "report", found });
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        println!("{} is written", path.display());
    }
    Ok(())
}

/// Returns the document with each marked part replaced by the measured values.
fn fill(document: &str, parts: &BTreeMap<&str, String>) -> Result<String> {
    let wrong = |found: String| Error::Output { what: DOCUMENT, found };
    let (mut filled, mut rest) = (String::new(), document);
    while let Some((before, marked)) = rest.split_once(OPENING) {
        let (name, after) = marked
            .split_once(OPENING_END)
            .ok_or_else(|| wrong(format!("a '{OPENING}' mark is not closed")))?;
        let (_, after) = after
            .split_once(CLOSING)
            .filter(|(old, _)| !old.contains(OPENING))
            .ok_or_else(|| wrong(format!("'{name}' has no '{CLOSING}'")))?;
        let part = parts.get(name).ok_or_else(|| wrong(format!("nothing is called '{name}'")))?;
        for piece in [before, OPENING, name, OPENING_END, "\n\n", part.trim(), "\n\n", CLOSING] {
            filled.push_str(piece);
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_parts_are_replaced_and_the_rest_stays() {
        let parts = BTreeMap::from([("one", "| 1 |\n".to_owned())]);
        let text = fill("a\n<!-- measured: one -->old<!-- end -->\nb\n", &parts).unwrap();
        assert_eq!(text, "a\n<!-- measured: one -->\n\n| 1 |\n\n<!-- end -->\nb\n");
        assert_eq!(fill(&text, &parts).unwrap(), text, "a second run changes nothing");
        for wrong in ["<!-- measured: two --><!-- end -->", "<!-- measured: one -->"] {
            assert!(fill(wrong, &parts).is_err(), "{wrong}");
        }
    }
}
