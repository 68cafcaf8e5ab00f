//! What an attempt came to, and whether another may follow.

use http::{Request, request};
use hyper::client::conn::TrySendError;

use super::{
    body::RequestBody,
    error::Failure,
    exchange::Exchange,
    pool::Lease,
    unseen::{self, Unseen},
};
use crate::registry::Endpoint;

/// For a request that was never looked at. Generous, because it is harmless
/// and can be needed: where an instance closes each connection after 50
/// requests and 100 wait, most of them are sent away, again and again.
const RENEWALS: usize = 40;

/// An attempt that came to nothing.
pub(super) struct Failed {
    pub failure: Failure,
    /// The request, where another attempt may be made with it.
    pub head: Option<request::Parts>,
    /// The connection was no good any more: that many times, a new one to the
    /// same instance is the right next attempt.
    pub renewals: usize,
}

impl Exchange<'_> {
    /// Whether the request may have to be sent again after it has been sent.
    pub fn may_repeat(&self, lease: &Lease, head: &request::Parts) -> bool {
        match lease {
            // An instance may die, or close a kept connection, while a request
            // is on its way to it. RFC 9110 section 9.2.2: only what is
            // idempotent is sent again on a guess.
            Lease::Http1 { .. } => head.method.is_idempotent(),
            // The instance may say that it hasn't looked at it.
            Lease::Http2(_) => true,
        }
    }

    pub fn failed(
        &self,
        endpoint: &Endpoint,
        mut error: TrySendError<Request<RequestBody>>,
        lease: &Lease,
        reused: bool,
        spare: Option<request::Parts>,
    ) -> Failed {
        let unsent = error.take_message().map(|request| request.into_parts().0);
        let error = error.into_error();
        let refused = unseen::unseen(&error);
        let untouched = unsent.is_some() || refused != Unseen::No;
        if let Lease::Http2(stream) = lease
            && (unsent.is_some() || refused == Unseen::GoAway)
        {
            stream.retire();
        }
        let broken = !error.is_parse() && !error.is_user();
        let head = if !self.source.is_replayable() {
            None
        } else if untouched {
            unsent.or(spare)
        } else if broken {
            spare.filter(|head| head.method.is_idempotent())
        } else {
            None
        };
        Failed {
            renewals: match refused {
                Unseen::Stream => 0,
                _ if untouched => RENEWALS,
                _ => usize::from(reused),
            },
            failure: Failure::Exchange { instance: endpoint.address, error: error.into() },
            head,
        }
    }
}
