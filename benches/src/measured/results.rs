//! Results: what was measured, on which machine, and when. One document for each run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::run::short;
use xtask::error::{Error, Result};
use xtask::workspace::{output, root};

/// The directory of the documents.
const FOLDER: &str = "benches/results";

/// The results of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The subcommand that produced it.
    pub(crate) kind: String,
    /// The arguments of the subcommand.
    pub(crate) command: String,
    /// The time of the end, in UTC.
    pub(crate) date: String,
    /// The commit of the tree, as git describes it.
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    /// Properties of the input, for example the number of entries and of bytes of the tree.
    #[serde(default)]
    pub(crate) inputs: BTreeMap<String, u64>,
    /// The versions of the programs.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, String>,
    /// The programs that were not installed, and the Debian packages that contain them.
    #[serde(default)]
    pub(crate) skipped: BTreeMap<String, String>,
    pub(crate) measures: Vec<Measure>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) system: String,
    pub(crate) file_system: String,
}

/// One operation of one program, measured once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measure {
    /// The program, store or method.
    #[serde(alias = "store")]
    pub(crate) subject: String,
    pub(crate) case: String,
    #[serde(default)]
    pub(crate) round: u32,
    #[serde(default = "one")]
    pub(crate) threads: u64,
    /// The number of repetitions in this time.
    #[serde(default = "one")]
    pub(crate) count: u64,
    /// The wall time until the written data is on stable storage.
    #[serde(default, deserialize_with = "seconds_or_none")]
    pub(crate) seconds: f64,
    /// The number of streams or bytes in the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// The user and system time of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_seconds: Option<f64>,
    /// The maximum anonymous memory, sampled every 10 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) anonymous_bytes: Option<u64>,
    /// The size of the written data.
    #[serde(default, alias = "bytes", skip_serializing_if = "Option::is_none")]
    pub(crate) output_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
    /// The version of the subject, stored once for the whole run.
    #[serde(default, skip_serializing)]
    pub(crate) version: Option<String>,
}

/// Reads a measure without a time, such as a size, as zero seconds.
fn seconds_or_none<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn one() -> u64 {
    1
}

/// The output of one of our benchmark programs.
#[derive(Deserialize)]
pub(crate) struct Printed {
    pub(crate) measures: Vec<Measure>,
}

impl Results {
    /// Writes the document, named by its kind, day and commit.
    pub(crate) fn save(mut self, directory: &Path) -> Result<()> {
        self.date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.commit = first_line(Command::new("git").current_dir(root()).args([
            "describe",
            "--always",
            "--dirty=+changes",
        ]));
        self.machine = Machine::of(directory);
        let words = std::iter::once("bench".into()).chain(std::env::args_os().skip(1));
        self.command = words.map(|word| short(&word, directory)).collect::<Vec<_>>().join(" ");
        let folder = root().join(FOLDER);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let day = self.date.split('T').next().unwrap_or_default();
        let path = folder.join(format!("{}-{day}-{}.json", self.kind, self.commit));
        let mut text = serde_json::to_string_pretty(&self)
            .map_err(|error| Error::Output { what: "results", found: error.to_string() })?;
        text.push('\n');
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        println!("{} is written", path.display());
        Ok(())
    }
}

/// Returns the newest document of each kind.
pub(crate) fn newest() -> Result<BTreeMap<String, Results>> {
    let folder = root().join(FOLDER);
    let mut newest: BTreeMap<String, Results> = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(newest);
    }
    for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let results: Results = serde_json::from_str(&text).map_err(|error| Error::Output {
            what: "a result is unreadable",
            found: format!("{}: {error}", path.display()),
        })?;
        match newest.get(&results.kind) {
            Some(known) if known.date >= results.date => {}
            _ => drop(newest.insert(results.kind.clone(), results)),
        }
    }
    Ok(newest)
}

impl Machine {
    fn of(directory: &Path) -> Machine {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal");
        let kibibytes: u64 =
            memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Machine {
            processor: field(&text("/proc/cpuinfo"), "model name"),
            cores: u64::try_from(cores).unwrap_or_default(),
            memory_bytes: kibibytes * 1024,
            system: first_line(Command::new("uname").arg("-sr")),
            file_system: first_line(Command::new("stat").args(["-f", "-c", "%T"]).arg(directory)),
        }
    }
}

/// Returns the first non-blank line of a command's output, or an empty string.
pub(crate) fn first_line(command: &mut Command) -> String {
    let text = output(command).map(|output| [output.stdout, output.stderr].concat());
    let text = text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// Creates a directory to work in, which is removed at the end.
pub(crate) fn work_folder(directory: Option<&PathBuf>) -> Result<tempfile::TempDir> {
    let parent = directory.cloned().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("ar7-bench-").tempdir_in(&parent);
    folder.map_err(Error::io("create a directory in", &parent))
}
