//! Routes in clusters of tests.

use serde_json::{Value, json};

use super::{super::Watched as _, *};
use crate::{
    kubernetes::policy::World,
    model::{RouteBackend, ServiceSpec},
    route::Routes,
};

#[expect(clippy::needless_pass_by_value, reason = "calls read as the JSON they make")]
fn rule(backends: Value) -> Value {
    json!({ "backendRefs": backends })
}

#[expect(clippy::needless_pass_by_value, reason = "calls read as the JSON they make")]
fn route(parent: Value, rules: Value) -> Value {
    let mut parent = parent;
    parent["kind"] = "Service".into();
    parent["group"] = "".into();
    json!({ "parentRefs": [{ "name": "gateway" }, parent], "rules": rules })
}

fn only(outcome: &Outcome) -> &Parent {
    match outcome {
        Outcome::Route(parents) => match parents.as_slice() {
            [parent] => parent,
            other => panic!("{} parents", other.len()),
        },
        Outcome::Policy(_) => panic!("a policy"),
    }
}

#[track_caller]
fn rules_so(ruling: &Ruling, holds: bool, reason: &str, part: &str) {
    assert_eq!((ruling.holds, ruling.reason), (holds, reason), "{ruling:?}");
    assert!(ruling.message.contains(part), "{part:?} in {:?}", ruling.message);
}

/// The route that a request takes.
fn taken(spec: &ServiceSpec, uri: &str) -> String {
    let head = http::Request::get(uri).body(()).unwrap().into_parts().0;
    let routes = Routes::new(&spec.routes);
    routes.find(&head).map_or_else(String::new, |route| route.name.clone())
}

#[test]
fn ninety_to_ten() {
    let mut world = World::new(&["reviews.x", "v1.x", "v3.x"]);
    let backends = json!([
        { "name": "v1", "port": 80, "weight": 90 }, { "name": "v3", "port": 80, "weight": 10 },
    ]);
    world.object(
        Kind::HttpRoute,
        "split.x",
        route(json!({ "name": "reviews" }), json!([rule(backends)])),
    );
    let (specs, verdicts) = world.attach();
    let parent = only(&verdicts["split.x"]);
    rules_so(&parent.accepted, true, "Accepted", "");
    rules_so(&parent.resolved_refs, true, "ResolvedRefs", "");
    assert_eq!(parent.reference["name"], "reviews");
    let [split, rest] = specs["reviews.x"].routes.as_slice() else { panic!("{specs:?}") };
    let share =
        |backend: &RouteBackend| (backend.service.clone().unwrap().to_string(), backend.weight);
    let shares: Vec<_> = split.backends.iter().map(share).collect();
    assert_eq!(shares, [("v1.x".to_owned(), 90), ("v3.x".to_owned(), 10)]);
    // Of the port that speaks HTTP, not of the other.
    assert_eq!((&split.ports, &rest.ports), (&vec![NonZeroU16::new(80).unwrap()], &split.ports));
    assert_eq!(rest.filters, [Filter::NotFound]);
    assert!(specs["v1.x"].routes.is_empty());
}

#[test]
fn rules_of_several_routes_are_one_order() {
    let mut world = World::new(&["a.x", "b.x"]);
    let with_path = |path: &str| json!([{ "matches": [{ "path": { "value": path } }], "backendRefs": [{ "name": "b", "port": 80 }] }]);
    world.object(Kind::HttpRoute, "z.x", route(json!({ "name": "a" }), with_path("/long")));
    world.object(Kind::HttpRoute, "y.x", route(json!({ "name": "a" }), with_path("/long/er")));
    world.object(Kind::HttpRoute, "w.x", route(json!({ "name": "a" }), with_path("/long")));
    let (specs, _) = world.attach();
    let a = &specs["a.x"];
    assert_eq!(taken(a, "/long/er/x"), "x/y rule 0");
    // Alike: the older one.
    assert_eq!(taken(a, "/long/x"), "x/z rule 0");
    assert_eq!(taken(a, "/other"), "no route");
}

#[test]
fn backends_that_cannot_be_resolved() {
    let mut world = World::new(&["a.x", "b.x", "b.y", "b.z"]);
    world.service("alien.x", false);
    world.grants.push(Arc::new(
        ReferenceGrant::read(
            serde_json::from_value(json!({
                "metadata": { "name": "g", "namespace": "z" },
                "spec": {
                    "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "x" }],
                    "to": [{ "group": "", "kind": "Service", "name": "b" }],
                },
            }))
            .unwrap(),
        )
        .unwrap(),
    ));
    for (backend, reason, part) in [
        (json!({ "name": "nobody", "port": 80 }), "BackendNotFound", "no such Service"),
        (json!({ "name": "b", "port": 81 }), "BackendNotFound", "no TCP port 81"),
        (json!({ "name": "b" }), "BackendNotFound", "needs a `port`"),
        (json!({ "name": "alien", "port": 80 }), "BackendNotFound", "captured"),
        (json!({ "name": "b", "port": 5432 }), "UnsupportedProtocol", "doesn't speak HTTP"),
        (json!({ "name": "b", "kind": "Pod", "port": 80 }), "InvalidKind", "`Pod`"),
        (json!({ "name": "b", "namespace": "y", "port": 80 }), "RefNotPermitted", "ReferenceGrant"),
        (json!({ "name": "b", "namespace": "z", "port": 80 }), "ResolvedRefs", ""),
    ] {
        world.objects.clear();
        let good = json!({ "name": "b", "port": 80, "weight": 3 });
        let spec = route(json!({ "name": "a" }), json!([rule(json!([good, backend]))]));
        world.object(Kind::HttpRoute, "r.x", spec);
        let (specs, verdicts) = world.attach();
        let parent = only(&verdicts["r.x"]);
        rules_so(&parent.accepted, true, "Accepted", "");
        rules_so(&parent.resolved_refs, reason == "ResolvedRefs", reason, part);
        let backends = &specs["a.x"].routes[0].backends;
        let unresolved: Vec<_> = backends.iter().map(|one| (one.unresolved, one.weight)).collect();
        assert_eq!(unresolved, [(false, 3), (reason != "ResolvedRefs", 1)], "{backend}");
    }
    // None at all, or none with a weight: an error for all.
    for backends in [json!([]), json!([{ "name": "b", "port": 80, "weight": 0 }])] {
        world.objects.clear();
        let spec = route(json!({ "name": "a" }), json!([rule(backends)]));
        world.object(Kind::HttpRoute, "r.x", spec);
        let (specs, _) = world.attach();
        let backends = &specs["a.x"].routes[0].backends;
        assert!(backends.iter().all(|one| one.unresolved || one.weight == 0), "{backends:?}");
        assert!(backends.iter().any(|one| one.weight > 0));
    }
}

/// Those that can't be resolved are left out, and all else holds.
#[test]
fn mirrors_and_filters_of_backends() {
    let mut world = World::new(&["a.x", "b.x", "c.x", "b.y"]);
    let mirror = |backend: Value, share: Value| {
        let mut mirror = json!({ "backendRef": backend });
        mirror.as_object_mut().unwrap().extend(share.as_object().unwrap().clone());
        json!({ "type": "RequestMirror", "requestMirror": mirror })
    };
    let set = |name: &str| {
        json!({ "type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{ "name": name, "value": "1" }],
        } })
    };
    let to = |name: &str| json!({ "name": name, "port": 80 });
    let rules = json!([{
        "filters": [
            mirror(to("b"), json!({})),
            mirror(to("nobody"), json!({})),
            mirror(json!({ "name": "b", "namespace": "y", "port": 80 }), json!({})),
            mirror(to("c"), json!({ "fraction": { "numerator": 1, "denominator": 1000 } })),
        ],
        "backendRefs": [
            to("b"),
            { "name": "c", "port": 80, "filters": [set("x-c"), mirror(to("b"), json!({ "percent": 10 }))] },
        ],
    }]);
    world.object(Kind::HttpRoute, "r.x", route(json!({ "name": "a" }), rules));
    let (specs, verdicts) = world.attach();
    let parent = only(&verdicts["r.x"]);
    rules_so(&parent.accepted, true, "Accepted", "");
    rules_so(&parent.resolved_refs, false, "BackendNotFound", "nobody");
    assert!(parent.resolved_refs.message.contains("ReferenceGrant"), "{parent:?}");
    let made = &specs["a.x"].routes[0];
    let mirrors = |filters: &[Filter]| -> Vec<(String, u32, u32)> {
        let one = |filter: &Filter| match filter {
            Filter::Mirror(to) => Some((
                to.service.as_ref().unwrap().to_string(),
                to.share.numerator,
                to.share.denominator,
            )),
            _ => None,
        };
        filters.iter().filter_map(one).collect()
    };
    assert_eq!(mirrors(&made.filters), [("b.x".into(), 1, 1), ("c.x".into(), 1, 1000)]);
    let [plain, changed] = made.backends.as_slice() else { panic!("{made:?}") };
    assert!(plain.filters.is_empty() && !plain.unresolved);
    assert_eq!(changed.filters.len(), 2);
    assert_eq!(mirrors(&changed.filters), [("b.x".into(), 10, 100)]);
}

#[test]
fn parents_that_cannot_be_had() {
    let mut world = World::new(&["a.x", "a.y"]);
    world.service("alien.x", false);
    for (parent, reason, part) in [
        (json!({ "name": "nobody" }), "NoMatchingParent", "isn't there"),
        (json!({ "name": "alien" }), "NoMatchingParent", "captured"),
        (json!({ "name": "a", "port": 81 }), "NoMatchingParent", "no such port"),
        (json!({ "name": "a", "sectionName": "grpc" }), "NoMatchingParent", "no such port"),
        (json!({ "name": "a", "sectionName": "db" }), "NoMatchingParent", "another protocol"),
        (json!({ "name": "a", "namespace": "y" }), "NotAllowedByListeners", "consumer routes"),
        (json!({ "name": "a", "port": 80, "sectionName": "http" }), "Accepted", ""),
    ] {
        world.objects.clear();
        world.object(Kind::HttpRoute, "r.x", route(parent, json!([rule(json!([]))])));
        let (specs, verdicts) = world.attach();
        let accepted = &only(&verdicts["r.x"]).accepted;
        rules_so(accepted, reason == "Accepted", reason, part);
        assert_eq!(specs["a.x"].routes.is_empty(), reason != "Accepted");
        assert!(specs["a.y"].routes.is_empty());
    }
    // Another controller's parents only: nothing to say.
    world.objects.clear();
    world.object(Kind::HttpRoute, "r.x", json!({ "parentRefs": [{ "name": "gateway" }] }));
    assert_eq!(world.attach().1["r.x"], Outcome::Route(Vec::new()));
}

#[test]
fn grpc_comes_before_http() {
    let mut world = World::new(&["a.x", "b.x"]);
    let to_b = json!([rule(json!([{ "name": "b", "port": 80 }]))]);
    world.object(Kind::HttpRoute, "http.x", route(json!({ "name": "a" }), to_b.clone()));
    world.object(Kind::GrpcRoute, "grpc.x", route(json!({ "name": "a" }), to_b));
    let (specs, verdicts) = world.attach();
    rules_so(&only(&verdicts["grpc.x"]).accepted, true, "Accepted", "");
    rules_so(&only(&verdicts["http.x"]).accepted, false, "Conflicted", "GRPCRoute");
    assert_eq!(specs["a.x"].routes.len(), 2);
}

#[test]
fn a_wrong_route_changes_nothing() {
    let mut world = World::new(&["a.x", "b.x"]);
    let wrong = || route(json!({ "name": "a" }), json!([{ "filters": [{ "type": "CORS" }] }]));
    world.object(Kind::HttpRoute, "r.x", wrong());
    let (specs, verdicts) = world.attach();
    let accepted = &only(&verdicts["r.x"]).accepted;
    rules_so(accepted, false, "UnsupportedValue", "spec.rules[0]: filters[0]: `CORS`");
    assert!(specs["a.x"].routes.is_empty());
    let good = route(json!({ "name": "a" }), json!([rule(json!([{ "name": "b", "port": 80 }]))]));
    world.change("r.x", good);
    assert_eq!(world.attach().0["a.x"].routes.len(), 2);
    world.change("r.x", wrong());
    let (specs, verdicts) = world.attach();
    assert_eq!(specs["a.x"].routes.len(), 2);
    let accepted = &only(&verdicts["r.x"]).accepted;
    rules_so(accepted, false, "UnsupportedValue", "generation 2 goes on serving");
}

#[test]
fn attempts_go_by_the_policy_under_the_route() {
    let mut world = World::new(&["a.x", "b.x"]);
    world.policy("own.x", &["a"], json!({ "retry": { "attempts": 5 } }));
    let rules = json!([{ "timeouts": { "backendRequest": "1s" }, "backendRefs": [{ "name": "b", "port": 80 }] }]);
    world.object(Kind::HttpRoute, "r.x", route(json!({ "name": "a" }), rules));
    let (specs, _) = world.attach();
    let retry = specs["a.x"].routes[0].retry.as_ref().unwrap();
    assert_eq!(retry.attempts, Some(5));
    assert_eq!(retry.per_try_timeout.unwrap().as_secs(), 1);
}

#[test]
fn a_broken_route_keeps_no_other_from_its_port() {
    let mut world = World::new(&["a.x", "b.x"]);
    let wrong = json!([{ "filters": [{ "type": "ExtensionRef" }] }]);
    world.object(Kind::GrpcRoute, "grpc.x", route(json!({ "name": "a", "port": 80 }), wrong));
    let to_b = json!([rule(json!([{ "name": "b", "port": 80 }]))]);
    world.object(Kind::HttpRoute, "http.x", route(json!({ "name": "a" }), to_b));
    let (specs, verdicts) = world.attach();
    let broken = only(&verdicts["grpc.x"]);
    rules_so(&broken.accepted, false, "UnsupportedValue", "ExtensionRef");
    rules_so(&broken.resolved_refs, false, "Pending", "can't be read");
    rules_so(&only(&verdicts["http.x"]).accepted, true, "Accepted", "");
    assert_eq!(taken(&specs["a.x"], "/"), "x/http rule 0");
}

#[test]
fn a_route_without_rules_answers_for_its_own_port_only() {
    let mut world = World::new(&["a.x"]);
    world.object(Kind::GrpcRoute, "r.x", route(json!({ "name": "a", "port": 80 }), json!([])));
    let (specs, verdicts) = world.attach();
    rules_so(&only(&verdicts["r.x"]).accepted, true, "Accepted", "");
    let [rest] = specs["a.x"].routes.as_slice() else { panic!("{specs:?}") };
    assert_eq!(rest.filters, [Filter::NotFound]);
    assert_eq!(rest.ports, [NonZeroU16::new(80).unwrap()]);
}

#[test]
fn a_call_goes_by_its_service_before_its_method() {
    let mut world = World::new(&["a.x", "b.x"]);
    let to_b = |method: Value| json!({ "matches": [{ "method": method }], "backendRefs": [{ "name": "b", "port": 80 }] });
    let rules = json!([
        {},
        to_b(json!({ "method": "Get" })),
        to_b(json!({ "service": "shop.Reviews" })),
        to_b(json!({ "service": "shop.Reviews", "method": "Put" })),
    ]);
    world.object(Kind::GrpcRoute, "r.x", route(json!({ "name": "a" }), rules));
    let (specs, _) = world.attach();
    for (call, rule) in [
        ("/shop.Reviews/Get", 2),
        ("/shop.Reviews/Put", 3),
        ("/shop.Carts/Get", 1),
        ("/shop.Carts/Put", 0),
        ("//Get", 0),
        ("/a/b/Get", 0),
    ] {
        assert_eq!(taken(&specs["a.x"], call), format!("x/r rule {rule}"), "{call}");
    }
}

#[test]
fn backends_are_looked_for_whatever_the_parent() {
    let mut world = World::new(&["a.x"]);
    let rules = json!([rule(json!([{ "name": "nobody", "port": 80 }]))]);
    world.object(Kind::HttpRoute, "r.x", route(json!({ "name": "neither" }), rules));
    let parent = only(&world.attach().1["r.x"]).clone();
    rules_so(&parent.accepted, false, "NoMatchingParent", "isn't there");
    rules_so(&parent.resolved_refs, false, "BackendNotFound", "no such Service");
}
