//! The client's side of HTTP connections.

use std::{pin::Pin, rc::Rc, task::Poll};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use tokio::net::TcpStream;

use super::{
    batch::Batched,
    forward,
    guard::{Guard, HeadLimits},
    io::{self, ClientIo},
    local::LocalExecutor,
    session::Session,
};
use crate::proxy::{
    connection::Stop,
    tcp::{self, Early},
};

/// Of what one HTTP/2 stream may have waiting to be sent.
const SEND_BUFFER: usize = 256 * 1024;
/// Flow control windows: what a client may send ahead of a slow instance.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Streams that a client reset before they were looked at (CVE-2023-44487).
const RESET_STREAMS: usize = 20;

pub(super) async fn serve_http1(session: Rc<Session>, stream: TcpStream, early: Vec<u8>) {
    let connection = Rc::clone(&session.connection);
    let limits = connection.worker.limits();
    let guard = Guard::new(HeadLimits { size: limits.header_size, fields: limits.header_count });
    let io = ClientIo::new(stream, Rc::clone(&session), Some(guard), early);
    let service = service_fn({
        let session = Rc::clone(&session);
        move |request| forward::serve(Rc::clone(&session), request)
    });
    let mut serving = http1::Builder::new()
        .auto_date_header(false)
        // A client that has said all may still wait for the answer.
        .half_close(true)
        // The guard has counted and measured; these only must not be smaller.
        .max_headers(limits.header_count)
        .max_buf_size((limits.header_size * 2).max(64 * 1024))
        .serve_connection(io, service);
    let mut asked = false;
    let ended = std::future::poll_fn(|context| {
        match connection.watch_stop(context) {
            Stop::Cut => return Poll::Ready(None),
            Stop::Graceful if !asked => {
                asked = true;
                Pin::new(&mut serving).graceful_shutdown();
            }
            _ => {}
        }
        session.interim.register(context.waker());
        Pin::new(&mut serving).poll(context).map(Some)
    })
    .await;
    let tunnel = session.tunnel.take();
    match (ended, tunnel) {
        (None, _) => {}
        (Some(Ok(())), Some(tunnel)) => {
            let parts = serving.into_parts();
            let (client, held) = parts.io.into_parts();
            let mut from_client = parts.read_buf.to_vec();
            from_client.extend_from_slice(&held);
            let early = Early { from_client, from_server: tunnel.early.to_vec() };
            tcp::tunnel(&connection, &tunnel.endpoint, &client, &tunnel.stream, early).await;
            drop((tunnel.in_flight, tunnel.slot));
        }
        (Some(result), _) => {
            if let Err(error) = result {
                tracing::debug!(client = %connection.peer, %error, "http/1 connection ended");
            }
            if session.refusal().is_some() {
                let (client, _) = serving.into_parts().io.into_parts();
                io::close_gently(client, &connection.worker.scratch).await;
            }
        }
    }
}

pub(super) async fn serve_http2(session: Rc<Session>, stream: TcpStream, early: Vec<u8>) {
    let connection = Rc::clone(&session.connection);
    let limits = connection.worker.limits();
    let io = Batched::new(ClientIo::new(stream, Rc::clone(&session), None, early));
    let written = io.clone();
    let service = service_fn(move |request| forward::serve(Rc::clone(&session), request));
    let mut serving = std::pin::pin!(
        http2::Builder::new(LocalExecutor)
            .auto_date_header(false)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(io, service)
    );
    let mut asked = false;
    let ended = std::future::poll_fn(|context| {
        match connection.watch_stop(context) {
            Stop::Cut => return Poll::Ready(None),
            Stop::Graceful | Stop::Closing if !asked => {
                asked = true;
                serving.as_mut().graceful_shutdown();
            }
            _ => {}
        }
        let ended = serving.as_mut().poll(context);
        // What fails here fails again when the library writes.
        let _ = written.poll_drain(context);
        ended.map(Some)
    })
    .await;
    if let Some(Err(error)) = ended {
        tracing::debug!(client = %connection.peer, %error, "http/2 connection ended");
    }
}
