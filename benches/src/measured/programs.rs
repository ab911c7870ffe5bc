//! The programs, and the commands that make each do the same work.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::results::first_line;
use super::run::{Pipeline, program};
use xtask::workspace::output;

/// The password for programs that require one. It protects only copies of public files.
const PASSWORD: &str = "a password for measuring";

/// The input, and the directory to work in.
pub(crate) struct Place {
    pub(crate) work: PathBuf,
    pub(crate) tree: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) ar7: PathBuf,
    /// The public key for `age`.
    pub(crate) recipient: String,
}

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// Store the tree in a new archive.
    TreeIn,
    /// Store the tree again in the archive that contains it, unchanged.
    TreeAgain,
    /// Extract the tree into an empty directory.
    TreeOut,
    /// Read and check everything in the archive.
    TreeVerify,
    /// Store the large file in an archive.
    FileIn,
    /// Write the large file from the archive into a pipe.
    FilePipe,
}

impl Case {
    /// Returns whether the work is about the tree.
    pub(crate) const fn is_of_tree(self) -> bool {
        matches!(self, Case::TreeIn | Case::TreeAgain | Case::TreeOut | Case::TreeVerify)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Case::TreeIn => "tree in",
            Case::TreeAgain => "tree again",
            Case::TreeOut => "tree out",
            Case::TreeVerify => "tree verify",
            Case::FileIn => "file in",
            Case::FilePipe => "file to pipe",
        }
    }
}

/// The data that must be on stable storage before the time is taken.
#[derive(Debug, Clone)]
pub(crate) enum Durable {
    File(PathBuf),
    Folder(PathBuf),
    Nothing,
}

/// One piece of work for one program.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) subject: &'static str,
    pub(crate) case: Case,
    /// Files to remove first.
    pub(crate) stale: Vec<PathBuf>,
    /// Commands to run first, not timed.
    pub(crate) before: Vec<Pipeline>,
    /// A path to read first, so that the program does not wait for the disk.
    pub(crate) warm: Option<PathBuf>,
    pub(crate) timed: Pipeline,
    pub(crate) durable: Durable,
    /// Commands to run afterwards, not timed.
    pub(crate) after: Vec<Pipeline>,
    /// A path whose size is recorded.
    pub(crate) output: Option<PathBuf>,
}

/// `ar7` without compression.
pub(super) const PLAIN: &str = "ar7 plain";

/// The pipe that compresses and encrypts.
pub(super) const ZSTD: &str = "tar | zstd | age";

/// A program, and the Debian package that contains it.
pub(crate) struct Peer {
    pub(crate) subject: &'static str,
    pub(crate) commands: &'static [&'static str],
    pub(crate) package: &'static str,
    /// Whether the program is so slow that it runs in the first rounds only.
    pub(crate) is_slow: bool,
}

/// Every program, ar7 first.
pub(crate) const PEERS: [Peer; 10] = [
    Peer { subject: "ar7", commands: &[], package: "", is_slow: false },
    Peer { subject: PLAIN, commands: &[], package: "", is_slow: false },
    Peer { subject: "cp", commands: &["cp"], package: "coreutils", is_slow: false },
    Peer { subject: "tar", commands: &["tar"], package: "tar", is_slow: false },
    Peer { subject: "tar | age", commands: &["tar", "age"], package: "age", is_slow: false },
    Peer { subject: ZSTD, commands: &["tar", "zstd", "age"], package: "zstd", is_slow: false },
    Peer { subject: "7z", commands: &["7zz"], package: "7zip", is_slow: true },
    Peer { subject: "restic", commands: &["restic"], package: "restic", is_slow: true },
    Peer { subject: "borg", commands: &["borg"], package: "borgbackup", is_slow: true },
    Peer { subject: "gocryptfs", commands: &["gocryptfs"], package: "gocryptfs", is_slow: true },
];

impl Peer {
    /// Returns the reason why the program cannot run, if any.
    pub(crate) fn missing(&self) -> Option<String> {
        let absent = self.commands.iter().find(|name| version(name).is_none());
        let reason = format!("not installed: Debian's package '{}'", self.package);
        let no_fuse = self.subject == "gocryptfs" && !Path::new("/dev/fuse").exists();
        match absent {
            Some(_) => Some(reason),
            None if no_fuse => Some("FUSE does not work here".to_owned()),
            None => None,
        }
    }

    pub(crate) fn version(&self) -> String {
        let found: Vec<String> = self.commands.iter().filter_map(|name| version(name)).collect();
        found.join("; ")
    }
}

/// Returns the first line that a program prints about its version, or `None` if it does not start.
fn version(name: &str) -> Option<String> {
    let argument = match name {
        "restic" => "version",
        "7zz" => "i",
        "gocryptfs" => "-version",
        _ => "--version",
    };
    let mut command = Command::new(name);
    command.arg(argument);
    output(&mut command).ok()?;
    Some(first_line(&mut command))
}

impl Place {
    /// Returns the environment variables of every program.
    pub(crate) fn environment(&self) -> Vec<(String, OsString)> {
        let at = |name: &str| self.work.join(name).into_os_string();
        let text = |text: &str| OsString::from(text);
        let variables = [
            ("AR7_KEY_FILE", at("key")),
            ("RESTIC_PASSWORD", text(PASSWORD)),
            ("RESTIC_REPOSITORY", at("restic")),
            ("RESTIC_CACHE_DIR", at("restic-cache")),
            ("RESTIC_PROGRESS_FPS", text("0.1")),
            ("BORG_PASSPHRASE", text(PASSWORD)),
            ("BORG_REPO", at("borg")),
            ("BORG_BASE_DIR", at("borg-base")),
        ];
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns the work of one program in one round, in order.
    pub(crate) fn tasks(&self, subject: &str, round: u32) -> Vec<Task> {
        let out = self.work.join(format!("out-{}-{round}", subject.replace(" | ", "-")));
        match subject {
            "ar7" => self.ar7("ar7", &out),
            PLAIN => vec![self.file_in(PLAIN, "file.ar7", |path| {
                let words = ["-q", "ingest", "--compression", "none"].map(OsString::from);
                let paths = [path.into(), self.file.clone().into()];
                program([self.ar7.clone().into()].into_iter().chain(words).chain(paths))
            })],
            "cp" => vec![self.file_in("cp", "file.copy", |path| {
                program(["cp".as_ref(), self.file.as_os_str(), path.as_os_str()])
            })],
            "tar" => self.tar(&out),
            "tar | age" => self.age(&out),
            ZSTD => self.zstd(&out),
            "7z" => self.seven_zip(&out),
            "restic" => self.restic(&out),
            "borg" => self.borg(&out),
            "gocryptfs" => self.gocryptfs(),
            _ => Vec::new(),
        }
    }

    fn parent_and_name(&self) -> (PathBuf, OsString) {
        let parent = self.tree.parent().unwrap_or(Path::new("/")).to_owned();
        (parent, self.tree.file_name().unwrap_or_default().to_owned())
    }

    /// Returns the work that creates one file from the tree.
    fn tree_in(
        &self,
        subject: &'static str,
        name: &str,
        timed: impl FnOnce(&Path) -> Pipeline,
    ) -> Task {
        let path = self.work.join(name);
        Task {
            subject,
            case: Case::TreeIn,
            stale: vec![path.clone()],
            before: Vec::new(),
            warm: None,
            timed: timed(&path),
            durable: Durable::File(path.clone()),
            after: Vec::new(),
            output: Some(path),
        }
    }

    fn file_in(
        &self,
        subject: &'static str,
        name: &str,
        timed: impl FnOnce(&Path) -> Pipeline,
    ) -> Task {
        Task { case: Case::FileIn, ..self.tree_in(subject, name, timed) }
    }

    /// Returns the work that extracts the tree into a new directory. The directory stays until the end, because a file
    /// system that has just removed a tree is slow to create another.
    fn tree_out(subject: &'static str, archive: &Path, out: &Path, timed: Pipeline) -> Task {
        Task {
            subject,
            case: Case::TreeOut,
            stale: Vec::new(),
            before: vec![program(["mkdir".as_ref(), out.as_os_str()])],
            warm: Some(archive.to_owned()),
            timed: timed.within(out),
            durable: Durable::Folder(out.to_owned()),
            after: Vec::new(),
            output: None,
        }
    }

    /// Returns the work that reads an archive.
    fn reading(subject: &'static str, case: Case, archive: &Path, timed: Pipeline) -> Task {
        Task {
            subject,
            case,
            stale: Vec::new(),
            before: Vec::new(),
            warm: Some(archive.to_owned()),
            timed,
            durable: Durable::Nothing,
            after: Vec::new(),
            output: None,
        }
    }

    /// Returns the work of ar7, or of a build of it with a different name.
    pub(crate) fn ar7(&self, subject: &'static str, out: &Path) -> Vec<Task> {
        let (tree, file) = (self.work.join("tree.ar7"), self.work.join("file.ar7"));
        let ar7 = |words: &[&str]| {
            let words = words.iter().map(OsString::from);
            program(std::iter::once(self.ar7.clone().into_os_string()).chain(words))
        };
        let (tree_text, file_text) = (tree.to_string_lossy(), file.to_string_lossy());
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let ingest = |archive: &Path, input: &Path| {
            let (archive, input) = (archive.to_string_lossy(), input.to_string_lossy());
            ar7(&["-q", "ingest", &archive, &input])
        };
        let pipe = ar7(&["-q", "cat", &file_text, &name]).read();
        let tree_in = self.tree_in(subject, "tree.ar7", |path| ingest(path, &self.tree));
        let again = Task { case: Case::TreeAgain, stale: Vec::new(), ..tree_in.clone() };
        vec![
            tree_in,
            again,
            Place::tree_out(subject, &tree, out, ar7(&["-q", "extract", &tree_text, "--to", "."])),
            Place::reading(subject, Case::TreeVerify, &tree, ar7(&["-q", "verify", &tree_text])),
            self.file_in(subject, "file.ar7", |path| ingest(path, &self.file)),
            Place::reading(subject, Case::FilePipe, &file, pipe),
        ]
    }

    fn tar(&self, out: &Path) -> Vec<Task> {
        let (parent, name) = self.parent_and_name();
        let archive = self.work.join("tree.tar");
        let extract = program(["tar".as_ref(), "xf".as_ref(), archive.as_os_str()]);
        vec![
            self.tree_in("tar", "tree.tar", |path| {
                let words = ["tar".as_ref(), "cf".as_ref(), path.as_os_str(), "-C".as_ref()];
                program(words.into_iter().chain([parent.as_os_str(), &name]))
            }),
            Place::tree_out("tar", &archive, out, extract),
        ]
    }

    fn age(&self, out: &Path) -> Vec<Task> {
        let (parent, name) = self.parent_and_name();
        let key = self.work.join("age.key");
        let (tree, file) = (self.work.join("tree.age"), self.work.join("file.age"));
        let encrypt = |path: &Path| {
            let words = ["age", "-r", &self.recipient, "-o"].map(OsString::from);
            words.into_iter().chain([path.as_os_str().to_owned()]).collect::<Vec<OsString>>()
        };
        let decrypt = |path: &Path| {
            let words = ["age", "-d", "-i"].map(OsString::from);
            let paths = [key.as_os_str().to_owned(), path.as_os_str().to_owned()];
            program(words.into_iter().chain(paths))
        };
        vec![
            self.tree_in("tar | age", "tree.age", |path| {
                let words =
                    ["tar".as_ref(), "c".as_ref(), "-C".as_ref(), parent.as_os_str(), &name];
                program(words).pipe(encrypt(path))
            }),
            Place::tree_out("tar | age", &tree, out, decrypt(&tree).pipe(["tar", "x"])),
            self.file_in("tar | age", "file.age", |path| {
                let mut words = encrypt(path);
                words.push(self.file.as_os_str().to_owned());
                program(words)
            }),
            Place::reading("tar | age", Case::FilePipe, &file, decrypt(&file).read()),
        ]
    }

    /// Level 1, on two threads.
    fn zstd(&self, out: &Path) -> Vec<Task> {
        let (parent, name) = self.parent_and_name();
        let (key, tree) = (self.work.join("age.key"), self.work.join("tree.zst.age"));
        let decrypt =
            ["age".as_ref(), "-d".as_ref(), "-i".as_ref(), key.as_os_str(), tree.as_os_str()];
        let extract = program(decrypt).pipe(["zstd", "-dcq"]).pipe(["tar", "x"]);
        vec![
            self.tree_in(ZSTD, "tree.zst.age", |path| {
                let words =
                    ["tar".as_ref(), "c".as_ref(), "-C".as_ref(), parent.as_os_str(), &name];
                let encrypt = ["age", "-r", &self.recipient, "-o"].map(OsString::from);
                program(words)
                    .pipe(["zstd", "-1", "-T2", "-cq"])
                    .pipe(encrypt.into_iter().chain([path.as_os_str().to_owned()]))
            }),
            Place::tree_out(ZSTD, &tree, out, extract),
        ]
    }

    /// Without compression, which it would spend most of its time on.
    fn seven_zip(&self, out: &Path) -> Vec<Task> {
        let archive = self.work.join("tree.7z");
        let password = OsString::from(format!("-p{PASSWORD}"));
        let verify = ["7zz".as_ref(), "t".as_ref(), password.as_os_str(), archive.as_os_str()];
        let extract = ["7zz".as_ref(), "x".as_ref(), password.as_os_str(), archive.as_os_str()];
        vec![
            self.tree_in("7z", "tree.7z", |path| {
                let words = ["7zz", "a", "-mx0", "-mhe=on", "-bd"].map(OsString::from);
                let rest = [password.clone(), path.into(), self.tree.clone().into()];
                program(words.into_iter().chain(rest))
            }),
            Place::tree_out("7z", &archive, out, program(extract)),
            Place::reading("7z", Case::TreeVerify, &archive, program(verify)),
        ]
    }

    fn restic(&self, out: &Path) -> Vec<Task> {
        let repository = self.work.join("restic");
        let tree = self.tree.as_os_str();
        let mut backup = self.tree_in("restic", "restic", |_| {
            let words = ["restic", "backup", "-q"];
            program(words.map(AsRef::as_ref).into_iter().chain([tree]))
        });
        backup.stale.push(self.work.join("restic-cache"));
        backup.before = vec![program(["restic", "init", "-q"])];
        backup.durable = Durable::Folder(repository.clone());
        let check = program(["restic", "check", "--read-data", "-q"]);
        let restore = program(["restic", "restore", "latest", "-q", "--target", "."]);
        vec![
            backup,
            Place::tree_out("restic", &repository, out, restore),
            Place::reading("restic", Case::TreeVerify, &repository, check),
        ]
    }

    fn borg(&self, out: &Path) -> Vec<Task> {
        let repository = self.work.join("borg");
        let tree = self.tree.as_os_str();
        let mut create = self.tree_in("borg", "borg", |_| {
            let words = ["borg", "create", "::tree"];
            program(words.map(AsRef::as_ref).into_iter().chain([tree]))
        });
        create.stale.push(self.work.join("borg-base"));
        create.before = vec![program(["borg", "init", "--encryption=repokey"])];
        create.durable = Durable::Folder(repository.clone());
        let extract = program(["borg", "extract", "::tree"]);
        let check = program(["borg", "check", "--verify-data"]);
        vec![
            create,
            Place::tree_out("borg", &repository, out, extract),
            Place::reading("borg", Case::TreeVerify, &repository, check),
        ]
    }

    /// A directory in which every file is encrypted, through FUSE.
    fn gocryptfs(&self) -> Vec<Task> {
        let (sealed, open) = (self.work.join("gocryptfs"), self.work.join("gocryptfs-open"));
        let password = format!("printf '{PASSWORD}'");
        let extpass = ["-q".to_owned(), "-extpass".to_owned(), password];
        let gocryptfs = |paths: &[&Path], first: Option<&str>| {
            let words = std::iter::once("gocryptfs").chain(first).map(OsString::from);
            let words = words.chain(extpass.iter().map(OsString::from));
            program(words.chain(paths.iter().map(|path| path.as_os_str().to_owned())))
        };
        let folders = [&sealed, &open].map(|path| path.as_os_str());
        let mut copy = self.tree_in("gocryptfs", "gocryptfs", |_| {
            program(["cp".as_ref(), "-a".as_ref(), self.tree.as_os_str(), open.as_os_str()])
        });
        copy.stale.push(open.clone());
        copy.before = vec![
            program(["mkdir".as_ref()].into_iter().chain(folders)),
            gocryptfs(&[&sealed], Some("-init")),
            gocryptfs(&[&sealed, &open], None),
        ];
        copy.durable = Durable::Folder(sealed);
        copy.after = vec![program(["fusermount".as_ref(), "-u".as_ref(), open.as_os_str()])];
        vec![copy]
    }
}
