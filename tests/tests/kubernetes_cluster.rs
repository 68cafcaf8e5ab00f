//! The walk through Bookinfo (deploy/bookinfo/kubernetes/README.md) on a cluster
//! of yours, whose kubeconfig `MESH_TESTS_CLUSTER` names: any version, any size,
//! with Gateway API's CRDs, and with the images of `cargo xtask image` and
//! `cargo xtask image --bookinfo` on its nodes. All that it installs is removed.
//! Where the variable isn't set, nothing of this is seen.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{eventually_for, text};
use serde_json::Value;

const CLUSTER: &str = "MESH_TESTS_CLUSTER";
const MINUTES: Duration = Duration::from_secs(180);
const BOOKINFO: &str = "bookinfo";

/// The cluster, and what was installed there.
struct Cluster {
    kubeconfig: PathBuf,
}

impl Cluster {
    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        command
    }

    /// What `kubectl` prints: words apart by blanks.
    fn kubectl(&self, line: &str) -> Result<String> {
        text(self.command(line.split_whitespace()))
    }

    fn agent(&self, line: &str) -> Result<String> {
        self.kubectl(&format!("-n mesh-system exec ds/mesh-agent -- mesh-agent {line}"))
    }

    fn rolled_out(&self, namespace: &str, what: &str) -> Result<String> {
        self.kubectl(&format!("-n {namespace} rollout status {what} --timeout=180s"))
    }

    fn install(kubeconfig: PathBuf) -> Result<Self> {
        let cluster = Self { kubeconfig };
        cluster.kubectl("apply --server-side -k deploy/kubernetes")?;
        cluster.rolled_out("mesh-system", "daemonset/mesh-agent")?;
        cluster.kubectl("apply -k deploy/bookinfo/kubernetes")?;
        for name in ["details-v1", "productpage-v1", "ratings-v1", "reviews-v1", "reviews-v3"] {
            cluster.rolled_out(BOOKINFO, &format!("deployment/{name}"))?;
        }
        Ok(cluster)
    }

    /// As the README has it; what isn't there is no error.
    fn remove(&self) -> Result<()> {
        self.kubectl("delete --ignore-not-found -k deploy/bookinfo/kubernetes")?;
        self.kubectl("-n mesh-system delete --ignore-not-found daemonset mesh-agent")?;
        self.kubectl("apply -f deploy/kubernetes/examples/uninstall.yaml")?;
        self.rolled_out("mesh-system", "daemonset/mesh-agent-uninstall")?;
        let said = self
            .kubectl("-n mesh-system logs daemonset/mesh-agent-uninstall --container uninstall")?;
        ensure!(said.contains("uninstalled"), "{said}");
        self.kubectl("delete -f deploy/kubernetes/examples/uninstall.yaml")?;
        self.kubectl("delete --ignore-not-found -k deploy/kubernetes").map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After a test that went well there is nothing left to remove.
        let _ = self.kubectl("delete --ignore-not-found -k deploy/bookinfo/kubernetes");
        let _ = self.kubectl("delete --ignore-not-found -k deploy/kubernetes");
    }
}

/// `kubectl port-forward` to the page, which asks the other services through the
/// mesh: for details, reviews, and those for ratings.
struct Page {
    forward: Child,
    url: String,
}

impl Page {
    fn open(cluster: &Cluster) -> Result<Self> {
        let line = "-n bookinfo port-forward deployment/productpage-v1 :9080";
        let mut command = cluster.command(line.split_whitespace());
        let mut forward = command.stdout(Stdio::piped()).spawn()?;
        let output = forward.stdout.take().context("it is piped")?;
        // "Forwarding from 127.0.0.1:34567 -> 9080"
        let mut lines = BufReader::new(output).lines();
        let line = lines.next().context("port-forward ended")??;
        // It says more of each connection, and ends where nobody reads it.
        thread::spawn(move || lines.for_each(drop));
        let address = line.split_whitespace().nth(2).context(line.clone())?;
        Ok(Self { url: format!("http://{address}/productpage"), forward })
    }

    /// Who served the reviews; an error where anything failed on the way.
    fn reviewer(url: &str) -> Result<String> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "5", url]);
        let page = text(command)?;
        let served = page.split("Reviews served by: ").nth(1).context("no reviews")?;
        Ok(served.split(',').next().unwrap_or_default().to_owned())
    }

    /// The versions that serve a number of pages.
    fn versions(&self, pages: usize) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        for _ in 0..pages {
            let pod = Self::reviewer(&self.url)?;
            versions.push(pod.split('-').nth(1).unwrap_or_default().to_owned());
        }
        versions.sort_unstable();
        versions.dedup();
        Ok(versions)
    }

    /// Asks until it is stopped.
    fn load(&self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, stopped) = (self.url.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut pages = 0;
            while !stopped.load(Ordering::Relaxed) {
                Self::reviewer(&url).with_context(|| format!("after {pages} pages"))?;
                pages += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(pages)
        });
        Load { stop, thread }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.forward.kill();
        let _ = self.forward.wait();
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32>>,
}

impl Load {
    /// How many pages were served; an error where one wasn't.
    fn end(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it doesn't panic")
    }
}

fn routed(cluster: &Cluster, page: &Page, file: &str, versions: &[&str]) -> Result<()> {
    cluster.kubectl(&format!("apply -f deploy/bookinfo/kubernetes/{file}.yaml"))?;
    eventually_for(MINUTES, file, || {
        let seen = page.versions(20)?;
        ensure!(seen == versions, "{seen:?}");
        Ok(())
    })?;
    let route = cluster.kubectl("-n bookinfo get httproute reviews -o json")?;
    let route: Value = serde_json::from_str(&route)?;
    let conditions = route["status"]["parents"][0]["conditions"].as_array().context("status")?;
    for condition in conditions {
        ensure!(condition["status"] == "True", "{condition}");
    }
    Ok(())
}

#[test]
fn a_walk_through_bookinfo() -> Result<()> {
    let Some(kubeconfig) = env::var_os(CLUSTER) else {
        println!("skipped: {CLUSTER} names no kubeconfig of a cluster");
        return Ok(());
    };
    let cluster = Cluster::install(kubeconfig.into())?;
    let status = cluster.agent("status")?;
    ensure!(status.contains("serving") && status.contains("synced"), "{status}");

    let page = Page::open(&cluster)?;
    eventually_for(MINUTES, "the page", || Page::reviewer(&page.url))?;
    routed(&cluster, &page, "route-v1", &["v1"])?;
    routed(&cluster, &page, "route-shift", &["v1", "v3"])?;
    routed(&cluster, &page, "route-v3", &["v3"])?;

    let load = page.load();
    let pods = cluster.kubectl("-n bookinfo get pods -l app=reviews,version=v3 -o name")?;
    let pod = pods.lines().next().context("no pod of v3")?;
    cluster.kubectl(&format!("-n bookinfo delete {pod}"))?;
    cluster.rolled_out(BOOKINFO, "deployment/reviews-v3")?;
    println!("a pod was deleted: {} pages, none failed", load.end()?);

    let load = page.load();
    cluster.kubectl("-n mesh-system rollout restart daemonset/mesh-agent")?;
    cluster.rolled_out("mesh-system", "daemonset/mesh-agent")?;
    println!("the agents were replaced: {} pages, none failed", load.end()?);

    drop(page);
    cluster.remove()
}
