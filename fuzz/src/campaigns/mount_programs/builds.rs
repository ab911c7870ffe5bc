//! `git` and `cargo` on a mounted archive.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::error::{Error, Result};
use xtask::workspace::root;

use super::place::{Work, finish};

/// Number of modules of the crate that `cargo` builds.
const MODULES: u32 = 20;

/// Clones this repository, collects its garbage, and checks it.
pub(super) fn git(work: &Work<'_>) -> Result<String> {
    let Ok(head) = finish(git_in(&root()).args(["rev-parse", "HEAD"])) else {
        return Ok("skipped: this tree is not under git".to_owned());
    };
    let place = work.place("git")?;
    place.with(|mount| {
        let mut clone = Command::new("git");
        // Not by links and copies of files, as for a repository of the same host.
        clone.args(["clone", "--quiet", "--no-local"]).arg(root()).arg(mount.join("clone"));
        finish(&mut clone).map(drop)
    })?;
    place.with(|mount| {
        let clone = mount.join("clone");
        check(&clone, &head)?;
        if !work.is_sample {
            finish(git_in(&clone).args(["repack", "--quiet", "-a", "-d", "-f"]))?;
        }
        finish(git_in(&clone).args(["gc", "--quiet", "--prune=now"]))?;
        check(&clone, &head)
    })?;
    place.with(|mount| check(&mount.join("clone"), &head))?;
    Ok(format!("cloned and checked {}", head.trim()))
}

fn git_in(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository);
    command
}

/// Fails unless a clone is whole, at this commit, and without changes.
fn check(clone: &Path, head: &str) -> Result<()> {
    finish(git_in(clone).args(["fsck", "--full", "--strict", "--no-progress"]))?;
    let found = finish(git_in(clone).args(["rev-parse", "HEAD"]))?;
    let changes = finish(git_in(clone).args(["status", "--porcelain"]))?;
    if found != head || !changes.is_empty() {
        return Err(Error::Output { what: "another commit, or changes", found: found + &changes });
    }
    Ok(())
}

/// Builds a small crate, changes it, and builds it again.
pub(super) fn cargo(work: &Work<'_>) -> Result<String> {
    let place = work.place("cargo")?;
    for round in 0..2 {
        place.with(|mount| {
            let sources = mount.join("sample/src");
            write_crate(&sources, round).map_err(Error::io("write a crate in", &sources))?;
            build(&mount.join("sample"))?;
            run_built(mount, round)
        })?;
    }
    place.with(|mount| run_built(mount, 1))?;
    Ok(format!("built {MODULES} modules twice"))
}

fn write_crate(sources: &Path, round: u32) -> std::io::Result<()> {
    fs::create_dir_all(sources)?;
    let manifest = "[package]\nname = \"sample\"\nedition = \"2021\"\n[workspace]\n";
    fs::write(sources.with_file_name("Cargo.toml"), manifest)?;
    for module in 0..MODULES {
        let text = format!("pub fn number() -> u32 {{ {module} + {round} }}\n");
        fs::write(sources.join(format!("m{module}.rs")), text)?;
    }
    let of_each = |line: &dyn Fn(u32) -> String| (0..MODULES).map(line).collect::<String>();
    let modules = of_each(&|module| format!("mod m{module};\n"));
    let sum = of_each(&|module| format!(" + m{module}::number()"));
    let main = format!("{modules}fn main() {{ println!(\"{{}}\", 0{sum}) }}\n");
    fs::write(sources.join("main.rs"), main)
}

fn build(directory: &Path) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--offline", "--quiet"]).current_dir(directory);
    for variable in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "RUSTFLAGS", "RUSTC_WRAPPER"] {
        command.env_remove(variable);
    }
    finish(&mut command).map(drop)
}

fn run_built(mount: &Path, round: u32) -> Result<()> {
    let found = finish(&mut Command::new(mount.join("sample/target/debug/sample")))?;
    let expected: u32 = (0..MODULES).map(|module| module + round).sum();
    if found.trim() == expected.to_string() {
        return Ok(());
    }
    Err(Error::Output { what: "another sum", found })
}
