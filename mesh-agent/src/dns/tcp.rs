//! Queries over TCP: messages with their length before them, several on one
//! connection, answered in whatever order the answers come (RFC 7766).

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};

use super::{
    Context,
    answer::{self, Channel},
    report_panic, resolver,
};
use crate::{balance::Ask, model::Transport, net::connect_tcp};

/// A connection on which no message moves is closed.
const IDLE: Duration = Duration::from_secs(30);
/// For the connection to the resolver.
const CONNECT: Duration = Duration::from_secs(5);
/// Messages on their way, each way; whoever sends more waits.
const QUEUE: usize = 16;
/// After an error of the listener, so that one that stays doesn't spin.
const PAUSE: Duration = Duration::from_millis(10);

/// A message with its length before it, as it travels.
type Frame = Vec<u8>;

/// Serves a listener until cancelled.
pub async fn serve(context: Arc<Context>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = context.cancel.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                report_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a DNS connection");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        // Asked for even where it isn't used: this is what forgets the entry.
        let asked = context.originals.take(context.namespace.cookie(), client);
        let Ok(permit) = Arc::clone(&context.connections).try_acquire_owned() else {
            context.stats.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let context = Arc::clone(&context);
        connections.spawn(async move {
            let _permit = permit;
            let asked = asked.map(|original| original.destination);
            if let Err(error) = Connection::new(context, asked).run(stream).await {
                tracing::debug!(%error, %client, "a DNS connection ended early");
            }
        });
    }
    connections.shutdown().await;
}

/// One client connection.
struct Connection {
    context: Arc<Context>,
    /// The resolver that the application asked, where that is known.
    asked: Option<SocketAddr>,
    /// Touched whenever a message has moved.
    moved: watch::Sender<()>,
}

impl Connection {
    fn new(context: Arc<Context>, asked: Option<SocketAddr>) -> Self {
        Self { context, asked, moved: watch::Sender::new(()) }
    }

    /// Serves the connection until either side has closed it, or nothing moves.
    async fn run(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (answers, answers_out) = mpsc::channel(QUEUE);
        // Whoever ends first, what has been answered is still written: that
        // loop ends when nobody is left who might answer.
        let both = async {
            tokio::join!(self.talk(reader, answers), self.write_answers(writer, answers_out))
        };
        tokio::select! {
            (talked, written) = both => talked.and(written),
            () = self.idle() => Ok(()),
        }
    }

    /// Takes queries in, and foreign ones out to the resolver, at the same
    /// time: a slow resolver doesn't hold up answers of our own.
    async fn talk(&self, reader: OwnedReadHalf, answers: mpsc::Sender<Frame>) -> io::Result<()> {
        let (foreign, foreign_out) = mpsc::channel(QUEUE);
        let read = self.read_queries(reader, answers.clone(), foreign);
        let ask = self.ask_resolver(foreign_out, answers);
        tokio::pin!(ask);
        tokio::select! {
            // The client has closed its half; the answers are still to come.
            read = read => read.and(ask.await),
            // The resolver has closed: so do we, as if the client had asked it
            // directly.
            asked = &mut ask => asked,
        }
    }

    async fn read_queries(
        &self,
        reader: OwnedReadHalf,
        answers: mpsc::Sender<Frame>,
        foreign: mpsc::Sender<Frame>,
    ) -> io::Result<()> {
        let mut reader = BufReader::new(reader);
        while let Some(query) = read_frame(&mut reader).await? {
            self.moved.send_replace(());
            let snapshot = self.context.snapshots.load();
            let ttl = self.context.settings.ttl;
            match answer::answer(&query[PREFIX..], &snapshot, ttl, Channel::Tcp) {
                Some(answer) => {
                    self.context.stats.answered.fetch_add(1, Ordering::Relaxed);
                    send(&answers, frame(&answer)?).await?;
                }
                None => send(&foreign, query).await?,
            }
        }
        Ok(())
    }

    /// Connects to the resolver when the first query for it comes. While that
    /// fails, queries get a SERVFAIL.
    async fn ask_resolver(
        &self,
        mut foreign: mpsc::Receiver<Frame>,
        answers: mpsc::Sender<Frame>,
    ) -> io::Result<()> {
        while let Some(query) = foreign.recv().await {
            match self.connect().await {
                Ok(stream) => return self.relay(stream, query, foreign, answers).await,
                Err(error) => {
                    tracing::debug!(%error, "cannot forward a DNS query");
                    self.context.stats.failed.fetch_add(1, Ordering::Relaxed);
                    let failure = answer::failure(&query[PREFIX..]).ok_or(error)?;
                    send(&answers, frame(&failure)?).await?;
                }
            }
        }
        Ok(())
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let asked = self.asked.ok_or_else(resolver::unknown)?;
        let snapshot = self.context.snapshots.load();
        let address = resolver::reach(
            &snapshot,
            asked,
            Transport::Tcp,
            Ask::new(rand::random(), time::Instant::now()),
        )?;
        let Context { namespace, settings, .. } = &*self.context;
        time::timeout(CONNECT, connect_tcp(namespace, address, settings.socket)).await?
    }

    /// Brings queries to the resolver and its answers back, until it closes.
    async fn relay(
        &self,
        mut stream: TcpStream,
        first: Frame,
        mut foreign: mpsc::Receiver<Frame>,
        answers: mpsc::Sender<Frame>,
    ) -> io::Result<()> {
        let (reader, mut writer) = stream.split();
        let ask = async {
            let mut next = Some(first);
            while let Some(query) = next {
                writer.write_all(&query).await?;
                self.moved.send_replace(());
                self.context.stats.forwarded.fetch_add(1, Ordering::Relaxed);
                next = foreign.recv().await;
            }
            writer.shutdown().await
        };
        let hear = async {
            let mut reader = BufReader::new(reader);
            while let Some(answer) = read_frame(&mut reader).await? {
                self.moved.send_replace(());
                send(&answers, answer).await?;
            }
            Ok(())
        };
        tokio::pin!(hear);
        tokio::select! {
            asked = ask => asked.and(hear.await),
            heard = &mut hear => heard,
        }
    }

    /// Writes each message whole: this loop alone has the client's end.
    async fn write_answers(
        &self,
        mut writer: OwnedWriteHalf,
        mut answers: mpsc::Receiver<Frame>,
    ) -> io::Result<()> {
        while let Some(answer) = answers.recv().await {
            writer.write_all(&answer).await?;
            self.moved.send_replace(());
        }
        writer.shutdown().await
    }

    /// Ends when nothing has moved for a while.
    async fn idle(&self) {
        let mut moved = self.moved.subscribe();
        while time::timeout(IDLE, moved.changed()).await.is_ok() {}
    }
}

async fn send(queue: &mpsc::Sender<Frame>, frame: Frame) -> io::Result<()> {
    queue.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Bytes of the length before each message.
const PREFIX: usize = 2;

/// The next message with its length; `None` where the sender has closed.
async fn read_frame(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Frame>> {
    if reader.fill_buf().await?.is_empty() {
        return Ok(None);
    }
    let length = reader.read_u16().await?;
    let mut frame = vec![0; PREFIX + usize::from(length)];
    frame[..PREFIX].copy_from_slice(&length.to_be_bytes());
    reader.read_exact(&mut frame[PREFIX..]).await?;
    Ok(Some(frame))
}

fn frame(message: &[u8]) -> io::Result<Frame> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[..], message].concat())
}
