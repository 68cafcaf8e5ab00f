//! The manifests say what Kubernetes' types say, and the chart says the same.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::{ConfigMap, Namespace, Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use mesh_tests::{World, agent_binary, server::kubernetes::Kubernetes, text};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// All documents of a file.
fn documents(text: &str) -> Result<Vec<Value>> {
    let documents = text.split("\n---\n").filter(|document| !document.trim().is_empty());
    documents.map(|document| Ok(serde_saphyr::from_str(document)?)).collect()
}

/// Programs write 1 as `1` and as `1.0`.
fn same_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64() {
                *value = float.into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(same_numbers),
        Value::Object(object) => object.values_mut().for_each(same_numbers),
        _ => {}
    }
}

/// What a kustomization names, and what that names.
fn kustomized(folder: &Path) -> Result<Vec<Value>> {
    let kustomization: Value =
        serde_saphyr::from_str(&fs::read_to_string(folder.join("kustomization.yaml"))?)?;
    let mut all = Vec::new();
    for name in kustomization["resources"].as_array().context("resources")? {
        let path = folder.join(name.as_str().context("a name")?);
        if path.is_dir() {
            all.extend(kustomized(&path)?);
        } else {
            let text = fs::read_to_string(&path)?;
            all.extend(documents(&text).with_context(|| path.display().to_string())?);
        }
    }
    Ok(all)
}

/// Reads it as its type and writes it again: a key that the type doesn't know is
/// lost on the way.
fn check(object: &Value) -> Result<()> {
    fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value> {
        Ok(serde_json::to_value(serde_json::from_value::<T>(object.clone())?)?)
    }
    let kind = object["kind"].as_str().context("no kind")?;
    let known = match kind {
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "ConfigMap" => through::<ConfigMap>(object),
        "CustomResourceDefinition" => through::<CustomResourceDefinition>(object),
        "DaemonSet" => through::<DaemonSet>(object),
        "Deployment" => through::<Deployment>(object),
        "Namespace" => through::<Namespace>(object),
        "Role" => through::<Role>(object),
        "RoleBinding" => through::<RoleBinding>(object),
        "Service" => through::<Service>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        other => bail!("nothing is known of the kind {other}"),
    };
    let name = format!("{kind} {}", object["metadata"]["name"]);
    let mut lost = Vec::new();
    compare(object, &known.with_context(|| name.clone())?, "", &mut lost);
    ensure!(lost.is_empty(), "{name}: no such keys, or other values: {lost:?}");
    Ok(())
}

fn compare(written: &Value, known: &Value, place: &str, lost: &mut Vec<String>) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (key, value) in written {
                let place = format!("{place}.{key}");
                match known.get(key) {
                    Some(known) => compare(value, known, &place, lost),
                    // An empty list is the same as none.
                    None if value.as_array().is_some_and(Vec::is_empty) => {}
                    None => lost.push(place),
                }
            }
        }
        (Value::Array(written), Value::Array(known)) if written.len() == known.len() => {
            for (index, (value, known)) in written.iter().zip(known).enumerate() {
                compare(value, known, &format!("{place}[{index}]"), lost);
            }
        }
        (Value::Number(written), Value::Number(known)) if written.as_f64() == known.as_f64() => {}
        (written, known) if written == known => {}
        _ => lost.push(place.to_owned()),
    }
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind).with_context(|| format!("no {kind}"))
}

#[test]
fn manifests_have_no_key_that_kubernetes_does_not_know() -> Result<()> {
    for folder in ["kubernetes", "bookinfo/kubernetes"] {
        for object in kustomized(&deploy().join(folder))? {
            check(&object)?;
        }
    }
    let mut misspelt = of_kind(&kustomized(&deploy().join("kubernetes"))?, "DaemonSet")?.clone();
    misspelt["spec"]["template"]["spec"]["hostPid"] = true.into();
    let error = check(&misspelt).expect_err("hostPid is no key").to_string();
    assert!(error.contains(".spec.template.spec.hostPid"), "{error}");
    Ok(())
}

/// What no kustomization names: it is applied by hand.
#[test]
fn examples_fit_what_they_are_applied_to() -> Result<()> {
    let read = |path: &str| -> Result<Value> {
        let text = fs::read_to_string(deploy().join(path)).with_context(|| path.to_owned())?;
        let mut all = documents(&text)?;
        ensure!(all.len() == 1, "{path}: {} documents", all.len());
        Ok(all.remove(0))
    };
    let installed = kustomized(&deploy().join("kubernetes"))?;
    let agent = &of_kind(&installed, "DaemonSet")?["spec"]["template"];
    let containers = |template: &Value, kind: &str| -> Vec<Value> {
        template["spec"][kind].as_array().cloned().unwrap_or_default()
    };

    let uninstall = read("kubernetes/examples/uninstall.yaml")?;
    check(&uninstall)?;
    let own = &containers(agent, "containers")[0];
    let remover = &containers(&uninstall["spec"]["template"], "initContainers")[0];
    assert_eq!(remover["image"], own["image"]);
    let stays = &containers(&uninstall["spec"]["template"], "containers")[0];
    assert_eq!(stays["image"], own["image"], "no other image has to be on the nodes");
    let paths = |container: &Value| -> BTreeSet<String> {
        let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        mounts.iter().map(|mount| mount["mountPath"].to_string()).collect()
    };
    assert!(paths(remover).is_subset(&paths(own)), "{remover}");

    let monitor = read("kubernetes/examples/pod-monitor.yaml")?;
    let (name, labels) = ("app.kubernetes.io/name", &agent["metadata"]["labels"]);
    assert_eq!(monitor["spec"]["selector"]["matchLabels"][name], labels[name]);
    let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
    let ports = own["ports"].as_array().context("ports")?;
    assert!(ports.iter().any(|one| one["name"] == *port), "no port {port}");

    let sample = kustomized(&deploy().join("bookinfo/kubernetes"))?;
    let has = |reference: &Value| {
        sample.iter().any(|object| {
            object["kind"] == "Service" && object["metadata"]["name"] == reference["name"]
        })
    };
    for name in ["route-v1", "route-shift", "route-v3"] {
        let route = read(&format!("bookinfo/kubernetes/{name}.yaml"))?;
        assert_eq!(route["kind"], "HTTPRoute");
        let parents = route["spec"]["parentRefs"].as_array().context("parentRefs")?;
        let rules = route["spec"]["rules"].as_array().context("rules")?;
        let backends = rules.iter().filter_map(|rule| rule["backendRefs"].as_array()).flatten();
        for reference in parents.iter().chain(backends) {
            assert!(has(reference), "{name}: no Service {}", reference["name"]);
        }
    }
    Ok(())
}

#[test]
fn the_rights_are_what_the_agent_asks_for() -> Result<()> {
    let objects = kustomized(&deploy().join("kubernetes"))?;
    let mut rights = BTreeSet::new();
    for kind in ["ClusterRole", "Role"] {
        for rule in of_kind(&objects, kind)?["rules"].as_array().context("rules")? {
            let list = |key: &str| rule[key].as_array().cloned().unwrap_or_default();
            let words = |key: &str| {
                let words: Vec<_> =
                    list(key).iter().map(|word| word.as_str().unwrap_or("*").to_owned()).collect();
                words.join(" ")
            };
            for resource in list("resources") {
                let resource = resource.as_str().unwrap_or("*");
                rights.insert(format!(
                    "{kind} {resource} {}: {}",
                    words("resourceNames"),
                    words("verbs")
                ));
            }
        }
    }
    let expected = [
        "ClusterRole endpointslices : list watch",
        "ClusterRole events : create",
        "ClusterRole grpcroutes : list watch",
        "ClusterRole grpcroutes/status : patch",
        "ClusterRole httproutes : list watch",
        "ClusterRole httproutes/status : patch",
        "ClusterRole meshpolicies : list watch",
        "ClusterRole meshpolicies/status : patch",
        "ClusterRole namespaces : list watch",
        "ClusterRole nodes : list watch",
        "ClusterRole pods : list watch",
        "ClusterRole referencegrants : list watch",
        "ClusterRole services : list watch",
        "Role leases : create",
        "Role leases mesh-agent: get update",
    ];
    assert_eq!(rights.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    Ok(())
}

#[test]
fn the_agent_takes_its_file_and_the_crd_is_the_agents() -> Result<()> {
    let objects = kustomized(&deploy().join("kubernetes"))?;
    let file = of_kind(&objects, "ConfigMap")?["data"]["mesh.yaml"].as_str().context("no file")?;
    let path = std::env::temp_dir().join(format!("mesh-manifest-{}.yaml", std::process::id()));
    fs::write(&path, file)?;
    let mut command = Command::new(agent_binary()?);
    command.arg("check").arg(&path);
    let checked = text(command);
    fs::remove_file(&path)?;
    checked?;

    let mut command = Command::new(agent_binary()?);
    command.args(["schema", "--crd"]);
    let printed: Value = serde_saphyr::from_str(&text(command)?)?;
    let crd = of_kind(&objects, "CustomResourceDefinition")?;
    assert!(
        *crd == printed,
        "deploy/kubernetes/base/meshpolicies.yaml is not what `mesh-agent schema --crd` prints"
    );
    Ok(())
}

/// Renders what this chart uses of Helm's language: a value, or a value as an
/// indented block.
fn render(template: &str, values: &Value) -> Result<String> {
    let mut rendered = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}").context("an open {{")?;
        let mut parts = expression.trim_matches(['-', ' ']).split('|').map(str::trim);
        let path = parts.next().and_then(|part| part.strip_prefix(".Values."));
        let value = path.context("not a value")?.split('.').fold(values, |at, key| &at[key]);
        let value = value.as_str().with_context(|| format!("no text for {expression}"))?;
        rendered += before;
        match parts.next().map(|part| part.split_once(' ')) {
            None => rendered += value,
            Some(Some(("nindent", count))) => {
                for line in value.trim_end().lines() {
                    let blank = " ".repeat(count.parse()?);
                    rendered += &format!("\n{blank}{line}");
                }
            }
            Some(_) => bail!("the tests' renderer doesn't know {expression}"),
        }
        rest = after;
    }
    Ok(rendered + rest)
}

#[test]
fn the_chart_says_what_the_kustomization_says() -> Result<()> {
    let chart = deploy().join("kubernetes/chart");
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(chart.join("values.yaml"))?)?;
    let mut rendered = Vec::new();
    for folder in ["crds", "templates"] {
        for entry in fs::read_dir(chart.join(folder))? {
            let path = entry?.path();
            let text = render(&fs::read_to_string(&path)?, &values)?;
            rendered.extend(documents(&text).with_context(|| path.display().to_string())?);
        }
    }
    let mut expected = kustomized(&deploy().join("kubernetes"))?;
    let key = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    rendered.sort_by_key(key);
    expected.sort_by_key(key);
    let (have, want): (Vec<_>, Vec<_>) =
        (rendered.iter().map(key).collect(), expected.iter().map(key).collect());
    assert_eq!(have, want);
    for (rendered, expected) in rendered.iter().zip(&expected) {
        assert_eq!(rendered, expected);
    }
    Ok(())
}

#[test]
fn kubectl_builds_what_the_kustomizations_name() -> Result<()> {
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        println!("skipped: kubectl isn't installed, so nothing says that kustomize takes these");
        return Ok(());
    }
    for folder in ["kubernetes", "bookinfo/kubernetes"] {
        let folder = deploy().join(folder);
        let mut command = Command::new("kubectl");
        command.arg("kustomize").arg(&folder);
        let mut built = documents(&text(command)?)?;
        let mut read = kustomized(&folder)?;
        built.iter_mut().chain(&mut read).for_each(same_numbers);
        let missing: Vec<_> = (read.iter())
            .filter(|object| !built.contains(object))
            .map(|object| (&object["kind"], &object["metadata"]["name"]))
            .collect();
        assert!(missing.is_empty() && built.len() == read.len(), "{missing:?}");
    }
    Ok(())
}

/// It knows rules that no type says: which patterns are regular expressions to
/// it, which schemas are structural, which names are names.
#[test]
fn a_real_api_server_takes_them() -> Result<()> {
    let world = World::new("manifests")?;
    let server = Kubernetes::start(&world)?;
    if server.is_small() {
        println!("skipped: only a real API server can refuse these");
        return Ok(());
    }
    let kubeconfig = server.admin_kubeconfig()?;
    for line in [
        // Forced: the tests' own definitions of some resources are there already.
        "--server-side --force-conflicts -k kubernetes",
        "-f kubernetes/examples/uninstall.yaml",
        "-k bookinfo/kubernetes",
        "-f bookinfo/kubernetes/route-shift.yaml",
    ] {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&kubeconfig).current_dir(deploy());
        command.arg("apply").args(line.split_whitespace());
        println!("{}", text(command)?);
    }
    Ok(())
}
