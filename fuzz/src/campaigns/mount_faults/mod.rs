//! `cargo xtask mount-faults`: the real program on a file system that fails, shortens or delays each call in turn, or
//! that tells lies about files.
//!
//! It stores a small tree from such a file system, and restores one to it.
//! - An ingest ends with exit code 0, or with 8 and a report. The archive verifies. What is not reported is in it as it
//!   is in the source, and nothing else is.
//! - An extraction ends with exit code 0, and then everything is restored, or with 1 or 7. A file or link under its final
//!   name is complete. What is missing was reported, unless the extraction ended early with an error.

mod passthrough;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use fuser::{BackgroundSession, Config, MountOption};
use serde_json::Value;
use walkdir::WalkDir;

use self::passthrough::{Call, Effect, Lie, Passthrough, Plan, Shared, lock};
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::quantity::seconds;
use xtask::workspace::{built_program, output, shown};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Disturb only every COUNT-th call of each kind
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    every: u64,
    /// The program that the tests built, instead of a new one in release
    #[arg(long)]
    tested: bool,
}

/// The calls of an ingest and of an extraction.
const READING: [Call; 8] = [
    Call::Lookup,
    Call::Getattr,
    Call::Opendir,
    Call::Readdir,
    Call::Open,
    Call::Read,
    Call::Readlink,
    Call::Listxattr,
];
const WRITING: [Call; 17] = [
    Call::Lookup,
    Call::Getattr,
    Call::Setattr,
    Call::Mkdir,
    Call::Create,
    Call::Open,
    Call::Write,
    Call::Flush,
    Call::Fsync,
    Call::Symlink,
    Call::Link,
    Call::Rename,
    Call::Unlink,
    Call::Rmdir,
    Call::Opendir,
    Call::Readdir,
    Call::Setxattr,
];

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// The beginning of the names under which an extraction makes entries before it renames them.
const TEMPORARY: &str = ".ar7.";

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::Builder::new().prefix("ar7-mount-faults-").tempdir();
    let folder = folder.map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let (backing, mount) = (folder.path().join("backing"), folder.path().join("mount"));
    for directory in [&backing, &mount] {
        fs::create_dir(directory).map_err(Error::io("create", directory))?;
    }
    let plan: Shared = Arc::new(Mutex::new(Plan::lie(Lie::None)));
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("ar7-mount-faults".to_owned())];
    let system = Passthrough::new(backing.clone(), Arc::clone(&plan));
    let mounted = match fuser::spawn_mount(system, &mount, &config) {
        Ok(mounted) => mounted,
        Err(error) => {
            println!("mount-faults: skipped: cannot mount a FUSE file system: {error}");
            return Ok(());
        }
    };
    let outcome = campaign(options, folder.path(), &plan);
    let unmounted = BackgroundSession::umount_and_join(mounted);
    let runs = outcome?;
    unmounted.map_err(Error::io("unmount", &mount))?;
    println!("mount-faults: {runs} runs, {}: no fault", seconds(started.elapsed()));
    Ok(())
}

/// Returns the number of runs.
fn campaign(options: &Options, folder: &Path, plan: &Shared) -> Result<u64> {
    let ar7 = if options.tested {
        Ar7::at(&built_program("debug", "ar7")?, folder)?
    } else {
        Ar7::build(folder)?
    };
    make_tree(&folder.join("backing/src")).map_err(Error::io("make", folder))?;
    let mut bench = Bench { ar7: &ar7, folder, plan, runs: 0 };
    let archive = folder.join("good.ar7");
    let source = folder.join("backing/src");
    ar7.expect(0, ["ingest".as_ref(), archive.as_os_str(), source.as_os_str()])?;
    for lie in [Lie::None, Lie::Length(0), Lie::Length(4096), Lie::Changing] {
        bench.ingest(Plan::lie(lie))?;
    }
    bench.extract(&archive, Plan::lie(Lie::None))?;
    for call in READING {
        let short = (call == Call::Read).then_some(Effect::Short);
        for effect in [Effect::Fail(EIO), Effect::Delay].into_iter().chain(short) {
            bench.each(options.every, |bench, at| bench.ingest(Plan::new(call, at, effect)))?;
        }
    }
    for call in WRITING {
        let more = match call {
            Call::Write => vec![Effect::Short, Effect::Fail(ENOSPC)],
            Call::Create | Call::Mkdir => vec![Effect::Fail(ENOSPC)],
            _ => Vec::new(),
        };
        for effect in [Effect::Fail(EIO), Effect::Delay].into_iter().chain(more) {
            let run =
                |bench: &mut Bench<'_>, at| bench.extract(&archive, Plan::new(call, at, effect));
            bench.each(options.every, run)?;
        }
    }
    Ok(bench.runs)
}

/// Makes files of several lengths, links of both kinds, directories and an extended attribute.
fn make_tree(root: &Path) -> std::io::Result<()> {
    fs::create_dir_all(root.join("d/empty"))?;
    fs::write(root.join("large"), vec![7; 300_000])?;
    fs::write(root.join("small"), "small")?;
    fs::write(root.join("d/none"), "")?;
    fs::write(root.join("d/file"), [1; 5000])?;
    fs::hard_link(root.join("small"), root.join("d/other"))?;
    symlink("../small", root.join("d/link"))?;
    // A file system without them leaves the calls out.
    let _ = xattr::set(root.join("d/file"), "user.note", b"value");
    fs::set_permissions(root.join("small"), fs::Permissions::from_mode(0o640))?;
    let hour = Duration::from_secs(3600);
    for (entry, age) in WalkDir::new(root).contents_first(true).into_iter().zip(1..) {
        let entry = entry?;
        if !entry.path_is_symlink() {
            fs::File::open(entry.path())?.set_modified(SystemTime::now() - hour * age)?;
        }
    }
    Ok(())
}

struct Bench<'a> {
    ar7: &'a Ar7,
    folder: &'a Path,
    plan: &'a Shared,
    runs: u64,
}

impl Bench<'_> {
    /// Runs with a fault at each call, until a run has no such call.
    fn each(&mut self, every: u64, run: impl Fn(&mut Self, u64) -> Result<()>) -> Result<()> {
        let mut at = 1;
        loop {
            run(self, at)?;
            if !lock(self.plan).is_hit {
                return Ok(());
            }
            at += every;
        }
    }

    /// Sets the plan, and returns a directory for the run's files and the plan's text.
    fn begin(&mut self, plan: Plan) -> Result<(PathBuf, String)> {
        let text = format!("{plan:?}");
        *lock(self.plan) = plan;
        self.runs += 1;
        let folder = self.folder.join(format!("run{}", self.runs));
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        Ok((folder, text))
    }

    /// Lets calls through again.
    fn end(&self) {
        let mut plan = lock(self.plan);
        (plan.at, plan.lie) = (0, Lie::None);
    }

    /// Runs the program. Returns its exit code, the events on its standard output, and its standard error.
    fn events(&self, arguments: &[&Path]) -> Result<(i32, Vec<Value>, String)> {
        let mut command = self.ar7.command(arguments);
        let ended = output(&mut command)?;
        let stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
        let events =
            stdout.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>();
        let events = events.map_err(|_| Error::Output { what: "JSON", found: stdout.clone() })?;
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        let code = ended.status.code().ok_or_else(|| {
            Error::Fault(format!("{}: {}: {stderr}", shown(&command), ended.status))
        })?;
        Ok((code, events, stderr))
    }

    fn ingest(&mut self, plan: Plan) -> Result<()> {
        let lie = plan.lie;
        let (folder, text) = self.begin(plan)?;
        let (archive, source) = (folder.join("a.ar7"), self.folder.join("mount/src"));
        let line = ["ingest", "--json-lines", "--jobs", "1"].map(Path::new);
        let outcome = self.events(&[&line[..], &[&archive, &source]].concat());
        self.end();
        let (code, events, stderr) = outcome?;
        let faults = ["not read", "attribute not read", "changed while it was read"];
        let reported = names(&events, &faults, &source);
        let fault = |what: String| Error::Fault(format!("ingest, {text}: {what}\n{stderr}"));
        if code != if reported.is_empty() { 0 } else { 8 } {
            return Err(fault(format!("exit code {code}, reported {reported:?}")));
        }
        self.ar7.expect(0, ["verify".as_ref(), archive.as_os_str()])?;
        let out = folder.join("out");
        let stored = self.ar7.expect(0, ["ls".as_ref(), archive.as_os_str()])?;
        if !stored.stdout.is_empty() {
            let to = ["extract".as_ref(), archive.as_os_str(), "--to".as_ref(), out.as_os_str()];
            self.ar7.expect(0, to)?;
        }
        let is_changing = lie == Lie::Changing;
        let differences =
            differences(&self.folder.join("backing/src"), &out.join("src"), is_changing);
        let differences = differences.map_err(|error| fault(error.to_string()))?;
        // An entry that differs was reported, or one of the directories that it is in.
        let silent = differences.iter().find(|path| !is_below(path, &reported));
        if let Some(path) = silent {
            return Err(fault(format!("{} differs and is not reported", path.display())));
        }
        fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))
    }

    fn extract(&mut self, archive: &Path, plan: Plan) -> Result<()> {
        let (folder, text) = self.begin(plan)?;
        let name = format!("out{}", self.runs);
        let to = self.folder.join("mount").join(&name);
        let line = ["extract", "--json-lines"].map(Path::new);
        let outcome = self.events(&[&line[..], &[archive, "--to".as_ref(), &to]].concat());
        self.end();
        let (code, events, stderr) = outcome?;
        let fault = |what: String| Error::Fault(format!("extract, {text}: {what}\n{stderr}"));
        if ![0, 1, 7].contains(&code) {
            return Err(fault(format!("exit code {code}")));
        }
        let made = self.folder.join("backing").join(&name);
        let (original, copy) = (self.folder.join("backing/src"), made.join("src"));
        let differences = differences(&original, &copy, false);
        let differences = differences.map_err(|error| fault(error.to_string()))?;
        if code == 0 && !differences.is_empty() && !stderr.contains("warning:") {
            return Err(fault(format!("{differences:?} differ and are not reported")));
        }
        let is_over = !events.iter().any(|event| event["event"] == "summary");
        let reported = names(&events, &["not restored"], &to.join("src"));
        for path in differences {
            let (here, there) = (original.join(&path), copy.join(&path));
            let is_there = there.symlink_metadata().is_ok();
            if !is_there && !is_over && !is_below(&path, &reported) {
                return Err(fault(format!("{} is missing and not reported", path.display())));
            }
            if is_there && !same_content(&here, &there).map_err(Error::io("compare", &there))? {
                return Err(fault(format!("{} is not complete", path.display())));
            }
        }
        for directory in [&made, &folder] {
            if directory.exists() {
                fs::remove_dir_all(directory).map_err(Error::io("remove", directory))?;
            }
        }
        Ok(())
    }
}

/// Returns the paths below `root` that events of these kinds name.
fn names(events: &[Value], kinds: &[&str], root: &Path) -> BTreeSet<PathBuf> {
    let named = events.iter().filter(|event| kinds.iter().any(|kind| event["event"] == *kind));
    let paths = named.filter_map(|event| event["name"].as_str().map(PathBuf::from));
    paths.map(|path| path.strip_prefix(root).unwrap_or(Path::new("")).to_owned()).collect()
}

/// Returns whether one of the paths is this one or contains it.
fn is_below(path: &Path, paths: &BTreeSet<PathBuf>) -> bool {
    path.ancestors().any(|above| paths.contains(above))
}

/// Returns the paths of entries that are not the same in both trees, or only in one. Of files that always change, each
/// byte must be of one version.
fn differences(one: &Path, other: &Path, is_changing: bool) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = BTreeSet::new();
    for root in [one, other] {
        let walk = WalkDir::new(root).into_iter().filter_map(std::result::Result::ok);
        let relative =
            walk.filter_map(|entry| Some(entry.path().strip_prefix(root).ok()?.to_owned()));
        paths.extend(relative);
    }
    let is_temporary = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY))
    };
    paths.retain(|path| !is_temporary(path));
    let mut differing = Vec::new();
    for path in paths {
        let place =
            |root: &Path| if path == Path::new("") { root.into() } else { root.join(&path) };
        let (here, there) = (place(one), place(other));
        let same = match (here.symlink_metadata(), there.symlink_metadata()) {
            (Ok(first), Ok(second)) if is_changing && first.is_file() => {
                let bytes = fs::read(&there)?;
                first.mode() == second.mode() && bytes.windows(2).all(|pair| pair[0] == pair[1])
            }
            (Ok(first), Ok(second)) => {
                let time = |of: &fs::Metadata| (of.mtime(), of.mtime_nsec());
                first.mode() == second.mode()
                    && (first.is_symlink() || time(&first) == time(&second))
                    && same_content(&here, &there)?
            }
            _ => false,
        };
        if !same {
            differing.push(path);
        }
    }
    Ok(differing)
}

fn same_content(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (first, second) = (one.symlink_metadata(), other.symlink_metadata());
    let (Ok(first), Ok(second)) = (first, second) else { return Ok(false) };
    if first.file_type() != second.file_type() {
        return Ok(false);
    }
    if first.is_symlink() {
        return Ok(fs::read_link(one)? == fs::read_link(other)?);
    }
    Ok(!first.is_file() || fs::read(one)? == fs::read(other)?)
}
