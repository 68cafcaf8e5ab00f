//! One request, from its head to its answer: the stages, in order.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Request, Response, header, request};
use hyper::body::Incoming;

use super::{
    body::{BodyError, ResponseBody},
    error::Failure,
    exchange::Exchange,
    headers,
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
pub(super) async fn serve(
    session: Rc<Session>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, BodyError> {
    let connection = &session.connection;
    add(&connection.requests, 1);
    let tapped = Tapped::begin(connection, &request);
    let port = connection.port();
    port.stats.requests.fetch_add(1, Ordering::Relaxed);
    let grpc = headers::is_grpc(request.headers());
    let outcome = match session.begin() {
        Some(violation) => Err(violation.into()),
        None => forward(&session, Arc::clone(&port), request, grpc, tapped.clone()).await,
    };
    let mut close = connection.stopping() >= Stop::Closing;
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            let failure = session.bad_body().map_or(failure, Failure::BadRequest);
            close |= failure.ends_connection();
            if let Some(tapped) = &tapped {
                tapped.refused(&failure);
            }
            refuse(&session, &port, &failure, grpc)
        }
    };
    if session.tunnel.borrow().is_none() {
        session.resume();
        if close && !session.http2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(match tapped {
        None => response,
        Some(tapped) => tapped.watch(response),
    })
}

async fn forward(
    session: &Rc<Session>,
    port: Arc<ServicePort>,
    request: Request<Incoming>,
    grpc: bool,
    tapped: Option<Rc<Tapped>>,
) -> Result<Response<ResponseBody>, Failure> {
    // Read: what the head says to the agent itself.
    let (mut exchange, head) = Exchange::read(session, port, request, grpc)?;
    exchange.tap(tapped);
    let body = Rc::clone(&exchange.source);
    let outcome = stages(exchange, head).await;
    if outcome.is_err() && session.http2 {
        body.discard();
    }
    outcome
}

/// The stages of a request. A stage that refuses it ends it here.
async fn stages(
    mut exchange: Exchange<'_>,
    mut head: request::Parts,
) -> Result<Response<ResponseBody>, Failure> {
    let session = exchange.session;
    // Admission: within what the policy lets through.
    let admission = admission::request(&session.connection, &exchange.port, &head.headers)?;
    // Route: whose instances may answer, and what is changed on the way.
    exchange.route(&mut head)?;
    let mut response = exchange
        .within_deadline(async {
            // Attempts: instance by instance, until one answers.
            let answer = exchange.attempts(head).await.map_err(|failure| match failure {
                Failure::Connect(ConnectError::NoInstance) => {
                    admission::overloaded(&exchange.port).map_or(failure, Failure::Refused)
                }
                failure => failure,
            })?;
            // Finish: its answer to the client.
            let mut response = exchange.finish(answer).await?;
            exchange.change_response(response.headers_mut());
            Ok(response)
        })
        .await?;
    if let Some(quota) = &admission.quota {
        admission::tell(quota, response.headers_mut());
    }
    match &mut *session.tunnel.borrow_mut() {
        Some(tunnel) => tunnel.slot = Some(admission.slot),
        None => response.body_mut().hold(admission.slot),
    }
    Ok(response)
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
