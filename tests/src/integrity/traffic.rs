//! The bytes: made from a seed on both sides, so that nothing has to be
//! compared across pods.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Pod, Process, Service, eventually, server::wait_for_port};

pub const PORT: u16 = 7;

/// What both sides share. A stream begins with a line of JSON; then each side
/// sends as many bytes as it says and closes its half. A cut is told from a
/// wrong byte: the first may happen while the agent restarts, the second never.
const SHARED: &str = r#"
import json, random, socket, struct, sys, threading, time

class Wrong(Exception): pass

def piece(seed, number):
    return random.Random(seed * 1_000_003 + number).randbytes(8192)

def send(connection, seed, length):
    number = 0
    while length > 0:
        part = piece(seed, number)[:length]
        number, length = number + 1, length - len(part)
        # In pieces that no buffer is made for.
        cut = random.randrange(1, len(part) + 1)
        connection.sendall(part[:cut])
        connection.sendall(part[cut:])
    connection.shutdown(socket.SHUT_WR)

# Reads to the end; True where all has come.
def receive(connection, seed, length, slow):
    got, number, rest = 0, 0, b""
    while True:
        data = connection.recv(random.randrange(1, 65536))
        if not data: break
        got += len(data)
        rest += data
        while len(rest) >= 8192 or (rest and got == length):
            want = piece(seed, number)[:length - number * 8192]
            if rest[:8192][:len(want)] != want or got > length:
                raise Wrong(f"piece {number} of {length} bytes, seed {seed}")
            number, rest = number + 1, rest[8192:]
        if slow: time.sleep(0.005)
    if rest and piece(seed, number)[:len(rest)] != rest:
        raise Wrong(f"the end of {length} bytes, seed {seed}")
    return got == length
"#;

const SERVER: &str = r#"
def serve(connection):
    with connection:
        # Waiting by poll: past TCP, who waits in recv may be woken by the end
        # of its own half, and gets EAGAIN (docs/bypass.md).
        connection.settimeout(60)
        plan = None
        try:
            line = b""
            while not line.endswith(b"\n"):
                byte = connection.recv(1)
                if not byte: return
                line += byte
            plan = json.loads(line)
            answer = lambda: send(connection, plan["seed"] + 1, plan["down"])
            # Either after all has come, or at the same time.
            if plan["turns"]:
                whole = receive(connection, plan["seed"], plan["up"], plan["slow"])
                if whole: answer()
            else:
                thread = threading.Thread(target=lambda: quietly(answer))
                thread.start()
                receive(connection, plan["seed"], plan["up"], plan["slow"])
                thread.join()
        except Wrong as wrong:
            print("WRONG", wrong, flush=True)
        except OSError as error: print("cut:", error, plan, flush=True)

def quietly(work):
    try: work()
    except OSError as error: print("cut while sending:", error, flush=True)

listener = socket.create_server(("", 7), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"#;

const CLIENT: &str = r#"
address, seconds, seed, mark = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
end = time.monotonic() + seconds
totals = {"whole": 0, "cut": 0, "past": 0, "bytes": 0, "wrong": []}
lock = threading.Lock()

def one(chance):
    seed = chance.randrange(1 << 40)
    size = lambda: chance.choice([0, 1, chance.randrange(8192), 8192, chance.randrange(1 << 20)])
    plan = {"seed": seed, "up": size(), "down": size(), "turns": chance.random() < 0.5,
            "slow": chance.random() < 0.2}
    with socket.create_connection((address, 80), 20) as connection:
        connection.settimeout(30)
        connection.sendall(json.dumps(plan).encode() + b"\n")
        sender = threading.Thread(target=lambda: quietly(connection, plan))
        sender.start()
        whole = receive(connection, seed + 1, plan["down"], chance.random() < 0.2)
        sender.join()
        # What TCP has sent: the two ends count as a byte each.
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        past = struct.unpack_from("Q", info, 120)[0] <= 2
    return whole, past, plan["up"] + plan["down"]

def quietly(connection, plan):
    try: send(connection, plan["seed"], plan["up"])
    except OSError as error: print("while sending:", error, file=sys.stderr)

def work(number):
    chance = random.Random(seed * 31 + number)
    while time.monotonic() < end:
        try:
            whole, past, count = one(chance)
        except Wrong as wrong:
            with lock: totals["wrong"].append(str(wrong))
            return
        except OSError as error:
            print(error, file=sys.stderr)
            whole, past, count = False, False, 0
            time.sleep(0.02)
        with lock:
            totals["whole" if whole else "cut"] += 1
            totals["past"] += past
            totals["bytes"] += count
            if whole: open(mark, "w").close()

threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(totals))
"#;

/// Uploads random files to nginx, gets them back, and compares.
const UPLOADS: &str = r#"
import json, os, random, subprocess, sys, time
address, seconds, seed, version, folder = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
chance, end = random.Random(seed), time.monotonic() + seconds
totals = {"whole": 0, "cut": 0, "past": 0, "bytes": 0, "wrong": []}
# Others upload to the same server.
mine = address.replace(":", "-")
source = os.path.join(folder, "upload-" + mine)
while time.monotonic() < end:
    length = chance.choice([0, 1, chance.randrange(65536), chance.randrange(1 << 21)])
    content = chance.randbytes(length)
    with open(source, "wb") as file: file.write(content)
    url = f"http://{address}/files/random-{mine}-{chance.randrange(4)}"
    curl = ["curl", version, "--silent", "--fail", "--max-time", "30"]
    slow = ["--limit-rate", "2M"] if chance.random() < 0.1 else []
    put = subprocess.run(curl + slow + ["-T", source, url], stdout=subprocess.DEVNULL)
    got = subprocess.run(curl + slow + [url], stdout=subprocess.PIPE)
    if put.returncode or got.returncode:
        totals["cut"] += 1
        print("curl:", put.returncode, got.returncode, file=sys.stderr)
    elif got.stdout != content: totals["wrong"].append(f"{len(got.stdout)} bytes for {length}, seed {seed}")
    else:
        totals["whole"] += 1
        totals["bytes"] += 2 * length
print(json.dumps(totals))
"#;

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams and files that arrived whole.
    pub whole: u64,
    /// Those that ended early, all that had come being right.
    pub cut: u64,
    /// Streams of which the client sent nothing by TCP.
    pub past: u64,
    pub bytes: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.whole += other.whole;
        self.cut += other.cut;
        self.past += other.past;
        self.bytes += other.bytes;
    }
}

/// A client at work.
#[derive(Debug)]
pub struct Traffic {
    child: Child,
    what: String,
    /// A file that is there once something has arrived.
    mark: PathBuf,
    may_be_cut: bool,
}

impl Traffic {
    /// Waits until a stream has arrived whole.
    pub fn flows(&self) -> Result<()> {
        eventually(&format!("{} to flow", self.what), || {
            ensure!(self.mark.exists(), "nothing has arrived yet");
            Ok(())
        })
    }

    /// Streams may end early: those of the proxy path when the agent is killed.
    pub fn may_be_cut(mut self) -> Self {
        self.may_be_cut = true;
        self
    }

    /// Waits for its end; an error where a byte was wrong, or something was cut
    /// that may not be.
    pub fn finish(self) -> Result<Totals> {
        let output = self.child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}\n{errors}", self.what, output.status);
        let value: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: {errors}", self.what))?;
        let wrong = value["wrong"].as_array().context("a list of what was wrong")?;
        ensure!(wrong.is_empty(), "{}: wrong bytes: {wrong:?}", self.what);
        ensure!(
            self.may_be_cut || value["cut"] == 0,
            "{}: cut without a reason: {value}\n{errors}",
            self.what
        );
        let count = |name: &str| value[name].as_u64().with_context(|| format!("no {name}"));
        Ok(Totals {
            whole: count("whole")?,
            cut: count("cut")?,
            past: count("past")?,
            bytes: count("bytes")?,
        })
    }
}

/// The other end of [`streams`].
pub fn serve(pod: &Pod) -> Result<Process> {
    let process = pod.spawn("python3", ["-c", &format!("{SHARED}{SERVER}")])?;
    wait_for_port(pod, PORT)?;
    Ok(process)
}

/// TCP connections, a few at a time, each checked on both sides.
pub fn streams(pod: &Pod, service: &Service, time: Duration, seed: u64) -> Result<Traffic> {
    let program = format!("{SHARED}{CLIENT}");
    let address = service.ip4().to_string();
    let (time, seed) = (seconds(time), seed.to_string());
    let mark = pod.folder.join(format!("{}-{seed}", service.name));
    let shown = mark.display().to_string();
    start(pod, service, mark, [program.as_str(), &address, &time, &seed, &shown])
}

/// Files up and down by HTTP; `version` is curl's option.
pub fn uploads(
    pod: &Pod,
    service: &Service,
    version: &str,
    time: Duration,
    seed: u64,
) -> Result<Traffic> {
    let (address, folder) = (service.ip4().to_string(), pod.folder.display().to_string());
    let (time, seed) = (seconds(time), seed.to_string());
    start(pod, service, PathBuf::new(), [UPLOADS, address.as_str(), &time, &seed, version, &folder])
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn start<'a>(
    pod: &Pod,
    service: &Service,
    mark: PathBuf,
    words: impl IntoIterator<Item = &'a str>,
) -> Result<Traffic> {
    let mut command = pod.command("python3")?;
    command.arg("-c").args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().context("start python3")?;
    Ok(Traffic { child, what: format!("traffic to {}", service.name), mark, may_be_cut: false })
}
