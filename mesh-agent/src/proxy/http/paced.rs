//! A body that keeps to `policy.bandwidth`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{body::BodyError, coming::Coming};
use crate::limit::{Pacer, Turn};

/// A body as it comes in, and as fast as it may go out. Frames are never
/// copied; what waits is one of them.
pub(super) struct Paced {
    incoming: Coming,
    /// `None` where nothing is limited.
    pace: Option<Box<Pace>>,
}

#[derive(Debug)]
struct Pace {
    pacer: Arc<Pacer>,
    client: u64,
    /// The rest of a frame.
    held: Bytes,
    waiting: Option<(Pin<Box<Sleep>>, Turn)>,
}

impl Paced {
    pub fn new(incoming: impl Into<Coming>, pacer: &Arc<Pacer>, client: u64) -> Self {
        let incoming = incoming.into();
        let pace = (pacer.is_limited() && !incoming.is_end_stream()).then(|| {
            let pacer = Arc::clone(pacer);
            Box::new(Pace { pacer, client, held: Bytes::new(), waiting: None })
        });
        Self { incoming, pace }
    }
}

impl Pace {
    /// The next piece of what is held, when its turn has come.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let turn = match self.waiting.take() {
            Some((mut sleep, turn)) => {
                if sleep.as_mut().poll(context).is_pending() {
                    self.waiting = Some((sleep, turn));
                    return Poll::Pending;
                }
                turn
            }
            None => {
                let now = Instant::now().into_std();
                let Some(turn) = self.pacer.turn(self.client, self.held.len(), now) else {
                    return Poll::Ready(std::mem::take(&mut self.held));
                };
                if let Some(begins) = turn.begins() {
                    self.waiting = Some((Box::pin(tokio::time::sleep_until(begins.into())), turn));
                    return self.poll_piece(context);
                }
                turn
            }
        };
        let piece = self.held.split_to(turn.bytes().min(self.held.len()));
        turn.used(piece.len());
        Poll::Ready(piece)
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, pace } = self.get_mut();
        let Some(pace) = pace else { return Pin::new(incoming).poll_frame(context) };
        if pace.held.is_empty() {
            let frame = match ready!(Pin::new(incoming).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(data) => pace.held = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        pace.poll_piece(context).map(|piece| Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.held() == 0 && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (held, coming) = (self.held(), self.incoming.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(held + coming.lower());
        if let Some(upper) = coming.upper() {
            hint.set_upper(held + upper);
        }
        hint
    }
}

impl Paced {
    fn held(&self) -> u64 {
        self.pace.as_ref().map_or(0, |pace| pace.held.len() as u64)
    }
}
