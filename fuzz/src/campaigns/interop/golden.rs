//! Golden archives: created once for each version of the format, and opened by every later program.
//!
//! Next to each archive is a list of its content, with a line for each stream and name.

use std::fs;
use std::path::PathBuf;

use ar7_engine::format::{ArchiveKind, BLOCK_SIZE};

use super::states::{self, STATES};
use super::subject::{self, Ending, KEY, PASSPHRASE, Plan, Subject};
use xtask::error::{Error, Result};
use xtask::workspace::root;

const FOLDER: &str = "docs/vectors/golden";

const GOLDEN: Plan = Plan {
    name: "single",
    kind: ArchiveKind::Single,
    is_passphrase: false,
    ending: Ending::Closed,
    bytes_max: 6000,
    rounds: 3,
    keeps_earlier: false,
};

const PLANS: [Plan; 5] = [
    GOLDEN,
    Plan { name: "fixed", kind: ArchiveKind::Fixed, ..GOLDEN },
    Plan { name: "dynamic", kind: ArchiveKind::Dynamic, ..GOLDEN },
    Plan { name: "killed", kind: ArchiveKind::Dynamic, ending: Ending::Killed, ..GOLDEN },
    Plan { name: "passphrase", is_passphrase: true, rounds: 1, ..GOLDEN },
];

/// Writes new golden archives, replacing the old ones.
pub(crate) fn write() -> Result<()> {
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    for (name, secret) in [("key", &KEY[..]), ("passphrase", PASSPHRASE.as_bytes())] {
        let path = folder.join(name);
        fs::write(&path, secret).map_err(Error::io("write", &path))?;
    }
    for (plan, seed) in PLANS.iter().zip(1..) {
        let path = folder.join(format!("{}.ar7", plan.name));
        let subject = subject::make(plan, seed, &path)?;
        let manifest = path.with_extension("txt");
        let text = subject.lines.join("\n") + "\n";
        fs::write(&manifest, text).map_err(Error::io("write", &manifest))?;
        println!("{} is written, with {} lines", path.display(), subject.lines.len());
    }
    for state in states::make()? {
        let path = folder.join(format!("{}.ar7", state.name));
        fs::write(&path, &state.bytes).map_err(Error::io("write", &path))?;
        let manifest = path.with_extension("txt");
        let text = state.lines.join("\n") + "\n";
        fs::write(&manifest, text).map_err(Error::io("write", &manifest))?;
        println!("{} is written, with {} blocks", path.display(), state.bytes.len() / BLOCK_SIZE);
    }
    Ok(())
}

/// Returns the golden archives with a varied content.
pub(super) fn subjects() -> Result<Vec<(PathBuf, Plan, Subject)>> {
    PLANS.into_iter().map(read).collect()
}

/// Returns the golden archives in other states that the second reader supports.
pub(super) fn states() -> Result<Vec<(PathBuf, Plan, Subject)>> {
    let plans = STATES
        .into_iter()
        .filter_map(|(name, kind, ending)| Some(Plan { name, kind, ending: ending?, ..GOLDEN }));
    plans.map(read).collect()
}

/// Returns the golden archives that only a program that changes master keys can read.
pub(super) fn unsupported() -> impl Iterator<Item = PathBuf> {
    let names = STATES.into_iter().filter(|(_, _, ending)| ending.is_none());
    names.map(|(name, _, _)| root().join(FOLDER).join(format!("{name}.ar7")))
}

fn read(plan: Plan) -> Result<(PathBuf, Plan, Subject)> {
    let path = root().join(FOLDER).join(format!("{}.ar7", plan.name));
    let manifest = path.with_extension("txt");
    let text = fs::read_to_string(&manifest).map_err(Error::io("read", &manifest))?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    Ok((path, plan, Subject { lines, file: None }))
}
