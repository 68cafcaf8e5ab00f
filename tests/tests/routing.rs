//! Requests take the routes of a service: to a subset of its instances or to
//! another service, by host, path, header and weight, changed on the way or
//! redirected.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mesh_tests::{
    Agent, Pod, World,
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

/// What `curl` prints of the answer's status, and headers of both sides.
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
    let [v1, v2, other] = servers.map(|server| server.map(|server| server.pod));
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
    let agent = Agent::start(&world, &services(&v1?, &v2?, &other?, routes))?;
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
    // Which instance a path reached, by its own log.
    for (path, expected) in
        [("/v2", "v2"), ("/v2/", "v2"), ("/v22", "v1"), ("/v2/really/v1", "v1"), ("/x/2", "v2")]
    {
        assert_eq!(status(&client, &[&format!("{base}{path}")])?, "404");
        assert_eq!(instance(&agent, &client, path)?, expected, "{path}");
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
