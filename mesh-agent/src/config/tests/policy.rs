//! `policy`: every key, right and wrong.

use std::time::Duration;

use super::{check, parse, service};
use crate::model::{
    Algorithm, Backoff, Budget, Consecutive, FailoverMode, HashOn, LimitBy, LocalityMode,
    OnRemoval, Percent, Policy, Probe, RetryOn,
};

/// The policy of a service at line 5, read.
fn read(policy: &str) -> Policy {
    let text = service(&format!("    policy: {{{policy}}}\n"));
    let settings = parse(&text).map_err(|problems| problems.to_string());
    settings.unwrap_or_else(|problems| panic!("{text}\n{problems}")).services[0]
        .policy
        .as_ref()
        .clone()
}

/// One problem, at this place below `policy`, that says this.
fn wrong(policy: &str, place: &str, message: &str) {
    let text = service(&format!("    policy: {{{policy}}}\n"));
    let place = format!("services[0].policy.{place}");
    let problems = parse(&text).expect_err(policy).problems;
    let [problem] = problems.as_slice() else { panic!("{policy}: {problems:?}") };
    assert_eq!((problem.line, &problem.path), (5, &place), "{policy}: {problem:?}");
    assert!(problem.message.contains(message), "{policy}: {problem:?}");
}

#[test]
fn load_balancer() {
    for algorithm in Algorithm::ALL {
        assert_eq!(read(&format!("loadBalancer: {algorithm}")).algorithm, algorithm);
        let full = format!("loadBalancer: {{algorithm: {algorithm}}}");
        assert_eq!(read(&full).algorithm, algorithm);
    }
    for (text, hash_on) in [
        ("source", HashOn::Source),
        ("path", HashOn::Path),
        ("'header:X-User'", HashOn::Header("x-user".into())),
        ("'cookie:Session'", HashOn::Cookie("Session".into())),
        ("header:x", HashOn::Header("x".into())),
    ] {
        let text = format!("loadBalancer: {{algorithm: consistentHash, hashOn: {text}}}");
        assert_eq!(read(&text).hash_on, hash_on);
    }
    let at = "loadBalancer.hashOn";
    let hash = |on: &str| format!("loadBalancer: {{algorithm: consistentHash, hashOn: {on}}}");
    wrong(&hash("query"), at, "must be source, path, header:NAME or cookie:NAME");
    wrong(&hash("'header:'"), at, "header's name");
    wrong(&hash("'header:a b'"), at, "header's name");
    wrong(&hash("'cookie:a;b'"), at, "cookie's name");
    wrong("loadBalancer: {algorithm: random, hashOn: path}", at, "no effect with `random`");
    wrong("loadBalancer: leastConections", "loadBalancer", "did you mean `leastConnections`?");
}

#[test]
fn affinity_and_slow_start() {
    let affinity = |text: &str| read(text).session_affinity;
    assert_eq!(affinity("sessionAffinity: {clientIP: {}}"), Some(Duration::from_secs(10_800)));
    assert_eq!(
        affinity("sessionAffinity: {clientIP: {timeout: 5m}}"),
        Some(Duration::from_secs(300))
    );
    assert_eq!(affinity("sessionAffinity: off"), None);
    wrong("sessionAffinity: {}", "sessionAffinity", "{clientIP: {}}");
    wrong("sessionAffinity: {clientIp: {}}", "sessionAffinity.clientIp", "did you mean `clientIP`");
    let at = "sessionAffinity.clientIP.timeout";
    wrong("sessionAffinity: {clientIP: {timeout: 0s}}", at, "longer than 0");
    let slow = read("slowStart: {}").slow_start;
    assert_eq!(slow, Some(crate::model::SlowStart::default()));
    let slow = read("slowStart: {window: 1m, aggression: 2, minWeight: 5%}").slow_start.unwrap();
    assert_eq!(slow.window, Duration::from_secs(60));
    assert_eq!(slow.aggression.thousandths, 2000);
    assert_eq!(slow.min_weight, Percent(5));
    wrong("slowStart: {window: 0s}", "slowStart.window", "longer than 0");
    wrong("slowStart: {aggression: 0}", "slowStart.aggression", "a number from 0.1 to 10.0");
    wrong("slowStart: {aggression: 1e9}", "slowStart.aggression", "out of range");
    wrong("slowStart: {aggression: fast}", "slowStart.aggression", "must be a number");
    wrong("slowStart: {minWeight: 101%}", "slowStart.minWeight", "from 0 to 100");
    wrong(
        "slowStart: {minWeight: 10}",
        "slowStart.minWeight",
        "such as `50%`; found the number 10",
    );
}

#[test]
fn locality() {
    let read =
        read("locality: {mode: strict, overprovisioning: 1.25, panicThreshold: 0%}").locality;
    assert_eq!(read.mode, LocalityMode::Strict);
    assert_eq!(read.overprovisioning.thousandths, 1250);
    assert_eq!(read.panic_threshold, Percent(0));
    assert_eq!(super::policy::read("locality: {mode: off}").locality.mode, LocalityMode::Off);
    wrong("locality: {mode: nearest}", "locality.mode", "valid: failover, prefer, strict, off");
    wrong("locality: {overprovisioning: 0.5}", "locality.overprovisioning", "out of range");
    wrong("locality: {panicThreshold: half}", "locality.panicThreshold", "must be a share");
}

#[test]
fn failover() {
    let text = "failover: {mode: once, attempts: 5, replay: 1MiB, ejection: false, \
                consecutiveFailures: 7, base: 1s, max: 1m, maxEjected: 20%}, onRemoval: close";
    let policy = read(text);
    let failover = policy.failover;
    assert_eq!((failover.mode, failover.attempts), (FailoverMode::Once, 5));
    assert_eq!((failover.replay, failover.ejection), (1 << 20, false));
    assert_eq!(failover.consecutive, Consecutive { connect: 7, responses: 7 });
    assert_eq!((failover.base, failover.max), (Duration::from_secs(1), Duration::from_secs(60)));
    assert_eq!(failover.max_ejected, Percent(20));
    assert_eq!(policy.on_removal, OnRemoval::Close);
    let each = read("failover: {consecutiveFailures: {connect: 1}}").failover.consecutive;
    assert_eq!(each, Consecutive { connect: 1, responses: 5 });
    let drain = OnRemoval::Drain(Duration::from_secs(30));
    assert_eq!(read("onRemoval: 'drain: 30s'").on_removal, drain);
    assert_eq!(read("onRemoval: {drain: 30s}").on_removal, drain);
    assert_eq!(read("onRemoval: keep").on_removal, OnRemoval::Keep);
    wrong("onRemoval: drain", "onRemoval", "keep, close or `drain: 30s`");
    wrong("onRemoval: {drain: 30}", "onRemoval.drain", "must be a duration");
    wrong("onRemoval: {}", "onRemoval", "`drain` is missing");
    wrong("failover: {attempts: 0}", "failover.attempts", "from 1 to 20");
    wrong("failover: {consecutiveFailures: 0}", "failover.consecutiveFailures", "from 1 to");
    wrong("failover: {base: 10m}", "failover.base", "`10m` is longer than the longest exile");
    wrong("failover: {base: 2m, max: 1m}", "failover.base", "which is `1m`");
    wrong("failover: {base: 0s}", "failover.base", "longer than 0");
    wrong("failover: {replay: 1GiB}", "failover.replay", "at most `64MiB`");
    wrong("failover: {maxEjected: 1}", "failover.maxEjected", "must be a share");
    wrong("failover: {mode: slow}", "failover.mode", "valid: fast, once");
}

#[test]
fn retry() {
    let text = "retry: {on: [connect-failure, refused-stream, reset, gateway-error, 5xx, \
                retriable-4xx, 503, grpc:unavailable, 'grpc:cancelled', grpc:unauthenticated], \
                attempts: 2, perTryTimeout: 1s, backoff: {base: 10ms, max: 1s}, \
                budget: {percent: 30%, minConcurrent: 0}}";
    let retry = read(text).retry;
    assert_eq!(
        *retry.on,
        [
            RetryOn::ConnectFailure,
            RetryOn::RefusedStream,
            RetryOn::Reset,
            RetryOn::GatewayError,
            RetryOn::ServerError,
            RetryOn::Retriable4xx,
            RetryOn::Status(503),
            RetryOn::Grpc(14),
            RetryOn::Grpc(1),
            RetryOn::Grpc(16),
        ]
    );
    assert_eq!(retry.attempts, Some(2));
    assert_eq!(retry.per_try_timeout, Some(Duration::from_secs(1)));
    let backoff = Backoff { base: Duration::from_millis(10), max: Duration::from_secs(1) };
    assert_eq!(retry.backoff, backoff);
    assert_eq!(retry.budget, Budget { percent: Percent(30), min_concurrent: 0 });
    assert!(read("retry: {on: []}").retry.on.is_empty());
    wrong("retry: {on: [gateway_error]}", "retry.on[0]", "did you mean `gateway-error`?");
    wrong("retry: {on: [grpc:ok]}", "retry.on[0]", "grpc:unavailable");
    wrong("retry: {on: [99]}", "retry.on[0]", "from 100 to 599");
    wrong("retry: {on: [503, reset, 503]}", "retry.on[2]", "twice");
    wrong("retry: {on: 503}", "retry.on", "must be a list");
    wrong("retry: {backoff: {base: 1s}}", "retry.backoff.base", "the longest wait");
    wrong("retry: {perTryTimeout: 0s}", "retry.perTryTimeout", "longer than 0");
    let both = "retry: {perTryTimeout: 5s}, timeout: {request: 2s}";
    wrong(both, "retry.perTryTimeout", "longer than the whole request may take");
}

#[test]
fn health_checks() {
    let check = read("healthCheck: {tcp: {}}").health_check.unwrap();
    assert_eq!(check, crate::model::HealthCheck::default());
    let text = "healthCheck: {http: {path: /healthz, host: a.example, status: 200-399, \
                headers: {X-Probe: 'yes'}}, interval: 1s, timeout: 500ms, healthy: 1, \
                unhealthy: 2, port: 8081}";
    let check = read(text).health_check.unwrap();
    let probe = Probe::Http {
        path: "/healthz".into(),
        host: Some("a.example".into()),
        headers: vec![("x-probe".into(), "yes".into())],
        status: (200, 399),
    };
    assert_eq!(check.probe, probe);
    assert_eq!((check.interval, check.healthy), (Duration::from_secs(1), 1));
    assert_eq!((check.timeout, check.unhealthy), (Duration::from_millis(500), 2));
    assert_eq!(check.port.map(u16::from), Some(8081));
    let grpc = read("healthCheck: {grpc: {service: shop.Cart}}").health_check.unwrap();
    assert_eq!(grpc.probe, Probe::Grpc { service: "shop.Cart".into() });
    let http = read("healthCheck: {http: {status: 204}}").health_check.unwrap();
    let Probe::Http { status, path, .. } = http.probe else { panic!() };
    assert_eq!((status, path.as_str()), ((204, 204), "/"));
    wrong("healthCheck: {}", "healthCheck", "doesn't say how to ask");
    wrong("healthCheck: {tcp: {}, http: {}}", "healthCheck", "both `tcp` and `http`");
    wrong("healthCheck: {http: {path: healthz}}", "healthCheck.http.path", "starts with `/`");
    wrong("healthCheck: {http: {status: 399-200}}", "healthCheck.http.status", "before it starts");
    wrong("healthCheck: {http: {status: 20x}}", "healthCheck.http.status", "`200-399`");
    wrong("healthCheck: {http: {headers: {'a b': c}}}", "healthCheck.http.headers.a b", "name");
    wrong(
        "healthCheck: {http: {headers: {a: 1}}}",
        "healthCheck.http.headers.a",
        "put it in quotes",
    );
    wrong("healthCheck: {tcp: {}, interval: 0s}", "healthCheck.interval", "longer than 0");
    wrong("healthCheck: {tcp: {}, healthy: 0}", "healthCheck.healthy", "from 1 to");
    wrong("healthCheck: {tcp: {port: 1}}", "healthCheck.tcp.port", "unknown key");
}

#[test]
fn flow_control() {
    let one = read("rateLimit: {requests: 100}").rate_limits;
    assert_eq!((one[0].requests, one[0].burst), (100, 100));
    assert_eq!((one[0].per, &one[0].by), (Duration::from_secs(1), &LimitBy::Service));
    let text = "rateLimit: [{requests: 5, per: 1m, burst: 0, by: client, dryRun: true}, \
                {requests: 1, by: 'header:X-Key'}]";
    let limits = read(text).rate_limits;
    assert_eq!((limits[0].burst, limits[0].dry_run, &limits[0].by), (0, true, &LimitBy::Client));
    assert_eq!(limits[1].by, LimitBy::Header("x-key".into()));
    assert!(read("rateLimit: []").rate_limits.is_empty());
    wrong("rateLimit: {per: 1s}", "rateLimit", "`requests` is missing");
    wrong("rateLimit: {requests: 0}", "rateLimit.requests", "from 1 to");
    wrong("rateLimit: [{requests: 1, per: 0s}]", "rateLimit[0].per", "longer than 0");
    wrong("rateLimit: {requests: 1, by: user}", "rateLimit.by", "service, client or header:NAME");

    let bandwidth = read("bandwidth: {upload: 10MiB, download: 1GiB, by: client}").bandwidth;
    let bandwidth = bandwidth.unwrap();
    assert_eq!(bandwidth.upload.map(u64::from), Some(10 << 20));
    assert_eq!(bandwidth.download.map(u64::from), Some(1 << 30));
    assert!(bandwidth.by_client);
    wrong("bandwidth: {}", "bandwidth", "neither direction");
    wrong("bandwidth: {upload: 10}", "bandwidth.upload", "must be a size");
    wrong("bandwidth: {upload: 0B}", "bandwidth.upload", "at least `4KiB`");

    let adaptive = read("adaptiveConcurrency: {}").adaptive_concurrency;
    assert_eq!(adaptive, Some(crate::model::AdaptiveConcurrency::default()));
    let text = "adaptiveConcurrency: {buffer: 50%, min: 2, max: 9, interval: 1s, window: 2m, \
                minSamples: 5, smoothing: 0.5}";
    let adaptive = read(text).adaptive_concurrency.unwrap();
    assert_eq!((adaptive.buffer, adaptive.min, adaptive.max), (Percent(50), 2, 9));
    assert_eq!((adaptive.min_samples, adaptive.smoothing.thousandths), (5, 500));
    wrong("adaptiveConcurrency: {min: 2000}", "adaptiveConcurrency.min", "`max`, which is 1000");
    wrong("adaptiveConcurrency: {interval: 5m}", "adaptiveConcurrency.interval", "`window`");

    let limits = read("connections: {max: 10, maxPending: 0, maxRequests: 5}").connections;
    assert_eq!((limits.max, limits.max_pending, limits.max_requests), (Some(10), Some(0), Some(5)));
    wrong("connections: {max: 0}", "connections.max", "from 1 to");
}

#[test]
fn what_the_ports_and_the_path_cannot_keep() {
    let with = |ports: &str, path: &str, policy: &str| {
        service(&format!("    path: {path}\n    policy: {{{policy}}}\n"))
            .replace("{port: 80}", ports)
    };
    let hash = "loadBalancer: {algorithm: consistentHash, hashOn: path}";
    for (ports, path, why) in [
        ("{port: 80}", "kernel", "with `path: kernel` nobody reads requests"),
        ("{port: 80, protocol: tcp}", "auto", "none of the service's ports speaks HTTP"),
    ] {
        for (policy, at) in [
            (hash, "loadBalancer.hashOn"),
            ("rateLimit: {requests: 1, by: 'header:x'}", "rateLimit.by"),
            ("timeout: {request: 1s}", "timeout.request"),
            ("retry: {perTryTimeout: 1s}", "retry.perTryTimeout"),
        ] {
            let problems = parse(&with(ports, path, policy)).expect_err(policy).problems;
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert_eq!(problem.path, format!("services[0].policy.{at}"));
            assert!(problem.message.contains(why), "{problem:?}");
        }
    }
    let udp = "{port: 53, protocol: udp}";
    for (policy, message) in [
        ("bandwidth: {upload: 1MiB}", "can't be held for a `udp` port"),
        ("adaptiveConcurrency: {}", "needs answers to measure"),
        ("healthCheck: {tcp: {}}", "say which `port` to ask"),
        ("bypass: true", "is for TCP"),
    ] {
        let problems = parse(&with(udp, "auto", policy)).expect_err(policy).to_string();
        assert!(problems.contains(message), "{problems}");
    }
    assert!(parse(&with(udp, "auto", "healthCheck: {tcp: {}, port: 80}")).is_ok());
    // What the defaults say is kept by those that can.
    let defaults = format!("defaults: {{policy: {{{hash}, bandwidth: {{upload: 1MiB}}}}}}\n");
    check(&(service("").replace("{port: 80}", udp) + &defaults), &[]);
}

#[test]
fn what_goes_past_tcp_has_no_packets() {
    assert!(!read("").bypass && read("bypass: true").bypass);
    wrong("bypass: true, bandwidth: {upload: 1MiB}", "bypass", "`bandwidth`, which paces packets");
    let timed = ["loadBalancer: leastResponseTime", "adaptiveConcurrency: {}"];
    for other in timed {
        let with = |path: &str| {
            let text = format!("    path: {path}\n    policy: {{bypass: true, {other}}}\n");
            parse(&service(&text)).err().map(|problems| problems.to_string())
        };
        let problem = with("kernel").unwrap();
        assert!(problem.contains("which times packets"), "{problem}");
        // The agent takes the time of requests.
        assert_eq!(with("proxy"), None);
    }
}

#[test]
fn merging() {
    let defaults = "defaults:
  policy:
    loadBalancer: {algorithm: consistentHash, hashOn: path}
    failover: {attempts: 4, consecutiveFailures: 9}
    retry: {on: [5xx], backoff: {max: 2s}}
    healthCheck: {http: {path: /ready}, interval: 9s}
    slowStart: {window: 9s}
    rateLimit: [{requests: 9}]
    adaptiveConcurrency: {max: 9}
";
    let merged = |own: &str| {
        let text = service(&format!("    policy: {{{own}}}\n")) + defaults;
        parse(&text).map_err(|problems| problems.to_string()).unwrap().services[0]
            .policy
            .as_ref()
            .clone()
    };
    let own = merged(
        "loadBalancer: consistentHash, failover: {base: 1s, consecutiveFailures: {connect: 2}}, \
         retry: {backoff: {base: 1s}}, healthCheck: {timeout: 2s}, slowStart: {minWeight: 1%}, \
         rateLimit: {requests: 1}",
    );
    assert_eq!(own.hash_on, HashOn::Path);
    assert_eq!((own.failover.attempts, own.failover.base), (4, Duration::from_secs(1)));
    assert_eq!(own.failover.consecutive, Consecutive { connect: 2, responses: 9 });
    assert_eq!(*own.retry.on, [RetryOn::ServerError]);
    let backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(2) };
    assert_eq!(own.retry.backoff, backoff);
    let health = own.health_check.unwrap();
    assert_eq!((health.interval, health.timeout), (Duration::from_secs(9), Duration::from_secs(2)));
    assert!(matches!(&health.probe, Probe::Http { path, .. } if path == "/ready"));
    assert_eq!(own.slow_start.unwrap().window, Duration::from_secs(9));
    assert_eq!(own.slow_start.unwrap().min_weight, Percent(1));
    assert_eq!(own.rate_limits.iter().map(|limit| limit.requests).collect::<Vec<_>>(), [1]);

    let own =
        merged("healthCheck: {tcp: {}}, slowStart: off, rateLimit: [], adaptiveConcurrency: off");
    assert_eq!(own.health_check.unwrap().probe, Probe::Tcp);
    assert_eq!((own.slow_start, own.adaptive_concurrency), (None, None));
    assert!(own.rate_limits.is_empty());
    assert_eq!(merged("healthCheck: off, rateLimit: off").health_check, None);

    // A mistake of both together is the service's; of the defaults alone, theirs.
    check(
        &(service("    policy: {failover: {base: 2m}}\n")
            + "defaults: {policy: {failover: {max: 1m}}}"),
        &[("5:31: services[0].policy.failover.base: ", "which is `1m`")],
    );
    check(
        &(service("") + "defaults: {policy: {failover: {max: 1s}}}"),
        &[("5:31: defaults.policy.failover.base: ", "`5s` is longer")],
    );
}
