//! Small file systems that a campaign creates and mounts. It needs root, and the program that makes the file system.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    /// All kinds.
    pub(super) const ALL: [Kind; 4] = [Kind::Tmpfs, Kind::Ext4, Kind::Xfs, Kind::Btrfs];

    /// Returns the name of the file system.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Tmpfs => "tmpfs",
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        }
    }
}

/// A mounted file system. Dropping it unmounts it.
pub(super) struct Disk {
    /// Where it is mounted.
    pub(super) path: PathBuf,
}

impl Disk {
    /// Creates and mounts one, or returns the reason why it cannot.
    pub(super) fn mount(kind: Kind, folder: &Path, bytes: u64) -> Result<Disk, String> {
        let path = folder.join(kind.name());
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        if kind == Kind::Tmpfs {
            mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]);
        } else {
            let image = folder.join(format!("{}.image", kind.name()));
            let file = File::create(&image).and_then(|file| file.set_len(bytes));
            file.map_err(|error| error.to_string())?;
            let program = format!("mkfs.{}", kind.name());
            let options: &[&str] = if kind == Kind::Ext4 { &["-F", "-m", "0"] } else { &[] };
            let mut make = Command::new(&program);
            succeed(make.arg("-q").args(options).arg(&image))
                .map_err(|reason| format!("{program}: {reason}"))?;
            mount.args(["-o", "loop"]).arg(&image);
        }
        succeed(mount.arg(&path)).map_err(|reason| format!("mount: {reason}"))?;
        Ok(Disk { path })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = succeed(Command::new("umount").arg(&self.path));
        if let Err(reason) = unmounted {
            eprintln!("{} stays mounted: {reason}", self.path.display());
        }
    }
}

/// Runs a command. Returns its error output if it fails.
fn succeed(command: &mut Command) -> Result<(), String> {
    let ended = command.output().map_err(|error| error.to_string())?;
    if ended.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned())
}
