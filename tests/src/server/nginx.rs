//! nginx: says its name, stores and hands out files, and logs who called.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::wait_for_port;
use crate::{pod::Pod, process::Process};

/// nginx in a pod: HTTP/1.1 on port 80, HTTP/2 with prior knowledge on 81.
#[derive(Debug)]
pub struct Nginx {
    pub pod: Pod,
    pub process: Process,
    access: PathBuf,
}

impl Nginx {
    pub fn start(pod: &Pod) -> Result<Self> {
        let folder = pod.folder.display();
        let content = pod.folder.join("content");
        // Workers are not root, and write uploads there.
        fs::create_dir_all(&content)?;
        let config = format!(
            r#"
daemon off; master_process off; user root; pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0; keepalive_requests 1000000;
    server {{
        listen 80 backlog=4096; listen [::]:80 backlog=4096;
        listen 81 http2; listen [::]:81 http2;
        root {content};
        location = / {{ default_type text/plain; return 200 "{name}\n"; }}
        location = /echo-host {{ default_type text/plain; return 200 "$host\n"; }}
        location = /forwarded {{ default_type text/plain; return 200 "$http_x_forwarded_for\n"; }}
        location /files/ {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"#,
            content = content.display(),
            name = pod.name,
        );
        let config = pod.file("nginx.conf", config)?;
        let config = config.to_str().context("paths of a world are ASCII")?;
        let process = pod.spawn("nginx", ["-p", &folder.to_string(), "-c", config])?;
        wait_for_port(pod, 80)?;
        Ok(Self { pod: pod.clone(), process, access: pod.folder.join("access.log") })
    }

    /// Puts a file in reach as /files/NAME.
    pub fn serve(&self, name: &str, content: &[u8]) -> Result<()> {
        let folder = self.pod.folder.join("content/files");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), content)?;
        Ok(())
    }

    /// A file that was uploaded as /files/NAME.
    pub fn stored(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.pod.folder.join("content/files").join(name);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Addresses of the clients, one for each request so far.
    pub fn clients(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.access).unwrap_or_default();
        log.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
    }
}
