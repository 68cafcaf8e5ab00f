//! One question to one server: over UDP, and over TCP where the answer is too
//! long for it.

use std::{io, net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
    time::{Instant, timeout, timeout_at},
};

use super::{super::sockets::Sockets, message::Question};
use crate::net::receive;

/// Datagrams get lost: a question is sent so often within the timeout.
const SENDS: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("{server} didn't answer within {after:?}")]
    Timeout { server: SocketAddr, after: Duration },
    #[error("{server} can't be asked: {source}")]
    Io { server: SocketAddr, source: io::Error },
    #[error("{server} answered with {code}")]
    Code { server: SocketAddr, code: ResponseCode },
    #[error("{server} sent over TCP what is no answer to the question")]
    Garbage { server: SocketAddr },
    #[error("the name is too long for a question")]
    Name,
    #[error("it is an alias of an alias, and so on, for more than {0} steps")]
    Aliases(usize),
}

/// Asks `server`. A response has arrived whole, is one to this question, and
/// says that the name has records, has none, or doesn't exist.
pub(super) async fn exchange(
    sockets: &Sockets,
    server: SocketAddr,
    (name, kind): (&Name, RecordType),
    after: Duration,
) -> Result<Message, ExchangeError> {
    let end = Instant::now() + after;
    let asked = async {
        let message = once(sockets, server, (name, kind), true, after).await?;
        // Servers from before EDNS (RFC 6891, 7).
        if message.metadata.response_code == ResponseCode::FormErr {
            return once(sockets, server, (name, kind), false, after).await;
        }
        Ok(message)
    };
    let asked = timeout_at(end, asked).await;
    let message = asked.unwrap_or(Err(ExchangeError::Timeout { server, after }))?;
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
        code => Err(ExchangeError::Code { server, code }),
    }
}

async fn once(
    sockets: &Sockets,
    server: SocketAddr,
    (name, kind): (&Name, RecordType),
    edns: bool,
    after: Duration,
) -> Result<Message, ExchangeError> {
    let question = Question::new(name, kind, edns).ok_or(ExchangeError::Name)?;
    let failed = |source| ExchangeError::Io { server, source };
    let socket = sockets.udp(server).await.map_err(failed)?;
    for _ in 0..SENDS {
        socket.send(&question.bytes).await.map_err(failed)?;
        let Ok(answer) = timeout(after / SENDS, answer(&socket, &question)).await else {
            continue;
        };
        let message = answer.map_err(failed)?;
        if !message.metadata.truncation {
            return Ok(message);
        }
        let bytes = over_tcp(sockets, server, &question.bytes).await.map_err(failed)?;
        return question.response(&bytes).ok_or(ExchangeError::Garbage { server });
    }
    Err(ExchangeError::Timeout { server, after })
}

/// Waits for the response. The socket hears nobody but the server, and what is
/// no response to this question is somebody's guess: not listened to.
async fn answer(socket: &UdpSocket, question: &Question) -> io::Result<Message> {
    loop {
        let bytes = receive(socket).await?;
        if let Some(message) = question.response(&bytes) {
            return Ok(message);
        }
    }
}

/// Messages have their length before them (RFC 1035, 4.2.2).
async fn over_tcp(sockets: &Sockets, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = sockets.tcp(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let frame = [&length.to_be_bytes()[..], query].concat();
    stream.write_all(&frame).await?;
    let length = stream.read_u16().await?;
    let mut response = vec![0; length.into()];
    stream.read_exact(&mut response).await?;
    Ok(response)
}
