//! What those who watch see of the proxy path.

use super::*;
use crate::tap::{Ended, Event, Filter, Kind, Record, Seen, Tap};

async fn next(tap: &mut Tap) -> Arc<Record> {
    match tokio::time::timeout(Duration::from_secs(10), tap.next()).await.expect("it is told") {
        Seen::Record(record) => record,
        Seen::Lost(lost) => panic!("{lost} lost"),
    }
}

fn watch(mesh: &Mesh, begun: bool, kind: Option<Kind>) -> Tap {
    mesh.taps.watch(Filter { begun, kind, ..Filter::default() }).unwrap()
}

#[tokio::test]
async fn a_request_is_told_with_all_that_became_of_it() {
    let instance = http_server("one", false).await;
    let mesh = Mesh::start(Protocol::Http, &[instance]).await;
    let mut tap = watch(&mesh, true, None);
    let answer = mesh
        .raw(b"POST /a?b=c HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
        .await;
    let body = answer.split_once("\r\n\r\n").unwrap().1.len() as u64;

    let opened = next(&mut tap).await;
    assert_eq!((opened.kind, opened.event()), (Kind::Connection, Event::Begun));
    let begun = next(&mut tap).await;
    assert_eq!((begun.kind, begun.event()), (Kind::Request, Event::Begun));
    let ended = next(&mut tap).await;
    assert_eq!(ended.service.as_ref().unwrap().as_str(), "reviews");
    assert_eq!((ended.instance, ended.destination), (Some(instance), mesh.address));
    let request = ended.request.as_ref().unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/a?b=c"));
    let end = ended.end.as_ref().unwrap();
    assert_eq!((end.status, end.ended, end.attempts), (Some(200), Ended::Complete, 1));
    assert_eq!((end.sent, end.received), (5, body));
    assert!(end.first_byte.unwrap() <= end.duration);
    let closed = next(&mut tap).await;
    let end = closed.end.as_ref().unwrap();
    assert_eq!((end.ended, end.requests), (Ended::Closed, Some(1)));
    assert!(end.sent > 5 && end.received > body, "with heads: {end:?}");
}

#[tokio::test]
async fn refusals_and_failures_say_why() {
    let nobody = free_address();
    let mesh = Mesh::start(Protocol::Http, &[nobody]).await;
    let mut tap = watch(&mesh, false, Some(Kind::Request));
    mesh.raw(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let record = next(&mut tap).await;
    let end = record.end.as_ref().unwrap();
    assert_eq!((end.ended, end.status, end.attempts), (Ended::Failed, Some(503), 1));
    assert!(end.why.as_ref().unwrap().starts_with("connect-failed: "), "{end:?}");
    assert_eq!((record.instance, end.first_byte), (Some(nobody), None));

    mesh.raw(b"GET / HTTP/1.1\r\nno colon\r\n\r\n").await;
    let record = next(&mut tap).await;
    let end = record.end.as_ref().unwrap();
    assert_eq!((end.ended, end.status), (Ended::Refused, Some(400)));
    assert!(end.why.as_ref().unwrap().starts_with("bad-request: "), "{end:?}");
}

#[tokio::test]
async fn a_client_that_leaves_early_is_told_as_such() {
    let endless = server(|mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(&[0; 64 * 1024]).await.is_ok() {}
    })
    .await;
    let mesh = Mesh::start(Protocol::Http, &[endless]).await;
    let mut tap = watch(&mesh, true, Some(Kind::Request));
    let mut client = mesh.connect().await;
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(next(&mut tap).await.event(), Event::Begun);
    read_until(&mut client, "\r\n\r\n").await;
    drop(client);
    let record = next(&mut tap).await;
    let end = record.end.as_ref().unwrap();
    assert_eq!((end.ended, end.status), (Ended::Cancelled, Some(200)));
    assert!(end.received < 1_000_000_000, "{end:?}");
}

#[tokio::test]
async fn connections_of_tcp_are_told_with_their_bytes() {
    let instance = server(|mut stream| async move {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        stream.write_all(b"bye!").await.unwrap();
    })
    .await;
    let mesh = Mesh::start(Protocol::Tcp, &[instance]).await;
    let mut tap = watch(&mesh, false, None);
    let mut client = mesh.connect().await;
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "bye!");
    let record = next(&mut tap).await;
    let end = record.end.as_ref().unwrap();
    assert_eq!((record.kind, record.protocol), (Kind::Connection, "tcp"));
    assert_eq!((end.ended, end.sent, end.received), (Ended::Closed, 5, 4));
    assert_eq!((record.instance, end.attempts), (Some(instance), 1));
    drop(tap);

    let mesh = Mesh::start(Protocol::Tcp, &[]).await;
    let mut tap = watch(&mesh, false, None);
    assert!(mesh.resets().await);
    let record = next(&mut tap).await;
    let end = record.end.as_ref().unwrap();
    assert_eq!((end.ended, end.why.as_deref()), (Ended::Failed, Some("no-instance")));
}
