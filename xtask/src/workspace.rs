//! The working tree: its root, its files, and running cargo in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use walkdir::WalkDir;

use crate::error::{Error, Result};

/// Directories that are not sources, used if the tree is not under git.
const NOT_SOURCE: [&str; 2] = [".git", "target"];

/// Returns the root of the tree: the parent of this crate's directory.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Returns a cargo command in the tree, using the cargo that runs this program.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Formats a command as a user would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a command and returns its output.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().map_err(|source| Error::Start { command: shown(command), source })
}

/// Returns the output of `cargo metadata` for the workspace, without its dependencies.
pub fn metadata() -> Result<Value> {
    let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let output = output(&mut command)?;
    serde_json::from_slice(&output.stdout).map_err(|_| Error::Output {
        what: "cargo metadata",
        found: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Returns the directory into which cargo builds.
pub fn target_directory() -> Result<PathBuf> {
    let metadata = metadata()?;
    let directory = metadata["target_directory"].as_str();
    directory.map(PathBuf::from).ok_or_else(|| Error::Output {
        what: "cargo metadata has no target directory",
        found: metadata.to_string(),
    })
}

/// Returns the path of a program that cargo built in a profile's directory.
pub fn built_program(profile: &str, name: &str) -> Result<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    Ok(target_directory()?.join(profile).join(file))
}

/// Returns every source file of the tree, relative to its root, in order: files that git tracks, and untracked files
/// that it does not ignore. Outside git, returns all files except build outputs.
pub fn files(root: &Path) -> Result<Vec<String>> {
    let mut files = match git_files(root, &["--cached", "--others", "--exclude-standard"])? {
        Some(files) => files,
        None => walked_files(root)?,
    };
    // A file that is deleted but still in the index is not a source.
    files.retain(|file| root.join(file).symlink_metadata().is_ok());
    files.sort();
    files.dedup();
    Ok(files)
}

/// Returns whether `file` is under version control; outside git, whether it exists.
pub fn is_tracked(root: &Path, file: &str) -> Result<bool> {
    match git_files(root, &["--cached", file])? {
        Some(files) => Ok(!files.is_empty()),
        None => Ok(root.join(file).exists()),
    }
}

fn git_files(root: &Path, arguments: &[&str]) -> Result<Option<Vec<String>>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z"]).args(arguments).current_dir(root);
    let Ok(output) = command.output() else { return Ok(None) };
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8(output.stdout).map_err(|error| Error::Output {
        what: "git listed a name that is not UTF-8",
        found: error.to_string(),
    })?;
    Ok(Some(text.split_terminator('\0').map(str::to_owned).collect()))
}

fn walked_files(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let walk = WalkDir::new(root).into_iter();
    for entry in walk.filter_entry(|entry| NOT_SOURCE.iter().all(|name| entry.file_name() != *name))
    {
        let entry =
            entry.map_err(|error| Error::Output { what: "walk", found: error.to_string() })?;
        if entry.file_type().is_dir() {
            continue;
        }
        if let Ok(relative) = entry.path().strip_prefix(root) {
            files.push(relative.to_string_lossy().into_owned());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn this_file_is_listed_and_build_outputs_are_not() {
        let files = files(&root()).unwrap();
        assert!(files.iter().any(|file| file == "xtask/src/workspace.rs"));
        assert!(files.iter().all(|file| !file.starts_with("target/")));
    }

    #[test]
    fn outside_git_all_files_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("target/debug")).unwrap();
        fs::create_dir_all(folder.path().join("source")).unwrap();
        fs::write(folder.path().join("target/debug/out"), "").unwrap();
        fs::write(folder.path().join("source/one.rs"), "").unwrap();
        assert_eq!(files(folder.path()).unwrap(), ["source/one.rs"]);
        assert!(is_tracked(folder.path(), "source/one.rs").unwrap());
        assert!(!is_tracked(folder.path(), "Cargo.lock").unwrap());
    }

    #[test]
    fn a_command_is_shown_by_its_name() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--locked"]);
        assert_eq!(shown(&command), "cargo test --locked");
    }
}
