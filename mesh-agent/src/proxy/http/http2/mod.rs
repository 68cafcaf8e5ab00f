//! HTTP/2 to instances: the library's frames and streams, without its client,
//! which takes a task, two channels and as many more wake-ups for each request.

mod body;
mod exchange;
mod sending;

use std::{cell::Cell, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(super) use self::{body::StreamBody, exchange::Unanswered};
use super::{
    batch::Batched,
    pool::Pool,
    upstream_io::{Greeting, Said, UpstreamIo},
};
use crate::{limit::Slot, net::coarse_ns, registry::Endpoint};

/// Of what one stream may have waiting to be sent.
const SEND_BUFFER: usize = 256 * 1024;
/// Flow control windows: what an instance may send ahead of a slow client.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Streams until the instance has said how many it takes: what RFC 9113 section
/// 6.5.2 recommends as the least.
const FIRST_STREAMS: usize = 100;
/// Of an answer's header fields.
const HEADER_LIST: u32 = 16 * 1024;

/// An HTTP/2 connection, shared by its streams.
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    streams: Cell<usize>,
    link: Rc<Link>,
    /// The instance takes no further streams.
    retired: Cell<bool>,
    /// When a stream ended, by [`coarse_ns`].
    used_ns: Cell<u64>,
    slot: Slot,
}

/// What its task knows of a connection.
#[derive(Default)]
struct Link {
    /// As many streams as the instance allows.
    allowed: Cell<usize>,
    ended: Cell<bool>,
}

/// A place among a connection's streams.
pub(super) struct Stream(Rc<Http2>);

impl Http2 {
    /// A place, where there is one.
    pub fn stream(self: &Rc<Self>) -> Option<Stream> {
        (self.streams.get() < self.link.allowed.get()).then(|| self.place())
    }

    fn place(self: &Rc<Self>) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream(Rc::clone(self))
    }

    /// Whether it may get further streams, now or later.
    pub fn is_open(&self) -> bool {
        !self.link.ended.get() && !self.retired.get()
    }

    /// How long it hasn't been used, by [`coarse_ns`].
    pub fn idle_ns(&self, now_ns: u64) -> u64 {
        if self.streams.get() > 0 { 0 } else { now_ns.saturating_sub(self.used_ns.get()) }
    }

    /// Whether it is idle, and somebody waits for it to be closed.
    pub fn is_wanted(&self) -> bool {
        self.streams.get() == 0 && self.slot.is_wanted()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.used_ns.set(coarse_ns());
    }
}

impl Stream {
    /// No further streams on this connection.
    pub fn retire(&self) {
        self.0.retired.set(true);
    }
}

/// What came of speaking HTTP/2 on a new connection.
pub(super) enum Started {
    Stream(Stream),
    /// The instance answered, but not in HTTP/2.
    NotHttp2,
    Closed,
}

/// Speaks HTTP/2 on a new connection, and waits for the instance to answer in
/// it: until then nothing has been sent that would have to be sent again.
pub(super) async fn start(
    stream: TcpStream,
    endpoint: &Arc<Endpoint>,
    pool: &Pool,
    slot: Slot,
    patience: Duration,
) -> Started {
    let greeting = Rc::<Greeting>::default();
    let io = UpstreamIo::new(stream, Arc::clone(endpoint), Some(Rc::clone(&greeting)));
    let Ok((sender, link)) = shake_hands(Batched::new(io)).await else { return Started::Closed };
    let answered = async {
        while greeting.said.get() == Said::Nothing {
            greeting.changed.notified().await;
        }
    };
    if tokio::time::timeout(patience, answered).await.is_err() {
        return Started::Closed;
    }
    match greeting.said.get() {
        Said::Http2 => {}
        Said::SomethingElse => return Started::NotHttp2,
        Said::Nothing | Said::Closed => return Started::Closed,
    }
    let connection = Rc::new(Http2 {
        sender,
        streams: Cell::new(0),
        link,
        retired: Cell::new(false),
        used_ns: Cell::new(coarse_ns()),
        slot,
    });
    let stream = connection.place();
    pool.http2.borrow_mut().push(connection);
    Started::Stream(stream)
}

/// Sends what a connection begins with, and leaves it to a task of its own,
/// which ends when nobody has the sender or a stream any more.
async fn shake_hands(io: Batched<UpstreamIo>) -> Result<(SendRequest<Bytes>, Rc<Link>), h2::Error> {
    let (sender, mut connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false)
        .handshake(TokioIo::new(io.clone()))
        .await?;
    let link = Rc::<Link>::default();
    link.allowed.set(FIRST_STREAMS);
    tokio::task::spawn_local(io.drained({
        let link = Rc::clone(&link);
        std::future::poll_fn(move |context| {
            let ended = Pin::new(&mut connection).poll(context);
            link.allowed.set(connection.max_concurrent_send_streams());
            ended.map(|result| {
                link.ended.set(true);
                if let Err(error) = result {
                    tracing::debug!(%error, "http/2 connection to an instance ended");
                }
            })
        })
    }));
    Ok((sender, link))
}
