//! `mesh-agent tap` and `mesh-agent top`: what is seen is what happened, and
//! whoever watches slows nobody down.

use std::{
    fs::File,
    io::Read as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Service, World, eventually, server::Nginx, text};
use serde_json::Value;

struct Scene {
    agent: Agent,
    client: Pod,
    servers: Vec<Nginx>,
    direct: Service,
    proxied: Service,
    world: World,
}

/// Services on both paths; and others that nobody serves, that refuse, and that
/// fail.
fn scene(name: &str) -> Result<Scene> {
    let world = World::new(name)?;
    let servers = ["one", "two"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let client = world.client("client")?;
    let pods = || servers.iter().map(|server| &server.pod);
    let direct = Service::new("direct", 20, ("tcp", "kernel"), pods(), 80);
    let proxied = Service::new("proxied", 21, ("http", "auto"), pods(), 80);
    let nobody = Service::new("nobody", 22, ("tcp", "kernel"), [], 80);
    let broken = Service::new("broken", 23, ("http", "proxy"), pods(), 9);
    let limited = Service::new("limited", 24, ("http", "proxy"), pods(), 80)
        .under("{rateLimit: {requests: 1, per: 1h, burst: 1}}");
    let services = format!("{direct}{proxied}{nobody}{broken}{limited}");
    let agent = Agent::start(&world, &services)?;
    agent.wait_for(&client)?;
    Ok(Scene { agent, client, servers, direct, proxied, world })
}

impl Scene {
    fn metric(&self, name: &str) -> Result<u64> {
        let mut command = Command::new("curl");
        command.args(["-sSf", &format!("http://{}/metrics", self.agent.http())]);
        let page = text(command)?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value: f64 = value.with_context(|| format!("no {name}"))?.parse()?;
        Ok(value as u64)
    }

    fn taps(&self, number: u64) -> Result<()> {
        eventually(&format!("{number} taps to be open"), || {
            let taps = self.metric("mesh_taps")?;
            ensure!(taps == number, "{taps} are");
            Ok(())
        })
    }

    /// All of these at work.
    fn tap<const N: usize>(&self, all: [&[&str]; N]) -> Result<[Watch; N]> {
        let mut started = Vec::new();
        for arguments in all {
            let path = self.world.folder().join(format!("tap-{}", started.len()));
            let mut command = self.agent.command(["tap"].iter().chain(arguments).copied());
            command.stdout(File::create(&path)?).stderr(Stdio::inherit());
            started.push(Watch { child: command.spawn()?, path });
        }
        self.taps(N as u64)?;
        Ok(started.try_into().expect("as many as there are arguments"))
    }
}

/// A running command, and where its output goes.
#[derive(Debug)]
struct Watch {
    child: Child,
    path: std::path::PathBuf,
}

impl Watch {
    fn output(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.path)?)
    }

    /// The events so far; a line that is being written doesn't count.
    fn events(&self) -> Result<Vec<Value>> {
        let text = self.output()?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Waits for that many.
    fn wait_for(&self, number: usize) -> Result<Vec<Value>> {
        eventually(&format!("{number} events"), || {
            let events = self.events()?;
            ensure!(events.len() >= number, "only {}: {events:?}", events.len());
            Ok(events)
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Most have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn both_paths_and_families_are_seen_with_what_became_of_them() -> Result<()> {
    let scene = scene("tap")?;
    let [all, posts, direct, other, begun] = scene.tap([
        &["-o", "json"],
        &["-o", "json", "--service", "proxied", "--method", "post", "--path", "/echo*"],
        &["-o", "json", "--client", "client", "--via", "kernel"],
        &["-o", "json", "--client", "somebody-else"],
        &["-o", "json", "--begun", "--kind", "connection", "--service", "direct"],
    ])?;
    for (kernel, proxied) in scene.direct.authorities().into_iter().zip(scene.proxied.authorities())
    {
        scene.client.curl([&format!("http://{kernel}/") as &str])?;
        scene.client.curl([&format!("http://{proxied}/?q=1") as &str])?;
        scene.client.curl(["--data", "hello", &format!("http://{proxied}/echo-host")])?;
    }
    // Two families: two connections of the kernel path, four requests and the
    // connections that they came over.
    let events = all.wait_for(10)?;
    let of = |kind: &str, via: &str| -> Vec<&Value> {
        events.iter().filter(|one| one["kind"] == kind && one["via"] == via).collect()
    };
    let instances: Vec<String> = (scene.servers.iter().flat_map(|server| server.pod.ips()))
        .map(|address| std::net::SocketAddr::new(address, 80).to_string())
        .collect();
    for one in &events {
        let instance = one["instance"].as_str().context("an instance")?;
        assert!(instances.iter().any(|known| known == instance), "{one}");
        let cgroup = one["who"]["cgroup"].as_str().unwrap_or_default();
        assert!(cgroup.ends_with("/captured/client"), "{one}");
        assert!(one["durationUs"].as_u64() > Some(0), "{one}");
    }
    let kernel = of("connection", "kernel");
    assert_eq!(kernel.len(), 2, "{events:?}");
    for (one, authority) in kernel.iter().zip(scene.direct.authorities()) {
        assert_eq!((&one["service"], &one["ended"]), (&"direct".into(), &"closed".into()));
        assert_eq!(one["destination"], authority);
        assert!(one["bytesSent"].as_u64() > Some(50), "{one}");
        assert!(one["bytesReceived"].as_u64() > Some(100), "{one}");
        assert!(one["rttUs"].as_u64() > Some(0), "{one}");
    }
    let requests = of("request", "proxy");
    assert_eq!((requests.len(), of("connection", "proxy").len()), (4, 4), "{events:?}");
    let gets: Vec<_> = requests.iter().filter(|one| one["method"] == "GET").collect();
    assert_eq!(gets.len(), 2);
    for one in gets {
        assert_eq!((&one["path"], &one["status"]), (&"/?q=1".into(), &200.into()));
        assert_eq!((&one["ended"], &one["attempts"]), (&"complete".into(), &1.into()));
        assert_eq!(one["bytesReceived"], 4, "the body is a name of three letters: {one}");
        assert!(one["firstByteUs"].as_u64() <= one["durationUs"].as_u64(), "{one}");
    }
    let posts = posts.wait_for(2)?;
    assert_eq!(posts.len(), 2);
    assert!(posts.iter().all(|one| one["method"] == "POST" && one["bytesSent"] == 5), "{posts:?}");
    assert_eq!(direct.wait_for(2)?.len(), 2);
    let begun = begun.wait_for(4)?;
    let order: Vec<_> = begun.iter().map(|one| one["event"].as_str().unwrap_or("")).collect();
    assert_eq!(order, ["begun", "ended", "begun", "ended"], "{begun:?}");
    assert!(other.events()?.is_empty());
    Ok(())
}

#[test]
fn refusals_are_seen_and_enough_is_enough() -> Result<()> {
    let scene = scene("taprefused")?;
    let [refused, failing, table] = scene.tap([
        &["-o", "json", "--status", "refused"],
        &["-o", "yaml", "--status", "5xx,404", "--max", "2"],
        &["-n", "3"],
    ])?;
    for address in ["10.96.0.22", "[fd00:96::16]"] {
        let refused = scene.client.curl([&format!("http://{address}/") as &str]);
        assert!(refused.is_err(), "nobody is there");
    }
    let missing = format!("{}/missing", scene.proxied.ip4());
    for (authority, expected) in
        [("broken", "503"), ("limited", "200"), ("limited", "429"), (&*missing, "404")]
    {
        let url = format!("http://{authority}");
        let status = scene.client.run("curl", ["-so/dev/null", "-w%{http_code}", &url])?;
        assert_eq!(status, expected, "{authority}");
    }

    let events = refused.wait_for(3)?;
    let why = |service: &str| -> Vec<&str> {
        let of = events.iter().filter(|one| one["service"] == service);
        of.filter_map(|one| one["why"].as_str()).collect()
    };
    assert_eq!(why("nobody"), ["no-backend", "no-backend"], "{events:?}");
    let [limited] = why("limited")[..] else { panic!("{events:?}") };
    assert!(limited.starts_with("rate-limited: "), "{limited}");

    for mut ended in [failing, table] {
        let status =
            eventually("it to have enough", || ended.child.try_wait()?.context("it runs"))?;
        assert_eq!(status.code(), Some(0));
        let text = ended.output()?;
        if text.starts_with("TIME") {
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
            assert!(text.contains("✗ refused") && text.contains("no-backend"), "{text}");
        } else {
            assert!(text.contains("status: 503\n") && text.contains("status: 404\n"), "{text}");
            assert!(
                text.contains("ended: failed\n") && text.contains("connect-failed: "),
                "{text}"
            );
            assert!(text.contains("attempts: 3\n"), "two retries: {text}");
        }
    }
    Ok(())
}

#[test]
fn who_is_slow_loses_events_and_nobody_waits() -> Result<()> {
    const REQUESTS: usize = 12_000;
    let scene = scene("tapslow")?;
    let mut command = scene.agent.command(["tap", "-o", "json", "--kind", "request"]);
    let mut slow = command.stdout(Stdio::piped()).spawn()?;
    scene.taps(1)?;
    let url = format!("http://{}/?[1-{REQUESTS}]", scene.proxied.ip4());
    let answers = scene.client.curl([&url as &str])?;
    assert_eq!(answers.lines().count(), REQUESTS, "all are answered");
    let lost = eventually("events to be lost", || {
        let lost = scene.metric("mesh_tap_lost_events_total")?;
        ensure!(lost > 0, "none are");
        Ok(lost)
    })?;

    // It reads again: what was kept comes, and then how much is missing.
    let mut output = slow.stdout.take().context("it was piped")?;
    let (mut seen, mut told, mut text) = (0, 0, Vec::new());
    let mut buffer = [0; 64 * 1024];
    while seen + told < REQUESTS {
        let read = output.read(&mut buffer)?;
        ensure!(read > 0, "it ended after {seen} events, with {told} lost");
        text.extend_from_slice(&buffer[..read]);
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text.drain(..whole).collect::<Vec<_>>().split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            let line: Value = serde_json::from_slice(line)?;
            match line["lost"].as_u64() {
                Some(more) => told += usize::try_from(more)?,
                None => seen += 1,
            }
        }
    }
    assert_eq!((seen + told, told as u64), (REQUESTS, lost));
    assert!(seen > 1000, "{seen} were kept");
    slow.kill()?;
    slow.wait()?;
    scene.taps(0)
}

#[test]
fn the_hooks_report_only_while_somebody_watches() -> Result<()> {
    let mut scene = scene("tapkilled")?;
    // bpf(BPF_OBJ_GET) and bpf(BPF_MAP_LOOKUP_ELEM); `tapped_until_ns` is the
    // last field of the settings.
    const PROGRAM: &str = "import ctypes, glob, platform, struct, sys\n\
        number = {'x86_64': 321, 'aarch64': 280}[platform.machine()]\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def bpf(command, attributes):\n    \
            attributes = ctypes.create_string_buffer(attributes, 128)\n    \
            result = libc.syscall(number, command, attributes, 128)\n    \
            assert result >= 0, ctypes.get_errno()\n    \
            return result\n\
        path, = glob.glob(sys.argv[1] + '/**/SETTINGS', recursive=True)\n\
        path = ctypes.create_string_buffer(path.encode())\n\
        settings = bpf(7, struct.pack('Q', ctypes.addressof(path)))\n\
        key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(4096)\n\
        bpf(1, struct.pack('IIQQ', settings, 0, ctypes.addressof(key), ctypes.addressof(value)))\n\
        print(int.from_bytes(value.raw[SIZE - 8:SIZE], 'little') > 0)";
    let reporting = |scene: &Scene| -> Result<bool> {
        let mut command = Command::new("python3");
        command.args(["-c", &PROGRAM.replace("SIZE", "304")]).arg(scene.world.pins());
        Ok(text(command)?.trim() == "True")
    };
    let settles = |scene: &Scene, on: bool| {
        eventually("the hooks to be told", || {
            ensure!(reporting(scene)? == on, "not so");
            Ok(())
        })
    };
    assert!(!reporting(&scene)?);
    let [mut killed] = scene.tap([&["-o", "json"]])?;
    assert!(reporting(&scene)?, "from the first moment on");
    killed.child.kill()?;
    killed.child.wait()?;
    scene.taps(0)?;
    settles(&scene, false)?;

    // A reload in between doesn't end it; the end of the agent does.
    let [watch] = scene.tap([&["-o", "json", "--via", "kernel"]])?;
    let config = scene.agent.config()?;
    let services = config.split_once("services:\n").context("services")?.1;
    scene.agent.reload(&services.replace("10.96.0.22", "10.96.0.25"))?;
    assert!(reporting(&scene)?);
    scene.client.curl([&format!("http://{}/", scene.direct.ip4()) as &str])?;
    watch.wait_for(1)?;
    scene.agent.kill9()?;
    let mut watch = watch;
    let status =
        eventually("the tap to end with its agent", || watch.child.try_wait()?.context("it runs"))?;
    assert_eq!(status.code(), Some(3));
    scene.agent.restart()?;
    settles(&scene, false)
}

#[test]
fn bad_filters_are_told_what_is_valid() -> Result<()> {
    let scene = scene("tapwrong")?;
    for (arguments, code, told) in [
        (&["tap", "--status", "6xx"][..], 2, "a class such as 5xx"),
        (&["tap", "--instance", "10.1.0.500"], 2, "10.1.0.5:9080"),
        (&["tap", "--via", "user"], 2, "kernel or proxy"),
        (&["tap", "--path", "api"], 2, "/api"),
        (&["tap", "--min-duration", "5"], 2, "250ms"),
        (&["top", "--interval", "10ms"], 2, "100ms"),
        (&["top", "--by", "name"], 2, "latency"),
        (&["tap", "--service", "nonesuch"], 1, "direct, proxied"),
        (&["top", "--service", "nonesuch"], 1, "direct, proxied"),
    ] {
        let output = scene.agent.output(arguments.iter().copied())?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(told), "{arguments:?}: {error}");
    }
    Ok(())
}

#[test]
fn top_shows_what_is_served() -> Result<()> {
    let scene = scene("top")?;
    let path = scene.world.folder().join("top");
    let mut command = scene.agent.command(["top", "-o", "json", "--interval", "500ms"]);
    let child = command.stdout(File::create(&path)?).spawn()?;
    let top = Watch { child, path };
    let one = top.wait_for(1)?;
    assert_eq!(one[0]["services"][0]["requestsPerSecond"], 0.0, "nothing yet: {one:?}");
    let [direct, _] = scene.direct.authorities();
    let [_, proxied] = scene.proxied.authorities();
    scene.client.curl(["-H", "Connection: close", &format!("http://{direct}/?[1-50]")])?;
    scene.client.curl([&format!("http://{proxied}/?[1-100]") as &str])?;
    let sum = |intervals: &[Value], service: &str, key: &str| -> f64 {
        let of = |interval: &Value| {
            let seconds = interval["seconds"].as_f64().unwrap_or(0.0);
            let services = interval["services"].as_array().into_iter().flatten();
            let mut services = services.filter(|one| one["service"] == service);
            services.next().and_then(|one| one[key].as_f64()).unwrap_or(0.0) * seconds
        };
        intervals.iter().map(of).sum::<f64>().round()
    };
    let intervals = eventually("all of it to be shown", || {
        let intervals = top.events()?;
        let requests = sum(&intervals, "proxied", "requestsPerSecond");
        let connections = sum(&intervals, "direct", "connectionsPerSecond");
        ensure!((requests, connections) == (100.0, 50.0), "{requests} {connections}");
        Ok(intervals)
    })?;
    assert!(sum(&intervals, "direct", "bytesReceivedPerSecond") > 5_000.0);
    assert!(sum(&intervals, "proxied", "bytesReceivedPerSecond") > 10_000.0);
    let busy = intervals.iter().flat_map(|one| one["services"].as_array().into_iter().flatten());
    let mut busy = busy.filter(|one| one["requestsPerSecond"].as_f64() > Some(0.0));
    let busy = busy.next().context("a busy interval")?;
    assert_eq!(busy["successPercent"], 100.0, "{busy}");
    assert!(busy["p50Us"].as_u64() > Some(0) && busy["p99Us"].as_u64() >= busy["p50Us"].as_u64());

    let text = scene.agent.ask(["top", "--count", "2", "--interval", "100ms", "--by", "errors"])?;
    assert_eq!(text.matches("SERVICE").count(), 2, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(!text.contains('\x1b'), "not for terminals: {text:?}");
    Ok(())
}

#[test]
fn a_terminal_is_drawn_on_and_given_back() -> Result<()> {
    let scene = scene("topterm")?;
    // A terminal of 80 by 10, which prints what was written to it.
    const PROGRAM: &str = "import fcntl, os, pty, signal, struct, sys, termios, time\n\
        pid, terminal = pty.fork()\n\
        if pid == 0:\n    \
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 10, 80, 0, 0))\n    \
            os.environ['TERM'] = 'xterm'\n    \
            os.environ.pop('NO_COLOR', None)\n    \
            os.execv(sys.argv[1], sys.argv[1:])\n\
        seen, stopped = b'', False\n\
        while True:\n    \
            try:\n        data = os.read(terminal, 65536)\n    \
            except OSError:\n        break\n    \
            if not data:\n        break\n    \
            seen += data\n    \
            if not stopped and seen.count(b'\\x1b[H') >= 3:\n        \
                stopped = True\n        \
                os.write(terminal, b'\\x03')\n\
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n\
        sys.stdout.flush()\n\
        os.write(1, seen)";
    let agent = scene.agent.command(["top", "--interval", "100ms"]);
    let mut command = Command::new("timeout");
    command.args(["20", "python3", "-c", PROGRAM]).arg(agent.get_program());
    command.args(agent.get_args());
    let text = text(command)?;
    let (code, screen) = text.split_once('\n').context("two parts")?;
    assert_eq!(code, "0", "Ctrl-C is how one leaves: {screen:?}");
    assert!(screen.starts_with("\x1b[?1049h\x1b[?25l\x1b[H"), "{screen:?}");
    let (drawn, after) = screen.split_once("\x1b[?25h\x1b[?1049l").context("it is given back")?;
    let page = drawn.rsplit("\x1b[H").next().unwrap_or_default();
    assert_eq!(page.matches("\x1b[K").count(), 9, "ten lines, one of them free: {page:?}");
    let wide = |line: &str| line.replace("\x1b[K", "").trim_end().chars().count() > 80;
    assert!(!page.lines().any(wide), "{page:?}");
    assert!(page.contains("more lines"), "{page:?}");
    assert!(
        after.contains("SERVICE") && !after.contains("\x1b["),
        "the last view stays: {after:?}"
    );
    Ok(())
}
