//! `cargo xtask test` and `cargo xtask proof`: the checks that a change must pass.
//!
//! Every step that compiles selects the whole workspace, so that features unify and no crate is built twice.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use xtask::error::{Error, Result};
use xtask::workspace::{built_program, cargo, output, shown};

use crate::tidy;

/// One step that is a cargo command.
struct CargoStep {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const FORMATTING: CargoStep =
    CargoStep { name: "formatting", arguments: &["fmt", "--all", "--check"], environment: &[] };

/// Includes the fuzz targets without libFuzzer, which needs a C++ compiler.
const LINTS: CargoStep = CargoStep {
    name: "lints",
    arguments: &[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--features",
        "ar7-fuzz/programs,ar7/serde",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ],
    environment: &[],
};

/// Selects the features of the lints, so that their metadata of the dependencies serves both. The example makes cargo
/// select the features that tests need too.
const DOCUMENTATION: CargoStep = CargoStep {
    name: "documentation",
    arguments: &[
        "doc",
        "--locked",
        "--workspace",
        "--lib",
        "--example",
        "quick_start",
        "--features",
        "ar7-fuzz/programs,ar7/serde",
        "--no-deps",
        "--quiet",
    ],
    environment: &[("RUSTDOCFLAGS", "-D warnings")],
};

/// The tests of the cryptography that is in pure Rust. Every test run also compares it with the default implementation.
const PURE_RUST: CargoStep = CargoStep {
    name: "cryptography in pure Rust",
    arguments: &[
        "test",
        "--locked",
        "--package",
        "ar7-engine",
        "--no-default-features",
        "--lib",
        "--quiet",
        "crypto",
    ],
    environment: &[],
};

/// The arguments that run a campaign with a file system.
macro_rules! fuse_campaign {
    ($($argument:literal),+) => {
        &[
            "run",
            "--locked",
            "--quiet",
            "--package",
            "ar7-fuzz",
            "--features",
            "fuse",
            "--bin",
            "campaign",
            "--",
            $($argument),+
        ]
    };
}

/// A sample of the calls. Only this step and the next two compile the file system.
const MOUNT_FAULTS: CargoStep = CargoStep {
    name: "a file system that fails",
    arguments: fuse_campaign!("mount-faults", "--tested", "--every", "9"),
    environment: &[],
};

/// A sample of the operations and kills.
const MOUNT_MODEL: CargoStep = CargoStep {
    name: "mounts and a model",
    arguments: fuse_campaign!("mount-model", "--tested", "--operations", "20000", "--kills", "20"),
    environment: &[],
};

/// A sample of the work of each program that is installed.
const MOUNT_PROGRAMS: CargoStep = CargoStep {
    name: "programs on mounts",
    arguments: fuse_campaign!("mount-programs", "--tested", "--sample"),
    environment: &[],
};

/// The stores that the registry is compared with; two of them are built from C.
const STORES: CargoStep = CargoStep {
    name: "benchmarks with other stores",
    arguments: &[
        "clippy",
        "--locked",
        "--package",
        "ar7-benches",
        "--all-features",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ],
    environment: &[],
};

/// The target that stands for macOS. Nothing is linked or run.
const MACOS: &str = "x86_64-apple-darwin";

/// The library and the command for macOS. This machine may have no C compiler for it, and a check links nothing, so a
/// program that does nothing stands for the compiler.
const MACOS_BUILDS: CargoStep = CargoStep {
    name: "library and command compile for macOS",
    arguments: &[
        "check",
        "--locked",
        "--package",
        "ar7",
        "--package",
        "ar7-cli",
        "--no-default-features",
        "--target",
        MACOS,
        "--quiet",
    ],
    environment: &[("CC_x86_64_apple_darwin", "true"), ("AR_x86_64_apple_darwin", "true")],
};

/// Unit, integration and documentation tests, and the programs that they run. Every test program runs even if one
/// fails, so that one run reports every failure.
const TESTS: &[&str] =
    &["test", "--locked", "--workspace", "--features", "ar7/serde", "--no-fail-fast"];

/// The ignored tests, which run checks of [`TESTS`] at full effort.
const PROOFS: &[&str] =
    &["test", "--locked", "--workspace", "--no-fail-fast", "--lib", "--tests", "--", "--ignored"];

/// Number of patches that `proof` tries, each of which needs a build. The seed of their choice is fixed, so that a
/// failure can be reproduced.
const PATCHES: &str = "4";

/// Runs every check at the effort meant for each change.
pub(crate) fn test() -> Result<()> {
    let clock = Clock::start();
    clock.step(&FORMATTING)?;
    clock.step(&LINTS)?;
    clock.announce("tidy");
    tidy::run()?;
    clock.step(&DOCUMENTATION)?;
    clock.announce("tests");
    let (counts, outcome) = tests("tests", TESTS)?;
    clock.announce("second reader");
    let interop = interop(&["--rounds", "1", "--skip-without-python"]);
    clock.finish(&counts, outcome.and(interop))
}

/// Runs the checks that `test` omits or samples, at full effort.
pub(crate) fn proof() -> Result<()> {
    let clock = Clock::start();
    clock.announce("tests at full effort");
    let (counts, outcome) = tests("tests at full effort", PROOFS)?;
    clock.announce("second reader");
    let interop = interop(&["--rounds", "2", "--skip-without-python"]);
    clock.announce("readers and writers in processes");
    let mut stress = campaign()?;
    stress.arg("stress");
    let stress = check("readers and writers in processes", stress);
    clock.announce("trees of a normal user");
    let mut trees = campaign()?;
    trees.args(["file-systems", "--sample"]);
    let trees = check("trees of a normal user", trees);
    clock.announce("a sample of patches");
    let mut sample = campaign()?;
    sample.args(["patches", "--sample", PATCHES]);
    let patches = check("a sample of patches", sample);
    let outcome = outcome.and(interop).and(stress).and(trees).and(patches);
    let outcome = outcome.and(clock.step(&PURE_RUST)).and(clock.step(&STORES));
    let outcome = outcome.and(macos(&clock)).and(clock.step(&MOUNT_FAULTS));
    let outcome = outcome.and(clock.step(&MOUNT_MODEL)).and(clock.step(&MOUNT_PROGRAMS));
    clock.finish(&counts, outcome)
}

/// Compiles for macOS where the target is installed.
fn macos(clock: &Clock) -> Result<()> {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", MACOS]);
    let folder = output(&mut command)?.stdout;
    if Path::new(String::from_utf8_lossy(&folder).trim()).is_dir() {
        return clock.step(&MACOS_BUILDS);
    }
    println!("skipped: {}: the target {MACOS} is not installed", MACOS_BUILDS.name);
    Ok(())
}

/// Compares the second reader with `ar7`, using the programs that the tests have built.
fn interop(options: &[&str]) -> Result<()> {
    let mut command = campaign()?;
    command.arg("interop").arg("--ar7").arg(built_program("debug", "ar7")?).args(options);
    check("second reader", command)
}

/// Returns the campaign program that the tests have built.
fn campaign() -> Result<Command> {
    Ok(Command::new(built_program("debug", "campaign")?))
}

/// Numbers of tests, summed over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Adds the numbers of a "test result: ok. 3 passed; 1 failed; ..." line; ignores any other line.
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

/// Runs test programs and counts their tests.
fn tests(step: &'static str, arguments: &[&str]) -> Result<(Counts, Result<()>)> {
    let mut command = cargo(arguments);
    command.stdout(Stdio::piped());
    let start = |source| Error::Start { command: shown(&cargo(arguments)), source };
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
    let outcome = if failed { Err(failure(step, &command, status)) } else { Ok(()) };
    Ok((counts, outcome))
}

fn check(step: &'static str, mut command: Command) -> Result<()> {
    let status =
        command.status().map_err(|source| Error::Start { command: shown(&command), source })?;
    if status.success() { Ok(()) } else { Err(failure(step, &command, status)) }
}

fn failure(step: &'static str, command: &Command, status: ExitStatus) -> Error {
    Error::Step { step, command: shown(command), status: status.to_string() }
}

/// Times the steps.
struct Clock {
    started: Instant,
}

impl Clock {
    fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    fn step(&self, step: &CargoStep) -> Result<()> {
        self.announce(step.name);
        let mut command = cargo(step.arguments);
        command.envs(step.environment.iter().copied());
        check(step.name, command)
    }

    /// Prints the name of the step that starts; on standard output, to keep the order with the lines of the tests.
    fn announce(&self, name: &str) {
        println!("== {name} ({})", self.spent());
        // If standard output is closed, there is no reader to inform.
        io::stdout().flush().ok();
    }

    /// Prints the outcome; the last line counts the tests.
    fn finish(&self, counts: &Counts, outcome: Result<()>) -> Result<()> {
        println!("== done ({})", self.spent());
        if let Err(error) = &outcome {
            println!("== {error}");
        }
        println!("{} passed, {} failed", counts.passed, counts.failed);
        outcome
    }

    fn spent(&self) -> String {
        let elapsed = self.started.elapsed().as_secs();
        let line = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        format!("{elapsed} s, {} CPU s", processor_seconds(&line))
    }
}

/// Parses the user and system time of a process's finished children from its line in `/proc/PID/stat`.
fn processor_seconds(line: &str) -> u64 {
    const TICKS_PER_SECOND: u64 = 100;
    // The name, in parentheses, may contain any character.
    let after = line.rsplit_once(')').map_or("", |(_, after)| after);
    let children = after.split_whitespace().skip(13).take(2);
    children.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::{Counts, processor_seconds};

    #[test]
    fn results_are_summed() {
        let mut counts = Counts::default();
        counts.add_line("running 3 tests");
        counts.add_line("test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered");
        counts.add_line("test result: FAILED. 1 passed; 2 failed; 0 ignored; finished in 0.1s");
        counts.add_line("no test result: 7 passed");
        assert_eq!(counts, Counts { passed: 13, failed: 2 });
    }

    #[test]
    fn the_processor_time_of_children_is_read() {
        let line = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 100 20 300 200 20 0 1 0 5 6 7";
        assert_eq!(processor_seconds(line), 5);
    }
}
