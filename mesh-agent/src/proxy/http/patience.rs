//! How long a stage waits for the one inside it.
//!
//! Written as futures by hand: an async function that takes a future holds it
//! twice, and what is nested four deep then grows to many kilobytes, which are
//! copied for every request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::{exchange::Exchange, expect};

pin_project! {
    /// All of a request, no longer than its client is to wait.
    pub(super) struct WithinDeadline<F> {
        #[pin]
        work: F,
        deadline: Option<Pin<Box<Sleep>>>,
    }
}

/// `None` where the time is over.
pub(super) fn within<F: Future>(deadline: Option<Instant>, work: F) -> WithinDeadline<F> {
    let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
    WithinDeadline { work, deadline }
}

impl<F: Future> Future for WithinDeadline<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.work.poll(context) {
            return Poll::Ready(Some(output));
        }
        let Some(deadline) = this.deadline else { return Poll::Pending };
        deadline.as_mut().poll(context).map(|()| None)
    }
}

pin_project! {
    /// One attempt, no longer than `retry.perTryTimeout`. The time that the
    /// client takes to send its body doesn't count.
    pub(super) struct Attempted<'a, F> {
        #[pin]
        response: F,
        exchange: &'a Exchange,
        per_try: Option<PerTry>,
        // Until the body isn't held back any more.
        expecting: Option<Pin<Box<Sleep>>>,
    }
}

struct PerTry {
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    /// All had been sent when the sleep began.
    sent: bool,
}

impl PerTry {
    fn new(limit: Duration, exchange: &Exchange) -> Self {
        let sleep = Box::pin(tokio::time::sleep(limit));
        Self { limit, sleep, sent: exchange.source.is_done() }
    }

    fn poll(&mut self, exchange: &Exchange, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if self.sent {
                return Poll::Ready(());
            }
            self.sent = exchange.source.is_done();
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
    }
}

impl Exchange {
    /// `None` where the instance has taken too long.
    pub fn in_time<F: Future>(&self, response: F) -> Attempted<'_, F> {
        let per_try = self.retry().per_try_timeout.map(|limit| PerTry::new(limit, self));
        let expecting = self.gate.as_ref().map(|_| Box::pin(tokio::time::sleep(expect::PATIENCE)));
        Attempted { response, exchange: self, per_try, expecting }
    }
}

impl<F: Future> Future for Attempted<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.response.poll(context) {
            return Poll::Ready(Some(output));
        }
        if let Some(sleep) = this.expecting
            && sleep.as_mut().poll(context).is_ready()
        {
            *this.expecting = None;
            if let Some(gate) = &this.exchange.gate {
                gate.open();
            }
        }
        match this.per_try {
            Some(per_try) => per_try.poll(this.exchange, context).map(|()| None),
            None => Poll::Pending,
        }
    }
}
