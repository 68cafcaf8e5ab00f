use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { size: 1024, fields: 8 };

fn whole(bytes: &[u8]) -> (Fed, u64) {
    let mut guard = Guard::new(LIMITS);
    let fed = guard.feed(bytes);
    (fed, guard.heads())
}

/// Feeds in pieces that end at `cuts`, as a connection would.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (Fed, u64) {
    let mut guard = Guard::new(LIMITS);
    let mut passed = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        if cut < passed {
            continue;
        }
        let fed = guard.feed(&bytes[passed..cut]);
        passed += fed.pass;
        if fed.violation.is_some() {
            return (Fed { pass: passed, ..fed }, guard.heads());
        }
    }
    (Fed { pass: passed, violation: None }, guard.heads())
}

fn refused(bytes: &str, violation: Violation) {
    let (fed, _) = whole(bytes.as_bytes());
    assert_eq!(fed.violation, Some(violation), "{bytes:?}");
}

#[test]
fn good_requests_pass_whole() {
    let cases = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\nX: \tb c\t\r\nEmpty:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA;x=\"y\"\r\n0123456789\r\n\
         000\r\nTrailer: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    ];
    for case in cases {
        let twice = format!("{case}{case}");
        assert_eq!(whole(case.as_bytes()), (Fed { pass: case.len(), violation: None }, 1));
        assert_eq!(whole(twice.as_bytes()), (Fed { pass: twice.len(), violation: None }, 2));
    }
}

#[test]
fn smuggling_is_refused() {
    use Violation::*;
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    for (fields, violation) in [
        ("Content-Length: 3\r\nContent-Length: 4\r\n", ContentLength),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", ContentLength),
        ("Content-Length: 3, 3\r\n", ContentLength),
        ("Content-Length: +3\r\n", ContentLength),
        ("Content-Length: 0x3\r\n", ContentLength),
        ("Content-Length: \r\n", ContentLength),
        ("Content-Length: 99999999999999999999\r\n", ContentLength),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", TransferEncoding),
        ("Transfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, identity\r\n", TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", TransferEncoding),
        ("Transfer-Encoding: \x0bchunked\r\n", Field),
        ("Transfer-Encoding : chunked\r\n", Field),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        (" Transfer-Encoding: chunked\r\n", Folded),
        ("X: a\r\n b\r\n", Folded),
        ("X: a\nTransfer-Encoding: chunked\r\n", LineEnd),
        ("X: a\rTransfer-Encoding: chunked\r\n", LineEnd),
        ("X: a\0b\r\n", Field),
        ("X: a\x7fb\r\n", Field),
        ("X\x01: a\r\n", Field),
        ("X y: a\r\n", Field),
        (": a\r\n", Field),
        ("no colon\r\n", Field),
        ("Host: b\r\n", Host),
    ] {
        refused(&with(fields), violation);
    }
    refused("GET / HTTP/1.1\r\n\r\n", Host);
    refused("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Host);
    refused("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Host);
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding);
    refused("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", ContentLength);
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "G\tT / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET /\x01 HTTP/1.1",
        "GET / a HTTP/1.1",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
    ] {
        refused(&format!("{line}\r\nHost: a\r\n\r\n"), RequestLine);
    }
    refused("GET / HTTP/1.1\nHost: a\n\n", LineEnd);
}

#[test]
fn chunk_framing_is_checked() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "3\r\nabcd\r\n",
        "3\nabc\r\n",
        "\r\n",
        ";a\r\n",
        "3 \r\n",
        "0x3\r\n",
        "-1\r\n",
        "3\rX",
        "10000000000000000\r\n",
        "3\r\nabc\n",
        "3\r\nabc\rX",
        "g\r\n",
        "3;\x01\r\n",
        "3;a\n",
    ] {
        let request = format!("{head}{body}");
        let (fed, heads) = whole(request.as_bytes());
        assert_eq!((fed.violation, heads), (Some(Violation::Chunk), 1), "{body:?}");
        assert!(fed.pass >= head.len());
    }
    refused(&format!("{head}3;{}\r\n", "x".repeat(300)), Violation::Chunk);
    refused(&format!("{head}0\r\nContent-Length: 3\r\n\r\n"), Violation::Field);
    refused(&format!("{head}0\r\nX: a\n\r\n"), Violation::LineEnd);
}

#[test]
fn heads_are_bounded() {
    refused(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(1100)), Violation::TooLarge);
    refused(
        &format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(8)),
        Violation::TooLarge,
    );
    // Endless, without a line end: refused before it ends.
    refused(&"x".repeat(1025), Violation::TooLarge);
}

#[test]
fn nothing_of_a_bad_head_passes_but_what_came_before() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (fed, heads) = whole(format!("{good}GET / HTTP/1.1\nHost: a\r\n\r\n").as_bytes());
    assert_eq!(fed, Fed { pass: good.len(), violation: Some(Violation::LineEnd) });
    assert_eq!(heads, 1);
}

#[test]
fn an_upgrade_pauses_until_it_is_refused() {
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut guard = Guard::new(LIMITS);
    let bytes = format!("{upgrade}\x01\x02");
    assert_eq!(guard.feed(bytes.as_bytes()), Fed { pass: upgrade.len(), violation: None });
    assert!(guard.is_paused());
    guard.resume();
    assert_eq!(guard.feed(b"\x01\r\n").violation, Some(Violation::RequestLine));
}

fn request() -> impl Strategy<Value = String> {
    let field = "[a-zA-Z-]{1,8}: ?[ -~]{0,12}";
    let body = prop_oneof![
        Just("\r\n".to_owned()),
        "[a-z]{0,20}".prop_map(|body| format!("Content-Length: {}\r\n\r\n{body}", body.len())),
        prop::collection::vec("[a-z\r\n]{1,20}", 0..4).prop_map(|chunks| {
            let mut text = "Transfer-Encoding: chunked\r\n\r\n".to_owned();
            for chunk in chunks {
                text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
            }
            text + "0\r\n\r\n"
        }),
    ];
    (prop::collection::vec(field, 0..4), body).prop_map(|(fields, body)| {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}{body}")
    })
}

proptest! {
    /// However the network cuts a stream, the verdict is the same.
    #[test]
    fn delivery_makes_no_difference(
        requests in prop::collection::vec(request(), 1..4),
        damage in prop::option::of((0usize..400, any::<u8>())),
        mut cuts in prop::collection::vec(0usize..600, 0..12),
    ) {
        let mut bytes = requests.concat().into_bytes();
        if let Some((at, byte)) = damage && at < bytes.len() {
            bytes[at] = byte;
        }
        cuts.retain(|&cut| cut <= bytes.len());
        cuts.sort_unstable();
        let expected = whole(&bytes);
        prop_assert_eq!(in_pieces(&bytes, &cuts), expected);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(in_pieces(&bytes, &every), expected);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (fed, _) = whole(&bytes);
        prop_assert!(fed.pass <= bytes.len());
    }
}
