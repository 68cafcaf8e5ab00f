//! The pods themselves, without a mesh: what the other tests stand on.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use mesh_tests::{
    World, eventually,
    server::{Dnsmasq, Echo, Nginx},
};

/// Set in the process that is killed, by the test that kills it.
const VICTIM: &str = "MESH_TESTS_VICTIM";

#[test]
fn pods_reach_each_other_over_both_families() -> Result<()> {
    let world = World::new("reach")?;
    let (server, client) = (world.backend("server")?, world.client("client")?);
    let nginx = Nginx::start(&server)?;
    assert_eq!(client.curl([&format!("http://{}/", server.ip4) as &str])?, "server\n");
    assert_eq!(client.curl([&format!("http://[{}]/", server.ip6) as &str])?, "server\n");
    let h2 = format!("http://{}:81/", server.ip4);
    assert_eq!(client.curl(["--http2-prior-knowledge", &h2])?, "server\n");
    let own = [client.ip4.to_string(), client.ip6.to_string(), client.ip4.to_string()];
    assert_eq!(nginx.clients()[nginx.clients().len() - 3..], own);

    let echo = server.clone();
    let _echo = Echo::start(&echo)?;
    let script = format!("exec 3<>/dev/tcp/{}/7; echo hello >&3; head -n1 <&3", server.ip4);
    assert_eq!(client.run("bash", ["-c", &script])?, format!("server {} hello\n", client.ip4));
    Ok(())
}

#[test]
fn nginx_stores_and_hands_out_files() -> Result<()> {
    let world = World::new("files")?;
    let (server, client) = (world.backend("server")?, world.client("client")?);
    let nginx = Nginx::start(&server)?;
    nginx.serve("down", b"content")?;
    for (port, flag) in [(80, "--http1.1"), (81, "--http2-prior-knowledge")] {
        let base = format!("http://{}:{port}/files", server.ip4);
        assert_eq!(client.curl([flag, &format!("{base}/down")])?, "content");
        client.shell(&format!("printf %s {flag} | curl -sSf {flag} -T - {base}/up"))?;
        assert_eq!(nginx.stored("up")?, flag.as_bytes());
    }
    Ok(())
}

#[test]
fn people_can_enter_a_pod() -> Result<()> {
    let world = World::new("entrance")?;
    let client = world.client("client")?;
    let script = "hostname -I; cat /etc/resolv.conf /proc/self/cgroup";
    let mut command = Command::new(world.write_entrance()?);
    command.args(["client", "sh", "-c", script]);
    let seen = mesh_tests::text(command)?;
    for part in [client.ip4.to_string(), "nameserver 10.96.0.53".into(), "/captured/client".into()]
    {
        assert!(seen.contains(&part), "no {part} in {seen}");
    }
    Ok(())
}

#[test]
fn a_virtual_address_goes_nowhere_without_a_mesh() -> Result<()> {
    let world = World::new("nowhere")?;
    let client = world.client("client")?;
    let failed = client.curl(["http://10.96.0.11/"]).expect_err("nobody has this address");
    ensure!(format!("{failed:#}").contains("Couldn't connect"), "{failed:#}");
    assert_eq!(client.shell("ip route show default; ip -6 route show default")?, "");
    Ok(())
}

#[test]
fn each_pod_has_its_own_resolver() -> Result<()> {
    let world = World::new("resolver")?;
    let (server, client) = (world.backend("dns")?, world.client("client")?);
    let _dns = Dnsmasq::start(&server, &[("books.test", server.ip4.into())])?;
    client.set_resolver(server.ip4.into())?;
    assert!(client.run("getent", ["ahosts", "books.test"])?.starts_with(&server.ip4.to_string()));
    assert!(server.run("getent", ["ahosts", "books.test"]).is_err());
    Ok(())
}

#[test]
fn nothing_is_left_of_a_world() -> Result<()> {
    let world = World::new("gone")?;
    let server = world.backend("server")?;
    let nginx = Nginx::start(&server)?;
    let (id, cgroup, folder) =
        (world.id().to_owned(), world.cgroup().to_owned(), world.folder().to_owned());
    let pid = nginx.process.pid();
    assert!(!traces(&id, &cgroup, &folder, pid).is_empty());
    drop((world, nginx));
    assert_eq!(traces(&id, &cgroup, &folder, pid), Vec::<String>::new());
    Ok(())
}

#[test]
fn nothing_is_left_of_a_world_whose_process_is_killed() -> Result<()> {
    if env::var_os(VICTIM).is_some() {
        return be_killed();
    }
    let mut child = Command::new(env::current_exe()?)
        .args(["--exact", "nothing_is_left_of_a_world_whose_process_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or_else(|| anyhow!("its output is piped"))?;
    let line = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("victim: ")?.1.to_owned()))
        .ok_or_else(|| anyhow!("the victim ended before it was ready"))?;
    let fields: Vec<&str> = line.split(' ').collect();
    let [id, cgroup, folder, pid] = fields[..] else { return Err(anyhow!("{line}")) };
    let traces = || traces(id, cgroup.as_ref(), folder.as_ref(), pid.parse().unwrap());
    let before = traces();
    child.kill()?;
    child.wait()?;
    assert!(before.len() >= 4, "there was nothing to clean up: {before:?}");
    eventually("the janitor to clean up", || match traces() {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
}

/// Builds a world, says so, and waits for its end.
fn be_killed() -> Result<()> {
    let world = World::beside_the_tests("victim")?;
    let server = world.backend("server")?;
    let nginx = Nginx::start(&server)?;
    let (cgroup, folder) = (world.cgroup().display(), world.folder().display());
    println!("victim: {} {cgroup} {folder} {}", world.id(), nginx.process.pid());
    std::io::stdout().flush()?;
    thread::sleep(Duration::from_secs(60));
    Err(anyhow!("nobody killed this process"))
}

/// What there still is of a world.
fn traces(id: &str, cgroup: &Path, folder: &Path, pid: u32) -> Vec<String> {
    let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut found: Vec<String> = namespaces
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&format!("{id}.")))
        .collect();
    let pins = Path::new("/sys/fs/bpf").join(id);
    let process = format!("/proc/{pid}");
    for path in [cgroup, folder, &pins, Path::new(&process)] {
        if path.exists() {
            found.push(path.display().to_string());
        }
    }
    found
}
