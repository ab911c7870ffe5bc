//! Counts the allocations of a listing. Prints JSON for `cargo xtask bench counts`.

use ar7_benches::archive_in_memory;
use ar7_benches::print::{Measure, document};
use ar7_engine::format::Timestamp;
use ar7_registry::Result;
use ar7_registry::records::{Attributes, InodeNumber};
use dhat::HeapStats;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Number of entries in the directory.
const ENTRIES: u32 = 20_000;

/// Number of entries to list at a time.
const PAGE: usize = 256;

const MODIFIED: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };

fn main() -> Result<()> {
    let archive = archive_in_memory()?;
    let names = archive.names();
    let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, modified: MODIFIED, origin: None };
    for number in 0..ENTRIES {
        let name = format!("file-{number:08}");
        names.make_directory(InodeNumber::ROOT, name.as_bytes(), attributes)?;
    }
    archive.commit()?;
    let profiler = dhat::Profiler::builder().testing().build();
    let before = HeapStats::get().total_blocks;
    let mut after: Option<Vec<u8>> = None;
    let mut listed = 0;
    loop {
        let mut entries = names.list(InodeNumber::ROOT, after.as_deref(), PAGE)?;
        listed += entries.len();
        let Some(last) = entries.pop() else { break };
        after = Some(last.name);
    }
    let allocations = HeapStats::get().total_blocks - before;
    drop(profiler);
    document(&[Measure {
        subject: "registry".to_owned(),
        case: "allocations of a listing".to_owned(),
        count: allocations,
        threads: 1,
        size: u64::try_from(listed).ok(),
        ..Measure::default()
    }]);
    Ok(())
}
