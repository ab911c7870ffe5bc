//! A writing process and reading processes: each reader sees whole commits, and none makes another
//! one fail.
//!
//! `cargo run -p ar7 --example two_processes`

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ar7::{Archive, Key, Result};

const READERS: usize = 2;
const RUNS_FOR: Duration = Duration::from_secs(2);

/// Commits again and again: both files always hold the same number.
fn write(path: &Path, key: &Key) -> Result<()> {
    let archive = Archive::options().write(true).wait(RUNS_FOR).open(path, key)?;
    let begun = Instant::now();
    let mut commits = 0_u64;
    while begun.elapsed() < RUNS_FOR {
        commits += 1;
        let transaction = archive.begin()?;
        transaction.write("one", &commits.to_be_bytes()[..])?;
        transaction.write("two", &commits.to_be_bytes()[..])?;
        transaction.commit()?;
    }
    println!("the writer made {commits} commits");
    archive.close()
}

/// Follows the writer: a reader stays at its commit until it moves to the newest one.
fn read(path: &Path, key: &Key) -> Result<()> {
    let archive = Archive::open(path, key)?;
    let begun = Instant::now();
    let (mut commits, mut newest) = (0_u64, Vec::new());
    while begun.elapsed() < RUNS_FOR {
        if archive.refresh()? {
            commits += 1;
        }
        let snapshot = archive.snapshot()?;
        let number = snapshot.read("one")?;
        assert_eq!(number, snapshot.read("two")?, "both files of one commit");
        assert!(number >= newest, "never an older commit");
        newest = number;
    }
    println!("a reader saw {commits} commits");
    Ok(())
}

/// Starts this program again, as a writer or a reader.
fn start(role: &str, folder: &Path) -> Result<Child> {
    Ok(Command::new(env::current_exe()?).arg(role).arg(folder).spawn()?)
}

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if let [role, folder] = &arguments[..] {
        let folder = Path::new(folder);
        let bytes: [u8; 32] = fs::read(folder.join("key"))?.try_into().expect("a key of 32 bytes");
        let path = folder.join("shared.ar7");
        let key = Key::from(bytes);
        return if role == "write" { write(&path, &key) } else { read(&path, &key) };
    }
    let folder = tempfile::tempdir()?;
    let key = Key::generate()?;
    fs::write(folder.path().join("key"), key.as_bytes().expect("a raw key"))?;
    let archive = Archive::create(folder.path().join("shared.ar7"), &key)?;
    let transaction = archive.begin()?;
    transaction.write("one", &0_u64.to_be_bytes()[..])?;
    transaction.write("two", &0_u64.to_be_bytes()[..])?;
    transaction.commit()?;
    archive.close()?;
    let mut children = vec![start("write", folder.path())?];
    for _ in 0..READERS {
        children.push(start("read", folder.path())?);
    }
    for mut child in children {
        assert!(child.wait()?.success(), "no process fails");
    }
    Ok(())
}
