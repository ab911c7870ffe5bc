//! `cargo xtask demo`: a real tree goes into an archive and comes back, step by step and measured.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ar7_engine::format::{BLOCK_SIZE_U64, RESERVED_BLOCKS};
use ar7_fuzz::Random;

use crate::ar7::{Ar7, EXIT_DAMAGED, Finished};
use crate::compare::compare;
use crate::error::{Error, Result};
use crate::quantity::{rate, seconds, size};
use crate::tree::{self, Shape};
use crate::workspace::{output, root};

/// A tree from the toolchain must be at least this large to be worth showing.
const LARGE_TREE_BYTES: u64 = 64 << 20;

/// The tree made where nothing large is at hand.
const GENERATED: Shape = Shape { files: 4000, large_files: 4 };

/// Lines of a long listing that are shown.
const LISTED: usize = 5;

/// Bits that are flipped, spread over the archive.
const DAMAGED_BLOCKS: u64 = 8;

/// Runs the demonstration on `path`, or on what is at hand.
pub(crate) fn run(path: Option<PathBuf>) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("ar7-demo-")
        .tempdir()
        .map_err(Error::io("create a folder in", &env::temp_dir()))?;
    let inputs = match path {
        Some(path) => vec![path.canonicalize().map_err(Error::io("find", &path))?],
        None => default_inputs(folder.path())?,
    };
    let demo = Demo::new(folder.path(), inputs)?;
    demo.show()
}

/// This repository's own folders, and a large tree.
fn default_inputs(folder: &Path) -> Result<Vec<PathBuf>> {
    let own = ["engine", "registry", "cli", "xtask", "docs"].map(|name| root().join(name));
    let mut inputs: Vec<PathBuf> = own.into_iter().filter(|path| path.is_dir()).collect();
    inputs.push(large_tree(folder)?);
    Ok(inputs)
}

/// The largest tree that the toolchain brought along, or one that is made in a folder.
pub(crate) fn large_tree(folder: &Path) -> Result<PathBuf> {
    for candidate in [toolchain_documentation(), cargo_sources()].into_iter().flatten() {
        if tree::measure(&candidate).is_ok_and(|(_, bytes)| bytes >= LARGE_TREE_BYTES) {
            return Ok(candidate);
        }
    }
    let generated = folder.join("generated");
    tree::generate(&generated, GENERATED, &mut Random::new(7))?;
    Ok(generated)
}

fn toolchain_documentation() -> Option<PathBuf> {
    let output = output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(sysroot.trim()).join("share/doc"))
}

fn cargo_sources() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let source = home.join("registry/src");
    source.is_dir().then_some(source)
}

/// What a step goes through: a rate in bytes says something only where contents are read.
#[derive(Clone, Copy)]
enum Moves {
    Content,
    Names,
}

/// The folder, the program, and what it is shown with.
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
        let (mut files, mut bytes) = (0, 0);
        for input in &inputs {
            let (more_files, more_bytes) = tree::measure(input)?;
            files += more_files;
            bytes += more_bytes;
            println!("{}: {more_files} entries, {}", input.display(), size(more_bytes));
        }
        println!("$ cargo build --release --package ar7\n$ ar7 keygen key");
        let ar7 = Ar7::build(folder)?;
        let archive = folder.join("demo.ar7");
        Ok(Demo { ar7, archive, extracted: folder.join("out"), inputs, files, bytes })
    }

    fn show(&self) -> Result<()> {
        let mut ingest: Vec<&OsStr> = vec!["ingest".as_ref(), self.archive.as_ref()];
        ingest.extend(self.inputs.iter().map(AsRef::<OsStr>::as_ref));
        self.step(0, Moves::Content, &ingest)?;
        let length =
            fs::metadata(&self.archive).map_err(Error::io("look at", &self.archive))?.len();
        println!("  the archive is {}, the tree {}", size(length), size(self.bytes));
        println!("again, where nothing has changed:");
        self.step(0, Moves::Names, &ingest)?;

        let archive = self.archive.as_os_str();
        let listed =
            self.step(0, Moves::Names, &["ls".as_ref(), archive, "-l".as_ref(), "-R".as_ref()])?;
        for line in listed.stdout.lines().take(LISTED) {
            println!("  {line}");
        }
        println!("  ... {} lines", listed.stdout.lines().count());
        let verified = self.step(0, Moves::Content, &["verify".as_ref(), archive])?;
        print_indented(&verified.stdout);
        let to = self.extracted.as_os_str();
        // The tree is the caller's own, and is compared bit for bit.
        let special = OsStr::new("--preserve-special");
        let extract = ["extract".as_ref(), archive, special, "--to".as_ref(), to];
        self.step(0, Moves::Content, &extract)?;
        self.compare()?;
        self.damage(length)?;
        println!("demo: done");
        Ok(())
    }

    /// Runs one command and says how long it took.
    fn step(&self, expected: i32, moves: Moves, arguments: &[&OsStr]) -> Result<Finished> {
        let shown: Vec<String> = arguments.iter().map(|word| self.short(word)).collect();
        println!("$ ar7 {}", shown.join(" "));
        let started = Instant::now();
        let finished = self.ar7.expect(expected, arguments)?;
        self.report(started.elapsed(), moves);
        Ok(finished)
    }

    /// A word of a command without the temporary folder's name.
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

    /// Each input was stored under its last component.
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
                println!("  {} special files are not archived", comparison.special);
            }
        }
        self.report(started.elapsed(), Moves::Content);
        println!("  no difference in {entries} entries, {}", size(bytes));
        Ok(())
    }

    /// Flips one bit in some blocks: `verify` names them and ends with the exit code for damage.
    fn damage(&self, length: u64) -> Result<()> {
        println!("flipping one bit in each of {DAMAGED_BLOCKS} blocks:");
        let file = OpenOptions::new().read(true).write(true).open(&self.archive);
        let file = file.map_err(Error::io("open", &self.archive))?;
        let reserved = u64::from(RESERVED_BLOCKS);
        let blocks = (length / BLOCK_SIZE_U64).saturating_sub(reserved);
        for number in 0..DAMAGED_BLOCKS.min(blocks) {
            let block = reserved + number * blocks / DAMAGED_BLOCKS;
            let offset = block * BLOCK_SIZE_U64 + 1000;
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
        print_indented(&found.stdout);
        print_indented(&found.stderr);
        println!("  {}", found.status);
        Ok(())
    }
}

/// The first and the last lines of what a command said.
fn print_indented(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() <= 2 * LISTED { lines.len() } else { LISTED };
    for line in &lines[..shown] {
        println!("  {line}");
    }
    if shown < lines.len() {
        println!("  ...");
        for line in &lines[lines.len() - LISTED..] {
            println!("  {line}");
        }
    }
}
