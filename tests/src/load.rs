//! Clients that ask without end, and what became of each request.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Result, ensure};

use crate::{pod::Pod, process::Process, wait::eventually};

/// A line for each request: when it began, in seconds since 1970, how long it
/// took, and who answered or what went wrong.
const PROGRAM: &str = r#"
import errno, http.client, sys, threading, time

address, method, threads, keep, patience = sys.argv[1:6]
body = b"x" * 5000 if method == "POST" else None
door = threading.Lock()

def name(error):
    known = errno.errorcode.get(getattr(error, "errno", None))
    return "!" + (known or type(error).__name__)

def ask(connection):
    try:
        if connection.sock is None:
            connection.connect()
    except OSError as error:
        return "!connect" + name(error)
    try:
        connection.request(method, "/", body)
        answer = connection.getresponse()
        text = answer.read().decode().split()
        return "-".join(text) if answer.status == 200 else "!%d" % answer.status
    except (OSError, http.client.HTTPException) as error:
        return name(error)

def run():
    connection = http.client.HTTPConnection(address, 80, timeout=float(patience))
    while True:
        start = time.time()
        what = ask(connection)
        if what.startswith("!") or keep == "no":
            connection.close()
        with door:
            print("%.6f %.3f %s" % (start, time.time() - start, what), flush=True)
        time.sleep(0.005)

for _ in range(int(threads)):
    threading.Thread(target=run).start()
"#;

/// Under way until it is dropped.
#[derive(Debug)]
pub struct Load {
    process: Process,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// When it began, in seconds since 1970.
    pub at: f64,
    pub took: f64,
    /// The name of who answered; from a `!` on what went wrong, and from
    /// `!connect` on what went wrong with the connection.
    pub what: String,
}

impl Attempt {
    pub fn failed(&self) -> bool {
        self.what.starts_with('!')
    }

    pub fn failed_to_connect(&self) -> bool {
        self.what.starts_with("!connect")
    }
}

impl Load {
    /// Requests over kept connections, so many at a time.
    pub fn keeping(pod: &Pod, address: &str, method: &str, at_a_time: u32) -> Result<Self> {
        Self::start(pod, [address, method, &at_a_time.to_string(), "yes", "10"])
    }

    /// Each request over a connection of its own, so many at a time; clients give
    /// up after 1.2 s.
    pub fn connecting(pod: &Pod, address: &str, at_a_time: u32) -> Result<Self> {
        Self::start(pod, [address, "GET", &at_a_time.to_string(), "no", "1.2"])
    }

    fn start(pod: &Pod, arguments: [&str; 5]) -> Result<Self> {
        let mut command = pod.command("python3")?;
        command.args(["-c", PROGRAM]).args(arguments);
        // Each has a log of its own: lines of two would mix.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let log = pod.folder.join(format!("load-{}.log", NEXT.fetch_add(1, Relaxed)));
        let process = Process::start(&format!("load in pod {}", pod.name), command, log)?;
        Ok(Self { process })
    }

    /// All that is over, in the order in which it ended.
    pub fn seen(&self) -> Vec<Attempt> {
        let log = self.process.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(attempt).collect()
    }

    /// Those that have ended after the first `from`.
    pub fn since(&self, from: usize) -> Vec<Attempt> {
        self.seen().into_iter().skip(from).collect()
    }

    /// Waits for what is seen after the first `from`.
    pub fn wait(&self, what: &str, from: usize, is: impl Fn(&[Attempt]) -> bool) -> Result<()> {
        eventually(what, || {
            let seen = self.since(from);
            let last = &seen[seen.len().saturating_sub(20)..];
            ensure!(is(&seen), "{} attempts, the last: {last:?}", seen.len());
            Ok(())
        })
    }
}

/// Who answered how often.
pub fn answers(seen: &[Attempt]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for attempt in seen.iter().filter(|attempt| !attempt.failed()) {
        *counts.entry(attempt.what.as_str()).or_insert(0) += 1;
    }
    counts
}

fn attempt(line: &str) -> Option<Attempt> {
    let mut fields = line.splitn(3, ' ');
    Some(Attempt {
        at: fields.next()?.parse().ok()?,
        took: fields.next()?.parse().ok()?,
        what: fields.next()?.to_owned(),
    })
}
