//! `routes`: every key, right and wrong.

use std::time::Duration;

use super::{check, parse, service};
use crate::model::{
    Filter, HeaderMatch, PathMatch, PathRewrite, Redirect, RetryOn, Route, RouteMatch, ValueMatch,
};

const OTHER: &str =
    "  - {name: b, address: 10.96.0.2, ports: [{port: 80}, {port: 81, protocol: tcp}]}
  - {name: c, address: 10.96.0.3, ports: [{port: 8080, protocol: grpc}]}
";

fn read(route: &str) -> Route {
    let text = service(&format!("    routes: [{{{route}}}]\n{OTHER}"));
    let settings = parse(&text).map_err(|problems| problems.to_string());
    settings.unwrap_or_else(|problems| panic!("{text}\n{problems}")).services[0].routes[0].clone()
}

fn wrong(route: &str, place: &str, message: &str) {
    let text = service(&format!("    routes: [{{{route}}}]\n{OTHER}"));
    let problems = parse(&text).expect_err(route).problems;
    let [problem] = problems.as_slice() else { panic!("{route}: {problems:?}") };
    let place = if place.is_empty() { String::new() } else { format!(".{place}") };
    assert_eq!(problem.path, format!("services[0].routes[0]{place}"), "{problem:?}");
    assert!(problem.message.contains(message), "{route}: {problem:?}");
}

#[test]
fn matches() {
    let route = read(
        "name: r, hosts: [A.example, '*.Example.org'], matches: [{path: {exact: /a}, \
         method: GET, headers: [{name: X-A, exact: b}, {name: x-c, regex: 'd+'}, \
         {name: x-e, present: true}]}, {path: {prefix: /f/}}, {path: {regex: '/g/[0-9]+'}}]",
    );
    assert_eq!(
        (route.name.as_str(), route.hosts),
        ("r", vec!["a.example".into(), "*.example.org".into()])
    );
    let header = |name: &str, value| HeaderMatch { name: name.into(), value };
    assert_eq!(
        route.matches,
        [
            RouteMatch {
                path: Some(PathMatch::Exact("/a".into())),
                method: Some("GET".into()),
                headers: vec![
                    header("x-a", ValueMatch::Exact("b".into())),
                    header("x-c", ValueMatch::Regex("d+".into())),
                    header("x-e", ValueMatch::Present),
                ],
                ..Default::default()
            },
            RouteMatch { path: Some(PathMatch::Prefix("/f/".into())), ..Default::default() },
            RouteMatch { path: Some(PathMatch::Regex("/g/[0-9]+".into())), ..Default::default() },
        ]
    );
    assert_eq!(read("").name, "route-0");
    wrong("hosts: ['a.example:80']", "hosts[0]", "without a port");
    wrong("hosts: ['*']", "hosts[0]", "must be a hostname");
    wrong("matches: [{path: {}}]", "matches[0].path", "one of `exact`");
    wrong("matches: [{path: {exact: /a, prefix: /b}}]", "matches[0].path", "one of `exact`");
    wrong("matches: [{path: {exact: a}}]", "matches[0].path.exact", "starts with `/`");
    wrong("matches: [{path: {exact: '/a?b'}}]", "matches[0].path.exact", "without query");
    wrong("matches: [{path: {regex: '(a'}}]", "matches[0].path.regex", "unclosed group");
    wrong("matches: [{path: {regex: 'a)|(b'}}]", "matches[0].path.regex", "not a regular");
    wrong("matches: [{path: {regex: 'a{1000}{1000}'}}]", "matches[0].path.regex", "size limit");
    wrong("matches: [{method: get}]", "matches[0].method", "upper case");
    wrong("matches: [{headers: [{exact: b}]}]", "matches[0].headers[0]", "`name` is missing");
    wrong("matches: [{headers: [{name: a}]}]", "matches[0].headers[0]", "one of `exact`");
    wrong(
        "matches: [{headers: [{name: a, present: false}]}]",
        "matches[0].headers[0].present",
        "only be `true`",
    );
    wrong(
        "matches: [{headers: [{name: a, exact: b}, {name: A, exact: c}]}]",
        "matches[0].headers[1].name",
        "asked for twice",
    );
}

#[test]
fn filters() {
    let route = read(
        "filters: {requestHeaders: {set: {X-A: b}, add: {X-C: d}, remove: [X-E]}, \
         responseHeaders: {remove: [server]}, \
         redirect: {scheme: https, host: a.example, port: 8443, path: /new, status: 301}}",
    );
    let [Filter::RequestHeaders(request), Filter::ResponseHeaders(response), Filter::Redirect(to)] =
        &route.filters[..]
    else {
        panic!("{:?}", route.filters)
    };
    assert_eq!(request.set, [("x-a".to_owned(), "b".to_owned())]);
    assert_eq!(request.add, [("x-c".to_owned(), "d".to_owned())]);
    assert_eq!(
        (&request.remove[..], &response.remove[..]),
        (&["x-e".into()][..], &["server".into()][..])
    );
    let expected = Redirect {
        scheme: Some("https".into()),
        host: Some("a.example".into()),
        port: Some(8443),
        path: Some(PathRewrite::Full("/new".into())),
        status: 301,
    };
    assert_eq!(*to, expected);
    let set = |name: &str| format!("filters: {{requestHeaders: {{set: {{{name}: a}}}}}}");
    wrong(&set("Content-Length"), "filters.requestHeaders.set", "can't be changed");
    wrong(&set("'a b'"), "filters.requestHeaders.set.a b", "header's name");
    wrong(
        "filters: {requestHeaders: {set: {a: b}, remove: [A]}}",
        "filters.requestHeaders.remove",
        "changed twice",
    );
    wrong("filters: {requestHeaders: {add: {host: a}}}", "filters.requestHeaders.add", "set only");
    wrong("filters: {requestHeaders: {}}", "filters.requestHeaders", "changes nothing");
    wrong(
        "filters: {requestHeaders: {set: {a: \"b\\nc\"}}}",
        "filters.requestHeaders.set.a",
        "one line",
    );
    wrong("filters: {redirect: {}}", "filters.redirect", "leads back");
    wrong("filters: {redirect: {port: 1, status: 305}}", "filters.redirect.status", "303, 307");
    wrong("filters: {redirect: {host: '*.a'}}", "filters.redirect.host", "one host");
    wrong("filters: {redirect: {scheme: ftp}}", "filters.redirect.scheme", "valid: http, https");
}

#[test]
fn backends_timeout_and_retry() {
    let route = read(
        "backends: [{weight: 90}, {subset: {version: v2}, weight: 10}, {service: b}, \
         {service: c, port: 8080}], timeout: 2s, retry: {on: [503]}",
    );
    assert_eq!(route.backends.iter().map(|b| b.weight).collect::<Vec<_>>(), [90, 10, 1, 1]);
    assert_eq!(route.backends[0].service, None);
    assert_eq!(route.backends[1].subset["version"], "v2");
    assert_eq!(route.backends[2].service.as_ref().unwrap().as_str(), "b");
    assert_eq!(route.backends[3].port.map(u16::from), Some(8080));
    assert_eq!(route.timeout, Some(Duration::from_secs(2)));
    assert_eq!(*route.retry.unwrap().on, [RetryOn::Status(503)]);
    assert_eq!(read("timeout: 0s").timeout, Some(Duration::ZERO));

    wrong("backends: [{service: bb}]", "backends[0].service", "did you mean `b`?");
    wrong("backends: [{service: c}]", "backends[0]", "no port 80 that speaks HTTP: add `port`");
    wrong("backends: [{service: b, port: 81}]", "backends[0].port", "no port 81 that speaks HTTP");
    wrong("backends: [{port: 9}]", "backends[0].port", "no port 9");
    wrong("backends: [{weight: 0}]", "backends", "all have weight 0");
    wrong("backends: [{weight: -1}]", "backends[0].weight", "from 0 to");
    wrong("backends: [{}], filters: {redirect: {port: 1}}", "backends", "never get a request");
    wrong("retry: {perTryTimeout: 3s}, timeout: 1s", "retry.perTryTimeout", "longer than");
    wrong("retry: {on: [reset, reset]}", "retry.on[1]", "twice");
}

#[test]
fn routes_are_for_requests() {
    let routes = "    routes: [{name: x}, {name: x}]\n";
    check(&service(routes), &[("5:32: services[0].routes[1].name: ", "another route")]);
    let routes = "    routes: [{}]\n";
    check(
        &(service(routes) + "    path: kernel\n"),
        &[("5:13: services[0].routes: ", "with `path: kernel` nobody reads requests")],
    );
    check(
        &service(routes).replace("{port: 80}", "{port: 80, protocol: tcp}"),
        &[("5:13: services[0].routes: ", "speaks HTTP")],
    );
}

/// Of the policy, the defaults' included.
#[test]
fn retry_is_merged_over_the_policys() {
    let text = service("    routes: [{retry: {attempts: 1}}]\n    policy: {retry: {on: [5xx]}}\n")
        + "defaults: {policy: {retry: {perTryTimeout: 1s}}}\n";
    let retry = parse(&text).unwrap().services[0].routes[0].retry.clone().unwrap();
    assert_eq!(*retry.on, [RetryOn::ServerError]);
    assert_eq!((retry.attempts, retry.per_try_timeout), (Some(1), Some(Duration::from_secs(1))));
}

#[test]
fn filters_of_backends_and_mirrors() {
    let route = read(
        "filters: {mirror: [{service: b, percent: 10}, {service: c, port: 8080, \
         fraction: {numerator: 1, denominator: 1000}}, {subset: {version: v2}}]}, \
         backends: [{service: b, filters: {requestHeaders: {set: {X-A: b}}, \
         rewrite: {path: /b}, mirror: [{service: b, fraction: {numerator: 7}}]}}]",
    );
    let share = |filter: &Filter| match filter {
        Filter::Mirror(to) => {
            let service = to.service.as_ref().map_or("", |service| service.as_str());
            let port = to.port.map_or(0, u16::from);
            (service.to_owned(), port, to.share.numerator, to.share.denominator)
        }
        other => panic!("{other:?}"),
    };
    let shares: Vec<_> = route.filters.iter().map(share).collect();
    let expected = [("b", 0, 10, 100), ("c", 8080, 1, 1000), ("", 0, 1, 1)]
        .map(|(a, b, c, d)| (a.into(), b, c, d));
    assert_eq!(shares, expected);
    let [Filter::RequestHeaders(changes), Filter::Rewrite(_), mirror] =
        &route.backends[0].filters[..]
    else {
        panic!("{route:?}")
    };
    assert_eq!(changes.set, [("x-a".to_owned(), "b".to_owned())]);
    assert_eq!(share(mirror), ("b".into(), 0, 7, 100));

    let mirror = |written: &str| format!("filters: {{mirror: [{{{written}}}]}}");
    wrong(&mirror("service: bb"), "filters.mirror[0].service", "did you mean `b`?");
    wrong(&mirror("service: c"), "filters.mirror[0]", "no port 80 that speaks HTTP: add `port`");
    wrong(&mirror("percent: 101"), "filters.mirror[0].percent", "100");
    wrong(
        &mirror("percent: 1, fraction: {numerator: 1}"),
        "filters.mirror[0].fraction",
        "remove one of the two",
    );
    wrong(&mirror("fraction: {}"), "filters.mirror[0].fraction", "`numerator` is missing");
    wrong(
        &mirror("fraction: {numerator: 2, denominator: 1}"),
        "filters.mirror[0].fraction.numerator",
        "at most the denominator",
    );
    wrong(
        &mirror("fraction: {numerator: 0, denominator: 0}"),
        "filters.mirror[0].fraction.denominator",
        "from 1 to",
    );
    wrong(
        "filters: {redirect: {path: /a}, mirror: [{service: b}]}",
        "filters.mirror[0]",
        "never gets a request",
    );
    let backend = |written: &str| format!("backends: [{{filters: {{{written}}}}}]");
    wrong(&backend("requestHeaders: {}"), "backends[0].filters.requestHeaders", "changes nothing");
    wrong(&backend("rewrite: {}"), "backends[0].filters.rewrite", "changes nothing");
    wrong(&backend("mirror: [{service: bb}]"), "backends[0].filters.mirror[0].service", "`b`?");
    wrong(
        &format!("filters: {{rewrite: {{path: /a}}}}, {}", backend("rewrite: {path: /b}")),
        "backends[0].filters.rewrite",
        "keep one of the two",
    );
    wrong(
        &format!("matches: [{{path: {{exact: /a}}}}], {}", backend("rewrite: {prefix: /b}")),
        "backends[0].filters.rewrite.prefix",
        "only match",
    );
}
