//! A client's request body: streamed to the first attempt, and a copy of its
//! beginning kept for those that may follow.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{
    body::BodyError,
    expect::Gate,
    paced::Paced,
    tee::{Copy, Held, Look, Tee, tee},
};

/// How much of a body nobody wants is read, in bytes, and for how long.
const DISCARDED: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// A client's request body, outside of any attempt. The first attempt isn't
/// kept waiting: what passes is copied, up to `failover.replay` bytes.
pub(super) struct Source {
    incoming: RefCell<Paced>,
    kept: RefCell<Kept>,
    /// The attempt that the body belongs to; all before it get no more of it.
    attempt: Cell<u32>,
    /// The attempt under way has got all of it.
    done: Cell<bool>,
    /// Bytes that the client has sent of it.
    passed: Cell<u64>,
    /// Copies of it, for mirrors.
    tees: RefCell<Vec<Tee>>,
}

/// What has been read from the client so far.
#[derive(Debug)]
enum Kept {
    Whole {
        data: Vec<u8>,
        trailers: Option<HeaderMap>,
        limit: usize,
    },
    /// More than may be kept, or nobody needs it any more.
    Nothing,
}

impl Source {
    /// `replay`: how much of it is kept at most.
    pub fn new(incoming: Paced, replay: usize) -> Rc<Self> {
        let done = incoming.is_end_stream();
        // Not even begun where it is known to be in vain.
        let limit = if incoming.size_hint().lower() > replay as u64 { 0 } else { replay };
        Rc::new(Self {
            incoming: RefCell::new(incoming),
            kept: RefCell::new(Kept::Whole { data: Vec::new(), trailers: None, limit }),
            attempt: Cell::new(0),
            done: Cell::new(done),
            passed: Cell::new(0),
            tees: RefCell::default(),
        })
    }

    /// Whether another attempt can send the same body: untouched, or all of
    /// what was read has been kept.
    pub fn is_replayable(&self) -> bool {
        matches!(*self.kept.borrow(), Kept::Whole { .. })
    }

    /// Whether there is nothing to send: neither now nor later.
    pub fn is_empty(&self) -> bool {
        self.passed.get() == 0 && self.incoming.borrow().is_end_stream()
    }

    /// How many bytes have been read of it.
    pub fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// Whether all of it has been sent.
    pub fn is_done(&self) -> bool {
        self.done.get()
    }

    /// A copy of it, from its beginning: before any attempt.
    pub fn copy(&self, held: &Held) -> (Copy, Look) {
        let incoming = self.incoming.borrow();
        let (tee, copy, look) = tee(&incoming.size_hint(), held);
        if incoming.is_end_stream() {
            tee.end();
        } else {
            self.tees.borrow_mut().push(tee);
        }
        (copy, look)
    }

    /// All of it has been sent.
    fn finish(&self) {
        self.done.set(true);
        self.tees.borrow().iter().for_each(Tee::end);
    }

    /// An instance has answered: there is no other attempt.
    pub fn forget(&self) {
        *self.kept.borrow_mut() = Kept::Nothing;
    }

    /// Takes in the rest, for nobody. An HTTP/2 stream whose body is let go
    /// before the agent's own answer is out would be reset, and the client
    /// would see that instead of the answer.
    pub fn discard(self: Rc<Self>) {
        tokio::task::spawn_local(async move {
            let mut left = DISCARDED;
            let rest = std::future::poll_fn(|context| {
                loop {
                    let incoming = &mut *self.incoming.borrow_mut();
                    let Some(Ok(frame)) = ready!(Pin::new(incoming).poll_frame(context)) else {
                        return Poll::Ready(());
                    };
                    match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                        Some(less) => left = less,
                        None => return Poll::Ready(()),
                    }
                }
            });
            // Late or too long, it is let go all the same.
            let _ = tokio::time::timeout(PATIENCE, rest).await;
        });
    }

    /// The body for the next attempt, from its beginning.
    pub fn attempt(self: &Rc<Self>, gate: Option<Arc<Gate>>) -> RequestBody {
        let attempt = self.attempt.get() + 1;
        self.attempt.set(attempt);
        let replay = match &*self.kept.borrow() {
            Kept::Whole { data, trailers, .. } => Replay {
                data: (!data.is_empty()).then(|| Bytes::copy_from_slice(data)),
                trailers: trailers.clone(),
            },
            Kept::Nothing => Replay::default(),
        };
        self.done.set(replay.is_empty() && self.incoming.borrow().is_end_stream());
        RequestBody { source: Rc::clone(self), gate, attempt, replay }
    }

    /// Keeps what an attempt is about to send.
    fn keep(&self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.passed.set(self.passed.get() + bytes);
        self.tees.borrow().iter().for_each(|tee| tee.push(frame));
        let kept = &mut *self.kept.borrow_mut();
        let Kept::Whole { data, trailers, limit } = kept else { return };
        match frame.data_ref() {
            Some(more) if data.len() + more.len() <= *limit => data.extend_from_slice(more),
            Some(_) => *kept = Kept::Nothing,
            None => *trailers = frame.trailers_ref().cloned(),
        }
    }
}

/// The body of one attempt.
pub(super) struct RequestBody {
    source: Rc<Source>,
    /// Opens when the instance wants the body.
    gate: Option<Arc<Gate>>,
    attempt: u32,
    replay: Replay,
}

/// What an attempt has to send again before it goes on with what comes.
#[derive(Debug, Default)]
struct Replay {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Replay {
    fn is_empty(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.data.take() {
            return Some(Frame::data(data));
        }
        self.trailers.take().map(Frame::trailers)
    }
}

impl RequestBody {
    /// What holds it back, and opens when the instance wants it.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(gate) = &this.gate {
            ready!(gate.poll_open(context));
        }
        let source = &this.source;
        if source.attempt.get() != this.attempt {
            return Poll::Ready(Some(Err("another attempt sends this body".into())));
        }
        let frame = match this.replay.next() {
            Some(frame) => Some(Ok(frame)),
            None => {
                let frame =
                    ready!(Pin::new(&mut *source.incoming.borrow_mut()).poll_frame(context));
                match &frame {
                    Some(Ok(frame)) => source.keep(frame),
                    // A client that broke off: what comes next is no end.
                    Some(Err(_)) => {
                        source.forget();
                        source.tees.take();
                    }
                    None => {}
                }
                frame
            }
        };
        if frame.is_none() || this.is_end_stream() {
            this.source.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.replay.is_empty() && self.source.incoming.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let again = self.replay.data.as_ref().map_or(0, |data| data.len() as u64);
        let coming = self.source.incoming.borrow().size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(again + coming.lower());
        if let Some(upper) = coming.upper() {
            hint.set_upper(again + upper);
        }
        hint
    }
}
