//! `cargo xtask bench counts`: counts, which depend on the machine less than times do.
//!
//! - System calls for each small file of an ingest, if `strace` is installed.
//! - Allocations for each entry of a listing.

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::workspace::output;

use super::own;
use super::results::{Measure, Results, first_line, work_folder};

/// Number of files in each of the two trees. The difference excludes the fixed costs of an ingest.
const FILES: [u64; 2] = [1000, 3000];

/// Size of a file in bytes.
const FILE_BYTES: usize = 1000;

/// Counts, prints the figures and stores the raw results.
pub(crate) fn run() -> Result<()> {
    let folder = work_folder(None)?;
    let mut results = Results { kind: "counts".to_owned(), ..Results::default() };
    own::add(&mut results, &["--bin", "counts"], &[])?;
    let strace = first_line(Command::new("strace").arg("-V"));
    if strace.is_empty() {
        results.skipped.insert("strace".to_owned(), "not installed: package strace".to_owned());
        println!("system calls: skipped: strace is not installed");
    } else {
        results.versions.insert("strace".to_owned(), strace);
        let ar7 = Ar7::build(folder.path())?;
        for files in FILES {
            let count = system_calls(&ar7, folder.path(), files)?;
            results.measures.push(Measure {
                subject: "ar7".to_owned(),
                case: "system calls of an ingest".to_owned(),
                count,
                threads: 1,
                size: Some(files),
                ..Measure::default()
            });
        }
    }
    for Measure { subject, case, count, size, .. } in &results.measures {
        println!("{subject}: {case}: {count} for {} entries", size.unwrap_or_default());
    }
    if let [.., few, many] = &results.measures[..]
        && few.case == many.case
    {
        let (calls, files) = (many.count.saturating_sub(few.count), FILES[1] - FILES[0]);
        println!("system calls per small file: {}.{:02}", calls / files, calls * 100 / files % 100);
    }
    results.save(folder.path())
}

/// Returns the number of system calls of an ingest of small files, in all threads.
fn system_calls(ar7: &Ar7, folder: &Path, files: u64) -> Result<u64> {
    let tree = folder.join(format!("tree-{files}"));
    fs::create_dir(&tree).map_err(Error::io("create", &tree))?;
    for number in 0..files {
        let path = tree.join(format!("file-{number}"));
        fs::write(&path, vec![7; FILE_BYTES]).map_err(Error::io("write", &path))?;
    }
    let summary = folder.join("strace.txt");
    let archive = folder.join(format!("{files}.ar7"));
    let ingest = ar7.command(["ingest".as_ref(), archive.as_os_str(), tree.as_os_str()]);
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&summary).arg(ingest.get_program());
    command.args(ingest.get_args());
    for (name, value) in ingest.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let ended = output(&mut command)?;
    if !ended.status.success() {
        let found = String::from_utf8_lossy(&ended.stderr).into_owned();
        return Err(Error::Output { what: "strace", found });
    }
    let text = fs::read_to_string(&summary).map_err(Error::io("read", &summary))?;
    total(&text).ok_or(Error::Output { what: "a summary of strace without a total", found: text })
}

/// Parses the number of calls in the last line of a summary: share, seconds, microseconds per call, calls, errors,
/// `total`.
fn total(summary: &str) -> Option<u64> {
    let line = summary.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_of_a_summary_is_read() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
            100.00    0.081000           3     24917        34 total\n";
        assert_eq!(total(text), Some(24917));
        assert_eq!(total("strace: no such file"), None);
    }
}
