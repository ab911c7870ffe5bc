//! The streams that a transaction has open. All files of one stream share it, so that each sees
//! what the others wrote.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ar7_registry::records::InodeNumber;
use ar7_registry::{Archive, Content, Error, Mode, Result, Stream};
use uuid::Uuid;

use crate::records::{Attributes, Timestamp};

/// An open stream.
#[derive(Debug)]
struct Shared {
    /// `None` after the stream was deleted.
    stream: Mutex<Option<Stream>>,
    /// Raised by each change.
    version: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Stream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The archive, and the streams that its transaction has open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) archive: Archive,
    streams: Mutex<HashMap<Uuid, Arc<Shared>>>,
}

impl Open {
    pub(crate) fn new(archive: Archive) -> Open {
        Open { archive, streams: Mutex::default() }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Shared>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream, or shares the open one.
    pub(crate) fn stream(&self, identity: Uuid, mode: Mode) -> Result<SharedStream<'_>> {
        let mut streams = self.streams();
        if mode.needs_new() && streams.contains_key(&identity) {
            return Err(Error::StreamExists { stream: identity });
        }
        let shared = self.share(&mut streams, identity, mode)?;
        drop(streams);
        Ok(SharedStream::new(self, None, Some(shared)))
    }

    /// Creates a stream.
    pub(crate) fn new_stream(&self) -> Result<SharedStream<'_>> {
        let stream = self.archive.new_stream()?;
        let shared = add(&mut self.streams(), stream);
        Ok(SharedStream::new(self, None, Some(shared)))
    }

    /// Returns the content of a file. The first write gives an empty file a stream.
    pub(crate) fn content(&self, inode: InodeNumber) -> SharedStream<'_> {
        SharedStream::new(self, Some(inode), None)
    }

    fn share(
        &self,
        streams: &mut HashMap<Uuid, Arc<Shared>>,
        identity: Uuid,
        mode: Mode,
    ) -> Result<Arc<Shared>> {
        if let Some(shared) = streams.get(&identity) {
            return Ok(Arc::clone(shared));
        }
        Ok(add(streams, self.archive.open_stream_in(identity, mode)?))
    }

    /// Makes a change that may delete streams. Files that have such a stream open fail from then on.
    pub(crate) fn deleting<T>(&self, mut change: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match change() {
                // Refused before anything changed.
                Err(Error::AlreadyOpen { stream }) => {
                    let Some(shared) = self.streams().remove(&stream) else {
                        return Err(Error::AlreadyOpen { stream });
                    };
                    shared.lock().take();
                }
                outcome => return outcome,
            }
        }
    }

    /// Closes every stream, even that of a file whose destructor did not run.
    pub(crate) fn close(&self) {
        for (_, shared) in self.streams().drain() {
            shared.lock().take();
        }
    }

    /// Forgets a stream that no other file has open.
    fn release(&self, shared: &Arc<Shared>) {
        let mut streams = self.streams();
        if Arc::strong_count(shared) == 2 {
            streams.retain(|_, known| !Arc::ptr_eq(known, shared));
        }
    }
}

fn add(streams: &mut HashMap<Uuid, Arc<Shared>>, stream: Stream) -> Arc<Shared> {
    let identity = stream.identity();
    let shared = Shared { stream: Mutex::new(Some(stream)), version: AtomicU64::new(0) };
    let shared = Arc::new(shared);
    streams.insert(identity, Arc::clone(&shared));
    shared
}

/// A stream of a transaction, opened by one file.
#[derive(Debug)]
pub(crate) struct SharedStream<'t> {
    open: &'t Open,
    /// The file whose content it is.
    inode: Option<InodeNumber>,
    /// Empty while the file has no stream.
    shared: OnceLock<Arc<Shared>>,
    /// Whether this file has set the time of the last change.
    is_touched: bool,
}

impl<'t> SharedStream<'t> {
    fn new(
        open: &'t Open,
        inode: Option<InodeNumber>,
        shared: Option<Arc<Shared>>,
    ) -> SharedStream<'t> {
        let shared = shared.map_or_else(OnceLock::new, OnceLock::from);
        SharedStream { open, inode, shared, is_touched: false }
    }

    /// Returns the identity of the stream. An empty file may have none.
    pub(crate) fn identity(&self) -> Result<Option<Uuid>> {
        self.read(|stream| Ok(Some(stream.identity())), None)
    }

    fn read<T>(&self, work: impl FnOnce(&Stream) -> Result<T>, of_empty: T) -> Result<T> {
        match self.shared()? {
            Some(shared) => work(shared.lock().as_ref().ok_or(Error::Stale)?),
            None => Ok(of_empty),
        }
    }

    /// Returns the open stream, if the file has one by now.
    fn shared(&self) -> Result<Option<&Arc<Shared>>> {
        if let Some(shared) = self.shared.get() {
            return Ok(Some(shared));
        }
        let Some(number) = self.inode else { return Ok(None) };
        let mut streams = self.open.streams();
        let inode = self.open.archive.names().inode(number)?.ok_or(Error::Stale)?;
        let Some(identity) = inode.stream else { return Ok(None) };
        let shared = self.open.share(&mut streams, identity, Mode::READ)?;
        drop(streams);
        Ok(Some(self.shared.get_or_init(|| shared)))
    }

    /// Returns the open stream. Gives an empty file its stream.
    fn shared_for_writing(&self) -> Result<&Arc<Shared>> {
        if let Some(shared) = self.shared()? {
            return Ok(shared);
        }
        let number = self.inode.ok_or(Error::Stale)?;
        let mut streams = self.open.streams();
        let names = self.open.archive.names();
        let inode = names.inode(number)?.ok_or(Error::Stale)?;
        let shared = if let Some(identity) = inode.stream {
            // Another thread was first.
            self.open.share(&mut streams, identity, Mode::READ)?
        } else {
            let stream = self.open.archive.new_stream()?;
            names.replace_content(number, Some(stream.identity()), inode.attributes)?;
            add(&mut streams, stream)
        };
        drop(streams);
        Ok(self.shared.get_or_init(|| shared))
    }

    fn change(&mut self, work: impl FnOnce(&mut Stream) -> Result<()>) -> Result<()> {
        let shared = self.shared_for_writing()?;
        let mut stream = shared.lock();
        let outcome = work(stream.as_mut().ok_or(Error::Stale)?);
        shared.version.fetch_add(1, Ordering::Release);
        drop(stream);
        outcome?;
        self.touch()
    }

    /// Sets the time of the file's last change, once for each opening.
    fn touch(&mut self) -> Result<()> {
        let Some(number) = self.inode.filter(|_| !self.is_touched) else { return Ok(()) };
        let names = self.open.archive.names();
        let inode = names.inode(number)?.ok_or(Error::Stale)?;
        let attributes = Attributes::from(inode.attributes).with_modified(Timestamp::now());
        names.set_attributes(number, attributes.of_registry())?;
        self.is_touched = true;
        Ok(())
    }
}

impl Content for SharedStream<'_> {
    fn len(&self) -> Result<u64> {
        self.read(Stream::len, 0)
    }

    fn version(&self) -> Result<u64> {
        let shared = self.shared()?;
        // 0 is the version of a file without a stream.
        Ok(shared.map_or(0, |shared| shared.version.load(Ordering::Acquire) + 1))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        self.read(|stream| stream.read_at(offset, bytes), 0)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.change(|stream| stream.write_at(offset, bytes))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.change(|stream| stream.append(bytes))
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        if length == Content::len(self)? {
            return Ok(());
        }
        self.change(|stream| stream.set_len(length))
    }

    fn flush(&mut self) -> Result<()> {
        self.read(|_| Ok(()), ())
    }
}

impl Drop for SharedStream<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.get() {
            self.open.release(shared);
        }
    }
}
