//! Addresses and SRV records of a real dnsmasq.

use super::*;

#[test]
fn dns_is_followed_and_its_death_takes_nothing_out_not_even_with_a_restart() -> Result<()> {
    let scene = Scene::new("disc-dns")?;
    let (one, two) = (format!("{} web.test\n", scene.ip(0)), format!("{} web.test\n", scene.ip(1)));
    let (mut dnsmasq, port) = dnsmasq(&scene, &one, &[])?;
    let source = format!(
        "dns: {{name: web.test, server: '127.0.0.1:{port}', ttl: {{min: 200ms}}, timeout: 1s, \
         emptyAfter: 2}}"
    );
    let mut agent = scene.agent("tcp", &source)?;
    scene.until(&agent, &["one"])?;
    rewrite(&scene, &format!("{one}{two}"))?;
    scene.until(&agent, &["one", "two"])?;

    rewrite(&scene, "")?;
    until_state(&agent, "empty", 0)?;
    eventually("the service to be without instances", || match scene.answer() {
        Err(_) => Ok(()),
        Ok(name) => Err(name),
    })?;
    rewrite(&scene, &two)?;
    scene.until(&agent, &["two"])?;

    dnsmasq.signal(Signal::SIGTERM)?;
    dnsmasq.wait()?;
    let source = until_state(&agent, "failing", 1)?;
    ensure!(source["lastError"].as_str().is_some_and(|e| e.contains("127.0.0.1")), "{source}");
    ensure!(source["ageMs"].is_u64() && source["errors"].as_u64() > Some(0), "{source}");
    scene.until(&agent, &["two"])?;
    let status = agent.json(["status"])?;
    let degraded = status["degraded"].to_string();
    ensure!(degraded.contains("dns source web.test of web fails"), "{degraded}");
    ensure!(agent.ask(["status"])?.contains("✗ failing"), "the table says so");

    // The next agent can't ask anybody: what serves goes on, all the time.
    let load = Load::start(&scene.client)?;
    agent.kill9()?;
    assert_eq!(scene.answer()?, "two");
    agent.restart()?;
    until_state(&agent, "failing", 1)?;
    scene.until(&agent, &["two"])?;
    load.finish()?;
    let url = format!("http://{}/metrics", agent.http());
    let mut command = scene.world.command("curl", 5)?;
    command.args(["--silent", &url]);
    let metrics = String::from_utf8(mesh_tests::output(command)?.stdout)?;
    let labels = r#"{service="web",kind="dns",target="web.test"}"#;
    for line in [format!("mesh_source_ok{labels} 0"), format!("mesh_source_instances{labels} 1")] {
        ensure!(metrics.contains(&line), "no {line} in:\n{metrics}");
    }

    // One that remembers nothing and can't ask either takes what the kernel has.
    let load = Load::start(&scene.client)?;
    agent.kill9()?;
    let memory = scene.world.folder().join("admin.sock.discovered");
    fs::remove_file(&memory)?;
    agent.restart()?;
    until_state(&agent, "failing", 1)?;
    scene.until(&agent, &["two"])?;
    load.finish()?;
    ensure!(!memory.exists(), "what is only supposed isn't remembered");

    // And one that remembers nothing asks before it changes anything.
    let (_dnsmasq, _) = self::dnsmasq(&scene, &two, &[])?;
    until_state(&agent, "ok", 1)?;
    eventually("what it says to be kept", || fs::metadata(&memory).map(drop))?;
    let load = Load::start(&scene.client)?;
    agent.kill9()?;
    fs::remove_file(&memory)?;
    agent.restart()?;
    until_state(&agent, "ok", 1)?;
    load.finish()?;
    Ok(())
}

#[test]
fn srv_records_bring_port_weight_and_priority() -> Result<()> {
    let scene = Scene::new("disc-srv")?;
    let hosts = |one: usize| format!("{} one.test\n{} two.test\n", scene.ip(one), scene.ip(1));
    let (_dnsmasq, port) = dnsmasq(
        &scene,
        &hosts(1),
        &["--srv-host=_web._tcp.test,one.test,80,0,3", "--srv-host=_web._tcp.test,two.test,81,0,0"],
    )?;
    let source = format!(
        "dns: {{name: _web._tcp.test, type: SRV, server: '127.0.0.1:{port}', ttl: {{min: 200ms}}}}"
    );
    let agent = scene.agent("tcp", &source)?;
    let instances = || -> Result<BTreeSet<String>> {
        let endpoints = agent.json(["endpoints"])?;
        let all = endpoints.as_array().context("a list")?;
        Ok(all.iter().map(|e| format!("{} {}", e["address"], e["weight"])).collect())
    };
    let expected = |one: usize| -> BTreeSet<String> {
        [format!("\"{}:80\" 3", scene.ip(one)), format!("\"{}:81\" 1", scene.ip(1))].into()
    };
    eventually("both targets", || {
        let instances = instances()?;
        ensure!(instances == expected(1), "{instances:?}");
        Ok(())
    })?;
    rewrite(&scene, &hosts(0))?;
    eventually("the target to have moved", || {
        let instances = instances()?;
        ensure!(instances == expected(0), "{instances:?}");
        Ok(())
    })?;
    eventually("the first of them to answer", || match scene.answer()?.as_str() {
        "one" => Ok(()),
        other => anyhow::bail!("{other}"),
    })
}
