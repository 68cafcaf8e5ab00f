//! Who is answered what: services by the agent, all else by the resolver.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn services_are_answered_without_a_resolver() {
    let served = Served::new(None, Vec::new()).await;
    for server in [served.v4, served.v6] {
        for transport in ["+notcp", "+tcp"] {
            let short = ["+short", transport];
            let ask = async |args: &[&str]| dig(server, &[&short[..], args].concat()).await;
            assert_eq!(ask(&["reviews", "A"]).await, "10.96.0.11\n");
            assert_eq!(ask(&["REVIEWS.", "AAAA"]).await, "fd00::11\n");
            assert_eq!(ask(&["reviews", "HTTPS"]).await, "");
        }
        let full = dig(server, &["ReViews", "A"]).await;
        assert!(full.contains("status: NOERROR") && full.contains("EDNS: version: 0"), "{full}");
        assert!(full.contains("flags: qr aa rd ra"), "{full}");
        assert!(full.contains("ReViews.\t\t7\tIN\tA\t10.96.0.11"), "{full}");
        // dig says so where anything about the answer is strange to it.
        assert!(!full.contains("WARNING") && !full.contains(";; Warning"), "{full}");
    }
    assert_eq!(served.count(|stats| &stats.answered), 14);
    assert_eq!(served.count(|stats| &stats.forwarded), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_answered_by_the_resolver_byte_for_byte() {
    let dnsmasq = Dnsmasq::start().await;
    let served = Served::new(Some(dnsmasq.address), Vec::new()).await;
    let mut notify = query(5, "reviews.", RecordType::SOA);
    notify[2] |= 0x20;
    let queries = [
        query(1, "a.test.", RecordType::A),
        query(2, "A.tEsT.", RecordType::AAAA),
        query(3, "nothing.test.", RecordType::A),
        query(4, "big.test.", RecordType::TXT),
        query(6, "reviews.example.com.", RecordType::A),
        notify,
    ];
    for query in &queries {
        let direct = ask_udp(dnsmasq.address, query).await;
        assert_eq!(ask_udp(served.v4, query).await, direct);
        assert_eq!(ask_udp(served.v6, query).await, direct);
        let direct = ask_tcp(dnsmasq.address, std::slice::from_ref(query)).await;
        assert_eq!(direct.len(), 1);
        assert_eq!(ask_tcp(served.v4, std::slice::from_ref(query)).await, direct);
        assert_eq!(ask_tcp(served.v6, std::slice::from_ref(query)).await, direct);
    }
    assert_eq!(code(&ask_udp(served.v4, &queries[2]).await), ResponseCode::NXDomain);
    assert_eq!(served.count(|stats| &stats.forwarded), 25);
    assert_eq!(served.count(|stats| &stats.answered), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_answers_are_asked_for_again_over_tcp() {
    let dnsmasq = Dnsmasq::start().await;
    let served = Served::new(Some(dnsmasq.address), Vec::new()).await;
    let cut = dig(served.v4, &["+noedns", "+ignore", "big.test", "TXT"]).await;
    assert!(cut.contains(" tc "), "{cut}");
    let whole = dig(served.v4, &["+noedns", "big.test", "TXT"]).await;
    assert!(whole.contains(";; Truncated, retrying in TCP mode"), "{whole}");
    assert_eq!(whole.matches(&["x"; 200].concat()).count(), 7, "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_queries_of_both_kinds_are_all_answered() {
    let dnsmasq = Dnsmasq::start().await;
    let served = Served::new(Some(dnsmasq.address), Vec::new()).await;
    let queries: Vec<_> = (0..60)
        .map(|id| match id % 3 {
            0 => query(id, "a.test.", RecordType::A),
            1 => query(id, "reviews.", RecordType::A),
            _ => query(id, "big.test.", RecordType::TXT),
        })
        .collect();
    let mut answers = ask_tcp(served.v4, &queries).await;
    answers.sort();
    assert_eq!(answers.len(), 60);
    for (id, answer) in (0..60u16).zip(&answers) {
        let message = Message::from_vec(answer).unwrap();
        assert_eq!(message.metadata.id, id);
        assert_eq!(message.answers.len(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_is_a_service_is_balanced() {
    let dnsmasq = Dnsmasq::start().await;
    let asked = "10.96.0.10:53".parse().unwrap();
    let service = spec("resolver", &["10.96.0.10"], 53, &[dnsmasq.address]);
    let served = Served::new(Some(asked), vec![service]).await;
    let query = query(1, "a.test.", RecordType::A);
    let direct = ask_udp(dnsmasq.address, &query).await;
    assert_eq!(ask_udp(served.v4, &query).await, direct);
    assert_eq!(ask_tcp(served.v4, &[query]).await, [direct]);

    let empty = spec("resolver", &["10.96.0.10"], 53, &[]);
    let served = Served::new(Some(asked), vec![empty]).await;
    let query = super::tests::query(1, "a.test.", RecordType::A);
    assert_eq!(code(&ask_udp(served.v4, &query).await), ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_cannot_be_asked_fails_at_once() {
    let closed = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for resolver in [Some(closed), None] {
        let served = Served::new(resolver, Vec::new()).await;
        let foreign = query(1, "a.test.", RecordType::A);
        let ours = query(2, "reviews.", RecordType::A);
        assert_eq!(code(&ask_udp(served.v4, &foreign).await), ResponseCode::ServFail);
        let mut answers = ask_tcp(served.v4, &[foreign.clone(), ours, foreign]).await;
        answers.sort();
        let codes: Vec<_> = answers.iter().map(|answer| code(answer)).collect();
        let failed = ResponseCode::ServFail;
        assert_eq!(codes, [failed, failed, ResponseCode::NoError]);
        assert_eq!(served.count(|stats| &stats.failed), 3);
        // What isn't DNS can't be answered; the connection is closed instead.
        assert_eq!(ask_tcp(served.v4, &[b"garbage".to_vec()]).await, Vec::<Vec<u8>>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_goes_there_and_back() {
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let served = Served::new(Some(resolver.local_addr().unwrap()), Vec::new()).await;
    let cases = [b"x".to_vec(), vec![0xff; 700], vec![0; 12], vec![7; 60_000]];
    let echo = async {
        let mut buffer = vec![0; 65_535];
        for _ in 0..4 {
            let (length, from) = resolver.recv_from(&mut buffer).await.unwrap();
            // A stray answer to another query is not the answer to this one.
            resolver.send_to(&[!buffer[0], 1, 2, 3], from).await.unwrap();
            resolver.send_to(&buffer[..length], from).await.unwrap();
        }
    };
    let ask = async {
        for case in &cases[1..] {
            assert_eq!(ask_udp(served.v4, case).await, *case);
        }
        // Too short for an id: whatever comes is the answer.
        assert_eq!(ask_udp(served.v4, &cases[0]).await, [!b'x', 1, 2, 3]);
    };
    tokio::join!(echo, ask);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_beyond_the_bound_are_dropped_and_ours_still_answered() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let served = Served::new(Some(silent.local_addr().unwrap()), Vec::new()).await;
    let mut context = served.dns.context(Arc::clone(&served.namespace));
    context.pending = Arc::new(Semaphore::new(2));
    let cancel = context.cancel.clone();
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let task = tokio::spawn(udp::serve(Arc::new(context), listener));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for id in 0..5 {
        client.send_to(&query(id, "a.test.", RecordType::A), server).await.unwrap();
    }
    // Datagrams are taken in order: once this is answered, so are those.
    let answer = ask_udp(server, &query(9, "reviews.", RecordType::A)).await;
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(served.count(|stats| &stats.dropped), 3);
    cancel.cancel();
    timeout(SOON, task).await.expect("pending queries are given up").unwrap();
}
