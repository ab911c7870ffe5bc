//! `fio` on a mounted archive.

use std::path::Path;
use std::process::Command;

use xtask::error::Result;

use super::place::{Work, finish};

/// How `fio` writes and reads: through the page cache, past it, and through memory.
const WAYS: [(&str, &[&str]); 3] = [
    ("cached", &["--ioengine=psync", "--fsync=100"]),
    ("direct", &["--ioengine=psync", "--direct=1"]),
    ("memory", &["--ioengine=mmap", "--fsync=100"]),
];

/// Writes every block of a file in a random order, and verifies each, also through a new mount.
pub(super) fn run(work: &Work<'_>) -> Result<String> {
    let size = if work.is_sample { "8M" } else { "64M" };
    let place = work.place("fio")?;
    place.with(|mount| each_way(mount, size, work.seed, "--do_verify=1"))?;
    place.with(|mount| each_way(mount, size, work.seed, "--verify_only=1"))?;
    Ok(format!("wrote and verified {size} in {} ways", WAYS.len()))
}

fn each_way(mount: &Path, size: &str, seed: u64, step: &str) -> Result<()> {
    for (name, options) in WAYS {
        let mut command = Command::new("fio");
        command.args(["--rw=randwrite", "--bs=4k", "--verify=crc32c", "--verify_fatal=1"]);
        command.args(["--verify_state_save=0", "--output-format=terse", step]);
        command.arg(format!("--name={name}")).arg(format!("--size={size}"));
        command.arg(format!("--randseed={seed}")).args(options);
        finish(command.arg(format!("--directory={}", mount.display())))?;
    }
    Ok(())
}
