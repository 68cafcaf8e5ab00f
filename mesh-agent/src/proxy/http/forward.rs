//! One request, from its head to its answer: the stages, in order.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;

use super::{
    body::{BodyError, ResponseBody},
    error::Failure,
    exchange::{Exchange, Head},
    headers, patience,
    session::Session,
    tapped::Tapped,
};
use crate::{
    proxy::{
        admission,
        connection::{Stop, add},
        upstream::ConnectError,
    },
    registry::ServicePort,
};

/// Serves one request; always with an answer.
///
/// What can be done at once is done before the future is made: what it holds
/// is copied once more.
pub(super) fn serve(
    session: Rc<Session>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, BodyError>> {
    let connection = &session.connection;
    add(&connection.requests, 1);
    let tapped = Tapped::begin(connection, &request);
    let port = connection.port();
    port.stats.requests.fetch_add(1, Ordering::Relaxed);
    let grpc = headers::is_grpc(request.headers());
    let read = match session.begin() {
        Some(violation) => Err(violation.into()),
        // Read: what the head says to the agent itself.
        None => Exchange::read(&session, Arc::clone(&port), request, grpc),
    };
    async move {
        let outcome = match read {
            Ok((mut exchange, head)) => {
                exchange.tap(tapped.as_ref());
                let outcome = stages(&mut exchange, head).await;
                if outcome.is_err() && session.http2 {
                    Rc::clone(&exchange.source).discard();
                }
                outcome
            }
            Err(failure) => Err(failure),
        };
        let response = answer(&session, &port, outcome, grpc, tapped.as_deref());
        Ok(match tapped {
            None => response,
            Some(tapped) => tapped.watch(response),
        })
    }
}

/// What the client gets.
fn answer(
    session: &Session,
    port: &ServicePort,
    outcome: Result<Response<ResponseBody>, Failure>,
    grpc: bool,
    tapped: Option<&Tapped>,
) -> Response<ResponseBody> {
    let mut close = session.connection.stopping() >= Stop::Closing;
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            let failure = session.bad_body().map_or(failure, Failure::BadRequest);
            close |= failure.ends_connection();
            if let Some(tapped) = tapped {
                tapped.refused(&failure);
            }
            refuse(session, port, &failure, grpc)
        }
    };
    if session.tunnel.borrow().is_none() {
        session.resume();
        if close && !session.http2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

/// The stages of a request. A stage that refuses it ends it here.
async fn stages(
    exchange: &mut Exchange,
    mut head: Head,
) -> Result<Response<ResponseBody>, Failure> {
    // Admission: within what the policy lets through.
    let connection = &exchange.session.connection;
    let admission = admission::request(connection, &exchange.port, &head.headers)?;
    // Route: whose instances may answer, and what is changed on the way.
    exchange.route(&mut head)?;
    let exchange = &*exchange;
    let answered = patience::within(exchange.deadline, exchange.answer(head)).await;
    let mut response = answered.unwrap_or_else(|| {
        exchange.report_timeout();
        Err(Failure::RequestTimeout)
    })?;
    if let Some(quota) = &admission.quota {
        admission::tell(quota, response.headers_mut());
    }
    match &mut *exchange.session.tunnel.borrow_mut() {
        Some(tunnel) => tunnel.slot = Some(admission.slot),
        None => response.body_mut().hold(admission.slot),
    }
    Ok(response)
}

impl Exchange {
    async fn answer(&self, head: Head) -> Result<Response<ResponseBody>, Failure> {
        // Attempts: instance by instance, until one answers.
        let answer = self.attempts(head).await.map_err(|failure| match failure {
            Failure::Connect(ConnectError::NoInstance) => {
                admission::overloaded(&self.port).map_or(failure, Failure::Refused)
            }
            failure => failure,
        })?;
        // Finish: its answer to the client.
        let mut response = self.finish(answer).await?;
        self.change_response(response.headers_mut());
        Ok(response)
    }
}

/// The agent's own answer.
fn refuse(
    session: &Session,
    port: &ServicePort,
    failure: &Failure,
    grpc: bool,
) -> Response<ResponseBody> {
    let client = session.connection.peer;
    tracing::debug!(%client, service = %port.service, error = %failure, "no answer");
    if failure.is_error() {
        port.stats.errors.fetch_add(1, Ordering::Relaxed);
    }
    failure.response(grpc)
}
