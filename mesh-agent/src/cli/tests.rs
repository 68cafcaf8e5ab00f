use std::{path::Path, sync::Arc};

use super::*;
use crate::{
    admin::{TapEvent, TapLine, sample},
    datapath::{Finding, State},
    model::*,
    tap::{Ended, Event, Kind, Via},
};

/// `text` is exactly `expected`, and fits.
fn check(text: &str, expected: &str) {
    assert_eq!(text, expected, "\n{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= usize::from(output::WIDTH), "{line}");
    }
}

/// As [`check`], against a file in tests/. `MESH_UPDATE_EXPECTED=1` writes it:
/// look at the difference before you commit it.
fn check_file(text: &str, name: &str) {
    let path = format!("{}/src/cli/tests/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("MESH_UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    check(text, &std::fs::read_to_string(&path).unwrap());
}

fn main_of(line: &str) -> anyhow::Result<Verdict> {
    main(line.split(' ').map(OsString::from))
}

#[test]
fn exit_codes() {
    let of = |line: &str| code(&main_of(line));
    assert_eq!(of("mesh-agent --help"), 0);
    assert_eq!(of("mesh-agent version --nonsense"), 2);
    assert_eq!(of("mesh-agent"), 2);
    assert_eq!(of("mesh-agent status -o xml"), 2);
    assert_eq!(of("mesh-agent explain 10.0.0.1"), 1);
    assert_eq!(of("mesh-agent check /nonexistent.yaml"), 1);
    for wrong in [
        "tap --status 6xx",
        "tap --instance 10.1.0.500",
        "tap --min-duration 3",
        "tap --via user",
        "tap --kind none",
        "tap --path api",
        "tap --count 0",
        "top --interval 1ms",
        "top --by name",
    ] {
        assert_eq!(of(&format!("mesh-agent {wrong} --socket /nonexistent/a.sock")), 2, "{wrong}");
    }
    for command in
        ["status", "services", "endpoints", "connections", "reload", "logs", "top", "tap"]
    {
        assert_eq!(of(&format!("mesh-agent {command} --socket /nonexistent/a.sock")), 3);
    }
    assert_eq!(code(&Ok(Verdict::Yes)), 0);
    assert_eq!(code(&Ok(Verdict::No)), 1);
    assert_eq!(code(&Err(anyhow::anyhow!("what went wrong"))), 1);
    let wrapped = main_of("mesh-agent status --socket /nonexistent/a.sock").unwrap_err();
    assert_eq!(code(&Err(wrapped.context("while asking"))), 3);
}

#[test]
fn an_unreachable_agent_is_named_with_a_way_out() {
    let error = main_of("mesh-agent status --socket /nonexistent/a.sock").unwrap_err();
    let error = sentence(&error);
    assert_eq!(error.matches("No such file").count(), 1, "{error}");
    for part in ["/nonexistent/a.sock", "No such file", "mesh-agent run", "--socket"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// What people are told of.
fn visible(root: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    root.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set())
}

#[test]
fn commands_are_well_formed_and_teach() {
    Cli::command().debug_assert();
    let mut root = Cli::command();
    root.build();
    for command in visible(&root) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
        assert!(long.contains("Examples:\n  "), "{}", command.get_name());
    }
}

#[test]
fn the_reference_has_every_command_and_code() {
    let page = reference();
    let mut root = Cli::command();
    root.build();
    for command in visible(&root) {
        let heading = format!("\n## {}\n", command.get_name());
        assert_eq!(page.matches(&heading).count(), 1, "{heading}");
    }
    for (number, _) in exit::CODES {
        assert!(page.contains(&format!("| {number} | ")));
    }
    assert!(page.lines().all(|line| !line.ends_with(' ')));
    assert_eq!(page, reference(), "the same every time");
}

#[test]
fn status_shows_everything() {
    check_file(&status::text(&sample::status()), "status");
}

#[test]
fn listings() {
    check_file(&services::text(&[sample::service()]), "services");
    check_file(&endpoints::text(&[sample::endpoint(), sample::ejected()]), "endpoints");
    check_file(&connections::text(&[sample::connection()]), "connections");
    check_file(&top::sample(), "top");
    check(&services::text(&[]), "No services are configured.\n");
}

#[test]
fn what_goes_by() {
    let event = |event| TapLine::Event(Box::new(event));
    let tapped = sample::tapped();
    let kernel = TapEvent {
        kind: Kind::Connection,
        via: Via::Kernel,
        method: None,
        path: None,
        status: None,
        ended: Some(Ended::Closed),
        why: None,
        attempts: Some(1),
        rtt_us: Some(85),
        ..tapped.clone()
    };
    let begun = TapEvent {
        event: Event::Begun,
        ended: None,
        duration_us: None,
        bytes_sent: None,
        bytes_received: None,
        rtt_us: None,
        attempts: None,
        ..kernel.clone()
    };
    let long = TapEvent { path: Some(format!("/{}", "x".repeat(300))), ..tapped.clone() };
    let lines =
        [event(tapped), event(kernel), event(begun), event(long), TapLine::Lost { lost: 7 }];
    check_file(&lines.map(|line| tap::text(&line, 100)).concat(), "tap");
}

#[test]
fn explanations() {
    check_file(&explain::text(&sample::explanation()), "explain");
}

#[test]
fn outcomes() {
    check(
        &reload::text(&sample::reload()),
        "✓ reloaded: 4 services, generation 8\n! capture.pins takes effect only after a restart\n",
    );
    check(
        &drain::text(&sample::drained()),
        "✓ drained: 10.1.0.5:9080 of reviews, 2 under way on it, 1 picked\n",
    );
}

#[test]
fn findings() {
    let finding = |name: &'static str, state, detail: &str, todo: &str| Finding {
        name,
        state,
        detail: detail.into(),
        todo: todo.into(),
    };
    let found = [
        finding("cgroup v2", State::Ok, "/sys/fs/cgroup", ""),
        finding("bpffs", State::Missing, "none", "mount -t bpf bpf /sys/fs/bpf"),
        finding("pacing", State::Degraded, "no fq", "modprobe sch_fq"),
    ];
    check_file(&preflight::text(&found), "preflight");
}

fn settings() -> Settings {
    let service = ServiceSpec {
        name: ServiceName::new("reviews"),
        addresses: vec!["10.96.0.11".parse().unwrap(), "fd00::11".parse().unwrap()],
        hostnames: vec!["reviews".into()],
        ports: vec![Port { port: 9080.try_into().unwrap(), protocol: Protocol::Http }],
        path: PathChoice::Auto,
        on_agent_failure: OnAgentFailure::Open,
        static_instances: Vec::new(),
        sources: Vec::new(),
        routes: Vec::new(),
        policy: Arc::default(),
    };
    Settings {
        capture: Capture {
            cgroups: vec!["/sys/fs/cgroup/mesh".into()],
            exclude: vec!["/sys/fs/cgroup/mesh/agent".into()],
            ..Capture::default()
        },
        admin: Admin::default(),
        dns: Dns::default(),
        limits: Limits::default(),
        locality: Locality::default(),
        kubernetes: crate::model::Kubernetes::default(),
        services: vec![Arc::new(service)],
    }
}

#[test]
fn a_good_file_is_shown_and_a_bad_one_too() {
    let good = check::checked(Path::new("mesh.yaml"), Ok(settings()));
    check_file(&check::text(&good), "check");
    assert_eq!(
        serde_json::to_string(&good).unwrap(),
        concat!(
            r#"{"file":"mesh.yaml","ok":true,"problems":[],"cgroups":["/sys/fs/cgroup/mesh"],"#,
            r#""exclude":["/sys/fs/cgroup/mesh/agent"],"services":[{"service":"reviews","#,
            r#""addresses":["10.96.0.11","fd00::11"],"hostnames":["reviews"],"port":9080,"#,
            r#""protocol":"http","path":"proxy","why":"auto: balanced per request","#,
            r#""algorithm":"roundRobin","onAgentFailure":"open","instances":0,"sources":[],"routes":[]}],"#,
            r#""cluster":null}"#
        )
    );
    let placed = check::Problem {
        line: Some(3),
        column: Some(5),
        path: Some("services[0].port".into()),
        message: "unknown key".into(),
    };
    let problems = vec![check::Problem::whole("can't be read"), placed];
    let bad = check::checked(Path::new("mesh.yaml"), Err(problems));
    check(
        &check::text(&bad),
        "✗ invalid: mesh.yaml has 2 problems\n  mesh.yaml: can't be read\n  \
         mesh.yaml:3:5: services[0].port: unknown key\n",
    );
    let json = serde_json::to_value(&bad).unwrap();
    assert_eq!(
        json["problems"][1].to_string(),
        r#"{"line":3,"column":5,"path":"services[0].port","message":"unknown key"}"#
    );
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = serde_saphyr::to_string(&sample::endpoint()).unwrap();
    assert!(
        yaml.contains("responseTimeUs: 1234\n") && yaml.contains("state: available\n"),
        "{yaml}"
    );
    let version = serde_json::to_value(&version::THIS).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["abi"].is_u64());
}
