//! `cargo xtask patches`: checks that the fuzz targets and campaigns named by each patch in `fuzz/patches` find it.
//!
//! Each patch is applied to a copy of the working tree and built there, and a separate process searches for it. The
//! copy has its own target directory, so that a build compiles only the patched crate and its dependents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use xtask::error::{Error, Result};
use xtask::workspace::{files, output, root, shown, target_directory};

use super::search::{FOUND, SEED};
use crate::Random;
use crate::patches::{Patch, Unusable, patches};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Only the patch with this name
    #[arg(long, value_name = "NAME", conflicts_with = "sample")]
    only: Option<String>,
    /// Only this many patches, chosen by the seed
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Seed of the sample
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A search that takes longer counts as a failure.
const SECONDS_MAX: &str = "600";

/// How the line begins with which a campaign reports a fault, and what one has that cannot run here.
const FAULT: &str = "campaign: ";
const SKIPPED: &str = ": skipped: ";

/// What a campaign needs besides itself.
const PROGRAM: [&str; 6] = ["--package", "ar7-cli", "--bin", "ar7", "--features", "ar7-fuzz/fuse"];

/// Runs the campaign. Tries every patch, even after one was missed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let root = root();
    let listed = patches(&root).map_err(|unusable| unusable_error(&unusable))?;
    let chosen = chosen(listed, options)?;
    let copy = Copy::of(&root, &target_directory()?.join("patches"))?;
    let mut missed = Vec::new();
    for patch in &chosen {
        let outcome = copy.try_patch(patch);
        copy.restore(&patch.file)?;
        if let Err(error) = outcome {
            println!("patches: {}: {error}", patch.name);
            missed.push(patch.name.as_str());
        }
    }
    let seconds = started.elapsed().as_secs();
    println!("patches: {} tried, {} missed, {seconds} s", chosen.len(), missed.len());
    if missed.is_empty() {
        return Ok(());
    }
    Err(Error::Fault(format!("patches that were not found: {}", missed.join(", "))))
}

fn unusable_error(unusable: &Unusable) -> Error {
    Error::Fault(unusable.to_string())
}

/// Returns the patches that the options choose, in the order of the lists.
fn chosen(mut listed: Vec<Patch>, options: &Options) -> Result<Vec<Patch>> {
    if let Some(name) = &options.only {
        listed.retain(|patch| patch.name == *name);
        if listed.is_empty() {
            return Err(Error::Fault(format!("unknown patch {name}")));
        }
    }
    let mut random = Random::new(options.seed);
    while listed.len() > options.sample.unwrap_or(usize::MAX) {
        let dropped = random.below(listed.len() as u64);
        listed.remove(usize::try_from(dropped).expect("an index"));
    }
    Ok(listed)
}

/// A copy of the working tree, with a target directory next to it.
struct Copy<'a> {
    original: &'a Path,
    tree: PathBuf,
    target: PathBuf,
}

impl Copy<'_> {
    /// Updates the copy in `folder`. Unchanged files keep their times, so that cargo does not rebuild them.
    fn of<'a>(original: &'a Path, folder: &Path) -> Result<Copy<'a>> {
        let (tree, target) = (folder.join("tree"), folder.join("target"));
        let copy = Copy { original, tree, target };
        fs::create_dir_all(&copy.tree).map_err(Error::io("create", &copy.tree))?;
        let sources = files(original)?;
        for file in &sources {
            copy.restore(file)?;
        }
        let sources: BTreeSet<PathBuf> = sources.iter().map(|file| copy.tree.join(file)).collect();
        for entry in walkdir::WalkDir::new(&copy.tree) {
            let entry = entry.map_err(|error| Error::Fault(error.to_string()))?;
            if !entry.file_type().is_dir() && !sources.contains(entry.path()) {
                fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
            }
        }
        Ok(copy)
    }

    /// Makes one file of the copy equal to the original.
    fn restore(&self, file: &str) -> Result<()> {
        let path = self.original.join(file);
        let content = fs::read(&path).map_err(Error::io("read", &path))?;
        self.write(file, &content)
    }

    /// Writes a file of the copy, unless it already has this content.
    fn write(&self, file: &str, content: &[u8]) -> Result<()> {
        let path = self.tree.join(file);
        if fs::read(&path).is_ok_and(|found| found == content) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        fs::write(&path, content).map_err(Error::io("write", &path))
    }

    /// Applies a patch, builds the copy and lets each target search. Fails at the first target that finds nothing.
    fn try_patch(&self, patch: &Patch) -> Result<()> {
        let patched = patch.patched(self.original).map_err(|unusable| unusable_error(&unusable))?;
        self.write(&patch.file, patched.as_bytes())?;
        self.build(if patch.campaigns.is_empty() { &[] } else { &PROGRAM })?;
        for campaign in &patch.campaigns {
            let found = self.campaign(campaign)?;
            println!("patches: {}: {}: {found}", patch.name, campaign.join(" "));
        }
        for (target, executions) in &patch.targets {
            let found = self.search(target, *executions)?;
            println!("patches: {}: {target} {found}", patch.name);
        }
        Ok(())
    }

    fn build(&self, more: &[&str]) -> Result<()> {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--locked", "--quiet", "--package", "ar7-fuzz", "--bin", "campaign"]);
        build.args(more).current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        let built = output(&mut build)?;
        if built.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&built.stderr);
        Err(Error::Fault(format!("`{}` failed: {errors}", shown(&build))))
    }

    /// Runs a campaign with the patched program. Returns the fault that it reports, or why it was skipped.
    fn campaign(&self, arguments: &[String]) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg(SECONDS_MAX).arg(self.target.join("debug/campaign")).args(arguments);
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        let finished = output(&mut command)?;
        let printed = [finished.stdout, finished.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        let told = |line: &&str| line.starts_with(FAULT) || line.contains(SKIPPED);
        printed.lines().find(told).map(str::to_owned).ok_or_else(|| {
            let (command, status) = (shown(&command), finished.status);
            Error::Fault(format!("{command} found nothing ({status})\n{printed}"))
        })
    }

    /// Returns the output of the search about its finding in the patched program.
    fn search(&self, target: &str, executions: u64) -> Result<String> {
        let program = self.target.join("debug/campaign");
        let mut command = Command::new("timeout");
        command.arg(SECONDS_MAX).arg(program).args(["search", target]);
        command.args(["--seed", &SEED.to_string(), "--executions", &executions.to_string()]);
        let finished = output(command.current_dir(&self.tree))?;
        let stdout = String::from_utf8_lossy(&finished.stdout);
        match stdout.lines().find(|line| line.starts_with(FOUND)) {
            // A message may contain the whole content.
            Some(found) => Ok(found.chars().take(160).collect()),
            None => Err(Error::Fault(format!(
                "{target} found nothing in {executions} executions ({})\n{stdout}{}",
                finished.status,
                String::from_utf8_lossy(&finished.stderr),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(name: &str) -> Patch {
        let text = String::new;
        let (what, file, from, to) = (text(), text(), text(), text());
        let (targets, campaigns) = (Vec::new(), Vec::new());
        Patch { name: name.to_owned(), what, file, from, to, targets, campaigns }
    }

    #[test]
    fn one_patch_a_sample_or_all_are_chosen() {
        let listed = || ["a", "b", "c", "d"].map(patch).to_vec();
        let options = |only: Option<&str>, sample, seed| Options {
            only: only.map(str::to_owned),
            sample,
            seed,
        };
        let names = |options| {
            let chosen = chosen(listed(), &options).unwrap();
            chosen.into_iter().map(|patch| patch.name).collect::<String>()
        };
        assert_eq!(names(options(None, None, 1)), "abcd");
        assert_eq!(names(options(Some("c"), None, 1)), "c");
        assert_eq!(names(options(None, Some(9), 1)), "abcd");
        let samples: BTreeSet<String> =
            (0..20).map(|seed| names(options(None, Some(2), seed))).collect();
        assert!(samples.len() > 2 && samples.iter().all(|sample| sample.len() == 2), "{samples:?}");
        assert!(chosen(listed(), &options(Some("e"), None, 1)).is_err());
    }

    #[test]
    fn a_copy_follows_its_original_and_keeps_the_times_of_equal_files() {
        let folder = tempfile::tempdir().unwrap();
        let (original, copied) = (folder.path().join("original"), folder.path().join("copied"));
        fs::create_dir(&original).unwrap();
        for (file, content) in [("kept", "1"), ("changed", "1"), ("removed", "1")] {
            fs::write(original.join(file), content).unwrap();
        }
        let copy = Copy::of(&original, &copied).unwrap();
        let kept = fs::File::options().write(true).open(copy.tree.join("kept")).unwrap();
        kept.set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::write(original.join("changed"), "2").unwrap();
        fs::remove_file(original.join("removed")).unwrap();
        let copy = Copy::of(&original, &copied).unwrap();
        let modified = fs::metadata(copy.tree.join("kept")).unwrap().modified().unwrap();
        assert_eq!(modified, std::time::UNIX_EPOCH);
        assert_eq!(fs::read(copy.tree.join("changed")).unwrap(), b"2");
        assert!(!copy.tree.join("removed").exists());
    }
}
