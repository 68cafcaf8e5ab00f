use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::model::ServiceName;

/// A request that took 20 ms and got 503.
fn request() -> Record {
    Record {
        at: UNIX_EPOCH,
        kind: Kind::Request,
        via: Via::Proxy,
        client: Client::default(),
        service: Some(ServiceName::new("reviews")),
        destination: "10.96.0.11:9080".parse().unwrap(),
        instance: Some("[fd00::5]:9080".parse().unwrap()),
        protocol: "http/1.1",
        request: Some(Request {
            method: http::Method::POST,
            authority: None,
            path: "/api/v1/items?id=3".to_owned(),
        }),
        end: Some(End {
            ended: Ended::Complete,
            status: Some(503),
            grpc_status: None,
            why: None,
            duration: Duration::from_millis(20),
            first_byte: None,
            round_trip: None,
            sent: 0,
            received: 0,
            attempts: 2,
            requests: None,
        }),
    }
}

fn filter(json: &str) -> Filter {
    serde_json::from_str(json).unwrap()
}

#[test]
fn all_that_is_set_has_to_hold() {
    for (json, admits) in [
        ("{}", true),
        (r#"{"service": "reviews", "method": ["GET", "POST"], "status": ["5xx"]}"#, true),
        (r#"{"service": "review"}"#, false),
        (r#"{"service": "reviews", "method": ["GET"]}"#, false),
        (r#"{"instance": "fd00::5"}"#, true),
        (r#"{"instance": "[fd00::5]:9080"}"#, true),
        (r#"{"instance": "[fd00::5]:9081"}"#, false),
        (r#"{"instance": "10.0.0.1"}"#, false),
        (r#"{"path": "/api"}"#, true),
        (r#"{"path": "/api/*/items"}"#, true),
        (r#"{"path": "/api/*/items?id=*"}"#, true),
        (r#"{"path": "/api/*/item"}"#, false),
        (r#"{"path": "*items"}"#, true),
        (r#"{"status": ["200", "503"]}"#, true),
        (r#"{"status": ["4xx"]}"#, false),
        (r#"{"status": ["complete"]}"#, true),
        (r#"{"status": ["reset", "failed"]}"#, false),
        (r#"{"minDurationUs": 20000}"#, true),
        (r#"{"minDurationUs": 20001}"#, false),
        (r#"{"kind": "request", "via": "proxy"}"#, true),
        (r#"{"kind": "connection"}"#, false),
        (r#"{"via": "kernel"}"#, false),
    ] {
        let filter = filter(json);
        assert_eq!(filter.admits(&request()), admits, "{json}");
        let again = serde_json::from_str(&serde_json::to_string(&filter).unwrap()).unwrap();
        assert_eq!(filter, again, "it travels as it was written");
    }
}

#[test]
fn what_has_begun_is_for_those_who_ask() {
    let begun = Record { end: None, ..request() };
    assert!(!filter("{}").admits(&begun));
    assert!(filter(r#"{"begun": true}"#).admits(&begun));
    assert!(filter(r#"{"begun": true, "path": "/api"}"#).admits(&begun));
    assert!(!filter(r#"{"begun": true, "status": ["503"]}"#).admits(&begun), "it has none yet");
    assert!(!filter(r#"{"begun": true, "minDurationUs": 1}"#).admits(&begun));
}

#[test]
fn a_connection_has_no_method_or_path() {
    let connection = Record { kind: Kind::Connection, request: None, ..request() };
    assert!(!filter(r#"{"method": ["GET"]}"#).admits(&connection));
    assert!(!filter(r#"{"path": "/"}"#).admits(&connection));
}

#[test]
fn globs() {
    for (pattern, text, matches) in [
        ("web", "web", true),
        ("web", "web-1", false),
        ("web-*", "web-1", true),
        ("*", "", true),
        ("*-1", "web-1", true),
        ("w*b*1", "web-b-1", true),
        ("w*b*b*b", "webb", false),
        ("a*a", "a", false),
        ("default/*", "default/web", true),
    ] {
        assert_eq!(pattern.parse::<Glob>().unwrap().matches(text), matches, "{pattern} {text}");
    }
}

#[test]
fn what_makes_no_sense_is_told_what_would() {
    let status = |text: &str| text.parse::<StatusPattern>().unwrap_err().to_string();
    for wrong in ["6xx", "99", "600", "ok", ""] {
        let error = status(wrong);
        assert!(error.contains("503") && error.contains("5xx") && error.contains("refused"));
    }
    let error = "10.1.0.500".parse::<InstancePattern>().unwrap_err().to_string();
    assert!(error.contains("10.1.0.5:9080"), "{error}");
    let error = "api".parse::<PathPattern>().unwrap_err().to_string();
    assert!(error.contains("/api"), "{error}");
    let error = "user".parse::<Via>().unwrap_err().to_string();
    assert!(error.contains("kernel or proxy"), "{error}");
    assert!(" ".parse::<Glob>().is_err());
    assert!(serde_json::from_str::<Filter>(r#"{"servce": "x"}"#).is_err());
}

#[test]
fn the_flag_follows_those_who_watch() {
    let taps = Arc::<Taps>::default();
    assert!(!taps.is_on());
    let all: Vec<_> = (0..WATCHERS).map(|_| taps.watch(Filter::default()).unwrap()).collect();
    assert_eq!(taps.watch(Filter::default()).unwrap_err(), TooMany);
    assert_eq!((taps.is_on(), taps.watchers()), (true, WATCHERS));
    drop(all);
    assert_eq!((taps.is_on(), taps.watchers()), (false, 0));
}

#[tokio::test]
async fn a_slow_one_loses_records_and_is_told() {
    let taps = Arc::<Taps>::default();
    let mut slow = taps.watch(Filter::default()).unwrap();
    let mut picky = taps.watch(filter(r#"{"service": "other"}"#)).unwrap();
    for _ in 0..WAITING + 3 {
        taps.publish(request());
    }
    assert!(matches!(slow.next().await, Seen::Record(_)));
    for _ in 1..WAITING {
        assert!(matches!(slow.next_now(), Some(Seen::Record(_))));
    }
    assert!(matches!(slow.next_now(), Some(Seen::Lost(3))));
    assert!(slow.next_now().is_none());
    assert!(picky.next_now().is_none(), "what isn't wanted takes no room");
    assert_eq!(taps.lost(), 3);
}

#[test]
fn timestamps_and_long_paths() {
    let at = |seconds: u64| timestamp(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
    assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
    assert_eq!(at(951_782_399), "2000-02-28T23:59:59.007Z");
    assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
    assert_eq!(at(1_795_392_291), "2026-11-23T00:04:51.007Z");

    let uri = format!("/{}", "x".repeat(600)).parse().unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("host", "web:80".parse().unwrap());
    let request = Request::new(&http::Method::GET, &uri, &headers);
    assert_eq!(request.authority.as_deref(), Some("web:80"));
    assert!(request.path.ends_with('…') && request.path.len() < 520);
    let connect = Request::new(&http::Method::CONNECT, &"web:80".parse().unwrap(), &headers);
    assert_eq!(connect.path, "web:80");
}
