//! Against servers on the loopback address that answer as they are told.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{super::Answer, *};
use crate::net::SocketOptions;

/// A server that gives these answers, one per connection, and then none at
/// all; and the requests that it saw.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/list?x=1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut silent = Vec::new();
            let mut answers = answers.into_iter();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                shared.lock().unwrap().push(String::from_utf8(request).unwrap());
                match answers.next() {
                    // The client may hang up in the middle of a long one.
                    Some(answer) => drop(stream.write_all(&answer).await),
                    None => silent.push(stream),
                }
            }
        });
        Self { url, seen }
    }

    fn request(&self, number: usize) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)[number].clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into()
}

fn lookup(url: &str, format: HttpFormat) -> HttpLookup {
    let source = HttpSource {
        url: url.to_owned(),
        format,
        timeout: Duration::from_millis(500),
        headers: vec![("x-token".into(), "t".into())],
        max_size: 4 << 20,
        ..HttpSource::default()
    };
    HttpLookup::new(source, Sockets::new(SocketOptions { mark: 0 }).unwrap())
}

/// `addresses wait`, or what else it was.
async fn ask(lookup: &mut HttpLookup) -> String {
    let outcome = lookup.ask(&Arc::default()).await;
    match outcome.answer {
        Answer::Instances { instances, .. } => {
            let addresses: Vec<_> = instances.iter().map(|i| i.address.to_string()).collect();
            format!("{} {}", addresses.join(" "), outcome.wait.as_secs())
        }
        Answer::Empty => format!("empty {}", outcome.wait.as_secs()),
        Answer::Unchanged => format!("unchanged {}", outcome.wait.as_secs()),
        Answer::Failed(reason) => format!("failed: {reason}"),
    }
}

const LIST: &str = r#"[{"targets": ["10.0.0.1:80"]}]"#;

#[tokio::test]
async fn a_list_is_asked_for_again_only_if_it_changed() {
    let server = Server::start(vec![
        answer("200 OK", "etag: \"one\"\r\ncache-control: max-age=60\r\n", LIST),
        answer("304 Not Modified", "cache-control: max-age=86400\r\n", ""),
        answer("200 OK", "etag: \"two\"\r\n", "[]"),
        answer("304 Not Modified", "", ""),
    ])
    .await;
    let mut lookup = lookup(&server.url, HttpFormat::Prometheus);
    assert_eq!(ask(&mut lookup).await, "10.0.0.1 60");
    assert_eq!(ask(&mut lookup).await, "unchanged 300", "a day is too long");
    assert_eq!(ask(&mut lookup).await, "empty 5");
    assert_eq!(ask(&mut lookup).await, "unchanged 5");
    let first = server.request(0);
    assert!(first.starts_with("GET /list?x=1 HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("x-token: t\r\n") && !first.contains("if-none-match"), "{first}");
    assert!(server.request(1).contains("if-none-match: \"one\"\r\n"));
    assert!(server.request(3).contains("if-none-match: \"two\"\r\n"));
}

#[tokio::test]
async fn what_can_not_be_used_is_a_failure_with_its_reason() {
    let long = "x".repeat(5 << 20);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let server = Server::start(vec![
        answer("200 OK", "etag: \"one\"\r\n", LIST),
        answer("200 OK", "etag: \"bad\"\r\n", "<html>"),
        answer("304 Not Modified", "", ""),
        answer("500 Internal Server Error", "", "[]"),
        answer("301 Moved Permanently", "location: http://x/\r\n", ""),
        answer("200 OK", "", &long),
        chunked.into(),
        answer("200 OK", "content-encoding: gzip\r\n", LIST),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[".to_vec(),
    ])
    .await;
    let mut lookup = lookup(&server.url, HttpFormat::Prometheus);
    assert_eq!(ask(&mut lookup).await, "10.0.0.1 5");
    for word in [
        "not of the form",
        // What was refused isn't asked for by its tag.
        "304 Not Modified",
        "500 Internal",
        "301 Moved Permanently: name the URL",
        "more than 4194304 bytes",
        "more than 4194304 bytes",
        "gzip",
        "doesn't speak HTTP",
        "doesn't speak HTTP",
        "no whole answer",
    ] {
        let said = ask(&mut lookup).await;
        assert!(said.starts_with("failed") && said.contains(word), "{word}: {said}");
    }
    assert!(!server.request(2).contains("if-none-match"));
}

#[tokio::test]
async fn a_server_that_can_not_be_asked() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    for (url, word) in
        [(closed.as_str(), "can't connect"), ("https://10.0.0.1/", "TLS"), ("http://", "no URL")]
    {
        let said = ask(&mut lookup(url, HttpFormat::Prometheus)).await;
        assert!(said.starts_with("failed") && said.contains(word), "{said}");
    }
    let mut lookup = lookup(&closed, HttpFormat::Prometheus);
    lookup.source.headers = vec![("bad header".into(), "x".into())];
    assert!(ask(&mut lookup).await.starts_with("failed"));
}

#[tokio::test]
async fn consul_is_asked_with_its_index() {
    let entry = r#"[{"Node": {"Address": "10.0.0.1"}, "Service": {"Port": 80}}]"#;
    let server = Server::start(vec![
        answer("200 OK", "x-consul-index: 7\r\n", entry),
        answer("200 OK", "x-consul-index: 3\r\n", entry),
        answer("200 OK", "x-consul-index: 4\r\n", entry),
        answer("200 OK", "x-consul-index: 5\r\n", "[]"),
        answer("500 Internal Server Error", "", "No cluster leader"),
        answer("200 OK", "", entry),
    ])
    .await;
    let mut lookup = lookup(&server.url, HttpFormat::Consul);
    assert_eq!(ask(&mut lookup).await, "10.0.0.1 1");
    assert_eq!(ask(&mut lookup).await, "10.0.0.1 5", "backwards: no blocking, so not at once");
    assert_eq!(ask(&mut lookup).await, "10.0.0.1 1");
    assert_eq!(ask(&mut lookup).await, "empty 5");
    assert!(ask(&mut lookup).await.contains("500"));
    assert_eq!(ask(&mut lookup).await, "10.0.0.1 5", "no index: as any other list");
    let paths: Vec<_> =
        (0..6).map(|number| server.request(number).split(' ').nth(1).unwrap().to_owned()).collect();
    let plain = "/list?x=1&passing=true";
    let blocking = |index| format!("{plain}&index={index}&wait=60s");
    assert_eq!(paths, [plain, &blocking(7), plain, &blocking(4), plain, plain]);
}
