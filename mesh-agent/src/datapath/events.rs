//! What the hooks report: a namespace without a listener, a connection that
//! closed or failed, a backend that was ejected or came back.

use aya::maps::{MapData, RingBuf};
pub use mesh_common::event::Event as Record;
use mesh_common::{backend::cause, event::kind, reason::Reason};
use tokio::io::{Interest, unix::AsyncFd};

use crate::health::Cause;

/// One report.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A proxied service was asked for where no listener is: open one.
    NoListener { pid: u32, netns: u64 },
    /// A connection of the kernel path is established, while somebody watches.
    Opened(Record),
    /// A `connect` was refused, for this reason, while somebody watches.
    Refused(Record, &'static str),
    /// A connection of the kernel path ended.
    Closed(Record),
    /// A connection of the kernel path was never established.
    Failed(Record),
    /// A backend was ejected, for `duration_ns`.
    Ejected(Record),
    /// Its probe succeeded.
    Returned(Record),
}

/// What the hooks ejected a backend for.
pub const fn ejected_for(cause: u32) -> Cause {
    // As wide as the field that it stands in.
    const RESET: u32 = cause::RESET as u32;
    const NO_ANSWER: u32 = cause::NO_ANSWER as u32;
    match cause {
        RESET => Cause::KernelResets,
        NO_ANSWER => Cause::KernelSilence,
        _ => Cause::KernelConnects,
    }
}

/// Reads reports, in batches.
pub struct Events(AsyncFd<RingBuf<MapData>>);

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> std::io::Result<Self> {
        // SAFETY: the ring owns its descriptor and keeps it as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self(ring))
    }

    /// Waits until a report asks for attention. Closes don't: they are there
    /// to be read whenever somebody looks.
    pub async fn wait(&self) -> std::io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// The reports that are there now.
impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let item = self.0.get_mut().next()?;
            if item.len() != size_of::<Record>() {
                continue;
            }
            // SAFETY: as long as a record, and every bit pattern is a valid one.
            let record = unsafe { item.as_ptr().cast::<Record>().read_unaligned() };
            return Some(match record.kind {
                kind::NO_LISTENER => Event::NoListener { pid: record.pid, netns: record.netns },
                kind::OPENED => Event::Opened(record),
                kind::REFUSED => Event::Refused(record, reason(record.reason)),
                kind::CLOSED => Event::Closed(record),
                kind::FAILED => Event::Failed(record),
                kind::EJECTED => Event::Ejected(record),
                kind::RETURNED => Event::Returned(record),
                _ => continue,
            });
        }
    }
}

fn reason(number: u32) -> &'static str {
    let known = Reason::ALL.iter().find(|reason| **reason as u32 == number);
    known.map_or("unknown", |reason| reason.name())
}
