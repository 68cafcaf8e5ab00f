//! A server of known capacity, and a client that asks for more: the tests and
//! the demo run them inside pods.
//!
//! - `overload server PORT WORKERS MILLISECONDS`: answers HTTP/1.1 requests, as
//!   many at a time as it has workers, each of which takes so long.
//! - `overload client ADDRESS:PORT RATE CONNECTIONS SECONDS`: so many requests a
//!   second, whatever becomes of them, over connections that are kept.
//! - `overload connect ADDRESS:PORT RATE SECONDS`: the same with a connection
//!   for each request.
//!
//! Both print how many were served, refused and failed, how long it took, and
//! the median and 99th percentile of those served, in milliseconds.

use std::{
    env, io,
    net::{Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Longer than anything that is served.
const PATIENCE: Duration = Duration::from_secs(5);

async fn serve(port: u16, workers: usize, work: Duration) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await?;
    let workers = Arc::new(Semaphore::new(workers));
    loop {
        let (mut connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        let workers = Arc::clone(&workers);
        tokio::spawn(async move {
            while head(&mut connection).await.is_ok_and(|head| !head.is_empty()) {
                let Ok(_worker) = workers.acquire().await else { return };
                sleep(work).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if connection.write_all(answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Up to the empty line; nothing where the connection has ended.
async fn head(connection: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

#[derive(Debug, Default)]
struct Seen {
    served: Vec<Duration>,
    refused: u64,
    failed: u64,
}

/// One request; whether it was served.
async fn ask(connection: &mut TcpStream) -> Result<bool> {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    let head = String::from_utf8(head(connection).await?)?.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
    let mut body = vec![0; length.context("an answer with a length")?.parse()?];
    connection.read_exact(&mut body).await?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(true),
        Some("503") if head.contains("x-mesh-error: overloaded") => Ok(false),
        _ => bail!("{head}"),
    }
}

/// When the next request is due, of all that are asked.
struct Pace {
    next: AtomicU64,
    start: Instant,
    rate: f64,
    end: Instant,
}

impl Pace {
    fn new(rate: f64, seconds: f64) -> Self {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        Self { next: AtomicU64::new(0), start, rate, end }
    }

    /// Waits for it; nothing at the end.
    async fn due(&self) -> Option<Instant> {
        let number = self.next.fetch_add(1, Relaxed) as f64;
        let due = self.start + Duration::from_secs_f64(number / self.rate);
        sleep_until(due.min(self.end)).await;
        (Instant::now() < self.end).then_some(due)
    }
}

async fn kept(address: SocketAddr, pace: Arc<Pace>) -> Result<Seen> {
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut seen = Seen::default();
    while pace.due().await.is_some() {
        let sent = Instant::now();
        match timeout(PATIENCE, ask(&mut connection)).await? {
            Ok(true) => seen.served.push(sent.elapsed()),
            Ok(false) => seen.refused += 1,
            Err(error) => {
                eprintln!("{error:#}");
                seen.failed += 1;
                connection = TcpStream::connect(address).await?;
            }
        }
    }
    Ok(seen)
}

async fn each(address: SocketAddr, pace: Arc<Pace>) -> Result<Seen> {
    let mut seen = Seen::default();
    while pace.due().await.is_some() {
        let begun = Instant::now();
        let outcome = async {
            let mut connection = TcpStream::connect(address).await?;
            ask(&mut connection).await
        };
        match timeout(PATIENCE, outcome).await? {
            Ok(_) => seen.served.push(begun.elapsed()),
            Err(error) => match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::WouldBlock) => seen.refused += 1,
                _ => {
                    eprintln!("{error:#}");
                    seen.failed += 1;
                }
            },
        }
    }
    Ok(seen)
}

async fn report(mut clients: JoinSet<Result<Seen>>, pace: &Pace) -> Result<()> {
    let mut all = Seen::default();
    while let Some(seen) = clients.join_next().await {
        let seen = seen??;
        all.served.extend(seen.served);
        all.refused += seen.refused;
        all.failed += seen.failed;
    }
    all.served.sort_unstable();
    let percentile = |share: f64| {
        let index = (all.served.len().saturating_sub(1)) as f64 * share;
        all.served.get(index as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    let (served, seconds) = (all.served.len(), pace.start.elapsed().as_secs_f64());
    let Seen { refused, failed, .. } = all;
    let (median, p99) = (percentile(0.5), percentile(0.99));
    println!("{served} {refused} {failed} {seconds:.3} {median:.2} {p99:.2}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server", port, workers, work] => {
            serve(port.parse()?, workers.parse()?, Duration::from_millis(work.parse()?)).await
        }
        ["client", address, rate, connections, seconds] => {
            let (address, mut clients) = (address.parse()?, JoinSet::new());
            let pace = Arc::new(Pace::new(rate.parse()?, seconds.parse()?));
            for _ in 0..connections.parse()? {
                clients.spawn(kept(address, Arc::clone(&pace)));
            }
            report(clients, &pace).await
        }
        ["connect", address, rate, seconds] => {
            const AT_A_TIME: usize = 256;
            let (address, mut clients) = (address.parse()?, JoinSet::new());
            let pace = Arc::new(Pace::new(rate.parse()?, seconds.parse()?));
            for _ in 0..AT_A_TIME {
                clients.spawn(each(address, Arc::clone(&pace)));
            }
            report(clients, &pace).await
        }
        _ => bail!("usage: see the head of this program"),
    }
}
