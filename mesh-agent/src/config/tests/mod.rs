//! The promises of this module, by text in and problems out.

mod bounds;
mod policy;
mod route;
mod source;

use super::*;
use crate::model::{Algorithm, Protocol};

/// `line:column: path: ` and the start or a part of each message.
fn check(text: &str, expected: &[(&str, &str)]) {
    let problems = match parse(text) {
        Ok(_) if expected.is_empty() => return,
        Ok(_) => panic!("nothing was found wrong in:\n{text}"),
        Err(problems) => problems,
    };
    let lines: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), expected.len(), "in:\n{text}\nfound:\n{}", lines.join("\n"));
    for (line, (place, message)) in lines.iter().zip(expected) {
        let fits = line.strip_prefix(place).is_some_and(|rest| rest.contains(message));
        assert!(fits, "in:\n{text}\nfound:\n{line}\nexpected:\n{place} … {message}");
    }
}

/// A service that is right, at line 2 of a file, and lines to add to it.
fn service(more: &str) -> String {
    let start = "services:\n  - name: a\n    address: 10.96.0.1\n    ports: [{port: 80}]\n";
    format!("{start}{more}")
}

#[test]
fn five_different_mistakes_at_once() {
    let text = "\
admin:
  http: 15020
services:
  - name: a
    adress: 10.96.0.1
    address: 10.96.0.300
    ports: [{port: 80, protocol: htpp}]
  - name: a
    address: 10.96.0.2
    ports: [{port: 0}]
    endpoints: {static: [{address: 10.1.0.5, weight: 70000}]}
";
    check(
        text,
        &[
            ("2:9: admin.http: ", "must be an address and port such as `127.0.0.1:15020`"),
            ("5:5: services[0].adress: ", "did you mean `address`?"),
            ("6:14: services[0].address: ", "`10.96.0.300` must be an IPv4 or IPv6 address"),
            ("7:34: services[0].ports[0].protocol: ", "did you mean `http`? valid: http, http2,"),
            ("8:11: services[1].name: ", "`a` is the name of the service in line 4 too"),
            (
                "10:20: services[1].ports[0].port: ",
                "`0` is out of range: must be a whole number from 1 to 65535",
            ),
            ("11:54: services[1].endpoints.static[0].weight: ", "`70000` is out of range"),
        ],
    );
}

#[test]
fn shape() {
    check("capture: {cgroup: [/a]}", &[("1:11: capture.cgroup: ", "did you mean `cgroups`?")]);
    check("capture: {cgroups: /a}", &[("1:20: capture.cgroups: ", "must be a list")]);
    check("capture: {cgroups: [a]}", &[("1:21: capture.cgroups[0]: ", "starts with `/`")]);
    check("capture:\n  proxyPort: 70000", &[("2:14: capture.proxyPort: ", "out of range")]);
    check("capture:\n  mark: 0", &[("2:9: capture.mark: ", "from 1 to 4294967295")]);
    check("dns:\n", &[("1:1: dns: ", "has no value")]);
    check("dns: {enabled: yes}", &[("1:16: dns.enabled: ", "true or false; found the text `yes`")]);
    check("limits: {drain: 5}", &[("1:17: limits.drain: ", "must be a duration")]);
    check("limits: {drain: 5 s}", &[("1:17: limits.drain: ", "such as `250ms`")]);
    check("limits: {drain: 99999h}", &[("1:17: limits.drain: ", "too long")]);
    check("limits: {headerSize: 64KB}", &[("1:22: limits.headerSize: ", "KiB")]);
    check("limits: {headerSize: 4KiB}", &[("1:22: limits.headerSize: ", "from `8KiB`")]);
    check("locality: {zone: 1}", &[("1:18: locality.zone: ", "put it in quotes")]);
    check("onAgentFailure: shut", &[("1:17: onAgentFailure: ", "valid: open, closed")]);
    check(
        "services: [{}]",
        &[
            ("1:12: services[0]: ", "`name` is missing"),
            ("1:12: services[0]: ", "`address` is missing"),
            ("1:12: services[0]: ", "`ports` is missing"),
        ],
    );
    check(&service("    rateLimit: {}"), &[("5:5: services[0].rateLimit: ", "unknown key")]);
    check(&service("    timeout: {}"), &[("5:5: services[0].timeout: ", "belongs under `policy`")]);
    check(
        &service("    policy: {loadBalancer: round_robin}"),
        &[("5:28: services[0].policy.loadBalancer: ", "did you mean `roundRobin`?")],
    );
    check(
        &service("    policy: {loadBalancer: {algorithm: maglev}}"),
        &[("5:40: services[0].policy.loadBalancer.algorithm: ", "valid: roundRobin, random")],
    );
    check(
        &service("    policy: {loadBalancer: 3}"),
        &[("5:28: services[0].policy.loadBalancer: ", "or a mapping")],
    );
    check(
        &service("    endpoints: {consul: {}}"),
        &[("5:17: services[0].endpoints.consul: ", "valid keys: static, dns, http")],
    );
    check("- a\n- b", &[("1:1: (file): ", "must be a mapping")]);
}

#[test]
fn meaning() {
    check(
        "capture: {cgroups: [/a, /a/b, /a]}",
        &[
            ("1:25: capture.cgroups[1]: ", "captured already"),
            ("1:31: capture.cgroups[2]: ", "twice"),
        ],
    );
    check(
        "capture: {cgroups: [/a], exclude: [/b]}",
        &[("1:36: capture.exclude[0]: ", "not below")],
    );
    check("capture: {staleAfter: 1ms}", &[("1:23: capture.staleAfter: ", "200ms")]);
    check("dns: {port: 15001}", &[("1:13: dns.port: ", "`capture.proxyPort` too")]);
    check("dns: {ttl: 250ms}", &[("1:12: dns.ttl: ", "whole seconds")]);
    check("admin: {http: '0.0.0.0:15053'}", &[("1:15: admin.http: ", "`dns.port` too")]);
    check(
        "defaults: {policy: {timeout: {connect: 0s}}}",
        &[("1:40: defaults.policy.timeout.connect: ", "longer than 0")],
    );
    check(
        &service("    policy: {timeout: {idle: 0ms}}"),
        &[("5:30: services[0].policy.timeout.idle: ", "longer than 0")],
    );
    check(
        &service("    path: proxy\n").replace("port: 80", "port: 53, protocol: udp"),
        &[("5:11: services[0].path: ", "port 53: udp takes the kernel path only")],
    );
    check(
        &service("").replace("10.96.0.1", "[10.96.0.1, 224.0.0.1, 10.96.0.1, '::']"),
        &[
            ("3:26: services[0].address[1]: ", "multicast"),
            ("3:37: services[0].address[2]: ", "twice"),
            ("3:48: services[0].address[3]: ", "means every address"),
        ],
    );
    check(
        &service("").replace("{port: 80}", "{port: 80}, {port: 80, protocol: http}"),
        &[("4:25: services[0].ports[1]: ", "port 80/tcp stands in ports[0] too")],
    );
    check(
        &service("    endpoints: {static: [{address: 10.96.0.1}]}"),
        &[("5:36: services[0].endpoints.static[0].address: ", "would connect to itself")],
    );
    check(
        &service(
            "    endpoints: {static: [{address: 10.1.0.1}, {address: x}, {address: 10.1.0.1}]}",
        ),
        &[
            ("5:57: services[0].endpoints.static[1].address: ", "names are not looked up"),
            ("5:71: services[0].endpoints.static[2].address: ", "stands in static[0] too"),
        ],
    );
    check(
        &service("    hostnames: [A.b., '*.c', 10.0.0.1, a..b, -x, 'é']"),
        &[
            ("5:23: services[0].hostnames[1]: ", "wildcards"),
            ("5:30: services[0].hostnames[2]: ", "under `address`"),
            ("5:40: services[0].hostnames[3]: ", "single dots"),
            ("5:46: services[0].hostnames[4]: ", "starts or ends with `-`"),
            ("5:50: services[0].hostnames[5]: ", "letters"),
        ],
    );
    let other = "    hostnames: [x]\n  - {name: b, address: 10.96.0.1, ports: [{port: 80, protocol: tcp}], hostnames: [X.]}";
    check(
        &service(other),
        &[
            ("6:43: services[1].ports[0]: ", "belongs to service `a` in line 2 already"),
            ("6:83: services[1].hostnames[0]: ", "in line 5 too"),
        ],
    );
    check(
        &service("").replace("10.96.0.1", "127.0.0.1").replace("80", "15001"),
        &[("4:13: services[0].ports[0]: ", "agent itself listens")],
    );
}

#[test]
fn the_example_is_read() {
    let settings = parse(EXAMPLE).map_err(|problems| problems.to_string()).unwrap();
    let reviews = &settings.services[0];
    assert_eq!(reviews.addresses.len(), 2);
    assert_eq!(reviews.ports[0].protocol, Protocol::Http);
    assert_eq!(reviews.static_instances[0].weight.0, 3);
    assert_eq!(reviews.static_instances[0].locality.to_string(), "aws/eu-west-1/a");
    assert_eq!(reviews.policy.timeouts.request, Some(std::time::Duration::from_secs(15)));
    assert_eq!(settings.services[1].on_agent_failure, crate::model::OnAgentFailure::Closed);
}

/// What the design has and no code serves yet must not pass for working.
#[test]
fn what_is_not_implemented_is_refused() {
    check(
        &service("    endpoints: {consul: {service: web}}\n"),
        &[("5:17: services[0].endpoints.consul: ", "unknown key")],
    );
}

#[test]
fn problems_as_json() {
    let problems = parse("dns: {port: 0}").unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json["problems"][0]["path"], "dns.port");
    assert_eq!(json["problems"][0]["line"], 1);
    assert_eq!(json["problems"][0]["column"], 13);
}

#[test]
fn policy_is_merged_key_by_key() {
    let text = service("    policy: {timeout: {request: 0s}}\n")
        + "defaults: {policy: {loadBalancer: {algorithm: random}, timeout: {connect: 2s, request: 9s}}}";
    let policy = parse(&text).unwrap().services[0].policy.as_ref().clone();
    assert_eq!(policy.algorithm, Algorithm::Random);
    assert_eq!(policy.timeouts.connect, Some(std::time::Duration::from_secs(2)));
    assert_eq!(policy.timeouts.request, None);
    assert_eq!(policy.timeouts.idle, crate::model::Timeouts::default().idle);
}

#[test]
fn defaults_are_the_models() {
    use crate::model;
    let settings = parse("{}").unwrap();
    assert_eq!(settings.capture, model::Capture::default());
    assert_eq!(settings.admin, model::Admin::default());
    assert_eq!(settings.dns, model::Dns::default());
    assert_eq!(settings.limits, model::Limits::default());
    let service = parse(&service("")).unwrap().services.remove(0);
    assert_eq!(*service.policy, model::Policy::default());
    assert_eq!(service.ports[0].protocol, Protocol::default());
    assert_eq!(service.path, model::PathChoice::default());

    // What the schema shows, written into a file, changes nothing.
    let schema = schema();
    let mut file = serde_json::Map::new();
    for (key, property) in schema["properties"].as_object().unwrap() {
        file.insert(key.clone(), property["default"].clone());
    }
    assert_eq!(parse(&serde_json::Value::Object(file).to_string()).unwrap(), settings);
    let definitions = &schema["$defs"];
    for (key, shown) in [("request", "0s"), ("idle", "1h")] {
        assert_eq!(definitions["Timeout"]["properties"][key]["default"], shown);
    }
    assert_eq!(definitions["Endpoint"]["properties"]["weight"]["default"], 1);
    assert_eq!(definitions["Policy"]["properties"]["loadBalancer"]["default"], "roundRobin");
}

/// Policies and parts of services for the test below, right and wrong ones.
const POLICIES: [&str; 26] = [
    "failover: {maxEjected: 50%}",
    "failover: {maxEjected: 101%}",
    "failover: {maxEjected: 50}",
    "failover: {consecutiveFailures: 3}",
    "failover: {consecutiveFailures: {connect: 3}}",
    "onRemoval: 'drain: 30s'",
    "onRemoval: {drain: 30s}",
    "onRemoval: drain",
    "slowStart: off",
    "slowStart: {}",
    "slowStart: on",
    "slowStart: {aggression: 1}",
    "slowStart: {aggression: 0}",
    "rateLimit: {requests: 1, by: 'header:x'}",
    "rateLimit: [{requests: 0}]",
    "rateLimit: {}",
    "rateLimit: []",
    "retry: {on: [503, reset, 'grpc:internal']}",
    "retry: {on: [600]}",
    "retry: {on: [x]}",
    "healthCheck: {http: {headers: {x-a: b}, status: 200-399}}",
    "healthCheck: {http: {headers: {'a b': c}}}",
    "healthCheck: {http: {headers: {a: 1}}}",
    "healthCheck: {http: {path: a}}",
    "healthCheck: {tcp: {}}",
    "bandwidth: {upload: 10MiB}",
];
const SERVICES: [&str; 14] = [
    "endpoints: {dns: {name: a.b}}",
    "endpoints: {dns: [{name: a.b, type: X}]}",
    "endpoints: {dns: {}}",
    "endpoints: {http: {url: 'http://a/'}}",
    "endpoints: {http: {url: 'https://a/'}}",
    "endpoints: {static: [{address: 10.0.0.1, labels: {version: v1}}]}",
    "endpoints: {static: [{address: 10.0.0.1, labels: {version: 1}}]}",
    "routes: [{matches: [{path: {prefix: /a}, method: GET}]}]",
    "routes: [{matches: [{path: {prefix: a}}]}]",
    "routes: [{matches: [{method: get}]}]",
    "routes: [{hosts: ['*.a.b'], backends: [{weight: 10}]}]",
    "routes: [{hosts: ['*']}]",
    "routes: [{filters: {redirect: {status: 302}}}]",
    "routes: [{filters: {redirect: {status: 200}}}]",
];

/// Where ours and a JSON Schema validator's verdicts differ, editors would
/// mislead.
#[test]
fn the_schema_means_the_same_to_a_validator() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let cases = [
        "{}",
        "dns: {enabled: 1}",
        "dns: {port: 0}",
        "dns: {ttl: 5s}",
        "dns: {ttl: 5}",
        "dns: {ttl: 5x}",
        "dns: ~",
        "nope: 1",
        "services: {}",
        "services: [{name: a}]",
        "admin: {http: off}",
        "admin: {http: '[::1]:80'}",
        "admin: {http: localhost}",
        "capture: {cgroups: [/a]}",
        "capture: {cgroups: [a]}",
        "capture: {mark: 0x6d657368}",
        "capture: {mark: 4294967296}",
        "limits: {headerSize: 10MiB}",
        "limits: {headerSize: 10MB}",
        "services: [{name: a, address: 1.2.3.4, ports: []}]",
        "services: [{name: a, address: 1.2.3.4, ports: [{port: 1}]}]",
        "services: [{name: a, address: ['fd00::1'], ports: [{port: 1, protocol: udp}]}]",
        "services: [{name: a, address: [], ports: [{port: 1}]}]",
        "services: [{name: a, address: {}, ports: [{port: 1}]}]",
        "services: [{name: -a, address: 1.2.3.4, ports: [{port: 1}]}]",
        "services: [{name: a, address: 1.2.3.4, ports: [{port: 1}], path: fast}]",
        "defaults: {policy: {loadBalancer: random}}",
        "defaults: {policy: {loadBalancer: rondom}}",
        "defaults: {policy: {loadBalancer: {algorithm: random}}}",
        "defaults: {policy: {loadBalancer: {}}}",
        "defaults: {policy: {loadBalancer: {algorithm: random, more: 1}}}",
        EXAMPLE,
    ];
    let cases = cases.into_iter().map(str::to_owned);
    let policies = POLICIES.map(|policy| format!("defaults: {{policy: {{{policy}}}}}"));
    let services = SERVICES.map(|more| {
        format!("services: [{{name: a, address: 1.2.3.4, ports: [{{port: 1}}], {more}}}]")
    });
    for text in cases.chain(policies).chain(services) {
        let text = text.as_str();
        let mut problems = Problems::default();
        let tree = yaml::read(text, &mut problems).unwrap();
        shape::check(tree.clone(), &mut problems);
        assert_eq!(problems.is_empty(), validator.is_valid(&tree.to_json()), "{text}: {problems}");
    }
}

#[test]
fn every_example_of_the_schema_is_read() {
    fn walk(schema: &serde_json::Value, seen: &mut usize) {
        for example in schema["examples"].as_array().into_iter().flatten() {
            let format = schema["format"].as_str().unwrap();
            assert_eq!(text::problem(format, example.as_str().unwrap()), None);
            *seen += 1;
        }
        match schema {
            serde_json::Value::Object(all) => all.values().for_each(|inner| walk(inner, seen)),
            serde_json::Value::Array(all) => all.iter().for_each(|inner| walk(inner, seen)),
            _ => {}
        }
    }
    let mut seen = 0;
    walk(&schema(), &mut seen);
    assert!(seen > 20, "only {seen} examples");
}

#[test]
fn the_reference_names_every_key() {
    let page = reference();
    assert!(page.contains(EXAMPLE));
    for row in [
        "| proxyPort | a whole number from 1 to 65535 | `15001` |",
        "| **address** |",
        "## `services[].endpoints.static[]`",
        "## `defaults.policy.timeout`",
        "## `services[].policy`\n\nAs `defaults.policy`.",
        "## `services[].endpoints.dns[].ttl`",
        "## `services[].routes[].matches[].path`",
        "| a number from 0.1 to 10.0 | `1.0` |",
        "<br>`roundRobin`: In turn",
        "| http | an address and port",
    ] {
        assert!(page.contains(row), "{row} is not in:\n{page}");
    }
}
