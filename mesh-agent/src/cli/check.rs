//! `mesh-agent check`

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    Verdict,
    output::{Output, Sign, fields, table},
    unit,
};
use crate::{
    config::{self, LoadError},
    model::{Instances, Kubernetes, Port, Protocol, ServiceSpec, Settings},
};

/// Validates a configuration and shows what it would do
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Validates a configuration without touching anything, and shows what would be \
captured and balanced; or every problem at once, each with its place. No agent is \
needed. Exits with 1 on any problem.

Examples:
  mesh-agent check mesh.yaml
  mesh-agent check mesh.yaml -o json | jq -r '.problems[] | \"\\(.line): \\(.message)\"'")]
pub struct Args {
    /// The configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// What a file says.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Checked {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
    cgroups: Vec<PathBuf>,
    exclude: Vec<PathBuf>,
    services: Vec<CheckedPort>,
    /// What only the cluster can say: nothing of it is asked here.
    cluster: Option<CheckedCluster>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckedCluster {
    /// How the API server is reached.
    api: String,
    node: Option<String>,
    /// Which Services become services of the mesh by themselves.
    services: &'static str,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Both count from 1; `None` where it is the whole file.
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// Such as `services[1].ports[0].protocol`.
    pub path: Option<String>,
    pub message: String,
}

impl Problem {
    /// A problem of the whole file, such as that there is none.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { line: None, column: None, path: None, message: message.into() }
    }

    /// `file:line:column: path: message`, which editors and terminals open.
    pub fn in_file(&self, file: &str) -> String {
        let mut text = file.to_owned();
        for place in [self.line, self.column].into_iter().flatten() {
            text += &format!(":{place}");
        }
        if let Some(path) = &self.path {
            text += &format!(": {path}");
        }
        text + ": " + &self.message
    }
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckedPort {
    service: String,
    addresses: Vec<String>,
    hostnames: Vec<String>,
    port: u16,
    protocol: &'static str,
    path: &'static str,
    why: String,
    algorithm: &'static str,
    on_agent_failure: &'static str,
    /// Written down in the file.
    instances: usize,
    /// Where more of them are looked up: `dns web.example.internal`.
    sources: Vec<String>,
    /// Names of the routes that its requests may take.
    routes: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let checked = checked(&args.file, config::load(&args.file).map_err(problems));
    args.output.print(&checked, text)?;
    Ok(if checked.ok { Verdict::Yes } else { Verdict::No })
}

fn problems(error: LoadError) -> Vec<Problem> {
    let problems = match error {
        LoadError::Read { .. } => return vec![Problem::whole(error.to_string())],
        LoadError::Problems(problems) => problems,
    };
    let mut found: Vec<_> = (problems.problems.into_iter())
        .map(|problem| Problem {
            line: Some(problem.line),
            column: Some(problem.column),
            path: Some(problem.path),
            message: problem.message,
        })
        .collect();
    if problems.omitted > 0 {
        found.push(Problem::whole(format!("and {} more problems", problems.omitted)));
    }
    found
}

pub(super) fn checked(file: &Path, loaded: Result<Settings, Vec<Problem>>) -> Checked {
    let file = file.display().to_string();
    match loaded {
        Ok(Settings { capture, services, kubernetes, .. }) => Checked {
            file,
            ok: true,
            problems: Vec::new(),
            cgroups: capture.cgroups,
            exclude: capture.exclude,
            services: services
                .iter()
                .flat_map(|service| service.ports.iter().map(|port| checked_port(service, *port)))
                .collect(),
            cluster: kubernetes.enabled.then(|| checked_cluster(&kubernetes)),
        },
        Err(problems) => Checked {
            file,
            ok: false,
            problems,
            cgroups: Vec::new(),
            exclude: Vec::new(),
            services: Vec::new(),
            cluster: None,
        },
    }
}

fn checked_port(service: &ServiceSpec, port: Port) -> CheckedPort {
    let resolved = service.path.resolve(port.protocol, &service.policy, Instances::Unknown);
    let (path, why) = match resolved {
        Ok((path, why)) => (path.name(), why.into_owned()),
        Err(conflict) => ("none", conflict.to_string()),
    };
    let takes_requests = port.protocol.is_http() || port.protocol == Protocol::Auto;
    let routes = service.routes.iter().filter(|_| takes_requests);
    CheckedPort {
        service: service.name.to_string(),
        addresses: service.addresses.iter().map(ToString::to_string).collect(),
        hostnames: service.hostnames.clone(),
        port: port.port.get(),
        protocol: port.protocol.name(),
        path,
        why,
        algorithm: service.policy.algorithm.name(),
        on_agent_failure: service.on_agent_failure.name(),
        instances: service.static_instances.len(),
        sources: (service.sources.iter())
            .map(|source| format!("{} {}", source.kind(), source.target()))
            .collect(),
        routes: routes.map(|route| route.name.clone()).collect(),
    }
}

fn checked_cluster(kubernetes: &Kubernetes) -> CheckedCluster {
    CheckedCluster {
        api: match &kubernetes.kubeconfig {
            Some(path) => format!("as {} says", path.display()),
            None => "as a pod does, by its ServiceAccount".to_owned(),
        },
        node: (!kubernetes.node.is_empty()).then(|| kubernetes.node.clone()),
        services: kubernetes.services.name(),
    }
}

/// What is seen only once the agent runs.
fn cluster(cluster: &CheckedCluster) -> String {
    let unknown = "unknown: no pod is captured; set kubernetes.node, or NODE_NAME for the agent";
    let services = match cluster.services {
        "all" => "all Services",
        "none" => "only those that services' endpoints.kubernetes name",
        _ => "Services of namespaces with the label mesh.dev/capture: \"true\"",
    };
    let node = cluster.node.clone().unwrap_or_else(|| format!("{} {unknown}", Sign::Warning));
    let lines = [
        ["API server".to_owned(), cluster.api.clone()],
        ["node".to_owned(), node],
        ["services".to_owned(), services.to_owned()],
        [String::new(), "not asked here: `mesh-agent status` shows the watches".to_owned()],
    ];
    format!("\nKUBERNETES\n{}", fields(&lines))
}

pub(super) fn text(checked: &Checked) -> String {
    if !checked.ok {
        let count = unit::of(checked.problems.len(), "problem");
        let mut text = format!("{} invalid: {} has {count}\n", Sign::Bad, checked.file);
        for problem in &checked.problems {
            text += &format!("  {}\n", problem.in_file(&checked.file).replace('\n', "\n  "));
        }
        return text;
    }
    let mut text = format!("{} valid: {}\n\nCAPTURED CGROUPS\n", Sign::Good, checked.file);
    for cgroup in &checked.cgroups {
        text += &format!("{}, children included\n", cgroup.display());
    }
    for exclude in &checked.exclude {
        text += &format!("except {}\n", exclude.display());
    }
    text += &format!("\n{}\n", unit::of(checked.services.len(), "SERVICE PORT").to_uppercase());
    let headers = ["SERVICE", "ADDRESS", "HOSTNAMES", "PORT", "ALGORITHM", "INSTANCES", "PATH"];
    text += &table(headers, checked.services.iter().map(row));
    text += &checked.cluster.as_ref().map(cluster).unwrap_or_default();
    text
}

fn row(port: &CheckedPort) -> [String; 7] {
    let instances = match (port.instances, port.sources.len()) {
        (0, 0) => format!("{} 0", Sign::Warning),
        (some, 0) => some.to_string(),
        (0, sources) => unit::of(sources, "source"),
        (some, sources) => format!("{some} + {}", unit::of(sources, "source")),
    };
    [
        port.service.clone(),
        port.addresses.join(" "),
        port.hostnames.join(" "),
        format!("{}/{}", port.port, port.protocol),
        port.algorithm.to_owned(),
        instances,
        format!("{} ({})", port.path, port.why),
    ]
}
