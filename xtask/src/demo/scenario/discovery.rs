//! Instances found by DNS and over HTTP, in one pool.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use mesh_tests::{Process, eventually, server::Fickle};

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{Report, heading},
    traffic::{Pace, Traffic},
};

const NAMES: [&str; 4] = ["dns-1", "dns-2", "http-1", "http-2"];

/// Where the sources are: ports of the host's loopback, beside other programs.
const DNS: u16 = 15_953;
const HTTP: u16 = 15_980;

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let mut sources = None;
    let play = Play::set_up(binaries, &NAMES, "", |world, servers| {
        sources = Some(Sources::start(world, servers)?);
        let endpoints = format!(
            "{{dns: {{name: shop.test, type: A, port: 80, server: 127.0.0.1:{DNS}, ttl: {{min: 1s, max: 2s}}}}, \
             http: {{url: \"http://127.0.0.1:{HTTP}/sd.json\", interval: 1s}}}}"
        );
        Ok(play::service("shop", 10, ("http", "proxy"), &endpoints, "{}")
            + &play::service("shop-tcp", 11, ("tcp", "kernel"), &endpoints, "{}"))
    })?;
    let sources = sources.context("the sources were started")?;
    heading("Both sources know one instance each: one pool of two");
    play.wait_for_instances("shop", 2)?;
    spread(&play, report, "one of each", &["dns-1", "http-1"])?;
    play.ask("status")?;

    heading("Both learn of a second one, under traffic");
    let pace = Pace { rate: 200, threads: 4, seconds: 5, keep: false };
    let traffic = Traffic::start(&play.client, "http://shop/", pace)?;
    sources.tell_dns(&play.servers[..2])?;
    sources.tell_http(&play.servers[2..])?;
    play.wait_for_instances("shop", 4)?;
    let samples = traffic.finish()?;
    samples.print_timeline(&NAMES, 1.0);
    let failed = format!("{} failed of {}", samples.failed(), samples.0.len());
    report.check("while the pool grew", "0 failed", &failed, samples.failed() == 0);
    spread(&play, report, "two of each", &NAMES)?;

    heading("The DNS server dies, and the HTTP source answers garbage: the last good set serves");
    play::signal("TERM", sources.dns.pid())?;
    fs::write(&sources.list, "<html>an error page with status 200</html>")?;
    eventually("`status` to say so", || {
        let status = play.agent.ask(["status"]).unwrap_or_default();
        if status.matches("failing").count() >= 2 { Ok(()) } else { Err(status) }
    })?;
    play.ask("status")?;
    spread(&play, report, "both sources failing", &NAMES)?;
    drop(sources);
    Ok(play)
}

/// A DNS server, and nginx with a file.
struct Sources {
    dns: Process,
    _nginx: Process,
    hosts: PathBuf,
    list: PathBuf,
}

impl Sources {
    fn start(world: &mesh_tests::World, servers: &[Fickle]) -> Result<Self> {
        let folder = world.folder().join("sources");
        fs::create_dir_all(&folder)?;
        let (hosts, list) = (folder.join("hosts"), folder.join("sd.json"));
        fs::write(&hosts, hosts_of(&servers[..1]))?;
        fs::write(&list, list_of(&servers[2..3]))?;
        let mut dns = world.command("dnsmasq", 300)?;
        dns.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--no-resolv"]);
        dns.args(["--no-hosts", "--local=/test/", "--pid-file", "--bind-interfaces"]);
        dns.args(["--listen-address=127.0.0.1", "--local-ttl=1", &format!("--port={DNS}")]);
        dns.arg(format!("--addn-hosts={}", hosts.display()));
        let config = folder.join("nginx.conf");
        fs::write(
            &config,
            format!(
                "daemon off; master_process off; user root; pid {0}/pid; error_log {0}/error.log;\n\
                 events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/b; \
                 proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; \
                 scgi_temp_path {0}/s;\n server {{ listen 127.0.0.1:{HTTP}; root {0}; }} }}\n",
                folder.display()
            ),
        )?;
        let mut nginx = world.command("nginx", 300)?;
        nginx.arg("-p").arg(&folder).arg("-c").arg(&config);
        Ok(Self {
            dns: Process::start("dnsmasq", dns, folder.join("dnsmasq.log"))?,
            _nginx: Process::start("nginx", nginx, folder.join("nginx.log"))?,
            hosts,
            list,
        })
    }

    fn tell_dns(&self, servers: &[Fickle]) -> Result<()> {
        fs::write(&self.hosts, hosts_of(servers))?;
        println!("  … the zone has {} addresses", servers.len());
        play::signal("HUP", self.dns.pid())
    }

    fn tell_http(&self, servers: &[Fickle]) -> Result<()> {
        println!("  … the list has {} targets", servers.len());
        Ok(fs::write(&self.list, list_of(servers))?)
    }
}

fn hosts_of(servers: &[Fickle]) -> String {
    servers.iter().map(|server| format!("{} shop.test\n", server.pod.ip4)).collect()
}

fn list_of(servers: &[Fickle]) -> String {
    let targets: Vec<_> =
        servers.iter().map(|server| format!("\"{}:80\"", server.pod.ip4)).collect();
    format!("[{{\"targets\": [{}], \"labels\": {{\"__weight__\": \"1\"}}}}]", targets.join(", "))
}

fn spread(play: &Play, report: &mut Report, when: &str, expected: &[&str]) -> Result<()> {
    for (service, path) in [("shop", "proxy"), ("shop-tcp", "kernel")] {
        let pace = Pace { rate: 200, threads: 4, seconds: 1, keep: false };
        let url = format!("http://{service}/");
        let samples = Traffic::start(&play.client, &url, pace)?.finish()?;
        let counts = samples.counts();
        let seen: Vec<_> = counts.keys().map(String::as_str).collect();
        report.check(
            &format!("{path} path, {when}"),
            &expected.join(", "),
            &seen.join(", "),
            seen == expected,
        );
    }
    Ok(())
}
