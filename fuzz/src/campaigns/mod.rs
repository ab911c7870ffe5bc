//! Campaigns against the library and against the built program, and files generated from the code.
//!
//! `cargo xtask NAME` starts them through the program `campaign`; `cargo xtask help` lists them.

mod crash;
mod disk;
mod file_systems;
mod format;
mod full_disk;
mod fuzz;
mod interop;
mod io_errors;
mod kill;
#[cfg(feature = "fuse")]
mod mount_faults;
#[cfg(feature = "fuse")]
mod mount_model;
#[cfg(feature = "fuse")]
mod mount_programs;
#[cfg(feature = "fuse")]
mod mounted;
mod patches;
mod rot;
mod search;
mod shim;
mod stress;
mod tamper;
mod tree;
mod vectors;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Subcommand)]
enum Campaign {
    /// Crash every sequence of operations on a simulated disk, and check every resulting state
    Crash(crash::Options),
    /// Change every part of an archive, and check that each change is detected
    Tamper(tamper::Options),
    /// Destroy blocks of archives of every kind, and check that only what was in them is lost
    Rot(rot::Options),
    /// Kill ingests and deletions at random moments, and check the resulting archive
    Kill(kill::Options),
    /// Make each system call of the real program fail in turn, and check the resulting archive
    IoErrors(io_errors::Options),
    /// Fill disks under the real program, and check that nothing is lost and that deletions succeed
    FullDisk(full_disk::Options),
    /// Run the tests of trees on several file systems, as root and as a normal user
    FileSystems(file_systems::Options),
    /// Run the real program on a FUSE file system that fails at each call in turn, or tells lies about files
    #[cfg(feature = "fuse")]
    MountFaults(mount_faults::Options),
    /// Compare random operations on a mounted archive with a directory, and kill the processes that serve mounts
    #[cfg(feature = "fuse")]
    MountModel(mount_model::Options),
    /// Run git, cargo, sqlite3, fio and rsync on a mounted archive, and kill the process that serves it
    #[cfg(feature = "fuse")]
    MountPrograms(mount_programs::Options),
    /// Let real processes read and write one archive at the same time, and check every snapshot
    Stress(stress::Options),
    /// Compare the Python reader in docs/reader with ar7, on golden archives and on new ones
    Interop(interop::Options),
    /// Fuzz one target or all with libFuzzer, list the targets, or write their seeds
    Fuzz(fuzz::Options),
    /// Search one fuzz target with seeded inputs, without libFuzzer
    Search(search::Options),
    /// Apply each one-line patch of fuzz/patches to a copy, and check that its fuzz targets find it
    Patches(patches::Options),
    /// Write the tables of docs/FORMAT.md from the declared layouts
    Format {
        /// Change nothing; fail if a table is out of date
        #[arg(long)]
        check: bool,
    },
    /// Write the worked examples of docs/vectors
    Vectors {
        /// Change nothing; fail if an example is out of date
        #[arg(long)]
        check: bool,
    },
    /// Write new golden archives (once for each version of the format)
    Golden,
}

/// Runs the campaign named in the process's arguments.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().campaign {
        Campaign::Crash(options) => crash::run(&options),
        Campaign::Tamper(options) => tamper::run(&options),
        Campaign::Rot(options) => rot::run(&options),
        Campaign::Kill(options) => kill::run(&options),
        Campaign::IoErrors(options) => io_errors::run(&options),
        Campaign::FullDisk(options) => full_disk::run(&options),
        Campaign::FileSystems(options) => file_systems::run(&options),
        #[cfg(feature = "fuse")]
        Campaign::MountFaults(options) => mount_faults::run(&options),
        #[cfg(feature = "fuse")]
        Campaign::MountModel(options) => mount_model::run(&options),
        #[cfg(feature = "fuse")]
        Campaign::MountPrograms(options) => mount_programs::run(&options),
        Campaign::Stress(options) => stress::run(&options),
        Campaign::Interop(options) => interop::run(&options),
        Campaign::Fuzz(options) => fuzz::run(&options),
        Campaign::Search(options) => search::run(&options),
        Campaign::Patches(options) => patches::run(&options),
        Campaign::Format { check } => format::run(check),
        Campaign::Vectors { check } => vectors::run(check),
        Campaign::Golden => interop::golden::write(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaign: {error}");
            ExitCode::FAILURE
        }
    }
}
