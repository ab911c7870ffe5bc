//! The options of the commands for mounts.

use std::path::PathBuf;

use ar7::Size;
use clap::Args;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent flag")]
pub(crate) struct MountAt {
    /// An existing directory
    pub(crate) directory: PathBuf,
    /// Show the commit that is the newest now, and no later one
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Follow the commits of another process that writes meanwhile; read-only
    #[arg(long, conflicts_with = "read_only")]
    pub(crate) snapshot_follow: bool,
    /// Commit SECONDS after a change; fsync and unmounting commit at once
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) commit_interval: u32,
    /// Commit after this many bytes of new content
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub(crate) commit_size: Size,
    /// Serve the directory until it is unmounted or a signal comes, instead of in the background
    #[arg(long)]
    pub(crate) foreground: bool,
    /// File to which the process in the background appends its messages
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Let other users use the directory, as far as modes and access control lists allow
    #[arg(long)]
    pub(crate) allow_other: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Unmount {
    /// The directory
    pub(crate) directory: PathBuf,
    /// Unmount it even while programs use it; the archive is closed when they are done
    #[arg(long)]
    pub(crate) lazy: bool,
}
