//! `Expect: 100-continue`: the client's body waits for the instance's word.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;

/// How long an instance may keep silent before the body is sent anyway
/// (RFC 9110 section 10.1.1: a client must not wait for ever).
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Closed until the instance wants the body. The library's server tells the
/// client to go on when the body is first asked for, so opening is enough.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub fn poll_open(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.open.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}
