//! A copy of a request's body, for a mirror. It never holds the request up:
//! what the mirror hasn't taken is kept, up to a bound, and a mirror that
//! falls further behind is cut.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::body::BodyError;

/// How far one mirror may be behind, in bytes.
pub(super) const BEHIND: usize = 1024 * 1024;
/// How much a worker keeps for all mirrors together.
const MOST_HELD: usize = 16 * 1024 * 1024;
/// What a piece costs beside its bytes.
const PIECE: usize = 64;

/// Bytes that a worker keeps for mirrors.
pub(in crate::proxy) type Held = Rc<Cell<usize>>;

/// The request's end.
#[derive(Debug)]
pub(super) struct Tee(Rc<Shared>);

/// The mirror's end.
#[derive(Debug)]
pub(super) struct Copy(Rc<Shared>);

/// How the copy is, for those who only look.
#[derive(Debug)]
pub(super) struct Look(Rc<Shared>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More may come.
    Open,
    Whole,
    /// The request broke off.
    Broken,
    /// The mirror fell behind.
    Behind,
}

#[derive(Debug)]
struct Shared {
    end: Cell<End>,
    waiting: RefCell<VecDeque<Bytes>>,
    /// What these cost.
    cost: Cell<usize>,
    trailers: RefCell<Option<HeaderMap>>,
    /// Bytes that are still to come, where that is known.
    left: Cell<Option<u64>>,
    waker: RefCell<Option<Waker>>,
    held: Held,
}

/// A body of which `size` is known, in two ends.
pub(super) fn tee(size: &SizeHint, held: &Held) -> (Tee, Copy, Look) {
    let shared = Rc::new(Shared {
        end: Cell::new(End::Open),
        waiting: RefCell::default(),
        cost: Cell::new(0),
        trailers: RefCell::default(),
        left: Cell::new(size.exact()),
        waker: RefCell::default(),
        held: Rc::clone(held),
    });
    (Tee(Rc::clone(&shared)), Copy(Rc::clone(&shared)), Look(shared))
}

impl Shared {
    fn close(&self, end: End) {
        if self.end.get() == End::Open {
            self.end.set(end);
            if end != End::Whole {
                self.let_go();
            }
            self.wake();
        }
    }

    fn let_go(&self) {
        self.waiting.take();
        self.held.set(self.held.get() - self.cost.replace(0));
    }

    fn charge(&self, cost: usize) -> bool {
        let (own, all) = (self.cost.get() + cost, self.held.get() + cost);
        let fits = own <= BEHIND && all <= MOST_HELD;
        if fits {
            self.cost.set(own);
            self.held.set(all);
        }
        fits
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Tee {
    /// What the request is sending. Copied: a piece of the library's own
    /// buffer would keep all of that.
    pub fn push(&self, frame: &Frame<Bytes>) {
        let shared = &self.0;
        if shared.end.get() != End::Open {
            return;
        }
        if let Some(trailers) = frame.trailers_ref() {
            *shared.trailers.borrow_mut() = Some(trailers.clone());
        }
        if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
            if !shared.charge(data.len() + PIECE) {
                return shared.close(End::Behind);
            }
            shared.waiting.borrow_mut().push_back(Bytes::copy_from_slice(data));
            shared.wake();
        }
    }

    /// That was all.
    pub fn end(&self) {
        self.0.close(End::Whole);
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.0.close(End::Broken);
    }
}

impl Look {
    pub fn end(&self) -> End {
        self.0.end.get()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Nobody takes any more of it.
        self.0.close(End::Broken);
        self.0.let_go();
    }
}

impl Body for Copy {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let shared = &self.0;
        let next = shared.waiting.borrow_mut().pop_front();
        if let Some(data) = next {
            let cost = data.len() + PIECE;
            shared.cost.set(shared.cost.get() - cost);
            shared.held.set(shared.held.get() - cost);
            shared.left.set(shared.left.get().map(|left| left.saturating_sub(data.len() as u64)));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match shared.end.get() {
            End::Open => {
                *shared.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
            End::Whole => Poll::Ready(shared.trailers.take().map(|all| Ok(Frame::trailers(all)))),
            End::Broken => Poll::Ready(Some(Err("the request broke off".into()))),
            End::Behind => Poll::Ready(Some(Err("the mirror fell behind the request".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.end.get() == End::Whole
            && self.0.waiting.borrow().is_empty()
            && self.0.trailers.borrow().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.left.get().map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

#[cfg(test)]
#[path = "tee_tests.rs"]
mod tests;
