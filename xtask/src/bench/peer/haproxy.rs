//! haproxy: threads, and connections to servers that all requests share.

use anyhow::Result;
use mesh_tests::{Pod, Process};

use super::{Upstream, explicit_port, kinds, start};
use crate::bench::{machine::Cores, scenario::Kind};

pub fn explicit(pod: &Pod, upstream: &Upstream, cores: &Cores) -> Result<Process> {
    let mut config = format!(
        "global\n    nbthread {}\n    maxconn 8000\n\
         defaults\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n    \
         option http-keep-alive\n    http-reuse always\n    no log\n",
        cores.workers
    );
    for kind in kinds() {
        let (mode, proto) = match kind {
            Kind::Http => ("http", ""),
            Kind::Http2 => ("http", " proto h2"),
            _ => ("tcp", ""),
        };
        let port = explicit_port(kind);
        config += &format!(
            "listen k{port}\n    mode {mode}\n    bind 127.0.0.1:{port}{proto} backlog 4096\n    \
             balance roundrobin\n"
        );
        for (index, (address, port)) in upstream.of(kind).into_iter().enumerate() {
            config += &format!("    server s{index} {address}:{port}{proto}\n");
        }
    }
    let file = pod.file("haproxy.cfg", config)?;
    start(pod, "haproxy", &cores.all, &format!("haproxy -db -f {}", file.display()))
}
