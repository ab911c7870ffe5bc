//! A document store: get and put by name, many documents in one commit, and a listing.
//!
//! `cargo run -p ar7 --example document_store`

use ar7::{Archive, Error, Key, Result};

/// Documents in one archive.
struct Store {
    archive: Archive,
}

impl Store {
    /// Stores documents; all of them or none.
    fn put(&self, documents: &[(&str, &[u8])]) -> Result<()> {
        let transaction = self.archive.begin()?;
        for (name, content) in documents {
            transaction.write(name, *content)?;
        }
        transaction.commit()
    }

    /// Returns a document, or `None` if the name is unused.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.archive.snapshot()?.read(name) {
            Ok(content) => Ok(Some(content)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes a document and stores the result in the same transaction, so that no other change
    /// comes between.
    fn update(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<()> {
        let transaction = self.archive.begin()?;
        let changed = change(transaction.read(name)?);
        transaction.write(name, &changed[..])?;
        transaction.commit()
    }
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = Archive::create(folder.path().join("documents.ar7"), &Key::generate()?)?;
    let store = Store { archive };
    store.put(&[("one", b"first"), ("two", b"second"), ("three", b"third")])?;
    store.update("two", |content| content.to_ascii_uppercase())?;
    assert_eq!(store.get("two")?.as_deref(), Some(&b"SECOND"[..]));
    assert_eq!(store.get("four")?, None);
    for entry in store.archive.snapshot()?.list("")? {
        let entry = entry?;
        println!("{:>6} bytes  {}", entry.metadata.len, entry.name().display());
    }
    store.archive.close()
}
