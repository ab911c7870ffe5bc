//! Findings, progress and summary of a verification.

use std::fmt;

use ar7_engine::format::{Position, Run};
use uuid::Uuid;

use crate::error::Error;
use crate::records::TreeId;

/// How far a verification goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// It opens every block, checks all records against each other, and reads the heads of frames.
    Blocks,
    /// It also decodes every frame.
    Content,
}

/// A fault of an archive.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The part of the archive that has the fault.
    pub subject: Subject,
    /// The fault.
    pub error: Error,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.subject, self.error)
    }
}

/// The part of an archive that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// A copy of the header.
    Header(Position),
    /// A meta slot.
    MetaSlot(Position),
    /// A page of the registry.
    Page {
        /// The tree.
        tree: TreeId,
        /// Position in the file.
        position: Position,
    },
    /// A tree as a whole.
    Tree(TreeId),
    /// A block of a stream.
    Block {
        /// The stream.
        stream: Uuid,
        /// Index of the block in the stream.
        index: u32,
        /// Position in the file.
        position: Position,
    },
    /// A stream as a whole.
    Stream(Uuid),
    /// A run of blocks of the file.
    Blocks(Run),
    /// An inode.
    Inode(u64),
    /// A name.
    Name {
        /// Inode of the directory.
        directory: u64,
        /// The name.
        name: Vec<u8>,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Header(position) => write!(formatter, "header at block {position}"),
            Subject::MetaSlot(position) => write!(formatter, "meta slot at block {position}"),
            Subject::Page { tree, position } => {
                write!(formatter, "page of tree {tree:?} at block {position}")
            }
            Subject::Tree(tree) => write!(formatter, "tree {tree:?}"),
            Subject::Block { stream, index, position } => {
                write!(formatter, "stream {stream}, block {index} at block {position} of the file")
            }
            Subject::Stream(stream) => write!(formatter, "stream {stream}"),
            Subject::Blocks(run) => {
                write!(formatter, "blocks {} to {}", run.start(), run.end() - 1)
            }
            Subject::Inode(inode) => write!(formatter, "inode {inode}"),
            Subject::Name { directory, name } => {
                write!(formatter, "name \"{}\" in directory {directory}", name.escape_ascii())
            }
        }
    }
}

/// The progress of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyProgress {
    /// Blocks that are accounted for so far.
    pub blocks: u64,
    /// All blocks of the archive.
    pub total: u64,
}

/// Counts from a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifySummary {
    /// Blocks of the archive, including the reserved ones.
    pub blocks: u64,
    /// Opened blocks of streams.
    pub data_blocks: u64,
    /// Opened pages of the registry.
    pub pages: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Streams.
    pub streams: u64,
    /// Bytes in streams.
    pub bytes: u64,
    /// Frames of packed content in use.
    pub frames: u64,
    /// Names.
    pub names: u64,
    /// Findings.
    pub findings: u64,
}
