//! Runs programs, or pipelines of programs, and measures their cost.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use xtask::error::{Error, Result};

/// The interval between samples of the memory.
const LOOK: Duration = Duration::from_millis(10);

/// The number of bytes to read from a pipe at a time.
const PIPE_BUFFER: usize = 1 << 20;

/// Programs in a pipeline: each reads the output of the previous one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipeline {
    stages: Vec<Vec<OsString>>,
    directory: Option<PathBuf>,
    /// Whether to read the output of the last program through a pipe and discard it.
    is_read: bool,
}

/// The cost of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) anonymous_bytes: u64,
}

/// Returns a pipeline of one program.
pub(crate) fn program<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Pipeline {
    Pipeline::default().pipe(words)
}

impl Pipeline {
    /// Adds a program that reads the output of the last one.
    pub(crate) fn pipe<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Pipeline {
        self.stages.push(words.into_iter().map(|word| word.as_ref().to_owned()).collect());
        self
    }

    /// Sets the working directory.
    pub(crate) fn within(self, directory: &Path) -> Pipeline {
        Pipeline { directory: Some(directory.to_owned()), ..self }
    }

    /// Makes the run read and discard the output of the last program.
    pub(crate) fn read(self) -> Pipeline {
        Pipeline { is_read: true, ..self }
    }

    /// Formats the pipeline as a user would type it, without the directories of this machine.
    pub(crate) fn shown(&self, work: &Path) -> String {
        let stage = |words: &Vec<OsString>| {
            words.iter().map(|word| short(word, work)).collect::<Vec<_>>().join(" ")
        };
        self.stages.iter().map(stage).collect::<Vec<_>>().join(" | ")
    }

    /// Runs the pipeline to its end, and fails unless every program succeeds.
    pub(crate) fn run(&self, work: &Path, environment: &[(String, OsString)]) -> Result<Usage> {
        let errors_path = work.join("errors.txt");
        let errors = File::create(&errors_path).map_err(Error::io("create", &errors_path))?;
        let started = Instant::now();
        let mut children = self.start(&errors, environment)?;
        let is_done = AtomicBool::new(false);
        let (outcome, anonymous_bytes) = thread::scope(|scope| {
            let identifiers: Vec<u32> = children.iter().map(Child::id).collect();
            let is_done = &is_done;
            let watcher = scope.spawn(move || watch(&identifiers, is_done));
            if self.is_read
                && let Some(mut pipe) = children.last_mut().and_then(|last| last.stdout.take())
            {
                let mut buffer = vec![0; PIPE_BUFFER];
                while pipe.read(&mut buffer).is_ok_and(|read| read > 0) {}
            }
            let outcome = children.iter_mut().map(ended).collect::<Result<Vec<f64>>>();
            is_done.store(true, Ordering::Relaxed);
            (outcome, watcher.join().unwrap_or_default())
        });
        let cpu_seconds = outcome.map_err(|error| {
            let said = fs::read_to_string(&errors_path).unwrap_or_default();
            Error::Fault(format!("`{}`: {error}\n{said}", self.shown(work)))
        })?;
        Ok(Usage {
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds.iter().sum(),
            anonymous_bytes,
        })
    }

    fn start(&self, errors: &File, environment: &[(String, OsString)]) -> Result<Vec<Child>> {
        let mut children: Vec<Child> = Vec::new();
        for (number, words) in self.stages.iter().enumerate() {
            let [name, arguments @ ..] = &words[..] else { continue };
            let mut command = Command::new(name);
            command.args(arguments).envs(environment.iter().cloned());
            if let Some(directory) = &self.directory {
                command.current_dir(directory);
            }
            let is_last = number + 1 == self.stages.len();
            let before = children.last_mut().and_then(|child| child.stdout.take());
            command.stdin(before.map_or_else(Stdio::null, Stdio::from));
            let is_piped = !is_last || self.is_read;
            command.stdout(if is_piped { Stdio::piped() } else { Stdio::null() });
            let errors =
                errors.try_clone().map_err(Error::io("open again", Path::new("errors")))?;
            command.stderr(errors);
            let name = name.to_string_lossy().into_owned();
            let child = command.spawn().map_err(|source| Error::Start { command: name, source })?;
            children.push(child);
        }
        Ok(children)
    }
}

/// Shortens a word of a command: a path within `work` becomes relative, and any other path its last component.
pub(crate) fn short(word: &OsStr, work: &Path) -> String {
    let path = Path::new(word);
    let name = path.file_name().filter(|_| path.is_absolute()).map(Path::new);
    path.strip_prefix(work).ok().or(name).unwrap_or(path).to_string_lossy().into_owned()
}

/// Waits for a program and returns its processor time, read before the process is reaped. A warning is not a failure.
fn ended(child: &mut Child) -> Result<f64> {
    let identifier = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(identifier) = identifier {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // The second wait reports the failure.
        let _ = waitid(WaitId::Pid(identifier), options);
    }
    let ticks = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let status = child.wait().map_err(Error::io("wait for", Path::new("a program")))?;
    if !status.success() {
        return Err(Error::Fault(format!("ended with {status}")));
    }
    Ok(processor_seconds(&ticks))
}

/// Parses the user and system time of a process and its waited-for children from its line in `/proc/PID/stat`.
fn processor_seconds(line: &str) -> f64 {
    // The name, in parentheses, may contain any character.
    let after = line.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u32 =
        after.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<u32>().ok()).sum();
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    f64::from(ticks) / f64::from(per_second)
}

/// Samples the memory of programs until they end. Returns the maximum of their total.
fn watch(identifiers: &[u32], is_done: &AtomicBool) -> u64 {
    let mut most = 0;
    while !is_done.load(Ordering::Relaxed) {
        most = most.max(identifiers.iter().map(|&identifier| anonymous_bytes(identifier)).sum());
        thread::sleep(LOOK);
    }
    most
}

fn anonymous_bytes(identifier: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{identifier}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_runs_and_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = program(["sh", "-c", "head -c 3000000 /dev/zero"]).pipe(["cat"]).read();
        let usage = pipeline.run(folder.path(), &[]).unwrap();
        assert!(usage.seconds > 0.0 && usage.cpu_seconds < 60.0);
        let failing = program(["sh", "-c", "echo no >&2; exit 3"]);
        let error = failing.run(folder.path(), &[]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no"), "{error}");
    }

    #[test]
    fn commands_are_shown_without_folders() {
        let pipeline = program(["/opt/bin/ar7", "-q", "/w/a.ar7", "/home/tree", "."]).pipe(["cat"]);
        assert_eq!(pipeline.shown(Path::new("/w")), "ar7 -q a.ar7 tree . | cat");
    }

    #[test]
    fn times_include_the_process_and_its_children() {
        let line = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 100 20 3 2 20 0 1 0 5 6 7";
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        let found = processor_seconds(line);
        assert!((found - f64::from(125_u32) / f64::from(per_second)).abs() < 1e-9, "{found}");
    }
}
