//! nginx as a proxy: workers, and kept connections to servers.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mesh_tests::{Pod, Process};

use super::{Upstream, explicit_port, kinds, start};
use crate::bench::{machine::Cores, scenario::Kind};

/// Proxies TCP; Debian has it in a package of its own.
pub fn stream_module() -> Option<PathBuf> {
    let path = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    path.is_file().then(|| path.to_owned())
}

pub fn explicit(pod: &Pod, upstream: &Upstream, cores: &Cores) -> Result<Process> {
    let folder = pod.folder.display();
    let module = stream_module();
    let load = module.as_ref().map(|path| format!("load_module {};", path.display()));
    let stream = match &module {
        Some(_) => format!("stream {{ {} }}", streams(upstream)),
        None => String::new(),
    };
    // It speaks HTTP/2 to servers for gRPC alone; everything else is HTTP/1.1.
    let config = format!(
        r#"
{load}
daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/error.log;
worker_processes {workers}; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi; proxy_max_temp_file_size 0;
    upstream http1 {{ {http1} keepalive 1024; keepalive_requests 1000000000; }}
    upstream http2 {{ {http2} keepalive 1024; keepalive_requests 1000000000; }}
    proxy_http_version 1.1; proxy_set_header Connection "";
    server {{
        listen 127.0.0.1:{http_port} reuseport backlog=4096;
        location / {{ proxy_pass http://http1; }}
    }}
    server {{
        listen 127.0.0.1:{http2_port} http2 reuseport backlog=4096;
        http2_max_concurrent_streams 1024;
        location / {{ proxy_pass http://http1; }}
        location = /grpc {{ grpc_pass grpc://http2; }}
    }}
}}
{stream}
"#,
        load = load.unwrap_or_default(),
        workers = cores.workers,
        http1 = servers(upstream, Kind::Http),
        http2 = servers(upstream, Kind::Http2),
        http_port = explicit_port(Kind::Http),
        http2_port = explicit_port(Kind::Http2),
    );
    let file = pod.file("proxy.conf", config)?;
    start(pod, "nginx", &cores.all, &format!("nginx -p {folder} -c {}", file.display()))
}

fn servers(upstream: &Upstream, kind: Kind) -> String {
    let list = upstream.of(kind);
    list.iter().map(|(address, port)| format!("server {address}:{port}; ")).collect()
}

fn streams(upstream: &Upstream) -> String {
    let tcp = kinds().filter(|kind| !matches!(kind, Kind::Http | Kind::Http2));
    tcp.map(|kind| {
        let port = explicit_port(kind);
        format!(
            "upstream u{port} {{ {} }} server {{ listen 127.0.0.1:{port} reuseport backlog=4096; \
             tcp_nodelay on; proxy_pass u{port}; }} ",
            servers(upstream, kind)
        )
    })
    .collect()
}
