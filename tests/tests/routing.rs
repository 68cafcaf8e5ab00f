//! Requests take the routes of a service: to a subset of its instances or to
//! another service, by host, path, header and weight, changed on the way or
//! redirected.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mesh_tests::{
    Agent, Pod, World, eventually,
    server::{Fickle, Mood, Nginx},
};

/// `reviews` with an instance of each version, and `ratings` beside it.
fn services(v1: &Pod, v2: &Pod, other: &Pod, routes: &str) -> String {
    let (v1, v2, other) = (v1.ip4, v2.ip4, other.ip4);
    format!(
        "  - name: reviews
    address: 10.96.0.20
    hostnames: [reviews, reviews.example.org]
    ports: [{{port: 80, protocol: http}}]
    endpoints:
      static:
        - {{address: {v1}, port: 80, labels: {{version: v1}}}}
        - {{address: {v2}, port: 80, labels: {{version: v2, tested: \"yes\"}}}}
    routes:{routes}
  - name: ratings
    address: 10.96.0.21
    ports: [{{port: 8080, protocol: http}}]
    endpoints: {{static: [{{address: {other}, port: 80}}]}}
"
    )
}

/// Status of the answer, where it redirects to, and a header of it.
fn status(client: &Pod, arguments: &[&str]) -> Result<String> {
    let format = "%{http_code} %{redirect_url} %header{x-served-by}";
    let usual = ["--silent", "--output", "/dev/null", "--max-time", "20", "-w", format];
    let answer = client.run("curl", usual.iter().chain(arguments).copied())?;
    Ok(answer.trim_end().to_owned())
}

#[test]
fn requests_are_routed_by_host_path_method_and_header() -> Result<()> {
    let world = World::new("routing")?;
    let servers = ["v1", "v2", "other"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let [v1, v2, other] = [0, 1, 2].map(|index| &servers[index].pod);
    let client = world.client("client")?;
    let routes = r#"
      - name: other
        hosts: ["*.other.example.org"]
        backends: [{service: ratings, port: 8080}]
      - name: prefix
        matches: [{path: {prefix: /v2}}, {path: {regex: "/[a-z]+/2"}}]
        filters: {requestHeaders: {set: {x-was-here: "1"}}}
        backends: [{subset: {version: v2}}]
      - name: tester
        matches: [{headers: [{name: x-tester, exact: "2"}]}, {method: DELETE}]
        backends: [{subset: {tested: "yes", version: v2}}]
      - name: exact
        matches: [{path: {exact: /v2/really/v1}}]
        backends: [{subset: {version: v1}}]
      - name: nobody
        matches: [{path: {exact: /v3}}]
        backends: [{subset: {version: v3}}]
      - name: rest
        backends: [{subset: {version: v1}}]
"#;
    let agent = Agent::start(&world, &services(v1, v2, other, routes))?;
    agent.wait_for(&client)?;
    let base = "http://reviews";
    // An unknown path is nginx's 404; /?… is its name.
    for (arguments, expected) in [
        (&["/"][..], "v1"),
        (&["/", "-H", "x-tester: 2"], "v2"),
        (&["/", "-H", "x-tester: 22"], "v1"),
        (&["/", "-X", "DELETE"], "v2"),
        (&["/", "-H", "Host: a.b.OTHER.example.org:80"], "other"),
        (&["/", "-H", "Host: other.example.org"], "v1"),
        (&["/", "--http2-prior-knowledge", "-H", "x-tester: 2"], "v2"),
    ] {
        let url = format!("{base}{}", arguments[0]);
        for _ in 0..3 {
            let all = [&[url.as_str()], &arguments[1..]].concat();
            assert_eq!(client.curl(all.iter().copied())?, format!("{expected}\n"), "{all:?}");
        }
    }
    // No such path there: which instance was reached stands in its log.
    for (path, expected) in
        [("/v2", 1), ("/v2/", 1), ("/v22", 0), ("/v2/really/v1", 0), ("/x/2", 1), ("/X/2", 0)]
    {
        let before = servers[expected].clients().len();
        assert_eq!(status(&client, &[&format!("{base}{path}")])?, "404");
        eventually(&format!("{path} to reach the instance {expected}"), || {
            let seen = servers[expected].clients().len();
            if seen == before + 1 { Ok(()) } else { Err(seen) }
        })?;
    }
    let nobody = status(&client, &[&format!("{base}/v3")])?;
    assert_eq!(nobody, "503", "a subset without instances");

    let explained = agent.json(["explain", "10.96.0.20:80"])?;
    let names: Vec<_> = (explained["routes"].as_array().context("routes")?.iter())
        .map(|route| route["name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(names, ["other", "prefix", "tester", "exact", "nobody", "rest"]);
    assert_eq!(explained["routes"][0]["backends"][0]["service"], "ratings");
    assert_eq!(explained["routes"][1]["backends"][0]["instances"], 1);
    assert_eq!(explained["routes"][4]["backends"][0]["instances"], 0);
    Ok(())
}

/// 1,000 requests, 90 to 10: the share of the canary is within five standard
/// deviations (9.5 each) of its 100.
#[test]
fn a_canary_gets_its_share() -> Result<()> {
    let world = World::new("canary")?;
    let servers = ["v1", "v2", "other"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let [v1, v2, other] = [0, 1, 2].map(|index| &servers[index].pod);
    let client = world.client("client")?;
    let routes = r#"
      - backends:
          - {subset: {version: v1}, weight: 90}
          - {subset: {version: v2}, weight: 10}
          - {service: ratings, port: 8080, weight: 0}
"#;
    let agent = Agent::start(&world, &services(v1, v2, other, routes))?;
    agent.wait_for(&client)?;
    let answers = client.curl(["http://reviews/?[1-1000]"])?;
    let count = |name: &str| answers.lines().filter(|line| *line == name).count();
    assert_eq!(count("v1") + count("v2"), 1000);
    assert!((53..=147).contains(&count("v2")), "{} of 1000 went to the canary", count("v2"));

    // A reload shifts all of it, on a connection that goes on.
    let shifted = routes.replace("weight: 90", "weight: 0");
    agent.reload(&services(v1, v2, other, &shifted))?;
    let answers = client.curl(["http://reviews/?[1-20]"])?;
    assert_eq!(answers.lines().filter(|line| *line == "v2").count(), 20, "{answers}");
    Ok(())
}

/// On an `auto` port an instance is connected to before the request is known;
/// where its route leads elsewhere, that connection is given up.
#[test]
fn a_route_leaves_the_instance_that_was_connected_to_first() -> Result<()> {
    let world = World::new("reconsider")?;
    let servers = ["v1", "v2", "other"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let [v1, v2, other] = [0, 1, 2].map(|index| &servers[index].pod);
    let client = world.client("client")?;
    let routes = r#"
      - matches: [{path: {prefix: /other}}]
        backends: [{service: ratings, port: 8080}]
      - backends: [{subset: {version: v2}}]
    policy: {loadBalancer: {algorithm: roundRobin}}
"#;
    let services = services(v1, v2, other, routes);
    let auto = services.replacen("protocol: http", "protocol: auto", 1);
    let agent = Agent::start(&world, &auto)?;
    agent.wait_for(&client)?;
    // Each over a connection of its own; every second one was opened to v1.
    for _ in 0..6 {
        assert_eq!(client.curl(["http://reviews/"])?, "v2\n");
        assert_eq!(status(&client, &["http://reviews/other"])?, "404");
        assert_eq!(client.curl(["http://reviews/", "http://reviews/"])?, "v2\nv2\n");
    }
    eventually("the requests to be in the logs", || {
        let seen = [0, 1, 2].map(|index| servers[index].clients().len());
        if seen == [0, 18, 6] { Ok(()) } else { Err(seen) }
    })?;
    let endpoints = agent.json(["endpoints", "reviews"])?;
    let picks: Vec<_> =
        endpoints.as_array().into_iter().flatten().map(|view| view["picks"].as_u64()).collect();
    assert!(picks.iter().all(|&picks| picks >= Some(6)), "v1 was never opened: {endpoints}");
    eventually("no connection to v1 to be left", || {
        let open = v1.shell("ss -Htn state established")?;
        anyhow::ensure!(open.is_empty(), "{open}");
        Ok(())
    })
}

#[test]
fn redirects_and_header_changes() -> Result<()> {
    let world = World::new("filters")?;
    let servers = ["v1", "v2", "other"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let [v1, v2, other] = [0, 1, 2].map(|index| &servers[index].pod);
    let client = world.client("client")?;
    let routes = r#"
      - matches: [{path: {prefix: /old}}]
        filters: {redirect: {scheme: https, host: new.example.org, path: /new, status: 308}}
      - matches: [{path: {prefix: /port}}]
        filters: {redirect: {port: 8080}}
      - filters:
          requestHeaders: {set: {host: changed.example.org}, remove: [x-forwarded-for]}
          responseHeaders: {set: {x-served-by: mesh}, remove: [content-type]}
"#;
    let agent = Agent::start(&world, &services(v1, v2, other, routes))?;
    agent.wait_for(&client)?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let to = status(&client, &[version, "http://reviews/old/a?q=1"])?;
        assert_eq!(to, "308 https://new.example.org/new?q=1");
        let to = status(&client, &[version, "-d", "a body", "http://reviews:80/port/a"])?;
        assert_eq!(to, "302 http://reviews:8080/port/a");
        let answer = status(&client, &[version, "http://reviews/"])?;
        assert_eq!(answer, "200  mesh", "no redirect, and the header");
        let host = client.curl([version, "http://reviews/echo-host"])?;
        assert_eq!(host, "changed.example.org\n");
        let forwarded = ["-H", "X-Forwarded-For: 1.2.3.4", "http://reviews/forwarded"];
        let forwarded = client.curl([version].into_iter().chain(forwarded))?;
        assert_eq!(forwarded, format!("{}\n", client.ip4));
        let kind = ["-w", "%{content_type}", "-o", "/dev/null", "http://reviews/"];
        assert_eq!(client.curl([version].into_iter().chain(kind))?, "");
    }
    assert!(servers.iter().all(|server| {
        server.clients().iter().all(|address| *address == client.ip4.to_string())
    }));
    Ok(())
}

#[test]
fn a_route_has_its_own_timeout_and_retries() -> Result<()> {
    let world = World::new("patience")?;
    let slow = Fickle::start(&world.backend("v1")?)?;
    let broken = Fickle::start(&world.backend("v2")?)?;
    let good = Fickle::start(&world.backend("other")?)?;
    slow.be(Mood { delay: Duration::from_millis(2500), ..Mood::default() })?;
    broken.be(Mood { status: 503, ..Mood::default() })?;
    let client = world.client("client")?;
    let routes = r#"
      - matches: [{path: {prefix: /hasty}}]
        backends: [{subset: {version: v1}}]
        timeout: 300ms
      - matches: [{path: {prefix: /calm}}]
        backends: [{subset: {version: v1}}]
        timeout: 0s
      - matches: [{path: {prefix: /again}}]
        backends: [{service: pair}]
        retry: {on: [503]}
      - matches: [{path: {prefix: /once}}]
        backends: [{service: pair}]
    policy: {timeout: {request: 1s}}
"#;
    let pair = format!(
        "  - name: pair
    address: 10.96.0.22
    ports: [{{port: 80, protocol: http}}]
    endpoints: {{static: [{{address: {}, port: 80}}, {{address: {}, port: 80}}]}}
    policy: {{loadBalancer: roundRobin, failover: {{ejection: false}}, retry: {{on: []}}}}
",
        broken.pod.ip4, good.pod.ip4
    );
    let services = services(&slow.pod, &broken.pod, &good.pod, routes) + &pair;
    let agent = Agent::start(&world, &services)?;
    agent.wait_for(&client)?;

    let started = Instant::now();
    assert_eq!(status(&client, &["http://reviews/hasty"])?, "504");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(client.curl(["http://reviews/calm"])?.trim(), "v1", "longer than the policy's");

    let codes = |path: &str| -> Result<Vec<String>> {
        let url = format!("http://reviews/{path}");
        (0..6).map(|_| status(&client, &[&url])).collect()
    };
    assert_eq!(codes("again")?, ["200"; 6], "repeated on the other instance");
    let once = codes("once")?;
    assert_eq!(once.iter().filter(|code| *code == "503").count(), 3, "{once:?}");
    Ok(())
}
