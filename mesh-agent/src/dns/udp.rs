//! Queries over UDP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinSet, time};

use super::{
    Context,
    answer::{self, Channel},
    report_panic, resolver,
};
use crate::{
    balance::Ask,
    model::Transport,
    net::{receive, udp_socket},
};

/// For the resolver to answer. Clients ask again after 5 s by themselves.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No datagram is longer.
const LONGEST: usize = 65_535;
/// After an error of the listener, so that one that stays doesn't spin.
const PAUSE: Duration = Duration::from_millis(10);

/// Serves a listener until cancelled.
pub async fn serve(context: Arc<Context>, listener: UdpSocket) {
    let listener = Arc::new(listener);
    let mut pending = JoinSet::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let received = tokio::select! {
            () = context.cancel.cancelled() => break,
            Some(ended) = pending.join_next(), if !pending.is_empty() => {
                report_panic(ended);
                continue;
            }
            received = listener.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((length, client)) => {
                let query = &buffer[..length];
                take(&context, &listener, &mut pending, query, client).await;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot receive a DNS query");
                time::sleep(PAUSE).await;
            }
        }
    }
    pending.shutdown().await;
}

/// Answers a query, or has it forwarded.
async fn take(
    context: &Arc<Context>,
    listener: &Arc<UdpSocket>,
    pending: &mut JoinSet<()>,
    query: &[u8],
    client: SocketAddr,
) {
    let snapshot = context.snapshots.load();
    if let Some(answer) = answer::answer(query, &snapshot, context.settings.ttl, Channel::Udp) {
        context.stats.answered.fetch_add(1, Ordering::Relaxed);
        reply(listener, &answer, client).await;
        return;
    }
    let Ok(permit) = Arc::clone(&context.pending).try_acquire_owned() else {
        context.stats.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (context, listener, query) = (Arc::clone(context), Arc::clone(listener), query.to_vec());
    pending.spawn(async move {
        let _permit = permit;
        forward(&context, &listener, &query, client).await;
    });
}

/// Brings the resolver's answer. One that can't be asked gets the client a
/// SERVFAIL; one that is silent gets it silence, as without us.
async fn forward(context: &Context, listener: &UdpSocket, query: &[u8], client: SocketAddr) {
    match time::timeout(TIMEOUT, exchange(context, listener, query, client)).await {
        Ok(Ok(response)) => reply(listener, &response, client).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, %client, "cannot forward a DNS query");
            context.stats.failed.fetch_add(1, Ordering::Relaxed);
            if let Some(failure) = answer::failure(query) {
                reply(listener, &failure, client).await;
            }
        }
        Err(_) => {
            tracing::debug!(%client, "the resolver didn't answer in time");
            context.stats.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Asks the resolver from a socket of its own: a fresh random port for every
/// query (RFC 5452, 9.2), and answers from nobody else.
async fn exchange(
    context: &Context,
    listener: &UdpSocket,
    query: &[u8],
    client: SocketAddr,
) -> io::Result<Vec<u8>> {
    let cookie = context.namespace.cookie();
    let asked = (context.originals.resolver(cookie, listener.local_addr()?, client.port()))
        .ok_or_else(resolver::unknown)?
        .destination;
    let resolver = resolver::reach(
        &context.snapshots.load(),
        asked,
        Transport::Udp,
        Ask::new(rand::random(), time::Instant::now()),
    )?;
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = udp_socket(&context.namespace, SocketAddr::new(any, 0), context.settings.socket)?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    context.stats.forwarded.fetch_add(1, Ordering::Relaxed);
    loop {
        let response = receive(&socket).await?;
        if is_answer(query, &response) {
            return Ok(response);
        }
    }
}

/// Whether the id is the query's. What else must fit is for the client to say.
fn is_answer(query: &[u8], response: &[u8]) -> bool {
    query.len() < 2 || response.get(..2) == query.get(..2)
}

/// From the address that the query was sent to, so that the client takes it.
async fn reply(listener: &UdpSocket, response: &[u8], client: SocketAddr) {
    if let Err(error) = listener.send_to(response, client).await {
        tracing::debug!(%error, %client, "cannot send a DNS answer");
    }
}
