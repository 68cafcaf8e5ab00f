//! Routes against a plain reading of Gateway API's rules.

use http::{Request, request};
use proptest::prelude::*;

use super::*;
use crate::model::{
    HeaderChanges, HeaderMatch, PathMatch, PathRewrite, RouteMatch, ServiceName, ValueMatch,
};

fn route(name: &str, hosts: &[&str], matches: Vec<RouteMatch>) -> model::Route {
    model::Route {
        ports: Vec::new(),
        name: name.to_owned(),
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        matches,
        filters: Vec::new(),
        backends: Vec::new(),
        timeout: None,
        retry: None,
    }
}

fn path(path: PathMatch) -> RouteMatch {
    RouteMatch { path: Some(path), ..RouteMatch::default() }
}

fn exact(text: &str) -> RouteMatch {
    path(PathMatch::Exact(text.into()))
}

fn prefix(text: &str) -> RouteMatch {
    path(PathMatch::Prefix(text.into()))
}

fn regex(text: &str) -> RouteMatch {
    path(PathMatch::Regex(text.into()))
}

fn header(name: &str, value: &str) -> HeaderMatch {
    HeaderMatch { name: name.into(), value: ValueMatch::Exact(value.into()) }
}

fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for &(name, value) in fields {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn found<'a>(
    routes: &'a Routes,
    method: &str,
    uri: &str,
    fields: &[(&str, &str)],
) -> Option<&'a str> {
    routes.find(&request(method, uri, fields)).map(|route| route.name.as_str())
}

#[test]
fn paths() {
    let routes = Routes::new(&[
        route("short", &[], vec![prefix("/api")]),
        route("long", &[], vec![prefix("/api/v1/")]),
        route("exact", &[], vec![exact("/api/v1/users")]),
        route("regex", &[], vec![regex("/api/v[0-9]+/items"), regex("(?i)/ABC|/d")]),
    ]);
    for (uri, expected) in [
        ("/api", Some("short")),
        ("/api/", Some("short")),
        ("/api?q=/api/v1", Some("short")),
        ("/apiary", None),
        ("/API", None),
        ("/api/v1", Some("long")),
        ("/api/v1/", Some("long")),
        ("/api/v10", Some("short")),
        ("/api/v1/users", Some("exact")),
        ("/api/v1/users/", Some("long")),
        ("/api/v1/items", Some("regex")),
        ("/api/v1/items/2", Some("long")),
        ("/abc", Some("regex")),
        ("/d", Some("regex")),
        ("/abc/d", None),
        ("/", None),
        ("http://a/api", Some("short")),
    ] {
        assert_eq!(found(&routes, "GET", uri, &[]), expected, "{uri}");
    }
    let all = Routes::new(&[route("all", &[], vec![prefix("/")])]);
    assert_eq!(found(&all, "GET", "/x/y", &[]), Some("all"));
    assert_eq!(found(&all, "OPTIONS", "*", &[]), Some("all"));
    assert!(Routes::new(&[]).find(&request("GET", "/", &[])).is_none());
}

#[test]
fn hosts() {
    let routes = Routes::new(&[
        route("any", &[], vec![exact("/")]),
        route("below", &["*.example.org"], vec![]),
        route("deeper", &["*.a.example.org"], vec![]),
        route("one", &["b.example.org", "other"], vec![prefix("/x")]),
    ]);
    for (host, uri, expected) in [
        ("example.org", "/", Some("any")),
        ("example.org", "/x", None),
        ("c.example.org", "/", Some("below")),
        ("c.d.example.org:8080", "/", Some("below")),
        ("C.A.Example.ORG", "/", Some("deeper")),
        ("b.example.org", "/", Some("below")),
        ("b.example.org.:80", "/x", Some("one")),
        ("other", "/x/y", Some("one")),
        ("xexample.org", "/x", None),
        (".example.org", "/x", None),
        ("[::1]:80", "/", Some("any")),
    ] {
        assert_eq!(found(&routes, "GET", uri, &[("host", host)]), expected, "{host}{uri}");
    }
    // The target counts before the Host field (RFC 9112 section 3.2.2).
    assert_eq!(found(&routes, "GET", "http://other/x", &[("host", "b")]), Some("one"));
    assert_eq!(found(&routes, "GET", "/x", &[]), None);
}

#[test]
fn methods_and_headers() {
    let get = RouteMatch { method: Some("GET".into()), ..RouteMatch::default() };
    let two = vec![header("x-a", "1"), header("x-b", "2")];
    let present = HeaderMatch { name: "x-c".into(), value: ValueMatch::Present };
    let like = HeaderMatch { name: "x-d".into(), value: ValueMatch::Regex("[0-9]+".into()) };
    let with = |headers| RouteMatch { headers, ..RouteMatch::default() };
    let routes = Routes::new(&[
        route("one", &[], vec![with(vec![header("x-a", "1")])]),
        route("two", &[], vec![with(two)]),
        route("get", &[], vec![get]),
        route("present", &[], vec![with(vec![present])]),
        route("like", &[], vec![with(vec![like])]),
    ]);
    for (method, fields, expected) in [
        ("GET", &[("x-a", "1"), ("x-b", "2")][..], Some("get")),
        ("PUT", &[("x-a", "1"), ("X-B", "2")], Some("two")),
        ("PUT", &[("x-a", "1")], Some("one")),
        ("PUT", &[("x-a", "0"), ("x-a", "1")], Some("one")),
        ("PUT", &[("x-a", "11")], None),
        ("PUT", &[("x-c", "")], Some("present")),
        ("PUT", &[("x-d", "42")], Some("like")),
        ("PUT", &[("x-d", "4x2")], None),
        ("get", &[], None),
    ] {
        assert_eq!(found(&routes, method, "/", fields), expected, "{method} {fields:?}");
    }
}

#[test]
fn backends_share_exactly() {
    let backend = |name: &str, weight| RouteBackend {
        service: Some(ServiceName::new(name)),
        port: None,
        subset: Arc::default(),
        weight,
        filters: Vec::new(),
        unresolved: false,
    };
    let mut canary = route("canary", &[], vec![]);
    canary.backends = vec![backend("a", 90), backend("none", 0), backend("b", 10)];
    let routes = Routes::new(&[canary]);
    let canary = &routes.all()[0];
    let name = |random| {
        let index = canary.backend(random).unwrap();
        canary.backends[index].to.service.as_ref().unwrap().as_str()
    };
    let of = |wanted: &str| (0..100).filter(|&random| name(random) == wanted).count();
    assert_eq!((of("a"), of("none"), of("b")), (90, 0, 10));
    assert_eq!(name(u64::MAX), name(u64::MAX % 100));
    assert!(Routes::new(&[route("own", &[], vec![])]).all()[0].backend(7).is_none());
}

#[test]
fn backends_change_what_they_get_and_mirrors_take_their_share() {
    let set = |value: &str| {
        let set = vec![("x-a".to_owned(), value.to_owned())];
        model::Filter::RequestHeaders(HeaderChanges { set, ..HeaderChanges::default() })
    };
    let mirror = |numerator, denominator| {
        let share = model::Fraction { numerator, denominator };
        let to = model::Mirror { service: None, port: None, subset: Arc::default(), share };
        model::Filter::Mirror(to)
    };
    let mut both = route("both", &[], vec![prefix("/old")]);
    both.filters = vec![set("route"), mirror(1, 1), mirror(0, 100), mirror(3, 1000)];
    let to = model::Rewrite { host: None, path: Some(PathRewrite::Prefix("/new".into())) };
    both.backends = vec![RouteBackend {
        service: None,
        port: None,
        subset: Arc::default(),
        weight: 1,
        filters: vec![set("backend"), model::Filter::Rewrite(to)],
        unresolved: false,
    }];
    let routes = Routes::new(&[both]);
    let both = &routes.all()[0];
    let mut head = request("GET", "/old/a", &[("x-a", "client")]);
    both.actions.change_request(&mut head);
    assert_eq!((&head.headers["x-a"], head.uri.path()), (&"route".parse().unwrap(), "/old/a"));
    both.backends[0].actions.change_request(&mut head);
    assert_eq!((&head.headers["x-a"], head.uri.path()), (&"backend".parse().unwrap(), "/new/a"));
    let taken = |mirror: &Mirror| (0..1000).filter(|&random| mirror.takes(random)).count();
    assert_eq!(both.actions.mirrors.iter().map(taken).collect::<Vec<_>>(), [1000, 0, 3]);
    assert!(both.backends[0].actions.mirrors.is_empty());
    assert!(!routes.need_no_instance(), "the service's own instances get all of it");
}

#[test]
fn redirects() {
    let to = model::Redirect { scheme: None, host: None, port: None, path: None, status: 302 };
    let at = |to: &model::Redirect, uri: &str, host: Option<&str>| {
        let fields: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
        Redirect::new(to, &[]).location(&request("GET", uri, &fields))
    };
    let https = model::Redirect { scheme: Some("https".into()), ..to.clone() };
    assert_eq!(at(&https, "/a?b=c", Some("x:8080")).unwrap(), "https://x/a?b=c");
    let host = model::Redirect { host: Some("y".into()), ..to.clone() };
    assert_eq!(at(&host, "/a", Some("x:8080")).unwrap(), "http://y:8080/a");
    assert_eq!(at(&host, "/a", Some("x:80")).unwrap(), "http://y/a");
    assert_eq!(at(&host, "http://x:81", None).unwrap(), "http://y:81/");
    assert_eq!(at(&host, "/a", None).unwrap(), "http://y/a");
    let path = model::Redirect {
        path: Some(PathRewrite::Full("/new".into())),
        port: Some(90),
        ..to.clone()
    };
    assert_eq!(at(&path, "/a?q", Some("[fd00::1]:80")).unwrap(), "http://[fd00::1]:90/new?q");
    assert_eq!(at(&path, "/a", None), None);
    let port = model::Redirect { scheme: Some("https".into()), port: Some(443), ..to };
    assert_eq!(at(&port, "/", Some("x")).unwrap(), "https://x/");
    assert_eq!(Redirect::new(&port, &[]).status, 302);
}

#[test]
fn header_changes() {
    let changes = Changes::new(&HeaderChanges {
        set: vec![("x-a".into(), "new".into()), ("host".into(), "b".into())],
        add: vec![("x-b".into(), "2".into())],
        remove: vec!["x-c".into()],
    });
    let fields = [("x-a", "1"), ("x-a", "2"), ("x-b", "1"), ("x-c", "1"), ("host", "a")];
    let mut head = request("GET", "http://a:1/p?q", &fields);
    changes.apply_to_request(&mut head);
    let all = |name: &str| head.headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(all("x-a"), ["new"]);
    assert_eq!(all("x-b"), ["1", "2"]);
    assert!(all("x-c").is_empty());
    assert_eq!(all("host"), ["b"]);
    assert_eq!(head.uri, "http://b/p?q");
}

/// What decides between two matches: the greater one wins.
type Rank = (bool, usize, u8, usize, bool, usize);

/// Every match of every route, in words of its own: a higher one wins, the
/// first written of equals.
fn reference(routes: &[model::Route], head: &request::Parts) -> Option<String> {
    let asked = head.headers.get("host").map(|host| host.to_str().unwrap().to_lowercase());
    let mut best: Option<(Rank, String)> = None;
    for route in routes {
        let hosts: Vec<Option<&String>> = match route.hosts.len() {
            0 => vec![None],
            _ => route.hosts.iter().map(Some).collect(),
        };
        for host in hosts {
            let (exact, length) = match (host, &asked) {
                (None, _) => (false, 0),
                (Some(host), Some(asked)) if host == asked => (true, host.len()),
                (Some(host), Some(asked))
                    if host.starts_with("*.")
                        && asked.ends_with(&host[1..])
                        && asked.len() > host.len() - 1 =>
                {
                    (false, host.len() - 1)
                }
                _ => continue,
            };
            let every = vec![RouteMatch::default()];
            for one in if route.matches.is_empty() { &every } else { &route.matches } {
                let segments = |path: &str| -> Vec<String> {
                    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
                };
                let asked = head.uri.path();
                let (kind, size) = match &one.path {
                    None => (1, 0),
                    Some(PathMatch::Exact(path)) if path == asked => (3, path.len()),
                    Some(PathMatch::Prefix(path))
                        if segments(asked).starts_with(&segments(path)) =>
                    {
                        (1, path.trim_end_matches('/').len())
                    }
                    Some(PathMatch::Regex(path)) if model::whole(path).unwrap().is_match(asked) => {
                        (2, 0)
                    }
                    _ => continue,
                };
                if one.method.as_deref().is_some_and(|method| method != head.method.as_str()) {
                    continue;
                }
                let has = |wanted: &HeaderMatch| {
                    head.headers.iter().any(|(name, value)| {
                        name.as_str() == wanted.name
                            && match &wanted.value {
                                ValueMatch::Exact(exact) => value == exact.as_str(),
                                _ => true,
                            }
                    })
                };
                if !one.headers.iter().all(has) {
                    continue;
                }
                let rank = (exact, length, kind, size, one.method.is_some(), one.headers.len());
                if best.as_ref().is_none_or(|(before, _)| rank > *before) {
                    best = Some((rank, route.name.clone()));
                }
            }
        }
    }
    best.map(|(_, name)| name)
}

fn paths_of(parts: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 0..parts)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        Just(None),
        paths_of(3).prop_map(|path| Some(PathMatch::Exact(path))),
        paths_of(3).prop_map(|path| Some(PathMatch::Prefix(path))),
        prop::sample::select(vec!["/a.*", "/(a|b)", ".*b"])
            .prop_map(|path| Some(PathMatch::Regex(path.to_owned()))),
    ];
    let method = prop::option::of(prop::sample::select(vec!["GET", "PUT"]).prop_map(str::to_owned));
    let headers = prop::sample::subsequence(
        vec![
            header("x-a", "1"),
            header("x-b", "2"),
            HeaderMatch { name: "x-c".into(), value: ValueMatch::Present },
        ],
        0..=3,
    );
    (path, method, headers).prop_map(|(path, method, headers)| RouteMatch {
        path,
        method,
        headers,
        query: Vec::new(),
    })
}

proptest! {
    #[test]
    fn the_same_as_the_reference(
        specs in prop::collection::vec(
            (
                prop::sample::subsequence(vec!["a.b", "*.b", "*.a.b", "c"], 0..=2),
                prop::collection::vec(any_match(), 0..4),
            ),
            0..6,
        ),
        requests in prop::collection::vec(
            (
                prop::option::of(prop::sample::select(vec!["a.b", "x.b", "x.a.b", "c", "d", "A.B"])),
                prop::sample::select(vec!["GET", "PUT"]),
                paths_of(4),
                prop::sample::subsequence(vec![("x-a", "1"), ("x-b", "2"), ("x-c", "3")], 0..=3),
            ),
            8,
        ),
    ) {
        let routes: Vec<model::Route> = (specs.into_iter().enumerate())
            .map(|(index, (hosts, matches))| route(&index.to_string(), &hosts, matches))
            .collect();
        let compiled = Routes::new(&routes);
        for (host, method, uri, mut fields) in requests {
            fields.extend(host.map(|host| ("host", host)));
            let head = self::request(method, &uri, &fields);
            let found = compiled.find(&head).map(|route| route.name.clone());
            prop_assert_eq!(found, reference(&routes, &head), "{:?}", head);
        }
    }

    /// Hostile targets and fields are only ever unmatched.
    #[test]
    fn nothing_panics(host in "[ -~]{0,12}", uri in "/[!-~]{0,12}", value in any::<Vec<u8>>()) {
        let mut one = prefix("/a");
        one.headers.push(header("x-a", "1"));
        let to = model::Redirect {
            scheme: None, host: None, port: None, path: None, status: 301,
        };
        let routes = Routes::new(&[route("r", &["*.b"], vec![one])]);
        let Ok(mut request) = Request::builder().uri(uri).body(()) else { return Ok(()) };
        for (name, value) in [("host", host.as_bytes()), ("x-a", &value)] {
            if let Ok(value) = http::HeaderValue::from_bytes(value) {
                request.headers_mut().insert(name, value);
            }
        }
        let head = request.into_parts().0;
        let _ = routes.find(&head);
        let _ = Redirect::new(&to, &[]).location(&head);
    }
}
