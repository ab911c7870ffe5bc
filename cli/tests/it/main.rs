//! The program, run as users run it. One test program, so that it is linked once.

mod bad_input;
mod cases;
mod common;
mod core_dump;
mod forge;
mod hostile;
mod interrupts;
mod keys;
mod limits;
mod race;
mod receipt;
mod rekey;
mod round_trip;
mod terminal;
mod wipe;
