//! Captured sockets that ask for a service's hostname get its virtual address;
//! all other questions reach the resolver that was asked.

use anyhow::Result;
use mesh_tests::{
    Agent, Pod, Service, World,
    server::{Dnsmasq, Nginx},
};

/// A client, and a resolver with a name of its own.
struct Scene {
    client: Pod,
    dns: Pod,
    service: Service,
    _agent: Agent,
    _server: Nginx,
    _dnsmasq: Dnsmasq,
    _world: World,
}

fn scene(name: &str) -> Result<Scene> {
    let world = World::new(name)?;
    let server = Nginx::start(&world.backend("one")?)?;
    let dns = world.backend("dns")?;
    let dnsmasq = Dnsmasq::start(&dns, &[("other.test", "10.9.8.7".parse()?)])?;
    let client = world.client("client")?;
    client.set_resolver(dns.ip4.into())?;
    let service = Service::new("web", 20, ("http", "auto"), [&server.pod], 80);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;
    Ok(Scene {
        client,
        dns,
        service,
        _agent: agent,
        _server: server,
        _dnsmasq: dnsmasq,
        _world: world,
    })
}

fn dig(scene: &Scene, arguments: &str) -> Result<String> {
    let usual = "+time=2 +tries=1";
    scene.client.shell(&format!("dig {usual} {arguments}"))
}

#[test]
fn a_hostname_leads_to_the_service() -> Result<()> {
    let scene = scene("hostname")?;
    for name in ["web", "web.default.svc.cluster.local", "WEB"] {
        assert_eq!(scene.client.curl([&format!("http://{name}/") as &str])?, "one\n");
    }
    let known = scene.client.run("getent", ["ahosts", "web"])?;
    for address in [scene.service.ip4().to_string(), scene.service.ip6().to_string()] {
        assert!(known.lines().any(|line| line.starts_with(&address)), "{known}");
    }
    Ok(())
}

#[test]
fn dig_sees_virtual_addresses_from_the_resolver_that_it_asked() -> Result<()> {
    let scene = scene("dig")?;
    let (ip4, ip6) = (scene.service.ip4().to_string(), scene.service.ip6().to_string());
    for server in [scene.dns.ip4.to_string(), scene.dns.ip6.to_string(), "192.0.2.1".into()] {
        for protocol in ["+notcp", "+tcp"] {
            let short = |kind| dig(&scene, &format!("+short {protocol} @{server} web {kind}"));
            assert_eq!(short("A")?.trim(), ip4, "{protocol} @{server}");
            assert_eq!(short("AAAA")?.trim(), ip6, "{protocol} @{server}");
        }
    }
    // A name that exists without an answer of this kind is not NXDOMAIN.
    let none = dig(&scene, &format!("@{} web TXT", scene.dns.ip4))?;
    assert!(none.contains("status: NOERROR") && none.contains("ANSWER: 0"), "{none}");
    Ok(())
}

#[test]
fn other_names_are_forwarded() -> Result<()> {
    let scene = scene("forward")?;
    for server in [scene.dns.ip4.to_string(), scene.dns.ip6.to_string()] {
        for protocol in ["+notcp", "+tcp"] {
            let other = dig(&scene, &format!("{protocol} @{server} other.test"))?;
            assert!(other.contains("10.9.8.7"), "{other}");
            // dig warns where an answer comes from another address.
            assert!(!other.contains("unexpected source"), "{other}");
            let unknown = dig(&scene, &format!("{protocol} @{server} unknown.test"))?;
            assert!(unknown.contains("status: NXDOMAIN"), "{unknown}");
        }
    }
    assert!(scene.client.run("getent", ["ahosts", "other.test"])?.starts_with("10.9.8.7"));
    // Of a resolver that can't be reached the client is told at once.
    let unreachable = dig(&scene, "@192.0.2.1 other.test")?;
    assert!(unreachable.contains("status: SERVFAIL"), "{unreachable}");
    Ok(())
}
