//! The two servers: same code, other listeners, other routes.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    AdminSocket, Control,
    routes::{Asker, Surface, answer},
};

/// Connections at a time, for each server; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// For a request head to arrive, idle time before it included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For a whole connection: one who doesn't read must not hold a place for ever.
const LIFETIME: Duration = Duration::from_secs(300);
/// For requests under way when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// Serves the commands until `stop`; then removes the socket's file.
pub async fn serve_socket(socket: AdminSocket, control: Arc<dyn Control>, stop: CancellationToken) {
    serve(&socket, &control, Surface::Socket, &stop).await;
}

/// Serves /metrics, /healthz and /readyz until `stop`.
pub async fn serve_http(listener: TcpListener, control: Arc<dyn Control>, stop: CancellationToken) {
    serve(&listener, &control, Surface::Http, &stop).await;
}

trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Accept for AdminSocket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(TcpListener::accept(self).await?.0)
    }
}

async fn serve(
    listener: &impl Accept,
    control: &Arc<dyn Control>,
    surface: Surface,
    stop: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = async {
            let place = place.await.expect("the semaphore is never closed");
            listener.accept().await.map(|stream| (stream, place))
        };
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => match accepted {
                Ok((stream, place)) => {
                    let (control, stop) = (Arc::clone(control), stop.clone());
                    connections.spawn(async move {
                        connection(stream, control, surface, stop).await;
                        drop(place);
                    });
                }
                // Out of descriptors, most likely: accept() would fail again
                // at once, and spin.
                Err(error) => {
                    tracing::warn!(%error, ?surface, "the admin server cannot accept");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            // Reaps what ended; the branch is off while there is none.
            Some(_) = connections.join_next() => {}
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    // Dropping the set ends the rest.
    let _ = timeout(GRACE, all).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    control: Arc<dyn Control>,
    surface: Surface,
    stop: CancellationToken,
) {
    let watches = Arc::<AtomicBool>::default();
    let asker = Asker { surface, stop: stop.clone(), watches: Arc::clone(&watches) };
    let service = service_fn(move |request| {
        let (control, asker) = (Arc::clone(&control), asker.clone());
        async move { Ok::<_, Infallible>(answer(control, &asker, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
        () = expired(&watches) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, ?surface, "an admin connection ended early");
    }
}

/// Waits until the connection has been there for too long. One who watches may
/// stay: there are few of those, by another bound.
async fn expired(watches: &AtomicBool) {
    loop {
        sleep(LIFETIME).await;
        if !watches.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
