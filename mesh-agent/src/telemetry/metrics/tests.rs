use std::collections::{HashMap, HashSet};

use super::*;

/// A strict reader of the format: every sample belongs to the family above it,
/// no family and no series comes twice, and the page ends in `# EOF`.
fn parse(text: &str) -> HashMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the page ends in # EOF");
    let (mut families, mut samples) = (HashSet::new(), HashMap::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert!(help.ends_with('.') && !help.ends_with(".."), "{line}");
            family = name.to_owned();
            kind.clear();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            kind = of.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let expected =
                if kind == "counter" { format!("{family}_total") } else { family.clone() };
            let parts = ["_bucket", "_sum", "_count"].map(|part| family.clone() + part);
            match kind.as_str() {
                "histogram" => assert!(parts.iter().any(|part| part == name), "{line}"),
                _ => assert_eq!(name, expected, "{line}"),
            }
            labels(&series[name.len()..]);
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line}");
        }
    }
    samples
}

fn labels(text: &str) {
    if text.is_empty() {
        return;
    }
    let mut rest = text.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{text}");
        let mut escaped = false;
        let end = after
            .find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })
            .unwrap();
        rest = after[end + 1..].trim_start_matches(',');
    }
}

#[test]
fn the_page_is_valid_and_complete() {
    let mut page = Exposition::default();
    page.counter(&REQUESTS, ["reviews", "9080"], 3);
    page.counter(&REQUESTS, ["reviews", "9080"], 4);
    page.counter(&REQUESTS, ["odd \"name\"\\\n{}", "1"], 1);
    page.gauge(&READY, [], 1.0);
    page.gauge(&RESPONSE_TIME, ["reviews", "9080", "10.1.0.5:9080"], 0.25);
    let buckets = vec![(0.5, 3), (1.0, 0), (f64::INFINITY, 2)];
    page.histogram(&RESPONSES, ["reviews", "9080"], Distribution { buckets, sum: 7.5 });
    page.process();
    let samples = parse(&page.text());
    assert_eq!(samples[r#"mesh_requests_total{service="reviews",port="9080"}"#], 7.0);
    assert_eq!(samples[r#"mesh_requests_total{service="odd \"name\"\\\n{}",port="1"}"#], 1.0);
    assert_eq!(samples["mesh_ready"], 1.0);
    assert_eq!(
        samples[concat!(
            "mesh_instance_response_seconds{service=\"reviews\",port=\"9080\",",
            "instance=\"10.1.0.5:9080\"}"
        )],
        0.25
    );
    assert!(samples["mesh_resident_memory_bytes"] > 1e6);
    assert!(samples["mesh_open_descriptors"] >= 3.0);
    for (of, value) in [
        ("bucket{le=\"0.5\",service=\"reviews\",port=\"9080\"}", 3.0),
        ("bucket{le=\"1.0\",service=\"reviews\",port=\"9080\"}", 3.0),
        ("bucket{le=\"+Inf\",service=\"reviews\",port=\"9080\"}", 5.0),
        ("count{service=\"reviews\",port=\"9080\"}", 5.0),
        ("sum{service=\"reviews\",port=\"9080\"}", 7.5),
    ] {
        assert_eq!(samples[&format!("mesh_response_seconds_{of}")], value, "{of}");
    }
    assert_eq!(samples.len(), 11, "nothing that wasn't given: {samples:?}");
}

#[test]
fn an_empty_page_is_valid() {
    assert_eq!(parse(&Exposition::default().text()).len(), 0);
}

#[test]
fn names_follow_the_rules() {
    let mut seen = HashSet::new();
    for metric in ALL {
        assert!(metric.name.starts_with("mesh_"), "{}", metric.name);
        assert!(seen.insert(metric.name), "{} comes twice", metric.name);
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{}",
            metric.name
        );
        let bounded = ["version", "result", "cgroup", "hook", "map", "reason", "service", "port"]
            .into_iter()
            .chain([
                "path",
                "instance",
                "kind",
                "target",
                "tier",
                "resource",
                "namespace",
                "service_account",
            ])
            .collect::<HashSet<_>>();
        assert!(metric.labels.iter().all(|label| bounded.contains(label)), "{metric:?}");
        assert!(!metric.help.trim().ends_with('.'), "{}", metric.help);
    }
}

#[test]
fn the_reference_names_every_metric_once() {
    let page = reference();
    for metric in ALL {
        let row = format!("| `{}` |", metric.name);
        assert_eq!(page.matches(&row).count(), 1, "{row}");
    }
    assert!(page.contains("| `mesh_heartbeat_age_seconds` | gauge | seconds | – | Age of"));
}
