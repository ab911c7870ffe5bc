//! One archive shared by reading threads and a writer: each reader sees one whole commit.
//!
//! `cargo run -p ar7 --example shared`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ar7::{Archive, Key, Result};

const READERS: usize = 4;
const COMMITS: u32 = 100;

/// Moves an amount from one account to another.
fn transfer(archive: &Archive, amount: u32) -> Result<()> {
    let transaction = archive.begin()?;
    let balance = |path: &str| -> Result<u32> {
        Ok(u32::from_be_bytes(transaction.read(path)?.try_into().unwrap_or_default()))
    };
    let (from, to) = (balance("from")? - amount, balance("to")? + amount);
    transaction.write("from", &from.to_be_bytes()[..])?;
    transaction.write("to", &to.to_be_bytes()[..])?;
    transaction.commit()
}

/// Reads both accounts again and again. Returns how often.
fn check_sums(archive: &Archive, is_done: &AtomicBool) -> Result<u32> {
    let mut checks = 0;
    while !is_done.load(Ordering::Acquire) {
        let snapshot = archive.snapshot()?;
        let balance = |path: &str| -> Result<u32> {
            Ok(u32::from_be_bytes(snapshot.read(path)?.try_into().unwrap_or_default()))
        };
        assert_eq!(balance("from")? + balance("to")?, COMMITS, "both balances of one commit");
        checks += 1;
    }
    Ok(checks)
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = Archive::create(folder.path().join("accounts.ar7"), &Key::generate()?)?;
    let transaction = archive.begin()?;
    transaction.write("from", &COMMITS.to_be_bytes()[..])?;
    transaction.write("to", &0_u32.to_be_bytes()[..])?;
    transaction.commit()?;

    let archive = Arc::new(archive);
    let is_done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (archive, is_done) = (Arc::clone(&archive), Arc::clone(&is_done));
            thread::spawn(move || check_sums(&archive, &is_done))
        })
        .collect();
    for _ in 0..COMMITS {
        transfer(&archive, 1)?;
    }
    is_done.store(true, Ordering::Release);
    for reader in readers {
        let checks = reader.join().expect("no reader panics")?;
        println!("{checks} checks during {COMMITS} commits");
    }
    Ok(())
}
