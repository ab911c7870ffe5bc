//! The options of the commands for mounts.

use std::path::PathBuf;

use ar7::Size;
use clap::Args;

/// The options of `mount`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent flag")]
pub struct MountAt {
    /// An existing directory
    pub directory: PathBuf,
    /// Show the commit that is the newest now, and no later one
    #[arg(long)]
    pub read_only: bool,
    /// Follow the commits of another process that writes meanwhile; read-only
    #[arg(long, conflicts_with = "read_only")]
    pub snapshot_follow: bool,
    /// Commit SECONDS after a change; fsync and unmounting commit at once
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub commit_interval: u32,
    /// Commit after this many bytes of new content
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub commit_size: Size,
    /// Serve the directory until it is unmounted or a signal comes, instead of in the background
    #[arg(long)]
    pub foreground: bool,
    /// File to which the process in the background appends its messages
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Let other users use the directory, as far as modes and access control lists allow
    #[arg(long)]
    pub allow_other: bool,
}

/// The options of `unmount`.
#[derive(Debug, Args)]
pub struct Unmount {
    /// The directory
    pub directory: PathBuf,
    /// Unmount it even while programs use it; the archive is closed when they are done
    #[arg(long)]
    pub lazy: bool,
}
