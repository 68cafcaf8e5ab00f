//! One request on a stream, and the head of its answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{ResponseFuture, SendRequest},
};
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body as _;

use super::{
    super::{expect::Gate, source::RequestBody},
    Stream, StreamBody,
    sending::{Sending, Sent},
};

/// Why there is no answer.
#[derive(Debug)]
pub(in super::super) enum Unanswered {
    /// The connection took no stream: it had ended, or is about to.
    NotSent(h2::Error),
    /// The instance let go of this stream without looking at the request.
    Refused(h2::Error),
    /// The instance let go of all streams from this one on.
    GoneAway(h2::Error),
    /// The request can't be sent by anybody, or its client broke it off.
    Hopeless(h2::Error),
    Broken(h2::Error),
}

impl Unanswered {
    pub fn error(self) -> h2::Error {
        match self {
            Self::NotSent(error)
            | Self::Refused(error)
            | Self::GoneAway(error)
            | Self::Hopeless(error)
            | Self::Broken(error) => error,
        }
    }

    /// Of a stream that had begun.
    fn of(error: h2::Error) -> Self {
        match error.reason() {
            _ if !error.is_remote() => Self::Broken(error),
            // Only the streams above the last that it looked at fail with it.
            Some(Reason::NO_ERROR) if error.is_go_away() => Self::GoneAway(error),
            Some(Reason::REFUSED_STREAM) => Self::Refused(error),
            _ => Self::Broken(error),
        }
    }
}

impl Stream {
    /// Dropped, it resets the stream.
    pub async fn exchange(
        &self,
        head: Parts,
        body: RequestBody,
    ) -> Result<Response<StreamBody>, Unanswered> {
        // One of its own: a sender remembers the stream that waits to be opened.
        let mut sender: SendRequest<Bytes> = self.0.sender.clone();
        let bodiless = body.is_end_stream();
        let gate = body.gate();
        let ready = std::future::poll_fn(|context| sender.poll_ready(context)).await;
        ready.map_err(Unanswered::NotSent)?;
        let request = Request::from_parts(head, ());
        let sent = sender.send_request(request, bodiless);
        let (response, send) = sent.map_err(Unanswered::Hopeless)?;
        let mut under_way = UnderWay {
            response,
            sending: (!bodiless).then(|| Sending::new(send, body)),
            broken_off: false,
            gate,
        };
        let answered = std::future::poll_fn(|context| under_way.poll(context)).await;
        let UnderWay { sending, broken_off, .. } = under_way;
        match answered {
            Ok(response) => {
                if let Some(rest) = sending {
                    tokio::task::spawn_local(rest);
                }
                let (head, stream) = response.into_parts();
                let body = StreamBody::new(stream, &head.headers);
                Ok(Response::from_parts(head, body))
            }
            Err(error) if broken_off => Err(Unanswered::Hopeless(error)),
            Err(error) => Err(Unanswered::of(error)),
        }
    }
}

/// A request that waits for its answer while its body is sent.
struct UnderWay {
    response: ResponseFuture,
    sending: Option<Sending>,
    /// The client has let go of its body.
    broken_off: bool,
    gate: Option<Arc<Gate>>,
}

impl UnderWay {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<h2::RecvStream>, h2::Error>> {
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = Pin::new(sending).poll(context)
        {
            self.sending = None;
            self.broken_off = sent == Sent::BrokenOff;
        }
        if let Some(gate) = &self.gate {
            while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(context) {
                if interim.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            }
        }
        let response = ready!(Pin::new(&mut self.response).poll(context));
        Poll::Ready(response)
    }
}
