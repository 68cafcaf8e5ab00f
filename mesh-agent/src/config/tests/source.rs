//! `endpoints`: where instances come from.

use std::time::Duration;

use super::{check, parse, service};
use crate::model::{DnsRecord, HttpFormat, Source};

fn read(endpoints: &str) -> Vec<Source> {
    let text = service(&format!("    endpoints: {{{endpoints}}}\n"));
    let settings = parse(&text).map_err(|problems| problems.to_string());
    settings.unwrap_or_else(|problems| panic!("{text}\n{problems}")).services[0].sources.clone()
}

fn wrong(endpoints: &str, place: &str, message: &str) {
    let text = service(&format!("    endpoints: {{{endpoints}}}\n"));
    let problems = parse(&text).expect_err(endpoints).problems;
    let [problem] = problems.as_slice() else { panic!("{endpoints}: {problems:?}") };
    assert_eq!(problem.path, format!("services[0].endpoints.{place}"), "{problem:?}");
    assert!(problem.message.contains(message), "{endpoints}: {problem:?}");
}

#[test]
fn dns() {
    let text = "dns: {name: _Web._tcp.Example.internal., type: SRV, server: '10.0.0.2:53', \
                ttl: {min: 2s, max: 1m}, emptyAfter: 5, timeout: 1s, locality: {cloud: aws}}";
    let [Source::Dns(dns)] = &read(text)[..] else { panic!() };
    assert_eq!(dns.name, "_web._tcp.example.internal");
    assert_eq!(dns.record, DnsRecord::Srv);
    assert_eq!(dns.server, Some("10.0.0.2:53".parse().unwrap()));
    assert_eq!((dns.ttl_min, dns.ttl_max), (Duration::from_secs(2), Duration::from_secs(60)));
    assert_eq!((dns.empty_after, dns.timeout), (5, Duration::from_secs(1)));
    assert_eq!(dns.locality.cloud, "aws");

    let text = "dns: [{name: a.b}, {name: a.b, type: AAAA, port: 8080, weight: 2}]";
    let [Source::Dns(first), Source::Dns(second)] = &read(text)[..] else { panic!() };
    let fallback = crate::model::DnsSource { name: "a.b".into(), ..Default::default() };
    assert_eq!(*first, fallback);
    assert_eq!(second.record, DnsRecord::Address);
    assert_eq!((second.port.map(u16::from), second.weight.0), (Some(8080), 2));

    wrong("dns: {}", "dns", "`name` is missing");
    wrong("dns: {name: 10.0.0.1}", "dns.name", "addresses go under `static`");
    wrong("dns: {name: a, type: CNAME}", "dns.type", "valid: A, AAAA, SRV");
    wrong("dns: {name: a, server: 10.0.0.2}", "dns.server", "add the port: `10.0.0.2:53`");
    wrong("dns: {name: a, server: 'ns:53'}", "dns.server", "an address and port");
    wrong("dns: {name: a, ttl: {min: 1h}}", "dns.ttl.min", "longer than `max`");
    wrong("dns: {name: a, ttl: {min: 0s}}", "dns.ttl.min", "at least `100ms`");
    wrong("dns: {name: a, emptyAfter: 0}", "dns.emptyAfter", "from 1 to");
    wrong("dns: {name: a, timeout: 0s}", "dns.timeout", "longer than 0");
    wrong("dns: {name: a, type: SRV, port: 1}", "dns.port", "bring their own port");
    wrong("dns: [{name: a}, {name: A.}]", "dns[1]", "twice");
}

#[test]
fn http() {
    let text = "http: {url: 'http://10.0.0.3:81/sd.json?a=b', format: consul, interval: 1s, \
                timeout: 3s, headers: {X-Consul-Token: abc}, maxSize: 1MiB, emptyAfter: 1}";
    let [Source::Http(http)] = &read(text)[..] else { panic!() };
    assert_eq!(http.url, "http://10.0.0.3:81/sd.json?a=b");
    assert_eq!((http.format, http.max_size), (HttpFormat::Consul, 1 << 20));
    assert_eq!(http.headers, [("x-consul-token".to_owned(), "abc".to_owned())]);
    assert_eq!((http.interval, http.timeout), (Duration::from_secs(1), Duration::from_secs(3)));
    assert_eq!(http.empty_after, 1);
    let both = read("dns: {name: a}, http: [{url: 'http://a/'}, {url: 'http://b'}]");
    assert_eq!(both.iter().map(Source::kind).collect::<Vec<_>>(), ["dns", "http", "http"]);

    wrong("http: {url: 'https://a/'}", "http.url", "TLS");
    wrong("http: {url: a.example/sd}", "http.url", "must be a URL");
    wrong("http: {url: 'http://user:secret@a/'}", "http.url", "under `headers`");
    wrong("http: {url: 'http://a:99999/'}", "http.url", "must be a URL");
    wrong("http: {format: consul}", "http", "`url` is missing");
    wrong("http: {url: 'http://a', format: json}", "http.format", "valid: prometheus, consul");
    wrong("http: {url: 'http://a', interval: 1ms}", "http.interval", "at least `100ms`");
    wrong("http: {url: 'http://a', maxSize: 1GiB}", "http.maxSize", "from `1KiB` to `64MiB`");
}

#[test]
fn labels_and_virtual_addresses() {
    let text = service("    endpoints: {static: [{address: 10.1.0.1, labels: {version: v1}}]}\n");
    let instance = parse(&text).unwrap().services[0].static_instances[0].clone();
    assert_eq!(instance.labels["version"], "v1");
    wrong("static: [{address: 10.1.0.1, labels: {-a: b}}]", "static[0].labels.-a", "label's name");
    wrong("static: [{address: 10.1.0.1, labels: {a: 1}}]", "static[0].labels.a", "in quotes");
    let other = "    endpoints: {static: [{address: 10.96.0.2}, {address: 10.96.0.2, port: 81}]}
  - {name: b, address: 10.96.0.2, ports: [{port: 80}]}
";
    check(
        &service(other),
        &[("5:36: services[0].endpoints.static[0].address: ", "virtual address of service `b`")],
    );
}

#[test]
fn kubernetes() {
    let read = |endpoints: &str| {
        let service = service(&format!("    endpoints: {{kubernetes: {endpoints}}}\n"));
        parse(&format!("kubernetes: {{enabled: true, node: n1}}\n{service}"))
    };
    let settings =
        read("[{namespace: a, service: b, port: http}, {namespace: a, service: b, port: 80}]");
    let settings = settings.unwrap();
    assert_eq!(settings.kubernetes.node, "n1");
    let shown: Vec<_> = settings.services[0].sources.iter().map(Source::target).collect();
    assert_eq!(shown, ["a/b:http", "a/b:80"]);

    for (endpoints, message) in [
        ("{namespace: a}", "service"),
        ("{namespace: A, service: b}", "lower-case"),
        ("{namespace: a, service: b, port: 0}", "1 to 65535"),
        ("[{namespace: a, service: b}, {namespace: a, service: b}]", "twice"),
    ] {
        let problems = read(endpoints).unwrap_err().to_string();
        assert!(problems.contains(message), "{endpoints}: {problems}");
    }
    wrong("kubernetes: {namespace: a, service: b}", "kubernetes", "kubernetes: {enabled: true}");
}
