//! `cargo xtask mutants`: small changes of the code, one at a time, each of which a test must notice.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::Args;

use crate::error::{Error, Result};
use crate::workspace::{cargo, root, shown};

/// What is changed: folders, each with the package whose tests are to notice.
const FOLDERS: [(&str, &str); 4] = [
    ("engine/src/format", "ar7-engine"),
    ("engine/src/crypto", "ar7-engine"),
    ("engine/src/store", "ar7-engine"),
    ("registry/src/tree", "ar7-registry"),
];

/// What a run is given.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this folder, or a file in it [default: the formats, the cryptography, the store and the tree]
    folder: Option<String>,
    /// Changes that are tested at a time
    #[arg(long, default_value_t = 1)]
    jobs: u16,
    /// Only this part of the changes: K/N, with K from 0
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Print the changes, and test none
    #[arg(long)]
    list: bool,
    /// Ask the tests of the fuzz library too: slower, and what notices most changes of the protocol
    #[arg(long)]
    fuzz: bool,
}

/// Runs cargo-mutants. Its report is left in `target/mutants.out`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut version = cargo(&["mutants", "--version"]);
    version.stdout(Stdio::null()).stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        let text = "mutation testing needs cargo-mutants: cargo install cargo-mutants --locked";
        return Err(Error::Fault(text.into()));
    }
    let mut command = command(options)?;
    let status =
        command.status().map_err(|source| Error::Start { command: shown(&command), source })?;
    if status.success() {
        return Ok(());
    }
    let (step, command) = ("mutants", shown(&command));
    Err(Error::Step { step, command, status: status.to_string() })
}

fn command(options: &Options) -> Result<Command> {
    let wanted = |folder: &str| options.folder.as_ref().is_none_or(|only| only.starts_with(folder));
    let folders: Vec<&(&str, &str)> = FOLDERS.iter().filter(|(folder, _)| wanted(folder)).collect();
    if folders.is_empty() {
        let known: Vec<&str> = FOLDERS.iter().map(|(folder, _)| *folder).collect();
        return Err(Error::Fault(format!("the folders are {}", known.join(", "))));
    }
    let mut command = cargo(&["mutants", "--output"]);
    command.arg(root().join("target")).args(["--jobs", &options.jobs.to_string()]);
    for (folder, package) in folders {
        let path = options.folder.as_deref().unwrap_or(folder);
        let is_file = Path::new(path).extension().is_some();
        let glob =
            if is_file { path.to_owned() } else { format!("{}/**", path.trim_end_matches('/')) };
        command.args(["--file", &glob, "--test-package", package]);
    }
    // What is planted on purpose is no code of the project, and tests are not to be tested.
    command.args(["--exclude", "**/tests/**", "--exclude", "**/tests.rs"]);
    command.args(["--exclude", "**/planted.rs", "--exclude", "**/testing.rs"]);
    if options.fuzz {
        command.args(["--test-package", "ar7-fuzz"]);
    }
    if let Some(shard) = &options.shard {
        command.args(["--shard", shard]);
    }
    if options.list {
        command.arg("--list");
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(folder: Option<&str>) -> Result<String> {
        let folder = folder.map(str::to_owned);
        let options = Options { folder, jobs: 1, shard: None, list: false, fuzz: false };
        command(&options).map(|command| shown(&command))
    }

    #[test]
    fn all_folders_or_one_are_changed() {
        let all = line(None).unwrap();
        for (folder, package) in FOLDERS {
            assert!(all.contains(&format!("--file {folder}/** --test-package {package}")), "{all}");
        }
        let one = line(Some("engine/src/format/block.rs")).unwrap();
        assert!(
            one.contains("--file engine/src/format/block.rs --test-package ar7-engine"),
            "{one}"
        );
        assert!(!one.contains("ar7-registry"), "{one}");
        assert!(line(Some("cli/src")).is_err());
    }
}
