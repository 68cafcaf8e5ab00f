//! WebSocket by tungstenite at both ends.

use anyhow::{Context as _, Result};
use mesh_tests::{Agent, Service, World, example, server::wait_for_port};

#[test]
fn messages_of_all_kinds_and_sizes_come_back() -> Result<()> {
    let peer = example("websocket")?.to_str().context("the path of this program")?.to_owned();
    let world = World::new("websocket")?;
    let (server, client) = (world.backend("one")?, world.client("client")?);
    let _process = server.spawn(&peer, ["server", "8080"])?;
    wait_for_port(&server, 8080)?;
    let ways = [("http", "proxy"), ("auto", "proxy"), ("tcp", "proxy"), ("http", "kernel")];
    let services: Vec<_> = (20..)
        .zip(ways)
        .map(|(number, way)| {
            let name = format!("{}{}", way.0, way.1);
            Service::new(&name, number, way, [&server], 8080)
        })
        .collect();
    let agent = Agent::start(&world, &services.iter().map(Service::to_string).collect::<String>())?;
    agent.wait_for(&client)?;
    for service in &services {
        for authority in service.authorities() {
            for size in ["100", "1048576"] {
                let seen = client
                    .run(&peer, ["client", &authority, size])
                    .with_context(|| format!("{} to {authority}: {}", service.name, agent.log()))?;
                let wanted = format!("101\n7\n6\n{size}\nclosed 1000 done\n");
                assert_eq!(seen, wanted, "{} to {authority}", service.name);
            }
        }
    }
    Ok(())
}
