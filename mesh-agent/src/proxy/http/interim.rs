//! 1xx responses from an instance to a client that speaks HTTP/1.
//!
//! The library's server can't send them, so they are written to the socket
//! under it. HTTP/2 clients don't get them: there is no way under its framing.

use std::{
    fmt::Write as _,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker, ready},
};

use http::{HeaderMap, StatusCode, header};

/// Those of one client connection that are still to be written.
///
/// The lock is never contended: everything is on one thread. It is there
/// because the library wants its callback to be `Sync`.
#[derive(Debug, Default)]
pub(super) struct Interim(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    written: usize,
    waker: Option<Waker>,
}

impl Interim {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to wake when there is something to write.
    pub fn register(&self, waker: &Waker) {
        let queue = &mut *self.lock();
        if !queue.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            queue.waker = Some(waker.clone());
        }
    }

    pub fn push(&self, status: StatusCode, headers: &HeaderMap) {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "HTTP/1.1 {} {}\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or("")
        );
        let queue = &mut *self.lock();
        queue.bytes.extend_from_slice(text.as_bytes());
        let passed = headers.iter().filter(|(name, _)| **name != header::CONNECTION);
        for (name, value) in passed {
            queue.bytes.extend_from_slice(name.as_str().as_bytes());
            queue.bytes.extend_from_slice(b": ");
            queue.bytes.extend_from_slice(value.as_bytes());
            queue.bytes.extend_from_slice(b"\r\n");
        }
        queue.bytes.extend_from_slice(b"\r\n");
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    /// Writes all that is due.
    pub fn write(
        &self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let queue = &mut *self.lock();
        while queue.written < queue.bytes.len() {
            match ready!(write(&queue.bytes[queue.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                some => queue.written += some,
            }
        }
        queue.bytes.clear();
        queue.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Forgets what can't be written any more, because another response is
    /// on its way out. They are only hints.
    pub fn discard_unstarted(&self) {
        let queue = &mut *self.lock();
        if queue.written == 0 {
            queue.bytes.clear();
        }
    }
}
