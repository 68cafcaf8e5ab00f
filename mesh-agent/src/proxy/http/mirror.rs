//! Copies of requests to other services. Nobody waits for them: what becomes of
//! a copy changes nothing for the request, and its answer is thrown away.
//!
//! A copy is an exchange of its own with the service that it goes to: that
//! service's balancing, policy, budget and health hold, and its connections are
//! kept apart, so that a mirror which hangs holds up no stream but its own.

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{header, request};
use http_body_util::BodyExt as _;
use rand::random;

use super::{
    error::Failure,
    exchange::{Exchange, Head},
    paced::Paced,
    session::Session,
    source::Source,
    tee::{End, Look},
};
use crate::{
    proxy::pick::workload,
    registry::{Copied, ServicePort},
    route::Mirror,
};

/// How long after the request a mirror may take where its policy doesn't say.
const PATIENCE: Duration = Duration::from_secs(30);

impl Exchange {
    /// Copies the request, as it is now, to those mirrors that take it.
    #[inline]
    pub fn mirror(&self, mirrors: &[Mirror], head: &request::Parts) {
        if !mirrors.is_empty() {
            self.copy(mirrors, head);
        }
    }

    #[cold]
    fn copy(&self, mirrors: &[Mirror], head: &request::Parts) {
        // What follows an upgrade is a conversation, of which half makes no sense.
        if self.connect || self.upgrade.is_some() {
            return;
        }
        for mirror in mirrors.iter().filter(|mirror| mirror.takes(random())) {
            if let Some((port, subset)) = self.mirrored_to(mirror)
                && let Some(entered) = Entered::new(&port)
            {
                let (copy, look) = self.beside(port, subset);
                let mut head = Box::new(head.clone());
                // The client has been told to go on by the time there is a body.
                head.headers.remove(header::EXPECT);
                tokio::task::spawn_local(copy.send_copy(head, look, entered));
            }
        }
    }

    /// Which port, and which of its subsets; `None` where a reload has just
    /// taken it away.
    fn mirrored_to(&self, mirror: &Mirror) -> Option<(Arc<ServicePort>, Option<usize>)> {
        let to = &mirror.to;
        let port = self.target((to.service.as_ref(), to.port))?;
        if to.subset.is_empty() {
            return Some((port, None));
        }
        let subset = port.subsets.iter().position(|one| one.labels == to.subset)?;
        Some((port, Some(subset)))
    }

    /// The same request, to another port.
    fn beside(&self, port: Arc<ServicePort>, subset: Option<usize>) -> (Self, Look) {
        let connection = self.session.connection.beside(&port);
        let (body, look) = self.source.copy(&connection.worker.mirrored);
        let body = Paced::new(body, &port.flow.upload, workload(&connection));
        let copy = Self {
            grpc: self.grpc,
            connect: false,
            upgrade: None,
            // Nobody is to be told of interim responses.
            http10: true,
            // Nothing is kept of it: it is tried again only where no instance
            // has seen any of the body.
            source: Source::new(body, 0),
            gate: None,
            deadline: None,
            told: Cell::new(false),
            subset,
            route: None,
            backend: None,
            waiting: RefCell::default(),
            tapped: None,
            session: Session::new(&connection, self.session.http2, None),
            port,
        };
        (copy, look)
    }

    async fn send_copy(self, head: Head, look: Look, entered: Entered) {
        let outcome = tokio::select! {
            outcome = self.answer_for_nobody(head) => outcome,
            () = self.overdue(&look) => {
                self.report_timeout();
                Err(Failure::RequestTimeout)
            }
        };
        let copied = match (&outcome, look.end()) {
            (Ok(()), _) => Copied::Answered,
            (Err(Failure::RequestTimeout), _) => Copied::TimedOut,
            (Err(_), End::Behind) => Copied::Behind,
            (Err(_), End::Broken) => Copied::Broken,
            (Err(_), _) => Copied::Failed,
        };
        if let Err(error) = outcome {
            tracing::debug!(service = %self.port.service, %error, "a mirrored request ended");
            if matches!(copied, Copied::Failed | Copied::TimedOut) {
                self.port.stats.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        entered.0.stats.mirrored.count(copied);
    }

    async fn answer_for_nobody(&self, head: Head) -> Result<(), Failure> {
        let answer = self.attempts(head).await?;
        let instance = answer.endpoint.address;
        let mut body = self.finish(answer).await?.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| Failure::Exchange { instance, error })?;
        }
        Ok(())
    }

    async fn overdue(&self, look: &Look) {
        if let Some(limit) = self.port.policy.timeouts.request {
            return tokio::time::sleep(limit).await;
        }
        loop {
            let whole = look.end() != End::Open;
            tokio::time::sleep(PATIENCE).await;
            if whole {
                return;
            }
        }
    }
}

/// A copy that counts as under way until it is dropped.
struct Entered(Arc<ServicePort>);

impl Entered {
    fn new(port: &Arc<ServicePort>) -> Option<Self> {
        port.stats.mirrored.enter().then(|| {
            port.stats.requests.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(port))
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.stats.mirrored.leave();
    }
}
