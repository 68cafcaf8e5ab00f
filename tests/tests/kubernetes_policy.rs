//! Policies and routes of a cluster: what they do to requests, and what their
//! statuses say.

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Agent, Pod, World,
    cluster::{Cluster, NODE, SHOP, cluster_ip, until_answered_by, until_watch_is},
    eventually,
    server::{
        Nginx,
        kubernetes::object::{namespace, service, slice},
    },
};
use serde_json::{Value, json};

const HTTP: &str = "http-web";

struct Scene {
    client: Pod,
    /// They answer as long as they are held.
    servers: Vec<Nginx>,
    cluster: Cluster,
}

impl Scene {
    /// `one` and `two`, each with its server, and `web`, which is `one`'s too.
    fn new(name: &str) -> Result<Self> {
        let cluster = Cluster::new(name)?;
        let servers = ["one", "two"].map(|name| Nginx::start(&cluster.world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        cluster.service("web", 20, HTTP)?;
        for ((server, name), number) in servers.iter().zip(["one", "two"]).zip([21, 22]) {
            cluster.service(name, number, HTTP)?;
            cluster.endpoints(name, HTTP, [&server.pod])?;
        }
        cluster.endpoints("web", HTTP, [&servers[0].pod])?;
        Ok(Self { client: cluster.world.client("client")?, servers, cluster })
    }

    fn agent(&self) -> Result<Agent> {
        let agent = agent(&self.cluster, &self.cluster.world, NODE)?;
        agent.wait_for(&self.client)?;
        Ok(agent)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        self.cluster.kubernetes.apply(object).map(drop)
    }

    /// How often each answered, of 100 requests; errors by their status.
    fn answers(&self, path: &str) -> Result<Value> {
        let url = format!("http://10.96.0.20/{path}?[1-100]");
        let format = "%{stderr}%{http_code}\n";
        let output = self.client.shell(&format!("curl -s -w '{format}' '{url}' 2>&1 || true"))?;
        let of = |wanted: &str| output.lines().filter(|line| *line == wanted).count();
        Ok(json!({
            "one": of("one"), "two": of("two"), "404": of("404"), "429": of("429"), "500": of("500"),
        }))
    }

    fn until(&self, path: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Result<()> {
        eventually(what, || {
            let answers = self.answers(path)?;
            ensure!(fits(&answers), "{answers}");
            Ok(())
        })
    }
}

/// With a short Lease, so that tests need not wait.
fn agent(cluster: &Cluster, world: &World, node: &str) -> Result<Agent> {
    let kubeconfig = cluster.kubernetes.kubeconfig()?;
    let others = format!(
        "dns: {{enabled: true}}\n\
         kubernetes: {{enabled: true, kubeconfig: {}, node: {node}, leaseDuration: 3s}}\n",
        kubeconfig.display(),
    );
    Agent::start_with(world, &others, "  []\n")
}

#[expect(clippy::needless_pass_by_value, reason = "calls read as the JSON they make")]
fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1", "kind": "MeshPolicy",
        "metadata": { "name": name, "namespace": SHOP }, "spec": spec,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "calls read as the JSON they make")]
fn route(rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "split", "namespace": SHOP },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 80 }],
            "rules": rules,
        },
    })
}

fn backends(weights: [(&str, u32); 2]) -> Value {
    let backend = |(name, weight)| json!({ "name": name, "port": 80, "weight": weight });
    weights.map(backend).into_iter().collect()
}

/// A condition, once it has this status and reason; of a route, of its parent.
fn condition(
    cluster: &Cluster,
    (resource, name): (&str, &str),
    kind: &str,
    (status, reason): (&str, &str),
) -> Result<Value> {
    eventually(&format!("{resource} {name} to be {kind}={status} for {reason}"), || {
        let object = cluster.kubernetes.get(resource, SHOP, name)?.context("no such object")?;
        let all = match &object["status"]["parents"][0]["conditions"] {
            Value::Null => &object["status"]["conditions"],
            of_parent => of_parent,
        };
        let found = all.as_array().into_iter().flatten().find(|one| one["type"] == kind);
        let found = found.with_context(|| format!("no such condition: {}", object["status"]))?;
        ensure!(found["status"] == status && found["reason"] == reason, "{found}");
        ensure!(found["observedGeneration"] == object["metadata"]["generation"], "{found}");
        Ok(found.clone())
    })
}

#[test]
fn a_route_shifts_requests_and_is_told_so() -> Result<()> {
    let scene = Scene::new("kuberoute")?;
    let cluster = &scene.cluster;
    let agent = scene.agent()?;
    until_answered_by(&scene.client, "one.shop", &["one"], &agent)?;

    let split = |weights| json!([{ "backendRefs": backends(weights) }]);
    scene.apply(&route(split([("one", 90), ("two", 10)])))?;
    let of = ("httproutes", "split");
    condition(cluster, of, "Accepted", ("True", "Accepted"))?;
    condition(cluster, of, "ResolvedRefs", ("True", "ResolvedRefs"))?;
    scene.until("", "nine of ten at `one`", |answers| {
        let [one, two] = [&answers["one"], &answers["two"]].map(|n| n.as_u64().unwrap_or(0));
        one + two == 100 && (1..=30).contains(&two)
    })?;
    scene.apply(&route(split([("one", 0), ("two", 1)])))?;
    scene.until("", "all at `two`", |answers| answers["two"] == 100)?;

    // What no rule matches, and what leads nowhere.
    let mut rules = split([("one", 1), ("nobody", 1)]);
    rules[0]["matches"] = json!([{ "path": { "type": "PathPrefix", "value": "/api" } }]);
    scene.apply(&route(rules))?;
    let missing = condition(cluster, of, "ResolvedRefs", ("False", "BackendNotFound"))?;
    ensure!(missing["message"].as_str().is_some_and(|it| it.contains("shop/nobody")), "{missing}");
    scene.until("", "no route", |answers| answers["404"] == 100)?;
    scene.until("api", "half of the answers to be errors", |answers| {
        answers["500"].as_u64().is_some_and(|errors| (20..80).contains(&errors))
    })?;
    // One that is not supported changes nothing, and an Event says so too.
    scene.apply(&route(json!([{
        "filters": [{ "type": "ExtensionRef", "extensionRef": {
            "group": "example.org", "kind": "Own", "name": "own",
        } }],
    }])))?;
    let refused = condition(cluster, of, "Accepted", ("False", "UnsupportedValue"))?;
    ensure!(refused["message"].as_str().is_some_and(|it| it.contains("ExtensionRef")), "{refused}");
    eventually("an Event of the refusal", || {
        let events = cluster.kubernetes.list("events", SHOP)?;
        let told = events.iter().filter(|event| event["reason"] == "UnsupportedValue").count();
        ensure!(told == 1, "{told} Events of it: {events:?}");
        Ok(())
    })?;
    scene.until("", "no route as before", |answers| answers["404"] == 100)?;
    // And without it, the service is itself again.
    cluster.kubernetes.delete("httproutes", SHOP, "split")?;
    scene.until("", "the service's own", |answers| answers["one"] == 100)
}

/// A Service without endpoints of its own is what its routes make of it.
#[test]
fn routes_lead_from_a_service_without_endpoints() -> Result<()> {
    let scene = Scene::new("kubeempty")?;
    let cluster = &scene.cluster;
    cluster.endpoints("web", HTTP, [])?;
    let agent = scene.agent()?;
    until_answered_by(&scene.client, "one.shop", &["one"], &agent)?;
    scene.until("", "nobody to answer", |answers| answers["one"] == 0 && answers["404"] == 0)?;

    let under = |path: &str| json!([{ "path": { "type": "PathPrefix", "value": path } }]);
    scene.apply(&route(json!([
        { "backendRefs": backends([("one", 0), ("two", 1)]) },
        {
            "matches": under("/old"),
            "filters": [
                { "type": "URLRewrite", "urlRewrite": {
                    "hostname": "new.example.org",
                    "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/echo-host" },
                } },
                { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                    "set": [{ "name": "x-by", "value": "route" }],
                } },
            ],
            "backendRefs": backends([("one", 1), ("two", 0)]),
        },
        {
            "matches": under("/moved"),
            "filters": [{ "type": "RequestRedirect", "requestRedirect": {
                "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/here" },
            } }],
        },
    ])))?;
    condition(cluster, ("httproutes", "split"), "Accepted", ("True", "Accepted"))?;
    scene.until("", "all at `two`", |answers| answers["two"] == 100)?;
    let answer = scene.client.curl(["-i", "http://10.96.0.20/old"])?;
    ensure!(answer.contains("new.example.org") && answer.contains("x-by: route"), "{answer}");
    let moved = scene.client.shell(
        "curl -s -o /dev/null -w '%{redirect_url}' \
        http://10.96.0.20/moved/a?b",
    )?;
    ensure!(moved.trim() == "http://10.96.0.20/here/a?b", "{moved}");
    // Without an agent the kernel balances, and there is nobody.
    drop(agent);
    scene.until("", "nobody to answer", |answers| answers["two"] == 0 && answers["one"] == 0)
}

/// Requests go to `one`, copies of some to `two`; the filters of a backend hold
/// for what that backend gets.
#[test]
fn mirrors_and_filters_of_backends() -> Result<()> {
    let scene = Scene::new("kubemirror")?;
    let cluster = &scene.cluster;
    let agent = scene.agent()?;
    until_answered_by(&scene.client, "two.shop", &["two"], &agent)?;

    let mirror = |name: &str, share: (&str, Value)| {
        let mut mirror = json!({ "backendRef": { "name": name, "port": 80 } });
        mirror[share.0] = share.1;
        json!({ "type": "RequestMirror", "requestMirror": mirror })
    };
    let seen_by_two = || scene.servers[1].clients().len();
    scene.apply(&route(json!([{
        "filters": [
            mirror("two", ("percent", json!(100))),
            mirror("two", ("fraction", json!({ "numerator": 0, "denominator": 10 }))),
        ],
        "backendRefs": [{ "name": "one", "port": 80, "filters": [
            { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "set": [{ "name": "x-by", "value": "backend" }],
            } },
            { "type": "URLRewrite", "urlRewrite": { "hostname": "backend.example.org" } },
        ] }],
    }])))?;
    let of = ("httproutes", "split");
    condition(cluster, of, "Accepted", ("True", "Accepted"))?;
    condition(cluster, of, "ResolvedRefs", ("True", "ResolvedRefs"))?;
    let answer = eventually("the filters of the backend", || {
        let answer = scene.client.curl(["-i", "http://10.96.0.20/echo-host"])?;
        ensure!(answer.contains("x-by: backend"), "{answer}");
        Ok(answer)
    })?;
    ensure!(answer.contains("backend.example.org"), "{answer}");
    let before = seen_by_two();
    let answers = scene.answers("")?;
    ensure!(answers["one"] == 100, "{answers}");
    eventually("a copy of each request", || {
        let copies = seen_by_two() - before;
        ensure!(copies == 100, "{copies}");
        Ok(())
    })?;

    // A mirror that isn't there is left out, and said so; the rest holds.
    scene.apply(&route(json!([{
        "filters": [mirror("nobody", ("percent", json!(100)))],
        "backendRefs": [{ "name": "one", "port": 80 }],
    }])))?;
    let missing = condition(cluster, of, "ResolvedRefs", ("False", "BackendNotFound"))?;
    ensure!(missing["message"].as_str().is_some_and(|it| it.contains("shop/nobody")), "{missing}");
    condition(cluster, of, "Accepted", ("True", "Accepted"))?;
    eventually("no filter of a backend", || {
        let answer = scene.client.curl(["-i", "http://10.96.0.20/"])?;
        ensure!(!answer.contains("x-by"), "{answer}");
        Ok(())
    })?;
    let before = seen_by_two();
    scene.until("", "all at `one`", |answers| answers["one"] == 100)?;
    ensure!(seen_by_two() == before, "mirrored to nobody");

    // gRPC knows two of the filters of a backend, and mirrors.
    let mut grpc = route(json!([{
        "filters": [mirror("two", ("percent", json!(100)))],
        "backendRefs": [{ "name": "one", "port": 80, "filters": [
            { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "set": [{ "name": "x-by", "value": "call" }],
            } },
        ] }],
    }]));
    grpc["kind"] = "GRPCRoute".into();
    grpc["metadata"]["name"] = "calls".into();
    scene.apply(&grpc)?;
    eventually("the GRPCRoute's filters", || {
        let answer = scene.client.curl(["-i", "http://10.96.0.20/"])?;
        ensure!(answer.contains("x-by: call"), "{answer}");
        Ok(())
    })?;
    eventually("the copy of a call", || {
        let copies = seen_by_two() - before;
        ensure!(copies > 0, "none");
        Ok(())
    })
}

#[test]
fn another_namespace_grants_and_calls_of_grpc_are_routed() -> Result<()> {
    let scene = Scene::new("kubegrant")?;
    let (cluster, servers) = (&scene.cluster, &scene.servers);
    let kubernetes = &cluster.kubernetes;
    kubernetes.apply(&namespace("other", true))?;
    kubernetes.apply(&service("other", "far", cluster_ip(30), HTTP))?;
    let addresses = [servers[1].pod.ip4.into()];
    kubernetes.apply(&slice(("other", "far"), "far-1", HTTP, &addresses))?;
    let agent = scene.agent()?;
    until_answered_by(&scene.client, "far.other", &["two"], &agent)?;

    let far = json!([{ "name": "far", "namespace": "other", "port": 80 }]);
    scene.apply(&route(json!([{ "backendRefs": far }])))?;
    let of = ("httproutes", "split");
    condition(cluster, of, "ResolvedRefs", ("False", "RefNotPermitted"))?;
    scene.until("", "errors", |answers| answers["500"] == 100)?;
    scene.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": { "name": "shop", "namespace": "other" },
        "spec": {
            "from": [{
                "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": SHOP,
            }],
            "to": [{ "group": "", "kind": "Service" }],
        },
    }))?;
    condition(cluster, of, "ResolvedRefs", ("True", "ResolvedRefs"))?;
    scene.until("", "all at `far`", |answers| answers["two"] == 100)?;

    // A GRPCRoute comes first; what it leaves over is the HTTPRoute's.
    let mut grpc = route(json!([{
        "matches": [{ "method": { "service": "echo-host" } }],
        "backendRefs": backends([("one", 1), ("two", 0)]),
    }]));
    grpc["kind"] = "GRPCRoute".into();
    grpc["metadata"]["name"] = "calls".into();
    scene.apply(&grpc)?;
    let told = eventually("the GRPCRoute to be judged", || {
        let object = kubernetes.get("grpcroutes", SHOP, "calls")?.context("no such object")?;
        let found = object["status"]["parents"][0]["conditions"][0].clone();
        ensure!(found["type"] == "Accepted", "{object}");
        Ok(found)
    })?;
    ensure!(told["status"] == "True", "{told}");
    eventually("the call to be routed to `one`", || {
        let before = servers[0].clients().len();
        scene.client.curl(["http://10.96.0.20/echo-host"])?;
        ensure!(servers[0].clients().len() > before, "`one` got no request");
        Ok(())
    })
}

/// Looked for every 20 s.
#[test]
fn definitions_that_are_installed_later_are_found() -> Result<()> {
    let scene = Scene::new("kubecrds")?;
    let kubernetes = &scene.cluster.kubernetes;
    if !kubernetes.does("take a resource away") {
        return Ok(());
    }
    kubernetes.install("httproutes", false)?;
    let agent = scene.agent()?;
    until_watch_is(&agent, "httproutes", "notInstalled")?;
    scene.until("", "the service's own", |answers| answers["one"] == 100)?;
    kubernetes.install("httproutes", true)?;
    scene.apply(&route(json!([{ "backendRefs": backends([("one", 0), ("two", 1)]) }])))?;
    until_watch_is(&agent, "httproutes", "synced")?;
    scene.until("", "all at `two`", |answers| answers["two"] == 100)
}

#[test]
fn a_wrong_policy_changes_nothing() -> Result<()> {
    let scene = Scene::new("kubepolicy")?;
    let cluster = &scene.cluster;
    let agent = scene.agent()?;
    until_answered_by(&scene.client, "10.96.0.20", &["one"], &agent)?;

    // Taken by the definition's schema, not by the policy's own checks.
    let wrong = || {
        policy(
            "limits",
            json!({
                "targetRefs": [{ "group": "", "kind": "Service", "name": "web" }],
                "failover": { "base": "10m", "max": "1m" },
            }),
        )
    };
    scene.apply(&wrong())?;
    let of = ("meshpolicies", "limits");
    let refused = condition(cluster, of, "Accepted", ("False", "Invalid"))?;
    let message = refused["message"].as_str().unwrap_or_default();
    ensure!(message.contains("spec.failover.base: `10m` is longer"), "{message}");
    condition(cluster, of, "Programmed", ("False", "Invalid"))?;
    scene.until("", "all answered", |answers| answers["one"] == 100)?;

    // A good one limits; another wrong one after it leaves that in force.
    let mut good = policy(
        "limits",
        json!({
            "targetRefs": [{ "name": "web", "sectionName": HTTP }],
            "rateLimit": { "requests": 5, "per": "1h" },
        }),
    );
    scene.apply(&good)?;
    condition(cluster, of, "Accepted", ("True", "Accepted"))?;
    condition(cluster, of, "Programmed", ("True", "Programmed"))?;
    scene.until("", "a limit", |answers| answers["429"] == 100)?;
    scene.apply(&wrong())?;
    let refused = condition(cluster, of, "Accepted", ("False", "Invalid"))?;
    ensure!(
        refused["message"].as_str().is_some_and(|it| it.contains("goes on serving")),
        "{refused}"
    );
    scene.until("", "the limit as before", |answers| answers["429"] == 100)?;

    good["spec"] = json!({ "targetRefs": [{ "name": "nobody" }] });
    scene.apply(&good)?;
    condition(cluster, of, "Accepted", ("False", "TargetNotFound"))?;
    cluster.kubernetes.delete("meshpolicies", SHOP, "limits")?;
    scene.until("", "no limit", |answers| answers["one"] == 100)
}

#[test]
fn a_policy_that_does_not_fit_leaves_the_one_before_in_force() -> Result<()> {
    let scene = Scene::new("kubeunfit")?;
    let cluster = &scene.cluster;
    cluster.service("db", 23, "tcp-db")?;
    cluster.endpoints("db", "tcp-db", [&scene.servers[0].pod])?;
    let agent = scene.agent()?;
    until_answered_by(&scene.client, "10.96.0.23", &["one"], &agent)?;
    // Each on a connection of its own.
    let served = || -> Result<usize> {
        let ask = "for i in $(seq 20); do curl -s -m 2 http://10.96.0.23/ || true; done";
        Ok(scene.client.shell(ask)?.lines().filter(|line| *line == "one").count())
    };
    let limit = |targets: Value| json!({ "targetRefs": targets, "rateLimit": { "requests": 2, "per": "1h" } });
    let mut own = policy("limits", limit(json!([{ "name": "db" }])));
    let of = ("meshpolicies", "limits");
    ensure!(served()? == 20, "limited by nothing");
    scene.apply(&own)?;
    condition(cluster, of, "Programmed", ("True", "Programmed"))?;
    let least = served()?;
    ensure!(least <= 2, "{least} served");

    // It makes sense, but not for a port that doesn't speak HTTP.
    own["spec"]["timeout"] = json!({ "request": "5s" });
    scene.apply(&own)?;
    let refused = condition(cluster, of, "Accepted", ("False", "Invalid"))?;
    let message = refused["message"].as_str().unwrap_or_default();
    for part in ["for Service `db`: spec.timeout.request: ", "generation 1 goes on serving"] {
        ensure!(message.contains(part), "{message}");
    }
    let least = served()?;
    ensure!(least <= 2, "{least} served: the limit is gone");

    // Services to which no request comes: headless, and another one's address.
    let mut headless = service(SHOP, "quiet", cluster_ip(24), HTTP);
    headless["spec"]["clusterIP"] = json!("None");
    headless["spec"]["clusterIPs"] = json!(["None"]);
    scene.apply(&headless)?;
    let mut silent = vec![("quiet", "no route leads to it")];
    if cluster.kubernetes.does("give an address twice") {
        cluster.service("twin", 21, HTTP)?;
        silent.push(("twin", "leaves twin.shop out"));
    }
    for (name, part) in silent {
        scene.apply(&policy(name, limit(json!([{ "name": name }]))))?;
        let of = ("meshpolicies", name);
        condition(cluster, of, "Accepted", ("True", "Accepted"))?;
        let idle = condition(cluster, of, "Programmed", ("False", "NoTraffic"))?;
        ensure!(idle["message"].as_str().is_some_and(|it| it.contains(part)), "{idle}");
    }
    Ok(())
}

#[test]
fn another_agent_takes_the_lease_over() -> Result<()> {
    let cluster = Cluster::new("kubelease")?;
    let other = World::new("kubelease2")?;
    cluster.service("web", 20, HTTP)?;
    let holder = || -> Result<String> {
        let lease = cluster.kubernetes.get("leases", "default", "mesh-agent")?;
        let lease = lease.context("no lease")?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let until_held_by = |node: &str| {
        eventually(&format!("{node} to hold the lease"), || {
            let holder = holder()?;
            ensure!(holder.starts_with(node), "{holder:?} holds it");
            Ok(())
        })
    };
    let mut first = agent(&cluster, &cluster.world, NODE)?;
    until_held_by(NODE)?;
    let mut second = agent(&cluster, &other, "node-2")?;
    let target = json!({ "targetRefs": [{ "name": "web" }] });
    cluster.kubernetes.apply(&policy("a", target.clone()))?;
    condition(&cluster, ("meshpolicies", "a"), "Accepted", ("True", "Accepted"))?;
    ensure!(holder()?.starts_with(NODE), "taken from a living agent");
    // It dies: its time runs out.
    first.kill9()?;
    cluster.kubernetes.apply(&policy("b", target.clone()))?;
    until_held_by("node-2")?;
    let told = condition(&cluster, ("meshpolicies", "b"), "Accepted", ("False", "Conflicted"))?;
    ensure!(told["message"].as_str().is_some_and(|it| it.contains("`a`")), "{told}");
    // It stops: it lets go by itself.
    second.stop()?;
    ensure!(holder()?.is_empty(), "{:?} holds it", holder()?);
    Ok(())
}
