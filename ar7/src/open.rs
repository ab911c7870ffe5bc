//! The streams that a transaction has open. All files of one stream share it, so that each sees
//! what the others wrote.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ar7_engine::Class;
use ar7_registry::records::{Inode, InodeNumber};
use ar7_registry::{Archive, Content, Error, Mode, Names, Result, Savepoint, Stream};
use uuid::Uuid;

use crate::order::Order;
use crate::records::Attributes;

/// An open stream.
#[derive(Debug)]
struct Shared {
    /// `None` after the stream was deleted, and after the transaction returned to a savepoint.
    stream: Mutex<Option<Stream>>,
    /// Number of the deletion, if the stream was deleted.
    deleted: OnceLock<u64>,
    /// How often the transaction had returned to a savepoint when the stream was opened.
    returns: u64,
    /// Number of the last change.
    version: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Stream>> {
        lock(&self.stream)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Streams = HashMap<Uuid, Arc<Shared>>;

/// The archive, and the streams that its transaction has open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) archive: Archive,
    streams: Mutex<Streams>,
    /// Numbers openings, deletions and changes.
    order: Order,
    /// Number of the last change that gave files without an open stream other content: a change of packed content, or a
    /// replacement.
    packed_version: AtomicU64,
}

impl Open {
    pub(crate) fn new(archive: Archive) -> Open {
        let (order, packed_version) = (Order::default(), AtomicU64::default());
        Open { archive, streams: Mutex::default(), order, packed_version }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        lock(&self.streams)
    }

    /// Opens a stream, or shares the open one.
    pub(crate) fn stream(&self, identity: Uuid, mode: Mode) -> Result<SharedStream<'_>> {
        let mut streams = self.streams();
        if mode.needs_new() && streams.contains_key(&identity) {
            return Err(Error::StreamExists { stream: identity });
        }
        let shared = self.share(&mut streams, identity, mode)?;
        drop(streams);
        Ok(SharedStream::new(self, Opened::Stream(identity), Some(shared)))
    }

    /// Creates a stream.
    pub(crate) fn new_stream(&self) -> Result<SharedStream<'_>> {
        let mut streams = self.streams();
        let stream = self.archive.new_stream()?;
        let opened = Opened::Stream(stream.identity());
        let shared = self.add(&mut streams, stream);
        drop(streams);
        Ok(SharedStream::new(self, opened, Some(shared)))
    }

    /// Returns the content of a file. The first write gives an empty file a stream.
    pub(crate) fn content(&self, inode: InodeNumber) -> SharedStream<'_> {
        SharedStream::new(self, Opened::File(inode), None)
    }

    fn share(&self, streams: &mut Streams, identity: Uuid, mode: Mode) -> Result<Arc<Shared>> {
        if let Some(shared) = streams.get(&identity) {
            return Ok(Arc::clone(shared));
        }
        Ok(self.add(streams, self.archive.open_stream_in(identity, mode)?))
    }

    fn add(&self, streams: &mut Streams, stream: Stream) -> Arc<Shared> {
        let identity = stream.identity();
        let shared = Arc::new(Shared {
            stream: Mutex::new(Some(stream)),
            deleted: OnceLock::new(),
            returns: self.order.returns(),
            version: AtomicU64::new(self.order.next()),
        });
        streams.insert(identity, Arc::clone(&shared));
        shared
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
                    let mut open = shared.lock();
                    shared.deleted.get_or_init(|| self.order.next());
                    open.take();
                }
                outcome => {
                    // A change that failed may have been made in part.
                    self.packed_version.store(self.order.next(), Ordering::Release);
                    return outcome;
                }
            }
        }
    }

    /// Makes a savepoint. Returns it with its number in the order of openings and deletions.
    pub(crate) fn savepoint(&self) -> Result<(Savepoint, u64)> {
        let number = self.order.next();
        Ok((self.archive.savepoint()?, number))
    }

    /// Returns to a savepoint, and closes every stream. Files that were open at it open theirs again
    /// when they need them.
    pub(crate) fn roll_back_to(&self, point: &Savepoint, number: u64) -> Result<()> {
        let mut streams = self.streams();
        // From here on, files in other threads wait for the lock.
        self.order.begin_return();
        let returned = self.archive.roll_back_to(point);
        if returned.is_ok() {
            self.order.undo_since(number);
        }
        self.packed_version.store(self.order.next(), Ordering::Release);
        close_all(&mut streams);
        returned
    }

    /// Closes every stream, even that of a file whose destructor did not run.
    pub(crate) fn close(&self) {
        close_all(&mut self.streams());
    }

    /// Forgets a stream that no other file has open.
    fn release(&self, shared: &Arc<Shared>) {
        let mut streams = self.streams();
        if Arc::strong_count(shared) == 2 {
            streams.retain(|_, known| !Arc::ptr_eq(known, shared));
        }
    }
}

fn close_all(streams: &mut Streams) {
    for (_, shared) in streams.drain() {
        shared.lock().take();
    }
}

/// What a file was opened as.
#[derive(Debug, Clone, Copy)]
enum Opened {
    /// As a file with this inode. An empty one may have no stream.
    File(InodeNumber),
    /// As a stream.
    Stream(Uuid),
}

/// A stream of a transaction, opened by one file.
#[derive(Debug)]
pub(crate) struct SharedStream<'t> {
    open: &'t Open,
    opened: Opened,
    /// Number of the opening.
    number: u64,
    /// Empty while the file has no stream.
    shared: Mutex<Option<Arc<Shared>>>,
    /// How often the transaction had returned to a savepoint when this file set its time of the last
    /// change.
    touched: Option<u64>,
}

impl<'t> SharedStream<'t> {
    fn new(open: &'t Open, opened: Opened, shared: Option<Arc<Shared>>) -> SharedStream<'t> {
        let (number, shared) = (open.order.next(), Mutex::new(shared));
        SharedStream { open, opened, number, shared, touched: None }
    }

    /// Returns the identity of the stream. An empty file may have none.
    pub(crate) fn identity(&self) -> Result<Option<Uuid>> {
        self.read(|stream| Ok(Some(stream.identity())), None)
    }

    fn read<T>(&self, mut work: impl FnMut(&Stream) -> Result<T>, of_empty: T) -> Result<T> {
        loop {
            let Some(shared) = self.shared()? else { return Ok(of_empty) };
            let outcome = shared.lock().as_ref().map_or(Err(Error::Stale), &mut work);
            if !self.must_repeat(&shared, &outcome) {
                return outcome;
            }
        }
    }

    /// Returns whether a call failed because another thread returned to a savepoint meanwhile.
    fn must_repeat<T>(&self, shared: &Shared, outcome: &Result<T>) -> bool {
        matches!(outcome, Err(Error::Stale)) && shared.returns != self.open.order.returns()
    }

    /// Returns the open stream, if the file has one by now.
    fn shared(&self) -> Result<Option<Arc<Shared>>> {
        let mut known = lock(&self.shared);
        if let Some(shared) = known.as_ref().filter(|shared| self.is_current(shared)) {
            return Ok(Some(Arc::clone(shared)));
        }
        let mut streams = self.open.streams();
        self.check_not_undone(known.as_deref())?;
        let identity = match self.opened {
            Opened::Stream(identity) => Some(identity),
            Opened::File(number) => {
                let inode = self.open.archive.names().inode(number)?;
                inode.ok_or(Error::Stale)?.stream
            }
        };
        let share = |identity| self.open.share(&mut streams, identity, Mode::READ);
        let found = identity.map(share).transpose().map_err(|error| match error {
            // A stream that was deleted before the transaction returned to a savepoint.
            Error::NoStream { .. } => Error::Stale,
            other => other,
        })?;
        known.clone_from(&found);
        Ok(found)
    }

    /// Returns whether a stream was opened since the last return to a savepoint.
    fn is_current(&self, shared: &Shared) -> bool {
        shared.returns == self.open.order.returns()
    }

    /// Fails if a return to a savepoint undid the opening, or did not undo the deletion of the stream.
    fn check_not_undone(&self, known: Option<&Shared>) -> Result<()> {
        if self.open.order.is_undone(self.number) {
            return Err(Error::RolledBack);
        }
        let deleted = known.and_then(|known| known.deleted.get());
        match deleted {
            Some(&deleted) if !self.open.order.is_undone(deleted) => Err(Error::Stale),
            _ => Ok(()),
        }
    }

    /// Returns the open stream. Gives an empty file its stream.
    fn shared_for_writing(&self) -> Result<Arc<Shared>> {
        if let Some(shared) = self.shared()? {
            return Ok(shared);
        }
        let Opened::File(number) = self.opened else { return Err(Error::Stale) };
        let mut known = lock(&self.shared);
        let mut streams = self.open.streams();
        self.check_not_undone(None)?;
        let names = self.open.archive.names();
        let inode = names.inode(number)?.ok_or(Error::Stale)?;
        let shared = if let Some(identity) = names.unpack(number)? {
            // It was packed, or another thread was first.
            self.open.share(&mut streams, identity, Mode::READ)?
        } else {
            let stream = self.open.archive.new_stream()?;
            names.replace_content(number, Some(stream.identity()), inode.attributes)?;
            self.open.add(&mut streams, stream)
        };
        *known = Some(Arc::clone(&shared));
        Ok(shared)
    }

    fn change(&mut self, mut work: impl FnMut(&mut Stream) -> Result<()>) -> Result<()> {
        loop {
            let shared = self.shared_for_writing()?;
            let mut stream = shared.lock();
            let outcome = stream.as_mut().map_or(Err(Error::Stale), &mut work);
            shared.version.store(self.open.order.next(), Ordering::Release);
            drop(stream);
            if !self.must_repeat(&shared, &outcome) {
                return self.changed(outcome);
            }
        }
    }

    /// Changes a packed file with holes, which stays packed. Returns false if the file is not one.
    fn change_packed(
        &mut self,
        work: impl FnOnce(&Names<'_>, InodeNumber) -> Result<bool>,
    ) -> Result<bool> {
        let Some((number, _)) = self.packed()? else { return Ok(false) };
        // While this is held, no other thread returns to a savepoint.
        let streams = self.open.streams();
        self.check_not_undone(None)?;
        let outcome = work(&self.open.archive.names(), number);
        self.open.packed_version.store(self.open.order.next(), Ordering::Release);
        drop(streams);
        if let Ok(false) = outcome { Ok(false) } else { self.changed(outcome) }
    }

    /// Sets the time of the file's last change after a change.
    fn changed<T>(&mut self, outcome: Result<T>) -> Result<T> {
        // A change that failed may have been made in part, unless its arguments were refused.
        let is_unchanged = outcome.as_ref().is_err_and(|error| error.class() == Class::Usage);
        let touched = if is_unchanged { Ok(()) } else { self.touch() };
        let outcome = outcome?;
        touched.map(|()| outcome)
    }

    /// Sets the time of the file's last change, once for each opening.
    fn touch(&mut self) -> Result<()> {
        let returns = self.open.order.returns();
        if self.touched == Some(returns) {
            return Ok(());
        }
        let number = match self.opened {
            Opened::File(number) => number,
            Opened::Stream(_) => {
                let inode = self.read(|stream| Ok(stream.stored()?.inode), None)?;
                let Some(inode) = inode else { return Ok(()) };
                InodeNumber(inode.get())
            }
        };
        let names = self.open.archive.names();
        let inode = names.inode(number)?.ok_or(Error::Stale)?;
        let attributes = Attributes::from(inode.attributes).changed_now();
        names.set_attributes(number, attributes.of_registry())?;
        self.touched = Some(returns);
        Ok(())
    }
}

impl SharedStream<'_> {
    /// Returns the inode if its content is packed.
    fn packed(&self) -> Result<Option<(InodeNumber, Inode)>> {
        let Opened::File(number) = self.opened else { return Ok(None) };
        if self.shared()?.is_some() {
            return Ok(None);
        }
        let inode = self.open.archive.names().inode(number)?.ok_or(Error::Stale)?;
        Ok(inode.slice.map(|_| (number, inode)))
    }
}

impl Content for SharedStream<'_> {
    fn len(&self) -> Result<u64> {
        if let Some((_, inode)) = self.packed()? {
            return Ok(inode.size);
        }
        self.read(Stream::len, 0)
    }

    fn version(&self) -> Result<u64> {
        loop {
            let Some(shared) = self.shared()? else {
                // No stream has the version of a file without one.
                return Ok(self.open.packed_version.load(Ordering::Acquire));
            };
            let is_deleted = shared.deleted.get().is_some();
            let version = shared.version.load(Ordering::Acquire);
            let outcome = if is_deleted { Err(Error::Stale) } else { Ok(version) };
            if !self.must_repeat(&shared, &outcome) {
                return outcome;
            }
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        if let Some((number, _)) = self.packed()? {
            let read = self.open.archive.names().read_packed(number, offset, bytes)?;
            // Another thread may have given the file a stream of its own meanwhile: then this is not its end.
            if read > 0 || self.packed()?.is_some() {
                return Ok(read);
            }
        }
        self.read(|stream| stream.read_at(offset, bytes), 0)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.change_packed(|names, number| names.write_packed(number, Some(offset), bytes))? {
            return Ok(());
        }
        self.change(|stream| stream.write_at(offset, bytes))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.change_packed(|names, number| names.write_packed(number, None, bytes))? {
            return Ok(());
        }
        self.change(|stream| stream.append(bytes))
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        if length == Content::len(self)? {
            return Ok(());
        }
        if self.change_packed(|names, number| names.set_packed_len(number, length))? {
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
        if let Some(shared) = lock(&self.shared).take() {
            self.open.release(&shared);
        }
    }
}
