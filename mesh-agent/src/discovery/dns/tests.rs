//! Against servers on the loopback address that answer as they are told.

use std::{net::Ipv4Addr, num::NonZeroU16};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        RData, Record,
        rdata::{A, CNAME, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use super::{
    super::{Answer, instance},
    *,
};
use crate::net::SocketOptions;

/// What a server sends for a query; `true` for one over TCP. Several datagrams
/// may follow one query.
type Script = fn(&Message, bool) -> Vec<Message>;

/// A server on both transports; ends with the test's runtime.
async fn server(script: Script) -> SocketAddr {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // The port may be taken on the other transport.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let address = tcp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            for answer in script(&query, false) {
                udp.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            for answer in script(&Message::from_vec(&query).unwrap(), true) {
                let bytes = answer.to_vec().unwrap();
                stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    address
}

fn respond(query: &Message, answers: Vec<Record>) -> Message {
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.queries.clone_from(&query.queries);
    message.answers = answers;
    message
}

fn code(query: &Message, code: ResponseCode) -> Message {
    let mut message = respond(query, Vec::new());
    message.metadata.response_code = code;
    message
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn v4(owner: &str, ttl: u32, last: u8) -> Record {
    record(owner, ttl, RData::A(A::new(10, 0, 0, last)))
}

fn v6(owner: &str, ttl: u32) -> Record {
    record(owner, ttl, RData::AAAA("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().into()))
}

fn srv(weight: u16, port: u16, target: &str) -> Record {
    record("web.test.", 30, RData::SRV(SRV::new(1, weight, port, name(target))))
}

/// What was asked, such as `web.test. A`.
fn asked(query: &Message) -> String {
    let [question] = &query.queries[..] else { panic!("one question: {query:?}") };
    format!("{} {}", question.name, question.query_type)
}

fn lookup(servers: SocketAddr, record: DnsRecord) -> DnsLookup {
    let source = DnsSource {
        name: "web.test".into(),
        record,
        port: NonZeroU16::new(80),
        server: Some(servers),
        ttl_min: Duration::from_secs(2),
        timeout: Duration::from_millis(400),
        ..DnsSource::default()
    };
    DnsLookup::new(source, Sockets::new(SocketOptions { mark: 0 }).unwrap())
}

async fn ask(script: Script, record: DnsRecord, current: &[Instance]) -> Outcome {
    lookup(server(script).await, record).ask(&current.into()).await
}

/// Instances as text, and for how long they hold.
fn shown(outcome: &Outcome) -> (Vec<String>, u64) {
    let Answer::Instances { instances, .. } = &outcome.answer else {
        panic!("no instances: {outcome:?}")
    };
    let show = |i: &Instance| {
        let port = i.port.map_or(0, NonZeroU16::get);
        format!("{}:{port} {} {}", i.address, i.priority, i.weight.0)
    };
    (instances.iter().map(show).collect(), outcome.wait.as_secs())
}

fn reason(outcome: &Outcome) -> &str {
    let Answer::Failed(reason) = &outcome.answer else { panic!("no failure: {outcome:?}") };
    reason
}

#[tokio::test]
async fn both_families_make_one_set_with_the_smaller_ttl() {
    let script: Script = |query, _| match asked(query).as_str() {
        "web.test. A" => vec![respond(query, vec![v4("web.test.", 9, 2), v4("web.test.", 9, 1)])],
        "web.test. AAAA" => vec![respond(query, vec![v6("web.test.", 5)])],
        other => panic!("{other}"),
    };
    let outcome = ask(script, DnsRecord::Address, &[]).await;
    assert_eq!(
        shown(&outcome),
        (vec!["10.0.0.1:80 0 1".into(), "10.0.0.2:80 0 1".into(), "fd00::1:80 0 1".into()], 5)
    );
}

#[tokio::test]
async fn the_ttl_is_clamped() {
    let brief: Script = |query, _| vec![respond(query, vec![v4("web.test.", 0, 1)])];
    assert_eq!(shown(&ask(brief, DnsRecord::Address, &[]).await).1, 2);
    let long: Script = |query, _| vec![respond(query, vec![v4("web.test.", 86_400, 1)])];
    assert_eq!(shown(&ask(long, DnsRecord::Address, &[]).await).1, 300);
}

#[tokio::test]
async fn an_alias_that_leads_out_of_the_answer_is_followed() {
    let script: Script = |query, _| {
        let alias = || record("web.test.", 3, RData::CNAME(CNAME(name("cdn.test."))));
        match asked(query).as_str() {
            "web.test. A" | "web.test. AAAA" => vec![respond(query, vec![alias()])],
            "cdn.test. A" => vec![respond(query, vec![v4("cdn.test.", 60, 1)])],
            "cdn.test. AAAA" => vec![code(query, ResponseCode::NXDomain)],
            other => panic!("{other}"),
        }
    };
    let outcome = ask(script, DnsRecord::Address, &[]).await;
    assert_eq!(shown(&outcome), (vec!["10.0.0.1:80 0 1".into()], 3));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp() {
    let script: Script = |query, tcp| {
        let mut message = respond(query, Vec::new());
        if tcp {
            message.answers = (0..200).map(|last| v4("web.test.", 9, last)).collect();
        } else {
            message.metadata.truncation = true;
        }
        vec![message]
    };
    let outcome = ask(script, DnsRecord::Address, &[]).await;
    assert_eq!(shown(&outcome).0.len(), 200);
}

#[tokio::test]
async fn what_is_no_answer_to_the_question_is_not_listened_to() {
    let script: Script = |query, _| {
        let mut guess = respond(query, vec![v4("web.test.", 9, 66)]);
        guess.metadata.id = query.metadata.id.wrapping_add(1);
        let mut other = respond(query, vec![v4("web.test.", 9, 66)]);
        other.queries[0].name = name("evil.test.");
        vec![guess, other, respond(query, vec![v4("web.test.", 9, 1)])]
    };
    let outcome = ask(script, DnsRecord::Address, &[]).await;
    assert_eq!(shown(&outcome).0, ["10.0.0.1:80 0 1"]);
}

#[tokio::test]
async fn a_server_from_before_edns_is_asked_without() {
    let script: Script = |query, _| match query.edns {
        Some(_) => vec![code(query, ResponseCode::FormErr)],
        None => vec![respond(query, vec![v4("web.test.", 9, 1)])],
    };
    assert_eq!(shown(&ask(script, DnsRecord::Address, &[]).await).0.len(), 1);
}

#[tokio::test]
async fn nothing_and_no_answer_are_told_apart() {
    let none: Script = |query, _| vec![code(query, ResponseCode::NXDomain)];
    assert_eq!(ask(none, DnsRecord::Address, &[]).await.answer, Answer::Empty);
    let empty: Script = |query, _| vec![respond(query, Vec::new())];
    assert_eq!(ask(empty, DnsRecord::Srv, &[]).await.answer, Answer::Empty);
    let broken: Script = |query, _| vec![code(query, ResponseCode::ServFail)];
    assert!(reason(&ask(broken, DnsRecord::Address, &[]).await).contains("Server Failure"));
    let refusing: Script = |query, _| vec![code(query, ResponseCode::Refused)];
    assert!(reason(&ask(refusing, DnsRecord::Srv, &[]).await).contains("Refused"));
    let silent: Script = |_, _| Vec::new();
    assert!(reason(&ask(silent, DnsRecord::Srv, &[]).await).contains("didn't answer within 400ms"));
}

#[tokio::test]
async fn a_lost_question_is_sent_again_and_a_closed_port_noticed() {
    static QUERIES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let script: Script = |query, _| match QUERIES.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    {
        0 => Vec::new(),
        _ => vec![respond(query, vec![srv(1, 80, "a.test."), v4("a.test.", 9, 1)])],
    };
    let mut lookup = lookup(server(script).await, DnsRecord::Srv);
    lookup.source.timeout = Duration::from_secs(5);
    let outcome = lookup.ask(&Arc::default()).await;
    assert_eq!(shown(&outcome).0, ["10.0.0.1:80 1 1"]);

    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    lookup.source.server = Some(closed);
    let outcome = lookup.ask(&Arc::default()).await;
    assert!(reason(&outcome).contains("can't be asked"), "{outcome:?}");
}

#[tokio::test]
async fn srv_targets_come_with_the_answer_or_are_looked_up() {
    let script: Script = |query, _| match asked(query).as_str() {
        "web.test. SRV" => {
            let records = vec![srv(0, 8080, "a.test."), srv(0, 8081, "b.test.")];
            let mut message = respond(query, records);
            message.additionals = vec![v4("a.test.", 60, 1)];
            vec![message]
        }
        "b.test. A" => vec![respond(query, vec![v4("b.test.", 20, 2)])],
        "b.test. AAAA" => vec![respond(query, vec![v6("b.test.", 60)])],
        other => panic!("a.test needs no question: {other}"),
    };
    let outcome = ask(script, DnsRecord::Srv, &[]).await;
    let expected = ["10.0.0.1:8080 1 1", "10.0.0.2:8081 1 1", "fd00::1:8081 1 1"];
    assert_eq!(shown(&outcome), (expected.map(String::from).to_vec(), 20));
}

#[tokio::test]
async fn an_srv_target_that_can_not_be_looked_up_keeps_its_addresses() {
    let healthy: Script = |query, _| match asked(query).as_str() {
        "web.test. SRV" => {
            vec![respond(query, vec![srv(5, 80, "a.test."), srv(5, 80, "b.test.")])]
        }
        "a.test. A" => vec![respond(query, vec![v4("a.test.", 20, 1)])],
        "b.test. A" => vec![respond(query, vec![v4("b.test.", 20, 2)])],
        _ => vec![respond(query, Vec::new())],
    };
    let broken: Script = |query, _| match asked(query).as_str() {
        "web.test. SRV" => {
            vec![respond(query, vec![srv(5, 80, "a.test."), srv(5, 80, "b.test.")])]
        }
        "a.test. A" => vec![respond(query, vec![v4("a.test.", 20, 9)])],
        "a.test. AAAA" => vec![respond(query, Vec::new())],
        _ => vec![code(query, ResponseCode::ServFail)],
    };
    let mut lookup = lookup(server(healthy).await, DnsRecord::Srv);
    let before = shown(&lookup.ask(&Arc::default()).await).0;
    assert_eq!(before, ["10.0.0.1:80 1 5", "10.0.0.2:80 1 5"]);
    let broken = server(broken).await;
    lookup.source.server = Some(broken);
    let outcome = lookup.ask(&Arc::default()).await;
    assert_eq!(shown(&outcome).0, ["10.0.0.2:80 1 5", "10.0.0.9:80 1 5"]);
    assert!(
        matches!(&outcome.answer, Answer::Instances { trouble: Some(t), .. } if t.contains("b.test"))
    );

    // After a restart nothing is known of the target, but something stands.
    let mut restarted = self::lookup(broken, DnsRecord::Srv);
    let stands: Arc<[Instance]> = [instance("10.0.0.1:80")].into();
    assert!(reason(&restarted.ask(&stands).await).contains("b.test"));
    assert_eq!(shown(&restarted.ask(&Arc::default()).await).0, ["10.0.0.9:80 1 5"]);
}

#[tokio::test]
async fn addresses_that_nobody_can_have_are_no_instances() {
    let script: Script = |query, _| {
        let zero = record("web.test.", 9, RData::A(A::new(0, 0, 0, 0)));
        vec![respond(query, vec![zero, v4("web.test.", 9, 1)])]
    };
    let outcome = ask(script, DnsRecord::Address, &[]).await;
    assert_eq!(shown(&outcome).0, ["10.0.0.1:80 0 1"]);
}
