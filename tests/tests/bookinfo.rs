//! The demo's application without a mesh: names come from a DNS server.

use anyhow::Result;
use mesh_tests::{
    World,
    server::{Bookinfo, Dnsmasq, Role},
};
use serde_json::Value;

#[test]
fn the_page_is_made_of_all_services() -> Result<()> {
    let world = World::new("bookinfo")?;
    let roles = [
        ("productpage", Role::ProductPage),
        ("details", Role::Details),
        ("reviews", Role::Reviews(3)),
        ("ratings", Role::Ratings),
    ];
    let pods = roles.map(|(name, role)| (world.backend(name), role));
    let dns = world.backend("dns")?;
    let (mut names, mut servers) = (Vec::new(), Vec::new());
    for (pod, role) in &pods {
        let pod = pod.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        pod.set_resolver(dns.ip4.into())?;
        names.push((pod.name.as_str(), pod.ip4.into()));
        servers.push(Bookinfo::start(pod, *role)?);
    }
    let _dns = Dnsmasq::start(&dns, &names)?;
    let client = world.client("client")?;
    client.set_resolver(dns.ip4.into())?;

    let page = client.curl(["http://productpage:9080/productpage"])?;
    assert!(page.contains("Reviews served by: reviews, version v3"), "{page}");
    assert!(page.contains("<span class=\"red\">★★★★★</span>"), "{page}");
    let answer = client.curl(["http://productpage:9080/api/v1/products/0"])?;
    let product: Value = serde_json::from_str(&answer)?;
    assert_eq!(product["details"]["instance"], "details");
    assert_eq!(product["reviews"]["reviews"][0]["rating"]["instance"], "ratings");

    // Without details the page fails, and says what is missing.
    servers[1].process.kill9()?;
    let failed = client.curl(["http://productpage:9080/productpage"]).expect_err("no details");
    assert!(format!("{failed:#}").contains("GET http://details:9080/details/0"), "{failed:#}");
    Ok(())
}
