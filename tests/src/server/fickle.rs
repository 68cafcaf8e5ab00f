//! An HTTP server that can be told to become slow, or to fail.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Result;

use super::wait_for_port;
use crate::{pod::Pod, process::Process};

/// Answers each request on port 80 with the name of its pod, and the length of
/// the body where there was one.
#[derive(Debug)]
pub struct Fickle {
    pub pod: Pod,
    pub process: Process,
    mood: PathBuf,
    log: PathBuf,
}

/// A request, as the server met it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Seconds since 1970.
    pub at: f64,
    /// Its work began; else it was done.
    pub begun: bool,
    /// As in [`Mood`].
    pub status: u16,
}

/// How it answers from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mood {
    /// Before each answer.
    pub delay: Duration,
    /// 0 resets the connection instead of answering.
    pub status: u16,
    /// Requests that are worked on at a time; the others wait. 0: no limit.
    pub workers: u32,
}

impl Default for Mood {
    fn default() -> Self {
        Self { delay: Duration::ZERO, status: 200, workers: 0 }
    }
}

const PROGRAM: &str = r#"
import http.server, os, socket, struct, sys, threading, time

name, mood, log = sys.argv[1:4]
log = open(log, "a", buffering=1)
known = (None, (0.0, 200, 0))
changed = threading.Condition()
busy = 0

def now():
    global known
    stamp = os.stat(mood).st_mtime_ns
    if stamp != known[0]:
        delay, status, workers = open(mood).read().split()
        known = (stamp, (float(delay), int(status), int(workers)))
    return known[1]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def serve(self):
        global busy
        length = int(self.headers.get("content-length", 0))
        size = len(self.rfile.read(length))
        with changed:
            while True:
                delay, status, workers = now()
                if not workers or busy < workers:
                    break
                changed.wait(0.1)
            busy += 1
        try:
            log.write("%.6f begun %d\n" % (time.time(), status))
            if delay:
                time.sleep(delay)
        finally:
            log.write("%.6f done %d\n" % (time.time(), status))
            with changed:
                busy -= 1
                changed.notify()
        if not status:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # At once: the server's way to end a connection says goodbye first.
            os.close(self.connection.detach())
            self.close_connection = True
            return
        body = (name + (" %d" % size if length else "") + "\n").encode()
        self.send_response_only(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = serve

    def log_message(self, *arguments):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 1024
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request, client_address):
        pass

Server(("::", 80), Handler).serve_forever()
"#;

impl Fickle {
    pub fn start(pod: &Pod) -> Result<Self> {
        let mood = pod.folder.join("mood");
        let log = pod.folder.join("requests.log");
        fs::write(&mood, text(Mood::default()))?;
        fs::write(&log, "")?;
        let process = spawn(pod, &mood, &log)?;
        Ok(Self { pod: pod.clone(), process, mood, log })
    }

    /// Starts it again, after its process was killed.
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.pod, &self.mood, &self.log)?;
        Ok(())
    }

    /// From the next request on.
    pub fn be(&self, mood: Mood) -> Result<()> {
        // Replaced whole: a request that comes now must not read half of it.
        let new = self.mood.with_extension("new");
        fs::write(&new, text(mood))?;
        fs::rename(&new, &self.mood)?;
        Ok(())
    }

    /// How many requests it has begun to work on.
    pub fn requests(&self) -> usize {
        self.seen().iter().filter(|seen| seen.begun).count()
    }

    /// All requests: two entries for each that is done.
    pub fn seen(&self) -> Vec<Seen> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter_map(seen).collect()
    }
}

fn seen(line: &str) -> Option<Seen> {
    let mut fields = line.split(' ');
    Some(Seen {
        at: fields.next()?.parse().ok()?,
        begun: fields.next()? == "begun",
        status: fields.next()?.parse().ok()?,
    })
}

fn text(mood: Mood) -> String {
    format!("{} {} {}\n", mood.delay.as_secs_f64(), mood.status, mood.workers)
}

fn spawn(pod: &Pod, mood: &std::path::Path, log: &std::path::Path) -> Result<Process> {
    let mut command = pod.command("python3")?;
    command.args(["-c", PROGRAM, &pod.name]).args([mood, log]);
    let process = pod.spawn_command("python3", command)?;
    wait_for_port(pod, 80)?;
    Ok(process)
}
