//! Creates an archive, stores a stream and a file in it, and reads both back.
//!
//! `cargo run -p ar7-registry --example store_and_read`

use std::io::{Read, Write};

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::store::OpenOptions;
use ar7_registry::{Archive, CreateOptions, Mode, Result, StreamFile};

fn main() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = directory.path().join("example.ar7");
    let secret = Secret::Key(RawKey::generate()?);

    let archive = Archive::create(&path, &secret, &CreateOptions::default())?;
    let mut stream = archive.new_stream()?;
    stream.append(b"Bytes of a stream")?;
    let identity = stream.identity();
    stream.close()?;
    let notes = {
        let stream = archive.new_stream()?;
        let notes = stream.identity();
        let mut file = StreamFile::over(stream, "notes".to_owned(), Mode::parse("w")?)?;
        writeln!(file, "Bytes of a file").expect("the archive has space");
        file.close()?;
        notes
    };
    // Nothing is durable before the commit; afterwards everything is.
    archive.commit()?;
    let written = archive.statistics()?;
    println!("stored {} streams in {} blocks", written.streams, written.blocks);
    archive.close()?;

    let archive = Archive::open(&path, &secret, OpenOptions::default())?;
    let stream = archive.read_stream(identity)?;
    let mut bytes = [0; 17];
    assert_eq!(stream.read_at(0, &mut bytes)?, 17);
    assert_eq!(&bytes, b"Bytes of a stream");
    println!("read a stream of {} bytes", stream.len()?);
    let mut text = String::new();
    StreamFile::open(&archive, notes, Mode::READ)?
        .read_to_string(&mut text)
        .expect("the archive is undamaged");
    assert_eq!(text, "Bytes of a file\n");
    println!("read a file: {text:?}");
    Ok(())
}
