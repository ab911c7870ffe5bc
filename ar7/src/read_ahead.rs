//! Prefetches the next piece in a thread while the caller processes the current one.

use std::thread;

use ar7_engine::thread_builder;
use crossbeam::channel::{Receiver, Sender, bounded};

/// The number of bytes that a reader put at the start of the buffer, or `None` at the end. 0 means that no bytes are
/// available yet.
pub(crate) type Piece<E> = Result<Option<usize>, E>;

/// A buffer, and the number of bytes that it holds.
type Filled<B, E> = Result<(B, usize), E>;

/// Passes every piece that `read` puts into a buffer to `take`, in order, and reads one piece ahead. A failure of
/// `read` is the last item that `take` receives. A failure of `take` stops the reading.
///
/// Alternates between reading and taking if no thread can be started. `B` is the type of the buffers: one that wipes
/// itself, if they hold what must not stay in memory.
pub(crate) fn read_ahead<B: Default + AsMut<Vec<u8>> + Send, R: Send, E>(
    mut read: impl FnMut(&mut Vec<u8>) -> Piece<R> + Send,
    mut take: impl FnMut(Result<&[u8], R>) -> Result<(), E>,
) -> Result<(), E> {
    let source = &mut read;
    let outcome = thread::scope(|scope| {
        let (filled, pieces) = bounded(1);
        let (emptied, empty) = bounded::<B>(2);
        let reader = move || produce(source, &filled, &empty);
        let started = thread_builder().spawn_scoped(scope, reader);
        started.is_ok().then(|| consume(&mut take, pieces, &emptied))
    });
    outcome.unwrap_or_else(|| by_turns(B::default().as_mut(), read, take))
}

/// Does the same without a thread, in the caller's buffer.
pub(crate) fn by_turns<R, E>(
    buffer: &mut Vec<u8>,
    mut read: impl FnMut(&mut Vec<u8>) -> Piece<R>,
    mut take: impl FnMut(Result<&[u8], R>) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        match read(buffer) {
            Ok(None) => return Ok(()),
            Ok(Some(length)) => take(Ok(beginning(buffer, length)))?,
            Err(error) => return take(Err(error)),
        }
    }
}

fn produce<B: Default + AsMut<Vec<u8>>, R>(
    mut read: impl FnMut(&mut Vec<u8>) -> Piece<R>,
    filled: &Sender<Filled<B, R>>,
    empty: &Receiver<B>,
) {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        let piece = match read(buffer.as_mut()) {
            Ok(None) => return,
            Ok(Some(length)) => Ok((buffer, length)),
            Err(error) => Err(error),
        };
        let is_last = piece.is_err();
        // The receiver is dropped once `take` has failed.
        if filled.send(piece).is_err() || is_last {
            return;
        }
    }
}

fn consume<B: AsMut<Vec<u8>>, R, E>(
    take: &mut impl FnMut(Result<&[u8], R>) -> Result<(), E>,
    pieces: Receiver<Filled<B, R>>,
    emptied: &Sender<B>,
) -> Result<(), E> {
    for piece in pieces {
        match piece {
            Ok((mut buffer, length)) => {
                take(Ok(beginning(buffer.as_mut(), length)))?;
                // If the reader has ended, the buffer is no longer needed.
                let _ = emptied.try_send(buffer);
            }
            Err(error) => return take(Err(error)),
        }
    }
    Ok(())
}

fn beginning(buffer: &[u8], length: usize) -> &[u8] {
    buffer.get(..length).unwrap_or(buffer)
}

#[cfg(test)]
mod tests {
    use super::{Piece, by_turns, read_ahead};

    /// Returns a reader of the numbers from 1 to `last`, one byte each, with an empty piece before each.
    fn counter(last: u8, then_fail: bool) -> impl FnMut(&mut Vec<u8>) -> Piece<&'static str> {
        let (mut next, mut pauses) = (1, true);
        move |buffer| {
            pauses = !pauses;
            if !pauses {
                return Ok(Some(0));
            }
            if next > last {
                return if then_fail { Err("read") } else { Ok(None) };
            }
            // The buffer may be a reused one: longer, and with old bytes.
            buffer.resize(3, 0);
            buffer[0] = next;
            next += 1;
            Ok(Some(1))
        }
    }

    #[test]
    fn pieces_arrive_in_order_and_a_failure_of_the_reader_is_the_last() {
        for (then_fail, expected) in [(false, Ok(())), (true, Err("read"))] {
            let mut taken: Vec<u8> = Vec::new();
            let take = |piece: Result<&[u8], &'static str>| piece.map(|bytes| taken.extend(bytes));
            assert_eq!(read_ahead::<Vec<u8>, _, _>(counter(100, then_fail), take), expected);
            assert_eq!(taken, (1..=100).collect::<Vec<u8>>());
            let mut taken: Vec<u8> = Vec::new();
            let take = |piece: Result<&[u8], &'static str>| piece.map(|bytes| taken.extend(bytes));
            assert_eq!(by_turns(&mut Vec::new(), counter(100, then_fail), take), expected);
            assert_eq!(taken, (1..=100).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn a_failure_of_the_taker_ends_a_reader_without_end() {
        let endless = |_: &mut Vec<u8>| -> Piece<()> { Ok(Some(0)) };
        assert_eq!(read_ahead::<Vec<u8>, _, _>(endless, |_| Err("taken")), Err("taken"));
        assert_eq!(by_turns(&mut Vec::new(), endless, |_| Err("taken")), Err("taken"));
    }
}
