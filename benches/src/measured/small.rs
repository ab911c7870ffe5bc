//! `cargo xtask bench small`: what compression is for, apart from speed. The lengths of archives of tiny files and of a tree
//! that changes, a sparse file, and the start of a program that reads one small file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use walkdir::WalkDir;
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::trees::large_tree;

use super::peers::{no_tree, read_once};
use super::programs::PLAIN;
use super::results::{Measure, Results, work_folder};

const TINY_FILES: u64 = 6000;
const TINY_BYTES: usize = 100;

/// Length of the sparse file, and of its content.
const SPARSE_BYTES: u64 = 1 << 40;
const SPARSE_CONTENT: usize = 1 << 20;

/// How often a third of the tree is removed and stored again.
const CHANGES: usize = 10;
const THIRDS: usize = 3;

/// Number of paths for one command.
const PATHS: usize = 5000;

/// Number of programs in one measurement, and the length in bytes of the file that each reads.
const READS: u64 = 50;
const READ_BYTES: std::ops::Range<u64> = 1000..4000;

/// Options of the run.
#[derive(Args)]
pub(crate) struct Options {
    /// The tree [default: a large tree of the toolchain]
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Number of rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Directory to work in, on the file system to measure
    #[arg(long)]
    directory: Option<PathBuf>,
}

struct Run<'a> {
    ar7: &'a Ar7,
    work: &'a Path,
    tree: PathBuf,
    measures: Vec<Measure>,
}

/// Measures, prints the figures and stores the raw results.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = work_folder(options.directory.as_ref())?;
    let tree = match &options.tree {
        Some(tree) => tree.canonicalize().map_err(Error::io("find", tree))?,
        None => large_tree().ok_or_else(no_tree)?,
    };
    let ar7 = Ar7::build(folder.path())?;
    let mut run = Run { ar7: &ar7, work: folder.path(), tree, measures: Vec::new() };
    run.tiny_files()?;
    for round in 0..options.rounds {
        run.sparse_file(round)?;
    }
    run.reads(options.rounds)?;
    run.changes()?;
    let kind = "small".to_owned();
    Results { kind, measures: run.measures, ..Results::default() }.save(folder.path())
}

impl Run<'_> {
    fn add(&mut self, measure: Measure) {
        let Measure { subject, case, round, seconds, output_bytes, .. } = &measure;
        let bytes = output_bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
        println!("{round} {subject} {case}: {seconds:.3} s{bytes}");
        self.measures.push(Measure { threads: 1, count: measure.count.max(1), ..measure });
    }

    fn length(&self, name: &str) -> Result<u64> {
        let path = self.work.join(name);
        Ok(fs::metadata(&path).map_err(Error::io("stat", &path))?.len())
    }

    fn ingest(&self, name: &str, input: &Path, more: &[&str]) -> Result<()> {
        let archive = self.work.join(name);
        let words = ["-q", "ingest"].iter().chain(more).map(std::ffi::OsStr::new);
        self.ar7.expect(0, words.chain([archive.as_os_str(), input.as_os_str()])).map(drop)
    }

    fn add_length(&mut self, subject: &str, case: &str, name: &str) -> Result<()> {
        let (subject, case) = (subject.to_owned(), case.to_owned());
        let output_bytes = Some(self.length(name)?);
        self.add(Measure { subject, case, output_bytes, ..Measure::default() });
        Ok(())
    }

    fn tiny_files(&mut self) -> Result<()> {
        let tree = self.work.join("tiny");
        fs::create_dir(&tree).map_err(Error::io("create", &tree))?;
        let random = self.work.join("random");
        super::peers::write_random(&random, TINY_FILES * TINY_BYTES as u64 / 2)?;
        let random = fs::read(&random).map_err(Error::io("read", &random))?;
        // Hexadecimal digits compress to half of their length.
        for (number, bytes) in random.chunks(TINY_BYTES / 2).enumerate() {
            let path = tree.join(format!("file-{number}"));
            let mut text = String::new();
            for byte in bytes {
                // Writing to a string cannot fail.
                write!(text, "{byte:02x}").ok();
            }
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        self.ingest("tiny.ar7", &tree, &[])?;
        self.add_length("ar7", "tiny files", "tiny.ar7")
    }

    /// Stores and restores a long file that is a hole, except for its middle.
    fn sparse_file(&mut self, round: u32) -> Result<()> {
        let (path, out) = (self.work.join("sparse"), self.work.join("sparse-out"));
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        let written = file
            .set_len(SPARSE_BYTES)
            .and_then(|()| file.write_all_at(&vec![7; SPARSE_CONTENT], SPARSE_BYTES / 2));
        written.map_err(Error::io("write", &path))?;
        let started = Instant::now();
        self.ingest("sparse.ar7", &path, &[])?;
        let archive = self.work.join("sparse.ar7");
        let extract = ["-q", "extract"].map(std::ffi::OsStr::new);
        let to = [archive.as_os_str(), "--to".as_ref(), out.as_os_str()];
        self.ar7.expect(0, extract.into_iter().chain(to))?;
        let restored = out.join("sparse");
        let file = File::open(&restored).map_err(Error::io("open", &restored))?;
        file.sync_all().map_err(Error::io("sync", &restored))?;
        let seconds = started.elapsed().as_secs_f64();
        let mut content = vec![0; SPARSE_CONTENT];
        let read = file.read_exact_at(&mut content, SPARSE_BYTES / 2);
        read.map_err(Error::io("read", &restored))?;
        if content.iter().any(|byte| *byte != 7) {
            return Err(Error::Fault("the sparse file was restored with other content".to_owned()));
        }
        let output_bytes = Some(self.length("sparse.ar7")?);
        let (subject, case) = ("ar7".to_owned(), "sparse file".to_owned());
        let measure = Measure { subject, case, round, seconds, output_bytes, ..Measure::default() };
        self.add(measure);
        for path in [&path, &archive] {
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        fs::remove_dir_all(&out).map_err(Error::io("remove", &out))
    }

    /// Reads small files of the tree, each in a new process, with compression and without.
    fn reads(&mut self, rounds: u32) -> Result<()> {
        let tree = self.tree.clone();
        let subjects =
            [("ar7", "tree.ar7", &[][..]), (PLAIN, "plain.ar7", &["--compression", "none"])];
        for (_, name, options) in subjects {
            self.ingest(name, &tree, options)?;
            read_once(&self.work.join(name))?;
        }
        let is_small = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|found| READ_BYTES.contains(&found.len()))
        };
        let small: Vec<PathBuf> = files(&tree).into_iter().filter(is_small).collect();
        let step = (small.len() / usize::try_from(READS).unwrap_or(1)).max(1);
        let chosen: Vec<PathBuf> =
            small.iter().step_by(step).map(|path| self.stored(path)).collect();
        for round in 0..rounds {
            for (subject, name, _) in subjects {
                let archive = self.work.join(name);
                let started = Instant::now();
                for path in &chosen {
                    let words = ["-q".as_ref(), "cat".as_ref(), archive.as_os_str()];
                    self.ar7.expect(0, words.into_iter().chain([path.as_os_str()]))?;
                }
                let seconds = started.elapsed().as_secs_f64();
                let count = u64::try_from(chosen.len()).unwrap_or_default();
                let (subject, case) = (subject.to_owned(), "small file".to_owned());
                self.add(Measure { subject, case, round, count, seconds, ..Measure::default() });
            }
        }
        let plain = self.work.join("plain.ar7");
        fs::remove_file(&plain).map_err(Error::io("remove", &plain))
    }

    /// Removes a third of the files from the archive of the tree and stores the tree again, each time another third.
    fn changes(&mut self) -> Result<()> {
        self.add_length("fresh", "changed tree", "tree.ar7")?;
        let archive = self.work.join("tree.ar7");
        let stored: Vec<PathBuf> = files(&self.tree).iter().map(|path| self.stored(path)).collect();
        for change in 0..CHANGES {
            // Neighbours in a directory are neighbours in a frame: each third has files of every frame.
            let third: Vec<&PathBuf> =
                stored.iter().skip(change % THIRDS).step_by(THIRDS).collect();
            for paths in third.chunks(PATHS) {
                let words = ["-q".as_ref(), "rm".as_ref(), archive.as_os_str()];
                self.ar7.expect(
                    0,
                    words.into_iter().chain(paths.iter().map(|path| path.as_os_str())),
                )?;
            }
            self.ingest("tree.ar7", &self.tree, &[])?;
        }
        self.add_length("ar7", "changed tree", "tree.ar7")
    }

    /// Returns the path of a file of the tree in the archive.
    fn stored(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.tree.parent().unwrap_or(Path::new("/"))).unwrap_or(path).to_owned()
    }
}

/// Returns the files of a tree, in the order of their names, without those that a pattern could mean.
fn files(tree: &Path) -> Vec<PathBuf> {
    let found = WalkDir::new(tree).sort_by_file_name().into_iter().flatten();
    let found = found.filter(|entry| entry.file_type().is_file());
    let is_plain = |path: &PathBuf| {
        !path.as_os_str().as_bytes().iter().any(|byte| b"*?[]{}\\!".contains(byte))
    };
    found.map(walkdir::DirEntry::into_path).filter(is_plain).collect()
}
