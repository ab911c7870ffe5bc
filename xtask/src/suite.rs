//! `cargo xtask test`: everything that must hold before a change is taken.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use crate::bench;
use crate::error::{Error, Result};
use crate::workspace::{cargo, shown};
use crate::{format, interop, tidy};

/// One step that is a cargo command.
struct CargoStep {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const FORMATTED: CargoStep =
    CargoStep { name: "formatting", arguments: &["fmt", "--all", "--check"], environment: &[] };

const LINTED: CargoStep = CargoStep {
    name: "lints",
    arguments: &["clippy", "--locked", "--all-targets", "--quiet", "--", "-D", "warnings"],
    environment: &[],
};

const DOCUMENTED: CargoStep = CargoStep {
    name: "documentation",
    arguments: &["doc", "--locked", "--no-deps", "--quiet"],
    environment: &[("RUSTDOCFLAGS", "-D warnings")],
};

const BENCHES: CargoStep = CargoStep {
    name: "benchmarks compile",
    arguments: &[
        "check",
        "--locked",
        "--package",
        "ar7-benches",
        "--all-features",
        "--all-targets",
        "--quiet",
    ],
    environment: &[],
};

/// The programs of the fuzz targets: libFuzzer itself is for a campaign, and takes a C++ compiler, but they must not rot.
const FUZZ_TARGETS: CargoStep = CargoStep {
    name: "fuzz targets compile",
    arguments: &[
        "clippy",
        "--locked",
        "--package",
        "ar7-fuzz",
        "--features",
        "programs",
        "--bins",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ],
    environment: &[],
};

/// What takes the place of the assembly where there is no C compiler.
const PURE_RUST: CargoStep = CargoStep {
    name: "cryptography in pure Rust",
    arguments: &[
        "test",
        "--locked",
        "--package",
        "ar7-engine",
        "--no-default-features",
        "--quiet",
        "crypto",
    ],
    environment: &[],
};

/// Unit, integration and documentation tests of the default members, and their examples built. All test
/// programs run even if one fails, so that one run names every failure.
const TESTS: &[&str] = &["test", "--locked", "--no-fail-fast"];

/// Runs every step in order and stops at the first that fails. The last line is the sum of all tests.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    step(&FORMATTED)?;
    step(&LINTED)?;
    announce("tidy");
    tidy::run()?;
    announce("tables of docs/FORMAT.md");
    format::run(true)?;
    announce("docs/PERFORMANCE.md");
    bench::check_report()?;
    step(&DOCUMENTED)?;
    step(&BENCHES)?;
    step(&FUZZ_TARGETS)?;
    step(&PURE_RUST)?;
    announce("tests");
    let (counts, outcome) = tests()?;
    announce("another reader");
    let outcome = outcome.and(interop::run_if_possible());
    announce(&format!("done in {} s", started.elapsed().as_secs()));
    if let Err(error) = &outcome {
        announce(&error.to_string());
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    outcome
}

/// Numbers of tests, summed over every test program.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Adds a "test result: ok. 3 passed; 1 failed; ..." line; any other line adds nothing.
    fn add_line(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => self.passed += number,
                (Some(number), Some("failed")) => self.failed += number,
                _ => {}
            }
        }
    }
}

fn tests() -> Result<(Counts, Result<()>)> {
    let mut command = cargo(TESTS);
    command.stdout(Stdio::piped());
    let start = |source| Error::Start { command: shown(&cargo(TESTS)), source };
    let mut child = command.spawn().map_err(start)?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(start)?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            counts.add_line(&line);
        }
    }
    let status = child.wait().map_err(start)?;
    let failed = !status.success() || counts.failed > 0 || counts.passed == 0;
    let outcome = if failed { Err(failure("tests", &command, status)) } else { Ok(()) };
    Ok((counts, outcome))
}

fn step(step: &CargoStep) -> Result<()> {
    announce(step.name);
    let mut command = cargo(step.arguments);
    command.envs(step.environment.iter().copied());
    let status =
        command.status().map_err(|source| Error::Start { command: shown(&command), source })?;
    if status.success() { Ok(()) } else { Err(failure(step.name, &command, status)) }
}

fn failure(step: &'static str, command: &Command, status: ExitStatus) -> Error {
    Error::Step { step, command: shown(command), status: status.to_string() }
}

/// Says which step runs; on standard output, so that it stays in order with the tests' own lines.
fn announce(name: &str) {
    println!("== {name}");
    // Standard output is this program's only product here: if it is closed, nobody is listening.
    io::stdout().flush().ok();
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn results_are_summed() {
        let mut counts = Counts::default();
        counts.add_line("running 3 tests");
        counts.add_line("test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered");
        counts.add_line("test result: FAILED. 1 passed; 2 failed; 0 ignored; finished in 0.1s");
        counts.add_line("no test result: 7 passed");
        assert_eq!(counts, Counts { passed: 13, failed: 2 });
    }
}
