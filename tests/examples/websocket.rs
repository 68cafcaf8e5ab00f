//! Both ends of a WebSocket conversation, by tungstenite: the tests run it
//! inside pods.
//!
//! - `websocket server PORT`: sends each message back.
//! - `websocket client AUTHORITY SIZE`: sends text, a ping and SIZE bytes, wants
//!   each back, closes and wants that answered; prints what came.

use std::{
    env,
    net::{Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_async, connect_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

async fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await?;
    loop {
        let (connection, peer) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = echo(connection).await {
                eprintln!("{peer}: {error:#}");
            }
        });
    }
}

async fn echo(connection: TcpStream) -> Result<()> {
    let mut socket = accept_async(connection).await?;
    // Pings and the close are answered by tungstenite while we read.
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn converse(authority: &str, size: usize) -> Result<()> {
    let (mut socket, response) = connect_async(format!("ws://{authority}/chat")).await?;
    println!("{}", response.status().as_u16());
    let bytes: Vec<u8> = (0..size).map(|number| (number % 251) as u8).collect();
    for message in [Message::text("grüße"), Message::Ping("there?".into()), Message::binary(bytes)]
    {
        socket.send(message.clone()).await?;
        let answer = socket.next().await.context("the connection ended")??;
        let wanted = match message {
            Message::Ping(content) => Message::Pong(content),
            other => other,
        };
        ensure!(answer == wanted, "{} bytes came back, not what was sent", answer.len());
        println!("{}", answer.len());
    }
    let reason = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    socket.close(Some(reason)).await?;
    match socket.next().await {
        Some(Ok(Message::Close(Some(frame)))) => println!("closed {} {}", frame.code, frame.reason),
        other => bail!("the close was answered with {other:?}"),
    }
    ensure!(socket.next().await.is_none(), "something came after the close");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server", port] => serve(port.parse()?).await,
        ["client", authority, size] => converse(authority, size.parse()?).await,
        _ => bail!("usage: see the head of this program"),
    }
}
