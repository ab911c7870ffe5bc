//! `cargo xtask demo`: stores a real tree, restores it, and shows the effect of damage. Each step is timed.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xtask::ar7::{Ar7, EXIT_DAMAGED, Finished};
use xtask::compare::compare;
use xtask::error::{Error, Result};
use xtask::quantity::{rate, seconds, size};
use xtask::trees::{large_tree, measure};
use xtask::workspace::root;

/// Number of lines to show at each end of a long output.
const LINES_SHOWN: usize = 3;

/// Number of bits to flip, spread over the archive.
const DAMAGED_BLOCKS: u64 = 8;

/// Size of a block, and number of blocks before the first data block, from docs/FORMAT.md.
const BLOCK_BYTES: u64 = 4096;
const RESERVED_BLOCKS: u64 = 8;

/// Runs the demonstration on `path`, or on this repository and a large tree of the toolchain.
pub(crate) fn run(path: Option<PathBuf>) -> Result<()> {
    println!("building ar7: cargo build --release --package ar7-cli");
    // The next line reports a closed standard output.
    io::stdout().flush().ok();
    let folder = tempfile::Builder::new()
        .prefix("ar7-demo-")
        .tempdir()
        .map_err(Error::io("create a directory in", &env::temp_dir()))?;
    let inputs = match path {
        Some(path) => vec![path.canonicalize().map_err(Error::io("find", &path))?],
        None => default_inputs(),
    };
    Demo::new(folder.path(), inputs)?.show()
}

fn default_inputs() -> Vec<PathBuf> {
    let own = ["engine", "registry", "cli", "docs"].map(|name| root().join(name));
    own.into_iter().chain(large_tree()).collect()
}

/// What a step processes. Bytes per second are meaningful only if contents are read.
#[derive(Clone, Copy)]
enum Moves {
    Content,
    Names,
}

struct Demo {
    ar7: Ar7,
    archive: PathBuf,
    extracted: PathBuf,
    inputs: Vec<PathBuf>,
    files: u64,
    bytes: u64,
}

impl Demo {
    fn new(folder: &Path, inputs: Vec<PathBuf>) -> Result<Demo> {
        let ar7 = Ar7::build(folder)?;
        let (mut files, mut bytes) = (0, 0);
        for input in &inputs {
            let (more_files, more_bytes) = measure(input)?;
            files += more_files;
            bytes += more_bytes;
            println!("{}: {more_files} entries, {}", input.display(), size(more_bytes));
        }
        println!("$ ar7 keygen key");
        let archive = folder.join("demo.ar7");
        Ok(Demo { ar7, archive, extracted: folder.join("out"), inputs, files, bytes })
    }

    fn show(&self) -> Result<()> {
        let mut ingest: Vec<&OsStr> = vec!["ingest".as_ref(), self.archive.as_ref()];
        ingest.extend(self.inputs.iter().map(AsRef::<OsStr>::as_ref));
        self.step(0, Moves::Content, &ingest)?;
        let length = fs::metadata(&self.archive).map_err(Error::io("stat", &self.archive))?.len();
        println!("  tree: {}, archive: {}", size(self.bytes), size(length));
        println!("again, without changes:");
        self.step(0, Moves::Names, &ingest)?;

        let archive = self.archive.as_os_str();
        let list = ["ls".as_ref(), archive, "-l".as_ref(), "-R".as_ref()];
        print_ends(&self.step(0, Moves::Names, &list)?.stdout);
        let verify = ["verify".as_ref(), archive];
        print_ends(&self.step(0, Moves::Content, &verify)?.stdout);
        let to = self.extracted.as_os_str();
        // The demonstration trusts its own tree, and compares every mode.
        let special = OsStr::new("--preserve-special");
        let extract = ["extract".as_ref(), archive, special, "--to".as_ref(), to];
        self.step(0, Moves::Content, &extract)?;
        self.compare()?;
        self.damage(length)?;
        println!("demo: done");
        Ok(())
    }

    /// Runs one command and prints the time it took.
    fn step(&self, expected: i32, moves: Moves, arguments: &[&OsStr]) -> Result<Finished> {
        let shown: Vec<String> = arguments.iter().map(|word| self.short(word)).collect();
        println!("$ ar7 {}", shown.join(" "));
        let started = Instant::now();
        let finished = self.ar7.expect(expected, arguments)?;
        self.report(started.elapsed(), moves);
        Ok(finished)
    }

    /// Returns a word of a command without the name of the temporary directory.
    fn short(&self, word: &OsStr) -> String {
        let path = Path::new(word);
        let folder = self.archive.parent().unwrap_or(path);
        path.strip_prefix(folder).unwrap_or(path).display().to_string()
    }

    fn report(&self, time: Duration, moves: Moves) {
        let bytes = match moves {
            Moves::Content => Some(self.bytes),
            Moves::Names => None,
        };
        println!("  {}: {}", seconds(time), rate(bytes, self.files, time));
    }

    /// Compares each input with its copy, which is named by the input's last component.
    fn compare(&self) -> Result<()> {
        println!("comparing contents, modes, times and links:");
        let started = Instant::now();
        let (mut entries, mut bytes) = (0, 0);
        for input in &self.inputs {
            let name = input.file_name().unwrap_or_default();
            let comparison = compare(input, &self.extracted.join(name))?.into_result()?;
            entries += comparison.entries;
            bytes += comparison.bytes;
            if comparison.special > 0 {
                println!("  {} special files were not archived", comparison.special);
            }
        }
        self.report(started.elapsed(), Moves::Content);
        println!("  no difference in {entries} entries, {}", size(bytes));
        Ok(())
    }

    /// Flips one bit in some blocks. `verify` must report them and exit with the code for damage.
    fn damage(&self, length: u64) -> Result<()> {
        println!("flipping one bit in each of {DAMAGED_BLOCKS} blocks:");
        let file = OpenOptions::new().read(true).write(true).open(&self.archive);
        let file = file.map_err(Error::io("open", &self.archive))?;
        let blocks = (length / BLOCK_BYTES).saturating_sub(RESERVED_BLOCKS);
        for number in 0..DAMAGED_BLOCKS.min(blocks) {
            let block = RESERVED_BLOCKS + number * blocks / DAMAGED_BLOCKS;
            let offset = block * BLOCK_BYTES + 1000;
            let mut byte = [0];
            let flipped = file.read_exact_at(&mut byte, offset).and_then(|()| {
                byte[0] ^= 1;
                file.write_all_at(&byte, offset)
            });
            flipped.map_err(Error::io("damage", &self.archive))?;
        }
        drop(file);
        let verify = ["verify".as_ref(), self.archive.as_os_str()];
        let found = self.step(EXIT_DAMAGED, Moves::Content, &verify)?;
        print_ends(&found.stdout);
        print_ends(&found.stderr);
        println!("  {}", found.status);
        Ok(())
    }
}

/// Prints the first and the last lines of an output.
fn print_ends(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let is_short = lines.len() <= 2 * LINES_SHOWN;
    let shown = if is_short { lines.len() } else { LINES_SHOWN };
    for line in &lines[..shown] {
        println!("  {line}");
    }
    if !is_short {
        println!("  ... ({} lines)", lines.len());
        for line in &lines[lines.len() - LINES_SHOWN..] {
            println!("  {line}");
        }
    }
}
