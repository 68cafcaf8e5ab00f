//! The servers: programs that we didn't write, one of each in a pod that has
//! several addresses, each of which is an instance to those who balance. Were
//! they several processes, they would share their core by time slices, and who
//! balances would be measured against who calls one of them by its scheduler.

use std::{fs, net::Ipv4Addr, process::Command};

use anyhow::{Context as _, Result};
use mesh_tests::{Pod, Process, server::wait_for_port, text};

use super::{machine::Cores, scenario::Kind};

/// Addresses of a server.
pub const INSTANCES: u8 = 3;
/// Of `/`.
const SMALL: usize = 1 << 10;
/// Of `/large`.
const LARGE: usize = 1 << 20;

/// Lives as long as its processes.
#[derive(Debug)]
pub struct Backend {
    pub pod: Pod,
    /// The first is the pod's own.
    pub addresses: Vec<Ipv4Addr>,
    _processes: Vec<Process>,
}

impl Backend {
    /// nginx on 80 (HTTP/1.1) and 81 (HTTP/2), iperf3, sockperf.
    pub fn start(pod: Pod, cores: &Cores) -> Result<Self> {
        let addresses = addresses(&pod)?;
        let mut processes = vec![nginx(&pod, cores)?];
        let bulk = Kind::Bulk.server_port().to_string();
        processes.push(serve(&pod, cores, &format!("iperf3 -s -p {bulk}"))?);
        let ping = format!("sockperf server -i 0.0.0.0 -p {}", Kind::Ping.server_port());
        processes.push(serve(&pod, cores, &ping)?);
        processes.push(serve(&pod, cores, &format!("{ping} --tcp"))?);
        for kind in [Kind::Http, Kind::Http2, Kind::Bulk, Kind::Ping] {
            wait_for_port(&pod, kind.server_port())?;
        }
        Ok(Self { pod, addresses, _processes: processes })
    }
}

/// Gives the pod addresses for all instances.
fn addresses(pod: &Pod) -> Result<Vec<Ipv4Addr>> {
    /// Above those of all pods of a bench.
    const ABOVE: u8 = 128;
    let [a, b, c, own] = pod.ip4.octets();
    let mut addresses = vec![pod.ip4];
    for number in 1..INSTANCES {
        let address = Ipv4Addr::new(a, b, c, ABOVE + own * INSTANCES + number);
        let mut command = Command::new("ip");
        command.args(["-n", &pod.netns, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        text(command)?;
        addresses.push(address);
    }
    Ok(addresses)
}

fn serve(pod: &Pod, cores: &Cores, line: &str) -> Result<Process> {
    let words = ["-c", &cores.servers].into_iter().chain(line.split(' '));
    pod.spawn("taskset", words)
}

fn nginx(pod: &Pod, cores: &Cores) -> Result<Process> {
    let folder = pod.folder.display();
    let content = pod.folder.join("content");
    fs::create_dir_all(&content)?;
    fs::write(content.join("large"), vec![b'x'; LARGE])?;
    // `return` answers without a look at the file system, and to POST too.
    let config = format!(
        r#"
daemon off; master_process off; user root; pid {folder}/nginx.pid;
error_log {folder}/error.log; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
    sendfile on; tcp_nopush on; default_type text/plain;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 80 backlog=4096;
        listen 81 http2 backlog=4096;
        root {content};
        http2_max_concurrent_streams 1024;
        location = / {{ return 200 "{small}"; }}
        location = /grpc {{
            default_type application/grpc;
            add_trailer grpc-status 0 always;
            return 200 "{message}";
        }}
    }}
}}
"#,
        content = content.display(),
        small = "x".repeat(SMALL),
        message = "x".repeat(64),
    );
    let config = pod.file("nginx.conf", config)?;
    let config = config.to_str().context("paths of a world are ASCII")?;
    serve(pod, cores, &format!("nginx -p {folder} -c {config}"))
}
