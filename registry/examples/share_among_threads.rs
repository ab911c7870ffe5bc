//! Many threads read an archive while another commits: each read sees exactly one commit.
//!
//! `cargo run -p ar7-registry --example share_among_threads`

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_registry::{Archive, CreateOptions, Result};

const READERS: usize = 4;
const COMMITS: u8 = 50;
const LENGTH: usize = 100_000;

fn main() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = directory.path().join("example.ar7");
    let secret = Secret::Key(RawKey::generate()?);
    let archive = Archive::create(&path, &secret, &CreateOptions::default())?;
    let mut stream = archive.new_stream()?;
    let identity = stream.identity();
    stream.append(&vec![0; LENGTH])?;
    archive.commit()?;

    let done = AtomicBool::new(false);
    let reads = thread::scope(|scope| -> Result<Vec<usize>> {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                // A clone is another handle to the same archive.
                let archive = archive.clone();
                let done = &done;
                scope.spawn(move || -> Result<usize> {
                    let stream = archive.read_stream(identity)?;
                    let mut bytes = vec![0; LENGTH];
                    let (mut reads, mut newest) = (0, 0);
                    loop {
                        let last = done.load(Ordering::Acquire);
                        assert_eq!(stream.read_at(0, &mut bytes)?, LENGTH);
                        assert!(
                            bytes.iter().all(|&byte| byte == bytes[0]),
                            "the bytes of one commit"
                        );
                        assert!(bytes[0] >= newest, "never an older commit");
                        newest = bytes[0];
                        reads += 1;
                        if last {
                            assert_eq!(newest, COMMITS);
                            return Ok(reads);
                        }
                    }
                })
            })
            .collect();
        for commit in 1..=COMMITS {
            stream.write_at(0, &vec![commit; LENGTH])?;
            archive.commit()?;
        }
        done.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().expect("no reader panics")).collect()
    })?;
    let total: usize = reads.iter().sum();
    println!(
        "{COMMITS} commits while {READERS} threads read {total} times: every read returned one complete commit"
    );
    drop(stream);
    archive.close()
}
