//! An ar7 archive as a directory of Linux, through FUSE.
//!
//! # Inodes
//!
//! The number of an inode in the archive is its number in the mount. The archive never uses a number twice, and nobody
//! else can write to it, so the kernel keeps names and attributes for as long as it likes. Only a mount that follows the
//! commits of another process ([`Access::Follow`]) lets it keep them for a second.
//!
//! The archive stores no time of access: it is that of the last modification. The time of the last change is in the
//! origin of an inode, which names the mount as the source: so no later ingest takes a file for the unchanged copy of its
//! source.
//!
//! # What a request reads
//!
//! There is one open transaction. `Writer` notes which inodes differ from the last commit: those that were changed,
//! directories by each of their names, and new ones. A request about any other inode reads the last commit. That takes no
//! lock, so such requests run on all cores, and wait for no change and no commit. A request about a changed inode reads
//! the open transaction, and waits for a commit that is being made.
//!
//! The kernel asks for at most 128 KiB at a time. From the second request in order on, more is read than the request
//! needs, on all cores, and the next requests of the file find their bytes in memory.
//!
//! # Changes and commits
//!
//! Each change holds the turn from its first to its last step, and so does a commit. So a commit has whole changes,
//! and an exchange of two names, which is three renames, is never seen half done. Before a change, the archive must have
//! room for it and for the commit of everything so far; without room it is refused with `ENOSPC`, and the
//! transaction stays as it is. A change that frees space is done all the same; if there is room, what was changed before it
//! is committed first.
//!
//! One thread makes the commits: after the interval, after a number of bytes, and for each `fsync`. The answer to an
//! `fsync` is sent after the commit by that thread, so that no other thread waits, and all that arrive during a commit
//! share the next one. A commit of much content first writes it out while changes go on.
//!
//! The kernel gathers writes (`FUSE_WRITEBACK_CACHE`), and passes them on before an `fsync` and when a file is closed. It
//! keeps the length and the times of a file itself: it ignores those in answers, and sets them after it has passed the
//! content on. The first change of a file after a commit sets the times all the same, because a
//! commit can come in between. The kernel does not pass on `syncfs`, except for the writes that belong to it.
//!
//! A packed file gets a stream of its own before it is changed. Its holes then take space, as any zeros do. Only one
//! for which there is no room stays packed, with its holes: each commit packs it again.
//!
//! # Users
//!
//! Without [`Options::allow_other`], the kernel refuses everybody but the user who mounted. Its own requests come from
//! root. The root directory of a new archive belongs to the first user who mounts it.
//!
//! The kernel checks modes and access control lists. As on other file systems of Linux, setting a list changes the mode,
//! changing the mode changes the mask of the list, and a new entry inherits the default list of its directory. Without
//! one, the umask of the program applies.
//!
//! # Files without a name
//!
//! A file that loses its last name while it is open loses its inode too. Its stream becomes a pending deletion, which
//! no command reads, but this process keeps it and its blocks until the last handle is closed. So after a crash there is
//! nothing to find and to clean up: the next commits of any writer free the blocks. A packed file gets
//! a stream when it is removed while it is open. Without room for it, the removal is refused with `EBUSY`.
//!
//! # Failures
//!
//! After a failed commit, or a change that failed or panicked half done, the open transaction is lost as a whole. From
//! then on the mount is read-only: it shows the last commit, the kernel forgets what it kept of the lost one, and every
//! change and `fsync` fails with `EIO`. If readers of older commits hold back too many blocks, the write is refused with
//! `EBUSY`, and nothing is lost.
//!
//! Inodes and extended attributes that a change needs are read before its first step. If they are damaged, it is refused,
//! and the transaction stays as it is.

mod access_lists;
mod ahead;
mod attributes;
mod background;
mod changes;
mod commits;
mod content;
mod errno;
mod flusher;
mod follower;
mod handles;
mod inodes;
mod listing;
mod metadata;
mod mounting;
mod open_file;
mod requests;
mod server;
mod session;
mod space;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use background::{Started, enter_background, is_in_background, start_in_background};
pub use session::{Access, Mount, Options, Unmounted, unmount};
