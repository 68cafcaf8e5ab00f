//! An HTTP/1 connection to an instance on which the agent itself speaks, for
//! what most exchanges are: a request without a body, and an answer that says
//! how long it is. The library's client takes a task, three channels and a copy
//! of the head for each; this takes two buffers.
//!
//! What is anything else is left to the library, even where only the answer
//! shows it: the connection is handed over with what was read from it.

mod answer;
mod body;
mod request;

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use http::{Response, request::Parts};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _},
    net::TcpStream,
};

use self::answer::Parsed;
pub(super) use self::{body::PlainBody, request::fits};
use crate::{limit::Slot, registry::Endpoint};

/// Of an answer's head, before the library is asked what it thinks of it.
const HEAD: usize = 16 * 1024;

/// Where the bytes of one read go before it is known what they are.
pub(super) type Scratch = RefCell<Box<[u8]>>;

pub(super) struct Plain {
    /// `None` once the library has it.
    stream: RefCell<Option<TcpStream>>,
    endpoint: Arc<Endpoint>,
    /// Its place among the connections of the service that opened it.
    slot: RefCell<Option<Slot>>,
    /// It can serve another request.
    reusable: Cell<bool>,
}

/// Why there is no answer from here.
pub(super) enum Unanswered {
    /// The connection broke.
    Broken(io::Error),
    /// These bytes are the beginning of something for the library.
    Strange(Vec<u8>),
}

impl Plain {
    pub fn new(stream: TcpStream, endpoint: &Arc<Endpoint>, slot: Slot) -> Self {
        Self {
            stream: RefCell::new(Some(stream)),
            endpoint: Arc::clone(endpoint),
            slot: RefCell::new(Some(slot)),
            reusable: Cell::new(true),
        }
    }

    /// Whether somebody waits for it to be closed.
    pub fn is_wanted(&self) -> bool {
        self.slot.borrow().as_ref().is_some_and(Slot::is_wanted)
    }

    /// Whether the exchange has left it fit for another.
    pub fn is_reusable(&self) -> bool {
        self.reusable.get()
    }

    /// Whether its instance has neither closed it nor said anything. Makes a
    /// system call only where the runtime knows that there is something.
    pub fn is_idle(&self) -> bool {
        let stream = self.stream.borrow();
        let read = stream.as_ref().map(|stream| stream.try_read(&mut [0]));
        matches!(read, Some(Err(error)) if error.kind() == ErrorKind::WouldBlock)
    }

    /// The socket, for the library.
    pub fn take(&self) -> Option<(TcpStream, Slot)> {
        Some((self.stream.take()?, self.slot.take()?))
    }

    /// Sends a request for which [`fits`] holds, and waits for the answer.
    pub async fn exchange(
        self: &std::rc::Rc<Self>,
        head: &Parts,
        scratch: &Scratch,
    ) -> Result<Response<PlainBody>, Unanswered> {
        let request = request::encode(head);
        let mut written = 0;
        let mut early = Vec::new();
        let answer = std::future::poll_fn(|context| {
            // An instance may answer before it has read all.
            while written < request.len() {
                match self.poll_write(context, &request[written..]) {
                    Poll::Ready(some) => written += some.map_err(Unanswered::Broken)?,
                    Poll::Pending => break,
                }
            }
            self.poll_answer(context, head, scratch, &mut early)
        })
        .await;
        match answer {
            Err(Unanswered::Strange(_)) if written < request.len() => {
                Err(Unanswered::Broken(ErrorKind::InvalidData.into()))
            }
            Err(error) => Err(error),
            Ok(answer) => {
                let whole = written == request.len();
                self.reusable.set(answer.keeps && whole);
                Ok(Response::from_parts(
                    answer.head,
                    PlainBody::new(self, answer.body, answer.left),
                ))
            }
        }
    }

    fn poll_answer(
        &self,
        context: &mut Context<'_>,
        head: &Parts,
        scratch: &Scratch,
        early: &mut Vec<u8>,
    ) -> Poll<Result<answer::Answer, Unanswered>> {
        let scratch = &mut *scratch.borrow_mut();
        loop {
            let read = ready!(self.poll_read(context, scratch)).map_err(Unanswered::Broken)?;
            if read == 0 {
                let ended = io::Error::new(ErrorKind::UnexpectedEof, "closed without an answer");
                return Poll::Ready(Err(Unanswered::Broken(ended)));
            }
            let parsed = if early.is_empty() {
                answer::parse(&scratch[..read], &head.method)
            } else {
                early.extend_from_slice(&scratch[..read]);
                answer::parse(early, &head.method)
            };
            if early.is_empty() && !matches!(parsed, Parsed::Answer(_)) {
                early.extend_from_slice(&scratch[..read]);
            }
            match parsed {
                Parsed::Answer(answer) => return Poll::Ready(Ok(answer)),
                Parsed::Partial if early.len() < HEAD => {}
                Parsed::Partial | Parsed::Strange => {
                    return Poll::Ready(Err(Unanswered::Strange(std::mem::take(early))));
                }
            }
        }
    }

    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let stream = stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let written = ready!(Pin::new(stream).poll_write(context, bytes))?;
        self.endpoint.live.bytes_sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    /// Reads what there is.
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let stream = stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let read = ready!(pin!(stream.read(room)).poll(context))?;
        self.count_received(read);
        Poll::Ready(Ok(read))
    }

    fn count_received(&self, read: usize) {
        self.endpoint.live.bytes_received.fetch_add(read as u64, Ordering::Relaxed);
    }
}
