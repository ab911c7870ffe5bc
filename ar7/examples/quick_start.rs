//! Stores a file, reads it from a snapshot, and opens the archive again.
//!
//! `cargo run -p ar7 --example quick_start`

use std::io::{BufRead, Write};

use ar7::{Archive, Key, Mode};

fn main() -> ar7::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notes.ar7");
    let key = Key::passphrase("correct horse battery staple");

    let archive = Archive::create(&path, &key)?;
    let transaction = archive.begin()?;
    transaction.create_directory("projects")?;
    transaction.write("projects/notes.txt", &b"first line\n"[..])?;
    let mut file = transaction.open("projects/notes.txt", Mode::APPEND)?;
    writeln!(file, "second line")?;
    drop(file);
    transaction.commit()?;

    // Dropped without a commit: nothing of it stays.
    let transaction = archive.begin()?;
    transaction.remove_all("projects")?;
    drop(transaction);
    archive.close()?;

    let archive = Archive::open(&path, &key)?;
    let snapshot = archive.snapshot()?;
    for line in snapshot.open("projects/notes.txt")?.lines() {
        println!("{}", line?);
    }
    Ok(())
}
