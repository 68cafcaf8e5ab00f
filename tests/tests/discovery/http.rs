//! Lists over HTTP, of nginx and of servers that lie, and Consul's.

use super::*;

/// nginx with a file, on the loopback address.
fn list_server(scene: &Scene) -> Result<(Process, u16)> {
    let port = scene.port(15_340);
    let folder = scene.world.folder().display();
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/list.pid;\n\
         error_log {folder}/list-error.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log {folder}/list-access.log combined; root {folder};\n\
         client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n\
         fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         server {{ listen 127.0.0.1:{port}; }} }}\n"
    );
    let config = scene.file("list.conf", &config)?;
    let config = config.to_str().context("paths of a world are ASCII")?;
    let process = scene.start("nginx", &["-p", &folder.to_string(), "-c", config])?;
    Ok((process, port))
}

#[test]
fn a_list_of_nginx_is_followed_and_asked_for_only_where_it_changed() -> Result<()> {
    let scene = Scene::new("disc-http")?;
    let list = |numbers: &[usize]| {
        let targets: Vec<_> = numbers.iter().map(|&n| format!("\"{}:80\"", scene.ip(n))).collect();
        format!(
            "[{{\"targets\": [{}], \"labels\": {{\"__weight__\": \"2\", \"zone\": \"a\"}}}}]",
            targets.join(",")
        )
    };
    scene.file("sd.json", &list(&[0]))?;
    let (mut nginx, port) = list_server(&scene)?;
    let source = format!("http: {{url: 'http://127.0.0.1:{port}/sd.json', interval: 200ms}}");
    let agent = scene.agent("http", &source)?;
    scene.until(&agent, &["one"])?;
    let endpoint = agent.json(["endpoints"])?[0].take();
    ensure!(endpoint["weight"] == 2 && endpoint["locality"] == "?/?/a", "{endpoint}");
    eventually("an answer of 304", || {
        let log = fs::read_to_string(scene.world.folder().join("list-access.log"))?;
        ensure!(log.contains("\" 304 "), "{log}");
        Ok(())
    })?;
    scene.file("sd.json", &list(&[0, 1]))?;
    scene.until(&agent, &["one", "two"])?;
    scene.file("sd.json", "[{\"targets\": [\"web.example:80\"]}]")?;
    let source = until_state(&agent, "failing", 2)?;
    ensure!(source["lastError"].as_str().is_some_and(|e| e.contains("dns source")), "{source}");
    scene.until(&agent, &["one", "two"])?;
    nginx.signal(Signal::SIGTERM)?;
    nginx.wait()?;
    eventually("the closed port to be noticed", || {
        let source = until_state(&agent, "failing", 2)?;
        ensure!(source["lastError"].to_string().contains("can't connect"), "{source}");
        Ok(())
    })?;
    scene.until(&agent, &["one", "two"])
}

/// Answers as the file `mode` says: `list`, `garbage`, `empty`, `huge`, `hang`.
const LIAR: &str = r#"
import http.server, sys, time
port, folder, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mode = open(folder + "/mode").read()
        if mode == "hang":
            time.sleep(600)
        body = {"list": '[{"targets": ["%s"]}]' % target, "garbage": "\0\1<html>",
                "empty": "[]", "huge": "[" + " " * (10 << 20) + "]"}[mode].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"#;

#[test]
fn a_server_that_lies_or_hangs_hurts_nobody() -> Result<()> {
    let scene = Scene::new("disc-liar")?;
    scene.file("mode", "list")?;
    let port = scene.port(15_360);
    let folder = scene.world.folder().display().to_string();
    let target = format!("{}:80", scene.ip(0));
    let _liar = scene.start("python3", &["-c", LIAR, &port.to_string(), &folder, &target])?;
    let source = format!(
        "http: {{url: 'http://127.0.0.1:{port}/', interval: 200ms, timeout: 1s, emptyAfter: 3}}"
    );
    let agent = scene.agent("http", &source)?;
    scene.until(&agent, &["one"])?;
    for (mode, word) in
        [("garbage", "not of the form"), ("huge", "more than"), ("hang", "no whole answer from")]
    {
        scene.file("mode", mode)?;
        eventually(&format!("{mode} to be noticed"), || {
            let source = until_state(&agent, "failing", 1)?;
            ensure!(source["lastError"].to_string().contains(word), "{source}");
            Ok(())
        })?;
        assert_eq!(scene.answer()?, "one", "{mode}");
        scene.file("mode", "list")?;
        until_state(&agent, "ok", 1)?;
    }
    scene.file("mode", "empty")?;
    until_state(&agent, "empty", 0)?;
    scene.file("mode", "list")?;
    scene.until(&agent, &["one"])
}

/// `/v1/health/service/NAME` as Consul answers it, from the file `entries`;
/// a query with an index waits until the file is another one.
const CONSUL: &str = r#"
import http.server, os, sys, time, urllib.parse
port, folder = int(sys.argv[1]), sys.argv[2]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        index = lambda: os.stat(folder + "/entries").st_mtime_ns // 1000
        end = time.monotonic() + 30
        while int(query.get("index", 0)) >= index() and time.monotonic() < end:
            time.sleep(0.02)
        print(self.path, flush=True)
        now, body = index(), open(folder + "/entries", "rb").read()
        self.send_response(200 if url.path == "/v1/health/service/web" else 404)
        self.send_header("x-consul-index", str(now))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"#;

#[test]
fn consul_and_dns_make_one_pool_and_changes_come_by_blocking_queries() -> Result<()> {
    let scene = Scene::new("disc-pool")?;
    let entries = |status: &str| {
        format!(
            "[{{\"Node\": {{\"Node\": \"n1\", \"Address\": \"{}\", \"Datacenter\": \"dc1\"}}, \
             \"Service\": {{\"Address\": \"\", \"Port\": 80, \"Weights\": {{\"Passing\": 1}}}}, \
             \"Checks\": [{{\"Status\": \"{status}\"}}]}}]",
            scene.ip(0)
        )
    };
    scene.file("entries", &entries("passing"))?;
    let port = scene.port(15_380);
    let folder = scene.world.folder().display().to_string();
    let mut consul = scene.start("python3", &["-c", CONSUL, &port.to_string(), &folder])?;
    let (_dnsmasq, dns_port) = dnsmasq(&scene, &format!("{} web.test\n", scene.ip(1)), &[])?;
    let dns = format!("dns: {{name: web.test, server: '127.0.0.1:{dns_port}'}}");
    // An answer by polling would come after a minute.
    let http = format!(
        "http: {{url: 'http://127.0.0.1:{port}/v1/health/service/web', format: consul, \
         interval: 1s, emptyAfter: 1}}"
    );
    let agent = scene.agent("http", &format!("{dns}, {http}"))?;
    scene.until(&agent, &["one", "two"])?;
    eventually("a blocking query", || {
        ensure!(consul.log().contains("passing=true"), "{}", consul.log());
        Ok(())
    })?;
    scene.file("entries", &entries("critical"))?;
    scene.until(&agent, &["two"])?;
    scene.file("entries", &entries("passing"))?;
    scene.until(&agent, &["one", "two"])?;
    ensure!(consul.log().contains("index="), "asked with an index: {}", consul.log());

    // A reload that adds a service disturbs nobody; the sources go on.
    let before = sources(&agent)?;
    let other = "  - {name: other, address: 10.96.0.21, ports: [{port: 80, protocol: tcp}]}\n";
    agent.reload(&format!("{}{other}", service("http", &format!("{dns}, {http}"))))?;
    for (before, after) in before.iter().zip(sources(&agent)?) {
        ensure!(after["answers"].as_u64() >= before["answers"].as_u64(), "{before} {after}");
    }
    consul.signal(Signal::SIGTERM)?;
    consul.wait()?;
    eventually("the death of consul to be noticed", || {
        let failing = sources(&agent)?.iter().filter(|s| s["state"] == "failing").count();
        ensure!(failing == 1, "{failing}");
        Ok(())
    })?;
    scene.until(&agent, &["one", "two"])
}
