//! Runs the program in a temporary directory.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

/// A temporary directory with a key file, in which the program runs.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let bench = Bench { directory: tempfile::tempdir().expect("a temporary directory") };
        bench.write_key("key", [7; 32]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a command that runs the program in the directory, with the key file.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ar7"));
        command.current_dir(self.directory.path());
        command.env_remove("AR7_PASSPHRASE").env("AR7_KEY_FILE", "key");
        command.stdin(Stdio::null());
        command
    }

    /// Returns the same command without the privilege of the superuser to read every file.
    pub(crate) fn without_privileges(&self) -> Command {
        if !rustix::process::geteuid().is_root() {
            return self.command();
        }
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_ar7")]);
        command.current_dir(self.directory.path()).env("AR7_KEY_FILE", "key");
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        output(self.command().args(arguments))
    }

    /// Runs the program with arguments that are separated by spaces.
    pub(crate) fn line(&self, line: &str) -> Ran {
        self.run(line.split_whitespace())
    }

    /// Runs a line that must succeed.
    pub(crate) fn ok(&self, line: &str) -> Ran {
        let ran = self.line(line);
        assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
        ran
    }

    /// Runs a line that must fail with this exit code and print one line that contains `says`.
    pub(crate) fn fails(&self, line: &str, code: i32, says: &str) -> Ran {
        let ran = self.line(line);
        assert_eq!(ran.code, code, "{line}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("ar7: "), "{line}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{line}: {} does not say {says}", ran.stderr);
        ran
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a path in the directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    /// Writes a key file or another secret that only its owner can read.
    pub(crate) fn write_key(&self, name: &str, key: impl AsRef<[u8]>) {
        self.write(name, key);
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), mode).expect("a mode");
    }

    /// Runs a line with this standard input.
    pub(crate) fn with_input(&self, line: &str, input: &[u8]) -> Ran {
        use std::io::Write as _;
        let mut command = self.command();
        command.args(line.split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that rejects its arguments reads nothing.
        let _ = stdin.write_all(input);
        drop(stdin);
        Ran::new(child.wait_with_output().expect("the program ends"))
    }
}

/// Held while a process is started and while a forged archive is closed. Between fork and exec, a child holds every
/// open file of its parent, and so also the archive's lock.
pub(crate) static STARTING: Mutex<()> = Mutex::new(());

/// Starts a process.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().expect("the program runs")
}

/// Runs a process to its end.
pub(crate) fn output(command: &mut Command) -> Ran {
    let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    Ran::new(child.wait_with_output().expect("the program ends"))
}

impl Ran {
    pub(crate) fn new(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Lists the entries below a directory in order, with everything about them that an archive stores.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    list(root, Path::new(""), &mut lines);
    lines.sort();
    lines
}

fn list(root: &Path, below: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).expect("a directory") {
        let path = below.join(entry.expect("an entry").file_name());
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).expect("metadata");
        let content = if metadata.is_file() {
            format!("{:?} links {}", fs::read(&full).expect("a file"), metadata.nlink())
        } else if metadata.is_symlink() {
            format!("-> {}", shown(&fs::read_link(&full).expect("a link")))
        } else {
            String::new()
        };
        let time = (metadata.mtime(), metadata.mtime_nsec());
        let mode = metadata.permissions().mode();
        lines.push(format!("{} {mode:o} {time:?} {content}", shown(&path)));
        if metadata.is_dir() {
            list(root, &path, lines);
        }
    }
}

fn shown(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// Sets an mtime without following a symbolic link.
pub(crate) fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time");
}
