//! Tests of the built program, run as users run it. They form one test binary, which links only once.

mod bad_input;
mod cases;
mod common;
mod compact;
mod core_dump;
mod damage;
mod diff;
mod documents;
mod extract;
mod forge;
mod hostile;
mod import;
mod ingest;
mod interrupts;
mod keys;
mod limits;
mod listing;
#[cfg(all(feature = "mount", target_os = "linux"))]
mod mount;
mod put;
mod race;
mod readers;
mod receipt;
mod rekey;
mod reports;
mod round_trip;
mod salvage;
mod sources;
mod space;
mod terminal;
mod whole;
mod wipe;
