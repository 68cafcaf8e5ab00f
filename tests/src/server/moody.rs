//! An HTTP server whose mood the test sets: well, failing or slow.

use std::{fs, path::PathBuf};

use anyhow::Result;

use super::wait_for_port;
use crate::{pod::Pod, process::Process};

/// Says its name to GET, and the length of what it got to POST, on port 80.
/// What it prints is one line when a request comes, and one when it is done.
#[derive(Debug)]
pub struct Moody {
    pub pod: Pod,
    pub process: Process,
}

const PROGRAM: &str = r#"
import http.server, os, socket, sys, time

name, folder = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body go out at once: else the body waits for an acknowledgement.
    wbufsize = 65536

    def do_GET(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        quiet = self.path == "/healthz"
        if not quiet:
            print("begun", flush=True)
        if os.path.exists(folder + "/slow"):
            time.sleep(0.3)
        sick = os.path.exists(folder + "/sick")
        answer = b"%s %d\n" % (name.encode(), len(body))
        self.send_response(503 if sick else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()
        if not quiet:
            print("done", flush=True)

    do_POST = do_GET

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 1024
    daemon_threads = True

Server(("::", 80), Handler).serve_forever()
"#;

impl Moody {
    pub fn start(pod: &Pod) -> Result<Self> {
        let folder = pod.folder.display().to_string();
        let process = pod.spawn("python3", ["-c", PROGRAM, &pod.name, &folder])?;
        wait_for_port(pod, 80)?;
        Ok(Self { pod: pod.clone(), process })
    }

    /// Whether it answers 503 from now on.
    pub fn set_sick(&self, sick: bool) -> Result<()> {
        self.set("sick", sick)
    }

    /// Whether it takes 300 ms for an answer from now on.
    pub fn set_slow(&self, slow: bool) -> Result<()> {
        self.set("slow", slow)
    }

    /// Requests that it has seen, without those of `/healthz`.
    pub fn requests(&self) -> usize {
        self.process.log().lines().filter(|line| *line == "begun").count()
    }

    fn set(&self, mood: &str, on: bool) -> Result<()> {
        let path: PathBuf = self.pod.folder.join(mood);
        if on {
            fs::write(path, "")?;
        } else {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}
