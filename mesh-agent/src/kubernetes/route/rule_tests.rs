use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::model::{Filter, PathMatch, PathRewrite, ValueMatch};

fn http(rule: Value) -> Result<Rule, String> {
    Rule::http(serde_json::from_value(rule).map_err(|error| error.to_string())?)
}

fn grpc(rule: Value) -> Result<Rule, String> {
    Rule::grpc(serde_json::from_value(rule).map_err(|error| error.to_string())?)
}

#[test]
fn everything_that_is_supported() {
    let rule = http(json!({
        "name": "all",
        "matches": [
            {
                "path": { "type": "Exact", "value": "/a" },
                "method": "GET",
                "headers": [
                    { "name": "X-A", "value": "1" },
                    { "name": "x-a", "value": "ignored" },
                    { "type": "RegularExpression", "name": "x-b", "value": "[0-9]+" },
                ],
                "queryParams": [{ "type": "Exact", "name": "V", "value": "2 3" }],
            },
            { "path": { "value": "/b" } },
        ],
        "filters": [
            { "type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{ "name": "x-s", "value": "1" }], "add": [{ "name": "x-t", "value": "2" }],
                "remove": ["x-u"],
            } },
            { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "remove": ["server"] } },
        ],
        "backendRefs": [{ "group": "", "kind": "Service", "name": "b", "port": 80, "weight": 3 }],
        "timeouts": { "request": "10s", "backendRequest": "2s" },
        "retry": { "codes": [500, 503], "attempts": 2, "backoff": "100ms" },
    }))
    .unwrap();
    let [first, second] = rule.route.matches.as_slice() else { panic!("{:?}", rule.route) };
    assert_eq!(first.path, Some(PathMatch::Exact("/a".into())));
    assert_eq!(first.method.as_deref(), Some("GET"));
    assert_eq!(first.headers.len(), 2);
    assert_eq!(first.headers[0].value, ValueMatch::Exact("1".into()));
    assert_eq!(first.query[0].name, "V");
    assert_eq!(first.query[0].value, ValueMatch::Exact("2 3".into()));
    assert_eq!(second.path, Some(PathMatch::Prefix("/b".into())));
    assert_eq!(rule.route.filters.len(), 2);
    assert_eq!(rule.route.timeout, Some(Duration::from_secs(10)));
    assert_eq!(rule.backends[0].weight, Some(3));
    let attempts = rule.attempts(&model::Retry::default()).unwrap();
    assert_eq!(attempts.per_try_timeout, Some(Duration::from_secs(2)));
    assert_eq!(attempts.attempts, Some(2));
    assert_eq!(attempts.backoff.base, Duration::from_millis(100));
    assert!(attempts.on.contains(&RetryOn::Status(503)));
}

#[test]
fn redirects() {
    let rule = http(json!({ "filters": [{ "type": "RequestRedirect", "requestRedirect": {
        "scheme": "https", "hostname": "example.org", "port": 8443, "statusCode": 301,
        "path": { "type": "ReplaceFullPath", "replaceFullPath": "/new" },
    } }] }))
    .unwrap();
    let [Filter::Redirect(to)] = rule.route.filters.as_slice() else { panic!("{:?}", rule.route) };
    assert_eq!((to.status, to.port), (301, Some(8443)));
    assert_eq!(to.path, Some(PathRewrite::Full("/new".into())));
}

#[test]
fn rewrites() {
    let rule = http(json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": "/old" } }],
        "filters": [{ "type": "URLRewrite", "urlRewrite": {
            "hostname": "example.org",
            "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "" },
        } }],
    }))
    .unwrap();
    let [Filter::Rewrite(to)] = rule.route.filters.as_slice() else { panic!("{:?}", rule.route) };
    assert_eq!(to.host.as_deref(), Some("example.org"));
    assert_eq!(to.path, Some(PathRewrite::Prefix("/".into())));
}

#[test]
fn grpc_methods_are_paths() {
    let path = |method: Value| {
        let rule = grpc(json!({ "matches": [{ "method": method }] })).unwrap();
        rule.route.matches[0].path.clone()
    };
    let exact = json!({ "service": "a.B", "method": "C" });
    assert_eq!(path(exact), Some(PathMatch::Exact("/a.B/C".into())));
    assert_eq!(path(json!({ "service": "a.B" })), Some(PathMatch::Prefix("/a.B".into())));
    assert_eq!(path(json!({ "method": "C" })), Some(PathMatch::Call("C".into())));
    let regex = json!({ "type": "RegularExpression", "service": "a|b", "method": "C.*" });
    assert_eq!(path(regex), Some(PathMatch::Regex("/(?:a|b)/(?:C.*)".into())));
    assert!(grpc(json!({})).unwrap().route.matches.is_empty());
}

#[test]
fn what_is_not_supported_is_said() {
    for (rule, part) in [
        (json!({ "filters": [{ "type": "URLRewrite", "urlRewrite": {} }] }), "changes nothing"),
        (json!({ "filters": [{ "type": "RequestMirror" }] }), "`requestMirror` is missing"),
        (
            json!({ "filters": [{ "type": "RequestMirror", "requestMirror": {
                "backendRef": { "name": "a", "port": 80 }, "percent": 101,
            } }] }),
            "100",
        ),
        (
            json!({ "filters": [{ "type": "RequestMirror", "requestMirror": {
                "backendRef": { "name": "a", "port": 80 },
                "percent": 1, "fraction": { "numerator": 1 },
            } }] }),
            "remove one of the two",
        ),
        (
            json!({ "filters": [{ "type": "RequestMirror", "requestMirror": {
                "backendRef": { "name": "a", "port": 80 },
                "fraction": { "numerator": 2, "denominator": 1 },
            } }] }),
            "at most the denominator",
        ),
        (json!({ "filters": [{ "type": "ExtensionRef" }] }), "`ExtensionRef`"),
        (json!({ "sessionPersistence": {} }), "sessionPersistence"),
        (json!({ "backendRefs": [{ "name": "a", "filters": [{}] }] }), "missing field `type`"),
        (
            json!({ "backendRefs": [{ "name": "a", "filters": [{ "type": "CORS" }] }] }),
            "backendRefs[0].filters[0]: `CORS`",
        ),
        (
            json!({ "backendRefs": [{ "name": "a" }, { "name": "b", "filters": [
                { "type": "URLRewrite", "urlRewrite": {} },
            ] }] }),
            "backends[1].filters.rewrite: changes nothing",
        ),
        (json!({ "timeouts": { "request": "soon" } }), "`soon`"),
        (json!({ "timeouts": { "total": "1s" } }), "total"),
        (json!({ "retry": { "attempts": 50 } }), "at most 19"),
        (json!({ "retry": { "codes": [200] } }), "`200`"),
        (json!({ "matches": [{ "path": { "type": "Glob", "value": "/*" } }] }), "`Glob`"),
        (
            json!({ "matches": [{ "path": { "type": "RegularExpression", "value": "/(" } }] }),
            "is not a regular expression",
        ),
        (
            json!({ "filters": [{ "type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{ "name": "transfer-encoding", "value": "chunked" }],
            } }] }),
            "can't be changed",
        ),
        (
            json!({
                "matches": [{ "path": { "type": "Exact", "value": "/a" } }],
                "filters": [{ "type": "RequestRedirect", "requestRedirect": {
                    "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" },
                } }],
            }),
            "only match",
        ),
        (json!({ "matches": "all" }), "invalid type"),
    ] {
        let wrong = http(rule.clone()).unwrap_err();
        assert!(wrong.contains(part), "{rule}: {wrong}");
    }
    let redirect = json!({ "filters": [{ "type": "RequestRedirect" }] });
    assert!(grpc(redirect.clone()).unwrap_err().contains("gRPC"));
    let mut of_backend = redirect;
    of_backend["name"] = "a".into();
    assert!(grpc(json!({ "backendRefs": [of_backend] })).unwrap_err().contains("gRPC"));
}
